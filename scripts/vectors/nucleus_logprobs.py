"""Vectors of log-probabilities under nucleus (top-p) sampling, which this package refuses."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import exp, isinf, log, log_softmax, mpf, total

LOG2, LOG3 = 0.6931471805599453, 1.0986122886681098


def nucleus(logits, p, edge):
    """The ids that survive, from the likeliest down: cumulative mass up to p."""
    probabilities = [exp(lp) for lp in log_softmax(logits)]
    order = sorted(range(len(logits)), key=lambda v: -probabilities[v])
    kept, mass = [], mpf(0)
    for v in order:
        reached = mass + probabilities[v]
        if kept and (reached > p if edge == "drop-crossing" else mass >= p):
            break
        kept, mass = [*kept, v], reached
    return set(kept)


def nucleus_logprobs(x, c, shift=1):
    """log p of the next token within its nucleus; −inf outside it."""
    out = []
    for row, tokens in zip(x["logits"], x["tokens"], strict=True):
        out.append([])
        for t in range(len(tokens) - 1):
            warm = [z / x["temperature"] for z in row[t]]
            first = row[t] if c["topp.order"] == "before-temperature" else warm
            kept = nucleus(first, x["top_p"], c["topp.edge"])
            norm = log_softmax(warm)
            mass = total(exp(norm[v]) for v in kept)
            token = tokens[t + shift]
            lost = log(mass) if c["topp.logp"] == "renormalised" else 0
            out[-1].append(norm[token] - lost if token in kept or c["topp.logp"] == "full"
                           else mpf("-inf"))
    return {"logprobs": out}


def without_slope(x, outputs):
    """The logits of tokens that could not be sampled.  log 0 is −inf beside every logit too, so its
    slope is no number; autograd gives 0, the slope of the surviving mass, or NaN."""
    return {"logits": [[[t < len(lps) and isinf(lps[t]) for _ in z] for t, z in enumerate(row)]
                       for row, lps in zip(x["logits"], outputs["logprobs"], strict=True)]}


def mass_multiplied(x, c):
    """log p + log S instead of log p − log S."""
    full = nucleus_logprobs(x, c | {"topp.logp": "full"})["logprobs"]
    right = nucleus_logprobs(x, c)["logprobs"]
    return {"logprobs": [[2 * f - r for f, r in zip(*rows, strict=True)]
                         for rows in zip(full, right, strict=True)]}


MISTAKES = {
    "shift-missing": lambda x, c: nucleus_logprobs(x, c, shift=0),
    "surviving-mass-multiplied": mass_multiplied,
    "surviving-mass-ignored": lambda x, c: nucleus_logprobs(x, c | {"topp.logp": "full"}),
    "temperature-ignored": lambda x, c: nucleus_logprobs(x | {"temperature": mpf(1)}, c),
}

AXES = (
    Axis("topp.edge", "the token whose mass crosses p", {
        "keep-crossing": "is kept: the nucleus has mass p or more",
        "drop-crossing": "is dropped: the nucleus has mass p or less, but at least one token"}),
    Axis("topp.order", "which distribution the nucleus is found in", {
        "after-temperature": "the tempered one", "before-temperature": "the raw one"}),
    Axis("topp.logp", "what the log-probability says", {
        "renormalised": "that of the sampler: within the nucleus probabilities sum to 1",
        "full": "that of the whole vocabulary, too small by the surviving mass"}),
)
BASE = {"topp.edge": "keep-crossing", "topp.order": "after-temperature",
        "topp.logp": "renormalised"}
GROUPS = (
    Group("sampler", "", BASE, ()),
    star(BASE, "drop-crossing", "the token that crosses p is dropped", topp__edge="drop-crossing"),
    star(BASE, "before-temperature", "the nucleus is that of the raw logits",
         topp__order="before-temperature"),
    star(BASE, "full", "probabilities are those of the whole vocabulary",
         ("trl-grpo", "trl-grpo-dapo", "dr-grpo", "rloo-trl"), topp__logp="full"),
)


def batch(logits, tokens, top_p, temperature=1.0):
    return {"logits": logits, "tokens": tokens, "temperature": temperature, "top_p": top_p}


# probabilities .5, .3, .15, .05, and what follows, which is never read
FOUR = [[[-0.6931471805599453, -1.2039728043259361, -1.8971199848858813, -2.995732273553991],
         [0.0, 0.0, 0.0, 0.0]]]
ANY = numbers("nucleus", 2, 4, 6)
CASES = (
    Case("worked", "of .5, .3, .15 and .05 the nucleus of .7 keeps two, and .3 becomes 3/8",
         batch(FOUR, [[0, 1]], 0.7), ("surviving-mass-ignored", "surviving-mass-multiplied"),
         laws={"drop-crossing": "of .5, .3, .15 and .05 a nucleus of at most .7 keeps one"},
         given="the second of four tokens at p of .7"),
    Case("likeliest", "the likeliest token of two becomes 5/8", batch(FOUR, [[3, 0]], 0.7),
         ("surviving-mass-ignored", "surviving-mass-multiplied"),
         given="the likeliest of four tokens at p of .7"),
    Case("outside", "a token outside the nucleus cannot be sampled", batch(FOUR, [[0, 2]], 0.7),
         ("surviving-mass-ignored",),
         given="the third of four tokens at p of .7"),
    Case("small-p", "the likeliest token is always kept", batch(FOUR, [[2, 0]], 0.1),
         ("surviving-mass-ignored",), groups=("sampler", "drop-crossing"),
         given="p of .1"),
    Case("three-kept", "the nucleus of .9 keeps three", batch(FOUR, [[1, 2]], 0.9),
         ("surviving-mass-ignored",),
         given="p of .9"),
    Case("hot", "a high temperature widens the nucleus", batch(FOUR, [[0, 1]], 0.55, 2.0),
         ("surviving-mass-ignored", "temperature-ignored"),
         given="a temperature of two"),
    Case("cold", "a low temperature narrows the nucleus", batch(FOUR, [[0, 0]], 0.55, 0.5),
         ("temperature-ignored",),
         given="a temperature of one half"),
    Case("arbitrary", "each position has a nucleus of its own", batch(
        ANY, [[5, 1, 0, 2], [3, 4, 1, 0]], 0.8, 0.9), ("shift-missing",), gradients=False,
        given="six positions"),
)

FAMILY = Family(
    function="nucleus_logprobs",
    says="Log-probabilities of tokens that were sampled with top-p, as their sampler had them.",
    equation=("kept = the likeliest tokens, until their mass reaches p", "S = Σ_kept softmax",
              "logprobs = log softmax(logits/τ)[token] − log S, −inf if the token is not kept"),
    sources=({"paper": "Holtzman et al. 2020, arXiv 1904.09751", "where": "section 3.1"},),
    arguments=(
        Argument("logits", "(B, T, V)", "at each position, of the token after it",
                 differentiated=True),
        Argument("tokens", "(B, T)", "ids", "int"),
        Argument("temperature", "()", "that of sampling"),
        Argument("top_p", "()", "the mass of the nucleus")),
    results=(Argument("logprobs", "(B, T-1)", "of tokens 1 … T−1"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=nucleus_logprobs, mistakes=MISTAKES,
    without_slope=without_slope)

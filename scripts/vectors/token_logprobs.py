"""Vectors of the log-probabilities of tokens: which logits, which token, which temperature."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import exp, log, log_softmax, mpf


def divided(logits, temperature, how):
    divisor = {"tempered": temperature, "tempered-eps": temperature + mpf("1e-7"), "raw": 1}[how]
    return [z / divisor for z in logits]


def token_logprobs(x, c, pick=lambda logits, token: log_softmax(logits)[token], ahead=1):
    """log p of the token `ahead` of its logits."""
    return {"logprobs": [[pick(divided(row[t], x["temperature"], c["temp.logp"]),
                               tokens[t + ahead]) for t in range(len(tokens) - 1)]
                         for row, tokens in zip(x["logits"], x["tokens"], strict=True)]}


def logits_one_late(x, c):
    """The logits after the token itself: logits[:, 1:] with tokens[:, 1:]."""
    late = [[*row[1:], row[0]] for row in x["logits"]]
    return token_logprobs(x | {"logits": late}, c)


def picked(pick):
    return lambda x, c: token_logprobs(x, c, pick)


MISTAKES = {
    "shift-missing": lambda x, c: token_logprobs(x, c, ahead=0),
    "logits-one-late": logits_one_late,
    "temperature-ignored": lambda x, c: token_logprobs(x, c | {"temp.logp": "raw"}),
    "temperature-multiplied": lambda x, c: token_logprobs(
        x | {"temperature": 1 / x["temperature"]}, c),
    "softmax-missing": picked(lambda logits, token: logits[token]),
    "probabilities-for-log-probabilities": picked(
        lambda logits, token: exp(log_softmax(logits)[token])),
    "log-base-two": picked(lambda logits, token: log_softmax(logits)[token] / log(mpf(2))),
    "tempered-after-softmax": lambda x, c: {"logprobs": [
        [lp / x["temperature"] for lp in row]
        for row in token_logprobs(x, c | {"temp.logp": "raw"})["logprobs"]]},
}

AXES = (
    Axis("temp.logp", "the distribution that log-probabilities are taken from", {
        "tempered": "the one that is sampled from: logits/temperature",
        "tempered-eps": "logits/(temperature + 1e-7)",
        "raw": "logits, whatever the temperature"}),
)
BASE = {"temp.logp": "tempered"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "openrlhf", "verl-2026-01", "verl-2026-08",
                             "lm-human-preferences", "lm-human-preference-details", "trl-grpo",
                             "trl-grpo-dapo", "dr-grpo", "rloo-trl", "rloo-openrlhf",
                             "torchtune"), core=True),
    star(BASE, "tempered-eps", "1e-7 is added to the temperature",
         ("trl-ppo", "summarize-from-feedback-details"), temp__logp="tempered-eps"),
    star(BASE, "raw", "the temperature is not used", ("trlx", "deepspeed-chat"), temp__logp="raw"),
)


def batch(logits, tokens, temperature=1.0):
    return {"logits": logits, "tokens": tokens, "temperature": temperature}


CORE = ("core",)
ANY, IDS = numbers("logp any", 2, 4, 5), [[3, 0, 4, 1], [2, 2, 0, 3]]
FINE = (1e-10, 1e-12, "the conventions differ in the eighth digit, float64 has sixteen")
CASES = (
    Case("worked", "a token's log-probability comes from the logits one position earlier", batch(
        [[[0.0, 0.6931471805599453], [2.0, -1.0], [5.0, 5.0]]], [[0, 1, 0]]),
        ("shift-missing", "softmax-missing", "logits-one-late",
         "probabilities-for-log-probabilities", "log-base-two"), groups=CORE),
    Case("arbitrary", "the first token has no log-probability, the last logits are not used",
         batch(ANY, IDS), ("shift-missing", "logits-one-late", "softmax-missing"),
         groups=("core",)),
    Case("half-temperature", "a temperature of one half sharpens", batch(ANY, IDS, 0.5),
         ("temperature-ignored", "temperature-multiplied", "tempered-after-softmax"),
         tolerance=FINE,
         given="a temperature of one half"),
    Case("temperature-0.7", "a temperature of 0.7 sharpens a little",
         batch(ANY, IDS, 0.7), ("temperature-ignored", "temperature-multiplied"),
         tolerance=FINE,
         given="a temperature of 0.7"),
    Case("high-temperature", "a temperature of 1.5 flattens", batch(ANY, IDS, 1.5),
         ("temperature-ignored", "temperature-multiplied", "tempered-after-softmax"),
         tolerance=FINE,
         given="a temperature of 1.5"),
    Case("uniform", "equal logits give every token one over v", batch(
        [[[7.0] * 8, [-7.0] * 8]], [[5, 2]]), ("softmax-missing", "log-base-two"), groups=CORE),
    Case("large-logits", "logits in the thousands do not overflow", batch(
        [[[1000.0, 998.0, -1000.0], [0.0, 0.0, 0.0]]], [[0, 1]]),
        ("softmax-missing",), groups=CORE),
    Case("improbable", "a token all but impossible has a finite log-probability", batch(
        [[[0.0, -800.0], [0.0, 0.0]]], [[0, 1]]),
        ("probabilities-for-log-probabilities", "shift-missing"), groups=CORE),
    Case("impossible-neighbour", "an impossible token leaves the others a distribution", batch(
        [[[0.5, float("-inf"), -0.5], [0.0, 0.0, 0.0]]], [[1, 2]]),
        ("softmax-missing",), groups=CORE),
    Case("repeated-token", "a token that repeats is read at each of its places", batch(
        numbers("logp repeated", 1, 5, 3), [[1, 1, 1, 1, 1]]), ("logits-one-late",), groups=CORE),
    Case("shifted-logits", "a constant added to a row of logits changes nothing", batch(
        [[[101.0, 99.5, 100.25], [-99.0, -100.5, -99.75], [0.0, 0.0, 0.0]]], [[0, 1, 2]]),
        ("softmax-missing",), groups=CORE),
    Case("cold", "at a temperature of 0.1 the likeliest token is nearly certain",
         batch([[[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]], [[2, 0]], 0.1),
         ("temperature-ignored", "tempered-after-softmax"), tolerance=FINE,
         given="a temperature of 0.1"),
)

FAMILY = Family(
    function="token_logprobs",
    says="The log-probability of each token of a sequence but the first.",
    equation=("logprobs[:, t−1] = log softmax(logits[:, t−1]/τ)[tokens[:, t]], t = 1 … T−1",),
    sources=({"paper": "Radford et al. 2019 (GPT-2)", "where": "section 2, eq. 1"},),
    arguments=(
        Argument("logits", "(B, T, V)", "at each position, of the token after it",
                 differentiated=True),
        Argument("tokens", "(B, T)", "ids", "int"),
        Argument("temperature", "()", "τ, that of sampling")),
    results=(Argument("logprobs", "(B, T-1)", "of tokens 1 … T−1"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=token_logprobs, mistakes=MISTAKES)

"""Vectors of the reward model's loss on pairs."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import exp, larger, log, log1p, mpf, total


def softplus(x):
    """log(1 + eˣ), to 50 digits also where eˣ is tiny."""
    return x + log1p(exp(-x)) if x > 0 else log1p(exp(x))


def sigmoid(x):
    return 1 / (1 + exp(-x))


def margins(x):
    return x["margin"] or [mpf(0)] * len(x["score_chosen"])


def bradley_terry_loss(x, c, pair=lambda chosen, rejected, margin: softplus(
        -(chosen - rejected - margin))):
    margin = margins(x) if c["rm.margin"] == "used" else [mpf(0)] * len(x["score_chosen"])
    pairs = list(zip(x["score_chosen"], x["score_rejected"], margin, strict=True))
    n = len(pairs) if x["count"] is None else x["count"]
    loss = total(pair(*p) for p in pairs) / n
    if c["rm.center"]:
        loss += mpf(c["rm.center"]) * total((a + b) ** 2 for a, b, _ in pairs) / n
    return {"loss": loss}


def with_pair(pair):
    return lambda x, c: bradley_terry_loss(x, c, pair)


MISTAKES = {
    "preference-swapped": with_pair(lambda a, b, m: softplus(a - b - m)),
    "margin-sign": with_pair(lambda a, b, m: softplus(-(a - b + m))),
    "margin-ignored": lambda x, c: bradley_terry_loss(x, c | {"rm.margin": "ignored"}),
    "sum-instead-of-mean": lambda x, c: bradley_terry_loss(x | {"count": 1}, c),
    "log-of-an-underflow": lambda x, c: {"loss": mpf("inf")},
    "probability-for-its-logarithm": with_pair(lambda a, b, m: -sigmoid(a - b - m)),
    "log-base-two": lambda x, c: {"loss": bradley_terry_loss(x, c)["loss"] / log(mpf(2))},
    "hinge-for-softplus": with_pair(lambda a, b, m: larger(mpf(0), 1 - (a - b - m))),
    "scores-squashed": with_pair(lambda a, b, m: softplus(-(sigmoid(a) - sigmoid(b) - m))),
    "count-ignored": lambda x, c: bradley_terry_loss(x | {"count": None}, c),
    "rejected-detached": (bradley_terry_loss, lambda x, c: bradley_terry_loss(
        x | {"score_rejected": x["held"]["score_rejected"]}, c)),
}

AXES = (
    Axis("rm.margin", "what a margin does, where one is given", {
        "used": "the gap is asked to be larger than it", "ignored": "nothing"}),
    Axis("rm.center", "a penalty on the mean square of c + r, which holds scores near 0", {
        0.0: "none", 0.01: "0.01 times it"}),
)
BASE = {"rm.margin": "used", "rm.center": 0.0}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "trl-reward", "openrlhf"), core=True),
    star(BASE, "no-margin", "margins are not used", ("summarize-from-feedback-details",),
         rm__margin="ignored"),
    star(BASE, "centered", "scores are held near zero", rm__center=0.01),
)


def batch(chosen, rejected, **more):
    return {"score_chosen": chosen, "score_rejected": rejected} | more


CORE = ("core",)
CASES = (
    Case("equal", "two equal scores cost log 2, and pull with half of the weight", batch(
        [0.5], [0.5]), ("log-base-two", "probability-for-its-logarithm", "hinge-for-softplus",
                        "preference-swapped"),
         given="two equal scores"),
    Case("worked", "a gap of log 3 is a probability of 3/4", batch(
        [1.5986122886681098], [0.5]),
        ("preference-swapped", "hinge-for-softplus", "scores-squashed", "log-base-two",
         "rejected-detached"),
         given="a gap of log 3"),
    Case("three-pairs", "a mean over pairs, each with its own gap", batch(
        [1.0, -0.5, 2.0], [0.2, 0.7, 2.5]),
        ("preference-swapped", "sum-instead-of-mean", "scores-squashed", "rejected-detached"),
        given="three pairs"),
    Case("sure-and-right", "a gap of 200 costs next to nothing", batch([100.0], [-100.0]),
         ("preference-swapped", "probability-for-its-logarithm"), groups=CORE),
    Case("sure-and-wrong", "a gap of -200 costs 200, and pulls with full weight", batch(
        [-100.0], [100.0]), ("preference-swapped", "hinge-for-softplus"),
        given="a gap of -200"),
    Case("wrong-beyond-floats", "a gap of -2000, whose probability underflows, costs 2000", batch(
        [-1000.0], [1000.0]), ("log-of-an-underflow", "probability-for-its-logarithm"),
        groups=CORE),
    Case("margin", "a margin of one turns a gap of one into a tie", batch(
        [1.0], [0.0], margin=[1.0]), ("margin-sign", "margin-ignored"),
        given="a margin of one"),
    Case("margins", "each pair has its own margin", batch(
        [1.0, 0.5, -0.5], [0.0, 0.25, 0.5], margin=[0.5, 0.0, 2.0]),
        ("margin-sign", "margin-ignored", "sum-instead-of-mean"),
        given="a margin for each pair"),
    Case("shifted", "a constant added to both scores changes nothing", batch(
        [51.0, 49.5, 52.0], [50.2, 50.7, 52.5]), ("scores-squashed", "preference-swapped"),
        given="scores around fifty"),
    Case("count", "divided by the pairs of the whole step, not by those at hand", batch(
        [1.0, -0.5], [0.2, 0.7], count=8), ("count-ignored", "sum-instead-of-mean"),
        groups=CORE),
    Case("arbitrary", "eight pairs weigh the same", batch(
        numbers("bt chosen", 8, low=-4, high=4), numbers("bt rejected", 8, low=-4, high=4)),
        ("preference-swapped", "hinge-for-softplus", "scores-squashed"), groups=CORE),
)

FAMILY = Family(
    function="bradley_terry_loss",
    says="The mean negative log-probability of people's choices under Bradley and Terry's model.",
    equation=("L = −(1/n) Σ log σ(c − r − margin)",),
    sources=({"paper": "Ouyang et al. 2022, arXiv 2203.02155", "where": "eq. 1"},
             {"paper": "Touvron et al. 2023 (Llama 2), arXiv 2307.09288", "where": "the margin"}),
    arguments=(
        Argument("score_chosen", "(N)", "of the preferred reply of each pair",
                 differentiated=True),
        Argument("score_rejected", "(N)", "of the other", differentiated=True),
        Argument("margin", "(N)", "how much better it should be, by default 0", optional=True,
                 default=0.0),
        Argument("count", "()", "n, the pairs of the whole optimizer step; by default those "
                 "given", "int", optional=True, default="N")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=bradley_terry_loss, mistakes=MISTAKES)

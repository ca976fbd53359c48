"""Vectors of direct preference optimization, given summed log-probabilities."""

from vectors.bradley_terry_loss import sigmoid, softplus
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import mpf, total

SMOOTH = mpf("0.1")


def gap(chosen, rejected, ref_chosen, ref_rejected):
    """How much more than the reference the policy prefers the chosen reply."""
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def pair_loss(h, how):
    """One pair's loss at the scaled gap h."""
    if how == "none":
        return softplus(-h)
    smooth = (1 - SMOOTH) * softplus(-h)
    if how == "cdpo":
        return smooth + SMOOTH * softplus(h)
    return (smooth - SMOOTH * softplus(h)) / (1 - 2 * SMOOTH)


def dpo_loss(x, c, measure=gap, loss=pair_loss):
    pairs = list(zip(x["chosen"], x["rejected"], x["ref_chosen"], x["ref_rejected"], strict=True))
    n = len(pairs) if x["count"] is None else x["count"]
    return {"loss": total(loss(x["beta"] * measure(*p), c["dpo.smoothing"]) for p in pairs) / n}


MISTAKES = {
    "preference-swapped": lambda x, c: dpo_loss(x, c, lambda *p: -gap(*p)),
    "reference-missing": lambda x, c: dpo_loss(x, c, lambda a, b, ra, rb: a - b),
    "reference-swapped": lambda x, c: dpo_loss(x, c, lambda a, b, ra, rb: (a - rb) - (b - ra)),
    "reference-sign": lambda x, c: dpo_loss(x, c, lambda a, b, ra, rb: (a + ra) - (b + rb)),
    "beta-missing": lambda x, c: dpo_loss(x | {"beta": mpf(1)}, c),
    "beta-outside": lambda x, c: {"loss": x["beta"] * dpo_loss(x | {"beta": mpf(1)}, c)["loss"]},
    "probability-for-its-logarithm": lambda x, c: dpo_loss(
        x, c, loss=lambda h, how: -sigmoid(h)),
    "log-of-an-underflow": lambda x, c: {"loss": mpf("inf")},
    "sum-instead-of-mean": lambda x, c: dpo_loss(x | {"count": 1}, c),
    "count-ignored": lambda x, c: dpo_loss(x | {"count": None}, c),
    "rejected-detached": (dpo_loss, lambda x, c: dpo_loss(
        x | {"rejected": x["held"]["rejected"]}, c)),
}
AXES = (Axis("dpo.smoothing", "what is done about labels that may be wrong one time in ten", {
    "none": "nothing",
    "cdpo": "0.9 times the loss of the label + 0.1 times that of its opposite",
    "robust": "(0.9 times that of the label − 0.1 times that of its opposite)/0.8"}),)
BASE = {"dpo.smoothing": "none"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "trl-dpo", "openrlhf", "deepspeed-chat",
                             "summarize-from-feedback-details"), core=True),
    star(BASE, "cdpo", "one label in ten counts as its opposite", dpo__smoothing="cdpo"),
    star(BASE, "robust", "one label in ten is taken to be wrong", dpo__smoothing="robust"),
)


def batch(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, **more):
    return {"chosen": chosen, "rejected": rejected, "ref_chosen": ref_chosen,
            "ref_rejected": ref_rejected, "beta": beta} | more


CORE = ("core",)
SIDES = [numbers(f"dpo {side}", 4, low=-30, high=-5)
         for side in ("chosen", "rejected", "ref chosen", "ref rejected")]
CASES = (
    Case("at-the-reference", "a policy that is the reference costs log 2", batch(
        [-10.0, -3.0], [-8.0, -20.0], [-10.0, -3.0], [-8.0, -20.0]),
        ("reference-missing", "reference-swapped", "beta-outside",
         "probability-for-its-logarithm", "rejected-detached"), groups=CORE),
    Case("worked", "a preference of ten nats at 0.1 is a gap of one", batch(
        [-12.0], [-20.0], [-15.0], [-13.0]),
        ("preference-swapped", "reference-missing", "reference-swapped", "reference-sign",
         "beta-missing", "beta-outside", "rejected-detached"),
         given="a preference of ten nats"),
    Case("arbitrary", "the loss is a mean over pairs", batch(*SIDES),
         ("preference-swapped", "reference-missing", "reference-sign", "reference-swapped",
          "sum-instead-of-mean"),
         given="four pairs"),
    Case("beta-half", "a larger beta asks for less distance", batch(*SIDES, beta=0.5),
         ("beta-missing", "preference-swapped"),
         given="a beta of one half"),
    Case("both-fell", "only the difference of the two replies counts, not their level", batch(
        [-52.0], [-60.0], [-15.0], [-13.0]), ("reference-missing", "beta-missing"), groups=CORE),
    Case("far-wrong", "a preference of -20000 nats costs 2000 and does not overflow", batch(
        [-20000.0], [-1.0], [-1.0], [-2.0]), ("log-of-an-underflow",), groups=CORE),
    Case("far-right", "a preference of 2000 nats costs next to nothing", batch(
        [-1.0], [-2001.0], [-1.0], [-1.0]), ("preference-swapped",),
        given="a preference of 2000 nats"),
    Case("count", "divided by the pairs of the whole step, not by those at hand", batch(
        *SIDES, count=16), ("count-ignored", "sum-instead-of-mean"), groups=CORE),
)
FAMILY = Family(
    function="dpo_loss",
    says="The negative log-probability of the choices under the policy's own implicit reward.",
    equation=("h = (chosen − ref_chosen) − (rejected − ref_rejected)",
              "L = −(1/n) Σ log σ(β·h)"),
    sources=({"paper": "Rafailov et al. 2023, arXiv 2305.18290", "where": "eq. 7"},),
    arguments=(
        Argument("chosen", "(N)", "log-probability of the preferred reply, summed over tokens",
                 differentiated=True),
        Argument("rejected", "(N)", "of the other", differentiated=True),
        Argument("ref_chosen", "(N)", "the same under the reference"),
        Argument("ref_rejected", "(N)", "the same under the reference"),
        Argument("beta", "()", "the price of a nat"),
        Argument("count", "()", "n, the pairs of the whole optimizer step; by default those "
                 "given", "int", optional=True, default="N")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=dpo_loss, mistakes=MISTAKES)

"""Vectors of RLOO's advantages."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.group_advantages import groups_of
from vectors.witness import mean, mpf, sqrt, total, variance


def others_mean(group, i):
    return mean(s for j, s in enumerate(group) if j != i)


def leave_one_out_advantages(x, c, baseline=others_mean):
    out = []
    for group in groups_of(x):
        if len(group) == 1:
            out.append({"score": group[0], "zero": mpf(0)}.get(c["rloo.singleton"], mpf("nan")))
        else:
            out += [s - baseline(group, i) for i, s in enumerate(group)]
    if c["rloo.std"] == "batch-sample":
        deviation = sqrt(variance(out, 1)) + mpf("1e-4")
        out = [(a - mean(out)) / deviation for a in out]
    return {"advantages": out}


def by_the_others_deviation(x, c):
    """Divided by the deviation of the others, which may all be equal."""
    def one(group, i):
        others = [s for j, s in enumerate(group) if j != i]
        return (group[i] - mean(others)) / (sqrt(variance(others, 1)) + mpf("1e-6"))
    return {"advantages": [one(g, i) for g in groups_of(x) for i in range(len(g))]}


def rows_strided(x, c):
    size = x["group_size"]
    count = len(x["scores"]) // size
    made = [[x["scores"][g + count * i] for i in range(size)] for g in range(count)]
    out = [mpf(0)] * len(x["scores"])
    for g, group in enumerate(made):
        for i, s in enumerate(group):
            out[g + count * i] = s - others_mean(group, i)
    return {"advantages": out}


MISTAKES = {
    "own-score-in-the-baseline": lambda x, c: leave_one_out_advantages(
        x, c, lambda group, i: mean(group)),
    "others-summed": lambda x, c: leave_one_out_advantages(
        x, c, lambda group, i: total(group) - group[i]),
    "divided-by-the-group-size": lambda x, c: leave_one_out_advantages(
        x, c, lambda group, i: (total(group) - group[i]) / len(group)),
    "groups-strided": rows_strided,
    "grouped-over-the-batch": lambda x, c: leave_one_out_advantages(
        x | {"group_size": len(x["scores"])}, c),
    "divided-by-the-others-deviation": by_the_others_deviation,
}
AXES = (
    Axis("rloo.std", "whether advantages are normalised over the batch", {
        "none": "they are not", "batch-sample": "(A − mean)/(sample deviation + 1e-4)"}),
    Axis("rloo.singleton", "the advantage of a reply that is alone in its group", {
        "refused": "an error, so that no test can give it", "zero": "zero", "score": "its score",
        "nan": "not a number"}),
)
BASE = {"rloo.std": "none", "rloo.singleton": "refused"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf",), core=True),
    star(BASE, "normalised", "advantages are normalised over the batch", rloo__std="batch-sample"),
    star(BASE, "zero-alone", "a reply alone has no advantage", ("rloo-trl",),
         rloo__singleton="zero"),
    star(BASE, "score-alone", "a reply alone keeps its score", ("verl-2026-01", "verl-2026-08"),
         rloo__singleton="score"),
    star(BASE, "nan-alone", "a reply alone has no number", ("rloo-openrlhf",),
         rloo__singleton="nan"),
)


def batch(scores, group_size):
    return {"scores": scores, "group_size": group_size}


CORE = ("core",)
CASES = (
    Case("worked", "one of four replies scored one: it is above the others by one", batch(
        [0.0, 0.0, 0.0, 1.0], 4),
        ("own-score-in-the-baseline", "divided-by-the-others-deviation",
         "divided-by-the-group-size"),
         given="one of four scored one"),
    Case("two-groups", "every group has its own baselines", batch(
        [1.0, 2.0, 6.0, 10.0, 30.0, 50.0], 3),
        ("others-summed", "groups-strided", "grouped-over-the-batch",
         "own-score-in-the-baseline"),
         given="two groups of three"),
    Case("pairs", "of two replies each is the other's baseline", batch([3.0, 1.0, -2.0, 2.5], 2),
         ("own-score-in-the-baseline", "groups-strided", "divided-by-the-group-size"),
         given="two pairs"),
    Case("equal", "equal scores teach nothing", batch([0.7] * 4, 4),
         ("others-summed", "divided-by-the-group-size"),
         given="equal scores"),
    Case("others-equal", "a reply beside equal ones keeps its distance, not a million of it",
         batch([0.5, 0.5, 0.6], 3), ("divided-by-the-others-deviation",), groups=CORE),
    Case("shifted", "a constant added to a group's scores changes nothing", batch(
        [11.0, 12.0, 16.0, -30.0, -10.0, 10.0], 3), ("others-summed", "grouped-over-the-batch"),
        groups=CORE),
    Case("arbitrary", "every group of four sums to zero", batch(numbers("loo", 8), 4),
         ("own-score-in-the-baseline", "groups-strided", "others-summed"),
         given="two groups of four"),
    Case("alone", "three groups of one reply", batch([0.75, -2.0, 0.5], 1),
         groups=("zero-alone", "score-alone", "nan-alone"),
         given="three groups of one"),
)
FAMILY = Family(
    function="leave_one_out_advantages",
    says="The score of a reply above the mean of the others of its group.",
    equation=("A_i = s_i − (1/(G−1)) Σ_{j≠i} s_j",),
    sources=({"paper": "Ahmadian et al. 2024, arXiv 2402.14740", "where": "RLOO"},),
    arguments=(Argument("scores", "(N)", "whole groups, one after another"),
               Argument("group_size", "()", "replies to one prompt", "int")),
    results=(Argument("advantages", "(N)", "one for all tokens of a reply"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=leave_one_out_advantages, mistakes=MISTAKES)

"""Vectors of GRPO's advantages."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import larger, mean, mpf, sqrt, variance

NAN = float("nan")


def groups_of(x):
    size, scores = x["group_size"], x["scores"]
    return [scores[i:i + size] for i in range(0, len(scores), size)]


def divisor(group, scores, c):
    """std + ε of a group."""
    how, eps = c["grpo.std"], c["grpo.eps"]
    if how == "none":
        return mpf(1)
    var = variance(scores if how == "batch-sample" else group, 0 if how == "group-population"
                   else 1)
    if eps == "floor":
        return sqrt(larger(var, mpf("1e-6"))) + mpf("1e-6")
    return sqrt(var) + mpf(repr(eps))


def alone(score, c):
    """A group of one: systems differ on whether it teaches."""
    if c["grpo.singleton"] == "score":
        return score / (1 if c["grpo.std"] == "none" else 1 + mpf(repr(c["grpo.eps"])))
    return mpf(0) if c["grpo.singleton"] == "zero" else mpf("nan")


def group_advantages(x, c, center=mean):
    out = []
    for group in groups_of(x):
        if len(group) == 1:
            out.append(alone(group[0], c))
        else:
            out += [(s - center(group)) / divisor(group, x["scores"], c) for s in group]
    return {"advantages": out}


def over_the_batch(x, c):
    return group_advantages(x | {"group_size": len(x["scores"])}, c)


def strided(x, c):
    """Scores read reply by reply of all prompts, not prompt by prompt."""
    size = x["group_size"]
    count = len(x["scores"]) // size
    order = [g + count * i for g in range(count) for i in range(size)]
    made = group_advantages(x | {"scores": [x["scores"][i] for i in order]}, c)["advantages"]
    out = [mpf(0)] * len(order)
    for place, value in zip(order, made, strict=True):
        out[place] = value
    return {"advantages": out}


def whitened_again(x, c):
    made = group_advantages(x, c)["advantages"]
    middle, deviation = mean(made), sqrt(variance(made)) + mpf("1e-8")
    return {"advantages": [(a - middle) / deviation for a in made]}


MISTAKES = {
    "grouped-over-the-batch": over_the_batch,
    "groups-strided": strided,
    "whitened-again": whitened_again,
    "mean-not-subtracted": lambda x, c: group_advantages(x, c, center=lambda group: mpf(0)),
    "divided-by-the-variance": lambda x, c: {"advantages": [
        (s - mean(g)) / (variance(g, 1) + mpf("1e-4")) for g in groups_of(x) for s in g]},
    "best-for-mean": lambda x, c: group_advantages(x, c, center=max),
    "no-epsilon": lambda x, c: {"advantages": [
        (s - mean(g)) / sqrt(variance(g, 1)) if variance(g, 1) else mpf("nan")
        for g in groups_of(x) for s in g]},
}

AXES = (
    Axis("grpo.std", "what the difference to the group's mean is divided by", {
        "group-sample": "the group's sample deviation (n − 1)",
        "group-population": "the group's population deviation (n)",
        "batch-sample": "the sample deviation of all scores of the batch",
        "none": "nothing (Dr. GRPO)"}),
    Axis("grpo.eps", "how a deviation of 0 is survived", {
        1e-4: "deviation + 1e-4", 1e-6: "deviation + 1e-6", 1e-9: "deviation + 1e-9",
        "floor": "the root of max(variance, 1e-6), + 1e-6"}),
    Axis("grpo.singleton", "the advantage of a reply that is alone in its group", {
        "refused": "an error, so that no test can give it", "zero": "zero",
        "score": "its score, as if the mean were 0 and the deviation 1", "nan": "not a number"}),
)
BASE = {"grpo.std": "group-sample", "grpo.eps": 1e-4, "grpo.singleton": "refused"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf",), core=True),
    Group("centered", "differences are not divided", BASE | {"grpo.std": "none"}, (),
          core=True),
    star(BASE, "dr-grpo", "differences are not divided, and a reply alone has none", ("dr-grpo",),
         listed=True, grpo__std="none", grpo__singleton="zero"),
    star(BASE, "population", "the deviation is divided by n", grpo__std="group-population"),
    star(BASE, "batch", "the deviation is that of the batch", grpo__std="batch-sample"),
    star(BASE, "eps-6", "epsilon is 1e-6", grpo__eps=1e-6),
    star(BASE, "eps-9", "epsilon is 1e-9", grpo__eps=1e-9),
    star(BASE, "floor", "the variance has a floor of 1e-6", grpo__eps="floor"),
    star(BASE, "trl-grpo", "a reply alone has no advantage", ("trl-grpo", "trl-grpo-dapo"),
         grpo__singleton="zero"),
    star(BASE, "score-alone", "a reply alone keeps its score", grpo__singleton="score"),
    star(BASE, "nan-alone", "a reply alone has no number", grpo__singleton="nan"),
    star(BASE, "verl", "epsilon is 1e-6, and a reply alone keeps its score", ("verl-2026-01",
         "verl-2026-08"),
         grpo__eps=1e-6, grpo__singleton="score"),
    star(BASE, "openrlhf", "epsilon is 1e-9, and a reply alone has no number",
         ("openrlhf",),
         grpo__eps=1e-9, grpo__singleton="nan"),
)
SPREAD = (1e-7, 1e-9, "the scores differ in their fourth digit, their differences keep twelve")
SINGLES = ("trl-grpo", "dr-grpo", "score-alone", "nan-alone", "verl", "openrlhf")


def batch(scores, group_size):
    return {"scores": scores, "group_size": group_size}


CASES = (
    Case("worked", "one of four that scored one is 1.5 deviations up, the others half of one down",
         batch(
        [0.0, 0.0, 0.0, 1.0], 4), ("mean-not-subtracted", "no-epsilon", "best-for-mean",
                                   "divided-by-the-variance", "whitened-again"),
         given="one of four scored one"),
    Case("two-groups", "every group has its own mean and deviation", batch(
        [1.0, 2.0, 6.0, 10.0, 30.0, 50.0], 3),
        ("grouped-over-the-batch", "groups-strided", "whitened-again", "mean-not-subtracted"),
        also=("dr-grpo",), given="two groups of three"),
    Case("tiny-spread", "a spread of 1e-4 is no larger than epsilon, and halved by it", batch(
        [0.0, 0.0, 0.0, 0.0001], 4), ("no-epsilon", "divided-by-the-variance"),
        laws={"eps-9": "an epsilon of 1e-9 lets a spread of 1e-4 count in full",
              "floor": "a floor under the variance keeps a spread of 1e-4 small"},
         given="a spread of 1e-4"),
    Case("equal", "a group of equal scores teaches nothing", batch([0.7] * 4, 4),
         ("no-epsilon", "mean-not-subtracted"), groups=("core", "centered", "eps-9", "floor"),
         given="equal scores"),
    Case("equal-beside-others", "equal scores beside a group that differs teach nothing", batch(
        [1.0, 1.0, 1.0, 0.0, 1.0, 5.0], 3), ("no-epsilon", "grouped-over-the-batch",
                                             "groups-strided"),
         given="equal scores beside others"),
    Case("pairs", "in a group of two one is above and the other below", batch(
        [3.0, 1.0, -2.0, 2.5], 2), ("grouped-over-the-batch", "groups-strided",
                                    "mean-not-subtracted"),
         given="two pairs"),
    Case("one-differs-late", "scores of 100 that differ by 1e-4 are told apart", batch(
        [100.0, 100.0, 100.0001, 100.0], 4), ("no-epsilon",), groups=("core", "eps-6", "eps-9"),
        tolerance=SPREAD,
        given="scores of 100 that differ by 1e-4"),
    Case("negative", "what all replies scored below zero is taken away", batch(
        [-5.0, -3.0, -4.5, -3.5], 4), ("mean-not-subtracted", "best-for-mean"),
        groups=("core", "centered"),
        given="scores below zero"),
    Case("shifted", "a constant added to a group's scores changes nothing", batch(
        [11.0, 12.0, 16.0, -30.0, -10.0, 10.0], 3),
        ("grouped-over-the-batch", "mean-not-subtracted"), groups=("core", "centered"),
        given="groups far from zero"),
    Case("arbitrary", "two groups of eight have mean zero each", batch(numbers("group", 16), 8),
         ("grouped-over-the-batch", "groups-strided", "whitened-again"),
         given="two groups of eight"),
    Case("alone", "three groups of one reply", batch([0.75, -2.0, 0.0], 1), groups=SINGLES,
         given="three groups of one"),
)

FAMILY = Family(
    function="group_advantages",
    says="How many deviations a reply lies above the mean of its group.",
    equation=("A_i = (s_i − mean(s))/(std(s) + ε)",),
    sources=({"paper": "Shao et al. 2024, arXiv 2402.03300", "where": "section 4.1.2"},
             {"paper": "Liu et al. 2025 (Dr. GRPO), arXiv 2503.20783", "where":
              "without the deviation"}),
    arguments=(
        Argument("scores", "(N)", "whole groups, one after another"),
        Argument("group_size", "()", "replies to one prompt", "int"),
        Argument("deviation", "()", "what is divided by", "str", axis="grpo.std")),
    results=(Argument("advantages", "(N)", "one for all tokens of a reply"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=group_advantages, mistakes=MISTAKES)

"""Vectors of the reward model's loss where people chose the best of several replies."""

from vectors.bradley_terry_loss import softplus
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import log_softmax, mean


def best_of_loss(x, c, sign=1):
    rows = []
    for scores, best in zip(x["scores"], x["best"], strict=True):
        scores = [sign * s for s in scores]
        if c["rm.choice"] == "n-way":
            rows.append(-log_softmax(scores)[best])
        else:
            rows += [softplus(s - scores[best]) for k, s in enumerate(scores) if k != best]
    return {"loss": mean(rows)}


MISTAKES = {
    "preference-swapped": lambda x, c: best_of_loss(x, c, sign=-1),
    "sum-instead-of-mean": lambda x, c: {"loss": best_of_loss(x, c)["loss"] * len(x["scores"])},
    "first-is-best": lambda x, c: best_of_loss(x | {"best": [0] * len(x["best"])}, c),
}
AXES = (Axis("rm.choice", "how a choice among k replies is scored", {
    "pairwise": "as k − 1 pairs, the best against each other one",
    "n-way": "as one softmax over the k scores"}),)
BASE = {"rm.choice": "pairwise"}
GROUPS = (
    Group("pairwise", "", BASE, ("minirlhf",), core=True),
    star(BASE, "n-way", "the choice is one softmax",
         ("lm-human-preferences", "lm-human-preference-details"), rm__choice="n-way"),
)
CASES = (
    Case("equal", "three pairs of equal scores cost log 2 each", {"scores": [[0.5] * 4],
         "best": [2]},
         (), laws={"n-way": "four equal scores cost log 4 as one softmax"},
         given="four equal scores"),
    Case("four", "the best of four scored only second, and pays most for the first", {
        "scores": [[1.0, -0.5, 2.0, 0.25]], "best": [0]}, ("preference-swapped",),
        given="four replies, of which the second best was chosen"),
    Case("three-prompts", "every pair weighs the same, whatever its prompt", {
        "scores": numbers("best of", 3, 4), "best": [3, 1, 2]},
        ("preference-swapped", "sum-instead-of-mean", "first-is-best"),
        given="three prompts"),
    Case("sure-and-wrong", "a best reply scored 500 below the others", {
        "scores": [[500.0, 0.0, 500.0]], "best": [1]}, ("first-is-best",),
        given="a best reply scored 500 below the others"),
    Case("two", "two replies are one pair", {"scores": [[0.3, 1.1]], "best": [1]},
         ("preference-swapped", "first-is-best"),
         given="two replies"),
)
FAMILY = Family(
    function="best_of_loss",
    says="The reward model's loss where the best of k replies was chosen.",
    equation=("L = mean over prompts and other replies j of −log σ(s_best − s_j)",),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593", "where": "eq. 1, the softmax"},
             {"paper": "Ouyang et al. 2022, arXiv 2203.02155", "where": "eq. 1, the pairs"}),
    arguments=(Argument("scores", "(N, K)", "of the replies to each prompt", differentiated=True),
               Argument("best", "(N)", "index of the chosen one", "int")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=best_of_loss, mistakes=MISTAKES)

"""Vectors of the reward model's loss where people chose the best of several replies."""

from vectors.bradley_terry_loss import softplus
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import log_softmax, mean


def best_of_loss(x, c, sign=1):
    rows = []
    for scores, best in zip(x["scores"], x["best"], strict=True):
        scores = [sign * s for s in scores]
        if c["rm.loss"] == "n-way":
            rows.append(-log_softmax(scores)[best])
        else:
            rows += [softplus(s - scores[best]) for k, s in enumerate(scores) if k != best]
    return {"loss": mean(rows)}


MISTAKES = {
    "preference-swapped": lambda x, c: best_of_loss(x, c, sign=-1),
    "sum-instead-of-mean": lambda x, c: {"loss": best_of_loss(x, c)["loss"] * len(x["scores"])},
    "first-is-best": lambda x, c: best_of_loss(x | {"best": [0] * len(x["best"])}, c),
}
AXES = (Axis("rm.loss", "how a choice among k replies is scored", {
    "pairwise": "as k − 1 pairs, the best against each other one",
    "n-way": "as one softmax over the k scores"}),)
BASE = {"rm.loss": "pairwise"}
GROUPS = (
    Group("pairwise", "", BASE, ("minirlhf",), core=True),
    star(BASE, "n-way", "as one softmax",
         ("lm-human-preferences", "lm-human-preference-details"), rm__loss="n-way"),
)
CASES = (
    Case("equal", "four equal scores", {"scores": [[0.5] * 4], "best": [2]},
         (), laws={"pairwise": "three pairs of equal scores cost log 2 each",
                   "n-way": "as one softmax: four equal scores cost log 4"}),
    Case("four", "one of four replies was chosen, with the second highest score", {
        "scores": [[1.0, -0.5, 2.0, 0.25]], "best": [0]}, ("preference-swapped",)),
    Case("three-prompts", "every pair weighs the same, whatever its prompt", {
        "scores": numbers("best of", 3, 4), "best": [3, 1, 2]},
        ("preference-swapped", "sum-instead-of-mean", "first-is-best")),
    Case("sure-and-wrong", "a best reply scored 500 below the others", {
        "scores": [[500.0, 0.0, 500.0]], "best": [1]}, ("first-is-best",)),
    Case("two", "two replies are one pair", {"scores": [[0.3, 1.1]], "best": [1]},
         ("preference-swapped", "first-is-best")),
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

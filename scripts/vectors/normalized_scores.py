"""Vectors of how a trained reward model's scores are normalised."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import larger, mean, mpf, sqrt, variance


def normalized_scores(x, c):
    how, ref = c["rm.post"], x["reference_scores"]
    middle = mean(ref)
    if how == "none":
        return {"scores": x["scores"]}
    if how == "minus-mean":
        return {"scores": [s - middle for s in x["scores"]]}
    deviation = sqrt(variance(ref, 0 if how == "population" else 1))
    return {"scores": [(s - middle) / larger(deviation, mpf("1e-8")) for s in x["scores"]]}


MISTAKES = {
    "normalised-by-itself": lambda x, c: normalized_scores(
        x | {"reference_scores": x["scores"]}, c),
    "mean-not-subtracted": lambda x, c: {"scores": [
        s + mean(x["reference_scores"]) / sqrt(variance(x["reference_scores"]))
        for s in normalized_scores(x, c)["scores"]]},
    "divided-by-the-variance": lambda x, c: {"scores": [
        s / sqrt(variance(x["reference_scores"])) for s in normalized_scores(x, c)["scores"]]},
}
AXES = (Axis("rm.post", "what is done to scores before they are paid", {
    "population": "(s − mean)/deviation of a reference set, the deviation over n",
    "sample": "the same over n − 1", "minus-mean": "s − mean", "none": "nothing"}),)
BASE = {"rm.post": "population"}
GROUPS = (
    Group("population", "", BASE, ("minirlhf", "lm-human-preferences")),
    star(BASE, "sample", "the deviation is divided by n - 1", ("lm-human-preference-details",
         "openrlhf"),
         rm__post="sample"),
    star(BASE, "minus-mean", "only the mean is taken away", ("summarize-from-feedback-details",),
         rm__post="minus-mean"),
    star(BASE, "none", "scores stay as they are", ("trl-ppo", "deepspeed-chat"), rm__post="none"),
)
CASES = (
    Case("worked", "1, 3 and 5 beside a reference of 1 and 5 become -1, 0 and 1", {
        "scores": [1.0, 3.0, 5.0], "reference_scores": [1.0, 5.0]},
        ("normalised-by-itself", "divided-by-the-variance", "mean-not-subtracted"),
        given="1, 3 and 5 beside 1 and 5"),
    Case("arbitrary", "the reference scores decide, not the scores themselves", {
        "scores": numbers("post scores", 4), "reference_scores": numbers("post ref", 6)},
        ("normalised-by-itself", "mean-not-subtracted"),
        given="four scores beside six"),
    Case("large", "scores in the hundreds come down to the size of one", {
        "scores": [310.0, 290.0], "reference_scores": [300.0, 340.0, 260.0]},
        ("divided-by-the-variance", "normalised-by-itself"),
        given="scores in the hundreds"),
)
FAMILY = Family(
    function="normalized_scores",
    says="Scores of a trained reward model, brought to mean 0 and deviation 1.",
    equation=("(s − μ)/σ, μ and σ of the reference scores",),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593", "where": "section 2.2, "
              "normalization after training"},),
    arguments=(Argument("scores", "(N)", "to be normalised"),
               Argument("reference_scores", "(M)", "of the replies whose mean becomes 0")),
    results=(Argument("scores", "(N)", "normalised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=normalized_scores, mistakes=MISTAKES)

"""Vectors of what a reply is worth that never ended, which this package leaves to the scorer."""

from vectors.family import Argument, Axis, Case, Family, Group, star


def score_without_end(x, c, penalty=None):
    how, p = c["eos.penalty"], x["penalty"] if penalty is None else penalty
    rule = {"none": lambda s: s, "subtract": lambda s: s - p, "replace": lambda s: -p,
            "scale": lambda s: s * p if p >= 0 else p}[how]
    return {"scores": [s if ended else rule(s)
                       for s, ended in zip(x["scores"], x["ended"], strict=True)]}


MISTAKES = {
    "penalty-of-every-row": lambda x, c: score_without_end(
        x | {"ended": [False] * len(x["ended"])}, c),
    "penalty-of-the-ended": lambda x, c: score_without_end(
        x | {"ended": [not e for e in x["ended"]]}, c),
    "penalty-sign": lambda x, c: score_without_end(x, c, penalty=-x["penalty"]),
}
AXES = (Axis("eos.penalty", "the score of a reply that was cut before it ended", {
    "subtract": "score − penalty", "replace": "−penalty, whatever it scored",
    "scale": "score·penalty if that is not negative, else penalty itself", "none": "its score"}),)
BASE = {"eos.penalty": "subtract"}
GROUPS = (
    Group("subtract", "", BASE, ("trl-ppo",)),
    star(BASE, "replace", "the score is replaced",
         ("summarize-from-feedback-details", "lm-human-preferences",
          "lm-human-preference-details", "torchtune"), eos__penalty="replace"),
    star(BASE, "scale", "the score is multiplied by the penalty, or replaced by one below zero",
         ("openrlhf", "rloo-openrlhf"), eos__penalty="scale"),
    star(BASE, "none", "the score stays", ("minirlhf",), eos__penalty="none"),
)


def batch(scores, ended, penalty):
    return {"scores": scores, "ended": ended, "penalty": penalty}


CASES = (
    Case("worked", "of two replies the one that did not end loses one",
         batch([2.0, 2.0], [True, False], 1.0),
         ("penalty-of-every-row", "penalty-of-the-ended", "penalty-sign"),
         given="one of two replies was cut"),
    Case("bad-already", "a bad reply that did not end is worse still", batch(
        [-3.0, 0.5], [False, True], 1.0), ("penalty-of-the-ended",),
        laws={"replace": "a bad reply that did not end is better off"},
        given="a bad reply was cut"),
    Case("half", "a good and a bad reply lose one half each", batch([4.0, -4.0, 1.0], [False, False,
         True], 0.5),
         ("penalty-of-every-row",),
         laws={"scale": "a factor of one half is kind to a bad reply"},
         given="a penalty of one half"),
    Case("negative", "a penalty below zero is a gift", batch([4.0], [False], -1.0), (),
         laws={"scale": "a factor below zero is the score itself"},
         given="a penalty below zero"),
)

FAMILY = Family(
    function="score_without_end",
    says="The score of replies, some of which were cut before their end-of-sequence token.",
    equation=("score − penalty where the reply did not end",),
    sources=({"paper": "huggingface/trl", "where": "trl/experimental/ppo/ppo_trainer.py, "
              "missing_eos_penalty"},),
    arguments=(
        Argument("scores", "(B)", "of whole replies"),
        Argument("ended", "(B)", "True where the reply has its end-of-sequence token", "bool"),
        Argument("penalty", "()", "the system's number")),
    results=(Argument("scores", "(B)", "what is paid"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=score_without_end, mistakes=MISTAKES)

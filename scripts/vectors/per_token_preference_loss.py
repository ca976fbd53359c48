"""Vectors of the reward model's loss where every token has a score."""

from vectors.bradley_terry_loss import softplus
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import mean


def length(mask):
    return sum(mask)


def compared(x, i, how):
    """The pairs of positions that a pair of replies is compared at."""
    chosen, rejected = length(x["chosen_mask"][i]), length(x["rejected_mask"][i])
    if how == "last-token":
        return [(chosen - 1, rejected - 1)]
    differ = [t for t, (a, b) in enumerate(zip(x["chosen_tokens"][i], x["rejected_tokens"][i],
                                               strict=True)) if a != b]
    if not differ:
        return [(len(x["chosen_mask"][i]) - 1,) * 2]
    end = (min if how == "shorter" else max)(chosen, rejected)
    return [(t, t) for t in range(differ[0], end)]


def per_token_preference_loss(x, c, how=None):
    pairs = range(len(x["chosen_mask"]))
    return {"loss": mean(mean(
        softplus(x["rejected_scores"][i][r] - x["chosen_scores"][i][k])
        for k, r in compared(x, i, how or c["rm.compare"])) for i in pairs)}


def last_slot(x, c):
    return {"loss": mean(softplus(r[-1] - k[-1]) for k, r in zip(
        x["chosen_scores"], x["rejected_scores"], strict=True))}


def one_late(x, c):
    late = {f"{side}_scores": [[*row[1:], row[-1]] for row in x[f"{side}_scores"]]
            for side in ("chosen", "rejected")}
    return per_token_preference_loss(x | late, c)


MISTAKES = {
    "preference-swapped": lambda x, c: per_token_preference_loss(
        x | {"chosen_scores": [[-s for s in row] for row in x["chosen_scores"]],
             "rejected_scores": [[-s for s in row] for row in x["rejected_scores"]]}, c),
    "score-at-the-row-end": last_slot,
    "token-after-the-last": one_late,
}
AXES = (Axis("rm.compare", "where the two replies' scores are compared", {
    "last-token": "at the last real token of each",
    "from-divergence": "at every position from where their tokens part to the end of the longer, "
                       "pads of the shorter included; the mean of these"}),)
BASE = {"rm.compare": "last-token"}
GROUPS = (
    Group("last-token", "", BASE, ("minirlhf", "trl-reward", "openrlhf",
                                   "summarize-from-feedback-details"), core=True),
    star(BASE, "from-divergence", "every position after the replies part is compared",
         ("deepspeed-chat",),
         rm__compare="from-divergence"),
)


def batch(chosen, rejected, chosen_tokens, rejected_tokens, chosen_lengths, rejected_lengths):
    width = len(chosen[0])
    return {"chosen_scores": chosen, "rejected_scores": rejected, "chosen_tokens": chosen_tokens,
            "rejected_tokens": rejected_tokens,
            "chosen_mask": [[t < n for t in range(width)] for n in chosen_lengths],
            "rejected_mask": [[t < n for t in range(width)] for n in rejected_lengths]}


CHOSEN, REJECTED = numbers("per token c", 2, 6), numbers("per token r", 2, 6)
CASES = (
    Case("one-length", "two replies of one length are compared at their last token alone", batch(
        CHOSEN[:1], REJECTED[:1], [[5, 6, 7, 8, 1, 0]], [[5, 6, 9, 4, 1, 0]], [5], [5]),
        ("preference-swapped", "score-at-the-row-end", "token-after-the-last"),
        given="replies of one length"),
    Case("shorter-rejected", "the shorter reply is read at its own end", batch(
        CHOSEN[:1], REJECTED[:1], [[5, 6, 7, 8, 9, 1]], [[5, 6, 1, 0, 0, 0]], [6], [3]),
        ("preference-swapped", "score-at-the-row-end"),
        laws={"from-divergence": "pads of the shorter reply are compared as well"},
        given="a rejected reply that is shorter"),
    Case("shorter-chosen", "a chosen reply that is shorter is read at its own end too", batch(
        CHOSEN[1:], REJECTED[1:], [[5, 1, 0, 0, 0, 0]], [[5, 6, 7, 1, 0, 0]], [2], [4]),
        ("preference-swapped", "token-after-the-last", "score-at-the-row-end"),
        given="a chosen reply that is shorter"),
    Case("two-pairs", "every pair weighs the same, whatever its length", batch(
        CHOSEN, REJECTED, [[5, 6, 7, 1, 0, 0], [5, 8, 8, 8, 8, 1]],
        [[5, 9, 1, 0, 0, 0], [5, 8, 8, 1, 0, 0]], [4, 6], [3, 4]),
        ("preference-swapped", "score-at-the-row-end"),
        given="two pairs"),
    Case("part-at-once", "where replies part does not matter", batch(
        CHOSEN[:1], REJECTED[:1], [[3, 6, 1, 0, 0, 0]], [[4, 1, 0, 0, 0, 0]], [3], [2]),
        ("preference-swapped", "token-after-the-last"),
        given="replies that part at once"),
)
FAMILY = Family(
    function="per_token_preference_loss",
    says="The reward model's loss where every position of both replies has a score.",
    equation=("L = −(1/N) Σ log σ(chosen at its last token − rejected at its last token)",),
    sources=({"paper": "Ouyang et al. 2022, arXiv 2203.02155", "where": "eq. 1"},
             {"paper": "microsoft/DeepSpeedExamples", "where":
              "dschat/utils/model/reward_model.py, the comparison from the divergence"}),
    arguments=(
        Argument("chosen_scores", "(N, T)", "at each position of the preferred reply",
                 differentiated=True),
        Argument("rejected_scores", "(N, T)", "at each position of the other",
                 differentiated=True),
        Argument("chosen_tokens", "(N, T)", "ids", "int"),
        Argument("rejected_tokens", "(N, T)", "ids", "int"),
        Argument("chosen_mask", "(N, T)", "True where the token is real, first in each row",
                 "bool"),
        Argument("rejected_mask", "(N, T)", "the same of the other", "bool")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=per_token_preference_loss, mistakes=MISTAKES)

"""Which slot of a reply receives its score, and what is done to the score before.

The value model is asked at that slot, the KL of that slot is or is not charged, and the loss does
or does not train it: so one slot more or less changes every advantage of the reply.
"""

from functools import partial
from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.tokens import last_token

# --- score.place: (B, R) bool, True at the one slot of each row that is paid ---------------------


def slot(mask: Array, beyond: int) -> Array:
    """True at the slot `beyond` the last real token, or at the last slot if the row ends before.

        n − 1 + beyond, at most R − 1,    n one past the last real token
    """
    xp = array_module(mask)
    R = mask.shape[1]
    n = (mask * xp.arange(1, R + 1)).max(axis=1)                                         # (B,)
    return xp.arange(R) == xp.minimum(xp.maximum(n - 1 + beyond, 0), R - 1)[:, None]


def after_last(mask: Array) -> Array:
    """n, the first pad; R − 1 in a full row.  TRL's PPO, DeepSpeed-Chat, the reproduction of
    summarize-from-feedback."""
    return slot(mask, 1)


def second_after_last(mask: Array) -> Array:
    """n + 1, the second pad; at most R − 1.  trlx, whose slice counts the last prompt token too."""
    return slot(mask, 2)


def row_end(mask: Array) -> Array:
    """R − 1, whatever stands there.  lm-human-preferences, whose replies are all R long."""
    xp = array_module(mask)
    return xp.broadcast_to(xp.arange(mask.shape[1]) == mask.shape[1] - 1, mask.shape)


# --- score.clip and eos.penalty: (B,) -> (B,) ----------------------------------------------------

def unclipped(scores: Array) -> Array:
    """The score as the reward model gave it.  TRL, verl, lm-human-preferences."""
    return scores


def clipped(scores: Array, bound: float) -> Array:
    """clip(score, −c, +c).  c = 5 in DeepSpeed-Chat, 10 in OpenRLHF and trlx."""
    return array_module(scores).clip(scores, -bound, bound)


def subtract(scores: Array, ended: Array, penalty: float) -> Array:
    """score − penalty, where the reply did not end.  TRL's `missing_eos_penalty`."""
    return array_module(scores).where(ended, scores, scores - penalty)


def replace(scores: Array, ended: Array, penalty: float) -> Array:
    """−penalty whatever it scored, where the reply did not end.  lm-human-preferences and the
    summarize-from-feedback reproduction, with 1."""
    return array_module(scores).where(ended, scores, -penalty)


def scale(scores: Array, ended: Array, penalty: float) -> Array:
    """score·penalty if the penalty is not negative, else the penalty itself, where the reply did
    not end.  OpenRLHF."""
    cut = scores * penalty if penalty >= 0 else penalty
    return array_module(scores).where(ended, scores, cut)


def as_scored(scores: Array, ended: Array, penalty: float) -> Array:
    """The score, ended or not.  This package, where an end is for the reward model to value."""
    return scores


ANSWERS: dict[str, dict[Any, Any]] = {
    "score.place": {"last-real": last_token, "after-last": after_last,
                    "second-after-last": second_after_last, "row-end": row_end},
    "score.clip": {"none": unclipped, 5.0: partial(clipped, bound=5.0),
                   10.0: partial(clipped, bound=10.0)},
    "eos.penalty": {"subtract": subtract, "replace": replace, "scale": scale, "none": as_scored},
}


def score_without_end(scores: Array, ended: Array, penalty: float, *, answers: dict) -> Array:
    """What a reply that was cut before its end is worth."""
    return answers["eos.penalty"](scores, ended, penalty)


FORMULAS = {"score_without_end": score_without_end}

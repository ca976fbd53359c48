"""Group-relative advantages: divided by which deviation, and a reply that is alone in its group.

A reply without siblings has nothing to be compared with: the core refuses it, systems do not.
"""

from functools import partial
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages

# --- grpo.std: scores (G, n) -> the variance of each group (G, 1), None: no division -------------


def group_sample(groups: Array) -> Array:
    """(1/(n−1)) Σ (s − mean)², of each group.  TRL, verl, OpenRLHF."""
    return groups.var(axis=1, ddof=1, keepdims=True)


def group_population(groups: Array) -> Array:
    """(1/n) Σ (s − mean)², of each group.  No system; the paper does not say which."""
    return groups.var(axis=1, keepdims=True)


def batch_sample(groups: Array) -> Array:
    """The sample variance of all scores of the batch.  TRL's scale_rewards="batch"."""
    return array_module(groups).full((len(groups), 1), groups.var(ddof=1))


def no_division(groups: Array) -> None:
    """Nothing: it stays s − mean.  Dr. GRPO: TRL's scale_rewards="none", verl's
    norm_adv_by_std_in_grpo=False."""
    return None


# --- grpo.eps: the variance -> the divisor -------------------------------------------------------

def beside(variance: Array, eps: float) -> Array:
    """σ + ε.  ε is 1e-4 in TRL, 1e-6 in verl, 1e-9 in OpenRLHF."""
    return variance ** 0.5 + eps


def floored(variance: Array) -> Array:
    """√max(σ², 1e-6) + 1e-6.  verl's grpo_vectorized at b178a3c."""
    return array_module(variance).maximum(variance, 1e-6) ** 0.5 + 1e-6


# --- grpo.singleton, rloo.singleton: (scores of lone replies, what would divide them) -> advantage

def refused(scores: Array, divisor: Any) -> Array:
    """An error.  This package."""
    return group_advantages(scores, 1)


def zero(scores: Array, divisor: Any) -> Array:
    """0: it teaches nothing.  TRL."""
    return array_module(scores).zeros_like(scores)


def score(scores: Array, divisor: Any) -> Array:
    """Its score, as if the mean were 0 and the deviation 1.  verl."""
    return scores / divisor


def nan(scores: Array, divisor: Any) -> Array:
    """Not a number, from a division by n − 1 = 0.  OpenRLHF."""
    return array_module(scores).full_like(scores, np.nan)


# --- rloo.std: what is done to the advantages of a batch -----------------------------------------

def plain(advantages: Array) -> Array:
    """Nothing.  The paper; everyone's default."""
    return advantages


def normalised(advantages: Array) -> Array:
    """(A − mean)/(sample deviation + 1e-4), over the batch.  An option of TRL."""
    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-4)


ALONE = {"refused": refused, "zero": zero, "score": score, "nan": nan}
ANSWERS: dict[str, dict[Any, Any]] = {
    "grpo.std": {"group-sample": group_sample, "group-population": group_population,
                 "batch-sample": batch_sample, "none": no_division},
    "grpo.eps": {**{eps: partial(beside, eps=eps) for eps in (1e-4, 1e-6, 1e-9)},
                 "floor": floored},
    "grpo.singleton": ALONE, "rloo.std": {"none": plain, "batch-sample": normalised},
    "rloo.singleton": ALONE,
}


def grpo(scores: Array, group_size: int, deviation: Any = None, *, answers: dict) -> Array:
    """(s_i − mean(s))/divisor.  The deviation is the answer to grpo.std."""
    if group_size == 1:
        one = array_module(scores).ones(())
        divides = answers["grpo.std"] is not no_division
        return answers["grpo.singleton"](scores, answers["grpo.eps"](one) if divides else 1.0)
    centered = group_advantages(scores, group_size, normalize=False)
    variance = answers["grpo.std"](scores.reshape(-1, group_size))
    if variance is None:
        return centered
    return (centered.reshape(-1, group_size) / answers["grpo.eps"](variance)).reshape(-1)


def rloo(scores: Array, group_size: int, *, answers: dict) -> Array:
    """s_i minus the mean of the others."""
    alone = group_size == 1
    return answers["rloo.std"](answers["rloo.singleton"](scores, 1.0) if alone else
                               leave_one_out_advantages(scores, group_size))


FORMULAS = {"group_advantages": grpo, "leave_one_out_advantages": rloo}

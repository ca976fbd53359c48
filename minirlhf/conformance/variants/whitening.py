"""Whitening: to mean 0 and deviation 1, over what, divided by what, and never by 0.

The answers are the parts of y = (x − μ)/s: the slots and their number n, the variance, s, what is
whitened together, and whether μ comes back.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.conformance.variants.kl import all_slots, real

# --- whiten.count: the slots (B, R) bool -> n ----------------------------------------------------


def exact_count(slots: Array) -> float:
    """n.  All but verl."""
    return float(slots.sum())


def padded_count(slots: Array) -> float:
    """n + 10⁻⁸.  verl, for mean and variance."""
    return float(slots.sum()) + 1e-8


# --- whiten.ddof: (mean of squares over n, the slots) -> the variance ----------------------------

def population(variance: Array, slots: Array) -> Array:
    """σ² = (1/n) Σ (x − μ)².  lm-human-preferences, OpenRLHF."""
    return variance


def sample(variance: Array, slots: Array) -> Array:
    """σ² = (1/(n−1)) Σ (x − μ)², by Bessel's factor n/(n−1); NaN for a single token.  TRL, verl."""
    n = float(slots.sum())
    return variance * (n / (n - 1) if n != 1 else np.nan)


# --- whiten.eps: (x − μ, σ²) -> y ----------------------------------------------------------------

def in_root(centered: Array, variance: Array) -> Array:
    """(x − μ)/√(σ² + 10⁻⁸).  TRL, verl, lm-human-preferences, trlx."""
    return centered / (variance + 1e-8) ** 0.5


def outside(centered: Array, variance: Array) -> Array:
    """(x − μ)/(σ + 10⁻⁸).  CleanRL."""
    return centered / (variance ** 0.5 + 1e-8)


def floor(centered: Array, variance: Array) -> Array:
    """(x − μ)/√max(σ², 10⁻⁸).  OpenRLHF."""
    return centered / array_module(variance).maximum(variance, 1e-8) ** 0.5


# --- whiten.shift: whether the mean is added back ------------------------------------------------

def back_unless_shifted(shift_mean: bool) -> bool:
    """shift_mean=True leaves it away.  All but torchtune."""
    return not shift_mean


def back_if_shifted(shift_mean: bool) -> bool:
    """shift_mean=True, the default there, adds it back.  torchtune."""
    return shift_mean


# --- whiten.scope: (whiten one batch, x, mask, minibatches) -> y ---------------------------------

def rollout(once: Callable, x: Array, mask: Array, minibatches: Array | None) -> Array:
    """The whole rollout together.  TRL, OpenRLHF, verl."""
    return once(x, mask)


def minibatch(once: Callable, x: Array, mask: Array, minibatches: Array | None) -> Array:
    """Each minibatch by itself, when its loss is computed.  lm-human-preferences, trlx, CleanRL."""
    if minibatches is None:
        return once(x, mask)
    ends = np.cumsum(minibatches)
    return array_module(x).concatenate([once(x[end - size:end], mask[end - size:end])
                                        for end, size in zip(ends, minibatches, strict=True)])


ANSWERS: dict[str, dict[Any, Any]] = {
    "whiten.ddof": {0: population, 1: sample},
    "whiten.eps": {"in-root": in_root, "outside": outside, "floor": floor},
    "whiten.mask": {"masked": real, "all-slots": all_slots},
    "whiten.scope": {"rollout": rollout, "minibatch": minibatch},
    "whiten.count": {"n": exact_count, "n+1e-8": padded_count},
    "whiten.shift": {"subtract": back_unless_shifted, "inverted": back_if_shifted},
}


def whiten(x: Array, mask: Array, shift_mean: bool = True, minibatches: Array | None = None, *,
           answers: dict) -> Array:
    """y = (x − μ)/s, perhaps + μ; 0 where a slot does not count."""
    xp = array_module(x, mask)
    added_back = answers["whiten.shift"](shift_mean)

    def once(x: Array, mask: Array) -> Array:
        slots = answers["whiten.mask"](mask)
        n = answers["whiten.count"](slots)
        mean = xp.where(slots, x, 0).sum() / n
        centered = xp.where(slots, x - mean, 0)
        variance = answers["whiten.ddof"]((centered * centered).sum() / n, slots)
        y = answers["whiten.eps"](centered, variance)
        return xp.where(slots, y + mean * added_back, 0)
    return answers["whiten.scope"](once, x, mask, minibatches)


FORMULAS = {"whiten": whiten}

"""The KL penalty: estimator, guard, charged slots, place, weight as a loss, what a controller sees.

k = log π − log π_ref of a sampled token throughout.  An estimator takes (logprobs, ref_logprobs)
of one shape and returns that shape; the gradient runs through logprobs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.autograd import value
from minirlhf.conformance.variants.scores import after_last
from minirlhf.kl_penalty import adaptive_beta, exact_kl, kl_estimate
from minirlhf.ops import clip, exp, masked_mean, maximum, where

k1, k2, k3 = (partial(kl_estimate, estimator=name) for name in ("k1", "k2", "k3"))

# --- kl.est --------------------------------------------------------------------------------------


def absolute(logprobs: Any, ref_logprobs: Array) -> Any:
    """|k|.  An option of verl, and of TRL's classic trainer."""
    k = logprobs - ref_logprobs
    return maximum(k, -k)


def inverted_k3(logprobs: Any, ref_logprobs: Array) -> Any:
    """e^k − 1 − k.  trlx, for its controller: the mean under π is χ² − KL, no KL."""
    k = logprobs - ref_logprobs
    return exp(k) - 1 - k


def straight_through(logprobs: Any, ref_logprobs: Array, estimate: Callable) -> Any:
    """The value of `estimate` with the gradient of k2, which on policy is that of KL(π‖π_ref).

    The estimators of verl whose names end in "+".
    """
    pull = k2(logprobs, ref_logprobs)
    return value(estimate(logprobs, ref_logprobs)) + (pull - value(pull))


# --- kl.clamp: (estimator, logprobs, ref_logprobs) -> the guarded estimate -----------------------

def unclamped(estimate: Callable, logprobs: Any, ref_logprobs: Array) -> Any:
    """The estimate itself; k3 may overflow.  TRL, lm-human-preferences, DeepSpeed-Chat, trlx."""
    return estimate(logprobs, ref_logprobs)


def value_clamped(estimate: Callable, logprobs: Any, ref_logprobs: Array) -> Any:
    """clip(estimate, −10, 10), no gradient beyond.  OpenRLHF, for k1 too."""
    return clip(estimate(logprobs, ref_logprobs), -10.0, 10.0)


def k3_clamped(estimate: Callable, logprobs: Any, ref_logprobs: Array) -> Any:
    """k3 alone: clip(k, −20, 20), then clip(k3, −10, 10).  verl."""
    if estimate is not k3:
        return estimate(logprobs, ref_logprobs)
    k = clip(logprobs - ref_logprobs, -20.0, 20.0)
    return clip(k3(k, array_module(value(k)).zeros_like(value(k))), -10.0, 10.0)


# --- kl.mask: which slots are charged; (B, R) bool -> (B, R) bool --------------------------------

def real(mask: Array) -> Array:
    """The real tokens.  OpenRLHF, verl, TRL."""
    return mask


def through_p1(mask: Array) -> Array:
    """The real tokens and the first pad.  DeepSpeed-Chat and trlx."""
    return mask | after_last(mask)


def all_slots(mask: Array) -> Array:
    """Every slot.  lm-human-preferences, where what is sampled after the end is charged too."""
    return array_module(mask).ones_like(mask)


# --- kl.place: (KL of each slot (B, R), the slot that is paid (B, R)) -> the charge of each slot -

def by_token(kl: Array, paid: Array) -> Array:
    """Each token its own.  All PPO systems."""
    return kl


def by_sequence(kl: Array, paid: Array) -> Array:
    """The sum over the reply, beside the score.  TRL's RLOO."""
    return array_module(kl).where(paid, kl.sum(axis=1, keepdims=True), 0)


def nowhere(kl: Array, paid: Array) -> Array:
    """Nothing: the KL is a term of the loss, or absent.  TRL's GRPO."""
    return array_module(kl).zeros_like(kl)


# --- kl.weight: (estimate, logprobs, ref_logprobs, old_logprobs) -> the weighed estimate ---------

def unweighed(estimate: Any, logprobs: Any, ref_logprobs: Array, old_logprobs: Array) -> Any:
    """Tokens of an older policy count like others.  TRL's GRPO by default, verl."""
    return estimate


def by_ratio(estimate: Any, logprobs: Any, ref_logprobs: Array, old_logprobs: Array) -> Any:
    """π/π_old·estimate, differentiated whole.  TRL's `use_bias_correction_kl`."""
    return exp(logprobs - old_logprobs) * estimate


def unbiased(estimate: Any, logprobs: Any, ref_logprobs: Array, old_logprobs: Array) -> Any:
    """The value of the estimate, with the gradient min(π/π_old, 10)·k.  OpenRLHF's
    `unbiased_gradient`."""
    lp = value(logprobs)
    xp = array_module(lp)
    pull = xp.minimum(xp.exp(lp - old_logprobs), 10.0) * (lp - ref_logprobs)
    return value(estimate) + pull * (logprobs - lp)


# --- kl.ctl: (logprobs, ref_logprobs, mask) -> what the controller is fed; None: it is not -------

def sequence_sum(logprobs: Array, ref_logprobs: Array, mask: Array) -> float:
    """mean_i Σ_t k.  lm-human-preferences."""
    return (logprobs - ref_logprobs).sum(axis=1, where=mask).mean()


def token_mean(logprobs: Array, ref_logprobs: Array, mask: Array) -> float:
    """mean_i (1/n_i) Σ_t k.  verl, OpenRLHF."""
    return ((logprobs - ref_logprobs).sum(axis=1, where=mask) / mask.sum(axis=1)).mean()


def inverted_k3_sum(logprobs: Array, ref_logprobs: Array, mask: Array) -> float:
    """mean_i Σ (e^k − 1 − k) over all slots, masked or not.  trlx."""
    return inverted_k3(logprobs, ref_logprobs).sum(axis=1).mean()


def fixed(logprobs: Array, ref_logprobs: Array, mask: Array) -> None:
    """Nothing: the coefficient stays.  TRL, DeepSpeed-Chat, the reproduction of
    summarize-from-feedback."""
    return None


ANSWERS: dict[str, dict[Any, Any]] = {
    "kl.est": {"k1": k1, "k2": k2, "k3": k3, "abs": absolute, "k3-inverted": inverted_k3,
               "k1+": partial(straight_through, estimate=k1),
               "k3+": partial(straight_through, estimate=k3)},
    "kl.loss_est": {"k1": k1, "k2": k2, "k3": k3},
    "kl.clamp": {"none": unclamped, "value-10": value_clamped, "k3": k3_clamped},
    "kl.mask": {"real": real, "through-p1": through_p1, "all-slots": all_slots},
    "kl.place": {"token": by_token, "sequence": by_sequence, "nowhere": nowhere},
    "kl.weight": {"none": unweighed, "ratio": by_ratio, "unbiased": unbiased},
    "kl.ctl": {"sequence-sum": sequence_sum, "token-mean": token_mean,
               "inverted-k3-sum": inverted_k3_sum, "fixed": fixed},
}


# --- the formulas in which they stand ------------------------------------------------------------

def estimated(logprobs: Any, ref_logprobs: Array, estimator: Any = None, *, answers: dict) -> Any:
    """What sampled tokens tell about KL(π‖π_ref).  The estimator is the answer to kl.est."""
    return answers["kl.clamp"](answers["kl.est"], logprobs, ref_logprobs)


def penalized_rewards(scores: Array, logprobs: Array, ref_logprobs: Array, mask: Array,
                      beta: float, *, answers: dict) -> Array:
    """r_t = −β·KL_t where the slot is charged, + the score where it is paid."""
    xp = array_module(logprobs)
    charged, paid = answers["kl.mask"](mask), answers["score.place"](mask)
    kl = estimated(xp.where(charged, logprobs, 0), xp.where(charged, ref_logprobs, 0),
                   answers=answers)
    scores = answers["score.clip"](scores)
    return xp.where(paid, scores[:, None], 0) - float(beta) * answers["kl.place"](kl, paid)


def kl_loss(logprobs: Any, old_logprobs: Array, ref_logprobs: Array, mask: Array,
            count: int | None = None, estimator: Any = None, *, answers: dict) -> Any:
    """The KL as a term of the loss: the mean over tokens of the weighed estimate."""
    return masked_mean(token_kl(logprobs, old_logprobs, ref_logprobs, mask, answers), mask, count)


def token_kl(logprobs: Any, old_logprobs: Array, ref_logprobs: Array, mask: Array,
             answers: dict) -> Any:
    """The weighed estimate of each token (B, R)."""
    xp = array_module(mask, ref_logprobs)
    lp = where(mask, logprobs, 0)
    old, ref = xp.where(mask, old_logprobs, 0), xp.where(mask, ref_logprobs, 0)
    estimate = answers["kl.clamp"](answers["kl.loss_est"], lp, ref)
    return answers["kl.weight"](estimate, lp, ref, old)


def kl_controller(beta: float, logprobs: Array, ref_logprobs: Array, mask: Array,
                  target_kl: float, horizon: float, *, answers: dict) -> float:
    """The β of the next step."""
    observed = answers["kl.ctl"](logprobs, ref_logprobs, mask)
    return beta if observed is None else adaptive_beta(beta, observed, target_kl, horizon,
                                                       len(mask))


def plain_exact_kl(logits: Any, ref_logits: Array, *, answers: dict) -> Any:
    """No system differs."""
    return exact_kl(logits, ref_logits)


def plain_adaptive_beta(beta: float, observed_kl: float, target_kl: float, horizon: float,
                        n: int, *, answers: dict) -> float:
    """No system differs in the formula, only in what it is fed: kl.ctl."""
    return adaptive_beta(beta, observed_kl, target_kl, horizon, n)


FORMULAS = {"kl_estimate": estimated, "penalized_rewards": penalized_rewards, "kl_loss": kl_loss,
            "kl_controller": kl_controller, "exact_kl": plain_exact_kl,
            "adaptive_beta": plain_adaptive_beta}

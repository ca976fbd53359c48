"""PPO's losses: whose ratio, how it is bounded, how the value model is held, which entropy.

For A ≥ 0 the clipped surrogate is −A·min(r, 1+ε), for A < 0 it is −A·max(r, 1−ε): the form of the
core, which the answers here change in one place each.
"""

from functools import partial
from typing import Any

from minirlhf import clipped_surrogate
from minirlhf.arrays import Array, array_module
from minirlhf.conformance.variants.aggregation import all_slots_mean
from minirlhf.conformance.variants.kl import all_slots, real, through_p1
from minirlhf.ops import clip, exp, masked_mean, maximum, minimum, reshape, sum, where

# --- pg.level: (log-ratios (B, R), mask) -> the log-ratio that each token counts with ------------


def by_token(logratio: Any, mask: Array) -> Any:
    """log r_t, each token's own.  PPO."""
    return logratio


def sequence_sum(logratio: Any, mask: Array) -> Any:
    """Σ_t log r_t at each token.  TRL's RLOO."""
    whole = sum(where(mask, logratio, 0), axis=1)
    return reshape(whole, (mask.shape[0], 1)) + array_module(mask).zeros(mask.shape)


def sequence_mean(logratio: Any, mask: Array) -> Any:
    """(1/n) Σ_t log r_t at each token.  GSPO."""
    n = array_module(mask).maximum(mask.sum(axis=1, keepdims=True), 1)
    return sequence_sum(logratio, mask) / n.astype(logratio.dtype)


# --- pg.logratio_clamp, pg.clip_high, pg.dual_clip -----------------------------------------------

def unclamped(logratio: Any) -> Any:
    """None.  TRL, lm-human-preferences, DeepSpeed-Chat, trlx."""
    return logratio


def clamped(logratio: Any, bound: float = 20.0) -> Any:
    """clip(log r, −20, 20), no gradient beyond.  verl, OpenRLHF."""
    return clip(logratio, -bound, bound)


def same(clip_ratio: float) -> float:
    """The upper ε is the lower one.  Everyone's default."""
    return clip_ratio


def higher(clip_ratio: float, high: float = 0.28) -> float:
    """The upper ε is 0.28.  DAPO's clip-higher, an option of TRL, verl and OpenRLHF."""
    return high


def single_clip(losses: Any, advantages: Array) -> Any:
    """The loss of a token with A < 0 grows with its ratio.  All but verl by default."""
    return losses


def dual_clip(losses: Any, advantages: Array, bound: float = 3.0) -> Any:
    """min(l, −3·A) where A < 0: at most that, and flat beyond.  verl."""
    return where(advantages < 0, minimum(losses, -bound * advantages), losses)


# --- vf.clip: (V, V_old, G, ε) -> squared errors;  vf.coef: a factor -----------------------------

def clipped_errors(values: Any, old_values: Array, returns: Array, clip_range: float) -> Any:
    """max((V − G)², (clip(V, V_old ± ε) − G)²).  All PPO systems."""
    held = clip(values, old_values - clip_range, old_values + clip_range) - returns
    return maximum((values - returns) ** 2, held ** 2)


def plain_errors(values: Any, old_values: Array, returns: Array, clip_range: float) -> Any:
    """(V − G)².  Schulman et al. 2017; an option of OpenRLHF."""
    return (values - returns) ** 2


def weighed(loss: Any, factor: float) -> Any:
    """factor·L.  1 for a value model with an optimizer of its own, 0.1 or 0.5 where it shares one.
    """
    return factor * loss


# --- ent.temp: the logits of the distribution ----------------------------------------------------

def tempered(logits: Any, temperature: float | None) -> Any:
    """logits/τ: the entropy of what is sampled from.  verl, TRL's GRPO."""
    return logits if temperature is None else logits / temperature


def tempered_eps(logits: Any, temperature: float | None) -> Any:
    """logits/(τ + 10⁻⁷), which moves the eighth digit.  TRL's PPO."""
    return logits / ((1.0 if temperature is None else temperature) + 1e-7)


def raw(logits: Any, temperature: float | None) -> Any:
    """The logits, whatever the temperature.  OpenRLHF at 3c3be62."""
    return logits


ANSWERS: dict[str, dict[Any, Any]] = {
    "pg.level": {"token": by_token, "sequence-sum": sequence_sum, "sequence-mean": sequence_mean},
    "pg.logratio_clamp": {"none": unclamped, 20.0: clamped},
    "pg.clip_high": {"same": same, 0.28: higher},
    "pg.dual_clip": {"none": single_clip, 3.0: dual_clip},
    "vf.clip": {"on": clipped_errors, "off": plain_errors},
    "vf.coef": {factor: partial(weighed, factor=factor) for factor in (1.0, 0.5, 0.1)},
    "vf.mask": {"real": real, "through-p1": through_p1, "all-slots": all_slots},
    "ent.temp": {"tempered": tempered, "tempered-eps": tempered_eps, "raw": raw},
    "ent.mask": {"real": real, "all-slots": all_slots},
}


def surrogate_tokens(logprobs: Any, old_logprobs: Array, advantages: Array, mask: Array,
                     clip_ratio: float, answers: dict) -> tuple[Any, Array]:
    """The loss of each token, −min(r·A, clip(r, 1−ε, 1+ε′)·A), and which slots count."""
    xp = array_module(old_logprobs, advantages, mask)
    counts = all_slots(mask) if answers["agg"] is all_slots_mean else mask
    old_logprobs, advantages = xp.where(counts, old_logprobs, 0), xp.where(counts, advantages, 0)
    logratio = answers["pg.level"](where(counts, logprobs, 0) - old_logprobs, counts)
    ratio = exp(answers["pg.logratio_clamp"](logratio))
    high = answers["pg.clip_high"](clip_ratio)
    limited = where(advantages >= 0, minimum(ratio, 1 + high), maximum(ratio, 1 - clip_ratio))
    return answers["pg.dual_clip"](-limited * advantages, advantages), counts


def clipped_surrogate_loss(logprobs: Any, old_logprobs: Array, advantages: Array, mask: Array,
                           clip_ratio: float = 0.2, count: int | None = None, *,
                           answers: dict) -> Any:
    """The policy's loss, from those of its tokens."""
    losses, counts = surrogate_tokens(logprobs, old_logprobs, advantages, mask, clip_ratio,
                                      answers)
    return answers["agg"](losses, counts, count)


def clipped_value_loss(values: Any, old_values: Array, returns: Array, mask: Array,
                       clip_range: float = 0.2, count: int | None = None, *,
                       answers: dict) -> Any:
    """The value model's loss: c·½·the mean of the squared errors."""
    counts = answers["vf.mask"](mask)
    xp = array_module(old_values, returns, counts)
    errors = answers["vf.clip"](where(counts, values, 0), xp.where(counts, old_values, 0),
                                xp.where(counts, returns, 0), clip_range)
    return answers["vf.coef"](0.5 * masked_mean(errors, counts, count))


def entropy(logits: Any, mask: Array, temperature: float | None = None,
            count: int | None = None, *, answers: dict) -> Any:
    """The mean entropy of the next-token distributions, in nats."""
    return clipped_surrogate.entropy(answers["ent.temp"](logits, temperature),
                                     answers["ent.mask"](mask), count)


FORMULAS = {"clipped_surrogate_loss": clipped_surrogate_loss,
            "clipped_value_loss": clipped_value_loss, "entropy": entropy}

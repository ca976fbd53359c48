"""This package as an adapter: `minirlhf verify minirlhf`.

Most functions stand here under their own names.  Some vector files are about what the package makes
out of several functions, or ask under other names; these are put together below as the stages do
it.
"""

from typing import Any

import numpy as np

from minirlhf import bradley_terry, clipped_surrogate, group_advantage, ops, optimizer, sft
from minirlhf.arrays import Array
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss
from minirlhf.dpo import dpo_loss
from minirlhf.gae import gae
from minirlhf.gae import whiten as whiten_rollout
from minirlhf.group_advantage import leave_one_out_advantages
from minirlhf.kl_penalty import adaptive_beta, exact_kl, kl_estimate, penalized_rewards
from minirlhf.optimizer import clip_by_global_norm
from minirlhf.tokens import last_token, position_ids, token_logprobs

__all__ = [
    "adamw_step", "adaptive_beta", "aggregate_loss", "best_of_loss", "bradley_terry_loss",
    "clip_by_global_norm", "clipped_surrogate_loss", "clipped_value_loss", "dpo_loss", "entropy",
    "exact_kl", "gae", "group_advantages", "kl_controller", "kl_estimate", "kl_loss",
    "leave_one_out_advantages", "penalized_rewards", "per_token_preference_loss", "position_ids",
    "score_index", "sft_loss", "token_logprobs", "whiten"]

framework = "minirlhf"


# --- language model and SFT ----------------------------------------------------------------------

def aggregate_loss(losses: Any, mask: Array, micro_batches: Array | None = None,
                   length: int | None = None) -> Any:
    """Micro-batch means over the step's count, added up.  `length` is for those who divide by it.

    losses, mask: (B, R).
    """
    count = int(mask.sum())
    ends = np.cumsum([len(mask)] if micro_batches is None else micro_batches)
    return sum(ops.masked_mean(ops.index(losses, slice(int(start), int(end))), mask[start:end],
                               count)
               for start, end in zip([0, *ends], ends, strict=False))


def sft_loss(logprobs: Any, mask: Array, count: int | None = None,
             micro_batches: Array | None = None) -> Any:
    """The loss of the whole step, of one micro-batch or several."""
    if micro_batches is None:
        return sft.sft_loss(logprobs, mask, count)
    return aggregate_loss(-logprobs, mask, micro_batches)


# --- reward model --------------------------------------------------------------------------------

def bradley_terry_loss(score_chosen: Any, score_rejected: Any, margin: Array | float = 0.0,
                       count: int | None = None) -> Any:
    return bradley_terry.bradley_terry_loss(score_chosen, score_rejected, margin, count)


def best_of_loss(scores: Any, best: Array) -> Any:
    """Every other reply of a row against its best.  scores: (N, K); best: (N,)."""
    rows, replies = scores.shape
    flat = ops.reshape(scores, (rows * replies, 1))

    def pick(columns: Array) -> Any:
        ids = np.repeat(np.arange(rows), replies - 1) * replies + columns
        return ops.reshape(ops.embedding(flat, ids), (-1,))
    others = np.concatenate([np.delete(np.arange(replies), b) for b in best])
    return bradley_terry.bradley_terry_loss(pick(np.repeat(best, replies - 1)), pick(others))


def score_index(mask: Array, **others: Any) -> Array:
    """Where the scalar head is read: at the last real token of each row."""
    return last_token(mask).argmax(axis=1)


def per_token_preference_loss(chosen_scores: Any, rejected_scores: Any, chosen_tokens: Array,
                              rejected_tokens: Array, chosen_mask: Array,
                              rejected_mask: Array) -> Any:
    """Of scores at every token, those at the last real tokens are compared."""
    def last(scores: Any, mask: Array) -> Any:
        return ops.sum(ops.where(last_token(mask), scores, 0), axis=1)
    return bradley_terry.bradley_terry_loss(last(chosen_scores, chosen_mask),
                                            last(rejected_scores, rejected_mask))


# --- reinforcement learning ----------------------------------------------------------------------

def entropy(logits: Any, mask: Array, temperature: float | None = None,
            count: int | None = None) -> Any:
    """The stages divide by the temperature of sampling before they ask."""
    tempered = logits if temperature is None else logits / temperature
    return clipped_surrogate.entropy(tempered, mask, count)


def kl_loss(logprobs: Any, old_logprobs: Array, ref_logprobs: Array, mask: Array,
            count: int | None = None, estimator: str = "k3") -> Any:
    """The mean of an estimate, as a term of a loss; who sampled (old_logprobs) is not asked."""
    estimate = kl_estimate(ops.where(mask, logprobs, 0), np.where(mask, ref_logprobs, 0), estimator)
    return ops.masked_mean(estimate, mask, count)


def kl_controller(beta: float, logprobs: Array, ref_logprobs: Array, mask: Array,
                  target_kl: float, horizon: float) -> float:
    """The controller is fed the batch mean of each reply's summed k1."""
    observed = np.where(mask, logprobs - ref_logprobs, 0).sum(axis=1).mean()
    return adaptive_beta(beta, observed, target_kl, horizon, len(mask))


def whiten(x: Array, mask: Array, shift_mean: bool, minibatches: Array | None = None) -> Array:
    """Over the whole rollout, however it is cut into minibatches."""
    return whiten_rollout(x, mask, shift_mean)


def group_advantages(scores: Array, group_size: int, deviation: str = "group-sample") -> Array:
    if deviation not in ("group-sample", "none"):
        raise ValueError(f"divides by the group's sample deviation, or by none; got {deviation!r}")
    return group_advantage.group_advantages(scores, group_size, normalize=deviation != "none")


def adamw_step(params: Array, grads: Array, lr: float, beta1: float, beta2: float, eps: float,
               weight_decay: float) -> Array:
    """The parameters (P,) after each of S steps, whose gradients are (S, P)."""
    params = params.copy()                                       # which is updated in place
    state, after = optimizer.adamw_state(params), []
    for dp in grads:
        params, state = optimizer.adamw_step(params, dp, state, lr=lr, beta1=beta1, beta2=beta2,
                                             eps=eps, weight_decay=weight_decay)
        after.append(params.copy())
    return np.stack(after)

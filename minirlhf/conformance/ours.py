"""This package as an adapter: `minirlhf verify minirlhf`.

Most functions stand here under their own names.  A few vector files are about a step of training
that the package makes out of several functions; these are put together below as the stages do it.
"""

import numpy as np

from minirlhf import clipped_surrogate, ops, sft
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss
from minirlhf.gae import gae
from minirlhf.gae import whiten as whiten_rollout
from minirlhf.kl_penalty import adaptive_beta, exact_kl, kl_estimate, penalized_rewards
from minirlhf.tokens import token_logprobs

__all__ = [
    "adaptive_beta", "aggregate_loss", "clipped_surrogate_loss", "clipped_value_loss", "entropy",
    "exact_kl", "gae", "kl_controller", "kl_estimate", "kl_loss", "penalized_rewards", "sft_loss",
    "token_logprobs", "whiten"]

framework = "minirlhf"


def aggregate_loss(losses, mask, micro_batches=None, length=None):
    """Micro-batch means over the step's count, added up.  `length` is for those who divide by it.

    losses, mask: (B, R).
    """
    count = int(mask.sum())
    ends = np.cumsum([len(mask)] if micro_batches is None else micro_batches)
    return sum(ops.masked_mean(ops.index(losses, slice(int(start), int(end))), mask[start:end],
                               count)
               for start, end in zip([0, *ends], ends, strict=False))


def sft_loss(logprobs, mask, count=None, micro_batches=None):
    """The loss of the whole step, of one micro-batch or several."""
    if micro_batches is None:
        return sft.sft_loss(logprobs, mask, count)
    return aggregate_loss(-logprobs, mask, micro_batches)


def entropy(logits, mask, temperature=None, count=None):
    """The stages divide by the temperature of sampling before they ask."""
    tempered = logits if temperature is None else logits / temperature
    return clipped_surrogate.entropy(tempered, mask, count)


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3"):
    """The mean of an estimate, as a term of a loss; who sampled (old_logprobs) is not asked."""
    estimate = kl_estimate(ops.where(mask, logprobs, 0), np.where(mask, ref_logprobs, 0), estimator)
    return ops.masked_mean(estimate, mask, count)


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    """The controller is fed the batch mean of each reply's summed k1."""
    observed = np.where(mask, logprobs - ref_logprobs, 0).sum(axis=1).mean()
    return adaptive_beta(beta, observed, target_kl, horizon, len(mask))


def whiten(x, mask, shift_mean, minibatches=None):
    """Over the whole rollout, however it is cut into minibatches."""
    return whiten_rollout(x, mask, shift_mean)

"""Supervised fine-tuning: which tokens are learnt, at what price, averaged over what."""

from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.autograd import value
from minirlhf.conformance.variants.aggregation import (
    as_one_batch,
    mean_of_micro_batches,
    token_mean,
)
from minirlhf.ops import exp, where

# --- sft.loss: log-probs -> the loss of each token -----------------------------------------------

def nll(logprobs: Any) -> Any:
    """−log p.  Everyone's default."""
    return -logprobs


def dft(logprobs: Any) -> Any:
    """−p·log p with p held constant: improbable tokens teach less.  An option of TRL."""
    return -value(exp(logprobs)) * logprobs


# --- sft.mask: (tokens (B, T), mask, prompt lengths, pad id) -> which count, (B, T) --------------

def completion(tokens: Array, mask: Array, prompt_lengths: Array, pad_id: int) -> Array:
    """The real tokens of the response.  OpenRLHF, TRL on data with prompts and completions."""
    place = array_module(mask).cumsum(mask, axis=1) - 1
    return mask & (place >= prompt_lengths[:, None])


def real(tokens: Array, mask: Array, prompt_lengths: Array, pad_id: int) -> Array:
    """All real tokens, the prompt's too.  DeepSpeed-Chat."""
    return mask


def nonpad(tokens: Array, mask: Array, prompt_lengths: Array, pad_id: int) -> Array:
    """All tokens whose id is not the pad's: with pad = eos no end is learnt.  trlx, the
    reproduction of summarize-from-feedback."""
    return tokens != pad_id


ANSWERS: dict[str, dict[Any, Any]] = {
    "sft.reduce": {"step-token-mean": as_one_batch, "micro-token-mean": mean_of_micro_batches},
    "sft.loss": {"nll": nll, "dft": dft},
    "sft.mask": {"completion": completion, "real": real, "nonpad": nonpad},
}


def sft_loss(logprobs: Any, mask: Array, count: int | None = None,
             micro_batches: Array | None = None, *, answers: dict) -> Any:
    """The mean surprise at demonstrated tokens."""
    losses = answers["sft.loss"](where(mask, logprobs, 0))
    return answers["sft.reduce"](token_mean, losses, mask, micro_batches, count)


def sft_mask(tokens: Array, mask: Array, prompt_lengths: Array, pad_id: int, *,
             answers: dict) -> Array:
    """Which next tokens count, (B, T−1): the first has no log-probability."""
    return answers["sft.mask"](tokens, mask, prompt_lengths, pad_id)[:, 1:]


FORMULAS = {"sft_loss": sft_loss, "sft_mask": sft_mask}

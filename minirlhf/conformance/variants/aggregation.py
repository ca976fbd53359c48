"""From token losses to one number: means within replies, over them, over micro-batches.

For replies of one length most of them agree; the longer the replies differ, the more they part.
An aggregation takes (losses (B, R), mask (B, R), count, length) and returns (); `count` is the
number of tokens of the whole optimizer step, `length` a constant.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.autograd import value
from minirlhf.conformance.variants.kl import all_slots
from minirlhf.ops import index, masked_mean, sum, where

# --- agg -----------------------------------------------------------------------------------------


def token_mean(losses: Any, mask: Array, count: int | None = None, length: int | None = None):
    """Σ_mask l/n.  TRL's PPO, OpenRLHF, verl, and TRL's GRPO as DAPO."""
    return masked_mean(losses, mask, count)


def all_slots_mean(losses: Any, mask: Array, count: int | None = None, length: int | None = None):
    """Σ l/(B·R), masked slots too.  lm-human-preferences."""
    return masked_mean(losses, all_slots(mask), count)


def row_sums(losses: Any, mask: Array) -> Any:
    """Σ_t l of each row, (B,)"""
    return sum(where(mask, losses, 0), axis=1)


def row_means(losses: Any, mask: Array) -> Any:
    """(1/n_i) Σ_t l of each row, (B,); 0 of an empty one."""
    n = array_module(mask).maximum(mask.sum(axis=1), 1).astype(value(losses).dtype)
    return row_sums(losses, mask) / n


def seq_mean_token_mean(losses: Any, mask: Array, count: int | None = None,
                        length: int | None = None):
    """mean_i (1/n_i) Σ_t l, empty rows left out.  verl and OpenRLHF, by name."""
    return masked_mean(row_means(losses, mask), mask.any(axis=1))


def seq_mean_all_rows(losses: Any, mask: Array, count: int | None = None,
                      length: int | None = None):
    """mean_i (1/n_i) Σ_t l, an empty row as one of mean 0.  TRL's GRPO in its published form."""
    return sum(row_means(losses, mask)) / float(len(mask))


def seq_mean_token_sum(losses: Any, mask: Array, count: int | None = None,
                       length: int | None = None):
    """mean_i Σ_t l, empty rows left out.  verl, by name."""
    return masked_mean(row_sums(losses, mask), mask.any(axis=1))


def sum_over_rows_and_width(losses: Any, mask: Array, count: int | None = None,
                            length: int | None = None):
    """Σ l/(B·L), L a constant length.  TRL's Dr. GRPO; verl of 2026-08, by name."""
    return sum(row_sums(losses, mask)) / float(mask.shape[0] * (length or mask.shape[1]))


def sum_over_width(losses: Any, mask: Array, count: int | None = None, length: int | None = None):
    """Σ l/L, not divided by rows.  verl of 2026-01, by name."""
    return sum(row_sums(losses, mask)) / float(length or mask.shape[1])


# --- agg.micro: (aggregation, losses, mask, micro-batches, count, length) ------------------------

def as_one_batch(aggregate: Callable, losses: Any, mask: Array, micro_batches: Array | None,
                 count: int | None = None, length: int | None = None):
    """Counts are those of the whole step, so that a cut changes nothing.  OpenRLHF, TRL's DAPO."""
    return aggregate(losses, mask, count, length)


def mean_of_micro_batches(aggregate: Callable, losses: Any, mask: Array,
                          micro_batches: Array | None, count: int | None = None,
                          length: int | None = None):
    """Each micro-batch by its own counts, then their mean.  TRL's PPO, trlx, DeepSpeed-Chat."""
    if micro_batches is None:
        return aggregate(losses, mask, count, length)
    ends, total = np.cumsum(micro_batches).tolist(), 0.0
    for end, size in zip(ends, np.asarray(micro_batches).tolist(), strict=True):
        rows = slice(end - size, end)
        total = total + aggregate(index(losses, rows), mask[rows], None, length)
    return total / float(len(ends))


ANSWERS: dict[str, dict[Any, Any]] = {
    "agg": {"token-mean": token_mean, "all-slots-mean": all_slots_mean,
            "seq-mean-token-mean": seq_mean_token_mean,
            "seq-mean-token-mean-all-rows": seq_mean_all_rows,
            "seq-mean-token-sum": seq_mean_token_sum,
            "token-sum-over-rows-and-width": sum_over_rows_and_width,
            "token-sum-over-width": sum_over_width},
    "agg.micro": {"step": as_one_batch, "mean": mean_of_micro_batches},
}


def aggregate_loss(losses: Any, mask: Array, micro_batches: Array | None = None,
                   length: int | None = None, *, answers: dict) -> Any:
    """The loss of an optimizer step."""
    return answers["agg.micro"](answers["agg"], losses, mask, micro_batches, None, length)


FORMULAS = {"aggregate_loss": aggregate_loss}

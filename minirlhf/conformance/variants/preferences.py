"""DPO and IPO: labels that may be wrong, and what the log-probability of a reply is."""

from functools import partial
from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.dpo import dpo_loss
from minirlhf.ops import masked_mean, sum, where

WRONG = 0.1                                   # how often a label is, where smoothing believes so

# --- dpo.smoothing: (chosen, rejected, references, β, count) -> the loss -------------------------


def smoothed(*sides: Any, beta: float, count: int | None, label: float, opposite: float) -> Any:
    """label·L + opposite·L′, L′ the loss of the opposite label."""
    chosen, rejected, ref_chosen, ref_rejected = sides
    other = dpo_loss(rejected, chosen, ref_rejected, ref_chosen, beta, count)
    return label * dpo_loss(*sides, beta, count) + opposite * other


def trusted(*sides: Any, beta: float, count: int | None) -> Any:
    """−log σ(β·h).  The paper; TRL's and OpenRLHF's default."""
    return dpo_loss(*sides, beta, count)


# 0.9·L + 0.1·L′: conservative DPO, an option of OpenRLHF and DeepSpeed-Chat.
cdpo = partial(smoothed, label=1 - WRONG, opposite=WRONG)
# (0.9·L − 0.1·L′)/0.8: unbiased where labels are wrong that often.  An option of TRL.
robust = partial(smoothed, label=(1 - WRONG) / (1 - 2 * WRONG), opposite=-WRONG / (1 - 2 * WRONG))

# --- ipo.len: (log-probs (N, R), mask) -> of each reply (N,) -------------------------------------


def summed(logprobs: Any, mask: Array) -> Any:
    """Σ_t log p: the probability of the reply.  OpenRLHF."""
    return sum(where(mask, logprobs, 0), axis=1)


def averaged(logprobs: Any, mask: Array) -> Any:
    """(1/n) Σ_t log p.  TRL, after talking to the authors."""
    return summed(logprobs, mask) / mask.sum(axis=1).astype(logprobs.dtype)


ANSWERS: dict[str, dict[Any, Any]] = {
    "dpo.smoothing": {"none": trusted, "cdpo": cdpo, "robust": robust},
    "ipo.len": {"sum": summed, "mean": averaged},
}


def dpo(chosen: Any, rejected: Any, ref_chosen: Array, ref_rejected: Array, beta: float = 0.1,
        count: int | None = None, *, answers: dict) -> Any:
    """The loss of the policy's own implicit reward."""
    return answers["dpo.smoothing"](chosen, rejected, ref_chosen, ref_rejected, beta=beta,
                                    count=count)


def ipo(chosen: Any, rejected: Any, ref_chosen: Array, ref_rejected: Array, chosen_mask: Array,
        rejected_mask: Array, beta: float = 0.1, *, answers: dict) -> Any:
    """The mean of (h − 1/(2β))²."""
    of_reply = answers["ipo.len"]
    h = (of_reply(chosen, chosen_mask) - of_reply(ref_chosen, chosen_mask)
         - of_reply(rejected, rejected_mask) + of_reply(ref_rejected, rejected_mask))
    every_pair = array_module(chosen_mask).ones(len(chosen_mask), dtype=bool)
    return masked_mean((h - 1 / (2 * beta)) ** 2, every_pair)


FORMULAS = {"dpo_loss": dpo, "ipo_loss": ipo}

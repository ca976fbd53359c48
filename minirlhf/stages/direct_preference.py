"""The road without reinforcement learning: DPO (Rafailov et al. 2023) on the same comparisons.

Stage 2 and stage 3 in one: the policy is its own reward model, β·log(π/π_ref), and learns from the
very pairs that the reward model learns from.  Nothing is sampled while it trains, and there are two
models in memory, the policy and the frozen reference.  A reader who knows it asks what the rest is
for; `minirlhf run --baselines dpo` puts the two side by side.

As in `reward_model.py`, all pairs of a prompt go into one step, and each prompt counts once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.dpo import dpo_loss
from minirlhf.ops import embedding, reshape, sum, where
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.parameters import Parameters
from minirlhf.stages.reward_model import Group, collate
from minirlhf.stages.training import Stage, batches, require_positive, shards_of, update
from minirlhf.tokens import PAD, token_logprobs
from minirlhf.transformer import ModelConfig, logits


@dataclass(frozen=True)
class DPOConfig:
    """How DPO trains the SFT model on comparisons."""

    steps: int = 200
    """optimizer steps"""
    batch_size: int = 32
    """prompts a step, each with all its pairs"""
    beta: float = 1.0
    """how strongly the policy is held to the SFT model: its reward is β·log(π/π_ref); 0.1, usual
    for large models, takes the toy 20 nats away from it: docs/beyond_ppo.md"""
    lr: float = 3e-4
    """peak learning rate, then a cosine down to a tenth"""
    warmup: int = 20
    """steps over which the learning rate rises from 0"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "beta", "lr", "max_grad_norm")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")


def reply_logprobs(params, model: ModelConfig, tokens: Array, mask: Array, response_mask: Array):
    """log π of each whole reply: the sum over its tokens.  tokens and masks (N, T) -> (N,)

    The prompt's are not counted (both replies of a pair follow the same one, so that in the loss
    they would cancel).  Taken at temperature 1, at whichever the replies were sampled.
    """
    logprobs = token_logprobs(logits(params, model, tokens, mask), tokens)            # (N, T−1)
    return sum(where(response_mask[:, 1:], logprobs, 0), axis=-1)


def preference_loss(params, model: ModelConfig, tokens: Array, mask: Array, response_mask: Array,
                    ref_logprobs: Array, pairs_by_size: dict[int, Array], prompts: int,
                    beta: float):
    """DPO's loss over all pairs, each prompt counting once; arguments as `comparison_loss`'s.

    ref_logprobs (N,): log π_ref of the replies.
    """
    logprobs = reshape(reply_logprobs(params, model, tokens, mask, response_mask), (-1, 1))
    total = 0.0
    for n, pairs in pairs_by_size.items():
        chosen, rejected = (reshape(embedding(logprobs, pairs[:, side]), (-1,)) for side in (0, 1))
        total = total + dpo_loss(chosen, rejected, ref_logprobs[pairs[:, 0]],
                                 ref_logprobs[pairs[:, 1]], beta, count=n * prompts)
    return total


def collate_responses(groups: Sequence[Group], pad_id: int | None = PAD) -> tuple:
    """As `collate`, with a response_mask (N, T) after the mask."""
    tokens, mask, pairs = collate(groups, pad_id)
    begins = np.concatenate([[group.prompt_length] * len(group.rows) for group in groups])
    return tokens, mask, mask & (np.arange(tokens.shape[1]) >= begins[:, None]), pairs


def train(params: Parameters, reference: Parameters, model: ModelConfig, groups: Sequence[Group],
          config: DPOConfig, *, seed: int, state: dict | None = None,
          shards: int = 1) -> Iterator[dict]:
    """Train `params` in place, held to `reference`; yields {loss, grad_norm, lr} a step.

    state: AdamW's, to go on from its step; by default a fresh one.  shards: the parts in which a
    step is computed.
    Raises ValueError if there is no comparison.
    """
    if not groups:
        raise ValueError("DPO wants at least one comparison, got none")
    xp = array_module(params.flat)
    state = adamw_state(params) if state is None else state
    order = batches(len(groups), config.batch_size, seed=seed, stage=Stage.DPO)
    start = state["step"]

    def loss_of(params, tokens, mask, response_mask, pairs, prompts):
        """`preference_loss` of a part, with what the reference says of its replies."""
        arrays = tokens, mask, response_mask
        return preference_loss(params, model, *arrays, reply_logprobs(reference, model, *arrays),
                               pairs, prompts, config.beta)

    for step, rows in enumerate(islice(order, start, config.steps), start):
        parts = [collate_responses([groups[i] for i in rows[part]], model.pad_id)
                 for part in shards_of([groups[i].tokens for i in rows], shards)]
        lr = cosine_schedule(step, config.steps, config.lr, config.warmup)
        loss, norm = update(loss_of, params, state, lr, config.max_grad_norm, [
            (*map(xp.asarray, arrays), {n: xp.asarray(p) for n, p in pairs.items()}, len(rows))
            for *arrays, pairs in parts])
        yield {"loss": loss, "grad_norm": norm, "lr": lr}

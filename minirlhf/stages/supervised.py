"""Stage 1, supervised fine-tuning: imitate demonstrations.

The article: "We show the model many examples of "this is a good question, and this is a good
answer", and we train it to imitate that style."  The loss counts response tokens only: the model
learns to answer prompts, not to write them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from minirlhf.arrays import array_module
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.parameters import Parameters
from minirlhf.sft import sft_loss
from minirlhf.stages.training import Stage, batches, require_positive, shards_of, update
from minirlhf.tokens import PAD, Tokenizer, pad_right, token_logprobs
from minirlhf.transformer import ModelConfig, logits


@dataclass(frozen=True)
class SFTConfig:
    """How the base model becomes the SFT model."""

    steps: int = 220
    """optimizer steps"""
    batch_size: int = 32
    """demonstrations a step"""
    lr: float = 1e-3
    """peak learning rate, then a cosine down to a tenth"""
    warmup: int = 20
    """steps over which the learning rate rises from 0"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "lr", "max_grad_norm")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")


def encode_demonstrations(rows: Sequence[dict], tokenizer: Tokenizer) -> list[tuple]:
    """{"prompt", "response"} rows -> (prompt ids, response ids) pairs."""
    return [(tokenizer.prompt(row["prompt"]), tokenizer.response(row["response"]))
            for row in rows]


def demonstration_loss(params, model: ModelConfig, tokens, mask, response_mask, count: int):
    """Mean −log p of the response tokens.  tokens, mask, response_mask (B, T).

    The loss mask is the response mask without its first column, since log-probs begin at the
    second token.
    """
    logprobs = token_logprobs(logits(params, model, tokens, mask), tokens)            # (B, T−1)
    return sft_loss(logprobs, response_mask[:, 1:], count)


def collate(demonstrations: Sequence[tuple],
            pad_id: int | None = PAD) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(prompt ids, response ids) pairs -> tokens, mask, response_mask (B, T)."""
    tokens, mask = pad_right([prompt + response for prompt, response in demonstrations], pad_id)
    prompt_lengths = np.array([[len(prompt)] for prompt, _ in demonstrations])
    return tokens, mask, mask & (np.arange(tokens.shape[1]) >= prompt_lengths)


def train(params: Parameters, model: ModelConfig, demonstrations: Sequence[tuple],
          config: SFTConfig, *, seed: int, state: dict | None = None,
          shards: int = 1) -> Iterator[dict]:
    """Train `params` in place on (prompt ids, response ids); yields {loss, grad_norm, lr} a step.

    state: AdamW's, to go on from its step; by default a fresh one.  shards: the parts in which a
    step is computed.
    Raises ValueError if there is no demonstration.
    """
    if not demonstrations:
        raise ValueError("supervised fine-tuning wants at least one demonstration, got none")
    xp = array_module(params.flat)
    state = adamw_state(params) if state is None else state
    order = batches(len(demonstrations), config.batch_size, seed=seed, stage=Stage.SFT)
    start = state["step"]
    for step, rows in enumerate(islice(order, start, config.steps), start):
        count = sum(len(demonstrations[i][1]) for i in rows)
        lengths = [sum(map(len, demonstrations[i])) for i in rows]
        parts = [collate([demonstrations[i] for i in rows[part]], model.pad_id)
                 for part in shards_of(lengths, shards)]
        lr = cosine_schedule(step, config.steps, config.lr, config.warmup)
        loss, norm = update(demonstration_loss, params, state, lr, config.max_grad_norm,
                            [(model, *map(xp.asarray, part), count) for part in parts])
        yield {"loss": loss, "grad_norm": norm, "lr": lr}

"""The base model: predict the next token of a corpus.

The article: "A pre-trained LLM is trained to predict the next token (a token is a small chunk of
text, i.e. a word or a part of a word) from a huge amount of internet text."  Here the corpus is a
stream of token ids; a step takes random windows of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minirlhf.arrays import array_module
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.parameters import Parameters
from minirlhf.sft import sft_loss
from minirlhf.stages.training import Stage, require_positive, step_rng, update
from minirlhf.tokens import Tokenizer, token_logprobs
from minirlhf.transformer import ModelConfig, logits


@dataclass(frozen=True)
class PretrainingConfig:
    """How the base model is trained."""

    steps: int = 5000
    """optimizer steps"""
    batch_size: int = 32
    """windows a step"""
    window: int = 48
    """tokens a window"""
    lr: float = 3e-3
    """peak learning rate, reached after the warm-up, then a cosine down to a tenth"""
    warmup: int = 100
    """steps over which the learning rate rises from 0"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "lr", "max_grad_norm")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")
        if self.window < 2:
            raise ValueError(f"window must be at least 2, got {self.window}: the first token of a "
                             "window has nothing before it to be predicted from")


def token_stream(documents: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """All documents as one stream of ids, with <eos> after each."""
    return np.array([i for text in documents for i in (*tokenizer.encode(text), tokenizer.eos_id)])


def next_token_loss(params, model: ModelConfig, tokens, count: int | None = None):
    """Mean −log p of every token but the first of each row; nothing is masked.

    count: the tokens of the whole step, of which these may be a part.
    """
    logprobs = token_logprobs(logits(params, model, tokens), tokens)
    everything = array_module(tokens).ones(logprobs.shape, dtype=bool)
    return sft_loss(logprobs, everything, everything.size if count is None else count)


def train(params: Parameters, model: ModelConfig, stream: np.ndarray, config: PretrainingConfig,
          *, seed: int, state: dict | None = None, shards: int = 1) -> Iterator[dict]:
    """Train `params` in place; yields {loss, grad_norm, lr} a step.

    state: AdamW's, to go on from its step; by default a fresh one.  shards: the parts in which a
    step is computed.
    Raises ValueError if the stream is shorter than a window.
    """
    if len(stream) < config.window:
        raise ValueError(f"the corpus has {len(stream)} tokens, a window takes "
                         f"{config.window}; give more text or a smaller window")
    xp = array_module(params.flat)
    state = adamw_state(params) if state is None else state
    count = config.batch_size * (config.window - 1)
    for step in range(state["step"], config.steps):
        starts = step_rng(seed, Stage.PRETRAIN, step).integers(
            len(stream) - config.window + 1, size=config.batch_size)
        windows = [stream[part[:, None] + np.arange(config.window)]
                   for part in np.array_split(starts, shards) if len(part)]
        lr = cosine_schedule(step, config.steps, config.lr, config.warmup)
        loss, norm = update(next_token_loss, params, state, lr, config.max_grad_norm,
                            [(model, xp.asarray(tokens), count) for tokens in windows])
        yield {"loss": loss, "grad_norm": norm, "lr": lr}

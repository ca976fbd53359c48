"""What is measured: sizes, the same input for every contender, and how many FLOPs it takes.

A task is a dict that JSON can hold, sent to each contender: the folder of the model's weights, the
sizes of the batch, and a seed from which everybody draws the same tokens.
"""

from dataclasses import asdict, dataclass

import numpy as np

PROMPT, ROLLOUT_NEW, PPO_NEW = 8, 32, 24                 # tokens a row
PPO_ROWS, PPO_EPOCHS, PPO_MINIBATCHES = 128, 2, 8        # 16 updates of each model an iteration
LR, MAX_GRAD_NORM = 1e-5, 1.0
CLIP, GAMMA, LAM, BETA = 0.2, 1.0, 0.95, 0.2


@dataclass(frozen=True)
class Size:
    """A GPT-2 and the batch that it is trained on: B rows of T tokens."""

    layers: int
    channels: int
    heads: int
    tokens: int
    batch: int
    vocab: int

    @property
    def context(self) -> int:
        """Room for the batch, and for a prompt with its reply."""
        return max(self.tokens, PROMPT + ROLLOUT_NEW)

    def task(self, work: str, **more) -> dict:
        """This size as a task; `more` may replace its numbers."""
        return {"work": work, "seed": 0, **asdict(self), **more}


SIZES = {"tiny": Size(2, 64, 4, 32, 32, 64), "small": Size(4, 128, 4, 64, 32, 256),
         "medium": Size(6, 384, 6, 128, 16, 1024)}
MINUTE = Size(1, 8, 2, 12, 4, 16)                        # of --quick


def batch(task: dict) -> np.ndarray:
    """The rows that a training step sees.  -> (B, T) int64"""
    rng = np.random.default_rng([task["seed"], 0])
    return rng.integers(task["vocab"], size=(task["batch"], task["tokens"]))


def prompts(task: dict) -> np.ndarray:
    """The prompts of a rollout.  -> (B, PROMPT) int64"""
    rng = np.random.default_rng([task["seed"], 1])
    return rng.integers(task["vocab"], size=(task["batch"], PROMPT))


def step_flops(size: Size) -> int:
    """Floating-point operations of a training step, those of its matrix products alone.

    A product of (m, k) and (k, n) takes 2mnk.  A token takes, in each layer, C × 3C for queries,
    keys and values, C × C after attention, C × 4C and 4C × C in the mlp, and C × T twice in
    attention, counted as if every token saw the whole row; and C × V at the end.  The backward
    pass computes two products for each of the forward pass, the gradients of both its factors.
    """
    C, N = size.channels, size.batch * size.tokens
    layer = 2 * N * (12 * C * C + 2 * C * size.tokens)
    return 3 * (size.layers * layer + 2 * N * C * size.vocab)

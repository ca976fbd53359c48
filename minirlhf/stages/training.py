"""What all stages share: one optimizer step, and one random generator for each step."""

from collections.abc import Callable, Iterator
from enum import IntEnum

import numpy as np

from minirlhf.arrays import Array
from minirlhf.autograd import value_and_grad
from minirlhf.optimizer import adamw_step, clip_by_global_norm
from minirlhf.parameters import Parameters


class Stage(IntEnum):
    """Numbers that keep the random streams of the stages apart."""

    (INITIALIZE, DATA, PRETRAIN, SFT, PREFERENCES, REWARD_MODEL, NORMALIZE, PPO, EVALUATE,
     LABEL, CHAT, GROUP_RELATIVE, DPO, WATCH) = range(14)


def step_rng(seed: int, stage: Stage, step: int = 0, round: int = 0) -> np.random.Generator:
    """The generator of one step of one stage, in one round of RLHF, the first being 0.

    NumPy mixes [a, b, c, 0] as it mixes [a, b, c] (seeds below 2³²): the first round of many is a
    run of one.
    """
    return np.random.default_rng([seed, int(stage), step, round])


def update(loss: Callable, params: Parameters, state: dict, lr: float, max_grad_norm: float,
           *args) -> tuple[Array, Array]:
    """One optimizer step on loss(params, *args), in place.  Returns the loss and gradient norm.

    A step θ ← θ − η·∇L, refined by AdamW (optimizer.py), without weight decay: the models
    are small and briefly trained.
    """
    value, grads = value_and_grad(loss)(params, *args)
    grads, norm = clip_by_global_norm(grads, max_grad_norm)
    adamw_step(params, grads, state, lr, weight_decay=0.0)
    return value, norm


def batches(size: int, batch_size: int, *, seed: int, stage: Stage,
            round: int = 0) -> Iterator[np.ndarray]:
    """Endless minibatches of row numbers: pass after pass over the data, each in a new order.

    Every row is seen once a pass; the last batch of a pass may be smaller.
    """
    epoch = 0
    while True:
        order = step_rng(seed, stage, epoch, round).permutation(size)
        yield from (order[i:i + batch_size] for i in range(0, size, batch_size))
        epoch += 1


def require_positive(config, *names: str) -> None:
    """Raise ValueError naming the first setting that is not above 0 and finite."""
    for name in names:
        number = getattr(config, name)
        if not number > 0 or number == float("inf"):
            raise ValueError(f"{type(config).__name__}.{name} must be "
                             f"{'finite' if number > 0 else 'positive'}, got {number}")

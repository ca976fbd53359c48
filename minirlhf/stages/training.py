"""What all stages share: one optimizer step, and one random generator for each step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import IntEnum

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.autograd import value_and_grad
from minirlhf.dealing import same_everywhere
from minirlhf.host import in_parallel
from minirlhf.optimizer import adamw_step, clip_by_global_norm
from minirlhf.parallel import ranks
from minirlhf.parameters import Parameters, buffers, zeros_like

CHECKED_EVERY = 50              # optimizer steps after which ranks compare their parameters


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


def shards_of(lengths: Sequence[int], shards: int) -> list[np.ndarray]:
    """The row numbers of a batch in at most `shards` parts of about the same work.

    lengths: the tokens of each row.  Rows of like lengths stand together, the longest first, so
    that a part padded to its own longest row has few pads; the cuts are where the tokens so far
    reach equal shares of all.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    so_far = np.cumsum(np.asarray(lengths)[order])
    cuts = np.searchsorted(so_far, so_far[-1] * np.arange(1, shards) / shards) + 1
    return [part for part in np.split(order, cuts) if len(part)]


def loss_and_gradient(loss: Callable, params: Parameters,
                      parts: Sequence[tuple]) -> tuple[Array, Parameters]:
    """Σ loss(params, *part) over the parts of a batch, and its gradient.

    Each part is computed on a core of its own, if there are so many (host.py).  The sums are taken
    in the order of the parts: how many there are decides their last bits, the cores do not.

    Of several ranks each computes the parts whose turn is its own, and gets the sum of all ranks'.
    """
    if not parts:
        raise ValueError("a step wants at least one part of a batch, got none")
    here = ranks()
    differentiate = value_and_grad(loss)
    done = in_parallel(lambda part: differentiate(params, *part), parts[here.rank::here.size],
                       params.flat)
    value, grads = next(done) if here.rank < len(parts) else (0.0, zeros_like(params))
    for more, more_grads in done:
        value = value + more
        for g, more_g in buffers(grads, more_grads):
            g += more_g
    return (value, grads) if here.size == 1 else summed(value, grads)


def summed(value: Array, grads: Parameters) -> tuple[Array, Parameters]:
    """Σ over the ranks of their losses, and of their gradients in place, each as one vector."""
    total = array_module(grads.flat).asarray(value, grads.flat.dtype).reshape(1)
    ranks().all_sum(grads.flat)
    ranks().all_sum(total)
    return total[0], grads


def contents(x) -> Iterator[bytes]:
    """The bits of whatever a batch holds: arrays and numbers, in tuples, dicts and dataclasses."""
    if is_dataclass(x):
        x = [getattr(x, field.name) for field in fields(x)]
    elif isinstance(x, dict):
        x = [*x, *x.values()]
    if isinstance(x, list | tuple):
        for one in x:
            yield from contents(one)
    else:
        yield to_host(x).tobytes() if hasattr(x, "dtype") else repr(x).encode()


def update(loss: Callable, params: Parameters, state: dict, lr: float, max_grad_norm: float,
           parts: Sequence[tuple]) -> tuple[Array, Array]:
    """One optimizer step on Σ loss(params, *part), in place.  Returns the loss and gradient norm.

    A step θ ← θ − η·∇L, refined by AdamW (optimizer.py), without weight decay: the models
    are small and briefly trained.  Every rank takes the same step; now and then they make sure that
    it starts from the same parameters and batch, and raise RuntimeError if not.
    """
    if ranks().size > 1 and state["step"] % CHECKED_EVERY == 0:
        same_everywhere("the parameters", params.flat)
        same_everywhere("the batch", np.frombuffer(b"".join(contents(parts)), np.uint8))
    value, grads = loss_and_gradient(loss, params, parts)
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

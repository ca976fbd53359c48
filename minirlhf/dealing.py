"""Dealing work out to the ranks, and putting together what they found (parallel.py).

    dealt              rows of arrays: every rank computes its share, all get the whole
    rows_together      rows of JSON, rank after rank
    by_the_first       what only one of them may do, such as writing a file
    first_says         what only one of them may find out
    wait               until all have come so far
    same_everywhere    the proof that ranks have not come apart

All of it rests on one sum: rows of zeros, but for one's own, add up to the rows of all.  What is
summed are their bits as unsigned integers, so that none is lost, not even the sign of −0.  Random
numbers are drawn for the whole batch by every rank, which then takes those of its own rows: none
depends on who computes.

**Rounding.**  BLAS may round a row's products otherwise among fewer rows, and sums of parts depend
on their order.  So several ranks agree with one process to rounding, which grows as they train: in
float64 to 1e-10 (of numbers above 1, relative) over the 40 steps that the tests take, in float32 to
1e-5 over their few steps, and after 2000 of pretraining a model of 8 channels 2 ranks were 5e-5
from one.  Not so the biases of keys: nothing depends on these, their true gradient is 0, and AdamW
makes steps of what rounding leaves of it.  A token whose random number falls within rounding of the
border to its neighbour may become the other; from there on the runs are two.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.parallel import alone, ranks


def dealt(compute: Callable[[slice], Sequence[Array]], n: int) -> Sequence[Array]:
    """compute(slice(0, n)), each rank computing some of the rows: arrays (n, …), the same on all.

    compute(rows) gives arrays of as many rows, and what it gives for a row must not depend on the
    others, but for rounding.  A rank that has none, being one of more than n, computes one for its
    shape.
    """
    here = ranks()
    if here.size == 1:
        return compute(slice(0, n))
    start, stop = (n * rank // here.size for rank in (here.rank, here.rank + 1))
    return [in_place(own[:stop - start], start, n)
            for own in compute(slice(start, max(stop, start + 1)))]


def in_place(own: Array, start: int, n: int) -> Array:
    """The ranks' rows of one array (n, …); this rank's are to stand from `start` on."""
    xp = array_module(own)
    whole = xp.zeros((n, *own.shape[1:]), own.dtype)
    whole[start:start + len(own)] = own
    ranks().all_sum(whole.view(f"u{own.dtype.itemsize}"))
    return whole


def rows_together(rows: list) -> list:
    """The rows of all ranks, rank after rank; rows are what JSON can hold."""
    here = ranks()
    if here.size == 1:
        return rows
    text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    lengths = np.zeros(here.size, int)
    lengths[here.rank] = len(text)
    here.all_sum(lengths)
    ends = np.cumsum(lengths)
    everything = in_place(text, int(ends[here.rank] - len(text)), int(ends[-1])).tobytes()
    return [row for end, length in zip(ends, lengths, strict=True)
            for row in json.loads(everything[end - length:end])]


def by_the_first(function: Callable[..., None]) -> Callable[..., None]:
    """The function, where the first rank calls it, alone; on the others it does nothing."""
    @wraps(function)
    def called(*args, **more) -> None:
        if ranks().rank == 0:
            with alone() if ranks().size > 1 else nullcontext():
                function(*args, **more)
    return called


def first_says(answer: bool) -> bool:
    """The first rank's answer, on every rank."""
    here = ranks()
    if here.size == 1:
        return answer
    told = np.array([int(answer and here.rank == 0)])
    here.all_sum(told)
    return bool(told[0])


def wait() -> None:
    """Nobody goes on before all ranks have come here."""
    ranks().all_sum(np.zeros(1))


def same_everywhere(what: str, buffer: Array) -> None:
    """Raise RuntimeError unless all ranks hold the same bits, by their SHA-256."""
    here = ranks()
    if here.size == 1:
        return
    digests = np.zeros((here.size, 32), np.uint8)
    digests[here.rank] = np.frombuffer(
        hashlib.sha256(np.ascontiguousarray(to_host(buffer))).digest(), np.uint8)
    here.all_sum(digests)
    others = [str(rank) for rank in range(here.size) if (digests[rank] != digests[0]).any()]
    if others:
        raise RuntimeError(f"{what}: rank {', '.join(others)} does not hold the bits of rank 0; "
                           "ranks want the same program, files and kind of machine")

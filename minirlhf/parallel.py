"""Ranks: several processes, on one machine or on many, that act as one.

    mpiexec -n 4 minirlhf run --shards 4

Every rank runs the same program, with the same global batches and the same random numbers, and
holds the same parameters, to the bit.  What is dear, passes through models, is dealt out
(dealing.py; stages/training.py for gradients); what is cheap, from rewards to the optimizer's step,
every rank computes for itself and of the *whole* batch.  So there are no local means, counts or
moments to be put together wrongly, and all that ranks say to each other at work is a sum.

A process that no MPI launcher has started is the only rank: nothing is imported, nothing costs
anything.  In which order more than two ranks are summed is MPI's choice, and decides last bits.
That all get the same bits is how MPICH sums, no promise of MPI: `same_everywhere` looks after it.

**GPUs.**  A CuPy array goes by way of the host, where a CUDA-aware MPI could take it where it lies.
Which GPU is a rank's its launcher says (CUDA_VISIBLE_DEVICES).  No GPU has shown this: only NumPy,
and a double of CuPy.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module, to_host

LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")      # told by MPICH and its kin, by Open MPI


@dataclass(frozen=True)
class Ranks:
    """The processes that act as one, as one of them sees them."""

    rank: int = 0                                    # which of them this process is, 0 … size − 1
    size: int = 1                                    # how many there are
    neighbours: int = 1                              # those that have this one's cores, it as well
    started: int = 1                                 # as `size`, but also of who works alone
    world: Any = None                                # MPI's communicator

    def all_sum(self, buffer: Array) -> None:
        """buffer ← Σ of all ranks' buffers, numbers of one shape and dtype, in place.

        All must ask for the same sums in the same order; each waits for the others."""
        if self.size > 1:
            from mpi4py import MPI
            summed = np.ascontiguousarray(to_host(buffer))
            self.world.Allreduce(MPI.IN_PLACE, summed)
            if summed is not buffer:
                buffer[...] = array_module(buffer).asarray(summed)

    def end(self, status: int) -> None:
        """End all ranks: the others would wait for this one for ever."""
        self.world.Abort(status)
        os._exit(status)                             # where Abort only asks to be ended


_ranks = Ranks()


def ranks() -> Ranks:
    """The ranks that this process is one of."""
    return _ranks


@contextmanager
def alone() -> Iterator[None]:
    """Within it this rank asks nobody: it does work that the others do not, such as files."""
    global _ranks
    together, _ranks = _ranks, replace(_ranks, size=1)
    try:
        yield
    finally:
        _ranks = together


def join() -> None:
    """Become one of the ranks that an MPI launcher has started, if one has.

    Raises RuntimeError without mpi4py, or where it uses another MPI than the launcher's."""
    global _ranks
    size = int(next((os.environ[name] for name in LAUNCHED if name in os.environ), 1))
    if size == 1 or _ranks.size > 1:
        return
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as problem:               # RuntimeError: it finds no MPI
        raise RuntimeError(f"{size} ranks want mpi4py and MPI, which pip install 'minirlhf[mpi]' "
                           f"brings ({problem})") from None
    if MPI.COMM_WORLD.size != size:
        raise RuntimeError(f"{size} ranks were started, but mpi4py's MPI sees {MPI.COMM_WORLD.size}"
                           "; start them by its own mpiexec, which may lie beside python")
    mine = getattr(os, "sched_getaffinity", lambda _: {0})(0)     # a launcher may have bound it
    cores = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED).allgather(mine)
    neighbours = sum(not mine.isdisjoint(others) for others in cores)
    _ranks = Ranks(MPI.COMM_WORLD.rank, size, neighbours, size, MPI.COMM_WORLD)

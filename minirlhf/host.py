"""The host: its memory, its cache and its cores.

On a CPU the formulas of `ops.py` are bound by how often numbers travel between the processor and
its memory, and NumPy's elementwise functions use one core.  Three remedies, none of which a formula
has to know about:

    keep_freed_memory    temporary arrays find memory that is already there
    blocks               many passes over a long vector are made a cache-full at a time
    in_parallel          the parts of a batch are computed on several cores

A part of a batch is a *shard*.  How many there are is a setting, since it decides in which order
numbers are summed; on how many cores they are computed is not, and changes no bit.

Programs call `make_ready` once when they start; importing the package changes nothing.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module

THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")   # read by OpenBLAS
BLOCK = 2**16                            # numbers: of float32 256 KiB, a few of which fit an L2


def make_ready(sharers: int = 1) -> None:
    """Keep freed memory, and give every core a worker of its own.

    sharers: processes among which the cores are shared; how many threads each is to have may also
    have been said, OPENBLAS_NUM_THREADS=2.  For a program that trains.  It holds for all of the
    process, where other users of NumPy then find its products on one core.
    """
    keep_freed_memory()
    use_cores(1 if any(name in os.environ for name in THREADS) else sharers)


# --- memory --------------------------------------------------------------------------------------

def keep_freed_memory() -> None:
    """Tell the C library to keep the memory this process frees (glibc only; else nothing).

    By default glibc hands every large temporary array back to the kernel, which then clears its
    pages again for the next one: thousands of page faults in each training step.  Here it takes
    nothing from the kernel but by growing its heap, and gives no end of the heap back that is
    smaller than 2 GiB.  All threads share one heap, since glibc takes an empty heap of a thread
    apart whatever it is told.
    """
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8                 # names in malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_arena_max, 1)
    except (OSError, AttributeError):                              # another C library
        pass


def peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None where nobody tells.

    Resident is what lies in the machine's memory: the interpreter, its libraries and all arrays,
    freed ones too that the C library keeps.  A device's memory is no part of it.

    Linux tells it in /proc (VmHWM, in KiB).  The ru_maxrss of getrusage, which all of POSIX has,
    is not the same there: a process begins with the peak of the one that started it.  It is in
    bytes on macOS, in KiB elsewhere.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:                                                            # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


# --- cache ---------------------------------------------------------------------------------------

def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The same rows of several arrays of one shape, a cache-full at a time.

    For formulas of many passes that compute each number by itself: their result does not depend on
    the size of the blocks.  Only NumPy needs them; a device is given everything at once.
    """
    first = arrays[0]
    if array_module(first) is not np or first.size <= BLOCK:
        yield arrays
        return
    step = max(1, BLOCK * len(first) // first.size)
    for start in range(0, len(first), step):
        yield tuple(a[start:start + step] for a in arrays)


# --- cores ---------------------------------------------------------------------------------------

_workers: ThreadPoolExecutor | None = None


def use_cores(sharers: int = 1) -> None:
    """One worker for each core that BLAS would use, and one core for BLAS within each of them.

    Matrix products then share the cores by shards, as everything else does; NumPy lets other
    threads run while it computes.  How many cores there are is what BLAS was granted, so that
    OPENBLAS_NUM_THREADS=1 means one.  With another BLAS than the OpenBLAS of NumPy's wheels there
    are no workers: BLAS goes on using the cores, and shards follow each other.

    Of several processes that share the cores each takes its part of them.
    """
    global _workers
    granted, limit = openblas("get_num_threads"), openblas("set_num_threads")
    if granted is None or limit is None or granted() == 1:
        return
    cores = granted() // sharers
    if cores > 1:
        _workers = ThreadPoolExecutor(cores, thread_name_prefix="shard")
    limit(1)


def _forget_workers() -> None:
    """In a process that was forked: threads stay behind, and their work would never be done."""
    global _workers
    _workers = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def openblas(name: str) -> Callable | None:
    """The function openblas_`name` of the OpenBLAS that NumPy's wheels bring; None without one."""
    site = Path(np.__file__).parent
    for path in (*site.parent.glob("numpy.libs/*openblas*"), *site.glob(".dylibs/*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for before, after in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            function = getattr(library, f"{before}openblas_{name}{after}", None)
            if function is not None:
                return function
    return None


def in_parallel(function: Callable[[Any], Any], parts: Sequence, like: Array) -> Iterator:
    """function(part) of each part, in their order, computed on the workers if there are any.

    like: an array of the library that computes.  A device is one, and gets part after part.  Not to
    be called within itself: the workers would wait for each other.
    """
    if _workers is None or len(parts) == 1 or array_module(like) is not np:
        return map(function, parts)
    return _workers.map(function, parts)

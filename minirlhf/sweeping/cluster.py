"""Processes of a Dask cluster for whatever computes (the extra `cluster`).

The scheduler gives the work of a worker that it believes dead to another one.  If the first was
only slow, or cut off, both would make one run: the locks beside the runs forbid it (locks.py).  So
workers must see the folder of the runs, under the same path, on a file system that has locks; and,
since a run is known by the code that makes it, they must have the same code.  All this is tried at
the beginning of each piece of work, since a worker may join at any time.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from uuid import uuid4

from minirlhf.sweeping.locks import alone, lock_file, locked_elsewhere
from minirlhf.sweeping.sources import own_digest
from minirlhf.sweeping.workers import PROCESSES, processes

TIMEOUT = 10                                         # seconds in which a scheduler must answer
ALL = sys.maxsize                                    # the scheduler has a queue of its own


@contextmanager
def computing(scheduler: str | None, folder: Path, n: int = PROCESSES) -> Iterator[
        tuple[Callable[..., Future], int]]:
    """(submit, room): whatever computes, and how much it is to be given at a time.

    n processes of this machine, or the workers of the scheduler at an address; folder: where all
    runs lie.
    """
    if scheduler is None:
        with processes(n) as submit:
            yield submit, n
    else:
        with dask(scheduler, folder) as submit:
            yield submit, ALL


@contextmanager
def dask(address: str, folder: Path) -> Iterator[Callable[..., Future]]:
    """submit(function, *arguments) -> Future, on a worker of the scheduler at this address.

    Dask calls a function again whose worker has died, up to three times.  If what is done ends with
    a problem, or is interrupted, nothing more is begun; a worker ends what it has in hand.
    """
    distributed = required()
    try:
        client = distributed.Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as problem:
        raise OSError(f"no Dask scheduler answers at {address} ({problem}); start one with `dask "
                      "scheduler`, and workers with `dask worker ADDRESS --nthreads 1`") from None
    digest, token = own_digest(), Path(folder).absolute() / f"sweep-{uuid4().hex}"

    def there(module: str, name: str, *arguments):
        # Sent as it is, not by its name, so that a worker without the package can say so; and it
        # gets only what any Python knows, since the scheduler looks at it too.
        import importlib
        import socket
        try:
            package = importlib.import_module("minirlhf.sweeping.cluster")
        except ImportError as problem:
            raise RuntimeError(f"the worker on {socket.gethostname()} cannot import minirlhf "
                               f"({problem}); install it where workers run") from None
        return package.on_a_worker(digest, token, module, name, *arguments)

    with client, alone(token):
        executor = client.get_executor(pure=False)
        if not client.nthreads():
            print(f"note: {address} has no workers yet; start some with `dask worker {address} "
                  "--nthreads 1`", file=sys.stderr)
        try:
            yield lambda function, *arguments: executor.submit(
                there, function.__module__, function.__qualname__, *arguments)
        except CancelledError:
            raise RuntimeError(f"the scheduler at {address} is gone; the same command goes on "
                               "where it was") from None
        except distributed.KilledWorker as problem:
            raise RuntimeError(f"a run has ended every worker that tried it, perhaps for lack of "
                               f"memory ({problem})") from None
        finally:
            executor.shutdown(wait=False)
            lock_file(token).unlink(missing_ok=True)


def required():
    """Dask's module.  Raises ValueError saying how to get it, if it is not installed."""
    try:
        import distributed
    except ImportError:
        raise ValueError("--scheduler wants Dask, which is not installed; pip install "
                         "'minirlhf[cluster]' brings it") from None
    return distributed


def on_a_worker(digest: str, token: Path, module: str, name: str, *arguments):
    """What a module's function returns or raises, if this worker can do what it is asked.

    token: a run, so to speak, on which the program that asks is at work.
    """
    worker = f"the worker on {socket.gethostname()} (process {os.getpid()})"
    if own_digest() != digest:
        raise RuntimeError(f"{worker} has other code than the program that asks; install the same "
                           "minirlhf there")
    try:
        if not locked_elsewhere(token):
            raise RuntimeError(f"{worker} sees {token.parent} on a file system without locks, so "
                               "nothing would keep two workers from making one run; share a folder "
                               "that has them")
    except FileNotFoundError:
        raise RuntimeError(f"{worker} does not see {token.parent}, where the runs lie; share that "
                           "folder, under the same path") from None
    threads = required().get_worker().state.nthreads
    if threads != 1:
        raise RuntimeError(f"{worker} has {threads} threads, and a run wants a process of its own; "
                           "start it with --nthreads 1")
    return getattr(import_module(module), name)(*arguments)

"""Two processes for whatever computes, each with one thread for its matrix products.

Runs are small: two of them side by side use two cores better than one run that shares them out.
"""

import io
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import active_children, get_context, parent_process
from threading import RLock, Thread

from tqdm import tqdm

from minirlhf import cli

PROCESSES = 2
THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def processes() -> Iterator[Callable[..., Future]]:
    """submit(function, *arguments) -> Future, in one of the processes.

    If what is done with them ends with a problem, or is interrupted, they are ended, whatever they
    do: a run goes on from its checkpoint.
    """
    before, own = os.environ.get(THREADS), active_children()
    os.environ[THREADS] = "1"                            # read when a process loads NumPy
    pool = ProcessPoolExecutor(PROCESSES, get_context("spawn"), begin)
    try:
        yield pool.submit
    except BaseException as problem:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            if process not in own:
                process.terminate()
                process.join()
        if isinstance(problem, BrokenProcessPool):
            raise RuntimeError("a process that computed has died, perhaps for lack of memory; the "
                               "same command goes on where it was") from None
        raise
    finally:
        pool.shutdown()
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def begin() -> None:
    """What a process does first.  An interruption is its parent's business; no process goes on
    when its parent has died.  (A lock of tqdm's own would outlive a process that is ended.)"""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(RLock())
    Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def at_once(function: Callable, *arguments) -> Future:
    """A `submit` that has done it already, in this process."""
    future: Future = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as problem:
        future.set_exception(problem)
    return future


def minirlhf(argv: Sequence[str]) -> None:
    """A command of the command line; what it says is kept back.

    Raises RuntimeError with its last words if it fails, KeyboardInterrupt if it was interrupted.
    """
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = cli.main(argv)
    if status == 130:
        raise KeyboardInterrupt
    if status:
        last = said.getvalue().strip().splitlines()[-1:]
        raise RuntimeError(f"{shlex.join(['minirlhf', *argv])} failed: {''.join(last)}")

"""Processes of this machine for whatever computes, each with one thread for its matrix products.

Runs are small: two of them side by side use two cores better than one run that shares them out.
"""

import io
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import active_children, get_context, parent_process
from queue import LifoQueue
from threading import Lock, RLock, Thread

from tqdm import tqdm

from minirlhf import commands
from minirlhf.host import make_ready

PROCESSES = 2
LIVES = 3                          # so often a function is called whose process dies each time
THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def processes(n: int = PROCESSES) -> Iterator[Callable[..., Future]]:
    """submit(function, *arguments) -> Future, in one of n processes.

    A process that dies takes no other with it: another one takes its place, and calls the function
    again, which goes on where the first was if it can.  After `LIVES` deaths the future raises
    RuntimeError.

    If what is done with them ends with a problem, or is interrupted, they are ended, whatever they
    do: a run goes on from its checkpoint.
    """
    before, own = os.environ.get(THREADS), active_children()
    os.environ[THREADS] = "1"                            # read when a process loads NumPy
    crew = Crew(n)
    threads = ThreadPoolExecutor(n)                      # each waits for one process
    try:
        yield lambda function, *arguments: threads.submit(crew.call, function, *arguments)
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        crew.dismiss()
        for process in active_children():
            if process not in own:
                process.terminate()
                process.join()
        raise
    finally:
        threads.shutdown()
        crew.end()
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


class Crew:
    """Some processes, each a pool of its own, so that none breaks when another one dies."""

    def __init__(self, n: int):
        self.idle: LifoQueue[ProcessPoolExecutor] = LifoQueue()  # warm ones first
        self.starting, self.dismissed = Lock(), False
        for _ in range(n):
            self.idle.put(one_process())

    def call(self, function: Callable, *arguments):
        """What the function returns or raises, in a process that is idle."""
        for _ in range(LIVES):
            pool = self.idle.get()
            try:
                with self.starting:                      # none starts after `dismiss`
                    if self.dismissed:
                        raise RuntimeError("the processes that compute were ended")
                    future = pool.submit(function, *arguments)
                return future.result()
            except BrokenProcessPool:
                pool = one_process()
            finally:
                self.idle.put(pool)
        raise RuntimeError(f"a process that computed has died, perhaps for lack of memory, and so "
                           f"have {LIVES - 1} more that went on with its work; the same command "
                           "goes on where it was")

    def dismiss(self) -> None:
        """Start no process any more."""
        with self.starting:
            self.dismissed = True

    def end(self) -> None:
        """Let all processes end, once nobody calls any more."""
        while not self.idle.empty():
            self.idle.get().shutdown()


def one_process() -> ProcessPoolExecutor:
    """A process that starts when it is first asked for something."""
    return ProcessPoolExecutor(1, get_context("spawn"), begin)


def begin() -> None:
    """What a process does first.  An interruption is its parent's business; no process goes on
    when its parent has died.  (A lock of tqdm's own would outlive a process that is ended.)"""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(RLock())
    Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def minirlhf(argv: Sequence[str]) -> None:
    """A command of the command line that makes a run; what it says is kept back.

    Raises RuntimeError naming the command and its problem if it fails.
    """
    name, *flags = argv
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            make_ready()
            if name == "rounds":
                commands.run_rounds(flags)
            else:
                commands.run_stage(name, flags)
        return
    except (ValueError, RuntimeError, ArithmeticError, OSError) as problem:
        told = str(problem)
    # Raised here, the problem has no other one hanging on it, which might not get to the parent.
    raise RuntimeError(f"{shlex.join(['minirlhf', *argv])} failed: {told}")

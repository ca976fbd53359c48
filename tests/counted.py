"""`store.make` in whatever process a sweep uses, leaving lines that a test can count.

    begun NAME PROCESS         before a command of `minirlhf`, if one is called at all
    ended NAME PROCESS         after it

are in commands.log beside the runs.  A file `kill` there lets the process that begins the next
command after that many have ended die in the midst of its work, once.
"""

import os
import signal
from contextlib import nullcontext, suppress
from pathlib import Path

from minirlhf import checkpoint
from minirlhf.checkpoint import Checkpoint
from minirlhf.sweeping import store, workers

real_make, real_alone = store.make, store.alone


def make(argv: list[str], folder: Path) -> None:
    """As `store.make`."""
    log = folder.parent / "commands.log"

    def noted(argv):
        note(log, "begun", folder)
        if dies(log):
            die_at_a_checkpoint()
        workers.minirlhf(argv)
        note(log, "ended", folder)

    store.minirlhf = noted
    try:
        real_make(argv, folder)
    finally:
        store.minirlhf = workers.minirlhf


def make_unguarded(argv: list[str], folder: Path) -> None:
    """The same without its lock: a mutant."""
    store.alone = lambda folder: nullcontext()
    try:
        make(argv, folder)
    finally:
        store.alone = real_alone


def note(log: Path, what: str, folder: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as lines:                            # one write, so that lines stay whole
        lines.write(f"{what} {folder.name} {os.getpid()}\n")


def lines(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def dies(log: Path) -> bool:
    """Whether it is time to die, and nobody has died for it."""
    kill = log.with_name("kill")
    with suppress(FileNotFoundError):
        if sum(what == "ended" for what, *_ in lines(log)) >= int(kill.read_text()):
            kill.unlink()
            return True
    return False


def die_at_a_checkpoint() -> None:
    """Let this process be killed after a piece of work that it has saved."""
    def tick(self):
        self.save()
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.INTERVAL, Checkpoint.tick = 0.0, tick

"""Runs that die: real processes, ended by SIGKILL, which nothing can catch or tidy up after."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minirlhf import pipeline
from minirlhf.settings import read_settings

WAYS = ("at a moment", "opening a file", "renaming a file")

# A process that kills itself at its n-th event of a kind: Python announces every opening and
# renaming of a file to audit hooks, just before it does it.
MORTAL = """
import os, sys
kind, left = sys.argv[1], int(sys.argv[2])

def hook(event, given):
    global left
    if event == kind and (event == "os.rename" or given[1] not in ("r", "rb")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

sys.addaudithook(hook)
from minirlhf.cli import main
sys.exit(main(sys.argv[3:]))
"""


class Death(NamedTuple):
    """A kill: what the run was making, how it was killed, and the work that was lost."""

    made: str
    way: str
    lost: float                # seconds since the checkpoint was written, or since the start
    unfinished: int            # temporary files that it left behind


def live(folder: Path, flags: list[str], way: str | None = None, *,
         rng: np.random.Generator | None = None) -> Death | None:
    """`minirlhf run` in a folder, resuming what lies there; None if it came to its end.

    Raises RuntimeError if it ended with an error of its own.
    """
    run, started = folder / "runs" / "toy", time.time()
    program, seconds = ["-m", "minirlhf.cli"], None
    if way == "at a moment":
        seconds = rng.uniform(0.5, 5)
    elif way == "opening a file":
        program = ["-c", MORTAL, "open", str(rng.integers(1, 200))]
    elif way == "renaming a file":
        program = ["-c", MORTAL, "os.rename", str(rng.integers(1, 20))]
    process = subprocess.Popen(
        [sys.executable, *program, "run", *flags, *["--resume"] * run.exists()], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=open(folder / "told.txt", "wb"),
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    if process.wait() == 0:
        return None
    if process.returncode != -9:
        raise RuntimeError((folder / "told.txt").read_text())
    saved = run / "checkpoint" / "state.safetensors"
    alive_since = max(started, saved.stat().st_mtime if saved.exists() else 0)
    return Death(under_way(run), way, time.time() - alive_since, len(list(run.rglob(".*.tmp"))))


def under_way(run: Path) -> str:
    """What a run that died was making: the last of the results of its step."""
    if not (run / "config.json").exists():
        return "the beginning"
    return next((step.makes[-1] for step in pipeline.steps(read_settings(run / "config.json"))
                 if not step.done(run)), "report.html")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run, by name, without the memory that its processes happened to take."""
    run = folder / "runs" / "toy"
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*")
             if path.is_file()}
    found.pop("memory.json", None)
    found["report.html"] = re.sub(rb'<figure class="measured.*?</figure>', b"",
                                  found["report.html"], flags=re.DOTALL)
    return found

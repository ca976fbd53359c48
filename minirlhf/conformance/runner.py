"""Tests are put to an adapter that lives in another process; the process may die, the run not.

`Session` starts the worker, asks it one test after the other, and replaces it when it hangs or
ends.  A function that has hung or ended the process twice is asked no more: its other tests are
reported as not run, so that the time stays within a few timeouts.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minirlhf
from minirlhf.conformance.adapters import Adapter
from minirlhf.conformance.vectors import Group, Test, Vectors
from minirlhf.conformance.worker import answered, described

PATIENCE = 2                                # hangs or ends of a function before it is asked no more
START = 120.0                               # seconds in which an adapter has to be imported


@dataclass(frozen=True)
class Defined:
    """A function of the adapter, as its process describes it."""
    takes: tuple[str, ...]
    gradients: bool
    problem: str | None


@dataclass(frozen=True)
class Reply:
    """What a test came to: values and gradients by name, or a problem in words.

    `refused`: the function raised an error, which is an answer; `lost`: it hung, ended, or was not
    run at all.
    """
    values: dict[str, Any] | None = None
    gradients: dict[str, Any] | None = None
    problem: str | None = None
    refused: bool = False
    lost: bool = False


class Local:
    """What a Session is, without a process of its own: for adapters that are trusted not to hang,
    end the process or change what others see, as in tests."""

    def __init__(self, adapter: Adapter, float32: bool = False):
        self.adapter, self.float32 = adapter, float32
        self.framework = adapter.framework.name
        self.functions = defined(described(adapter))

    def ask(self, file: Vectors, group: Group, test: Test) -> Reply:
        if self.functions[file.function].problem:
            return Reply(problem=self.functions[file.function].problem, lost=True)
        with np.errstate(all="ignore"):
            return reply(answered(self.adapter, file, group, test, self.float32))


def defined(told: dict) -> dict[str, Defined]:
    return {name: Defined(tuple(words["takes"]), words["gradients"], words["problem"])
            for name, words in told["functions"].items()}


def reply(said: dict) -> Reply:
    if "problem" in said:
        return Reply(problem=said["problem"], refused=said["problem"].startswith("raised"))
    return Reply(said["values"], said["gradients"])


class Session:
    """The worker process of one adapter.  Close it, or use it in a `with`.

    Raises ValueError, in words, for an adapter that cannot be imported.
    """

    def __init__(self, source: str, timeout: float = 10.0, float32: bool = False):
        if not timeout > 0:
            raise ValueError(f"the timeout must be above 0 seconds, got {timeout}")
        self.source, self.timeout, self.float32 = source, timeout, float32
        self.failures: Counter[str] = Counter()
        self.process: subprocess.Popen | None = None
        said = self.start()
        self.framework: str = said["framework"]
        self.functions = defined(said)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> dict:
        """Begin a process, and what it says of the adapter."""
        words = [sys.executable, "-m", "minirlhf.conformance.worker", self.source]
        paths = [str(Path(minirlhf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            words + ["--float32"] * self.float32, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            encoding="utf-8", bufsize=1,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=pour, args=(self.process.stdout, self.lines), daemon=True).start()
        said = self.line(START)
        if isinstance(said, Reply):
            self.stop()
            raise ValueError(f"{self.source} cannot be imported: it {said.problem}")
        if "problem" in said:
            self.stop()
            raise ValueError(said["problem"])
        return said

    def stop(self) -> None:
        """End the process, whatever it is at."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with suppress(BrokenPipeError):              # what it did not read any more
                self.process.stdin.close()
            self.process = None

    def line(self, seconds: float) -> dict | Reply:
        """The next line of the process, or what became of it instead."""
        try:
            text = self.lines.get(timeout=seconds)
        except queue.Empty:
            return Reply(problem=f"was not done after {seconds:g} s", lost=True)
        if text:
            return json.loads(text)
        try:
            status = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return Reply(problem="closed the pipe by which it is asked", lost=True)
        return Reply(problem=f"ended the process ({ending(status)})", lost=True)

    def ask(self, file: Vectors, group: Group, test: Test) -> Reply:
        """Put one test to the adapter."""
        if self.functions[file.function].problem:
            return Reply(problem=self.functions[file.function].problem, lost=True)
        if self.failures[file.function] >= PATIENCE:
            return Reply(problem="not run: it hung or ended the process before", lost=True)
        if self.process is None:
            self.start()
        with suppress(BrokenPipeError):                  # it has ended: its last line tells
            self.process.stdin.write(json.dumps(
                {"function": file.function, "group": group.name, "test": test.id}) + "\n")
            self.process.stdin.flush()
        said = self.line(self.timeout)
        if isinstance(said, Reply):
            self.failures[file.function] += 1
            self.stop()
            return said
        return reply(said)


def pour(stream: Any, lines: queue.Queue) -> None:
    """Every line of a stream into a queue, and an empty one at its end."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def ending(status: int) -> str:
    """A process' status in words: "status 3", "SIGSEGV"."""
    if status >= 0:
        return f"status {status}"
    return next((s.name for s in signal.Signals if s == -status), f"signal {-status}")

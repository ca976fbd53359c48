"""Contenders take turns: each a block of the same length, again and again."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import sleep

from benchmarking.processes import Task

PAUSE = 0.05                    # seconds in which the last one's threads go to sleep
WARM = 2                        # runs before any is timed


@dataclass(frozen=True)
class Effort:
    """How, and how long, to measure."""

    turns: int                     # of each contender
    block: float                   # seconds of a turn, about
    threads: int                   # of every contender
    shards: int                    # parts into which this package cuts a batch
    cache: Path                    # of the environments of released systems
    quick: bool = False


def take_turns(tasks: dict[str, Task], effort: Effort) -> dict[str, dict[str, list]]:
    """{"seconds": {contender: a number a turn}, "faults": the same}, each of one time.

    A turn is as many times as fill a block, at least once.  Before each comes one more that does
    not count, where it is short.
    """
    counts = {name: times(task, effort.block) for name, task in tasks.items()}
    taken = {what: {name: [] for name in tasks} for what in ("seconds", "faults")}
    for _ in range(effort.turns):
        for name, task in tasks.items():
            sleep(PAUSE)
            answer = task.run(counts[name], warm=int(counts[name] > 1))
            for what, turns_of in taken.items():
                turns_of[name].append(float(f"{answer[what]:.5g}"))
    return taken


def times(task: Task, block: float) -> int:
    """How many times fill a block, once the contender is warm."""
    seconds = task.run(1, warm=WARM)["seconds"]
    if seconds < block / 3:
        seconds = task.run(ceil(block / 3 / seconds))["seconds"]
    return max(1, round(block / seconds))

"""The log of a part's steps in metrics.jsonl: every step, and few looks at the device.

A stage yields each step's numbers as arrays of shape (), where they were computed.  On the host
they are written at once.  On a GPU the host runs ahead of the device, and to look at a loss would
make it wait: numbers stay there until some steps have gathered, and then leave in one transfer.
"""

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.arrays import array_module, numbers_on_host
from minirlhf.files import append_jsonl

AT_ONCE = 10                    # steps whose numbers leave a device together


class StepLog:
    """Rows {"stage", "step", …}, added one by one; `closing` it logs what an exception cut off.

    path    metrics.jsonl
    part    under which name the rows stand
    last    the numbers written last, to be shown
    """

    def __init__(self, path: Path, part: str):
        self.path, self.part = path, part
        self.waiting: list[tuple[int, dict[str, Any]]] = []
        self.last: dict[str, float] = {}

    def add(self, step: int, row: dict[str, Any]) -> None:
        """Log a step, now or later; raises as `write` does."""
        self.waiting.append((step, row))
        if array_module(*row.values()) is np or len(self.waiting) == AT_ONCE:
            self.write()

    def write(self) -> None:
        """Log all that waits.

        Raises FloatingPointError naming the first step with a number that is not finite, after
        the steps before it are logged: nothing good follows.
        """
        steps, rows = [step for step, _ in self.waiting], [row for _, row in self.waiting]
        self.waiting = []
        good, problem = [], None
        for step, row in zip(steps, numbers_on_host(rows), strict=True):
            broken = [key for key, number in row.items() if not isfinite(number)]
            if broken:
                problem = (f"{self.part}, step {step}: {', '.join(broken)} is not finite; try a "
                           "smaller learning rate")
                break
            good.append({"stage": self.part, "step": step} | row)
            self.last = row
        append_jsonl(self.path, good)
        if problem is not None:
            raise FloatingPointError(problem)

    close = write

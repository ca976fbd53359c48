"""One rank, two ranks, and one process with two threads, by turns."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from scaling.work import STAGES

SCRIPTS = Path(__file__).parent.parent
MPIEXEC = Path(sys.executable).with_name("mpiexec")
# name: ranks, shards, cores a rank
WAYS = {"one rank": (1, 1, 1), "two ranks": (2, 2, 1), "two threads": (1, 2, 2)}
STEPS = {"PPO": 4, "GRPO": 6}                            # timed a turn; of other stages, 20


def once(stage: str, way: str, quick: bool) -> dict:
    """A process or two that do some steps, and what the first of them says."""
    ranks, shards, cores = WAYS[way]
    n = 2 if quick else STEPS.get(stage, 20)
    paths = [str(SCRIPTS), str(SCRIPTS.parent)]
    ran = subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "scaling.ranks", stage, str(shards),
         str(cores), str(n), *["quick"] * quick], text=True, capture_output=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": str(cores),       # workers, too (host.py)
                          "PYTHONPATH": os.pathsep.join(paths)})
    if ran.returncode:
        raise RuntimeError(f"{stage} with {way} failed: {ran.stderr.strip().splitlines()[-1:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    return found | {"seconds": median(found["seconds"])}


def measured(turns: int, quick: bool) -> Iterator[tuple[str, str, dict]]:
    """(stage, way, what it says) turn after turn, the ways of a stage side by side."""
    for _ in range(turns):
        for stage in STAGES:
            for way in WAYS:
                yield stage, way, once(stage, way, quick)

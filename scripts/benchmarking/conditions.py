"""The machine, the libraries, and how fast each side multiplies two large matrices on it."""

import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarking.processes import OURS, TORCH, TRANSFORMERS, TRL, Worker, python, surroundings
from benchmarking.turns import Effort, take_turns

from minirlhf.environment import processor

SIDE = 2048                              # of the matrices
MKL = "import torch; torch.ones(64, 64) @ torch.ones(64, 64)"


def conditions(effort: Effort, rows: Sequence[str]) -> dict:
    """What the rows of one call of the script are measured under.

    "peaks" are GFLOP/s of single-precision products, each side's best turn; "missing" says of each
    contender that is not here what is not installed.
    """
    wanted = [OURS, TORCH]
    wanted += [TRANSFORMERS] * any(row.startswith("rollout") for row in rows)
    wanted += [TRL] * (any(row.startswith("ppo") for row in rows) and not effort.quick)
    programs, missing = {}, {}
    for one in wanted:
        try:
            programs[one] = python(one, effort.cache)
        except RuntimeError as problem:
            missing[one.name] = str(problem)
    side = SIDE // 8 if effort.quick else SIDE
    versions = {"Python": platform.python_version()}
    ready, libraries = {}, {}
    with ExitStack() as stack:
        for one, program in programs.items():
            worker = stack.enter_context(Worker(one.module, program, effort.threads))
            versions |= worker.ask(do="ask", what="versions")["result"]
            if one in (OURS, TORCH):
                ready[one.name] = worker.prepare("it", {"work": "peak", "side": side})
                libraries[one.name] = worker.ask(do="ask", what="libraries")["result"]
        found = take_turns(ready, effort)["seconds"]
    if TORCH in programs:
        libraries[TORCH.name] += mkl(programs[TORCH], effort.threads)
    return {"processor": processor(), "cores": os.cpu_count(), "threads": effort.threads,
            "shards": effort.shards, "turns": effort.turns, "versions": versions,
            "libraries": libraries, "missing": missing,
            "peaks": {name: round(2e-9 * side**3 / min(turns), 1)
                      for name, turns in found.items()}}


def mkl(program: str, threads: int) -> list[str]:
    """What the MKL inside of PyTorch says of itself: its version, and the kernels that it chose."""
    ran = subprocess.run([program, "-c", MKL], capture_output=True, text=True, encoding="utf-8",
                         env=surroundings(threads) | {"MKL_VERBOSE": "1"})
    lines = [line for line in ran.stdout.splitlines() if line.startswith("MKL_VERBOSE")]
    return [line.removeprefix("MKL_VERBOSE ").partition(", Lnx")[0] for line in lines[:1]]



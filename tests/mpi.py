"""Programs of several ranks, for the tests: they need mpi4py and MPICH, of the extra `mpi`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
MPIEXEC = Path(sys.executable).with_name("mpiexec")

needs_mpi = pytest.mark.skipif(
    not (MPIEXEC.exists() and find_spec("mpi4py")),
    reason="several ranks want mpi4py and MPICH: pip install -e '.[mpi]'")


def start(size: int, *argv: str, **more) -> subprocess.Popen:
    """`argv` as so many ranks of one thread each; every line begins with whose it is, as "[0] "."""
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    return subprocess.Popen([str(MPIEXEC), "-prepend-rank", "-n", str(size), *argv],
                            env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **more)


def run(size: int, *argv: str, timeout: float = 300, **more) -> subprocess.CompletedProcess:
    """The same, waited for."""
    started = start(size, *argv, **more)
    try:
        out, err = started.communicate(timeout=timeout)
    finally:
        started.kill()
    return subprocess.CompletedProcess(argv, started.returncode, out, err)


def command(*argv: str) -> tuple[str, ...]:
    """A command of minirlhf, for `run`."""
    return (sys.executable, "-m", "minirlhf.cli", *argv)


def on_ranks(size: int, name: str, *given: str, folder: Path) -> dict[str, np.ndarray]:
    """What the function `name` of tests/ranked.py returns to the first of so many ranks.

    An assertion that fails on any rank fails here, with its traceback.
    """
    found = folder / "found.npz"
    ran = run(size, sys.executable, "-m", "mpi4py", str(TESTS / "ranked.py"), str(found), name,
              *given, cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with np.load(found) as arrays:
        return dict(arrays)

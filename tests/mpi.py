"""Programs of several ranks, for the tests: they need mpi4py and MPICH, of the extra `mpi`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import FLAGS

from minirlhf.files import read_jsonl
from minirlhf.parameters import leaves
from minirlhf.run_folder import open_run

SMALL = [*FLAGS, "--pretraining.steps", "4", "--sft.steps", "3", "--reward.steps", "3",
         "--ppo.steps", "3", "--ppo.target-kl", "0.1", "--watch.every", "2",
         "--preferences.prompts", "40", "--evaluation.samples", "2", "--shards", "4"]
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


def ranked_command(name: str, *given) -> tuple[str, ...]:
    """A function of tests/ranked.py, without mpi4py's help against ranks that fail, for `run`."""
    return (sys.executable, str(TESTS / "ranked.py"), "found.npz", name, *map(str, given))


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


# --- two runs that are one -----------------------------------------------------------------------

def assert_same_run(folder: Path, wanted: Path) -> None:
    """Equal words, and numbers that differ by float32's rounding: in logs, samples and models."""
    files = {path.relative_to(wanted) for path in wanted.rglob("*.jsonl")}
    assert files == {path.relative_to(folder) for path in folder.rglob("*.jsonl")}
    assert {"metrics.jsonl", "preferences.jsonl", "samples.jsonl"} <= set(map(str, files))
    for name in files:
        ours, theirs = read_jsonl(folder / name), read_jsonl(wanted / name)
        assert len(ours) == len(theirs)
        for row, other in zip(ours, theirs, strict=True):
            (numbers, words), (others, other_words) = map(numbers_and_words, (row, other))
            assert words == other_words
            np.testing.assert_allclose(numbers, others, rtol=1e-4, atol=1e-5)
    together, alone = (open_run(place, backend="numpy") for place in (folder, wanted))
    models = [name for name in ("base", "sft", "dpo", "reward", "value", "policy-best", "policy")
              if alone.has(name)]
    assert len(models) > 4
    for name in models:
        ours, theirs = together.load(name), alone.load(name)
        seen = ~key_biases_of(theirs, alone.model)
        assert 0.9 < seen.mean() < 1
        assert abs(ours.flat - theirs.flat)[seen].max() < 1e-5


def numbers_and_words(row: dict) -> tuple[list[float], dict]:
    """The floats of a row, and all else."""
    return ([x for x in row.values() if isinstance(x, float)],
            {key: x for key, x in row.items() if not isinstance(x, float)})


def key_biases_of(params, model) -> np.ndarray:
    """Which of a model's parameters are biases of keys.

    They add the same to all scores of a query, which a softmax does not see: their true gradient is
    0.  What is computed is rounding, and in float32 AdamW makes steps of some size of it.
    """
    return np.concatenate([
        (np.arange(leaf.size) // model.channels == 1) & name.endswith("attn.c_attn.bias")
        for name, leaf in leaves(params)])

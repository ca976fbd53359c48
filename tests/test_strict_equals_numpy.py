"""NumPy and the double of CuPy give the same bits: ops, stages, whole runs.

The double computes with NumPy's functions, so a difference would be one of meaning: a number that
is a scalar here and an array of shape () there, random numbers of the device, memory that nobody
has written to, an order of operations that depends on the library.
"""

from pathlib import Path

import numpy as np
import pytest
from every_stage import STAGES, steps_of
from gradcheck import random_cotangent
from helpers import FLAGS, assert_same, call, on_cupy
from rollouts import four_models
from runs import contents
from strict import STRICT, playing_cupy, xp
from test_ops import CASES

from minirlhf import ops
from minirlhf.arrays import NUMPY
from minirlhf.autograd import value_and_grad


def value_and_gradients(case, backend, dtype) -> list:
    """An op's value at a case's inputs, and its gradients along a random cotangent."""
    inputs = [backend.asarray(np.asarray(x, dtype)) for x in case.inputs]
    constants = [backend.asarray(x) if isinstance(x, np.ndarray) else x for x in case.constants]
    y = case.call(*inputs, *constants)
    u = backend.asarray(random_cotangent(y.shape, np.random.default_rng(1)).astype(dtype))
    _, gradients = value_and_grad(lambda inputs: ops.sum(ops.mul(
        case.call(*inputs, *constants), u)))(inputs)
    return [y, *gradients]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", CASES)
def test_an_op_and_its_gradient(op, dtype):
    for name, case in CASES[op].items():
        for there, here in zip(value_and_gradients(case, STRICT, dtype),
                               value_and_gradients(case, NUMPY, dtype), strict=True):
            assert type(there) is xp.ndarray
            assert_same(there, here, f"{op}, {name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_every_number_and_every_parameter_of_a_stage(stage, shards, dtype):
    found = {}
    for backend in (NUMPY, STRICT):
        models, model = four_models(backend, dtype)
        rows = [{name: float(x) for name, x in row.items()}
                for row in steps_of(stage, models, model, shards)]
        found[backend.name] = rows, models
    assert found["numpy"][0] == found["strict"][0] and len(found["numpy"][0]) == 2
    for here, there in zip(found["numpy"][1], found["strict"][1], strict=True):
        assert type(there.flat) is xp.ndarray
        assert_same(there.flat, here.flat)


# --- whole runs ----------------------------------------------------------------------------------

SAYS_WHERE = {"config.json", "environment.json", "report.html"}        # names the backend


def quick_runs(folder: Path, backend: str) -> dict[str, dict[str, bytes]]:
    """`minirlhf run --quick` from the base to the report, and its last stages by each algorithm."""
    here = ("--out", str(folder))
    assert call("run", "--name", "ppo", "--quick", "--baselines", "best-of-n", "dpo", "--backend",
                backend, *here) == 0
    for algorithm in ("grpo", "rloo"):
        assert call(algorithm, "ppo", "--name", algorithm, *here) == 0
        assert call("evaluate", algorithm, *here) == 0
        assert call("report", algorithm, *here) == 0
    return {name: contents(folder / name) for name in ("ppo", "grpo", "rloo")}


def test_whole_runs_of_all_algorithms_from_the_base_to_the_report(tmp_path):
    here = quick_runs(tmp_path / "numpy", "numpy")
    with playing_cupy():
        there = quick_runs(tmp_path / "double", "cupy")
    for name in here:
        assert here[name].keys() == there[name].keys() >= SAYS_WHERE
        different = {file for file in here[name] if here[name][file] != there[name][file]}
        assert different == SAYS_WHERE


def test_a_run_on_the_double_says_so(tmp_path):
    """Not to be taken for a run on a GPU."""
    with playing_cupy():
        flags = on_cupy(FLAGS)
        assert call("run", "--name", "double", "--out", str(tmp_path), *flags) == 0
    assert "a double of CuPy" in (tmp_path / "double" / "environment.json").read_text()

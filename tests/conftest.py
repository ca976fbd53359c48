"""Fixtures for every test: the array backend, a seeded generator, Hypothesis's profile."""

import os
from functools import cache

# One BLAS thread a process, so that parallel test workers do not fight for the cores.  The
# libraries read these once, when NumPy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from strict import STRICT

from minirlhf.arrays import NUMPY, cupy_problem, select_backend

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# How to make each backend by name.  "strict" is a double of CuPy, for machines without a GPU.
BACKENDS = {"numpy": lambda: NUMPY, "strict": lambda: STRICT,
            "cupy": lambda: select_backend("cupy")}


def pytest_addoption(parser):
    parser.addoption("--backend", default="auto", choices=["auto", *BACKENDS],
                     help="arrays to test on; auto: NumPy, the strict double of CuPy, and CuPy "
                          "itself where it can compute")


@cache
def backends_to_test(choice: str) -> list[str]:
    if choice != "auto":
        return [choice]
    return ["numpy", "strict"] if cupy_problem() else ["numpy", "strict", "cupy"]


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        names = backends_to_test(metafunc.config.getoption("--backend"))
        metafunc.parametrize("backend", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request):
    """The `Backend` under test.  Constant during the session, so Hypothesis tests may use it."""
    return BACKENDS[request.param]()


@pytest.fixture(scope="session")
def xp(backend):
    """The array module under test: numpy, the double's, or cupy."""
    return backend.xp


@pytest.fixture
def rng():
    """A fresh generator for each test.  (A Hypothesis test draws its own seed instead.)"""
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def memory_that_stands_still():
    """Every process has taken 200 MB.  What a run records of it is all that would differ from time
    to time; so whole folders can be compared, byte for byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minirlhf.environment.peak_memory", lambda: 200_000_000)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """The folder of a whole tiny run, not to be written to."""
    from helpers import FLAGS, call
    folder = tmp_path_factory.mktemp("made")
    assert call("run", "--name", "old", "--out", str(folder), *FLAGS) == 0
    return folder / "old"


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A whole run of `runs.TINY`, not to be written to."""
    from runs import whole
    return whole(tmp_path_factory.mktemp("runs") / "first")

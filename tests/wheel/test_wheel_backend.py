"""The door to CuPy with the real wheel, on a machine without a driver: it is installed, imports,
and cannot compute.  What is said then rests on what CuPy really answers here.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import FLAGS

import minirlhf
from minirlhf import arrays
from minirlhf.arrays import NUMPY, cupy_problem, select_backend

cupy = pytest.importorskip("cupy", reason="wants CuPy's wheel: pip install -e '.[wheel]'")
pytestmark = pytest.mark.skipif(cupy.cuda.runtime.driverGetVersion() != 0,
                                reason="an NVIDIA driver is installed")


# --- what CuPy answers without a driver ----------------------------------------------------------

def test_the_driver_has_no_version_and_counting_devices_blames_the_driver():
    runtime = cupy.cuda.runtime
    assert runtime.driverGetVersion() == 0
    assert runtime.runtimeGetVersion() >= 12000
    with pytest.raises(RuntimeError, match="cudaErrorInsufficientDriver"):
        runtime.getDeviceCount()


def test_the_missing_driver_is_named_with_the_version_of_cupy():
    assert cupy_problem() == (f"CuPy {cupy.__version__} is installed, but no NVIDIA driver was "
                              "found; install NVIDIA's driver, until nvidia-smi shows the GPU")


@pytest.mark.parametrize("below", range(2, len(arrays._LAYERS)))
def test_every_further_layer_passes_on_what_cupy_says(below, monkeypatch):
    """As if the layers below it were there."""
    layers = arrays._LAYERS[below:]
    monkeypatch.setattr(arrays, "_LAYERS", layers)
    _, wrong, remedy = layers[0]
    problem = cupy_problem()
    assert f"{wrong} (CUDARuntimeError: cudaErrorInsufficientDriver: " in problem
    assert problem.endswith(f"; {remedy}") and "\n" not in problem


@pytest.mark.parametrize("library, touch", {
    "cublas": lambda cupy: cupy.cuda.cublas,
    "nvrtc": lambda cupy: cupy.cuda.nvrtc.getVersion(),
}.items(), ids=["cuBLAS", "NVRTC"])
def test_a_missing_library_of_cuda_is_named_in_one_line(library, touch, monkeypatch):
    """Both are looked for when they are first used; the toolkit may be installed or not."""
    monkeypatch.setattr(arrays, "_LAYERS", ((touch, "it is missing", "install it"),))
    problem = cupy_problem()
    if problem is None:
        pytest.skip(f"{library} is installed here")
    assert re.search(rf"it is missing \(\w+Error: .*lib{library}.*\); install it$", problem)


# --- what the user sees --------------------------------------------------------------------------

def minirlhf_command(folder, *argv) -> subprocess.CompletedProcess:
    """The real command, in a process and an empty folder of its own."""
    root = str(Path(minirlhf.__file__).parent.parent)
    return subprocess.run([sys.executable, "-m", "minirlhf.cli", *argv], cwd=folder, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": root})


def test_auto_falls_back_and_cupy_by_name_is_refused():
    assert select_backend("auto") is NUMPY
    with pytest.raises(RuntimeError, match="cannot compute here.*no NVIDIA driver was found"):
        select_backend("cupy")


@pytest.mark.parametrize("command", ["run", "pretrain"])
def test_a_command_that_wants_cupy_stops_with_one_line_and_writes_nothing(command, tmp_path):
    done = minirlhf_command(tmp_path, command, *FLAGS, "--backend", "cupy")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"minirlhf: the cupy backend cannot compute here: {cupy_problem()} " \
                          "(the numpy backend computes anywhere)\n"
    assert list(tmp_path.iterdir()) == []


def test_auto_says_its_reason_once_and_not_again_when_the_run_goes_on(tmp_path):
    note = f"note: computing with NumPy: {cupy_problem()}\n"
    flags = ["run", *FLAGS, "--backend", "auto"]
    first = minirlhf_command(tmp_path, *flags)
    assert first.returncode == 0
    assert first.stderr.count(note) == first.stderr.count("note:") == 1
    assert "note:" not in first.stdout
    again = minirlhf_command(tmp_path, *flags, "--resume")
    assert again.returncode == 0 and "note:" not in again.stdout + again.stderr

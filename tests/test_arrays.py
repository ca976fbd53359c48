"""The choice of the array library, and the checks at the public doors."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same, prefix_masks
from hypothesis import assume, given

from minirlhf import arrays
from minirlhf.arrays import (
    NOT_INSTALLED,
    NUMPY,
    Backend,
    array_module,
    check_mask,
    check_ndim,
    check_prefix_mask,
    check_same_shape,
    cupy_problem,
    register_backend,
    select_backend,
    to_host,
)

# --- which library an array belongs to -----------------------------------------------------------

class FakeArray:
    """An array type of another library."""


@pytest.fixture
def fakelib(monkeypatch):
    """Another array library, known to `array_module` during one test."""
    library = ModuleType("fakelib")
    monkeypatch.setattr(arrays, "_modules", dict(arrays._modules))
    monkeypatch.setattr(arrays, "_backends", dict(arrays._backends))
    register_backend(Backend("fake", library, None, None, None), FakeArray)
    return library


def test_an_array_belongs_to_the_library_that_made_it(backend):
    assert array_module(backend.asarray(np.ones(2))) is backend.xp


@pytest.mark.parametrize("numbers", [(), (1,), (2.5, True), (np.float32(1),), (None,)])
def test_numbers_alone_belong_to_numpy(numbers):
    assert array_module(*numbers) is np


def test_a_subclass_of_a_numpy_array_belongs_to_numpy(tmp_path):
    on_disk = np.memmap(tmp_path / "numbers", dtype=np.float32, mode="w+", shape=(2,))
    assert array_module(on_disk) is np


def test_a_registered_type_belongs_to_its_library_and_numbers_join_it(fakelib):
    assert array_module(FakeArray()) is fakelib
    assert array_module(1.0, FakeArray(), 2) is fakelib


def test_a_registered_backend_is_selected_by_its_name(fakelib):
    assert select_backend("fake").xp is fakelib


def test_an_array_of_the_host_goes_to_the_host_as_itself_and_another_is_fetched(fakelib):
    x, fetched, there = np.ones(2), np.zeros(3), FakeArray()
    fakelib.asnumpy = {there: fetched}.__getitem__
    assert to_host(x) is x and to_host(there) is fetched


def test_a_fetched_array_has_its_bits(backend, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    got = to_host(backend.asarray(x))
    assert type(got) is np.ndarray
    assert_same(got, x)


def test_arrays_of_two_libraries_in_one_call_are_refused_by_name(fakelib):
    for mixture in ((np.ones(2), FakeArray()), (FakeArray(), 1.0, np.ones(2))):
        with pytest.raises(TypeError, match="numpy.*fakelib|fakelib.*numpy"):
            array_module(*mixture)


# --- selecting a backend -------------------------------------------------------------------------

def gives(answer):
    """A function that returns an answer, or raises it."""
    def answering(*_):
        if isinstance(answer, Exception):
            raise answer
        return answer
    return answering


def fake_cupy(driver=13000, devices=1, upload=None, product=None, kernel=None):
    """A CuPy that has what training needs and no more, or of which some layers raise an error.

    driver: its CUDA version, 0 without one, where this CuPy was built with 13.2.
    """
    class OnDevice(np.ndarray):
        def __matmul__(self, other):
            return gives(product)() or np.matmul(np.asarray(self), np.asarray(other)).view(OnDevice)

        def __add__(self, other):
            return gives(kernel)() or np.add(np.asarray(self), np.asarray(other)).view(OnDevice)

    cupy = ModuleType("cupy")
    cupy.__version__, cupy.ndarray = "14.2.0", FakeArray
    cupy.asarray = lambda x: gives(upload)() or np.asarray(x).view(OnDevice)
    cupy.asnumpy = np.asarray
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(
        driverGetVersion=gives(driver), runtimeGetVersion=gives(13020),
        getDeviceCount=gives(devices)))
    return cupy


class CUDARuntimeError(RuntimeError):
    """As CuPy calls what the CUDA runtime answers."""


# What CuPy says where a layer is missing; what rests on a missing layer fails as well.
NO_DRIVER = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
NO_DEVICE = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
NO_MEMORY = MemoryError("out of memory allocating 512 bytes")
NO_CUBLAS = ImportError("libcublas.so.13: cannot open shared object file")
NO_NVRTC = RuntimeError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12":\n  No such file')
NO_HEADERS = RuntimeError("vector_types.h(1): error: cannot open source file\n" + "more\n" * 99)

BROKEN = {
    "it is not installed": (
        None, "CuPy is not installed", "pip install 'minirlhf[cuda13]' (or cuda12)"),
    "there is no driver": (
        fake_cupy(0, NO_DRIVER, NO_DRIVER, NO_CUBLAS, NO_NVRTC),
        "no NVIDIA driver was found", "install NVIDIA's driver"),
    "the driver is of an older CUDA": (
        fake_cupy(12040, NO_DRIVER, NO_DRIVER, NO_CUBLAS, NO_NVRTC),
        "NVIDIA's driver is too old for the CUDA of this CuPy", "minirlhf[cuda12]"),
    "there is no device": (
        fake_cupy(devices=NO_DEVICE, upload=NO_DEVICE, product=NO_CUBLAS, kernel=NO_NVRTC),
        "NVIDIA's driver shows no GPU (CUDARuntimeError: cudaErrorNoDevice: ",
        "CUDA_VISIBLE_DEVICES"),
    "it counts no device": (fake_cupy(devices=0), "NVIDIA's driver shows no GPU; ", "nvidia-smi"),
    "its memory is full": (
        fake_cupy(upload=NO_MEMORY), "no array can be brought to the GPU (MemoryError: out of "
        "memory", "nvidia-smi shows who uses its memory"),
    "cuBLAS is missing": (
        fake_cupy(product=NO_CUBLAS, kernel=NO_NVRTC), "cuBLAS (ImportError: libcublas.so.13: ",
        "pip install 'minirlhf[cuda13]' (or cuda12)"),
    "NVRTC is missing": (
        fake_cupy(kernel=NO_NVRTC), 'NVRTC and CUDA\'s headers (RuntimeError: Failure finding '
        '"libnvrtc.so.13 or libnvrtc.so.12": No such file)',
        "pip install 'minirlhf[cuda13]' (or cuda12)"),
    "CUDA's headers are missing": (
        fake_cupy(kernel=NO_HEADERS), "NVRTC and CUDA's headers (RuntimeError: vector_types.h",
        "pip install 'minirlhf[cuda13]' (or cuda12)"),
}


@pytest.mark.parametrize("module, reason, remedy", BROKEN.values(), ids=BROKEN)
def test_a_cupy_that_cannot_compute_is_refused_with_the_layer_and_the_remedy(
        module, reason, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", module)
    problem = cupy_problem()
    assert reason in problem and remedy in problem.split(reason)[1]
    assert "\n" not in problem and len(problem) < 400
    assert (problem == NOT_INSTALLED) == (module is None)
    assert ("CuPy 14.2.0 is installed, but " in problem) == (module is not None)
    with pytest.raises(RuntimeError, match=f"cannot compute here: {re.escape(problem)}"):
        select_backend("cupy")
    assert select_backend("auto") is NUMPY
    assert array_module(np.ones(2)) is np and array_module(1.0) is np


def test_each_layer_has_words_of_its_own():
    told = [reason.partition(" (")[0] for _, reason, _ in BROKEN.values()]
    assert len(set(told)) == len(told) - 1                   # NVRTC and its headers are one layer


def test_the_page_about_gpus_has_every_layer_in_order():
    page = (Path(__file__).parent.parent / "docs" / "gpu.md").read_text(encoding="utf-8")
    places = [page.find(f"`{wrong}") for wrong in (
        NOT_INSTALLED.partition(";")[0], "CuPy is installed, but its import fails",
        *(wrong for _, wrong, _ in arrays._LAYERS))]
    assert places == sorted(places) and places[0] > 0


def test_a_cupy_whose_import_fails_is_told_from_one_that_is_not_installed(tmp_path, monkeypatch):
    """The error as CuPy has it: a banner of several lines, raised from the cause."""
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cupy.py").write_text(
        "try:\n    raise OSError('libcudart.so.13: no such file')\n"
        "except OSError as cause:\n    raise ImportError('=====\\nbanner\\n=====') from cause\n")
    assert cupy_problem().startswith(
        "CuPy is installed, but its import fails (OSError: libcudart.so.13: no such file); "
        "install it anew: pip install")
    (tmp_path / "cupy.py").write_text("import cupy_backends_of_another_version\n")
    assert "its import fails (ModuleNotFoundError: No module named 'cupy_b" in cupy_problem()
    (tmp_path / "cupy.py").write_text("")                    # something else of this name
    importlib.invalidate_caches()
    assert "its import fails (AttributeError: " in cupy_problem()
    assert select_backend("auto") is NUMPY and array_module(1.0) is np


@pytest.mark.parametrize("driver", [13000, 13020, 14000])
def test_a_driver_of_the_same_cuda_or_a_newer_one_will_do(driver, monkeypatch):
    """Within a major version an older driver runs what a newer CUDA built."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(driver))
    assert cupy_problem() is None


def test_a_cupy_that_computes_is_chosen_by_auto_and_by_name(monkeypatch):
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert cupy_problem() is None
    for name in ("auto", "cupy"):
        backend = select_backend(name)
        assert backend.name == "cupy" and backend.xp is cupy
    assert array_module(FakeArray()) is cupy


def test_numpy_is_given_to_whom_asks_for_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert select_backend("numpy") is NUMPY


@pytest.mark.parametrize("name", ["torch", "", "NumPy"])
def test_an_unknown_backend_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="choose auto, numpy or cupy"):
        select_backend(name)


def test_a_backend_takes_an_array_there_and_back(backend, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    there = backend.asarray(x)
    backend.synchronize()
    assert array_module(there) is backend.xp
    assert_same(backend.asnumpy(there), x)


IMPORTS = """
import sys
import minirlhf, minirlhf.arrays, minirlhf.parameters, minirlhf.autograd, minirlhf.ops
import minirlhf.tokens, minirlhf.transformer, minirlhf.sampling, minirlhf.optimizer
import minirlhf.sft, minirlhf.bradley_terry, minirlhf.kl_penalty, minirlhf.gae
import minirlhf.clipped_surrogate, minirlhf.group_advantage, minirlhf.dpo
heavy = {"cupy", "matplotlib", "torch", "jax", "tokenizers", "tyro", "transformers"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_engine_and_the_mathematics_imports_no_heavy_library():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# --- the checks ----------------------------------------------------------------------------------

def test_equal_shapes_pass_and_unequal_ones_are_refused_with_every_shape():
    check_same_shape(a=np.ones((2, 3)), b=np.zeros((2, 3)))
    check_same_shape(a=1.0, b=2)
    with pytest.raises(ValueError, match=r"rewards \(2, 3\), values \(3,\), gamma \(\)"):
        check_same_shape(rewards=np.ones((2, 3)), values=np.ones(3), gamma=1.0)


def test_the_number_of_axes_is_checked_by_name():
    check_ndim(2, "(B, R)", rewards=np.ones((2, 3)), mask=np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"mask must have shape \(B, R\), got \(3,\)"):
        check_ndim(2, "(B, R)", rewards=np.ones((2, 3)), mask=np.ones(3))
    with pytest.raises(ValueError, match=r"reward must have shape \(B, R\), got \(\)"):
        check_ndim(2, "(B, R)", reward=1.0)


@pytest.mark.parametrize("mask", [np.ones(2), np.ones(2, np.int64), [True, False], True, None],
                         ids=["floats", "integers", "a list", "a bool", "None"])
def test_a_mask_that_is_no_boolean_array_is_refused_with_the_remedy(mask):
    check_mask(np.array([True, False]))
    with pytest.raises(TypeError, match="boolean.*astype"):
        check_mask(mask)


@given(mask=prefix_masks(shortest=0))
def test_every_prefix_mask_passes(backend, mask):
    check_prefix_mask(backend.asarray(mask))


@given(mask=prefix_masks(shortest=0))
def test_a_mask_with_a_gap_is_refused_by_row(backend, mask):
    assume(mask.shape[1] >= 2)
    row = mask.shape[0] - 1
    mask[row, -2:] = [False, True]
    with pytest.raises(ValueError, match=f"row {row} is False before it is True"):
        check_prefix_mask(backend.asarray(mask))


def test_a_prefix_mask_must_be_boolean():
    with pytest.raises(TypeError, match="boolean"):
        check_prefix_mask(np.ones((2, 3)))

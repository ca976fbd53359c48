"""The choice of the array library, and the checks at the public doors."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same, prefix_masks
from hypothesis import assume, given

from minirlhf import arrays
from minirlhf.arrays import (
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

def fake_cupy(available=True, ones=np.ones):
    cupy = ModuleType("cupy")
    cupy.ndarray, cupy.ones = FakeArray, ones
    cupy.asarray = cupy.asnumpy = np.asarray
    cupy.cuda = SimpleNamespace(is_available=lambda: available)
    return cupy


def without_cublas(*_, **__):
    raise OSError("libcublas.so not found")


BROKEN = {
    "it is not installed": (None, "ModuleNotFoundError"),
    "there is no device": (fake_cupy(available=False), "no CUDA device"),
    "a library is missing": (fake_cupy(ones=without_cublas), "OSError: libcublas.so not found"),
}


@pytest.mark.parametrize("module, reason", BROKEN.values(), ids=BROKEN)
def test_a_cupy_that_cannot_compute_is_refused_with_the_reason_and_the_remedy(
        module, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert reason in cupy_problem()
    with pytest.raises(RuntimeError, match=f"{reason}.*pip install"):
        select_backend("cupy")
    assert select_backend("auto") is NUMPY
    assert array_module(np.ones(2)) is np and array_module(1.0) is np


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

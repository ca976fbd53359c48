"""The machine: which array library computes, and the checks at every public door.

Everything in this package computes on NumPy arrays or on CuPy arrays, and no function asks which:
it takes the module from the arrays it was given.

    xp = array_module(x)            # numpy for a NumPy array, cupy for a CuPy array
    y = xp.exp(x)

There is no global backend: arrays of both kinds can live in one process, and a test can compare
them.  This is the only file that knows that CuPy exists; CuPy is imported only when it is asked
for.  Randomness is drawn on the host and uploaded, so both libraries see the same numbers.
"""

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Array = Any                              # numpy.ndarray or cupy.ndarray

_modules: dict[type, ModuleType] = {np.ndarray: np}


def _module_of(x: Any) -> ModuleType | None:
    """The module that owns x, or None for a number, which every module accepts."""
    module = _modules.get(type(x))
    cupy = sys.modules.get("cupy")                           # only if somebody has imported it
    if module is None and cupy is not None and isinstance(x, getattr(cupy, "ndarray", ())):
        module = cupy
    if module is None and isinstance(x, np.ndarray):         # subclasses such as np.memmap
        module = np
    return module


def array_module(*arrays: Any) -> ModuleType:
    """The array library of the arguments: numpy or cupy (numpy where all are plain numbers).

    Raises TypeError when arrays of two libraries are mixed, since that would mean a hidden copy.
    """
    found: ModuleType | None = None
    for x in arrays:
        module = _module_of(x)
        if module is not None and found is not None and module is not found:
            raise TypeError(
                f"arrays of {found.__name__} and {module.__name__} are mixed in one call; move "
                "them to one library first (Backend.asarray, Backend.asnumpy)")
        found = module or found
    return found or np


@dataclass(frozen=True)
class Backend:
    """One array library with its doors: to it (`asarray`), from it (`asnumpy`)."""

    name: str
    xp: ModuleType
    asarray: Callable[..., Array]
    asnumpy: Callable[[Array], np.ndarray]
    synchronize: Callable[[], None]


NUMPY = Backend("numpy", np, np.asarray, np.asarray, lambda: None)
_backends = {"numpy": NUMPY}


def register_backend(backend: Backend, array_type: type) -> None:
    """Teach this file one more array library and its type of arrays, e.g. a test double of CuPy."""
    _backends[backend.name], _modules[array_type] = backend, backend.xp


def to_host(x: Array) -> np.ndarray:
    """The array on the host: x itself if it is NumPy's, else a copy fetched from the device."""
    xp = array_module(x)
    return x if xp is np else xp.asnumpy(x)


def numbers_on_host(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Rows of named numbers, some of them arrays of shape (), as Python's.

    Looking at a number of a device makes the host wait until the device is there; so however many
    the rows hold, all come over in one transfer.
    """
    there = [x for row in rows for x in row.values() if array_module(x) is not np]
    fetched = iter(to_host(array_module(*there).stack(there)).tolist() if there else ())
    return [{name: float(x) if array_module(x) is np else next(fetched)
             for name, x in row.items()} for row in rows]


# --- the way to CuPy -----------------------------------------------------------------------------

NOT_INSTALLED = "CuPy is not installed; pip install 'minirlhf[cuda13]' (or cuda12) brings it"
_TOOLKIT = ("what is missing comes with pip install 'minirlhf[cuda13]' (or cuda12), or with a CUDA "
            "toolkit of the same major version as CuPy's")


def _ones(cupy: ModuleType) -> Array:
    return cupy.asarray(np.ones((2, 2), np.float32))


# What training needs of CuPy, from the ground up: (works if true, what is wrong if not, remedy).
# No more than it needs: random numbers, for one, are drawn on the host.
_LAYERS: tuple[tuple[Callable[[ModuleType], Any], str, str], ...] = (
    (lambda cupy: cupy.cuda.runtime.driverGetVersion(),                # 0 where there is none
     "no NVIDIA driver was found", "install NVIDIA's driver, until nvidia-smi shows the GPU"),
    (lambda cupy: (cupy.cuda.runtime.driverGetVersion() // 1000
                   >= cupy.cuda.runtime.runtimeGetVersion() // 1000),  # 13020 is CUDA 13.2
     "NVIDIA's driver is too old for the CUDA of this CuPy",
     "install a newer driver, or CuPy for an older CUDA: minirlhf[cuda12] in place of cuda13"),
    (lambda cupy: cupy.cuda.runtime.getDeviceCount(),
     "NVIDIA's driver shows no GPU",
     "see whether nvidia-smi lists one and CUDA_VISIBLE_DEVICES does not hide it"),
    (lambda cupy: _ones(cupy).size,
     "no array can be brought to the GPU", "nvidia-smi shows who uses its memory"),
    (lambda cupy: (_ones(cupy) @ _ones(cupy)).size,
     "no product can be computed, which takes cuBLAS", _TOOLKIT),
    (lambda cupy: float((_ones(cupy) + _ones(cupy)).sum()),            # and back to the host
     "no kernel can be compiled, which takes NVRTC and CUDA's headers", _TOOLKIT),
)


def cupy_problem() -> str | None:
    """None if CuPy can compute here, else which layer is missing, how that shows, and the remedy.

    `cupy.cuda.is_available()` alone is not enough: it tells neither a missing driver from a missing
    GPU, nor that cuBLAS or NVRTC is missing, which shows only at the first product and the first
    compiled kernel.  So each layer is tried, in the order in which they rest on each other, and the
    reason is passed on as CuPy gave it.
    """
    try:
        import cupy
        version = cupy.__version__               # not there where an empty folder is called cupy
    except Exception as problem:
        if isinstance(problem, ModuleNotFoundError) and problem.name == "cupy":
            return NOT_INSTALLED
        reason = _in_a_line(problem.__cause__ or problem)    # CuPy raises a banner from the cause
        return (f"CuPy is installed, but its import fails ({reason}); install it anew: "
                "pip install --force-reinstall 'minirlhf[cuda13]' (or cuda12)")
    for works, wrong, remedy in _LAYERS:
        try:
            if works(cupy):
                continue
            reason = ""
        except Exception as problem:             # CUDARuntimeError, ImportError, CompileException…
            reason = f" ({_in_a_line(problem)})"
        return f"CuPy {version} is installed, but {wrong}{reason}; {remedy}"
    return None


def _in_a_line(problem: BaseException) -> str:
    return textwrap.shorten(f"{type(problem).__name__}: {problem}", 160, placeholder=" …")


def select_backend(name: str = "auto") -> Backend:
    """The backend called `name`: "numpy", "cupy", or "auto" (CuPy where it computes, else NumPy).

    Raises ValueError for an unknown name, RuntimeError if CuPy was asked for and cannot compute.
    """
    if name in _backends:
        return _backends[name]
    if name not in ("auto", "cupy"):
        raise ValueError(f"unknown backend {name!r}; choose auto, numpy or cupy")
    problem = cupy_problem()
    if problem is None:
        import cupy
        return Backend("cupy", cupy, cupy.asarray, cupy.asnumpy,
                       lambda: cupy.cuda.get_current_stream().synchronize())
    if name == "cupy":
        raise RuntimeError(f"the cupy backend cannot compute here: {problem} (the numpy backend "
                           "computes anywhere)")
    return NUMPY


# --- checks at the public doors ------------------------------------------------------------------

def check_same_shape(**arrays: Any) -> None:
    """Raise ValueError, naming every shape, unless all arguments have the same one.

    Numbers count as shape (): nothing broadcasts silently.
    """
    shapes = {name: tuple(getattr(x, "shape", ())) for name, x in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"equal shapes are wanted, got {listed}")


def check_ndim(ndim: int, axes: str, **arrays: Any) -> None:
    """Raise ValueError unless every argument has `ndim` axes; `axes` names them, as "(B, R)"."""
    for name, x in arrays.items():
        shape = tuple(getattr(x, "shape", ()))
        if len(shape) != ndim:
            raise ValueError(f"{name} must have shape {axes}, got {shape}")


def check_mask(mask: Any) -> None:
    """Raise TypeError unless `mask` is a boolean array (True = counts).

    Float and integer masks are refused: they invite multiplication, and NaN · 0 is NaN.
    """
    dtype = getattr(mask, "dtype", None)
    if dtype != np.bool_:
        raise TypeError(
            f"mask must be a boolean array (True = counts), got {dtype or type(mask).__name__}; "
            "write mask != 0 or mask.astype(bool)")


def check_prefix_mask(mask: Array) -> None:
    """Raise ValueError unless the True entries of each row come first (right padding).

    Reads the values, so on a GPU it waits for the device: call it once a rollout, not in a step.
    """
    check_mask(mask)
    gaps = ~mask[:, :-1] & mask[:, 1:]
    if bool(gaps.any()):
        row = int(gaps.any(axis=1).argmax())
        raise ValueError(
            f"mask must be a prefix of each row (right padding), but row {row} is False before it "
            "is True; shift the row's tokens together")

"""What a run was computed with: the same bits come from the same machine, libraries and threads.

Floating-point sums depend on their order, and the order of a matrix product is its BLAS library's
choice: another processor, another version or another number of threads may change the last bits,
and after thousands of steps every number.  So a run records what it began with, and says so when
it is resumed with something else.
"""

import ctypes
import platform
from pathlib import Path

import numpy as np

from minirlhf.arrays import Backend

DECISIVE = ("python", "numpy", "blas", "blas kernel", "blas threads", "processor", "backend",
            "device")                     # what may change bits


def environment(backend: Backend) -> dict[str, str]:
    """Versions and machine, as texts."""
    found = {"python": platform.python_version(), "numpy": np.__version__, **blas(),
             "processor": processor(), "system": platform.platform(), "backend": backend.name}
    if backend.name == "cupy":
        properties = backend.xp.cuda.runtime.getDeviceProperties(0)
        found["device"] = f"{properties['name'].decode()}, CuPy {backend.xp.__version__}"
    return found


def differences(before: dict, now: dict) -> list[str]:
    """What of the decisive entries has changed, in words."""
    return [f"{key} was {before.get(key, 'not there')}, is {now.get(key, 'not there')}"
            for key in DECISIVE if before.get(key) != now.get(key)]


def processor() -> str:
    """The processor's name: Linux keeps it in a file of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def blas() -> dict[str, str]:
    """NumPy's BLAS library; for OpenBLAS also the kernels that it chose and its threads."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found = {"blas": f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()}
    library = openblas()
    if library is not None:
        kernel, threads = library
        found |= {"blas kernel": kernel, "blas threads": str(threads)}
    return found


def openblas() -> tuple[str, int] | None:
    """(kernel, threads) of the OpenBLAS that NumPy's wheels bring along; None without one."""
    site = Path(np.__file__).parent
    for path in (*site.parent.glob("numpy.libs/*openblas*"), *site.glob(".dylibs/*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for before, after in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            try:
                corename = getattr(library, f"{before}openblas_get_corename{after}")
                threads = getattr(library, f"{before}openblas_get_num_threads{after}")
            except AttributeError:
                continue
            corename.restype = ctypes.c_char_p
            return corename().decode(), threads()
    return None

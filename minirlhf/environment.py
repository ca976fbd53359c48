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
from minirlhf.host import openblas

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
    kernel, threads = openblas("get_corename"), openblas("get_num_threads")
    if kernel and threads:
        kernel.restype = ctypes.c_char_p
        found |= {"blas kernel": kernel().decode(), "blas threads": str(threads())}
    return found

"""What a run was computed with: the same bits come from the same machine, libraries and threads.

Floating-point sums depend on their order, and the order of a matrix product is its BLAS library's
choice: another processor, another version or another number of threads may change the last bits,
and after thousands of steps every number.  So a run records what it began with, and says so when
it is resumed with something else.  It also records how much memory it took.
"""

import ctypes
import platform
from pathlib import Path

import numpy as np

from minirlhf.arrays import Backend
from minirlhf.files import read_object, write_json
from minirlhf.host import openblas, peak_memory
from minirlhf.parallel import ranks

DECISIVE = ("python", "numpy", "blas", "blas kernel", "blas threads", "processor", "backend",
            "device", "ranks")            # what may change bits
ONE_RANK = {"ranks": "1"}                 # what goes without saying


def environment(backend: Backend) -> dict[str, str]:
    """Versions and machine, as texts."""
    found = {"python": platform.python_version(), "numpy": np.__version__, **blas(),
             "processor": processor(), "system": platform.platform(), "backend": backend.name}
    if backend.name == "cupy":
        properties = backend.xp.cuda.runtime.getDeviceProperties(0)
        found["device"] = f"{properties['name'].decode()}, CuPy {backend.xp.__version__}"
    if ranks().started > 1:
        found["ranks"] = str(ranks().started)
    return found


def differences(before: dict, now: dict) -> list[str]:
    """What of the decisive entries has changed, in words."""
    before, now = ONE_RANK | before, ONE_RANK | now
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


# --- the memory that it took ---------------------------------------------------------------------

def record_peak(folder: Path) -> None:
    """Write memory.json: the largest resident size of the processes that have worked on a run.

    Of several ranks it is the first one's.  It is a file of its own: of all that a run leaves, only
    this and the part of the report that shows it differ from time to time.  Nothing is written
    where nobody tells the size.
    """
    known = [size for size in (read_peak(folder), peak_memory()) if size is not None]
    if known:
        write_json(Path(folder) / "memory.json", {"peak": max(known)})


def read_peak(folder: Path) -> int | None:
    """The peak in a run's memory.json, in bytes; None where it has no such file.

    Raises ValueError if the file holds none.
    """
    path = Path(folder) / "memory.json"
    if not path.exists():
        return None
    peak = read_object(path).get("peak")
    if type(peak) is not int or peak <= 0:
        raise ValueError(f"{path} wants {{\"peak\": bytes}}, got {str(peak)[:80]!r}; without the "
                         "file a run has no peak, and is none the worse")
    return peak

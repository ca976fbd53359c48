"""A strict double of CuPy: NumPy underneath, CuPy's rules above.

Most machines that run these tests have no GPU.  This package is what they have instead: an array
type and a namespace that compute with NumPy and refuse what CuPy is known to refuse: names and
keywords that it does not have, and the habits that traps.py lists.  So code that passes here should
meet few surprises of *interface* there; docs/gpu.md has what the double does not know.  It says
nothing about a GPU's numerics, speed or memory.

    surface.py        what CuPy has, recorded in surface.json
    ledger.py         counters of kernels, waits and uploads; blocks in which these are forbidden
    device_array.py   the array
    namespace.py      the functions: `xp`
    traps.py          lines that work on NumPy and not on CuPy
    phantom.py        arrays of the real CuPy without a device, to ask CuPy itself

Two ways to use it.  `STRICT` is a `Backend` beside NumPy's.  `playing_cupy` puts the namespace in
CuPy's place, so that programs which ask for `--backend cupy` run on it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from minirlhf.arrays import Backend, register_backend
from strict import namespace as xp
from strict.device_array import DeviceArray
from strict.ledger import LEDGER, HiddenTransfer, counting, forbidden

STRICT = Backend("strict", xp, xp.asarray, xp.asnumpy,
                 lambda: xp.cuda.get_current_stream().synchronize())
register_backend(STRICT, DeviceArray)


@contextmanager
def playing_cupy() -> Iterator[None]:
    """Inside, `import cupy` gives the double."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = xp
    try:
        yield
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before


__all__ = ["LEDGER", "STRICT", "DeviceArray", "HiddenTransfer", "counting", "forbidden",
           "playing_cupy", "xp"]

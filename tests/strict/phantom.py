"""Real CuPy arrays on a machine without a GPU, to ask CuPy itself what it refuses.

`cupy-cuda13x` imports where there is no driver, but every way to make an array asks the device
first.  One does not: an array may be laid over memory that somebody else owns.  Laid over host
memory it is a true `cupy.ndarray` with a shape and a dtype.  Nothing can be computed with it, but
what CuPy refuses *before* it asks the device it refuses here too, with its own exception.
"""

import numpy as np


def phantom(host: np.ndarray):
    """A cupy.ndarray over the bytes of `host`, which must outlive it."""
    import cupy
    host = np.ascontiguousarray(host)
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
    return cupy.ndarray(host.shape, host.dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


def asked_the_device(problem: BaseException) -> bool:
    """Whether an exception says no more than that there is no device to compute on."""
    return type(problem).__name__ == "CUDARuntimeError"

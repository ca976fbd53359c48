"""The double's `xp`: the names that both NumPy and CuPy have, with CuPy's arguments.

A function that CuPy lacks, a keyword that it does not take, an array of the host: each is refused
with CuPy's exception.  What passes is computed by NumPy's function of the same name, so results
are NumPy's to the bit.

`empty` is filled with NaN, since on a device there is no telling what is there; and the device
has random numbers of its own, since the streams of CuPy and NumPy differ for one seed.
"""

from functools import wraps
from types import SimpleNamespace

import numpy as np

from strict.device_array import (
    NUMBERS,
    SURFACE,
    VIEWS,
    WAITING,
    DeviceArray,
    check_kind,
    host_argument,
    operand,
    refuse,
    refuse_duplicates,
    wrap,
)
from strict.ledger import LEDGER
from strict.surface import parse

ndarray = DeviceArray
__version__ = f"{SURFACE['cupy']} (a double)"


def __getattr__(name: str):
    """CuPy's function, ufunc or constant of this name, made when it is first asked for."""
    if name in SURFACE["same_as_numpy"] and hasattr(np, name):
        thing = getattr(np, name)
    elif name in SURFACE["ufuncs"] and hasattr(np, name):
        thing = Ufunc(name)
    elif name in SURFACE["functions"] and hasattr(np, name):
        thing = function_of(name)
    else:
        raise AttributeError(f"module 'cupy' has no attribute {name!r}, or its double has none")
    globals()[name] = thing
    return thing


# --- from the host and back ----------------------------------------------------------------------

def own(function):
    """A function that the double has a version of its own of: its arguments too are CuPy's."""
    signature = parse(function.__name__, SURFACE["functions"][function.__name__])

    @wraps(function)
    def call(*args, **kwargs):
        signature.check(args, kwargs)
        LEDGER.used.add(("functions", function.__name__, tuple(kwargs)))
        return function(*args, **kwargs)
    return call


def new(obj, dtype, order, ndmin=0) -> DeviceArray:
    """A new array: a copy of one of the device, a few of the device side by side, or an upload."""
    if type(obj) is DeviceArray:
        LEDGER.calls += 1
        return DeviceArray(np.array(obj._host, dtype, order=order, ndmin=ndmin))
    there = [type(x) is DeviceArray for x in obj] if isinstance(obj, (list, tuple)) else [False]
    if any(there) and not all(there):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")
    if any(there):
        LEDGER.calls += 1
        return DeviceArray(np.array([x._host for x in obj], dtype))
    LEDGER.upload("asarray() or array()")
    return DeviceArray(np.array(obj, dtype, order=order, ndmin=ndmin))


@own
def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False):
    """A new array of the device."""
    return new(obj, dtype, order, ndmin)


@own
def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """The array itself if it is of the device and of this dtype, else a new one."""
    if type(a) is DeviceArray and not copy and dtype in (None, a._host.dtype):
        return a
    return new(a, dtype, order or "K")


@own
def asnumpy(a, stream=None, order="C", out=None, *, blocking=True) -> np.ndarray:
    """A copy on the host."""
    if type(a) is not DeviceArray:
        return np.asarray(a)
    LEDGER.sync("asnumpy()")
    if out is None:
        return a._host.copy()
    out[...] = a._host
    return out


@own
def empty(shape, dtype=float, order="C"):
    return unwritten(np.empty(host_argument("shape", shape), dtype, order))


@own
def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return unwritten(np.empty_like(host_argument("prototype", prototype), dtype, order,
                                   shape=shape))


def unwritten(host: np.ndarray) -> DeviceArray:
    """Memory that nobody has written to holds anything: NaN, or a number far out."""
    host.fill(np.nan if host.dtype.kind in "fc" else True if host.dtype == bool else 99)
    return DeviceArray(host)


# --- functions -----------------------------------------------------------------------------------

def function_of(name: str):
    """The function of this name: its arguments checked against CuPy's, then NumPy's own."""
    signature, function = parse(name, SURFACE["functions"][name]), getattr(np, name)
    names, sorts = signature.positional, "kind" in signature.keywords
    waits, launches = name in WAITING, name not in VIEWS
    elementwise = name in ("where", "clip", "isclose", "allclose", "nan_to_num", "full_like",
                           "result_type", "can_cast", "put_along_axis")

    def call(*args, **kwargs):
        signature.check(args, kwargs)
        LEDGER.used.add(("functions", name, tuple(kwargs)))
        LEDGER.calls += launches
        if waits or (name == "where" and len(args) == 1):
            LEDGER.sync(name)
        if sorts:
            check_kind(signature, args, kwargs)
        first = args[0] if args else kwargs.get(names[0]) if names else None
        if not elementwise and names and names[0] in ("a", "m") and isinstance(first, NUMBERS):
            raise AttributeError(f"{type(first).__name__!r} object is no array: CuPy takes no "
                                 "number here")
        if name == "put":
            refuse_duplicates((args[0].size,), host_argument("indices", args[1]))
        if name == "put_along_axis":
            refuse_repeats(*args[:2], args[3] if len(args) > 3 else kwargs["axis"])
        host = [host_argument(names[i] if i < len(names) else "operands", x)
                for i, x in enumerate(args)]
        out = kwargs.get("out")
        kwargs = {key: host_argument(key, x) for key, x in kwargs.items()}
        result = function(*host, **kwargs)
        return wrap(result) if out is None else out
    call.__name__ = name
    return call


def refuse_repeats(target, indices, axis: int) -> None:
    """Raise ValueError if `put_along_axis` would write an entry twice."""
    ordered = np.sort(host_argument("indices", indices) % target.shape[axis], axis=axis)
    if not np.diff(ordered, axis=axis).all():
        raise ValueError("an entry is assigned twice, and on a GPU either value may stay")


class Ufunc:
    """An elementwise function, with what CuPy has of `at`, `reduce` and `accumulate`."""

    def __init__(self, name: str):
        self.name, self.ufunc = name, getattr(np, name)
        self.signature = parse(name, SURFACE["ufuncs"][name])
        self.works = SURFACE["ufunc_methods"].get(name, ())

    def __call__(self, *args, **kwargs):
        self.signature.check(args, kwargs)
        LEDGER.used.add(("ufuncs", self.name, tuple(kwargs)))
        LEDGER.calls += 1
        out = kwargs.get("out", args[self.ufunc.nin] if len(args) > self.ufunc.nin else None)
        if out is not None and type(out) is not DeviceArray:
            refuse(out)
        args = [operand(x) for x in args]
        kwargs = {key: x._host if type(x) is DeviceArray else x for key, x in kwargs.items()}
        result = self.ufunc(*args, **kwargs)
        return wrap(result) if out is None else out

    def _method(self, method: str):
        LEDGER.used.add(("ufunc_methods", self.name, (method,)))
        LEDGER.calls += 1
        if method not in self.works:
            raise NotImplementedError(f"`cupy_{self.name}.{method}` is not supported yet")
        return getattr(self.ufunc, method)

    def at(self, a, indices, b=None):
        at = self._method("at")
        keys = indices if type(indices) is tuple else (indices,)
        if any(isinstance(k, (np.ndarray, list)) for k in keys):
            raise TypeError("an index of the host is uploaded at every call")
        at(operand(a), tuple(map(operand, keys)), *(() if b is None else (operand(b),)))

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        return wrap(self._method("reduce")(operand(array), axis, dtype, out, keepdims))

    def accumulate(self, array, axis=0, dtype=None, out=None):
        return wrap(self._method("accumulate")(operand(array), axis, dtype, out))


# --- the device ----------------------------------------------------------------------------------

class Generator:
    """CuPy's generator: fewer methods than NumPy's, and another stream for the same seed."""

    def __init__(self, seed=None):
        self._rng = np.random.default_rng(None if seed is None else [99, *np.atleast_1d(seed)])

    def __getattr__(self, name: str):
        if name not in SURFACE["generator"]:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")
        signature = parse(name, SURFACE["generator"][name])

        def draw(*args, **kwargs):
            signature.check(args, kwargs)
            LEDGER.calls += 1
            return wrap(getattr(self._rng, name)(*args, **kwargs))
        return draw


random = SimpleNamespace(default_rng=Generator, Generator=Generator)
cuda = SimpleNamespace(
    is_available=lambda: True,
    get_current_stream=lambda: SimpleNamespace(
        synchronize=lambda: LEDGER.sync("Stream.synchronize()")),
    runtime=SimpleNamespace(
        getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
        getDeviceProperties=lambda device: {"name": b"no device: a double of CuPy"}))

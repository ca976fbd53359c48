"""Lines that work on NumPy and not on CuPy: what people write when they have no GPU at hand.

Each is a function of `xp` and of a `Table` of arrays, those of the library under test and the same
ones of the host.  `refusal` is the exception that the double raises, and `who` says what is known
of CuPy itself:

    "cupy"      CuPy refuses it before it asks the device, so any machine can see it (phantom.py)
    "device"    CuPy asks the device first, and its code refuses it then (read there, not seen)
    "silent"    CuPy computes something, wrong or slow; the double is stricter on purpose
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Table:
    """Arrays of the library under test, and their copies on the host."""

    x: Any                   # float32 (2, 3)
    ids: Any                 # int64 (2,): 0, 1
    twice: Any               # int64 (2,): 1, 1
    far: Any                 # int64 (2,): 0, 7
    mask: Any                # bool (2, 3)
    h: np.ndarray            # x on the host
    host_ids: np.ndarray     # ids on the host


def table(asarray: Callable) -> Table:
    h = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    ids = np.array([0, 1])
    return Table(asarray(h), asarray(ids), asarray(np.array([1, 1])), asarray(np.array([0, 7])),
                 asarray(h > 2), h, ids)


@dataclass(frozen=True)
class Trap:
    line: Callable[[Any, Table], Any]
    refusal: type[Exception]
    who: str


def cupy(line, refusal=TypeError):
    return Trap(line, refusal, "cupy")


def device(line, refusal=TypeError):
    return Trap(line, refusal, "device")


def silent(line, refusal=TypeError):
    return Trap(line, refusal, "silent")


def assign(x, key, value):
    x[key] = value


def increase(x, key, value):
    x[key] += value


def add_to(x, value):
    x += value


TRAPS: dict[str, Trap] = {
    # --- arrays of the host
    "NumPy's asarray": cupy(lambda xp, t: np.asarray(t.x)),
    "NumPy's array of a list": cupy(lambda xp, t: np.array([t.x, t.x])),
    "NumPy's testing": cupy(lambda xp, t: np.testing.assert_allclose(t.x, t.h)),
    "a host generator given an array": cupy(
        lambda xp, t: np.random.default_rng(0).normal(t.x, 1.0)),
    "plus an array of the host": device(lambda xp, t: t.x + t.h),
    "an array of the host plus": device(lambda xp, t: t.h + t.x),
    "an array of the host compared": device(lambda xp, t: t.h < t.x),
    "plus in place, of the host": device(lambda xp, t: add_to(t.x, t.h)),
    "plus a list": device(lambda xp, t: t.x + [1, 2, 3]),
    "times a 0-d array of the host": device(lambda xp, t: t.x * np.array(2.0)),
    "matrix product with the host": cupy(lambda xp, t: t.x @ t.h.T),
    "matrix product of the host": cupy(lambda xp, t: t.h.T @ t.x),
    "assignment from the host": cupy(lambda xp, t: assign(t.x, slice(None), t.h), ValueError),
    "where with the host": device(lambda xp, t: xp.where(t.mask, t.h, 0)),
    "concatenate with the host": device(lambda xp, t: xp.concatenate([t.x, t.h])),
    "stack with the host": cupy(lambda xp, t: xp.stack([t.x, t.h])),
    "maximum with the host": device(lambda xp, t: xp.maximum(t.x, t.h)),
    "sum of a list": cupy(lambda xp, t: xp.sum([1, 2]), AttributeError),
    "mean of a number": cupy(lambda xp, t: xp.mean(2.0), AttributeError),
    "exp of a list": device(lambda xp, t: xp.exp([1.0, 2.0])),
    "sum of the host": silent(lambda xp, t: xp.sum(t.h)),
    "add.at of the host": silent(lambda xp, t: xp.add.at(t.x, t.host_ids, 1.0)),
    # --- NumPy's own functions
    "np.exp": silent(lambda xp, t: np.exp(t.x)),
    "np.sum": silent(lambda xp, t: np.sum(t.x)),
    "np.where": silent(lambda xp, t: np.where(t.mask, t.x, 0)),
    "np.concatenate": silent(lambda xp, t: np.concatenate([t.x, t.x])),
    "np.linalg.norm": silent(lambda xp, t: np.linalg.norm(t.x)),
    # --- indices
    "an index array of the host": silent(lambda xp, t: t.x[t.host_ids]),
    "a list as an index": silent(lambda xp, t: t.x[[0, 1]]),
    "an assignment at host indices": silent(lambda xp, t: assign(t.x, t.host_ids, 0)),
    "an assignment with an index twice": silent(
        lambda xp, t: assign(t.x, t.twice, t.x), ValueError),
    "an increase with an index twice": silent(lambda xp, t: increase(t.x, t.twice, 1), ValueError),
    "put_along_axis with an index twice": silent(
        lambda xp, t: xp.put_along_axis(t.x, t.twice[:, None] * 0 + t.twice, 0.0, 1), ValueError),
    "a number of the device in range()": cupy(lambda xp, t: range(t.ids[0])),
    "a number of the device as a list's index": cupy(lambda xp, t: [1, 2][t.ids[0]]),
    "a number of the device in a set": cupy(lambda xp, t: {t.x[0, 0]}),
    "a number of the device in a shape": cupy(lambda xp, t: t.x.reshape(t.ids[1], -1)),
    "a number of the device as a size": cupy(lambda xp, t: xp.zeros(t.ids[1])),
    "a number of the device as an axis": cupy(lambda xp, t: t.x.sum(axis=t.ids[1])),
    "numbers of the device as an axis to insert": cupy(
        lambda xp, t: xp.expand_dims(t.x, t.ids[0])),
    "an entry assigned a list": cupy(lambda xp, t: assign(t.x, 0, [1, 2, 3]), ValueError),
    "an array of a list with a number": device(lambda xp, t: xp.asarray([t.x[0, 0], 1.0])),
    "put with an index twice": silent(lambda xp, t: xp.put(t.x, t.twice, 0.0), ValueError),
    "flags.writeable": cupy(lambda xp, t: t.x.flags.writeable, AttributeError),
    "a number of the device as a key": cupy(lambda xp, t: {t.ids[0]: "first"}),
    # --- keywords
    "sum(where=)": cupy(lambda xp, t: xp.sum(t.x, where=t.mask)),
    ".sum(where=)": cupy(lambda xp, t: t.x.sum(where=t.mask)),
    ".mean(where=)": cupy(lambda xp, t: t.x.mean(where=t.mask)),
    ".max(initial=)": cupy(lambda xp, t: t.x.max(initial=0)),
    "max(initial=)": cupy(lambda xp, t: xp.max(t.x, initial=0)),
    "exp(where=)": device(lambda xp, t: xp.exp(t.x, where=t.mask, out=xp.zeros_like(t.x))),
    "clip(min=, max=)": cupy(lambda xp, t: xp.clip(t.x, min=0, max=1)),
    "take(mode=)": cupy(lambda xp, t: xp.take(t.x, t.ids, mode="clip")),
    "sort(stable=)": cupy(lambda xp, t: xp.sort(t.x, stable=True)),
    "argsort(kind=mergesort)": cupy(lambda xp, t: xp.argsort(t.x, kind="mergesort"), ValueError),
    "zeros(device=)": cupy(lambda xp, t: xp.zeros(3, device="cpu")),
    "asarray(like=)": cupy(lambda xp, t: xp.asarray(1.0, like=t.x)),
    "take_along_axis without its axis": cupy(
        lambda xp, t: xp.take_along_axis(t.ids, t.ids)),
    "reshape(shape=)": cupy(lambda xp, t: xp.reshape(t.x, shape=(3, 2))),
    "std(correction=)": cupy(lambda xp, t: xp.std(t.x, correction=1)),
    "std(mean=)": cupy(lambda xp, t: xp.std(t.x, mean=1.0)),
    "count_nonzero(keepdims=)": cupy(lambda xp, t: xp.count_nonzero(t.x, keepdims=True)),
    "unique(sorted=)": cupy(lambda xp, t: xp.unique(t.ids, sorted=False)),
    ".item(0)": cupy(lambda xp, t: t.x.item(0)),
    # --- names
    "errstate": cupy(lambda xp, t: xp.errstate(all="ignore"), AttributeError),
    "vecdot": cupy(lambda xp, t: xp.vecdot(t.x, t.x), AttributeError),
    "insert": cupy(lambda xp, t: xp.insert(t.x, 0, 1.0), AttributeError),
    "block": cupy(lambda xp, t: xp.block([[t.x]]), AttributeError),
    "geomspace": cupy(lambda xp, t: xp.geomspace(1, 8, 4), AttributeError),
    "ndenumerate": cupy(lambda xp, t: xp.ndenumerate(t.x), AttributeError),
    ".setflags": cupy(lambda xp, t: t.x.setflags(write=False), AttributeError),
    ".resize": cupy(lambda xp, t: t.x.resize, AttributeError),
    "maximum.reduce": cupy(lambda xp, t: xp.maximum.reduce(t.x), NotImplementedError),
    "maximum.accumulate": cupy(lambda xp, t: xp.maximum.accumulate(t.x), NotImplementedError),
    "logaddexp.reduce": cupy(lambda xp, t: xp.logaddexp.reduce(t.x), NotImplementedError),
    "multiply.at": cupy(lambda xp, t: xp.multiply.at(t.x, t.ids, 2.0), NotImplementedError),
    # --- random numbers of the device
    "Generator.normal": cupy(lambda xp, t: xp.random.Generator.normal, AttributeError),
    "Generator.choice": cupy(lambda xp, t: xp.random.Generator.choice, AttributeError),
    "Generator.permutation": cupy(lambda xp, t: xp.random.Generator.permutation, AttributeError),
}

# The one trap that NumPy refuses as well, and CuPy does not: it wraps around, and says nothing.
OUT_OF_BOUNDS: dict[str, Callable[[Any, Table], Any]] = {
    "x[far]": lambda xp, t: t.x[t.far],
    "x[far] = 0": lambda xp, t: assign(t.x, t.far, 0),
    "take": lambda xp, t: xp.take(t.x, t.far, axis=0),
    "take_along_axis": lambda xp, t: xp.take_along_axis(t.x, t.far[:, None], axis=1),
    "add.at": lambda xp, t: xp.add.at(t.x, t.far, 1.0),
}

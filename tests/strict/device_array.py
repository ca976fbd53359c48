"""The double's array: it holds NumPy's, and behaves as `cupy.ndarray` does.

It refuses what CuPy refuses: conversion by NumPy, arrays of the host beside it, lists, methods and
keywords that CuPy does not have.  Where CuPy is silent and wrong or slow, it refuses too:

    an index out of bounds             CuPy wraps around                    IndexError
    assignment with an index twice     which value stays is undefined       ValueError
    arrays of the host as an index     uploads them at every call           TypeError
    lists as an index                  the same                             TypeError
    a function of NumPy's (np.exp)     computes, and hides a stray `np.`    TypeError

Everything it returns is an array of the device: a reduction is one of shape (), and so is a single
entry, which is a *view* (it changes when the array does; NumPy gives a number that stays).
"""

import operator

import numpy as np

from strict.ledger import LEDGER
from strict.surface import parse, read

NUMBERS = (int, float, complex, np.generic)              # bool is an int
SURFACE = read()

# Parameters of CuPy's functions and methods that are arrays, by name; those that hold several; and
# those that may be numbers of the device, or numbers.
ARRAYS = frozenset("a x x1 x2 y z b m v p A arr ary array ar a1 a2 ar1 ar2 arr1 arr2 condition "
                   "indices ind values prototype sorter bins weights element test_elements mask "
                   "src dst filt sample xp fp out".split())
LISTS_OF_ARRAYS = frozenset(("tup", "arrays"))
NUMBERS_OR_ARRAYS = frozenset("fill_value value a_min a_max min max operands repeats "
                              "vals".split())
# These wait for the device to learn how large their result is, or to hand it over.
WAITING = frozenset("item tolist tobytes tofile dump dumps nonzero unique bincount argwhere "
                    "flatnonzero extract compress choose histogram histogram2d histogramdd "
                    "array_equiv setdiff1d union1d intersect1d array2string array_repr array_str "
                    "save savetxt savez trim_zeros place".split())
# These give another view of the same memory, or tell about it, and launch nothing.
VIEWS = frozenset("reshape transpose swapaxes moveaxis rollaxis expand_dims squeeze broadcast_to "
                  "broadcast_arrays ravel view diagonal split array_split hsplit vsplit dsplit "
                  "atleast_1d atleast_2d atleast_3d permute_dims matrix_transpose ndim shape size "
                  "isscalar result_type can_cast may_share_memory shares_memory".split())


class DeviceArray:
    """An array of a device that is not there."""

    __slots__ = ("_host",)
    __hash__ = None

    def __init__(self, host: np.ndarray):
        self._host = host

    # --- what NumPy may not do with it

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` "
                        "to construct a NumPy array explicitly.")

    def __array_function__(self, function, *_):
        raise TypeError(f"np.{function.__name__} was given an array of the device (CuPy would "
                        "compute it, and the stray np. stay hidden): take the function from xp")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        operation = _REFLECTED.get(ufunc.__name__)
        if method == "__call__" and not kwargs and operation and len(inputs) == 2:
            first = inputs[0]
            if isinstance(first, np.ndarray) and first.ndim == 0 and ufunc.__name__ in _COMPARED:
                first = first.item()           # np.float32(2) < x comes as an array; CuPy knows
            if isinstance(first, NUMBERS):                         # np.float32(2) * x
                return getattr(self, operation)(first)
            return refuse(first)                                   # host * x
        raise TypeError(f"np.{ufunc.__name__} was given an array of the device (CuPy would compute "
                        "it, and the stray np. stay hidden): take the function from xp")

    # --- looking at it

    def __float__(self):
        LEDGER.sync("float()")
        return float(self._host)

    def __int__(self):
        LEDGER.sync("int()")
        return int(self._host)

    def __bool__(self):
        LEDGER.sync("bool()")
        return bool(self._host)

    def __complex__(self):
        LEDGER.sync("complex()")
        return complex(self._host)

    def __repr__(self):
        LEDGER.sync("repr()")
        return repr(self._host)

    def __str__(self):
        LEDGER.sync("str()")
        return str(self._host)

    def __format__(self, form):
        LEDGER.sync("format()")
        return format(self._host.item() if self._host.ndim == 0 else self._host, form)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        if self._host.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._host)))

    def __copy__(self):
        return wrap(self._host.copy())

    def __deepcopy__(self, memo):
        return self.__copy__()

    def __reduce__(self):
        LEDGER.sync("pickling")
        return DeviceArray, (self._host,)

    # --- indexing

    def __getitem__(self, key):
        host_key, gathers = index_of(key)
        LEDGER.calls += gathers
        if not gathers and not has_ellipsis(host_key):        # then a single entry is a view too
            host_key = (*(host_key if type(host_key) is tuple else (host_key,)), ...)
        return wrap(self._host[host_key])

    def __setitem__(self, key, value):
        host_key, gathers = index_of(key)
        if isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim:
            raise ValueError(f"non-scalar {type(value).__name__} cannot be used for fill")
        if gathers:
            refuse_duplicates(self._host.shape, host_key)
        LEDGER.calls += 1
        self._host[host_key] = operand(value)


def wrap(result):
    """Arrays and scalars of NumPy's as arrays of the device; containers with all they hold."""
    if type(result) is np.ndarray:
        return DeviceArray(result)
    if isinstance(result, np.generic):
        return DeviceArray(np.asarray(result))
    if type(result) in (tuple, list):
        return type(result)(map(wrap, result))
    return result


def operand(x):
    """The NumPy value of what CuPy takes beside an array: another one, or a number."""
    if type(x) is DeviceArray:
        return x._host
    if isinstance(x, NUMBERS):
        return x
    return refuse(x)


def refuse(x):
    raise TypeError(f"Unsupported type {type(x)}")


def index_of(key) -> tuple[object, bool]:
    """A key for NumPy, and whether it holds index arrays (a kernel) rather than a view's slices."""
    keys = key if type(key) is tuple else (key,)
    hosts, gathers = [], False
    for k in keys:
        if type(k) is DeviceArray:
            gathers = True
            if k._host.dtype == bool:
                LEDGER.sync("an index of booleans")
            k = k._host
        elif isinstance(k, (np.ndarray, list)):
            raise TypeError(f"an index of type {type(k).__name__} is uploaded at every call; make "
                            "it an array of the device once (xp.asarray)")
        hosts.append(k)
    return tuple(hosts) if type(key) is tuple else hosts[0], gathers


def has_ellipsis(key) -> bool:
    return key is ... or type(key) is tuple and any(k is ... for k in key)


def refuse_duplicates(shape: tuple[int, ...], key) -> None:
    """Raise ValueError if a key of index arrays names an entry twice."""
    entries = np.arange(int(np.prod(shape))).reshape(shape)[key]
    if len(np.unique(entries)) < np.size(entries):
        raise ValueError("an entry is assigned twice, and on a GPU either value may stay; use "
                         "xp.add.at, or a product with one-hot rows")


# --- arguments of functions and methods ----------------------------------------------------------

def host_argument(name: str, x):
    """What NumPy is given for an argument that has this name in CuPy."""
    if type(x) is DeviceArray:
        if name in ARRAYS or name in LISTS_OF_ARRAYS or name in NUMBERS_OR_ARRAYS:
            return x._host
        if name in ("start", "stop", "step"):                # arange and linspace look at them
            LEDGER.sync(f"{name}=")
            return x._host.item()
        raise TypeError("'ndarray' object cannot be interpreted as an integer")     # axis, shape
    if isinstance(x, np.ndarray):
        return refuse(x)
    if isinstance(x, (list, tuple)):
        if name in LISTS_OF_ARRAYS:
            return [x_._host if type(x_) is DeviceArray else refuse(x_) for x_ in x]
        if name == "indices":
            raise TypeError("a list of indices is uploaded at every call")
        if name in ARRAYS:
            raise AttributeError(f"{type(x).__name__!r} object is no array, and has no method for "
                                 "this")
        if any(type(x_) is DeviceArray for x_ in x):         # a shape, axes
            raise TypeError("'ndarray' object cannot be interpreted as an integer")
    return x


def check_kind(signature, args: tuple, kwargs: dict) -> None:
    """CuPy sorts in one way, which is stable."""
    kind = dict(zip(signature.positional, args, strict=False)).get("kind", kwargs.get("kind"))
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")


def method_of(name: str, text: str):
    """The method of this name: its arguments checked against CuPy's, then NumPy's own."""
    signature, method = parse(name, text), getattr(np.ndarray, name)
    names, sorts = signature.positional, "kind" in signature.keywords
    waits, launches = name in WAITING, name not in VIEWS

    def call(self, *args, **kwargs):
        signature.check(args, kwargs)
        LEDGER.used.add(("methods", name, tuple(kwargs)))
        LEDGER.calls += launches
        if waits:
            LEDGER.sync(f".{name}()")
        if sorts:
            check_kind(signature, args, kwargs)
        if name == "put":
            refuse_duplicates((self._host.size,), host_argument("indices", args[0]))
        args = [host_argument(names[i] if i < len(names) else "", x) for i, x in enumerate(args)]
        out = kwargs.get("out")
        kwargs = {key: host_argument(key, x) for key, x in kwargs.items()}
        result = method(self._host, *args, **kwargs)
        return out if out is not None else result if waits and name != "nonzero" else wrap(result)
    call.__name__ = name
    return call


class Flags:
    """What CuPy tells of an array's memory."""

    def __init__(self, array: DeviceArray):
        flags = array._host.flags
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


def attribute_of(name: str):
    """An attribute: a view of the array, or, fetched as fast as may be, what is known of it."""
    if name in ("T", "mT", "real", "imag", "base"):
        return property(lambda self: wrap(getattr(self._host, name)))
    if name == "flags":
        return property(Flags)
    return property(operator.attrgetter(f"_host.{name}"))


def binary(function):
    """An operator with an array, or a number, on the other side."""
    def apply(self, other):
        if type(other) is DeviceArray:
            other = other._host
        elif not isinstance(other, NUMBERS):
            if getattr(other, "__array_ufunc__", self) is None:    # it asks to be asked itself
                return NotImplemented
            refuse(other)
        LEDGER.calls += 1
        return wrap(function(self._host, other))
    return apply


def in_place(function):
    def apply(self, other):
        LEDGER.calls += 1
        function(self._host, operand(other))
        return self
    return apply


def matrix_product(self, other):
    if type(other) is not DeviceArray:
        if getattr(other, "__array_ufunc__", self) is None:
            return NotImplemented
        raise TypeError("Argument 'b' has incorrect type (expected an array of the device, got "
                        f"{type(other).__name__})")
    LEDGER.calls += 1
    return wrap(self._host @ other._host)


def unary(function):
    def apply(self):
        LEDGER.calls += 1
        return wrap(function(self._host))
    return apply


_OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
              "floordiv": "floor_divide", "mod": "remainder", "pow": "power",
              "and_": "bitwise_and", "or_": "bitwise_or", "xor": "bitwise_xor",
              "lshift": "left_shift", "rshift": "right_shift"}
_COMPARISONS = {"lt": ("less", "gt"), "le": ("less_equal", "ge"), "gt": ("greater", "lt"),
                "ge": ("greater_equal", "le"), "eq": ("equal", "eq"), "ne": ("not_equal", "ne")}
_COMPARED = frozenset(ufunc for ufunc, _ in _COMPARISONS.values())
# How `np.generic ∘ x`, which NumPy asks by its ufunc's name, is asked of x.
_REFLECTED = ({ufunc: f"__r{name.strip('_')}__" for name, ufunc in _OPERATORS.items()}
              | {ufunc: f"__{mirror}__" for ufunc, mirror in _COMPARISONS.values()})

for _name in _OPERATORS:
    _function, _bare = getattr(operator, _name), _name.strip("_")
    setattr(DeviceArray, f"__{_bare}__", binary(_function))
    setattr(DeviceArray, f"__r{_bare}__", binary(lambda a, b, f=_function: f(b, a)))
    setattr(DeviceArray, f"__i{_bare}__", in_place(getattr(operator, f"i{_bare}")))
for _name in _COMPARISONS:
    setattr(DeviceArray, f"__{_name}__", binary(getattr(operator, _name)))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", unary(getattr(operator, _name)))
DeviceArray.__matmul__ = matrix_product
for _name, _text in SURFACE["methods"].items():
    if hasattr(np.ndarray, _name):                       # CuPy's own (`get`) would fail on NumPy
        setattr(DeviceArray, _name, method_of(_name, _text))
for _name in SURFACE["attributes"]:
    if hasattr(np.ndarray, _name) and _name not in ("data", "device", "flat"):
        setattr(DeviceArray, _name, attribute_of(_name))

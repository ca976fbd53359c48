"""The double of CuPy refuses what CuPy refuses, computes what NumPy computes, and counts.

What CuPy refuses is in strict/traps.py; tests/wheel asks CuPy itself about the same lines.
"""

import copy
import inspect
import pickle

import numpy as np
import pytest
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st
from strict import LEDGER, STRICT, HiddenTransfer, counting, forbidden, xp
from strict.surface import parse, read
from strict.traps import OUT_OF_BOUNDS, TRAPS, table

from minirlhf.arrays import array_module, to_host

X = np.array([[1.5, -2.0, 0.25], [3.0, 0.5, -1.0]], np.float32)


@pytest.fixture
def x():
    return xp.asarray(X)


# --- what it refuses -----------------------------------------------------------------------------

@pytest.mark.parametrize("trap", TRAPS)
def test_a_line_that_works_on_numpy_is_refused_with_cupys_exception(trap):
    line, refusal = TRAPS[trap].line, TRAPS[trap].refusal
    line(np, table(np.array))
    with pytest.raises(refusal):
        line(xp, table(STRICT.asarray))


@pytest.mark.parametrize("line", OUT_OF_BOUNDS)
def test_an_index_out_of_bounds_is_refused_as_by_numpy_where_cupy_wraps_around(line):
    for module, asarray in ((np, np.array), (xp, STRICT.asarray)):
        with pytest.raises(IndexError):
            OUT_OF_BOUNDS[line](module, table(asarray))


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if "assign" in trap])
def test_a_refused_assignment_changes_nothing(trap):
    t = table(STRICT.asarray)
    with pytest.raises(TRAPS[trap].refusal):
        TRAPS[trap].line(xp, t)
    assert_same(t.x, t.h)


def test_unwritten_memory_is_not_zero():
    assert np.isnan(to_host(xp.empty((2, 2)))).all()
    assert to_host(xp.empty_like(xp.zeros(3, dtype=np.int64))).all()


def test_the_device_draws_other_random_numbers_than_the_host_for_the_same_seed():
    there = to_host(xp.random.default_rng(0).random(4))
    assert there.shape == (4,) and (there != np.random.default_rng(0).random(4)).all()


# --- what it computes ----------------------------------------------------------------------------

def test_a_reduction_an_entry_and_an_argmax_are_arrays_of_the_device(x):
    for got, wanted in ((x.sum(), X.sum()), (x[0, 1], X[0, 1]), (x.argmax(), X.argmax()),
                        (xp.max(x), X.max()), (x.mean(axis=0), X.mean(axis=0))):
        assert type(got) is xp.ndarray and array_module(got) is xp
        assert_same(got, np.asarray(wanted))


OPERATIONS = {
    "x + y": lambda xp, x, y: x + y, "2 - x": lambda xp, x, y: 2 - x,
    "np.float32(2) * x": lambda xp, x, y: np.float32(2) * x,
    "np.float64(2) / y": lambda xp, x, y: np.float64(2) / y,
    "np.float64(1) <= x": lambda xp, x, y: np.float64(1) <= x,
    "x ** 2": lambda xp, x, y: x ** 2, "-x": lambda xp, x, y: -x, "abs(x)": lambda xp, x, y: abs(x),
    "x @ y.T": lambda xp, x, y: x @ y.T, "x > y": lambda xp, x, y: x > y,
    "~(x > y) | (x == y)": lambda xp, x, y: ~(x > y) | (x == y),
    "exp": lambda xp, x, y: xp.exp(x), "tanh(out=)": lambda xp, x, y: xp.tanh(x, out=y),
    "where": lambda xp, x, y: xp.where(x > y, x, 0.0), "x[1:]": lambda xp, x, y: x[1:],
    "x[:, None] - y": lambda xp, x, y: x[:, None] - y, "cumsum": lambda xp, x, y: x.cumsum(axis=1),
    "stack": lambda xp, x, y: xp.stack([x, y], axis=1), "std": lambda xp, x, y: x.std(ddof=1),
    "sort": lambda xp, x, y: xp.sort(x, axis=-1), "astype": lambda xp, x, y: x.astype(int),
    "take_along_axis": lambda xp, x, y: xp.take_along_axis(x, xp.argsort(y, axis=1), axis=1),
    "add.reduce": lambda xp, x, y: xp.add.reduce(x, axis=1),
    "multiply.accumulate": lambda xp, x, y: xp.multiply.accumulate(x, axis=1),
    "transpose": lambda xp, x, y: x.transpose(1, 0).reshape(-1),
    "einsum": lambda xp, x, y: xp.einsum("ij,kj->ik", x, y),
}


@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_passes_has_numpys_bits_and_dtype(operation, seed):
    x, y = np.random.default_rng(seed).standard_normal((2, 3, 3)).astype(np.float32)
    got = OPERATIONS[operation](xp, xp.asarray(x), xp.asarray(y))
    assert type(got) is xp.ndarray
    assert_same(got, OPERATIONS[operation](np, x, y))


def test_views_share_memory_and_copies_do_not(x):
    x[0][...] = 7.0
    x.T[2, 1] = 8.0
    copied = copy.deepcopy(x)
    copied += 1
    assert_same(x, np.array([[7, 7, 7], [3, 0.5, 8]], np.float32))


def test_a_single_entry_is_a_view_where_numpy_gives_a_number_that_stays(x):
    entry, host = x[1, 0], X.copy()
    of_host = host[1, 0]
    x[1, 0], host[1, 0] = 5.0, 5.0
    assert float(entry) == 5.0 and of_host == 3.0


def test_what_comes_from_the_host_and_goes_there_is_a_copy(x):
    host = X.copy()
    there = xp.asarray(host)
    fetched = xp.asnumpy(there)
    host[0], fetched[1] = 0, 0
    assert_same(there, X)
    assert xp.asarray(there) is there and xp.asarray(there, dtype=np.float64) is not there


def test_operations_in_place_change_the_array_and_every_view_of_it_but_for_the_matrix_product(x):
    row, square = x[0], xp.asarray(np.eye(2))
    x += 1
    x *= xp.asarray(X)
    assert_same(row, ((X + 1) * X)[0])
    before = square
    square @= square
    assert square is not before


def test_an_index_of_distinct_entries_may_be_assigned_to(x):
    x[xp.asarray(np.array([1, 0]))] = xp.asarray(X)
    assert_same(x, X[::-1])
    x[xp.asarray(np.array([0, 1])), xp.asarray(np.array([2, 2]))] += 1
    assert_same(x[:, 2], X[::-1][:, 2] + 1)
    xp.put_along_axis(x, xp.asarray(np.array([[0], [0]])), 9.0, axis=1)
    assert_same(x[:, 0], np.float32([9, 9]))


# --- what it counts ------------------------------------------------------------------------------

SYNCS = {
    "float": lambda x: float(x[0, 0]), "int": lambda x: int(x[0, 0]),
    "bool": lambda x: bool(x[0, 0]), "if": lambda x: 1 if x.any() else 0,
    "item": lambda x: x[0, 0].item(), "tolist": lambda x: x.tolist(),
    "repr": repr, "str": str, "format": lambda x: f"{x[0, 0]:.3f}", "asnumpy": xp.asnumpy,
    "in": lambda x: 3 in x[0], "max()": lambda x: max(x[0]), "a mask": lambda x: x[x > 0],
    "an assigned mask": lambda x: x.__setitem__(x > 0, 0), "nonzero": lambda x: x.nonzero(),
    "where of one": lambda x: xp.where(x > 0), "unique": xp.unique,
    "tobytes": lambda x: x.tobytes(), "pickling": pickle.dumps,
    "a number to count to": lambda x: xp.arange(x.max()),
    "Stream.synchronize": lambda x: STRICT.synchronize(),
}
QUIET = {
    "+": lambda x: x + 1, "sum": lambda x: x.sum(), "where": lambda x: xp.where(x > 0, x, 0),
    "x[1:]": lambda x: x[1:], "isfinite().all()": lambda x: xp.isfinite(x).all(),
    "len": len, "shape": lambda x: x.shape, "asarray": xp.asarray, "arange": lambda x: xp.arange(3),
    "full": lambda x: xp.full(3, 0.5), "stack": lambda x: xp.stack([x.sum(), x.max()]),
    "iteration": lambda x: [row + 1 for row in x], "x[i]": lambda x: x[xp.arange(2)],
    "fill": lambda x: x.__setitem__(0, 1.0),
}
UPLOADS = {
    "asarray": lambda: xp.asarray(X), "array": lambda: xp.array([1, 2]),
    "a number": lambda: xp.asarray(1.0),
}


@pytest.mark.parametrize("what", SYNCS)
def test_what_looks_at_the_numbers_waits_for_the_device(what, x):
    with counting() as spent:
        SYNCS[what](x)
    assert spent.syncs >= 1 and spent.uploads == 0
    with pytest.raises(HiddenTransfer), forbidden():
        SYNCS[what](x)


@pytest.mark.parametrize("what", QUIET)
def test_what_only_computes_neither_waits_nor_uploads(what, x):
    with forbidden(), counting() as spent:
        QUIET[what](x)
    assert spent.syncs == spent.uploads == 0


@pytest.mark.parametrize("what", UPLOADS)
def test_what_comes_from_the_host_is_an_upload(what):
    with counting() as spent:
        UPLOADS[what]()
    assert (spent.uploads, spent.syncs) == (1, 0)
    with pytest.raises(HiddenTransfer), forbidden():
        UPLOADS[what]()


def test_forbidding_ends_with_its_block_and_nests(x):
    with forbidden():
        with forbidden():
            pass
        with pytest.raises(HiddenTransfer):
            float(x[0, 0])
    assert float(x[0, 0]) == 1.5


def test_calls_are_what_launches_a_kernel_and_views_are_none(x):
    with counting() as views:
        x[1:].T.reshape(-1)[None].swapaxes(0, 1)
    with counting() as kernels:
        (x + 1).sum()
        xp.exp(x)
        x[xp.asarray(np.array([0]))]
    assert views.calls == 0 and kernels.calls == 4


def test_the_names_used_are_noted_with_their_keywords(x):
    xp.sum(x, axis=0, keepdims=True)
    x.mean(axis=1)
    xp.add.at(x, xp.arange(2), 1.0)
    assert {("functions", "sum", ("axis", "keepdims")), ("methods", "mean", ("axis",)),
            ("ufunc_methods", "add", ("at",))} <= LEDGER.used


# --- CuPy's record -------------------------------------------------------------------------------

def test_every_entry_of_the_record_names_arguments():
    record = read()
    for kind in ("functions", "ufuncs", "methods", "generator"):
        for name, text in record[kind].items():
            assert all(argument.isidentifier() for argument in parse(name, text).positional), name


@pytest.mark.parametrize("name", ["array", "asarray", "asnumpy", "empty", "empty_like"])
def test_the_doubles_own_functions_take_cupys_arguments(name):
    own = inspect.signature(getattr(xp, name).__wrapped__)
    assert list(own.parameters) == [entry.rstrip("=") for entry in
                                    read()["functions"][name].split(", ") if entry != "*"]


def test_the_record_says_what_is_known_of_cupy():
    record = read()
    assert record["functions"]["sum"] == "a, axis=, dtype=, out=, keepdims="
    assert record["ufuncs"]["add"] == "x1, x2, /, out=, *, casting=, dtype="
    assert record["methods"]["swapaxes"] == "axis1, axis2"
    assert "vecdot" not in record["functions"] | record["ufuncs"]


@pytest.mark.parametrize("arguments, keywords, accepted", [
    ((1, 2), {}, True), ((1,), {"b": 2}, True), ((1, 2), {"c": 3, "d": 4}, True),
    ((1,), {}, False), ((1, 2, 3, 4), {}, False), ((1, 2), {"e": 5}, False), ((), {"b": 1}, False)])
def test_arguments_are_checked_as_python_would(arguments, keywords, accepted):
    signature = parse("f", "a, b, c=, *, d=")
    if accepted:
        signature.check(arguments, keywords)
    else:
        with pytest.raises(TypeError):
            signature.check(arguments, keywords)


def test_any_number_of_positions_and_arguments_without_a_name():
    parse("reshape", "*shape, order=").check((2, 3, 4), {"order": "C"})
    with pytest.raises(TypeError, match="x1"):
        parse("exp", "x1, /, out=").check((), {"x1": 1})

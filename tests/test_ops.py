"""Every op against central differences, then what is special about each: ties, limits, masks.

`CASES` is the table: for each op, inputs at which its gradient is checked.  The same cases are run
for the laws that bind all ops: dtypes are preserved, no input is written to, plain arrays give
plain arrays.  An op without a case fails the suite.
"""

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from gradcheck import check_gradient, random_cotangent
from helpers import arrays_and_mask, assert_close, assert_same, float_arrays, host, prefix_mask
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad

# --- the cases -----------------------------------------------------------------------------------

_rng = np.random.default_rng(7)


@dataclass(frozen=True)
class Case:
    """call(*inputs, *constants): the inputs are differentiated, the constants are not."""
    inputs: tuple
    call: object
    constants: tuple = ()


def normal(*shape):
    return _rng.standard_normal(shape)


def positive(*shape):
    return _rng.uniform(0.5, 2.0, shape)


def far_apart(*shape):
    """Numbers no two of which are closer than 0.1: min, max and clip are smooth around them."""
    return (_rng.permutation(int(np.prod(shape))) * 0.1 - 0.45).reshape(shape)


def ids(high, *shape):
    return _rng.integers(0, high, shape)


def causal(T):
    return np.where(np.tril(np.ones((T, T), bool)), 0.0, -np.inf)


def causal_with_left_padding(T, padding):
    """(B, 1, T, T): as `causal`, but the first padding[b] keys of row b are hidden.  The diagonal
    is allowed, so that the padded queries too have a key to look at."""
    hidden = np.arange(T) < np.asarray(padding)[:, None]
    bias = np.where(hidden[:, None, None, :], -np.inf, causal(T))
    return np.where(np.eye(T, dtype=bool), 0.0, bias)


def broadcasting(op, make):
    """The ways in which two arrays broadcast, and a number on either side."""
    return {
        "equal shapes": Case((make(2, 3), make(2, 3)), op),
        "a row": Case((make(2, 3), make(3)), op),
        "a column": Case((make(2, 1), make(2, 3)), op),
        "both stretch": Case((make(2, 1), make(1, 3)), op),
        "a leading axis": Case((make(3), make(2, 2, 3)), op),
        "a 0-d array": Case((make(2, 3), make()), op),
        "two 0-d arrays": Case((make(), make()), op),
        "a number on the right": Case((make(2, 3),), lambda a: op(a, 1.7)),
        "a number on the left": Case((make(2, 3),), lambda b: op(1.7, b)),
        "a whole number on the right": Case((make(2, 3),), lambda a: op(a, 2)),
        "a whole number on the left": Case((make(2, 3),), lambda b: op(2, b)),
        "a constant on the right": Case((make(2, 3),), op, (make(3),)),
    }


def of_one(op, make):
    return {"a matrix": Case((make(2, 3),), op), "a 0-d array": Case((make(),), op),
            "three axes": Case((make(2, 3, 2),), op)}


def untied(op):
    """minimum and maximum where no two entries meet."""
    pair = far_apart(2, 3, 2)
    row = far_apart(4, 3)
    return {"equal shapes": Case((pair[..., 0], pair[..., 1]), op),
            "a row": Case((row[:3], row[3]), op),
            "a column": Case((row[:, :1], row[:, 1:]), op),
            "a number": Case((far_apart(2, 3),), lambda a: op(a, -0.2)),
            "a number first": Case((far_apart(2, 3),), lambda b: op(-0.2, b))}


def with_nan(mask):
    """A float array of the mask's shape that holds NaN wherever the mask is False."""
    return np.where(mask, normal(*mask.shape), np.nan)


MASK = prefix_mask([3, 1, 4], 4)
CONDITION = _rng.random((2, 3)) < 0.5
TOKENS = np.array([[0, 2, 2], [4, 2, 0]])                                # repeated ids

CASES = {
    "add": broadcasting(ops.add, normal),
    "sub": broadcasting(ops.sub, normal),
    "mul": broadcasting(ops.mul, normal),
    "div": broadcasting(ops.div, positive),
    "power": broadcasting(ops.power, positive) | {
        "a negative base": Case((-positive(2, 3),), lambda a: ops.power(a, 3)),
        "a square of zero": Case((np.array([0.0, 1.0]),), lambda a: ops.power(a, 2)),
        "a root": Case((positive(2, 3),), lambda a: ops.power(a, -0.5)),
    },
    "matmul": {
        "matrices": Case((normal(2, 3), normal(3, 4)), ops.matmul),
        "square matrices": Case((normal(3, 3), normal(3, 3)), ops.matmul),
        "a vector on the left": Case((normal(3), normal(3, 4)), ops.matmul),
        "a vector on the right": Case((normal(2, 3), normal(3)), ops.matmul),
        "two vectors": Case((normal(3), normal(3)), ops.matmul),
        "stacks": Case((normal(2, 2, 3), normal(2, 3, 2)), ops.matmul),
        "a stack and a matrix": Case((normal(2, 2, 3), normal(3, 4)), ops.matmul),
        "a matrix and a stack": Case((normal(2, 3), normal(2, 3, 4)), ops.matmul),
        "stacks that broadcast": Case((normal(2, 1, 2, 3), normal(3, 3, 2)), ops.matmul),
        "a stack and a vector": Case((normal(2, 2, 3), normal(3)), ops.matmul),
        "a vector and a stack": Case((normal(3), normal(2, 3, 4)), ops.matmul),
        "a constant": Case((normal(2, 3),), ops.matmul, (normal(3, 2),)),
    },
    "exp": of_one(ops.exp, normal),
    "log": of_one(ops.log, positive),
    "softplus": of_one(ops.softplus, normal) | {
        "far out": Case((np.array([-700.0, -30.0, 30.0, 700.0]),), ops.softplus)},
    "minimum": untied(ops.minimum),
    "maximum": untied(ops.maximum),
    "clip": {
        "numbers": Case((far_apart(3, 4),), lambda a: ops.clip(a, -0.2, 0.33)),
        "arrays": Case((far_apart(2, 3),), ops.clip, (np.full((2, 3), -0.2), np.full((2, 3), 0.0))),
    },
    "where": {
        "equal shapes": Case((normal(2, 3), normal(2, 3)),
                             lambda a, b, c: ops.where(c, a, b), (CONDITION,)),
        "a row and a column": Case((normal(3), normal(2, 1)),
                                   lambda a, b, c: ops.where(c, a, b), (CONDITION,)),
        "a condition that broadcasts": Case((normal(2, 3), normal(2, 3)),
                                            lambda a, b, c: ops.where(c, a, b), (CONDITION[0],)),
        "a number": Case((normal(2, 3),), lambda a, c: ops.where(c, a, 0), (CONDITION,)),
        "a number first": Case((normal(2, 3),), lambda b, c: ops.where(c, 1.0, b), (CONDITION,)),
    },
    "sum": {
        "everything": Case((normal(2, 3, 2),), ops.sum),
        "axis 0": Case((normal(2, 3),), lambda a: ops.sum(a, axis=0)),
        "axis 1": Case((normal(2, 3, 2),), lambda a: ops.sum(a, axis=1)),
        "the last axis": Case((normal(2, 3, 2),), lambda a: ops.sum(a, axis=-1)),
        "a vector": Case((normal(3),), lambda a: ops.sum(a, axis=0)),
        "a 0-d array": Case((normal(),), ops.sum),
    },
    "masked_mean": {
        "its own count": Case((normal(3, 4),), ops.masked_mean, (MASK,)),
        "a given count": Case((normal(3, 4),), lambda a, m: ops.masked_mean(a, m, 20), (MASK,)),
        "a count that is a NumPy integer": Case(
            (normal(3, 4),), lambda a, m: ops.masked_mean(a, m, np.int64(20)), (MASK,)),
        "nothing unmasked": Case((normal(3, 4),), lambda a, m: ops.masked_mean(a, m, 20),
                                 (np.zeros((3, 4), bool),)),
        "one axis": Case((normal(4),), ops.masked_mean, (MASK[0],)),
    },
    "reshape": {
        "flat": Case((normal(2, 3),), lambda a: ops.reshape(a, (6,))),
        "an inferred axis": Case((normal(2, 3, 2),), lambda a: ops.reshape(a, (4, -1))),
        "a number": Case((normal(2, 3),), lambda a: ops.reshape(a, -1)),
    },
    "transpose": {"a matrix": Case((normal(2, 3),), ops.transpose),
                  "a square": Case((normal(3, 3),), ops.transpose),
                  "a stack": Case((normal(2, 3, 4),), ops.transpose)},
    "index": {
        "an int": Case((normal(3, 4),), lambda a: ops.index(a, 1)),
        "two ints": Case((normal(3, 4),), lambda a: ops.index(a, (1, -1))),
        "slices": Case((normal(3, 4),), lambda a: ops.index(a, (slice(1, 3), slice(0, None, 2)))),
        "a new axis": Case((normal(3, 4),), lambda a: ops.index(a, (slice(None), None))),
        "an ellipsis": Case((normal(2, 3, 2),), lambda a: ops.index(a, (..., 0))),
    },
    "embedding": {
        "repeated ids": Case((normal(5, 2),), ops.embedding, (TOKENS,)),
        "a vector of ids": Case((normal(5, 2),), ops.embedding, (TOKENS[0],)),
    },
    "linear": {
        "a matrix": Case((normal(2, 3), normal(3, 4), normal(4)), ops.linear),
        "a batch": Case((normal(2, 2, 3), normal(3, 4), normal(4)), ops.linear),
        "a vector": Case((normal(3), normal(3, 4), normal(4)), ops.linear),
        "no bias": Case((normal(2, 3), normal(3, 4)), lambda a, w: ops.linear(a, w, 0)),
        "constant weights": Case((normal(2, 3),), ops.linear, (normal(3, 4), normal(4))),
    },
    "layer_norm": {
        "a matrix": Case((normal(2, 5), positive(5), normal(5)), ops.layer_norm),
        "a batch": Case((normal(2, 3, 4), normal(4), normal(4)), ops.layer_norm),
        "a vector": Case((normal(5), positive(5), normal(5)), ops.layer_norm),
        "another eps": Case((normal(2, 4), positive(4), normal(4)),
                            lambda a, g, b: ops.layer_norm(a, g, b, 0.5)),
        "constant gain and bias": Case((normal(2, 4),), ops.layer_norm, (positive(4), normal(4))),
    },
    "gelu": of_one(ops.gelu, normal),
    "causal_attention": {
        "one head": Case((normal(1, 3, 6),), lambda a, m: ops.causal_attention(a, 1, m),
                         (causal(3),)),
        "two heads": Case((normal(2, 4, 12),), lambda a, m: ops.causal_attention(a, 2, m),
                          (causal(4),)),
        "left padding": Case((normal(3, 4, 12),), lambda a, m: ops.causal_attention(a, 2, m),
                             (causal_with_left_padding(4, [0, 2, 4]),)),
        "a finite bias": Case((normal(1, 3, 6),), lambda a, m: ops.causal_attention(a, 1, m),
                              (normal(3, 3),)),
        "one token": Case((normal(2, 1, 6),), lambda a, m: ops.causal_attention(a, 1, m),
                          (causal(1),)),
    },
    "log_softmax": {"a matrix": Case((normal(3, 4),), ops.log_softmax),
                    "a batch": Case((normal(2, 2, 3),), ops.log_softmax),
                    "a vector": Case((normal(4),), ops.log_softmax)},
    "select_logprobs": {
        "a matrix": Case((normal(3, 4),), ops.select_logprobs, (ids(4, 3),)),
        "a batch": Case((normal(2, 3, 4),), ops.select_logprobs, (ids(4, 2, 3),)),
        "a vector": Case((normal(4),), ops.select_logprobs, (np.array(2),)),
        "a temperature": Case((normal(3, 4),), lambda z, i: ops.select_logprobs(z, i, 0.7),
                              (ids(4, 3),)),
    },
}

EVERY_CASE = [pytest.param(op, case, id=f"{op}: {title}")
              for op, cases in CASES.items() for title, case in cases.items()]
every_case = pytest.mark.parametrize("op, case", EVERY_CASE)


def moved(arrays, backend, dtype=None):
    """Copies of the arrays on the backend; floats among them converted to `dtype`."""
    return [backend.asarray(x.astype(dtype if dtype and x.dtype.kind == "f" else x.dtype))
            for x in arrays]


def on_the_tape(case, backend, dtype=None):
    """(leaf Tensors, constants, output Tensor) of one case."""
    tensors = [Tensor(x) for x in moved(case.inputs, backend, dtype)]
    constants = moved(case.constants, backend, dtype)
    return tensors, constants, case.call(*tensors, *constants)


def cotangent(y, backend):
    u = random_cotangent(y.shape, np.random.default_rng(1))
    return backend.asarray(np.asarray(u, dtype=y.dtype))


# --- laws for every op ---------------------------------------------------------------------------

def test_every_op_has_a_case_and_every_case_an_op():
    assert set(ops.OPS) == set(CASES)
    assert all(CASES.values())


@every_case
def test_a_case_tests_the_op_under_whose_name_it_stands(op, case, backend):
    _, _, y = on_the_tape(case, backend)
    assert y.vjp.__qualname__ == f"{op}.<locals>.vjp"


@every_case
def test_the_gradient_is_the_slope(op, case, backend, rng):
    constants = moved(case.constants, backend)
    check_gradient(lambda *inputs: case.call(*inputs, *constants),
                   *moved(case.inputs, backend), rng=rng)


@every_case
def test_plain_arrays_give_the_plain_array_that_is_on_the_tape(op, case, backend):
    inputs, constants = moved(case.inputs, backend), moved(case.constants, backend)
    plain = case.call(*inputs, *constants)
    assert not isinstance(plain, Tensor)
    assert_same(plain, on_the_tape(case, backend)[2].value)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_preserved_in_the_forward_and_in_every_gradient(op, case, dtype, backend):
    tensors, _, y = on_the_tape(case, backend, dtype)
    assert y.dtype == dtype
    for a, da in zip(y.inputs, y.vjp(cotangent(y, backend)), strict=True):
        if isinstance(a, Tensor):
            assert da.dtype == dtype and da.shape == a.shape


@every_case
def test_the_gradient_in_float32_is_that_in_float64_rounded(op, case, backend):
    _, _, wide = on_the_tape(case, backend, np.float64)
    _, _, narrow = on_the_tape(case, backend, np.float32)
    for a, wanted, got in zip(wide.inputs, wide.vjp(cotangent(wide, backend)),
                              narrow.vjp(cotangent(narrow, backend)), strict=True):
        if isinstance(a, Tensor):
            assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@every_case
def test_neither_forward_nor_backward_writes_to_anything_it_was_given(op, case, backend):
    tensors, constants, y = on_the_tape(case, backend)
    dy = cotangent(y, backend)
    given_arrays = [a.value for a in tensors] + constants + [dy, y.value]
    originals = [*case.inputs, *case.constants, host(dy).copy(), host(y.value).copy()]
    first = [None if da is None else host(da).copy() for da in y.vjp(dy)]
    for x, original in zip(given_arrays, originals, strict=True):
        assert_same(x, original)
    for da, before in zip(y.vjp(dy), first, strict=True):        # nor to what it has saved
        assert (da is None) == (before is None)
        if da is not None:
            assert_same(da, before)


# --- arithmetic ----------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 3), (2, 1), (1, 1), (1,), ()])
def test_unbroadcast_sums_over_the_copies(shape, backend, rng):
    dy = rng.standard_normal((2, 3))
    x = np.zeros(shape)
    got = ops.unbroadcast(backend.asarray(dy), Tensor(backend.asarray(x)))
    one_by_one = np.zeros(shape)
    places = np.broadcast_to(np.arange(x.size).reshape(shape), (2, 3))
    np.add.at(one_by_one.reshape(-1), places.ravel(), dy.ravel())
    assert_close(got, one_by_one)


@pytest.mark.parametrize("constant", [2.0, np.float64(2), np.ones((2, 1)), np.ones((2, 3))],
                         ids=["number", "NumPy number", "column", "same shape"])
def test_unbroadcast_gives_a_constant_no_gradient(constant, backend):
    dy = backend.asarray(np.ones((2, 3)))
    if isinstance(constant, np.ndarray):
        constant = backend.asarray(constant)
    assert ops.unbroadcast(dy, constant) is None
    for op in (ops.add, ops.sub, ops.mul, ops.div, ops.minimum, ops.maximum):
        x = Tensor(dy)
        assert [g is None for g in op(x, constant).vjp(dy)] == [False, True], op.__name__
        assert [g is None for g in op(constant, x).vjp(dy)] == [True, False], op.__name__


def gradients(f, *arrays, backend):
    """df/darrays on the host, f a scalar."""
    _, grads = value_and_grad(lambda args: f(*args))([backend.asarray(np.asarray(a, np.float64))
                                                      for a in arrays])
    return [host(g) for g in grads]


def weighted(y, weights, backend):
    """Σ y·weights: how these tests make a scalar."""
    return ops.sum(y * backend.asarray(np.asarray(weights, np.float64)))


@pytest.mark.parametrize("op, smaller_gets", [(ops.minimum, 0), (ops.maximum, 1)])
def test_minimum_and_maximum_send_the_gradient_to_the_winner_and_at_a_tie_to_the_first(
        op, smaller_gets, backend):
    a, b, u = [1.0, 5.0, 2.0], [2.0, 4.0, 2.0], [0.3, -0.7, 1.1]
    da, db = gradients(lambda a, b: weighted(op(a, b), u, backend), a, b, backend=backend)
    first_wins = np.array([smaller_gets == 0, smaller_gets == 1, True])   # the last one is a tie
    assert_same(da, np.where(first_wins, u, 0.0))
    assert_same(db, np.where(first_wins, 0.0, u))


def test_clip_passes_the_gradient_at_both_bounds_and_stops_it_outside(backend):
    x, u = [0.79, 0.8, 1.0, 1.2, 1.21], [0.3, -0.7, 1.1, 0.9, -1.3]
    (da,) = gradients(lambda a: weighted(ops.clip(a, 0.8, 1.2), u, backend), x, backend=backend)
    assert_same(da, np.array([0, -0.7, 1.1, 0.9, 0]))


@given(x=float_arrays((2, 3)), bounds=st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(sorted))
def test_clip_equals_numpys(backend, x, bounds):
    assert_same(ops.clip(backend.asarray(x), *bounds), np.clip(x, *bounds))


def test_exp_gives_zero_and_not_nan_where_an_overflow_gets_no_gradient(backend):
    x, u = [1000.0, 1.0], [0.0, 2.0]
    with np.errstate(over="ignore"):
        (da,) = gradients(lambda a: weighted(ops.where(backend.asarray(np.array([False, True])),
                                                       ops.exp(a), 0), u, backend),
                          x, backend=backend)
    assert_close(da, np.array([0, 2 * np.e]))


def test_power_at_zero_has_the_slopes_of_the_limit(backend):
    (da,) = gradients(lambda a: weighted(a ** 2.0, [3.0], backend), [0.0], backend=backend)
    (db,) = gradients(lambda b: weighted(0.0 ** b, [3.0], backend), [2.0], backend=backend)
    assert_same(da, np.zeros(1))
    assert_same(db, np.zeros(1))
    (db,) = gradients(lambda b: weighted(backend.asarray(np.zeros(1)) ** b, [3.0], backend), [2.0],
                      backend=backend)
    assert_same(db, np.zeros(1))


@pytest.mark.parametrize("x", [-1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4])
def test_softplus_and_its_slope_are_exact_far_out(x, backend):
    with mpmath.workdps(60):
        wanted = float(mpmath.log1p(mpmath.exp(x)))
        slope = float(1 / (1 + mpmath.exp(-x)))
    y, da = value_and_grad(ops.softplus)(backend.asarray(np.array(x)))
    assert_close(y, wanted, rtol=1e-14, atol=1e-300)
    assert_close(da, slope, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softplus_and_its_slope_have_their_limits_at_infinity(dtype, backend):
    """log(1 + eᵃ) is 0 at −∞ with slope 0, and ∞ at ∞ with slope 1: never NaN."""
    x = backend.asarray(np.array([-np.inf, np.inf], dtype))
    _, da = value_and_grad(lambda a: ops.sum(ops.softplus(a)))(x)
    assert_same(ops.softplus(x), np.array([0, np.inf], dtype))
    assert_same(da, np.array([0, 1], dtype))


def test_the_slope_of_a_quotient_does_not_underflow_with_the_square_of_its_divisor(backend):
    """a = b = 10⁻²⁵ in float32: b² would be 0, yet db = −a/b² = −10²⁵ is a float32."""
    tiny = backend.asarray(np.full(1, 1e-25, np.float32))
    _, (da, db) = value_and_grad(lambda sides: ops.sum(ops.div(*sides)))([tiny, tiny])
    assert_close(da, np.full(1, 1e25, np.float32), rtol=1e-6)
    assert_close(db, np.full(1, -1e25, np.float32), rtol=1e-6)
    assert da.dtype == db.dtype == np.float32


# --- masks ---------------------------------------------------------------------------------------

def test_where_never_lets_the_branch_not_taken_touch_value_or_gradient(backend):
    mask = backend.asarray(MASK)
    x = with_nan(MASK)
    y, da = value_and_grad(lambda a: ops.sum(ops.where(mask, a, 0) * 2.0))(backend.asarray(x))
    assert_close(y, 2 * np.nansum(x))
    assert_same(da, np.where(MASK, 2.0, 0.0))
    _, db = value_and_grad(lambda b: ops.sum(ops.where(mask, 0, b) * 2.0))(
        backend.asarray(np.where(MASK, np.nan, 1.0)))
    assert_same(db, np.where(MASK, 0.0, 2.0))


@given(batch=arrays_and_mask())
def test_masked_mean_is_the_mean_of_the_unmasked_whatever_the_masked_slots_hold(backend, batch):
    x, mask = batch
    u = 1.7
    poisoned = backend.asarray(np.where(mask, x, np.nan))
    y, da = value_and_grad(lambda a: ops.masked_mean(a, backend.asarray(mask)) * u)(poisoned)
    assert_close(y, u * x[mask].mean(), atol=1e-14)
    assert_close(da, np.where(mask, u / mask.sum(), 0))


@given(batch=arrays_and_mask(shortest=0), cut=st.integers(0, 5))
def test_the_means_of_the_parts_of_a_batch_add_up_to_the_mean_of_the_batch(backend, batch, cut):
    x, mask = batch
    if not mask.any():
        mask[0, 0] = True
    count = int(mask.sum())
    a, m = backend.asarray(x), backend.asarray(mask)

    def whole(a):
        return ops.masked_mean(a, m) * 1.3

    def in_two(a):
        return (ops.masked_mean(a[:cut], m[:cut], count)
                + ops.masked_mean(a[cut:], m[cut:], count)) * 1.3
    y, da = value_and_grad(whole)(a)
    y2, da2 = value_and_grad(in_two)(a)
    assert_close(y2, y, atol=1e-14)
    assert_close(da2, da)


def test_masked_mean_of_a_part_without_tokens_is_zero_when_the_count_is_given(backend):
    x, mask = backend.asarray(np.full((2, 2), np.nan)), backend.asarray(np.zeros((2, 2), bool))
    y, da = value_and_grad(lambda a: ops.masked_mean(a, mask, 7))(x)
    assert_same(y, np.array(0.0))
    assert_same(da, np.zeros((2, 2)))


def test_masked_mean_over_no_token_without_a_count_is_refused(backend):
    with pytest.raises(ValueError, match="no True entry"):
        ops.masked_mean(backend.asarray(np.ones((2, 2))), backend.asarray(np.zeros((2, 2), bool)))


@pytest.mark.parametrize("count", [0, -3, float("nan"), np.float64("nan")])
def test_a_count_that_is_not_positive_is_refused(count, backend):
    with pytest.raises(ValueError, match=f"positive number of tokens, got {count}"):
        ops.masked_mean(backend.asarray(np.ones(2)), backend.asarray(np.ones(2, bool)), count)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8])
def test_a_mask_that_is_not_boolean_is_refused(dtype, backend):
    with pytest.raises(TypeError, match="boolean"):
        ops.masked_mean(backend.asarray(np.ones(2)), backend.asarray(np.ones(2, dtype)))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 2), ()])
def test_a_mask_of_another_shape_is_refused_and_not_broadcast(shape, backend):
    with pytest.raises(ValueError, match="equal shapes"):
        ops.masked_mean(backend.asarray(np.ones((2, 3))), backend.asarray(np.ones(shape, bool)))


# --- reductions and look-ups ---------------------------------------------------------------------

def test_a_sum_of_float32_stays_float32(backend):
    x = backend.asarray(np.full((2, 3), 0.1, np.float32))
    assert ops.sum(x).dtype == np.float32 and ops.sum(x, axis=0).dtype == np.float32


@given(tokens=st.lists(st.integers(0, 4), min_size=1, max_size=8), seed=st.integers(0, 2**32 - 1))
def test_the_embedding_gradient_adds_at_repeated_ids(backend, tokens, seed):
    rng = np.random.default_rng(seed)
    tokens, u = np.array(tokens), rng.standard_normal((len(tokens), 3))
    (dtable,) = gradients(
        lambda table: weighted(ops.embedding(table, backend.asarray(tokens)), u, backend),
        rng.standard_normal((5, 3)), backend=backend)
    wanted = np.zeros((5, 3))
    np.add.at(wanted, tokens, u)
    assert_close(dtable, wanted)


# --- attention -----------------------------------------------------------------------------------

def naive_attention(qkv, heads, bias):
    """One query at a time, in words: look only where the bias allows, average the values."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    D = C // heads
    bias = np.broadcast_to(bias, (B, 1, T, T))
    out = np.zeros((B, T, C))
    for b in range(B):
        for h in range(heads):
            q, k, v = (qkv[b, :, part * C + h * D:part * C + (h + 1) * D] for part in range(3))
            for t in range(T):
                scores = np.array([q[t] @ k[s] / np.sqrt(D) + bias[b, 0, t, s] for s in range(T)])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                out[b, t, h * D:(h + 1) * D] = sum(weights[s] * v[s] for s in range(T))
    return out


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("bias", [causal(4), causal_with_left_padding(4, [0, 3])],
                         ids=["causal", "left padding"])
def test_attention_equals_a_loop_over_queries(heads, bias, backend, rng):
    qkv = rng.standard_normal((2, 4, 3 * 6))
    got = ops.causal_attention(backend.asarray(qkv), heads, backend.asarray(bias))
    assert_close(got, naive_attention(qkv, heads, bias))


def test_a_later_token_never_influences_an_earlier_one(backend, rng):
    bias = backend.asarray(causal(5))
    qkv = rng.standard_normal((1, 5, 12))
    changed = qkv.copy()
    changed[:, 3:] += 100 * rng.standard_normal((1, 2, 12))
    before = host(ops.causal_attention(backend.asarray(qkv), 2, bias))
    after = host(ops.causal_attention(backend.asarray(changed), 2, bias))
    assert_same(after[:, :3], before[:, :3])
    assert abs(after[:, 3:] - before[:, 3:]).max() > 1e-3

    u = np.zeros((1, 5, 4))
    u[:, :3] = rng.standard_normal((1, 3, 4))                # a loss of the first three outputs
    (dqkv,) = gradients(lambda a: weighted(ops.causal_attention(a, 2, bias), u, backend), qkv,
                        backend=backend)
    assert_same(dqkv[:, 3:], np.zeros((1, 2, 12)))
    assert abs(dqkv[:, 1:3]).min() > 0                       # (the first can only see itself)


def test_attention_of_rows_that_are_all_padding_stays_finite(backend, rng):
    bias = backend.asarray(causal_with_left_padding(4, [4, 4]))
    qkv, u = 1e3 * rng.standard_normal((2, 4, 12)), rng.standard_normal((2, 4, 4))
    (dqkv,) = gradients(lambda a: weighted(ops.causal_attention(a, 2, bias), u, backend), qkv,
                        backend=backend)
    assert np.isfinite(dqkv).all()
    out = ops.causal_attention(backend.asarray(qkv), 2, bias)
    assert_close(out, qkv[..., 8:])                          # each sees itself: out = v


def test_attention_does_not_overflow_with_large_scores(backend, rng):
    qkv = 1e3 * rng.standard_normal((1, 4, 6))
    assert_close(ops.causal_attention(backend.asarray(qkv), 1, backend.asarray(causal(4))),
                 naive_attention(qkv, 1, causal(4)))


# --- layer norm, gelu ----------------------------------------------------------------------------

def test_layer_norm_has_mean_zero_and_variance_one(backend, rng):
    x = 5 + 3 * rng.standard_normal((4, 16))
    y = host(ops.layer_norm(backend.asarray(x), backend.asarray(np.ones(16)),
                            backend.asarray(np.zeros(16)), 0.0))
    assert_close(y.mean(axis=-1), np.zeros(4))
    assert_close(y.var(axis=-1), np.ones(4))


def test_layer_norm_forgets_a_shift_and_a_positive_scaling_of_its_input(backend, rng):
    x, gain, bias = rng.standard_normal((4, 8)), rng.standard_normal(8), rng.standard_normal(8)
    y, moved_y = (ops.layer_norm(*moved((a, gain, bias), backend), 0.0) for a in (x, 3 * x - 7))
    assert_close(moved_y, y)


def test_the_layer_norm_gradient_is_orthogonal_to_a_shift_and_to_a_scaling(backend, rng):
    x, gain, u = rng.standard_normal((4, 8)), rng.standard_normal(8), rng.standard_normal((4, 8))
    ones, zeros = backend.asarray(np.ones(8)), backend.asarray(np.zeros(8))
    (dx,) = gradients(
        lambda a: weighted(ops.layer_norm(a, backend.asarray(gain), zeros, 0.0), u, backend), x,
        backend=backend)
    normal_x = host(ops.layer_norm(backend.asarray(x), ones, zeros, 0.0))
    assert_close(dx.sum(axis=-1), np.zeros(4))
    assert_close((dx * normal_x).sum(axis=-1), np.zeros(4))
    assert abs(dx).max() > 0.1


@pytest.mark.parametrize("x", [-1e3, -10.0, -3.0, -0.7, 0.0, 1e-8, 0.7, 3.0, 10.0, 1e3])
def test_gelu_is_the_tanh_formula_to_the_last_digits(x, backend):
    with mpmath.workdps(60):
        def formula(x):
            return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi)
                                            * (x + mpmath.mpf("0.044715") * x**3)))
        wanted, slope = float(formula(mpmath.mpf(x))), float(mpmath.diff(formula, mpmath.mpf(x)))
    y, da = value_and_grad(ops.gelu)(backend.asarray(np.array(x)))
    assert_close(y, wanted, rtol=1e-14, atol=1e-15 * abs(x))     # 1 + t cancels on the far left
    assert_close(da, slope, rtol=1e-13, atol=1e-15 * (1 + abs(x)))


# --- log-probabilities ---------------------------------------------------------------------------

EXTREME_LOGITS = {
    "large": np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]]),
    "forbidden tokens": np.array([[0.0, -np.inf, 1.0], [-np.inf, -np.inf, 2.0]]),
}


def exact_log_softmax(logits):
    def of_row(row):
        with mpmath.workdps(60):
            total = mpmath.log(mpmath.fsum(mpmath.exp(z) for z in row))
            return [float(z - total) for z in map(mpmath.mpf, row)]
    return np.array([of_row([mpmath.mpf(z) for z in row]) for row in logits])


@pytest.mark.parametrize("logits", EXTREME_LOGITS.values(), ids=EXTREME_LOGITS)
def test_log_softmax_of_extreme_logits_is_exact_and_its_gradient_has_no_nan(logits, backend, rng):
    assert_close(ops.log_softmax(backend.asarray(logits)), exact_log_softmax(logits), atol=1e-15)
    u = np.where(np.isfinite(logits), rng.standard_normal(logits.shape), 0)
    (dx,) = gradients(
        lambda a: ops.sum(ops.where(backend.asarray(np.isfinite(logits)),
                                    ops.log_softmax(a), 0) * backend.asarray(u)),
        logits, backend=backend)
    p = np.exp(exact_log_softmax(logits))
    assert_close(dx, u - p * u.sum(axis=-1, keepdims=True), atol=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("logits", EXTREME_LOGITS.values(), ids=EXTREME_LOGITS)
def test_select_logprobs_of_extreme_logits_is_exact_and_its_gradient_has_no_nan(
        logits, temperature, backend):
    chosen, u = np.array([2, 2]), np.array([0.9, -1.3])
    exact = exact_log_softmax(logits / temperature)
    y, dz = value_and_grad(lambda z: weighted(
        ops.select_logprobs(z, backend.asarray(chosen), temperature), u, backend))(
            backend.asarray(logits))
    assert_close(y, (exact[[0, 1], chosen] * u).sum())
    wanted = u[:, None] / temperature * (np.eye(3)[chosen] - np.exp(exact))
    assert_close(dz, wanted, atol=1e-15)


@given(logits=float_arrays((3, 5)), chosen=st.lists(st.integers(0, 4), min_size=3, max_size=3),
       temperature=st.sampled_from([0.5, 1.0, 2.0]))
def test_select_logprobs_takes_one_entry_of_the_log_softmax_of_each_row(
        backend, logits, chosen, temperature):
    chosen, u = np.array(chosen), np.array([0.9, -1.3, 0.7])
    picked = np.eye(5)[chosen] * u[:, None]
    y, dz = value_and_grad(lambda z: weighted(
        ops.select_logprobs(z, backend.asarray(chosen), temperature), u, backend))(
            backend.asarray(logits))
    y2, dz2 = value_and_grad(lambda z: weighted(
        ops.log_softmax(z / temperature), picked, backend))(backend.asarray(logits))
    assert_close(y, y2, atol=1e-12)
    assert_close(dz, dz2, atol=1e-12)


@given(logits=float_arrays((2, 4), -50, 50))
def test_probabilities_sum_to_one_and_forget_a_shift(backend, logits):
    y = host(ops.log_softmax(backend.asarray(logits)))
    assert_close(np.exp(y).sum(axis=-1), np.ones(2))
    assert_close(host(ops.log_softmax(backend.asarray(logits + 7.0))), y, atol=1e-12)

"""The checker is checked first: it must catch every wrong gradient below, and pass the right ones.

The wrong ops are written as the right ones are, with one mistake in the backward.
"""

import numpy as np
import pytest
from gradcheck import check_gradient, random_cotangent
from helpers import host

from minirlhf import ops
from minirlhf.arrays import array_module
from minirlhf.autograd import record, value, value_and_grad


def unary(forward, backward):
    """An op of one input from y = forward(xp, x) and dx = backward(xp, dy, x, y)."""
    def function(a):
        x = value(a)
        xp = array_module(x)
        y = forward(xp, x)
        return record(y, (a,), lambda dy: (backward(xp, dy, x, y),))
    return function


def binary(forward, backward):
    """An op of two inputs from y = forward(x, z) and (dx, dz) = backward(dy, x, z)."""
    def function(a, b):
        x, z = value(a), value(b)
        return record(forward(x, z), (a, b), lambda dy: backward(dy, x, z))
    return function


def softmax(xp, x):
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def row_sum(x):
    return x.sum(axis=-1, keepdims=True)


right_softmax = unary(softmax, lambda xp, dy, x, y: y * (dy - row_sum(dy * y)))
tripled_softmax = unary(softmax, lambda xp, dy, x, y: 3 * y * (dy - row_sum(dy * y)))

WRONG_UNARY = {
    "a factor 1.001": unary(lambda xp, x: xp.exp(x), lambda xp, dy, x, y: 1.001 * dy * y),
    "a flipped sign": unary(lambda xp, x: xp.exp(x), lambda xp, dy, x, y: -dy * y),
    "an added constant": unary(lambda xp, x: xp.exp(x), lambda xp, dy, x, y: dy * y + 1e-4),
    "a softmax without its sum": unary(softmax, lambda xp, dy, x, y: y * dy),
    "a softmax times three": tripled_softmax,
    "a sum over the wrong axis": unary(
        softmax, lambda xp, dy, x, y: y * (dy - (dy * y).sum(axis=0, keepdims=True))),
    "a gradient of zero": unary(lambda xp, x: xp.exp(x), lambda xp, dy, x, y: 0 * dy),
    "a gradient of NaN": unary(lambda xp, x: xp.exp(x), lambda xp, dy, x, y: float("nan") * dy),
    "the gradient transposed": unary(lambda xp, x: x * x, lambda xp, dy, x, y: (2 * dy * x).T),
    "the output transposed": unary(lambda xp, x: x.T, lambda xp, dy, x, y: dy),
    "one wrong entry": unary(
        lambda xp, x: x * x,
        lambda xp, dy, x, y: 2 * dy * x + 0.01 * (xp.arange(x.size) == 5).reshape(x.shape)),
}


@pytest.mark.parametrize("fault", WRONG_UNARY)
@pytest.mark.parametrize("size", [3, 9])           # every entry probed, and entries and directions
def test_a_wrong_gradient_of_one_input_is_caught(fault, size, backend, rng):
    x = backend.asarray(rng.standard_normal((size, size)))
    with pytest.raises(AssertionError, match="gradient of argument 0"):
        check_gradient(WRONG_UNARY[fault], x)


WRONG_BINARY = {
    "gradients to each other's arguments": binary(
        lambda x, z: x * z, lambda dy, x, z: (dy * x, dy * z)),
    "a minus sign forgotten": binary(lambda x, z: x - z, lambda dy, x, z: (dy, dy)),
    "a matrix product's factors exchanged": binary(
        lambda x, z: x @ z, lambda dy, x, z: (z.T @ dy, dy @ x.T)),
    "a forgotten transposition": binary(lambda x, z: x @ z, lambda dy, x, z: (dy @ z, x.T @ dy)),
    "the first argument's gradient dropped": binary(
        lambda x, z: x * z, lambda dy, x, z: (0 * dy, dy * x)),
}


@pytest.mark.parametrize("fault", WRONG_BINARY)
def test_a_wrong_gradient_of_two_inputs_is_caught(fault, backend, rng):
    x, z = (backend.asarray(rng.standard_normal((3, 3))) for _ in range(2))
    with pytest.raises(AssertionError, match="gradient of argument"):
        check_gradient(WRONG_BINARY[fault], x, z)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), ()])
def test_a_missing_unbroadcast_is_caught(shape, backend, rng):
    product = binary(lambda x, z: x * z, lambda dy, x, z: (dy * z, dy * x))
    x = backend.asarray(rng.standard_normal((3, 4)))
    z = backend.asarray(rng.standard_normal(shape))
    check_gradient(ops.mul, x, z)
    with pytest.raises(ValueError, match=r"was given a gradient of shape \(3, 4\)"):
        check_gradient(product, x, z)


def test_a_transposed_gradient_of_a_matrix_that_is_not_square_is_caught_by_its_shape(backend, rng):
    x = backend.asarray(rng.standard_normal((2, 3)))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) was given a gradient of shape \(3, 2\)"):
        check_gradient(WRONG_UNARY["the gradient transposed"], x)


def test_the_message_names_the_argument_the_entry_and_both_values(backend):
    second = binary(lambda x, z: x * z, lambda dy, x, z: (dy * z, 2 * dy * x))
    x, z = backend.asarray(np.array([1.0])), backend.asarray(np.array([3.0]))
    with pytest.raises(AssertionError,
                       match=r"argument 1, entry \(0,\): analytic -?\d.*, numeric -?\d"):
        check_gradient(second, x, z)


RIGHT = {
    "softmax": right_softmax,
    "the square": unary(lambda xp, x: x * x, lambda xp, dy, x, y: 2 * dy * x),
    "transposition": unary(lambda xp, x: x.T, lambda xp, dy, x, y: dy.T),
    "a sum to a scalar": unary(lambda xp, x: x.sum(), lambda xp, dy, x, y: dy + 0 * x),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("size", [3, 9])
def test_right_gradients_pass_for_every_seed(name, size, backend):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        check_gradient(RIGHT[name], backend.asarray(rng.standard_normal((size, size))), rng=rng)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_wrong_factor_is_caught_at_every_scale_of_the_output(scale, backend, rng):
    x = backend.asarray(rng.standard_normal(4))
    check_gradient(lambda a: ops.mul(ops.exp(a), scale), x)
    with pytest.raises(AssertionError, match="gradient of argument 0"):
        check_gradient(lambda a: ops.mul(WRONG_UNARY["a factor 1.001"](a), scale), x)


def test_a_right_gradient_passes_where_it_vanishes_but_the_curvature_does_not(backend):
    check_gradient(lambda a: a * a * a, backend.asarray(np.zeros((2, 2))))


# --- why the cotangent is random -----------------------------------------------------------------

def gradient_with_cotangent(f, x, u):
    return value_and_grad(lambda a: ops.sum(ops.mul(f(a), u)))(x)[1]


def test_a_cotangent_of_ones_cannot_see_that_a_softmax_gradient_is_three_times_too_large(
        backend, rng):
    x = backend.asarray(rng.standard_normal((3, 4)))
    ones = backend.xp.ones_like(x)
    right = gradient_with_cotangent(right_softmax, x, ones)
    wrong = gradient_with_cotangent(tripled_softmax, x, ones)
    assert abs(host(right)).max() < 1e-15 and abs(host(wrong)).max() < 1e-15   # both are zero

    with pytest.raises(AssertionError, match="gradient of argument 0"):
        check_gradient(tripled_softmax, x)


def test_a_cotangent_of_ones_cannot_see_a_log_softmax_that_takes_the_mean_for_each_entry(
        backend, rng):
    def log_softmax(xp, x):
        return xp.log(softmax(xp, x))

    # dx = dy − softmax·Σdy, wrongly with every dy_i of a row taken for its mean: right for ones.
    wrong = unary(log_softmax, lambda xp, dy, x, y: (
        dy.mean(axis=-1, keepdims=True) - softmax(xp, x) * row_sum(dy)))
    x = backend.asarray(rng.standard_normal((3, 4)))
    ones = backend.xp.ones_like(x)
    np.testing.assert_allclose(host(gradient_with_cotangent(wrong, x, ones)),
                               host(gradient_with_cotangent(ops.log_softmax, x, ones)))

    with pytest.raises(AssertionError, match="gradient of argument 0"):
        check_gradient(wrong, x)


def test_the_cotangent_has_both_signs_no_entry_near_zero_and_no_two_equal(rng):
    u = random_cotangent((1000,), rng)
    assert (u > 0).any() and (u < 0).any()
    assert 0.5 <= abs(u).min() and abs(u).max() <= 1.5
    assert len(set(u.tolist())) == 1000

"""The chain rule on the tape: laws that hold for every op and every tree of parameters."""

import operator
import sys

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import assert_close, assert_same, float_arrays, host
from hypothesis import given, settings
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, refuse_tensors, topological_order, value_and_grad
from minirlhf.parameters import Parameters, leaves, pack

# --- the walk: uses add up, however the graph is shaped ------------------------------------------


def test_in_a_diamond_the_gradient_waits_for_both_uses(xp):
    def loss(a):
        b = a + a
        return b * b                                                      # 4a²
    y, da = value_and_grad(loss)(xp.asarray(3.0))
    assert float(y) == 36 and float(da) == 24


def test_a_shared_subexpression_gets_the_sum_of_its_uses(backend, rng):
    def f(a, b):
        shared = ops.exp(a) * b
        return shared * a + shared / b - shared
    a, b = (backend.asarray(rng.uniform(0.5, 1.5, (2, 3))) for _ in range(2))
    check_gradient(f, a, b)


def test_a_value_used_by_an_early_and_a_late_node_gets_both_gradients(xp):
    def loss(a):
        y = a
        for _ in range(5):
            y = y * a                                                     # a⁶
        return y + a
    assert float(value_and_grad(loss)(xp.asarray(2.0))[1]) == 6 * 2**5 + 1


def test_the_same_tensor_as_both_arguments_counts_twice(xp):
    assert float(value_and_grad(lambda a: a * a)(xp.asarray(3.0))[1]) == 6
    assert float(value_and_grad(lambda a: a - a)(xp.asarray(3.0))[1]) == 0
    assert float(value_and_grad(lambda a: a / a)(xp.asarray(3.0))[1]) == 0


def test_a_chain_deeper_than_the_recursion_limit_is_walked(xp):
    depth = 20_000
    assert depth > sys.getrecursionlimit()

    def loss(a):
        y = a
        for _ in range(depth):
            y = y + 1.0
        return y * y
    y, da = value_and_grad(loss)(xp.asarray(0.0))
    assert float(y) == depth**2 and float(da) == 2 * depth


def test_forty_doublings_are_walked_node_by_node_and_not_path_by_path(xp):
    tape = []

    def loss(a):
        y = a
        for _ in range(40):
            y = y + y
        tape.append(y)
        return y
    assert float(value_and_grad(loss)(xp.asarray(1.0))[1]) == 2.0**40     # 2⁴⁰ paths
    assert len(topological_order(tape[0])) == 41


def test_inputs_come_before_their_users_in_the_topological_order(xp):
    a = Tensor(xp.asarray(2.0))
    b = a * a
    c = b + a
    d = c * b
    order = topological_order(d)
    assert len(order) == 4
    place = {id(node): i for i, node in enumerate(order)}
    for node in order:
        assert all(place[id(i)] < place[id(node)] for i in node.inputs if isinstance(i, Tensor))


# --- purity: nothing is stored, nothing is written to --------------------------------------------

def a_loss(params, weight):
    hidden = ops.gelu(params["x"] @ params["w"]) * weight
    return ops.sum(hidden * hidden + ops.softplus(hidden))


def some_parameters(backend, rng):
    return {"x": backend.asarray(rng.standard_normal((3, 4))),
            "w": backend.asarray(rng.standard_normal((4, 2)))}


def test_calling_twice_gives_the_same_answer_to_the_bit(backend, rng):
    params, weight = some_parameters(backend, rng), backend.asarray(rng.standard_normal((3, 2)))
    first_loss, first = value_and_grad(a_loss)(params, weight)
    second_loss, second = value_and_grad(a_loss)(params, weight)
    assert_same(first_loss, second_loss)
    for name in params:
        assert_same(first[name], second[name])


def test_no_input_is_written_to(backend, rng):
    params, weight = some_parameters(backend, rng), backend.asarray(rng.standard_normal((3, 2)))
    before = {name: host(x).copy() for name, x in params.items()} | {"weight": host(weight).copy()}
    value_and_grad(a_loss)(params, weight)
    for name, x in (params | {"weight": weight}).items():
        assert_same(x, before[name])


def test_gradients_are_fresh_writable_arrays_that_share_nothing(backend, rng):
    def loss(params):                    # sum's gradient is a broadcast view, add's is one array
        return ops.sum(params["a"] + params["b"]) + ops.sum(params["c"])
    params = {name: backend.asarray(rng.standard_normal((2, 3))) for name in "abc"}
    values = {name: host(x).copy() for name, x in params.items()}
    _, grads = value_and_grad(loss)(params)
    for i, name in enumerate("abc"):
        grads[name] += i + 1.0                                            # writable
    for i, name in enumerate("abc"):
        assert_close(grads[name], np.full((2, 3), i + 2.0))               # and independent
        assert_same(params[name], values[name])


def test_the_gradient_of_a_parameter_that_is_the_loss_itself_is_not_a_view_of_it(backend):
    a = backend.asarray(np.array(3.0))
    y, da = value_and_grad(lambda a: a)(a)
    da += 5
    assert float(a) == 3 and float(y) == 3 and float(da) == 6


def test_ops_given_plain_arrays_return_plain_arrays_and_record_nothing(backend, rng, monkeypatch):
    monkeypatch.setattr(Tensor, "__init__",
                        lambda *_: pytest.fail("a Tensor was made from plain arrays"))
    params, weight = some_parameters(backend, rng), backend.asarray(rng.standard_normal((3, 2)))
    assert type(ops.gelu(params["x"])) is type(params["x"])
    assert np.isfinite(float(a_loss(params, weight)))


def test_a_loss_on_the_tape_has_the_value_it_has_off_the_tape(backend, rng):
    params, weight = some_parameters(backend, rng), backend.asarray(rng.standard_normal((3, 2)))
    assert_same(value_and_grad(a_loss)(params, weight)[0], backend.asarray(a_loss(params, weight)))


# --- parameters: any tree ------------------------------------------------------------------------

def quadratic(tree):
    """½ Σ x² over every leaf: the gradient is the tree itself."""
    total = 0.0
    for _, leaf in leaves(tree):
        total = total + ops.sum(leaf * leaf) * 0.5
    return total


@pytest.mark.parametrize("make_tree", [
    lambda a, b: a,
    lambda a, b: {"a": a, "b": b},
    lambda a, b: [a, b],
    lambda a, b: {"h": [{"w": a}, {"w": b, "deep": {"er": a}}], "last": b},
    lambda a, b: pack({"h": [{"w": a}, {"w": b}]}),
], ids=["a bare array", "a dict", "a list", "a nested tree", "Parameters"])
def test_the_gradient_has_the_shape_of_the_tree(make_tree, backend, rng):
    tree = make_tree(backend.asarray(rng.standard_normal((2, 3))),
                     backend.asarray(rng.standard_normal(4)))
    _, grads = value_and_grad(quadratic)(tree)
    assert isinstance(grads, type(tree))
    assert [name for name, _ in leaves(grads)] == [name for name, _ in leaves(tree)]
    for (_, leaf), (_, gradient) in zip(leaves(tree), leaves(grads), strict=True):
        assert_close(gradient, leaf)


def test_the_gradient_of_parameters_lies_in_one_flat_buffer_of_its_own(backend, rng):
    params = pack(some_parameters(backend, rng))
    _, grads = value_and_grad(quadratic)(params)
    assert isinstance(grads, Parameters)
    assert_close(grads.flat, params.flat)
    grads.flat[...] = 7.0                                   # the leaves are views of the buffer
    assert all((host(leaf) == 7).all() for _, leaf in leaves(grads))
    assert not (host(params.flat) == 7).any()


def test_one_array_at_two_places_of_a_tree_gets_a_gradient_for_each_place(xp):
    shared = xp.asarray(3.0)
    _, grads = value_and_grad(lambda p: p["a"] * p["b"] * p["b"])({"a": shared, "b": shared})
    assert float(grads["a"]) == 9 and float(grads["b"]) == 18


def test_an_unused_parameter_gets_zeros_of_its_shape_and_dtype(backend):
    tree = {"used": backend.asarray(np.ones(2)),
            "unused": backend.asarray(np.ones((2, 3), np.float32))}
    _, grads = value_and_grad(lambda p: ops.sum(p["used"]))(tree)
    assert_same(grads["unused"], np.zeros((2, 3), np.float32))
    grads["unused"] += 1                                    # writable as all gradients are
    assert_same(tree["unused"], np.ones((2, 3), np.float32))


def test_a_loss_that_uses_no_parameter_has_gradient_zero(backend):
    y, da = value_and_grad(lambda a: 2.5)(backend.asarray(np.ones(3)))
    assert float(y) == 2.5
    assert_same(da, np.zeros(3))


def test_only_the_first_argument_is_differentiated(backend, rng):
    a, frozen = (backend.asarray(rng.standard_normal(3)) for _ in range(2))

    def loss(params, other, *, scale):
        assert type(other) is type(frozen)                  # no Tensor
        return ops.sum(params * other) * scale
    _, da = value_and_grad(loss)(a, frozen, scale=2.0)
    assert_close(da, 2 * host(frozen))


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_a_loss_that_is_no_scalar_is_refused(shape, backend):
    with pytest.raises(ValueError, match="scalar"):
        value_and_grad(lambda a: a * 2.0)(backend.asarray(np.ones(shape)))


@pytest.mark.parametrize("leaf", [np.array([1, 2]), np.array([True]), np.array([1j])],
                         ids=["integers", "booleans", "complex numbers"])
def test_a_leaf_that_is_no_float_array_is_refused_by_name(leaf, backend):
    tree = {"h": [{"ids": backend.asarray(leaf)}]}
    with pytest.raises(TypeError, match=r"h\.0\.ids must be a float array"):
        value_and_grad(lambda p: ops.sum(p["h"][0]["ids"]))(tree)


def test_a_python_number_as_leaf_is_refused():
    with pytest.raises(TypeError, match="must be a float array, got float"):
        value_and_grad(lambda p: p * p)(3.0)


# --- dtypes and libraries ------------------------------------------------------------------------

def test_the_gradient_of_float32_is_float32_even_if_a_float64_constant_took_part(backend):
    a = backend.asarray(np.ones(3, np.float32))
    constant = backend.asarray(np.array([1.0, 2.0, 3.0]))
    for tree in (a, {"a": a}, pack({"a": a})):
        _, grads = value_and_grad(lambda p: ops.sum(leaf_of(p) * constant))(tree)
        assert_same(leaf_of(grads), np.array([1, 2, 3], np.float32))


def leaf_of(tree):
    return next(leaf for _, leaf in leaves(tree))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_is_a_0d_array_of_the_library_and_dtype_of_the_parameters(dtype, backend):
    a = backend.asarray(np.ones(3, dtype))
    for loss in (ops.sum, lambda a: ops.sum(a * a) / 2.0, lambda a: ops.softplus(ops.sum(a))):
        y, _ = value_and_grad(loss)(a)
        assert type(y) is type(a) and y.shape == () and y.dtype == dtype


# --- operators -----------------------------------------------------------------------------------

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
OTHER_SIDES = {
    "an array": np.array([[0.5, 1.5, 2.0]]),
    "a number": 2.0,
    "a whole number": 3,
    "a NumPy scalar": np.float64(1.5),
}


@pytest.mark.parametrize("other", OTHER_SIDES)
@pytest.mark.parametrize("operation", BINARY, ids=lambda f: f.__name__)
def test_an_operator_equals_numpys_with_the_tensor_on_either_side(operation, other, backend, rng):
    x = rng.uniform(0.5, 2.0, (2, 3))
    z = OTHER_SIDES[other]
    a, b = backend.asarray(x), backend.asarray(z) if isinstance(z, np.ndarray) else z

    for result, wanted in ((operation(Tensor(a), b), operation(x, z)),
                           (operation(b, Tensor(a)), operation(z, x))):
        assert isinstance(result, Tensor)
        assert_close(result.value, wanted)
    check_gradient(lambda a: operation(a, b), a)
    check_gradient(lambda a: operation(b, a), a)


@pytest.mark.parametrize("operation", BINARY, ids=lambda f: f.__name__)
def test_an_operator_between_two_tensors_equals_numpys(operation, backend, rng):
    x, z = rng.uniform(0.5, 2.0, (2, 3)), rng.uniform(0.5, 2.0, (3,))
    a, b = backend.asarray(x), backend.asarray(z)
    assert_close(operation(Tensor(a), Tensor(b)).value, operation(x, z))
    check_gradient(operation, a, b)


def test_a_matrix_product_reaches_the_tensor_on_either_side(backend, rng):
    x, z = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    a, b = backend.asarray(x), backend.asarray(z)
    for result in (a @ Tensor(b), Tensor(a) @ b, Tensor(a) @ Tensor(b)):
        assert isinstance(result, Tensor)
        assert_close(result.value, x @ z)
    check_gradient(lambda b: a @ b, b)
    check_gradient(lambda a: a @ b, a)


def test_unary_minus_equals_numpys(backend, rng):
    x = rng.standard_normal((2, 3))
    assert_same((-Tensor(backend.asarray(x))).value, -x)
    check_gradient(operator.neg, backend.asarray(x))


@pytest.mark.parametrize("key", [0, -1, (slice(None), 1), (slice(None), slice(0, 2)), Ellipsis,
                                 (Ellipsis, 0), (slice(None, None, -2),), (0, 2),
                                 (slice(None), None, 1)], ids=str)
def test_slicing_equals_numpys(key, backend, rng):
    x = rng.standard_normal((3, 4))
    assert_same(Tensor(backend.asarray(x))[key].value, backend.asarray(x)[key])
    check_gradient(lambda a: a[key], backend.asarray(x))


@pytest.mark.parametrize("key", [[0, 0], (slice(None), [1, 1]), np.array([0, 0]),
                                 np.array([True, False, True])], ids=str)
def test_an_array_as_index_is_refused_since_its_gradients_would_have_to_add(key):
    with pytest.raises(TypeError, match="index array"):
        Tensor(np.ones((3, 4)))[key]


# --- what is refused -----------------------------------------------------------------------------

def test_a_tensor_as_a_constant_is_refused_by_name():
    refuse_tensors("gae", rewards=np.ones(2), gamma=0.9)
    with pytest.raises(TypeError, match="gae: rewards is a constant"):
        refuse_tensors("gae", gamma=0.9, rewards=Tensor(np.ones(2)))


def test_a_tensor_has_no_truth_value_and_cannot_be_iterated_over():
    with pytest.raises(TypeError, match="truth value"):
        bool(Tensor(np.array(1.0)))
    with pytest.raises(TypeError, match="iterated"):
        list(Tensor(np.ones(2)))


def test_a_tensor_shows_the_shape_dtype_and_dimensions_of_its_value():
    a = Tensor(np.ones((2, 3), np.float32))
    assert (a.shape, a.ndim, a.dtype) == ((2, 3), 2, np.float32)
    assert "Tensor" in repr(a)


# --- random expressions --------------------------------------------------------------------------

UNARY_RULES = {                          # smooth, and tame enough to be nested
    "softplus": ops.softplus,
    "gelu": ops.gelu,
    "minus": operator.neg,
    "square": lambda a: a * a,
    "sigmoid": lambda a: ops.exp(-ops.softplus(-a)),
    "exp": lambda a: ops.exp(a / (1.0 + a * a)),
    "log": lambda a: ops.log(2.0 + a * a),
    "root": lambda a: (1.0 + a * a) ** 0.5,
    "log_softmax": ops.log_softmax,
    "mean": lambda a: ops.sum(a) / 6.0,
}
BINARY_RULES = {"add": ops.add, "sub": ops.sub, "mul": ops.mul,
                "div": lambda a, b: a / (1.0 + b * b)}
VARIABLES = {"x": (2, 3), "y": (3,), "z": (2, 1)}

expressions = st.recursive(
    st.sampled_from(sorted(VARIABLES)),
    lambda inner: (st.tuples(st.sampled_from(sorted(UNARY_RULES)), inner)
                   | st.tuples(st.sampled_from(sorted(BINARY_RULES)), inner, inner)),
    max_leaves=6)


def evaluate(expression, variables):
    if isinstance(expression, str):
        return variables[expression]
    name, *arguments = expression
    rule = (UNARY_RULES | BINARY_RULES)[name]
    values = [evaluate(argument, variables) for argument in arguments]
    if name == "log_softmax":                                   # it needs a last axis
        values = [ops.add(values[0], variables["x"])]
    return rule(*values)


@given(expression=expressions, seed=st.integers(0, 2**32 - 1),
       arrays=st.tuples(*(float_arrays(shape, -1.5, 1.5) for shape in VARIABLES.values())))
@settings(max_examples=150)
def test_the_gradient_of_any_expression_is_its_slope(backend, expression, arrays, seed):
    check_gradient(lambda *values: evaluate(expression, dict(zip(VARIABLES, values, strict=True))),
                   *map(backend.asarray, arrays), rng=np.random.default_rng(seed))

"""AdamW against hand-worked steps and a scalar one in plain Python; clipping; the schedule."""

from math import cos, pi, sqrt

import numpy as np
import pytest
from helpers import assert_close, assert_same, host
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm, cosine_schedule
from minirlhf.parameters import Parameters, leaves, pack, tree_map


def random_tree(rng, scale=1.0):
    def array(*shape):
        return np.array(scale * rng.standard_normal(shape))
    return {"a": array(3), "h": [{"w": array(2, 3), "b": array()}, {"w": array(1, 2)}]}


def moved(tree, backend):
    return tree_map(lambda leaf: backend.asarray(leaf.copy()), tree)


def vector(tree) -> np.ndarray:
    return np.concatenate([host(leaf).ravel() for _, leaf in leaves(tree)])


def scalar_adamw(theta, grads, lr, beta1, beta2, eps, weight_decay):
    """Loshchilov & Hutter's algorithm 2 for one number, in the order in which it is printed."""
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        theta = theta - lr * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        theta = theta - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)
    return theta


def one_parameter(backend, theta, grads, **settings):
    params = {"x": backend.asarray(np.array([theta]))}
    state = adamw_state(params)
    for g in grads:
        params, state = adamw_step(params, {"x": backend.asarray(np.array([g]))}, state,
                                   **settings)
    return host(params["x"])


# --- hand-worked steps ---------------------------------------------------------------------------

@pytest.mark.parametrize("g", [1.0, -1.0, 1e-3, -250.0])
def test_the_first_step_is_the_learning_rate_against_the_sign_whatever_the_size(g, backend):
    # m̂ = g and √v̂ = |g| after the bias correction
    got = one_parameter(backend, 2.0, [g], lr=0.1, eps=0, weight_decay=0)
    assert_close(got, np.array([2.0 - 0.1 * np.sign(g)]))


@pytest.mark.parametrize("g, step", [(1e-8, 0.5), (1e-9, 1 / 11), (3e-8, 0.75), (1.0, 1.0)])
def test_epsilon_is_added_outside_the_root_and_after_the_correction(g, step, backend):
    # g/(|g| + ε) with ε = 1e-8.  Inside the root, or before the correction as in TensorFlow, the
    # first of these would be 0.0001 or 0.03.
    got = one_parameter(backend, 0.0, [g], lr=1.0, weight_decay=0)
    assert_close(got, np.array([-step]), rtol=1e-7)


def test_worked_second_step(backend):
    # β₁ = β₂ = ½, gradients 1 and −2:   m = ½, −¾;  m̂ = −¾/¾ = −1;   v = ½, 2¼;  v̂ = 3
    got = one_parameter(backend, 1.0, [1.0, -2.0], lr=0.1, beta1=0.5, beta2=0.5, eps=0,
                        weight_decay=0)
    assert_close(got, np.array([1 - 0.1 + 0.1 / sqrt(3)]))


def test_the_decay_is_apart_from_the_gradient(backend):
    # without gradients only the decay is left: θ·(1 − η·λ) a step
    got = one_parameter(backend, 2.0, [0.0, 0.0], lr=0.1, weight_decay=0.5)
    assert_close(got, np.array([2 * 0.95**2]))
    # and with one it is not divided by √v̂: the two steps add up
    got = one_parameter(backend, 2.0, [100.0], lr=0.1, weight_decay=0.5, eps=0)
    assert_close(got, np.array([2 * 0.95 - 0.1]))


def test_a_learning_rate_of_0_changes_nothing_but_the_moments(backend):
    params = {"x": backend.asarray(np.ones(2))}
    state = adamw_state(params)
    adamw_step(params, {"x": backend.asarray(np.array([3.0, -4.0]))}, state, lr=0.0)
    assert_same(params["x"], np.ones(2))
    assert_close(state["m"]["x"], np.array([0.3, -0.4]))
    assert_close(state["v"]["x"], np.array([0.009, 0.016]))
    assert state["step"] == 1


def test_the_default_settings_are_pytorchs(backend):
    grads = [0.5, -1.0, 2.0]
    assert_same(one_parameter(backend, 1.0, grads, lr=0.1),
                one_parameter(backend, 1.0, grads, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8,
                              weight_decay=0.01))


# --- many steps ----------------------------------------------------------------------------------

@given(theta=st.floats(-3, 3), lr=st.floats(1e-4, 1), beta1=st.floats(0, 0.99),
       beta2=st.floats(0, 0.9999), eps=st.floats(1e-10, 1e-3), weight_decay=st.floats(0, 1),
       grads=st.lists(st.floats(1e-8, 10) | st.floats(-10, -1e-8), min_size=1, max_size=20))
def test_steps_equal_those_of_one_number_in_plain_python(backend, theta, grads, **settings):
    assert_close(one_parameter(backend, theta, grads, **settings),
                 np.array([scalar_adamw(theta, grads, **settings)]), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("make", [pack, lambda tree: tree], ids=["packed", "plain tree"])
def test_twenty_steps_of_a_tree_are_twenty_steps_of_each_number(make, backend, rng):
    start = random_tree(rng)
    gradients = [random_tree(rng, 10.0 ** -(n % 9)) for n in range(20)]
    params = make(moved(start, backend))
    state = adamw_state(params)
    for g in gradients:
        adamw_step(params, make(moved(g, backend)), state, 0.05, weight_decay=0.1)
    wanted = [scalar_adamw(theta, history, 0.05, 0.9, 0.999, 1e-8, 0.1)
              for theta, *history in zip(vector(start), *map(vector, gradients), strict=True)]
    assert_close(vector(params), np.array(wanted), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_packed_and_a_plain_tree_take_the_same_steps_to_the_bit(dtype, backend, rng):
    def cast(tree):
        return moved(tree_map(lambda leaf: leaf.astype(dtype), tree), backend)
    start, gradients = random_tree(rng), [random_tree(rng, 0.1) for _ in range(5)]
    plain, packed = cast(start), pack(cast(start))
    plain_state, packed_state = adamw_state(plain), adamw_state(packed)
    for g in gradients:
        adamw_step(plain, cast(g), plain_state, 0.01)
        adamw_step(packed, pack(cast(g)), packed_state, 0.01)
    assert_same(vector(packed), vector(plain))
    assert_same(vector(packed_state["v"]), vector(plain_state["v"]))
    assert vector(packed).dtype == dtype


def test_gradients_are_matched_with_parameters_by_name_and_not_by_order(backend, rng):
    start, g = random_tree(rng), random_tree(rng)
    shuffled = {"h": [dict(reversed(layer.items())) for layer in g["h"]], "a": g["a"]}
    results = []
    for gradient in (g, shuffled):
        params = moved(start, backend)
        adamw_step(params, moved(gradient, backend), adamw_state(params), 0.1)
        results.append(vector(params))
    assert_same(*results)


def test_minimising_a_quadratic_reaches_its_minimum(backend):
    target = {"x": np.array([3.0, -1.0]), "y": np.array([[0.5]])}
    params = moved(tree_map(np.zeros_like, target), backend)
    state = adamw_state(params)
    for step in range(300):
        gradients = {name: 2 * (params[name] - backend.asarray(target[name])) for name in target}
        adamw_step(params, gradients, state, cosine_schedule(step, 300, 0.1, 10, final=0.0),
                   weight_decay=0)
    assert_close(vector(params), vector(target), atol=1e-3)


# --- what a step touches -------------------------------------------------------------------------

@pytest.mark.parametrize("make", [pack, lambda tree: tree], ids=["packed", "plain tree"])
def test_parameters_and_state_are_updated_in_place_and_returned(make, backend, rng):
    params, gradient = (make(moved(random_tree(rng), backend)) for _ in range(2))
    state = adamw_state(params)
    arrays = [leaf for tree in (params, state["m"], state["v"]) for _, leaf in leaves(tree)]
    before, gradient_before = [host(a).copy() for a in arrays], vector(gradient).copy()
    returned, returned_state = adamw_step(params, gradient, state, 0.1)
    assert returned is params and returned_state is state and state["step"] == 1
    after = [leaf for tree in (params, state["m"], state["v"]) for _, leaf in leaves(tree)]
    for a, b, old in zip(arrays, after, before, strict=True):
        assert a is b and (host(a) != old).all()
    assert_same(vector(gradient), gradient_before)


def test_the_state_begins_with_zero_moments_in_the_form_of_the_parameters(backend, rng):
    for make in (pack, lambda tree: tree):
        params = make(moved(random_tree(rng), backend))
        state = adamw_state(params)
        assert state["step"] == 0
        for moment in (state["m"], state["v"]):
            assert isinstance(moment, Parameters) == isinstance(params, Parameters)
            assert_same(vector(moment), np.zeros_like(vector(params)))


@pytest.mark.parametrize("make, told", [
    (pack, "other names, shapes or order"),
    (lambda tree: tree, r"a gradient has shape \(1,\), its parameter \(3,\)")],
    ids=["packed", "plain tree"])
def test_a_gradient_of_another_shape_is_refused(make, told, backend):
    params = make({"x": backend.asarray(np.ones(3))})
    with pytest.raises(ValueError, match=told):
        adamw_step(params, make({"x": backend.asarray(np.ones(1))}), adamw_state(params), 0.1)


def test_gradients_of_other_names_are_refused(backend):
    params = {"x": backend.asarray(np.ones(3))}
    with pytest.raises(ValueError, match="differ in their names: x, y"):
        adamw_step(params, {"y": backend.asarray(np.ones(3))}, adamw_state(params), 0.1)


# --- clipping ------------------------------------------------------------------------------------

def test_worked_clipping(backend):
    grads = {"x": backend.asarray(np.array([3.0, 0.0])), "y": backend.asarray(np.array([[4.0]]))}
    clipped, norm = clip_by_global_norm(grads, 1.0)
    assert_close(norm, 5.0)
    assert_close(clipped["x"], np.array([0.6, 0.0]), rtol=1e-6)
    assert_close(clipped["y"], np.array([[0.8]]), rtol=1e-6)
    assert_close(clipped["y"], np.array([[4 / (5 + 1e-6)]]), rtol=1e-14)       # PyTorch's 1e-6


@pytest.mark.parametrize("make", [pack, lambda tree: tree], ids=["packed", "plain tree"])
@given(seed=st.integers(0, 2**32 - 1), max_norm=st.floats(1e-3, 1e3))
def test_clipping_scales_the_whole_vector_to_at_most_the_bound(backend, make, seed, max_norm):
    grads = make(moved(random_tree(np.random.default_rng(seed)), backend))
    before = vector(grads).copy()
    clipped, norm = clip_by_global_norm(grads, max_norm)
    n = np.sqrt((before**2).sum())
    assert_close(norm, n)
    assert_close(vector(clipped), before * min(1.0, max_norm / (n + 1e-6)), rtol=1e-13)
    assert np.linalg.norm(vector(clipped)) <= max_norm * (1 + 1e-12)
    assert_same(vector(grads), before)
    assert isinstance(clipped, Parameters) == isinstance(grads, Parameters)


@pytest.mark.parametrize("make", [pack, lambda tree: tree], ids=["packed", "plain tree"])
def test_gradients_below_the_bound_come_back_to_the_bit_in_fresh_arrays(make, backend, rng):
    grads = make(moved(random_tree(rng), backend))
    before = vector(grads).copy()
    clipped, norm = clip_by_global_norm(grads, float(np.linalg.norm(before)) + 1e-5)
    assert_same(vector(clipped), before)
    for _, leaf in leaves(clipped):
        leaf[...] = 7
    assert_same(vector(grads), before)


def test_gradients_of_exactly_the_bound_are_lowered_by_pytorchs_millionth(backend):
    grads = {"x": backend.asarray(np.array([3.0, 4.0]))}
    assert_close(clip_by_global_norm(grads, 5.0)[0]["x"],
                 np.array([3.0, 4.0]) * 5 / 5.000001, rtol=1e-15)


def test_zero_gradients_stay_zero(backend):
    clipped, norm = clip_by_global_norm({"x": backend.asarray(np.zeros(3))}, 1.0)
    assert_same(clipped["x"], np.zeros(3))
    assert norm == 0


def test_clipping_keeps_float32(backend):
    clipped, norm = clip_by_global_norm({"x": backend.asarray(np.ones(9, np.float32))}, 1.0)
    assert clipped["x"].dtype == np.float32 and norm.dtype == np.float32


# --- the schedule --------------------------------------------------------------------------------

def test_worked_schedule():
    got = [cosine_schedule(step, 10, 2.0, warmup=2, final=0.5) for step in range(11)]
    assert_close(np.array(got[:3]), np.array([1.0, 2.0, 2.0]))
    assert_close(np.array(got[6]), np.array(1.5))            # half way down
    assert_close(np.array(got[10]), np.array(1.0))
    wanted = [1 + 0.5 * (1 + cos(pi * (step - 2) / 8)) for step in range(2, 11)]
    assert_close(np.array(got[2:]), np.array(wanted))


@given(steps=st.integers(1, 60), warmup=st.integers(0, 60), final=st.floats(0, 1))
def test_the_rate_rises_to_its_peak_and_then_falls_to_its_final_share(steps, warmup, final):
    rates = [cosine_schedule(step, warmup + steps, 3.0, warmup, final)
             for step in range(warmup + steps + 1)]
    assert all(rate > 0 for rate in rates[:-1])
    assert_close(np.array(rates[warmup]), np.array(3.0))
    assert_close(np.array(rates[-1]), np.array(3.0 * final), atol=1e-12)
    rise, fall = np.diff(rates[:warmup + 1]), np.diff(rates[warmup:])
    assert (rise >= 0).all() and (fall <= 1e-12).all()
    if warmup:
        assert_close(np.array(rates[:warmup]), 3.0 * np.arange(1, warmup + 1) / warmup)


def test_by_default_the_rate_ends_at_a_tenth_without_warmup():
    assert cosine_schedule(0, 100, 1.0) == 1.0
    assert_close(np.array(cosine_schedule(100, 100, 1.0)), np.array(0.1))

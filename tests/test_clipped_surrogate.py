"""Laws of clipped_surrogate: PPO's policy loss, value loss and entropy."""

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import arrays_and_mask, assert_close, assert_same, float_arrays, host, prefix_mask
from hypothesis import assume, given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss, entropy


def one_token(loss, xp, ratio, advantage):
    """Value and gradient of the loss of a single token, ε = 0.2."""
    value, gradient = value_and_grad(loss)(
        xp.asarray([[np.log(ratio)]]), xp.zeros((1, 1)), xp.asarray([[advantage]]),
        xp.ones((1, 1), dtype=bool), 0.2)
    return float(value), float(host(gradient)[0, 0])


def one_value(loss, xp, v, v_old, target):
    value, gradient = value_and_grad(loss)(
        xp.asarray([[v]]), xp.asarray([[v_old]]), xp.asarray([[target]]),
        xp.ones((1, 1), dtype=bool), 0.2)
    return float(value), float(host(gradient)[0, 0])


def eq_7(ratio, advantage, epsilon):
    """The paper's own form, per token."""
    return np.minimum(ratio * advantage, np.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)


MASK = prefix_mask([4, 2, 1], 4)


def sample(seed=7):
    """Log-probs, old log-probs and advantages of three replies; some ratios beyond the clip."""
    rng = np.random.default_rng(seed)
    old = -rng.random((3, 4))
    return old + rng.normal(size=(3, 4)) * 0.4, old, rng.normal(size=(3, 4))


# --- laws of the policy loss; the mutants below break one each -----------------------------------

def law_the_update_stops_in_two_of_four_cases(loss, xp):
    """(advantage, ratio) -> (loss, gradient): it stops where the token has moved far enough in the
    direction of its advantage, and only there."""
    for advantage, ratio, value, gradient in [(2.0, 1.5, -2.4, 0.0), (2.0, 0.5, -1.0, -1.0),
                                              (-2.0, 1.5, 3.0, 3.0), (-2.0, 0.5, 1.6, 0.0)]:
        got = one_token(loss, xp, ratio, advantage)
        assert got == pytest.approx((value, gradient), rel=1e-12, abs=0), (advantage, ratio)


def law_equals_eq_7(loss, xp):
    lp, old, adv = sample()
    wanted = -eq_7(np.exp(lp - old), adv, 0.2)[MASK].mean()
    assert_close(loss(*(xp.asarray(x) for x in (lp, old, adv, MASK)), 0.2), np.asarray(wanted))


def law_policy_gradient_where_nothing_has_moved(loss, xp):
    """At ratio 1 the gradient is −A/n: the loss may be 0 and still teach."""
    lp, _, adv = sample()
    _, gradient = value_and_grad(loss)(*(xp.asarray(x) for x in (lp, lp, adv, MASK)))
    assert_close(gradient, np.where(MASK, -adv / MASK.sum(), 0))


def law_closed_form_gradient(loss, xp):
    lp, old, adv = sample()
    r = np.exp(lp - old)
    stops = (adv >= 0) & (r > 1.2) | (adv < 0) & (r < 0.8)
    assert stops[MASK].any() and not stops[MASK].all()
    _, gradient = value_and_grad(loss)(*(xp.asarray(x) for x in (lp, old, adv, MASK)), 0.2)
    assert_close(gradient, np.where(MASK & ~stops, -r * adv / MASK.sum(), 0))


def law_masked_slots_are_never_read(loss, xp):
    clean, mask = sample(), xp.asarray(MASK)
    wanted, wanted_gradient = value_and_grad(loss)(*(xp.asarray(x) for x in clean), mask)
    for junk in (np.nan, np.inf, -np.inf, 1e6):
        for dirty in range(3):
            arrays = [xp.asarray(np.where(MASK, x, junk) if i == dirty else x)
                      for i, x in enumerate(clean)]
            got, gradient = value_and_grad(loss)(*arrays, mask)
            assert_same(got, wanted)
            assert_same(gradient, wanted_gradient)


def law_parts_add_up_to_the_step(loss, xp):
    """For the value loss too: both take three arrays, a mask, a range and the step's count."""
    arrays = [xp.asarray(x) for x in (*sample(), MASK)]
    n = int(MASK.sum())
    whole, whole_gradient = value_and_grad(loss)(*arrays, 0.2)
    parts = [value_and_grad(loss)(*(x[i:j] for x in arrays), 0.2, n) for i, j in ((0, 1), (1, 3))]
    assert_close(np.asarray(sum(host(v) for v, _ in parts)), whole, rtol=1e-12)
    assert_close(np.concatenate([host(g) for _, g in parts]), whole_gradient, rtol=1e-12)


# --- laws of the value loss ----------------------------------------------------------------------

def law_the_value_stops_when_it_has_moved_far_enough(loss, xp):
    """From V_old = 0 towards a return of 1, ε = 0.2: inside the range the plain error; beyond it
    no more gradient; but a value that moved the wrong way is pulled back."""
    for v, value, gradient in [(0.1, 0.405, -0.9), (0.5, 0.32, 0.0), (-0.5, 1.125, -1.5),
                               (0.0, 0.5, -1.0)]:
        assert one_value(loss, xp, v, 0.0, 1.0) == pytest.approx((value, gradient), rel=1e-12), v


def law_the_worse_of_two_errors_counts(loss, xp):
    v, old, target = sample(8)
    worst = np.maximum((v - target) ** 2, (np.clip(v, old - 0.2, old + 0.2) - target) ** 2)
    got = loss(*(xp.asarray(x) for x in (v, old, target, MASK)), 0.2)
    assert_close(got, np.asarray(worst[MASK].mean() / 2))


def law_value_gradient_closed_form(loss, xp):
    v, old, target = sample(8)
    flows = (v - target) ** 2 >= (np.clip(v, old - 0.2, old + 0.2) - target) ** 2
    assert flows[MASK].any() and not flows[MASK].all()
    _, gradient = value_and_grad(loss)(*(xp.asarray(x) for x in (v, old, target, MASK)), 0.2)
    assert_close(gradient, np.where(MASK & flows, (v - target) / MASK.sum(), 0))


# --- laws of the entropy -------------------------------------------------------------------------

def law_entropy_by_hand(mean_entropy, xp):
    """A uniform choice of 4 has log 4 nats, a choice of 2 among 4 has log 2; a masked slot none."""
    with np.errstate(divide="ignore"):
        logits = np.log([[[1.0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]]])
    mask = xp.asarray([[True, True, False]])
    assert_close(mean_entropy(xp.asarray(logits), mask), np.asarray(1.5 * np.log(2)))


def law_entropy_gradient_closed_form(mean_entropy, xp):
    z = np.random.default_rng(9).normal(size=(3, 4, 5))
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    h = -(p * np.log(p)).sum(axis=-1, keepdims=True)
    value, gradient = value_and_grad(mean_entropy)(xp.asarray(z), xp.asarray(MASK))
    assert_close(value, np.asarray(h[MASK].mean()))
    assert_close(gradient, np.where(MASK[..., None], -p * (np.log(p) + h) / MASK.sum(), 0))


def law_entropy_never_reads_masked_slots(mean_entropy, xp):
    z, mask = np.random.default_rng(9).normal(size=(3, 4, 5)), xp.asarray(MASK)
    wanted, wanted_gradient = value_and_grad(mean_entropy)(xp.asarray(z), mask)
    for junk in (np.nan, np.inf, -np.inf, 1e6):
        dirty = xp.asarray(np.where(MASK[..., None], z, junk))
        got, gradient = value_and_grad(mean_entropy)(dirty, mask)
        assert_same(got, wanted)
        assert_same(gradient, wanted_gradient)


def law_entropy_parts_add_up_to_the_step(mean_entropy, xp):
    z, mask = xp.asarray(np.random.default_rng(9).normal(size=(3, 4, 5))), xp.asarray(MASK)
    n = int(MASK.sum())
    parts = [mean_entropy(z[i:j], mask[i:j], n) for i, j in ((0, 1), (1, 3))]
    assert_close(np.asarray(sum(map(host, parts))), mean_entropy(z, mask), rtol=1e-12)


LAWS = {
    clipped_surrogate_loss: [law_the_update_stops_in_two_of_four_cases, law_equals_eq_7,
                             law_policy_gradient_where_nothing_has_moved, law_closed_form_gradient,
                             law_masked_slots_are_never_read, law_parts_add_up_to_the_step],
    clipped_value_loss: [law_the_value_stops_when_it_has_moved_far_enough,
                         law_the_worse_of_two_errors_counts, law_value_gradient_closed_form,
                         law_masked_slots_are_never_read, law_parts_add_up_to_the_step],
    entropy: [law_entropy_by_hand, law_entropy_gradient_closed_form,
              law_entropy_never_reads_masked_slots, law_entropy_parts_add_up_to_the_step],
}


@pytest.mark.parametrize("function, law", [(f, law) for f, laws in LAWS.items() for law in laws],
                         ids=lambda f: f.__name__)
def test_the_function_keeps_the_law(function, law, xp):
    law(function, xp)


def policy_mutant(surrogate):
    """A policy loss whose token is surrogate(r, A, ε) instead of eq. 7."""
    def mutant(lp, old, adv, mask, epsilon=0.2, count=None):
        ratio = ops.exp(ops.where(mask, lp, 0) - np.where(mask, old, 0))
        return -ops.masked_mean(surrogate(ratio, np.where(mask, adv, 0), epsilon), mask, count)
    return mutant


def value_mutant(combine, half=0.5, around=lambda old, target: old):
    def mutant(v, old, target, mask, epsilon=0.2, count=None):
        v, old, target = ops.where(mask, v, 0), np.where(mask, old, 0), np.where(mask, target, 0)
        center = around(old, target)
        e, c = v - target, ops.clip(v, center - epsilon, center + epsilon) - target
        return half * ops.masked_mean(combine(e * e, c * c), mask, count)
    return mutant


def paper(r, a, e):
    return ops.minimum(r * a, ops.clip(r, 1 - e, 1 + e) * a)


def entropy_mutant(z, mask, scale=1.0, everywhere=False):
    log_p = ops.log_softmax(z)
    h = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
    return scale * ops.masked_mean(h, np.ones_like(mask) if everywhere else mask)


MUTANTS = {
    "no clip": (law_the_update_stops_in_two_of_four_cases, policy_mutant(lambda r, a, e: r * a)),
    "clip without min": (law_the_update_stops_in_two_of_four_cases,
                         policy_mutant(lambda r, a, e: ops.clip(r, 1 - e, 1 + e) * a)),
    "max for min": (law_the_update_stops_in_two_of_four_cases, policy_mutant(
        lambda r, a, e: ops.maximum(r * a, ops.clip(r, 1 - e, 1 + e) * a))),
    "clipped above only": (law_the_update_stops_in_two_of_four_cases, policy_mutant(
        lambda r, a, e: ops.minimum(r * a, ops.minimum(r, 1 + e) * a))),
    "clipped below only": (law_the_update_stops_in_two_of_four_cases, policy_mutant(
        lambda r, a, e: ops.minimum(r * a, ops.maximum(r, 1 - e) * a))),
    "sign": (law_equals_eq_7, policy_mutant(lambda r, a, e: -paper(r, a, e))),
    "ratio inverted": (law_equals_eq_7, policy_mutant(lambda r, a, e: paper(1 / r, a, e))),
    "log-ratio for ratio": (law_equals_eq_7,
                            policy_mutant(lambda r, a, e: paper(ops.log(r), a, e))),
    "the product clipped": (law_equals_eq_7, policy_mutant(
        lambda r, a, e: ops.minimum(r * a, ops.clip(r * a, 1 - e, 1 + e)))),
    "absolute advantages": (law_policy_gradient_where_nothing_has_moved,
                            policy_mutant(lambda r, a, e: paper(r, abs(a), e))),
    "a mean over all slots": (
        law_policy_gradient_where_nothing_has_moved,
        lambda lp, old, a, m, e=0.2, count=None: clipped_surrogate_loss(lp, old, a, m, e, m.size)),
    "ties send no gradient": (
        law_policy_gradient_where_nothing_has_moved,
        policy_mutant(lambda r, a, e: ops.minimum(ops.clip(r.value, 1 - e, 1 + e) * a, r * a))),
    "mask shifted by one": (law_closed_form_gradient, lambda lp, old, a, m, e=0.2, count=None:
                            clipped_surrogate_loss(lp, old, a, np.roll(m, 1, axis=1), e, count)),
    "half the clip": (law_equals_eq_7, lambda lp, old, a, m, e=0.2, count=None:
                      clipped_surrogate_loss(lp, old, a, m, e / 2, count)),
    "policy masked by multiplication": (
        law_masked_slots_are_never_read, lambda lp, old, a, m, e=0.2, count=None:
        -ops.sum(paper(ops.exp(lp - old), a, e) * m) / int(m.sum())),
    "policy's count ignored": (law_parts_add_up_to_the_step,
                               lambda *args: clipped_surrogate_loss(*args[:5])),
    "no value clip": (law_the_value_stops_when_it_has_moved_far_enough,
                      value_mutant(lambda e, c: e)),
    "only the clipped value": (law_the_value_stops_when_it_has_moved_far_enough,
                               value_mutant(lambda e, c: c)),
    "the better error counts": (law_the_worse_of_two_errors_counts, value_mutant(ops.minimum)),
    "the half dropped": (law_the_worse_of_two_errors_counts, value_mutant(ops.maximum, half=1.0)),
    "clipped around the return": (law_the_worse_of_two_errors_counts, value_mutant(
        ops.maximum, around=lambda old, target: target)),
    "errors averaged": (law_value_gradient_closed_form, value_mutant(lambda e, c: (e + c) / 2)),
    "the clipped error wins ties": (law_value_gradient_closed_form,
                                    value_mutant(lambda e, c: ops.maximum(c, e.value))),
    "values masked by multiplication": (
        law_masked_slots_are_never_read, lambda v, old, target, m, e=0.2, count=None:
        ops.sum((v - target) ** 2 * m) / int(m.sum())),
    "value's count ignored": (law_parts_add_up_to_the_step,
                              lambda *args: clipped_value_loss(*args[:5])),
    "negative entropy": (law_entropy_by_hand, lambda z, m: -entropy(z, m)),
    "entropy in bits": (law_entropy_by_hand, lambda z, m: entropy(z, m) / np.log(2)),
    "entropy's 0·log 0": (law_entropy_by_hand, entropy_mutant),
    "entropy of padding": (law_entropy_gradient_closed_form,
                           lambda z, m: entropy_mutant(z, m, everywhere=True)),
    "probabilities detached": (law_entropy_gradient_closed_form, lambda z, m: -ops.masked_mean(
        ops.sum(np.exp(ops.log_softmax(z.value)) * ops.log_softmax(z), axis=-1), m)),
    "entropy masked too late": (law_entropy_never_reads_masked_slots, entropy_mutant),
    "entropy's count ignored": (law_entropy_parts_add_up_to_the_step,
                                lambda z, m, count=None: entropy(z, m)),
}


def test_the_mutants_skeletons_without_a_mutation_keep_the_laws():
    """So what the laws catch below is the mutation, not the skeleton."""
    for law in LAWS[clipped_surrogate_loss]:
        law(policy_mutant(paper), np)
    for law in LAWS[clipped_value_loss]:
        law(value_mutant(ops.maximum), np)
    law_entropy_gradient_closed_form(entropy_mutant, np)


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(arrays_and_mask(3), st.floats(0.01, 0.9))
def test_equals_eq_7_everywhere(xp, drawn, epsilon):
    lp, old, adv, mask = drawn
    wanted = -eq_7(np.exp(lp - old), adv, epsilon)[mask].mean()
    got = clipped_surrogate_loss(*(xp.asarray(x) for x in drawn), epsilon)
    assert_close(got, np.asarray(wanted))


@given(arrays_and_mask(3), st.floats(0.05, 0.5))
def test_policy_gradient_is_the_measured_slope_off_the_kinks(xp, drawn, epsilon):
    lp, old, adv, mask = drawn
    r = np.exp(lp - old)
    assume((np.minimum(abs(r - 1 - epsilon), abs(r - 1 + epsilon)) > 1e-3).all())
    old, adv, mask = (xp.asarray(x) for x in (old, adv, mask))
    check_gradient(lambda lp: clipped_surrogate_loss(lp, old, adv, mask, epsilon), xp.asarray(lp))


@given(arrays_and_mask(3), st.floats(0.05, 0.5))
def test_value_gradient_is_the_measured_slope_off_the_kinks(xp, drawn, epsilon):
    v, old, target, mask = drawn
    clipped = np.clip(v, old - epsilon, old + epsilon)
    tie = abs((v - target) ** 2 - (clipped - target) ** 2) < 1e-3
    assume((abs(abs(v - old) - epsilon) > 1e-3).all() and not (tie & (v != clipped)).any())
    old, target, mask = (xp.asarray(x) for x in (old, target, mask))
    check_gradient(lambda v: clipped_value_loss(v, old, target, mask, epsilon), xp.asarray(v))


@given(float_arrays((2, 3, 4)))
def test_entropy_lies_between_zero_and_log_v(xp, z):
    mask = xp.ones((2, 3), dtype=bool)
    assert -1e-12 <= float(entropy(xp.asarray(z), mask)) <= np.log(4) + 1e-12
    check_gradient(lambda z: entropy(z, mask), xp.asarray(z))


@given(arrays_and_mask(3), st.integers(1, 3))
def test_appended_padding_changes_nothing(xp, drawn, more):
    wide = ((0, 0), (0, more))
    padded = [xp.asarray(np.pad(x, wide, constant_values=np.nan)) for x in drawn[:3]]
    mask = xp.asarray(np.pad(drawn[3], wide))
    for loss in (clipped_surrogate_loss, clipped_value_loss):
        assert_close(loss(*padded, mask), loss(*(xp.asarray(x) for x in drawn)))


# --- ties, overflow and other edges --------------------------------------------------------------

@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_on_the_bound_itself_the_gradient_still_flows(xp, advantage):
    """ε = 0 puts both bounds at r = 1, which exp(0) is exactly."""
    zero, mask = xp.zeros((1, 1)), xp.ones((1, 1), dtype=bool)
    _, gradient = value_and_grad(clipped_surrogate_loss)(zero, zero, xp.asarray([[advantage]]),
                                                         mask, 0.0)
    assert_close(gradient, [[-advantage]])


def test_a_value_on_the_edge_of_its_range_still_moves(xp):
    zero, mask = xp.zeros((1, 1)), xp.ones((1, 1), dtype=bool)
    _, gradient = value_and_grad(clipped_value_loss)(zero, zero, zero + 3, mask, 0.0)
    assert_close(gradient, [[-3.0]])


def test_at_ratio_one_the_loss_may_be_zero_and_still_teach(xp):
    lp, adv, mask = xp.asarray([[-1.0, -2.0]]), xp.asarray([[1.0, -1.0]]), xp.asarray([[True] * 2])
    value, gradient = value_and_grad(clipped_surrogate_loss)(lp, lp, adv, mask)
    assert host(value) == 0
    assert_close(gradient, [[-0.5, 0.5]])


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("advantage", [2.0, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_overflowing_ratio_takes_the_clipped_branch(xp, advantage, dtype):
    lp, old = xp.asarray([[1000.0]], dtype=dtype), xp.zeros((1, 1), dtype=dtype)
    value, gradient = value_and_grad(clipped_surrogate_loss)(
        lp, old, xp.asarray([[advantage]], dtype=dtype), xp.ones((1, 1), dtype=bool), 0.2)
    assert float(value) == pytest.approx(-1.2 * advantage) and host(gradient)[0, 0] == 0


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_an_overflowing_ratio_of_a_bad_token_is_an_infinite_loss(xp):
    value, gradient = value_and_grad(clipped_surrogate_loss)(
        xp.asarray([[1000.0]]), xp.zeros((1, 1)), xp.asarray([[-1.0]]),
        xp.ones((1, 1), dtype=bool))
    assert float(value) == np.inf and host(gradient)[0, 0] == np.inf


def test_a_vanishing_ratio_is_harmless(xp):
    for advantage, wanted in ((1.0, 0.0), (-1.0, 0.8)):
        value, gradient = value_and_grad(clipped_surrogate_loss)(
            xp.asarray([[-1000.0]]), xp.zeros((1, 1)), xp.asarray([[advantage]]),
            xp.ones((1, 1), dtype=bool))
        assert float(value) == pytest.approx(wanted) and host(gradient)[0, 0] == 0


def test_entropy_with_impossible_tokens_warns_of_nothing_and_has_finite_gradients(xp):
    z = xp.asarray([[[1.0, -np.inf, 0.5], [0.0, -np.inf, -np.inf]]])
    value, dz = value_and_grad(entropy)(z, xp.ones((1, 2), dtype=bool))   # a warning would raise
    assert np.isfinite(host(value)) and np.isfinite(host(dz)).all()
    assert not host(dz)[host(z) == -np.inf].any()
    assert float(entropy(z[:, 1:], xp.ones((1, 1), dtype=bool))) == 0


def losses(xp, dtype="float64"):
    """Each loss as a call of (mask, count), with arguments that are junk everywhere."""
    x, z = xp.full((2, 3), np.nan, dtype=dtype), xp.full((2, 3, 4), np.nan, dtype=dtype)
    return {
        "policy": lambda m, n=None: value_and_grad(clipped_surrogate_loss)(x, x, x, m, 0.2, n),
        "value": lambda m, n=None: value_and_grad(clipped_value_loss)(x, x, x, m, 0.2, n),
        "entropy": lambda m, n=None: value_and_grad(entropy)(z, m, n),
    }


@pytest.mark.parametrize("name", ["policy", "value", "entropy"])
def test_a_wholly_masked_micro_batch_adds_zero(xp, name):
    value, gradient = losses(xp)[name](xp.zeros((2, 3), dtype=bool), 5)
    assert host(value) == 0 and not host(gradient).any()


@pytest.mark.parametrize("name", ["policy", "value", "entropy"])
def test_a_mean_over_no_token_is_refused(xp, name):
    with pytest.raises(ValueError, match="no token"):
        losses(xp)[name](xp.zeros((2, 3), dtype=bool))


@pytest.mark.parametrize("count", [0, -2])
@pytest.mark.parametrize("name", ["policy", "value", "entropy"])
def test_a_count_that_is_not_positive_is_refused_and_shown(xp, name, count):
    with pytest.raises(ValueError, match=str(count)):
        losses(xp)[name](xp.ones((2, 3), dtype=bool), count)


@pytest.mark.parametrize("name", ["policy", "value", "entropy"])
def test_a_mask_that_is_not_boolean_is_refused(xp, name):
    with pytest.raises(TypeError, match="boolean"):
        losses(xp)[name](xp.ones((2, 3)))


@pytest.mark.parametrize("name", ["policy", "value", "entropy"])
def test_a_mask_of_another_shape_is_refused_and_shown(xp, name):
    for shape in ((2, 4), (1, 3), (2, 1), (3,)):
        with pytest.raises(ValueError, match=r"\(.*\)"):
            losses(xp)[name](xp.ones(shape, dtype=bool))


def test_float32_stays_float32(xp):
    x, mask = xp.asarray([[0.5, -0.5]], dtype="float32"), xp.ones((1, 2), dtype=bool)
    z = xp.asarray([[[0.5, -0.5], [1, 2]]], dtype="float32")
    for wrap in (lambda a: a, Tensor):
        assert clipped_surrogate_loss(wrap(x), x, x, mask).dtype == "float32"
        assert clipped_value_loss(wrap(x), x, x, mask).dtype == "float32"
        assert entropy(wrap(z), mask).dtype == "float32"


@pytest.mark.parametrize("loss", [clipped_surrogate_loss, clipped_value_loss])
def test_tensors_among_the_constants_are_refused(xp, loss):
    x, mask = xp.zeros((1, 2)), xp.ones((1, 2), dtype=bool)
    for arguments in ((x, Tensor(x), x), (x, x, Tensor(x)), (Tensor(x), Tensor(x), x)):
        with pytest.raises(TypeError, match="Tensor"):
            loss(*arguments, mask)


@pytest.mark.parametrize("loss", [clipped_surrogate_loss, clipped_value_loss])
@pytest.mark.parametrize("a, b, c", [((2, 3), (2, 4), (2, 3)), ((2, 3), (2, 3), (1, 3)),
                                     ((2, 1), (2, 3), (2, 3)), ((2, 3), (2, 3), ())])
def test_shapes_that_do_not_fit_are_refused_and_shown(xp, loss, a, b, c):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        loss(xp.zeros(a), xp.zeros(b), xp.zeros(c), xp.ones((2, 3), dtype=bool))


def test_entropy_refuses_logits_without_a_vocabulary_axis(xp):
    with pytest.raises(ValueError, match="V"):
        entropy(xp.zeros((2, 3)), xp.ones((2, 3), dtype=bool))

"""Laws of dpo.dpo_loss: Bradley-Terry on the reward that a policy implies."""

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import assert_close, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.bradley_terry import bradley_terry_loss
from minirlhf.dpo import dpo_loss

four_sides = float_arrays(st.tuples(st.just(4), st.integers(1, 5)), -8, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sample(seed=10):
    return -5 * np.random.default_rng(seed).random((4, 5))


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_one_pair_by_hand(loss, xp):
    """The policy has raised the chosen reply by 2 nats and lowered the other by 1: h = 3."""
    got = loss(*(xp.asarray([x]) for x in (-4.0, -8.0, -6.0, -7.0)), 0.5)
    assert_close(got, np.asarray(-np.log(sigmoid(1.5))))


def law_log_two_where_policy_and_reference_agree(loss, xp):
    c, r = xp.asarray(sample()[0]), xp.asarray(sample()[1])
    assert_close(loss(c, r, c, r, 0.3), np.asarray(np.log(2)))


def law_closed_form_gradient(loss, xp):
    c, r, ref_c, ref_r = sample()
    weight = 0.3 * sigmoid(-0.3 * ((c - ref_c) - (r - ref_r))) / 5
    _, (dc, dr) = value_and_grad(lambda s: loss(*s, xp.asarray(ref_c), xp.asarray(ref_r), 0.3))(
        [xp.asarray(c), xp.asarray(r)])
    assert_close(dc, -weight)
    assert_close(dr, weight)


def law_finite_at_huge_gaps(loss, xp):
    c, zero = xp.asarray([1e4, -1e4]), xp.zeros(2)
    value, gradient = value_and_grad(loss)(c, -c, zero, zero, 1.0)
    assert_close(value, np.asarray(1e4))
    assert_close(gradient, [0.0, -0.5])


def law_parts_add_up_to_the_step(loss, xp):
    sides = [xp.asarray(x) for x in sample()]
    run = value_and_grad(loss)
    whole, whole_gradient = run(*sides, 0.3)
    parts = [run(*(x[i:j] for x in sides), 0.3, 5) for i, j in ((0, 1), (1, 3), (3, 5))]
    assert_close(np.asarray(sum(host(v) for v, _ in parts)), whole, rtol=1e-12)
    assert_close(np.concatenate([host(g) for _, g in parts]), whole_gradient, rtol=1e-12)


LAWS = [law_one_pair_by_hand, law_log_two_where_policy_and_reference_agree,
        law_closed_form_gradient, law_finite_at_huge_gaps, law_parts_add_up_to_the_step]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_dpo_loss_keeps_the_law(law, xp):
    law(dpo_loss, xp)


MUTANTS = {
    "chosen and rejected swapped": (law_one_pair_by_hand,
                                    lambda c, r, cc, rr, *rest: dpo_loss(r, c, rr, cc, *rest)),
    "reference ignored": (law_log_two_where_policy_and_reference_agree,
                          lambda c, r, cc, rr, *rest: dpo_loss(c, r, 0 * cc, 0 * rr, *rest)),
    "references crossed": (law_one_pair_by_hand,
                           lambda c, r, cc, rr, *rest: dpo_loss(c, r, rr, cc, *rest)),
    "reference added": (law_one_pair_by_hand,
                        lambda c, r, cc, rr, *rest: dpo_loss(c, r, -cc, -rr, *rest)),
    "beta outside": (law_one_pair_by_hand,
                     lambda c, r, cc, rr, beta: beta * dpo_loss(c, r, cc, rr, 1.0)),
    "beta fixed": (law_one_pair_by_hand, lambda c, r, cc, rr, beta: dpo_loss(c, r, cc, rr)),
    "IPO's square": (law_one_pair_by_hand, lambda c, r, cc, rr, beta: ops.sum(
        ((c - cc) - (r - rr) - 1 / (2 * beta)) ** 2)),
    "rejected detached": (law_closed_form_gradient,
                          lambda c, r, cc, rr, beta: dpo_loss(c, r.value, cc, rr, beta)),
    "a sum over pairs": (law_closed_form_gradient,
                         lambda c, r, cc, rr, beta: dpo_loss(c, r, cc, rr, beta) * c.shape[0]),
    "the sigmoid written out": (law_finite_at_huge_gaps, lambda c, r, cc, rr, beta: -ops.sum(
        ops.log(1 / (1 + ops.exp(-beta * ((c - cc) - (r - rr)))))) / 2),
    "the step's count ignored": (law_parts_add_up_to_the_step, lambda *args: dpo_loss(*args[:5])),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(four_sides, st.floats(0.05, 2))
def test_it_is_bradley_terry_on_the_implicit_reward(xp, drawn, beta):
    c, r, ref_c, ref_r = (xp.asarray(x) for x in drawn)
    wanted = bradley_terry_loss(beta * (c - ref_c), beta * (r - ref_r))
    assert_close(dpo_loss(c, r, ref_c, ref_r, beta), wanted)


@given(four_sides, st.floats(0.05, 2))
def test_gradients_are_the_measured_slopes(xp, drawn, beta):
    c, r, ref_c, ref_r = (xp.asarray(x) for x in drawn)
    check_gradient(lambda c, r: dpo_loss(c, r, ref_c, ref_r, beta), c, r)


@given(four_sides, st.floats(-5, 5))
def test_what_a_prompt_adds_to_both_sides_cancels(xp, drawn, shift):
    c, r, ref_c, ref_r = (xp.asarray(x) for x in drawn)
    assert_close(dpo_loss(c + shift, r + shift, ref_c, ref_r), dpo_loss(c, r, ref_c, ref_r))


def test_it_recovers_the_policy_that_is_optimal_for_the_reward(xp):
    """Preferences drawn (here: weighted) by Bradley-Terry from rewards over three replies; the loss
    is least at π* ∝ π_ref·exp(reward/β)."""
    rewards, ref, beta = np.asarray([0.0, 1.0, 2.0]), np.asarray([0.5, 0.3, 0.2]), 0.5
    optimum = ref * np.exp(rewards / beta)
    optimum /= optimum.sum()
    log_optimum, log_ref = xp.asarray(np.log(optimum)), xp.asarray(np.log(ref))
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    weights = [sigmoid(rewards[i] - rewards[j]) for i, j in pairs]

    def loss(z):
        log_p = ops.log_softmax(z)
        return sum((w * dpo_loss(log_p[i:i + 1], log_p[j:j + 1], log_ref[i:i + 1],
                                 log_ref[j:j + 1], beta)
                    for w, (i, j) in zip(weights, pairs, strict=True)), 0.0)

    assert_close(value_and_grad(loss)(log_optimum)[1], np.zeros(3), atol=1e-14)
    assert host(loss(log_optimum)) < host(loss(log_ref))
    _, elsewhere = value_and_grad(loss)(log_ref)
    assert abs(elsewhere).max() > 0.1


# --- edges and errors ----------------------------------------------------------------------------

def test_the_default_beta_is_a_tenth(xp):
    sides = [xp.asarray(x) for x in sample()]
    assert host(dpo_loss(*sides)) == host(dpo_loss(*sides, beta=0.1))


def test_float32_stays_float32(xp):
    sides = [xp.asarray(x, dtype="float32") for x in sample()]
    assert dpo_loss(*sides).dtype == "float32"
    assert dpo_loss(Tensor(sides[0]), *sides[1:]).dtype == "float32"


def test_no_pair_is_refused_unless_the_steps_count_is_given(xp):
    nothing = [xp.zeros(0)] * 4
    with pytest.raises(ValueError):
        dpo_loss(*nothing)
    assert host(dpo_loss(*nothing, count=3)) == 0


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_that_is_not_positive_is_refused_and_shown(xp, count):
    with pytest.raises(ValueError, match=str(count)):
        dpo_loss(*[xp.zeros(2)] * 4, count=count)


def test_tensors_among_the_constants_are_refused(xp):
    x = xp.zeros(2)
    for sides in ((x, x, Tensor(x), x), (Tensor(x), x, x, Tensor(x))):
        with pytest.raises(TypeError, match="ref_"):
            dpo_loss(*sides)


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_shapes_that_do_not_fit_are_refused_and_shown(xp, side, shape):
    sides = [xp.zeros(shape if i == side else (2,)) for i in range(4)]
    with pytest.raises(ValueError, match=r"\(.*\)"):
        dpo_loss(*sides)

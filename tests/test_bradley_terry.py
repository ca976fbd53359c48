"""Laws of bradley_terry: from a choice between two replies to the gap between two scores."""

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import assert_close, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.bradley_terry import bradley_terry_loss, preference_probability

scores = st.floats(-50, 50, allow_subnormal=False)
score_pairs = float_arrays(st.tuples(st.just(2), st.integers(1, 6)))        # chosen, rejected


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_the_articles_scores_prefer_a(probability, xp):
    """Score(A) = 2.4 and Score(B) = −1.1: A is preferred with 1/(1 + e^−3.5) = 97 %."""
    assert_close(np.asarray(float(probability(2.4, -1.1))), np.asarray(0.9706877692486436))


def law_probability_of_strengths(probability, xp):
    """Bradley and Terry's own form: strengths 3 and 1 give 3/(3 + 1)."""
    a, b = xp.log(xp.asarray([3.0, 1.0, 5.0])), xp.log(xp.asarray([1.0, 3.0, 5.0]))
    assert_close(probability(a, b), np.asarray([0.75, 0.25, 0.5]))


def law_loss_of_the_articles_pair(loss, xp):
    """−log σ(3.5) = 0.02975 with the human's choice, 3.52975 had the human picked B."""
    a, b = xp.asarray([2.4]), xp.asarray([-1.1])
    assert_close(loss(a, b), np.asarray(0.029750418272620565))
    assert_close(loss(b, a), np.asarray(3.5297504182726206))


def law_loss_is_the_mean_over_pairs(loss, xp):
    c, r = xp.asarray([1.0, 0.0, -2.0]), xp.asarray([0.0, 0.0, 1.0])
    wanted = -np.log(sigmoid([1.0, 0.0, -3.0])).mean()
    assert_close(loss(c, r), np.asarray(wanted))


def law_margin_is_taken_from_the_gap(loss, xp):
    c, r, m = xp.asarray([1.0, 2.0]), xp.asarray([0.5, 0.0]), xp.asarray([0.5, 3.0])
    assert_close(loss(c, r, m), np.asarray(-np.log(sigmoid([0.0, -1.0])).mean()))
    assert_close(loss(c, r, 0.5), np.asarray(-np.log(sigmoid([0.0, 1.5])).mean()))


def law_closed_form_gradient(loss, xp):
    rng = np.random.default_rng(2)
    c, r = rng.normal(size=(2, 4))
    _, (dc, dr) = value_and_grad(lambda s: loss(s[0], s[1]))([xp.asarray(c), xp.asarray(r)])
    assert_close(dc, -sigmoid(r - c) / 4)
    assert_close(dr, sigmoid(r - c) / 4)


def law_finite_at_huge_gaps(loss, xp):
    c, r = xp.asarray([1e4, -1e4, 3e38]), xp.asarray([-1e4, 1e4, 3e38])
    value, (dc, dr) = value_and_grad(lambda s: loss(s[0], s[1]))([c, r])
    assert_close(value, np.asarray((0 + 2e4 + np.log(2)) / 3))
    assert_close(dc, np.asarray([0, -1, -0.5]) / 3)
    assert_close(dr, np.asarray([0, 1, 0.5]) / 3)


def law_parts_add_up_to_the_step(loss, xp):
    rng = np.random.default_rng(3)
    c, r, m = (xp.asarray(x) for x in rng.normal(size=(3, 5)))
    run = value_and_grad(lambda s, margin, count=None: loss(s[0], s[1], margin, count))
    whole, whole_gradient = run([c, r], m)
    parts = [run([c[i:j], r[i:j]], m[i:j], 5) for i, j in ((0, 1), (1, 3), (3, 5))]
    assert_close(np.asarray(sum(host(v) for v, _ in parts)), whole, rtol=1e-12)
    for side in range(2):
        joined = np.concatenate([host(g[side]) for _, g in parts])
        assert_close(joined, whole_gradient[side], rtol=1e-12)


PROBABILITY_LAWS = [law_the_articles_scores_prefer_a, law_probability_of_strengths]
LOSS_LAWS = [law_loss_of_the_articles_pair, law_loss_is_the_mean_over_pairs,
             law_margin_is_taken_from_the_gap, law_closed_form_gradient, law_finite_at_huge_gaps,
             law_parts_add_up_to_the_step]


@pytest.mark.parametrize("law", PROBABILITY_LAWS, ids=lambda law: law.__name__)
def test_preference_probability_keeps_the_law(law, xp):
    law(preference_probability, xp)


@pytest.mark.parametrize("law", LOSS_LAWS, ids=lambda law: law.__name__)
def test_bradley_terry_loss_keeps_the_law(law, xp):
    law(bradley_terry_loss, xp)


def naive_loss(c, r, margin=0.0, count=None):
    x = c - r - margin
    n = count or x.shape[0]
    return -ops.sum(ops.log(1 / (1 + ops.exp(-x)))) / n


MUTANTS = {
    "B against A": (law_the_articles_scores_prefer_a, lambda a, b: preference_probability(b, a)),
    "scores taken for strengths": (law_probability_of_strengths,
                                   lambda a, b: a / (a + b)),
    "half the gap": (law_probability_of_strengths,
                     lambda a, b: preference_probability(a / 2, b / 2)),
    "chosen and rejected swapped": (law_loss_of_the_articles_pair,
                                    lambda c, r, *rest: bradley_terry_loss(r, c, *rest)),
    "a squared hinge": (law_loss_of_the_articles_pair,
                        lambda c, r, *rest: ops.sum(ops.maximum(1 - (c - r), 0) ** 2)),
    "a sum over pairs": (law_loss_is_the_mean_over_pairs,
                         lambda c, r, *rest: bradley_terry_loss(c, r) * c.shape[0]),
    "the margin's sign": (law_margin_is_taken_from_the_gap,
                          lambda c, r, m=0.0, count=None: bradley_terry_loss(c, r, -m, count)),
    "the margin dropped": (law_margin_is_taken_from_the_gap,
                           lambda c, r, m=0.0, count=None: bradley_terry_loss(c, r, 0.0, count)),
    "the rejected side detached": (
        law_closed_form_gradient, lambda c, r, *rest: bradley_terry_loss(c, r.value, *rest)),
    "the sigmoid written out": (law_finite_at_huge_gaps, naive_loss),
    "the step's count ignored": (law_parts_add_up_to_the_step,
                                 lambda c, r, m=0.0, count=None: bradley_terry_loss(c, r, m)),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(scores, scores, scores)
def test_only_the_gap_counts(a, b, shift):
    moved = preference_probability(a + shift, b + shift)
    assert moved == pytest.approx(preference_probability(a, b), rel=1e-12)


@given(scores, scores)
def test_the_two_probabilities_add_up_to_one(a, b):
    both = preference_probability(a, b) + preference_probability(b, a)
    assert both == pytest.approx(1, abs=1e-14)


@given(score_pairs, st.floats(-100, 100))
def test_the_loss_does_not_change_when_every_score_moves(xp, pair, shift):
    c, r = xp.asarray(pair[0]), xp.asarray(pair[1])
    assert_close(bradley_terry_loss(c + shift, r + shift), bradley_terry_loss(c, r), rtol=1e-11)


@given(score_pairs, st.floats(-2, 2))
def test_gradients_are_the_measured_slopes(xp, pair, margin):
    c, r = xp.asarray(pair[0]), xp.asarray(pair[1])
    check_gradient(lambda c, r: bradley_terry_loss(c, r, margin), c, r)
    check_gradient(preference_probability, c, r)


@given(score_pairs)
def test_the_loss_is_minus_the_log_of_the_probability(xp, pair):
    c, r = xp.asarray(pair[0]), xp.asarray(pair[1])
    wanted = -np.log(host(preference_probability(c, r))).mean()
    assert_close(bradley_terry_loss(c, r), np.asarray(wanted))


def test_gaps_of_ten_thousand_are_certainties(xp):
    a, b = xp.asarray([1e4, -1e4]), xp.asarray([-1e4, 1e4])
    assert host(preference_probability(a, b)).tolist() == [1, 0]
    assert preference_probability(1e4, -1e4) == 1 and preference_probability(-1e4, 1e4) == 0
    _, gradient = value_and_grad(lambda a: ops.sum(preference_probability(a, b)))(a)
    assert not host(gradient).any()


def test_minimising_the_loss_recovers_the_win_rate(xp):
    """A beats B in 3 of 4 comparisons; the gap of least loss is log(3/1)."""
    gap = 0.0
    for _ in range(200):
        c, r = xp.asarray([gap, gap, gap, 0.0]), xp.asarray([0.0, 0.0, 0.0, gap])
        _, (dc, dr) = value_and_grad(lambda s: bradley_terry_loss(s[0], s[1]))([c, r])
        gap -= 2 * float(dc[:3].sum() + dr[3])
    assert gap == pytest.approx(np.log(3), abs=1e-9)


# --- edges and errors ----------------------------------------------------------------------------

def test_numbers_arrays_and_tensors_give_their_like(xp):
    a, b = xp.asarray([2.4]), xp.asarray([-1.1])
    assert isinstance(preference_probability(2.4, -1.1), float)
    assert isinstance(preference_probability(3, 1), float)
    assert preference_probability(a, b).shape == (1,)
    assert isinstance(preference_probability(Tensor(a), b), Tensor)
    assert isinstance(preference_probability(a, Tensor(b)), Tensor)


def test_float32_stays_float32(xp):
    c, r = xp.asarray([1.0, 2.0], dtype="float32"), xp.asarray([0.0, 3.0], dtype="float32")
    assert preference_probability(c, r).dtype == "float32"
    assert bradley_terry_loss(c, r, 0.5).dtype == "float32"
    assert bradley_terry_loss(Tensor(c), r, 0.5).dtype == "float32"


def test_no_pair_is_refused_unless_the_steps_count_is_given(xp):
    nothing = xp.zeros(0)
    with pytest.raises(ValueError):
        bradley_terry_loss(nothing, nothing)
    assert host(bradley_terry_loss(nothing, nothing, count=4)) == 0


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_that_is_not_positive_is_refused_and_shown(xp, count):
    with pytest.raises(ValueError, match=str(count)):
        bradley_terry_loss(xp.zeros(2), xp.zeros(2), count=count)


def test_a_margin_on_the_tape_is_refused(xp):
    with pytest.raises(TypeError, match="margin"):
        bradley_terry_loss(xp.zeros(2), xp.zeros(2), Tensor(xp.zeros(2)))


@pytest.mark.parametrize("c, r, m", [((2,), (3,), ()), ((2,), (1,), ()), ((2, 1), (2, 1), ()),
                                     ((2,), (2,), (3,)), ((2,), (2,), (1,)), ((), (), ())])
def test_shapes_that_do_not_fit_are_refused_and_shown(xp, c, r, m):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        bradley_terry_loss(xp.zeros(c), xp.zeros(r), xp.zeros(m))


@pytest.mark.parametrize("a, b", [((2,), (3,)), ((2,), (1,)), ((2,), ()), ((2, 1), (2,))])
def test_scores_never_broadcast(xp, a, b):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        preference_probability(xp.zeros(a), xp.zeros(b))

"""Laws of group_advantage: a reply against its siblings."""

import numpy as np
import pytest
from helpers import assert_close, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.autograd import Tensor
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages

BOTH = [group_advantages, leave_one_out_advantages]


@st.composite
def grouped_scores(draw):
    """Scores (N,) and the size of their groups."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    return draw(float_arrays((groups * size,), -5, 5)), size


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_grpo_by_hand(advantages, xp):
    """1, 2, 3: mean 2, sample deviation 1.  Then 0, 0, 3: mean 1, deviation √3."""
    scores = xp.asarray([1.0, 2.0, 3.0, 0.0, 0.0, 3.0])
    root = np.sqrt(3) + 1e-4
    wanted = [-1 / 1.0001, 0, 1 / 1.0001, -1 / root, -1 / root, 2 / root]
    assert_close(advantages(scores, 3), wanted)
    assert_close(advantages(scores, 3, normalize=False), [-1, 0, 1, -1, -1, 2])


def law_epsilon_is_outside_the_root(advantages, xp):
    """A deviation of √2·10⁻⁴ beside ε = 10⁻⁴."""
    wanted = np.asarray([1, -1]) / (np.sqrt(2) + 1)
    assert_close(advantages(xp.asarray([1e-4, -1e-4]), 2), wanted)


def law_rloo_by_hand(advantages, xp):
    """Each score against the mean of the other two."""
    got = advantages(xp.asarray([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 3)
    assert_close(got, [1 - 4, 2 - 3.5, 6 - 1.5, -1.5, -1.5, 3])


LAWS = {group_advantages: [law_grpo_by_hand, law_epsilon_is_outside_the_root],
        leave_one_out_advantages: [law_rloo_by_hand]}


@pytest.mark.parametrize("function, law", [(f, law) for f, laws in LAWS.items() for law in laws],
                         ids=lambda f: f.__name__)
def test_the_function_keeps_the_law(function, law, xp):
    law(function, xp)


def grpo_with(ddof=1, inside=0.0, outside=1e-4, axis=1, rows=lambda s, g: s.reshape(-1, g)):
    def mutant(scores, size, normalize=True):
        s = rows(scores, size)
        centered = s - s.mean(axis=axis, keepdims=True)
        if normalize:
            var = s.var(axis=axis, ddof=ddof, keepdims=True)
            centered = centered / (np.sqrt(var + inside) + outside)
        return centered.reshape(-1)
    return mutant


MUTANTS = {
    "population deviation": (law_grpo_by_hand, grpo_with(ddof=0)),
    "another epsilon": (law_epsilon_is_outside_the_root, grpo_with(outside=1e-6)),
    "epsilon inside the root": (law_epsilon_is_outside_the_root, grpo_with(inside=1e-4, outside=0)),
    "groups interleaved": (law_grpo_by_hand, grpo_with(
        rows=lambda s, g: s.reshape(g, -1), axis=0)),
    "the whole batch as one group": (law_grpo_by_hand, grpo_with(rows=lambda s, g: s[None])),
    "no normalisation": (law_grpo_by_hand, lambda s, g, normalize=True: group_advantages(
        s, g, normalize=False)),
    "normalize ignored": (law_grpo_by_hand, lambda s, g, normalize=True: group_advantages(s, g)),
    "sign": (law_grpo_by_hand, lambda s, g, **named: -group_advantages(s, g, **named)),
    "the mean of all": (law_rloo_by_hand, lambda s, g: group_advantages(s, g, normalize=False)),
    "the others' sum": (law_rloo_by_hand, lambda s, g: s - np.repeat(
        s.reshape(-1, g).sum(axis=1), g) + s),
    "divided by G": (law_rloo_by_hand, lambda s, g: s - (np.repeat(
        s.reshape(-1, g).sum(axis=1), g) - s) / g),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    """So what the laws catch below is the mutation, not the skeleton."""
    for law in LAWS[group_advantages]:
        law(grpo_with(), np)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@pytest.mark.parametrize("advantages", BOTH)
@given(drawn=grouped_scores(), shift=st.floats(-100, 100))
def test_advantages_of_a_group_sum_to_zero_and_ignore_a_shift(xp, advantages, drawn, shift):
    scores, size = drawn
    got = host(advantages(xp.asarray(scores), size))
    assert got.shape == scores.shape
    assert_close(got.reshape(-1, size).sum(axis=1), np.zeros(len(scores) // size), atol=1e-8)
    assert_close(advantages(xp.asarray(scores + shift), size), got, rtol=1e-6, atol=1e-8)


@given(grouped_scores())
def test_each_group_is_on_its_own(xp, drawn):
    scores, size = drawn
    for advantages in BOTH:
        alone = [host(advantages(xp.asarray(scores[i:i + size]), size))
                 for i in range(0, len(scores), size)]
        assert_close(advantages(xp.asarray(scores), size), np.concatenate(alone))


@given(grouped_scores())
def test_normalised_advantages_have_deviation_almost_one(xp, drawn):
    scores, size = drawn
    deviations = scores.reshape(-1, size).std(axis=1, ddof=1)
    got = host(group_advantages(xp.asarray(scores), size)).reshape(-1, size).std(axis=1, ddof=1)
    assert_close(got, deviations / (deviations + 1e-4), rtol=1e-6, atol=1e-9)


@given(grouped_scores())
def test_leave_one_out_is_the_centered_score_stretched(xp, drawn):
    scores, size = drawn
    centered = host(group_advantages(xp.asarray(scores), size, normalize=False))
    assert_close(leave_one_out_advantages(xp.asarray(scores), size), centered * size / (size - 1),
                 atol=1e-11)


def test_in_a_group_of_two_a_reply_is_compared_with_the_other(xp):
    assert_close(leave_one_out_advantages(xp.asarray([5.0, 3.0]), 2), [2.0, -2.0])


# --- edges and errors ----------------------------------------------------------------------------

@pytest.mark.parametrize("advantages", BOTH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("score", [0.1, 0.7, 1e6 / 3])
def test_equal_scores_have_an_advantage_of_exactly_zero(xp, advantages, dtype, score):
    for size in (2, 3, 7):
        assert not host(advantages(xp.full(2 * size, score, dtype=dtype), size)).any()


@pytest.mark.parametrize("advantages", BOTH)
def test_a_group_of_one_is_refused_and_shown(xp, advantages):
    for size in (1, 0, -2):
        with pytest.raises(ValueError, match=f"{size}"):
            advantages(xp.zeros(4), size)


def test_a_group_of_one_is_refused_without_normalisation_too(xp):
    with pytest.raises(ValueError, match="1"):
        group_advantages(xp.zeros(4), 1, normalize=False)


@pytest.mark.parametrize("advantages", BOTH)
def test_a_size_that_does_not_divide_is_refused_and_both_are_shown(xp, advantages):
    with pytest.raises(ValueError, match="7.*3"):
        advantages(xp.zeros(7), 3)


@pytest.mark.parametrize("advantages", BOTH)
def test_scores_are_one_axis(xp, advantages):
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        advantages(xp.zeros((2, 2)), 2)


@pytest.mark.parametrize("advantages", BOTH)
def test_tensors_are_refused(xp, advantages):
    with pytest.raises(TypeError, match="Tensor"):
        advantages(Tensor(xp.zeros(4)), 2)


@pytest.mark.parametrize("advantages", BOTH)
def test_float32_stays_float32_and_integers_are_not_truncated(xp, advantages):
    assert advantages(xp.asarray([1, 2], dtype="float32"), 2).dtype == "float32"
    assert_close(advantages(xp.asarray([1, 2, 2, 1]), 4),
                 advantages(xp.asarray([1.0, 2.0, 2.0, 1.0]), 4))


@pytest.mark.parametrize("advantages", BOTH)
def test_no_scores_have_no_advantages(xp, advantages):
    assert advantages(xp.zeros(0), 4).shape == (0,)

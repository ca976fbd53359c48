"""Laws of gae: credit token by token, and whitening."""

import numpy as np
import pytest
from helpers import (
    arrays_and_mask,
    assert_close,
    assert_same,
    float_arrays,
    host,
    prefix_mask,
    prefix_masks,
)
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.autograd import Tensor
from minirlhf.gae import gae, whiten

fractions = st.floats(0, 1)


def double_sum(rewards, values, mask, gamma, lam):
    """The definition, term by term: A_t = Σ_l (γλ)ˡ δ_{t+l}, with nothing after the last token."""
    advantages = np.zeros(mask.shape)
    for b, n in enumerate(mask.sum(axis=1)):
        v = [*values[b, :n], 0.0]
        deltas = [rewards[b, t] + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            advantages[b, t] = sum((gamma * lam) ** i * deltas[t + i] for i in range(n - t))
    return advantages, np.where(mask, advantages + values, 0)


def sample(seed=6):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, 4, 5))
    return rewards, values, prefix_mask([5, 2, 0, 1], 5)


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_three_tokens_by_hand(estimate, xp):
    """γ = 1, λ = 1/2, one reward of 1 at the end: δ = (0.1, 0.2, 0.4), computed backwards."""
    rewards, values = xp.asarray([[0, 0, 1.0]]), xp.asarray([[0.3, 0.4, 0.6]])
    advantages, returns = estimate(rewards, values, xp.ones((1, 3), dtype=bool), 1.0, 0.5)
    assert_close(advantages, [[0.1 + 0.5 * 0.4, 0.2 + 0.5 * 0.4, 0.4]])
    assert_close(returns, [[0.6, 0.8, 1.0]])


def law_equals_the_double_sum(estimate, xp):
    rewards, values, mask = sample()
    got = estimate(xp.asarray(rewards), xp.asarray(values), xp.asarray(mask), 0.9, 0.7)
    for actual, wanted in zip(got, double_sum(rewards, values, mask, 0.9, 0.7), strict=True):
        assert_close(actual, wanted)


def law_masked_slots_are_never_read(estimate, xp):
    rewards, values, mask = sample()
    wanted = estimate(xp.asarray(rewards), xp.asarray(values), xp.asarray(mask), 0.9, 0.7)
    for junk in (np.nan, np.inf, -np.inf, 1e6):
        dirty = (xp.asarray(np.where(mask, x, junk)) for x in (rewards, values))
        for actual, same in zip(estimate(*dirty, xp.asarray(mask), 0.9, 0.7), wanted, strict=True):
            assert_same(actual, same)


def law_whitened_by_hand(scale, xp):
    """1, 2, 3, 6 have mean 3 and population variance 3.5."""
    x, mask = xp.asarray([[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]), xp.asarray(prefix_mask([2, 2], 3))
    wanted = np.asarray([[-2.0, -1.0, 0], [0, 3.0, 0]]) / np.sqrt(3.5)
    assert_close(scale(x, mask, True), wanted, rtol=1e-8)
    wanted[:, :2] += 3
    assert_close(scale(x, mask, False), wanted, rtol=1e-8)


def law_epsilon_is_inside_the_root(scale, xp):
    """±10⁻⁴ has variance 10⁻⁸, the size of ε: scaled to ±1/√2.  Constants go to 0."""
    mask = xp.ones((1, 2), dtype=bool)
    assert_close(scale(xp.asarray([[1e-4, -1e-4]]), mask, True), [[0.5 ** 0.5, -(0.5 ** 0.5)]])
    assert_close(scale(xp.asarray([[5.0, 5.0]]), mask, True), [[0.0, 0.0]])


def law_whitening_never_reads_masked_slots(scale, xp):
    x, _, mask = sample()
    for shift in (True, False):
        wanted = scale(xp.asarray(x), xp.asarray(mask), shift)
        for junk in (np.nan, np.inf, 1e6):
            assert_same(scale(xp.asarray(np.where(mask, x, junk)), xp.asarray(mask), shift), wanted)


LAWS = {gae: [law_three_tokens_by_hand, law_equals_the_double_sum, law_masked_slots_are_never_read],
        whiten: [law_whitened_by_hand, law_epsilon_is_inside_the_root,
                 law_whitening_never_reads_masked_slots]}


@pytest.mark.parametrize("function, law", [(f, law) for f, laws in LAWS.items() for law in laws],
                         ids=lambda f: f.__name__)
def test_the_function_keeps_the_law(function, law, xp):
    law(function, xp)


def recursion(delta, decay=lambda gamma, lam: gamma * lam, final=lambda v: 0 * v[:, 0]):
    """GAE with another delta(r, v, v_next, γ, λ), decay, or value after the end; masked first."""
    def mutant(rewards, values, mask, gamma, lam):
        r, v = np.where(mask, rewards, 0), np.where(mask, values, 0)
        v_next = np.concatenate([v[:, 1:], final(v)[:, None]], axis=1)
        d = delta(r, v, v_next, gamma, lam) * mask
        a = np.zeros_like(d)
        for t in reversed(range(d.shape[1])):
            later = a[:, t + 1] if t + 1 < d.shape[1] else 0
            a[:, t] = d[:, t] + decay(gamma, lam) * later
        return a, np.where(mask, a + v, 0)
    return mutant


def masked_afterwards(rewards, values, mask, gamma, lam):
    a, returns = gae(rewards, values, np.ones_like(mask), gamma, lam)
    return np.where(mask, a, 0), np.where(mask, returns, 0)


def whitened_with(ddof=0, outside=0.0, inside=1e-8, everything=False, remask=True):
    def mutant(x, mask, shift_mean=True):
        chosen = x if everything else x[mask]
        y = (x - chosen.mean()) / (np.sqrt(chosen.var(ddof=ddof) + inside) + outside)
        y = y if shift_mean else y + chosen.mean()
        return np.where(mask, y, 0) if remask else y
    return mutant


MUTANTS = {
    "the value's sign": (law_three_tokens_by_hand, recursion(lambda r, v, w, g, _: r + g * w + v)),
    "the next value forgotten": (law_three_tokens_by_hand, recursion(lambda r, v, w, g, _: r - v)),
    "gamma missing in delta": (law_equals_the_double_sum,
                               recursion(lambda r, v, w, g, _: r + w - v)),
    "lambda for gamma in delta": (law_equals_the_double_sum,
                                  recursion(lambda r, v, w, g, lam: r + lam * w - v)),
    "decay without lambda": (law_three_tokens_by_hand,
                             recursion(lambda r, v, w, g, _: r + g * w - v, lambda g, lam: g)),
    "decay without gamma": (law_equals_the_double_sum,
                            recursion(lambda r, v, w, g, _: r + g * w - v, lambda g, lam: lam)),
    "bootstrap from the last value": (
        law_three_tokens_by_hand,
        recursion(lambda r, v, w, g, _: r + g * w - v, final=lambda v: v[:, -1])),
    "masked after the recursion": (law_equals_the_double_sum, masked_afterwards),
    "returns without the value": (
        law_three_tokens_by_hand, lambda r, v, m, g, lam: (gae(r, v, m, g, lam)[0],) * 2),
    "rewards one token late": (law_three_tokens_by_hand, lambda r, v, m, g, lam: gae(
        np.roll(r, 1, axis=1), v, m, g, lam)),
    "masking by multiplication": (law_masked_slots_are_never_read, lambda r, v, m, g, lam: gae(
        r * m, v * m, np.ones_like(m), g, lam)),
    "sample variance": (law_whitened_by_hand, whitened_with(ddof=1)),
    "padding in the mean": (law_whitened_by_hand, whitened_with(everything=True)),
    "padding left in": (law_whitened_by_hand, whitened_with(remask=False)),
    "epsilon outside the root": (law_epsilon_is_inside_the_root,
                                 whitened_with(inside=0, outside=1e-8)),
    "no epsilon": (law_epsilon_is_inside_the_root, whitened_with(inside=0)),
    "shift_mean ignored": (law_whitened_by_hand, lambda x, m, shift: whiten(x, m)),
    "shift_mean negated": (law_whitened_by_hand, lambda x, m, shift: whiten(x, m, not shift)),
    "whitening that multiplies by the mask": (
        law_whitening_never_reads_masked_slots,
        lambda x, m, shift: whiten(x * m, m, shift) + 0 * x),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    """So what the laws catch below is the mutation, not the skeleton."""
    faithful = recursion(lambda r, v, v_next, gamma, _: r + gamma * v_next - v)
    law_three_tokens_by_hand(faithful, np)
    law_equals_the_double_sum(faithful, np)
    law_whitened_by_hand(whitened_with(), np)
    law_epsilon_is_inside_the_root(whitened_with(), np)


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(arrays_and_mask(2, shortest=0), fractions, fractions)
def test_gae_equals_its_double_sum(xp, drawn, gamma, lam):
    rewards, values, mask = drawn
    got = gae(*(xp.asarray(x) for x in drawn), gamma, lam)
    for actual, wanted in zip(got, double_sum(rewards, values, mask, gamma, lam), strict=True):
        assert_close(actual, wanted)


@given(arrays_and_mask(2, shortest=0), fractions)
def test_lambda_zero_is_the_error_of_one_step(xp, drawn, gamma):
    rewards, values, mask = drawn
    v = np.where(mask, values, 0)
    v_next = np.pad(v, ((0, 0), (0, 1)))[:, 1:]
    advantages, _ = gae(*(xp.asarray(x) for x in drawn), gamma, 0.0)
    assert_close(advantages, np.where(mask, rewards + gamma * v_next - v, 0))


@given(arrays_and_mask(2, shortest=0), fractions)
def test_lambda_one_is_the_return_minus_the_value(xp, drawn, gamma):
    rewards, values, mask = drawn
    wanted = np.zeros(mask.shape)
    for b, n in enumerate(mask.sum(axis=1)):
        for t in range(n):
            wanted[b, t] = sum(gamma ** i * rewards[b, t + i] for i in range(n - t))
    advantages, returns = gae(*(xp.asarray(x) for x in drawn), gamma, 1.0)
    assert_close(returns, wanted)                       # whatever the value model says
    assert_close(advantages, np.where(mask, wanted - values, 0))


@given(arrays_and_mask(2, shortest=0), fractions, fractions, st.integers(1, 4))
def test_appended_padding_changes_nothing(xp, drawn, gamma, lam, more):
    rewards, values, mask = drawn
    wide = ((0, 0), (0, more))
    padded = gae(xp.asarray(np.pad(rewards, wide, constant_values=np.nan)),
                 xp.asarray(np.pad(values, wide, constant_values=1e6)),
                 xp.asarray(np.pad(mask, wide)), gamma, lam)
    for long, short in zip(padded, gae(*(xp.asarray(x) for x in drawn), gamma, lam), strict=True):
        assert_same(long[:, :mask.shape[1]], short)
        assert not host(long)[:, mask.shape[1]:].any()


@given(arrays_and_mask(2), fractions, fractions)
def test_a_perfect_value_model_leaves_no_advantage(xp, drawn, gamma, lam):
    rewards, _, mask = drawn
    perfect = double_sum(rewards, np.zeros_like(rewards), mask, gamma, 1.0)[0]
    advantages, _ = gae(xp.asarray(rewards), xp.asarray(perfect), xp.asarray(mask), gamma, lam)
    assert_close(advantages, np.zeros(mask.shape), atol=1e-10)


@given(prefix_masks(shape=(3, 4)), float_arrays((3, 4)))
def test_whitened_entries_have_mean_zero_and_deviation_one(xp, mask, x):
    y = host(whiten(xp.asarray(x), xp.asarray(mask)))
    assert abs(y[mask].mean()) < 1e-8
    var = x[mask].var()
    assert_close(np.asarray(y[mask].var()), np.asarray(var / (var + 1e-8)), rtol=1e-7, atol=1e-9)
    assert not y[~mask].any()


@given(prefix_masks(shape=(3, 4)), float_arrays((3, 4)))
def test_without_the_shift_the_mean_stays(xp, mask, x):
    y = host(whiten(xp.asarray(x), xp.asarray(mask), shift_mean=False))
    assert y[mask].mean() == pytest.approx(x[mask].mean(), abs=1e-8)
    assert not y[~mask].any()


# --- edges and errors ----------------------------------------------------------------------------

def test_defaults_are_gamma_1_and_lambda_095(xp):
    rewards, values, mask = (xp.asarray(x) for x in sample())
    for default, named in zip(gae(rewards, values, mask),
                              gae(rewards, values, mask, gamma=1.0, lam=0.95), strict=True):
        assert_same(default, named)


def test_rewards_and_gamma_given_as_integers_are_not_truncated(xp):
    rewards, values = xp.asarray([[0, 0, 1]]), xp.asarray([[0, 1, 0]])
    advantages, _ = gae(rewards, values, xp.ones((1, 3), dtype=bool), 1, 0.5)
    assert_close(advantages, [[1 - 0.25, -0.5, 1.0]])


def test_inputs_are_never_written_to(xp):
    rewards, values, mask = (xp.asarray(x) for x in sample())
    kept = [host(x).copy() for x in (rewards, values, mask)]
    gae(rewards, values, mask)
    whiten(rewards, mask)
    for x, before in zip((rewards, values, mask), kept, strict=True):
        assert_same(x, before)


def test_nothing_unmasked_gives_zeros(xp):
    x, mask = xp.full((2, 3), np.nan), xp.zeros((2, 3), dtype=bool)
    assert all(not host(y).any() for y in gae(x, x, mask))
    none = xp.zeros((2, 0))
    assert all(y.shape == (2, 0) for y in gae(none, none, none != 0))


def test_whitening_of_no_token_is_refused(xp):
    with pytest.raises(ValueError, match="no token"):
        whiten(xp.zeros((2, 3)), xp.zeros((2, 3), dtype=bool))


@pytest.mark.parametrize("row", [[True, False, True], [False, True, True]])
def test_a_mask_that_is_not_a_prefix_is_refused_and_its_row_named(xp, row):
    mask = xp.asarray([[True, True, False], row])
    with pytest.raises(ValueError, match="row 1"):
        gae(xp.zeros((2, 3)), xp.zeros((2, 3)), mask)


def test_whitening_allows_gaps(xp):
    y = whiten(xp.asarray([[1.0, np.nan, 3.0]]), xp.asarray([[True, False, True]]))
    assert_close(y, [[-1.0, 0.0, 1.0]], rtol=1e-7)


def test_float32_stays_float32(xp):
    x, mask = xp.asarray([[1.0, 2.0]], dtype="float32"), xp.ones((1, 2), dtype=bool)
    assert all(y.dtype == "float32" for y in gae(x, x, mask, np.float64(0.9), np.float64(0.5)))
    assert whiten(x, mask).dtype == whiten(x, mask, False).dtype == "float32"


def test_tensors_are_refused(xp):
    x, mask = xp.zeros((1, 2)), xp.ones((1, 2), dtype=bool)
    for call in (lambda: gae(Tensor(x), x, mask), lambda: gae(x, Tensor(x), mask),
                 lambda: whiten(Tensor(x), mask)):
        with pytest.raises(TypeError, match="Tensor"):
            call()


def test_a_mask_that_is_not_boolean_is_refused(xp):
    x = xp.ones((1, 2))
    for call in (lambda: gae(x, x, x), lambda: whiten(x, x)):
        with pytest.raises(TypeError, match="boolean"):
            call()


@pytest.mark.parametrize("r, v, m", [((2, 3), (2, 4), (2, 3)), ((2, 3), (1, 3), (2, 3)),
                                     ((2, 3), (2, 3), (2, 1)), ((3,), (3,), (3,))])
def test_shapes_that_do_not_fit_are_refused_and_shown(xp, r, v, m):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        gae(xp.zeros(r), xp.zeros(v), xp.ones(m, dtype=bool))
    if r != m or len(r) != 2:
        with pytest.raises(ValueError, match=r"\(.*\)"):
            whiten(xp.zeros(r), xp.ones(m, dtype=bool))

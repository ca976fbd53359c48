"""Laws of kl_penalty: estimators, the exact sum, the objective, shaped rewards, the controller."""

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import arrays_and_mask, assert_close, assert_same, float_arrays, host, prefix_mask
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.arrays import array_module
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.kl_penalty import (
    adaptive_beta,
    exact_kl,
    kl_estimate,
    penalized_objective,
    penalized_rewards,
)

logit_pairs = float_arrays(st.tuples(st.just(2), st.integers(2, 6)))       # policy, reference


def softmax(z):
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(axis=-1)


def two_distributions():
    """Logits of a policy and a reference over six tokens, far enough apart to tell laws apart."""
    return np.random.default_rng(4).normal(size=(2, 6)) * 1.3


# --- the article's example -----------------------------------------------------------------------

def law_the_articles_numbers(objective, xp):
    assert objective(3.0, 4.0, 0.1) == pytest.approx(2.6, abs=1e-15)
    assert objective(3.0, 20.0, 0.1) == pytest.approx(1.0, abs=1e-15)


def law_objective_gradient_is_one_and_minus_beta(objective, xp):
    point = [xp.asarray(3.0), xp.asarray(4.0)]
    value, (d_reward, d_kl) = value_and_grad(lambda p: objective(p[0], p[1], 0.1))(point)
    assert_close(value, np.asarray(2.6))
    assert_close(d_reward, np.asarray(1.0))
    assert_close(d_kl, np.asarray(-0.1))


# --- estimators, by enumeration over the vocabulary: every expectation is an exact sum -----------

def law_k1_and_k3_are_unbiased_and_k2_is_not(estimate, xp):
    z, z_ref = two_distributions()
    p, q = softmax(z), softmax(z_ref)
    mean = {k: float((p * host(estimate(xp.log(xp.asarray(p)), xp.log(xp.asarray(q)), k))).sum())
            for k in ("k1", "k2", "k3")}
    assert mean["k1"] == pytest.approx(kl(p, q), rel=1e-12)
    assert mean["k3"] == pytest.approx(kl(p, q), rel=1e-12)
    assert abs(mean["k2"] - kl(p, q)) > 0.1 * kl(p, q)


def law_estimators_at_one_token(estimate, xp):
    """π = 1/2 where π_ref = 1/4: k = log 2."""
    k = np.log(2)
    for name, wanted in (("k1", k), ("k2", k * k / 2), ("k3", 0.5 - 1 + k)):
        got = estimate(np.log(0.5), np.log(0.25), name)
        assert float(got) == pytest.approx(wanted, rel=1e-12), name


def expected_loss_gradient(estimate, z, z_ref, name):
    """E_π[∇ estimate]: the weights π are constants, as they are when tokens are sampled."""
    weights = array_module(z).asarray(softmax(host(z)))
    log_q = ops.log_softmax(z_ref)
    return value_and_grad(
        lambda z: ops.sum(estimate(ops.log_softmax(z), log_q, name) * weights))(z)[1]


def law_gradients_as_losses(estimate, xp):
    """E_π[∇k1] = 0,  E_π[∇k2] = ∇KL(π‖ref),  E_π[∇k3] = ∇KL(ref‖π), all with respect to π's
    logits.  Closed forms: π_v(k_v − KL(π‖ref)) and π_v − ref_v."""
    z, z_ref = two_distributions()
    p, q = softmax(z), softmax(z_ref)
    z, z_ref = xp.asarray(z), xp.asarray(z_ref)
    reverse = p * (np.log(p) - np.log(q) - kl(p, q))
    forward = p - q
    assert_close(expected_loss_gradient(estimate, z, z_ref, "k1"), 0 * p, atol=1e-14)
    assert_close(expected_loss_gradient(estimate, z, z_ref, "k2"), reverse)
    assert_close(expected_loss_gradient(estimate, z, z_ref, "k3"), forward)


# --- the exact sum -------------------------------------------------------------------------------

def law_exact_kl_is_the_sum(exact, xp):
    z, z_ref = two_distributions()
    wanted = np.asarray(kl(softmax(z), softmax(z_ref)))
    assert_close(exact(xp.asarray(z), xp.asarray(z_ref)), wanted)


def law_exact_kl_gradient_is_the_closed_form(exact, xp):
    z, z_ref = two_distributions()
    p, q = softmax(z), softmax(z_ref)
    _, dz = value_and_grad(exact)(xp.asarray(z), xp.asarray(z_ref))
    assert_close(dz, p * (np.log(p) - np.log(q) - kl(p, q)))


def law_impossible_tokens_add_nothing(exact, xp):
    """(1/2, 1/2, 0, 0) against (1/4, 1/4, 1/2, 0) is log 2."""
    with np.errstate(divide="ignore"):
        z, z_ref = np.log([0.5, 0.5, 0, 0]), np.log([0.25, 0.25, 0.5, 0])
    value, dz = value_and_grad(exact)(xp.asarray(z), xp.asarray(z_ref))
    assert_close(value, np.asarray(np.log(2)))
    assert_close(dz, np.zeros(4))


# --- shaped rewards ------------------------------------------------------------------------------

MASK = prefix_mask([3, 1, 0], 4)
LOGPROBS = np.asarray([[-1.0, -2.0, -3.0, -9.0], [-1.0, -9.0, -9.0, -9.0], [-9.0] * 4])
REFERENCE = np.asarray([[-2.0, -2.0, -1.0, -5.0], [-3.0, -5.0, -5.0, -5.0], [-5.0] * 4])
SCORES = np.asarray([3.0, -1.0, 7.0])


def law_rewards_by_hand(rewards, xp):
    """β = 0.1; the score joins the last real token, end-of-sequence or not; an empty reply has
    nowhere to put it."""
    got = rewards(*(xp.asarray(x) for x in (SCORES, LOGPROBS, REFERENCE, MASK)), 0.1)
    assert_close(got, [[-0.1, 0.0, 0.2 + 3.0, 0.0], [-0.2 - 1.0, 0.0, 0.0, 0.0], [0.0] * 4])


def law_a_reply_of_full_width_keeps_its_score(rewards, xp):
    mask = xp.ones((1, 4), dtype=bool)
    got = rewards(xp.asarray(SCORES[:1]), xp.asarray(LOGPROBS[:1]), xp.asarray(REFERENCE[:1]), mask,
                  0.1)
    assert_close(got, [[-0.1, 0.0, 0.2, 0.4 + 3.0]])


def law_masked_slots_are_never_read(rewards, xp):
    wanted = rewards(*(xp.asarray(x) for x in (SCORES, LOGPROBS, REFERENCE, MASK)), 0.1)
    for junk in (np.nan, np.inf, -np.inf, 1e6):
        dirty = [np.where([True, True, False], SCORES, junk),
                 np.where(MASK, LOGPROBS, junk), np.where(MASK, REFERENCE, junk)]
        assert_same(rewards(*(xp.asarray(x) for x in (*dirty, MASK)), 0.1), wanted)


# --- the controller ------------------------------------------------------------------------------

def law_beta_by_hand(controller, xp):
    """Target 6 nats, horizon 10000, 256 replies: n/horizon = 0.0256."""
    assert controller(0.2, 6.0, 6.0, 10_000, 256) == pytest.approx(0.2)
    assert controller(0.2, 6.6, 6.0, 10_000, 256) == pytest.approx(0.2 * (1 + 0.1 * 0.0256))
    assert controller(0.2, 5.7, 6.0, 10_000, 256) == pytest.approx(0.2 * (1 - 0.05 * 0.0256))


def law_one_batch_moves_beta_only_so_far(controller, xp):
    assert controller(0.2, 1e6, 6.0, 10_000, 256) == pytest.approx(0.2 * (1 + 0.2 * 0.0256))
    assert controller(0.2, -1e6, 6.0, 10_000, 256) == pytest.approx(0.2 * (1 - 0.2 * 0.0256))


LAWS = {
    penalized_objective: [law_the_articles_numbers, law_objective_gradient_is_one_and_minus_beta],
    kl_estimate: [law_estimators_at_one_token, law_k1_and_k3_are_unbiased_and_k2_is_not,
                  law_gradients_as_losses],
    exact_kl: [law_exact_kl_is_the_sum, law_exact_kl_gradient_is_the_closed_form,
               law_impossible_tokens_add_nothing],
    penalized_rewards: [law_rewards_by_hand, law_a_reply_of_full_width_keeps_its_score,
                        law_masked_slots_are_never_read],
    adaptive_beta: [law_beta_by_hand, law_one_batch_moves_beta_only_so_far],
}


@pytest.mark.parametrize("function, law", [(f, law) for f, laws in LAWS.items() for law in laws],
                         ids=lambda f: f.__name__)
def test_the_function_keeps_the_law(function, law, xp):
    law(function, xp)


def estimator(**changed):
    """kl_estimate with some estimators replaced."""
    def mutant(lp, ref, name="k1"):
        return changed[name](lp - ref) if name in changed else kl_estimate(lp, ref, name)
    return mutant


def rewards_mutant(place_score, sign=1.0):
    def mutant(scores, lp, ref, mask, beta):
        k1 = np.where(mask, lp, 0) - np.where(mask, ref, 0)
        r = -sign * beta * k1
        for row in range(len(mask)):
            t = place_score(int(mask[row].sum()), mask.shape[1])
            if t is not None:
                r[row, t] += scores[row]
        return r
    return mutant


def at_last(n, width):
    return n - 1 if n else None


def shifted_mask(scores, lp, ref, mask, beta):
    r = penalized_rewards(scores, lp, ref, mask, beta)
    late = np.concatenate([np.ones((len(mask), 1), dtype=bool), mask[:, :-1]], axis=1)
    return np.where(late & ~mask, -beta * (lp - ref), r)


MUTANTS = {
    "the penalty's sign": (law_the_articles_numbers, lambda r, k, b: r + b * k),
    "beta dropped": (law_the_articles_numbers, lambda r, k, b: r - k),
    "the reward penalised": (law_the_articles_numbers, lambda r, k, b: b * r - k),
    "kl detached": (law_objective_gradient_is_one_and_minus_beta,
                    lambda r, k, b: penalized_objective(r, getattr(k, "value", k), b)),
    "k1 with the direction swapped": (law_k1_and_k3_are_unbiased_and_k2_is_not,
                                      estimator(k1=lambda k: -k)),
    "k3 with the ratio inverted": (law_k1_and_k3_are_unbiased_and_k2_is_not,
                                   estimator(k3=lambda k: ops.exp(k) - 1 - k)),
    "k3 without the + k": (law_estimators_at_one_token, estimator(k3=lambda k: ops.exp(-k) - 1)),
    "k2 without the half": (law_gradients_as_losses, estimator(k2=lambda k: k * k)),
    "k2 in place of k3": (law_gradients_as_losses, estimator(k3=lambda k: k * k / 2)),
    "|k| in place of k1": (law_k1_and_k3_are_unbiased_and_k2_is_not, estimator(k1=abs)),
    "exact KL in the other direction": (
        law_exact_kl_is_the_sum,
        lambda z, ref: exact_kl(ref, z)),
    "weights of the reference": (
        law_exact_kl_is_the_sum,
        lambda z, ref: ops.sum(np.exp(ops.log_softmax(ref)) *
                               (ops.log_softmax(z) - ops.log_softmax(ref)), axis=-1)),
    "weights detached": (
        law_exact_kl_gradient_is_the_closed_form,
        lambda z, ref: ops.sum(np.exp(ops.log_softmax(z.value)) *
                               (ops.log_softmax(z) - ops.log_softmax(ref)), axis=-1)),
    "0·log 0 computed": (
        law_impossible_tokens_add_nothing,
        lambda z, ref: ops.sum(ops.exp(ops.log_softmax(z)) *
                               (ops.log_softmax(z) - ops.log_softmax(ref)), axis=-1)),
    "score one token late": (law_rewards_by_hand,
                             rewards_mutant(lambda n, w: min(n, w - 1) if n else None)),
    "score one token early": (law_rewards_by_hand, rewards_mutant(lambda n, w: max(n - 2, 0)
                                                                  if n else None)),
    "score at the end of the row": (law_rewards_by_hand, rewards_mutant(lambda n, w: w - 1)),
    "score at the first pad, lost when there is none": (
        law_a_reply_of_full_width_keeps_its_score,
        rewards_mutant(lambda n, w: n if n < w else None)),
    "an empty reply's score put somewhere": (law_rewards_by_hand,
                                             rewards_mutant(lambda n, w: n - 1)),
    "KL rewarded": (law_rewards_by_hand, rewards_mutant(at_last, sign=-1)),
    "KL swapped": (law_rewards_by_hand,
                   lambda s, lp, ref, m, b: penalized_rewards(s, ref, lp, m, b)),
    "KL divided by the length": (
        law_rewards_by_hand,
        lambda s, lp, ref, m, b: penalized_rewards(s, lp / 3, ref / 3, m, b)),
    "score replaces the last token's penalty": (
        law_rewards_by_hand,
        lambda s, lp, ref, m, b: np.where(penalized_rewards(s * 0 + 1, lp, lp, m, b) != 0,
                                          s[:, None], penalized_rewards(s, lp, ref, m, b))),
    "KL mask shifted by one": (law_rewards_by_hand, shifted_mask),
    "masking by multiplication": (
        law_masked_slots_are_never_read,
        lambda s, lp, ref, m, b: penalized_rewards(s, lp, ref, m, 0.0) - b * (lp - ref) * m),
    "beta moves the wrong way": (law_beta_by_hand,
                                 lambda b, o, t, h, n: 2 * b - adaptive_beta(b, o, t, h, n)),
    "error in nats": (law_beta_by_hand,
                      lambda b, o, t, h, n: b * (1 + min(max(o - t, -0.2), 0.2) * n / h)),
    "n ignored": (law_beta_by_hand, lambda b, o, t, h, n: adaptive_beta(b, o, t, h, 1)),
    "no clip": (law_one_batch_moves_beta_only_so_far,
                lambda b, o, t, h, n: b * (1 + (o / t - 1) * n / h)),
    "clipped above only": (law_one_batch_moves_beta_only_so_far,
                           lambda b, o, t, h, n: b * (1 + min(o / t - 1, 0.2) * n / h)),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(logit_pairs)
def test_kl_is_zero_for_equals_and_never_negative(xp, pair):
    z, z_ref = xp.asarray(pair[0]), xp.asarray(pair[1])
    assert host(exact_kl(z, z)) == 0
    assert host(exact_kl(z, z_ref)) >= -1e-14
    assert_close(exact_kl(z, z + 5), np.asarray(0.0), atol=1e-14)      # a shift of the logits


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_k2_and_k3_are_never_negative_and_all_are_zero_for_equals(lp, ref):
    assert kl_estimate(lp, ref, "k2") >= 0
    assert kl_estimate(lp, ref, "k3") >= -1e-14
    assert all(kl_estimate(lp, lp, name) == 0 for name in ("k1", "k2", "k3"))


@given(logit_pairs)
def test_enumerated_estimators_agree_with_the_exact_sum(xp, pair):
    p, q = softmax(pair[0]), softmax(pair[1])
    exact = host(exact_kl(xp.asarray(pair[0]), xp.asarray(pair[1])))
    for name in ("k1", "k3"):
        values = kl_estimate(xp.log(xp.asarray(p)), xp.log(xp.asarray(q)), name)
        assert_close(np.asarray((p * host(values)).sum()), exact, atol=1e-13)


@given(logit_pairs)
def test_k2_as_a_loss_has_the_gradient_of_the_exact_sum(xp, pair):
    z, z_ref = xp.asarray(pair[0]), xp.asarray(pair[1])
    wanted = value_and_grad(exact_kl)(z, z_ref)[1]
    assert_close(expected_loss_gradient(kl_estimate, z, z_ref, "k2"), wanted, atol=1e-13)
    assert_close(expected_loss_gradient(kl_estimate, z, z_ref, "k3"),
                 softmax(pair[0]) - softmax(pair[1]), atol=1e-13)


@given(logit_pairs)
def test_gradients_are_the_measured_slopes(xp, pair):
    z, z_ref = xp.asarray(pair[0]), xp.asarray(pair[1])
    check_gradient(lambda z: exact_kl(z, z_ref), z)
    for name in ("k1", "k2", "k3"):
        check_gradient(lambda z, name=name: kl_estimate(z, z_ref, name), z)


def test_exact_kl_works_over_any_leading_axes(xp):
    z, z_ref = np.random.default_rng(5).normal(size=(2, 2, 3, 4))
    got = exact_kl(xp.asarray(z), xp.asarray(z_ref))
    assert_close(got, kl(softmax(z), softmax(z_ref)))
    check_gradient(lambda z: exact_kl(z, xp.asarray(z_ref)), xp.asarray(z))


@given(arrays_and_mask(2, shortest=0), st.floats(0, 1))
def test_shaped_rewards_add_up_to_the_articles_objective(xp, sample, beta):
    """Over a reply: score − β·Σ k1.  An empty reply earns nothing."""
    lp, ref, mask = sample
    scores = np.arange(1.0, len(mask) + 1)
    shaped = host(penalized_rewards(*(xp.asarray(x) for x in (scores, lp, ref, mask)), beta))
    sum_k1 = np.where(mask, lp - ref, 0).sum(axis=1)
    wanted = np.where(mask.any(axis=1), penalized_objective(scores, sum_k1, beta), 0)
    assert_close(shaped.sum(axis=1), wanted)
    assert not shaped[~mask].any()


def test_with_gaps_in_the_mask_the_score_still_joins_the_last_real_token(xp):
    mask = xp.asarray([[True, False, True, False]])
    zeros = xp.zeros((1, 4))
    assert_close(penalized_rewards(xp.asarray([5.0]), zeros, zeros, mask, 0.1), [[0, 0, 5.0, 0]])


# --- edges and errors ----------------------------------------------------------------------------

def test_minus_infinity_logits_give_no_warning_and_finite_gradients(xp):
    """A token that both forbid, one that only the policy forbids: nothing to pay."""
    z = xp.asarray([[1.0, -np.inf, 0.5, -np.inf]])
    z_ref = xp.asarray([[0.0, -np.inf, 1.0, 2.0]])
    value, dz = value_and_grad(lambda z: ops.sum(exact_kl(z, z_ref)))(z)  # a warning would raise
    assert np.isfinite(host(value)) and np.isfinite(host(dz)).all()
    assert host(dz)[0, 1] == 0 and host(dz)[0, 3] == 0


def test_a_token_that_only_the_reference_forbids_costs_infinitely_much(xp):
    assert host(exact_kl(xp.asarray([1.0, 0.0]), xp.asarray([1.0, -np.inf]))) == np.inf


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_k3_may_overflow_to_infinity(xp):
    assert host(kl_estimate(xp.asarray([-1000.0]), xp.asarray([0.0]), "k3"))[0] == np.inf
    assert_close(kl_estimate(xp.asarray([1000.0]), xp.asarray([0.0]), "k3"), [999.0])


def test_numbers_arrays_and_tensors_give_their_like(xp):
    a, b = xp.asarray([2.0]), xp.asarray([1.0])
    for name in ("k1", "k2", "k3"):
        assert isinstance(kl_estimate(-1.0, -2.0, name), float)
        assert kl_estimate(a, b, name).shape == (1,)
        assert isinstance(kl_estimate(Tensor(a), b, name), Tensor)
    assert isinstance(penalized_objective(3.0, 4.0, 0.1), float)
    assert isinstance(penalized_objective(a, Tensor(b), 0.1), Tensor)
    assert isinstance(penalized_objective(Tensor(xp.asarray(3.0)), 4.0, 0.1), Tensor)
    assert type(adaptive_beta(0.2, xp.asarray(6.0), 6, 10_000, 256)) is float


def test_float32_stays_float32(xp):
    x, y = xp.asarray([[1.0, 2.0]], dtype="float32"), xp.asarray([[0.0, 3.0]], dtype="float32")
    mask = xp.asarray([[True, False]])
    for lp in (x, Tensor(x)):
        assert all(kl_estimate(lp, y, name).dtype == "float32" for name in ("k1", "k2", "k3"))
        assert exact_kl(lp, y).dtype == "float32"
        assert penalized_objective(lp, y, 0.1).dtype == "float32"
    assert penalized_rewards(y[:, 0], x, y, mask, 0.1).dtype == "float32"


def test_beta_zero_leaves_the_score_alone(xp):
    got = penalized_rewards(*(xp.asarray(x) for x in (SCORES, LOGPROBS, REFERENCE, MASK)), 0)
    assert_close(got, [[0, 0, 3.0, 0], [-1.0, 0, 0, 0], [0.0] * 4])


def test_responses_of_width_zero_have_no_reward(xp):
    none = xp.zeros((2, 0))
    assert penalized_rewards(xp.zeros(2), none, none, none != 0, 0.1).shape == (2, 0)


def test_an_unknown_estimator_is_refused_and_shown():
    with pytest.raises(ValueError, match="'k4'"):
        kl_estimate(-1.0, -2.0, "k4")


@pytest.mark.parametrize("target, horizon, shown", [(0, 1e4, "target_kl.*0"), (-6, 1e4, "-6"),
                                                    (6, 0, "horizon.*0"), (6, -5, "-5"),
                                                    (float("nan"), 1e4, "nan")])
def test_a_target_or_horizon_that_is_not_positive_is_refused_and_shown(target, horizon, shown):
    with pytest.raises(ValueError, match=shown):
        adaptive_beta(0.2, 6.0, target, horizon, 256)


def test_tensors_among_the_constants_are_refused(xp):
    x, mask = xp.zeros((1, 2)), xp.ones((1, 2), dtype=bool)
    t = Tensor(x)
    calls = [lambda: kl_estimate(x, t), lambda: exact_kl(x, t),
             lambda: penalized_objective(1.0, 2.0, Tensor(xp.asarray(0.1))),
             lambda: penalized_rewards(Tensor(xp.zeros(1)), x, x, mask, 0.1),
             lambda: penalized_rewards(xp.zeros(1), t, x, mask, 0.1),
             lambda: penalized_rewards(xp.zeros(1), x, t, mask, 0.1)]
    for call in calls:
        with pytest.raises(TypeError, match="Tensor"):
            call()


def test_a_mask_that_is_not_boolean_is_refused(xp):
    x = xp.zeros((1, 2))
    with pytest.raises(TypeError, match="boolean"):
        penalized_rewards(xp.zeros(1), x, x, xp.ones((1, 2)), 0.1)


@pytest.mark.parametrize("s, lp, ref, m", [((3,), (2, 4), (2, 4), (2, 4)),
                                           ((2, 1), (2, 4), (2, 4), (2, 4)),
                                           ((2,), (2, 4), (1, 4), (2, 4)),
                                           ((2,), (2, 4), (2, 4), (2, 3)),
                                           ((4,), (4,), (4,), (4,))])
def test_shaped_rewards_refuse_shapes_that_do_not_fit(xp, s, lp, ref, m):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        penalized_rewards(xp.zeros(s), xp.zeros(lp), xp.zeros(ref), xp.ones(m, dtype=bool), 0.1)


@pytest.mark.parametrize("a, b", [((2,), (3,)), ((2,), (1,)), ((2,), ()), ((2, 1), (2,))])
def test_nothing_broadcasts(xp, a, b):
    for function in (kl_estimate, exact_kl, lambda a, b: penalized_objective(a, b, 0.1)):
        with pytest.raises(ValueError, match=r"\(.*\)"):
            function(xp.zeros(a), xp.zeros(b))


def test_logits_without_a_vocabulary_axis_are_refused(xp):
    with pytest.raises(ValueError, match="V"):
        exact_kl(xp.asarray(1.0), xp.asarray(1.0))

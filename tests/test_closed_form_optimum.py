"""Where training ends: the KL-regularised optimum is known, so the whole loop can be held to it.

One prompt, five possible replies of one token each, π = softmax(θ).  Under

    J(π) = E_π[reward] − β·KL(π‖π_ref)        the optimum is        π* ∝ π_ref·exp(reward/β),

since J(π) = const − β·KL(π‖π*).  Every expectation below is a sum over the five replies, so nothing
is left to chance: batch row y is reply y, and its weight π_old(y) stands in for how often it would
have been sampled.
"""

import numpy as np
import pytest
from helpers import assert_close, host

from minirlhf import ops
from minirlhf.autograd import value_and_grad
from minirlhf.clipped_surrogate import clipped_surrogate_loss
from minirlhf.gae import gae
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages
from minirlhf.kl_penalty import exact_kl, kl_estimate, penalized_objective, penalized_rewards

BETA = 0.3
REWARDS = np.asarray([0.0, 0.2, 0.4, 0.6, 1.0])
REFERENCE = np.asarray([0.35, 0.25, 0.2, 0.15, 0.05])
OPTIMUM = REFERENCE * np.exp(REWARDS / BETA)
OPTIMUM /= OPTIMUM.sum()
MASK = np.ones((5, 1), dtype=bool)


def probabilities(theta):
    return host(ops.exp(ops.log_softmax(theta)))


def distance(theta, target):
    """KL(π‖target)."""
    return float(exact_kl(host(theta), np.log(target)))


def ascend(xp, step, rate, steps):
    """θ after `steps` steps against the gradient step(θ), started at the reference."""
    theta = xp.asarray(np.log(REFERENCE))
    for _ in range(steps):
        theta = theta - rate * step(theta)
    return theta


def shaped(xp, log_p, beta=BETA):
    """The reward of each reply with the KL folded in, (5, 1), from its log-probability."""
    return penalized_rewards(xp.asarray(REWARDS), log_p[:, None],
                             xp.asarray(np.log(REFERENCE))[:, None], xp.asarray(MASK), beta)


def policy_gradient(xp, beta=BETA):
    """∇ of −Σ_y π(y)·A(y)·log π_θ(y): REINFORCE in expectation, KL in the reward."""
    def step(theta):
        log_p = ops.log_softmax(theta)
        p = xp.exp(log_p)
        r = shaped(xp, log_p, beta)[:, 0]
        weights = p * (r - (p * r).sum())
        return value_and_grad(lambda t: -ops.sum(ops.log_softmax(t) * weights))(theta)[1]
    return step


def ppo_iteration(xp, epochs=4, inner_rate=1.0):
    """One rollout and `epochs` clipped steps on it, as a change of θ.

    A weight w ≥ 0 on a token commutes with the clip, min(r·wA, clip(r)·wA) = w·min(rA, clip(r)A),
    so the expectation over replies is put into the advantages: ·5π_old, against the mean over 5.
    """
    def step(theta):
        old = ops.log_softmax(theta)
        p = xp.exp(old)
        r = shaped(xp, old)
        values = xp.zeros_like(r) + (p[:, None] * r).sum()                  # a perfect value model
        advantages, _ = gae(r, values, xp.asarray(MASK))
        advantages = advantages * 5 * p[:, None]

        def loss(t):
            lp = ops.reshape(ops.log_softmax(t), (5, 1))
            return clipped_surrogate_loss(lp, old[:, None], advantages, xp.asarray(MASK))

        moved = theta
        for _ in range(epochs):
            moved = moved - inner_rate * value_and_grad(loss)(moved)[1]
        return theta - moved
    return step


def pairs_of_replies(xp, advantages_of):
    """Groups of two: all 25 pairs, each with its probability, KL in the score."""
    first, second = np.indices((5, 5)).reshape(2, 25)
    replies = np.stack([first, second], axis=1).reshape(-1)                 # (50,), group by group

    def step(theta):
        log_p = ops.log_softmax(theta)
        p = host(xp.exp(log_p))
        r = host(shaped(xp, log_p))[:, 0]
        advantages = host(advantages_of(xp.asarray(r[replies]), 2))
        weights = np.repeat(p[first] * p[second], 2) * advantages / 2           # mean over a group
        per_reply = xp.asarray(np.bincount(replies, weights=weights, minlength=5))
        return value_and_grad(lambda t: -ops.sum(ops.log_softmax(t) * per_reply))(theta)[1]
    return step


def grpo_with_k3_in_the_loss(xp, estimator="k3"):
    """GRPO as published: advantages from the bare reward, the KL estimate as a term of the loss.

    Only the replies' log-probabilities are differentiated, not the sampling that weighs them.  (The
    division by the group's deviation is left out: it amounts to another β.)"""
    def step(theta):
        old = ops.log_softmax(theta)
        p = xp.exp(old)
        rewards = xp.asarray(REWARDS)
        advantages = (rewards - (p * rewards).sum()) * 5 * p
        log_ref = xp.asarray(np.log(REFERENCE))

        def loss(t):
            log_p = ops.log_softmax(t)
            policy = clipped_surrogate_loss(ops.reshape(log_p, (5, 1)), old[:, None],
                                            advantages[:, None], xp.asarray(MASK))
            return policy + BETA * ops.sum(kl_estimate(log_p, log_ref, estimator) * p)

        return value_and_grad(loss)(theta)[1]
    return step


# --- the optimum itself --------------------------------------------------------------------------

def test_no_policy_has_a_higher_objective_than_the_closed_form(xp):
    def objective(theta):
        kl = exact_kl(xp.asarray(theta), xp.asarray(np.log(REFERENCE)))
        return float(penalized_objective((probabilities(theta) * REWARDS).sum(), kl, BETA))

    best = objective(np.log(OPTIMUM))
    assert best == pytest.approx(BETA * np.log((REFERENCE * np.exp(REWARDS / BETA)).sum()))
    rng = np.random.default_rng(11)
    for scale in (0.01, 0.1, 1.0, 3.0):
        for _ in range(50):
            theta = np.log(OPTIMUM) + scale * rng.normal(size=5)
            gap = best - objective(theta)
            assert gap == pytest.approx(BETA * distance(theta, OPTIMUM), abs=1e-12) and gap >= 0


def test_at_the_optimum_every_reply_earns_the_same_so_every_advantage_is_zero(xp):
    r = shaped(xp, xp.asarray(np.log(OPTIMUM)))
    assert_close(r, np.full((5, 1), host(r)[0, 0]))
    for advantages in (group_advantages, leave_one_out_advantages):
        assert abs(host(advantages(r[:, 0], 5))).max() < 1e-10


# --- with the KL in the reward, every method ends there ------------------------------------------

def test_the_start_is_far_from_the_optimum():
    """So that arriving means something."""
    assert distance(np.log(REFERENCE), OPTIMUM) > 0.5


METHODS = {
    "policy gradient": (policy_gradient, 2.0, 600),
    "PPO": (ppo_iteration, 1.0, 150),
    "leave one out": (lambda xp: pairs_of_replies(xp, leave_one_out_advantages), 2.0, 600),
    "group mean": (lambda xp: pairs_of_replies(
        xp, lambda s, g: group_advantages(s, g, normalize=False)), 4.0, 600),
    "k2 in the loss": (lambda xp: grpo_with_k3_in_the_loss(xp, "k2"), 2.0, 600),
}


@pytest.mark.parametrize("name", METHODS)
def test_it_reaches_the_closed_form_optimum(xp, name):
    """KL(π‖π*) ≤ 10⁻⁴.  (k2 belongs here although it is a loss term: its expected gradient on
    fresh samples is that of the KL itself.)"""
    method, rate, steps = METHODS[name]
    assert distance(ascend(xp, method(xp), rate, steps), OPTIMUM) < 1e-4


def test_leave_one_out_in_expectation_is_the_policy_gradient(xp):
    theta = xp.asarray([0.3, -0.2, 0.1, 0.5, -1.0])
    assert_close(pairs_of_replies(xp, leave_one_out_advantages)(theta), policy_gradient(xp)(theta))


def test_one_ppo_step_from_a_fresh_rollout_is_the_policy_gradient(xp):
    theta = xp.asarray([0.3, -0.2, 0.1, 0.5, -1.0])
    assert_close(ppo_iteration(xp, epochs=1)(theta), policy_gradient(xp)(theta))


def test_ppo_with_a_rate_that_makes_it_clip_arrives_all_the_same(xp):
    theta = xp.asarray(np.log(REFERENCE))
    old = ops.log_softmax(theta)
    moved = theta - ppo_iteration(xp, epochs=8, inner_rate=2.0)(theta)
    ratios = host(xp.exp(ops.log_softmax(moved) - old))
    assert ratios.max() > 1.2                                              # the clip was at work
    end = ascend(xp, ppo_iteration(xp, epochs=8, inner_rate=2.0), 1.0, 100)
    assert distance(end, OPTIMUM) < 1e-3


MUTANTS = {
    "no KL": lambda xp: policy_gradient(xp, beta=0.0),
    "half of beta": lambda xp: policy_gradient(xp, beta=BETA / 2),
    "KL rewarded": lambda xp: policy_gradient(xp, beta=-BETA),
    "k1 in the loss": lambda xp: grpo_with_k3_in_the_loss(xp, "k1"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_penalty_ends_elsewhere(xp, name):
    assert distance(ascend(xp, MUTANTS[name](xp), 2.0, 600), OPTIMUM) > 0.02


# --- with k3 in the loss, the end is another -----------------------------------------------------

def test_k3_in_the_loss_has_another_fixed_point(xp):
    """On-policy, the gradient of E_π[k3] with the samples held fixed is that of KL(π_ref‖π), the
    other direction.  Setting  Σ_y [−π_y(r_y − r̄) + β(π_y − π_ref,y)]·∇log-odds  to zero gives

        π_y = π_ref,y / (1 − (r_y − r̄)/β),    with r̄ = E_π[r],

    a pole where π* has an exponential: the best reply gets more, those in the middle less.  The two
    agree to first order in (r − r̄)/β, so a large β hides the difference and a small one shows it.
    This is not a mistake of GRPO, only another objective than the article's; the KL in the reward,
    or k2 in the loss, is what reaches π*.
    """
    theta = ascend(xp, grpo_with_k3_in_the_loss(xp), 2.0, 800)
    p = probabilities(theta)
    mean = (p * REWARDS).sum()
    assert_close(p, REFERENCE / (1 - (REWARDS - mean) / BETA), rtol=1e-6)
    assert distance(theta, OPTIMUM) > 0.02
    assert p[4] > OPTIMUM[4] + 0.05


def test_the_closed_form_is_no_fixed_point_of_k3_in_the_loss(xp):
    at_optimum = xp.asarray(np.log(OPTIMUM))
    assert abs(host(grpo_with_k3_in_the_loss(xp)(at_optimum))).max() > 0.01
    assert abs(host(grpo_with_k3_in_the_loss(xp, "k2")(at_optimum))).max() < 1e-12
    assert abs(host(policy_gradient(xp)(at_optimum))).max() < 1e-12

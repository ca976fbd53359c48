"""Laws of stage 3: PPO against the reward model, held near the SFT model.

What it shares with the group-relative methods is in test_stages_policy.py.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
from helpers import assert_close, assert_same, host, prefix_mask, record_updates
from models import disturb, on
from rollouts import bandit, draw_prompts, four_models, map_arrays, one_row, rollout_of

from minirlhf import ops
from minirlhf.autograd import value_and_grad
from minirlhf.kl_penalty import adaptive_beta
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.parameters import copy, leaves
from minirlhf.rollout import Models, Rollout, collect, response_logprobs
from minirlhf.stages import ppo
from minirlhf.stages.policy import PPOConfig, policy_loss
from minirlhf.stages.ppo import advantages_and_returns, explained_variance, value_loss
from minirlhf.stages.training import Stage, step_rng

CONFIG = PPOConfig(steps=2, batch_size=8, max_new=5, epochs=2, minibatches=2)


def run(models, model, config=CONFIG, seed=0, draw=draw_prompts):
    return [{key: float(x) for key, x in row.items()}
            for row in ppo.train(models, model, draw, config, seed=seed)]


def learning_problem(backend, dtype="float64", apart=0.1):
    """models, model, rollout, advantages, returns, tokens; lengths and advantages differ."""
    models, model = four_models(backend, dtype, apart)
    rollout = rollout_of(models, model)
    assert len(set(rollout.mask.sum(axis=1).tolist())) > 1
    advantages, returns = advantages_and_returns(rollout, 0.2, CONFIG)
    return models, model, rollout, advantages, returns, int(rollout.mask.sum())


# --- from a rollout to its advantages ------------------------------------------------------------

def test_two_tokens_by_hand(backend):
    """β = 0.1, λ = ½: k1 = (0.5, −1), rewards (−0.05, 0.1 + 2), δ = (0.45, 1.1), A = (1, 1.1)."""
    config = PPOConfig(lam=0.5)
    advantages, returns = advantages_and_returns(one_row(backend), 0.1, config)
    assert_close(returns, np.array([[1.5, 2.1]]))
    assert_close(advantages, np.array([[-0.05, 0.05]]) / np.sqrt(0.0025 + 1e-8))


def test_the_discount_is_used(backend):
    """γ = ½: δ = (−0.05 + ½·1 − 0.5, 1.1), A₁ = −0.05 + ½·½·1.1."""
    _, returns = advantages_and_returns(one_row(backend), 0.1, PPOConfig(lam=0.5, gamma=0.5))
    assert_close(returns, np.array([[-0.05 + 0.275 + 0.5, 2.1]]))


def test_the_given_beta_counts_and_not_the_first_one(backend):
    """The adaptive β is an argument: the configuration holds where it starts."""
    first, other = (advantages_and_returns(one_row(backend), 0.1, PPOConfig(lam=0.5, beta=beta))
                    for beta in (0.0, 5.0))
    assert_same(first[1], other[1])
    assert_close(advantages_and_returns(one_row(backend), 1.0, PPOConfig(lam=0.5))[1],
                 np.array([[1.0 - 0.5 + 0.5 * 2.0 - 0.5 + 0.5, 3.0]]))


def test_advantages_are_whitened_over_the_whole_batch(backend):
    *_, rollout, advantages, returns, _ = learning_problem(backend)
    mask, advantages, returns = map(host, (rollout.mask, advantages, returns))
    assert abs(advantages[mask].mean()) < 1e-12
    assert advantages[mask].std() == pytest.approx(1, rel=1e-6)
    assert not advantages[~mask].any() and not returns[~mask].any()


# --- the first update of a rollout ---------------------------------------------------------------

@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-10)])
def test_before_any_update_the_ratio_is_1_on_every_token(dtype, tolerance, temperature, backend):
    """The sampler with its cache and the training pass agree, at the sampling temperature."""
    models, model = four_models(backend, dtype)
    rollout = rollout_of(models, model, temperature=temperature)
    again = response_logprobs(models.policy, model, rollout.sequences, rollout.sequence_mask,
                              rollout.mask.shape[1], temperature)
    ratio = np.exp(host(again - rollout.logprobs))[host(rollout.mask)]
    assert abs(ratio - 1).max() <= tolerance


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_policys_loss_starts_as_the_policy_gradient(temperature, backend):
    """At ratio 1 the clipped surrogate pulls back −A/n, as −Σ A·log π / n does."""
    models, model = four_models(backend, apart=0.1)
    rollout = rollout_of(models, model, temperature=temperature)
    config = replace(CONFIG, temperature=temperature)
    advantages, _ = advantages_and_returns(rollout, 0.2, config)
    n = int(rollout.mask.sum())

    def policy_gradient(params):
        logprobs = response_logprobs(params, model, rollout.sequences, rollout.sequence_mask,
                                     rollout.mask.shape[1], temperature)
        return -ops.sum(ops.where(rollout.mask, logprobs * advantages, 0)) / n

    loss, grads = value_and_grad(policy_loss)(models.policy, model, rollout, advantages, config, n)
    _, wanted = value_and_grad(policy_gradient)(models.policy)
    assert_close(grads.flat, wanted.flat, rtol=1e-8, atol=1e-11)
    assert np.linalg.norm(host(grads.flat)) > 0.01
    assert abs(float(loss)) < 1e-9                   # −mean of whitened advantages: 0, and teaches


def test_the_policys_loss_starts_at_minus_the_mean_advantage(backend):
    models, model, rollout, advantages, _, n = learning_problem(backend)
    shifted = advantages + 0.25                      # not whitened, so that the mean is not 0
    loss = policy_loss(models.policy, model, rollout, shifted, CONFIG, n)
    assert float(loss) == pytest.approx(-float(shifted[rollout.mask].mean()), rel=1e-9)


def test_the_values_loss_starts_at_half_the_squared_error(backend):
    models, model, rollout, _, returns, n = learning_problem(backend)
    loss = value_loss(models.value, model, rollout, returns, CONFIG, n)
    error = host(rollout.values - returns)[host(rollout.mask)]
    assert float(loss) == pytest.approx(0.5 * (error ** 2).mean(), rel=1e-9)


def test_the_losses_clip_by_their_own_settings(backend):
    """Both models have moved since the rollout: a range so wide that nothing is clipped, and a
    narrow one, give different losses, each only by its own ε."""
    models, model, rollout, advantages, returns, n = learning_problem(backend)
    for params in (models.policy, models.value):
        disturb(params, 0.1, seed=5)

    def losses(**settings):
        config = replace(CONFIG, **settings)
        return (float(policy_loss(models.policy, model, rollout, advantages, config, n)),
                float(value_loss(models.value, model, rollout, returns, config, n)))

    policy, value = losses(clip_ratio=1e3, clip_value=1e3)
    narrow_policy, same_value = losses(clip_ratio=0.01, clip_value=1e3)
    same_policy, narrow_value = losses(clip_ratio=1e3, clip_value=0.01)
    assert (same_policy, same_value) == (policy, value)
    assert narrow_policy > policy and narrow_value > value     # the pessimistic side


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_minibatch_in_parts_adds_up(cut, backend):
    """With the whole step's count the parts' losses and gradients sum to the step's."""
    models, model, rollout, advantages, returns, n = learning_problem(backend)
    for loss, params, target in ((policy_loss, models.policy, advantages),
                                 (value_loss, models.value, returns)):
        disturb(params, 0.05, seed=5)
        grad = value_and_grad(loss)
        whole, grads = grad(params, model, rollout, target, CONFIG, n)
        parts = [grad(params, model, rollout[rows], target[rows], CONFIG, n)
                 for rows in on(backend, np.arange(cut), np.arange(cut, len(rollout)))]
        assert_close(parts[0][0] + parts[1][0], whole, rtol=1e-12, atol=1e-12)
        assert_close(parts[0][1].flat + parts[1][1].flat, grads.flat, rtol=1e-10, atol=1e-12)


# --- a training step -----------------------------------------------------------------------------

def test_policy_and_value_move_and_reward_and_reference_do_not(backend):
    models, model = four_models(backend, "float32")
    before = Models(*map(copy, models))
    run(models, model)
    assert_same(models.reward.flat, before.reward.flat)
    assert_same(models.reference.flat, before.reference.flat)
    for new, old in ((models.policy, before.policy), (models.value, before.value)):
        for (name, leaf), (_, was) in zip(leaves(new), leaves(old), strict=True):
            assert (leaf != was).any(), f"{name} did not move"


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    results = []
    for seed in (0, 0, 1):
        models, model = four_models(backend, "float32")
        results.append((run(models, model, seed=seed), models.policy.flat, models.value.flat))
    assert results[0][0] == results[1][0] != results[2][0]
    for first, again, other in zip(results[0][1:], results[1][1:], results[2][1:], strict=True):
        assert_same(first, again)
        assert (first != other).any()


def test_the_first_round_is_a_run_of_one_and_a_second_one_draws_other_numbers(backend):
    results = []
    for more in ({}, {"round": 0}, {"round": 1}):
        models, model = four_models(backend, "float32")
        list(ppo.train(models, model, draw_prompts, CONFIG, seed=0, **more))
        results.append(models.policy.flat)
    assert_same(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_the_updates_of_a_step_see_the_whole_rollout_once_an_epoch(backend, monkeypatch):
    """Each minibatch counts its own tokens; advantages were whitened before the cut; the log-probs
    of the sampling policy stay the old ones."""
    seen = []

    def record(params, model, batch, advantages, config, count):
        seen.append((map_arrays(host, batch), host(advantages), count))
        return policy_loss(params, model, batch, advantages, config, count)

    monkeypatch.setattr(ppo, "policy_loss", record)
    models, model = four_models(backend, apart=0.1)
    rng = step_rng(3, Stage.PPO)                                          # what step 0 will draw
    wanted = map_arrays(host, collect(models, model, draw_prompts(8, rng), 5, rng=rng))
    run(models, model, replace(CONFIG, steps=1, minibatches=4, epochs=3), seed=3)
    assert len(seen) == 12
    for epoch in (seen[:4], seen[4:8], seen[8:]):
        for field in fields(Rollout):
            rows = np.concatenate([getattr(batch, field.name) for batch, _, _ in epoch])
            assert sorted(map(str, rows)) == sorted(map(str, getattr(wanted, field.name)))
        chosen = np.concatenate([advantages[batch.mask] for batch, advantages, _ in epoch])
        assert abs(chosen.mean()) < 1e-12 and chosen.std() == pytest.approx(1, rel=1e-6)
        assert [count for *_, count in epoch] == [batch.mask.sum() for batch, *_ in epoch]
    assert any(abs(a[b.mask].mean()) > 0.01 for b, a, _ in seen)          # not whitened by part


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_training_samples_at_the_temperature_at_which_it_takes_log_probs(
        temperature, backend, monkeypatch):
    """At a learning rate of next to nothing π stays π_old: the ratio is 1 on every token."""
    ratios = []

    def record(params, model, batch, advantages, config, count):
        again = response_logprobs(params, model, batch.sequences, batch.sequence_mask,
                                  batch.mask.shape[1], config.temperature)
        ratios.extend(np.exp(host(again.value - batch.logprobs))[host(batch.mask)])
        return policy_loss(params, model, batch, advantages, config, count)

    monkeypatch.setattr(ppo, "policy_loss", record)
    models, model = four_models(backend)
    rows = run(models, model, replace(CONFIG, temperature=temperature, lr_policy=1e-15,
                                      clip_ratio=1e-6))
    assert len(ratios) > 40 and abs(np.array(ratios) - 1).max() < 1e-9
    assert [row["clip_fraction"] for row in rows] == [0.0, 0.0]
    assert max(abs(row["kl"]) for row in rows) < 1e-9          # the reference's are taken at it too


def test_each_model_is_updated_with_its_own_learning_rate_and_the_limit_of_its_gradient(
        backend, monkeypatch):
    given = record_updates(monkeypatch, ppo)
    config = replace(CONFIG, lr_policy=1e-4, lr_value=3e-3, max_grad_norm=0.37)
    models, model = four_models(backend)
    run(models, model, config)
    first, second = (cosine_schedule(step, 2, 1.0) for step in range(2))        # 1, then lower
    assert first == 1 > second
    assert given == [(name, lr * pace, 0.37) for pace in (first, second) for _ in range(2 * 2)
                     for name, lr in (("policy_loss", 1e-4), ("value_loss", 3e-3))]


def test_the_first_update_of_each_model_moves_it_by_its_own_learning_rate(backend):
    """AdamW's first step is as large as the learning rate, whatever the gradient."""
    models, model = four_models(backend)
    before = Models(*map(copy, models))
    run(models, model, replace(CONFIG, steps=1, epochs=1, minibatches=1, lr_policy=1e-4,
                               lr_value=3e-3))
    for name, lr in (("policy", 1e-4), ("value", 3e-3)):
        moved = float(abs(getattr(models, name).flat - getattr(before, name).flat).max())
        assert moved == pytest.approx(lr, rel=1e-3), name


def test_the_gradients_of_both_models_are_scaled_down_to_the_limit(backend, monkeypatch):
    """What the optimizer remembers after one update is a tenth of a gradient of the limit's norm;
    what is logged is the norm before."""
    states = []
    monkeypatch.setattr(ppo, "adamw_state", lambda params: states.append(adamw_state(params))
                        or states[-1])
    models, model = four_models(backend, apart=0.1)
    (numbers,) = run(models, model, replace(CONFIG, steps=1, epochs=1, minibatches=1,
                                            max_grad_norm=1e-3))
    for state, name in zip(states, ("policy", "value"), strict=True):
        assert numbers[f"{name}_grad_norm"] > 0.01
        assert np.linalg.norm(host(state["m"].flat)) == pytest.approx(0.1 * 1e-3, rel=1e-3), name


def test_the_objective_is_the_score_minus_beta_times_kl(backend):
    models, model = four_models(backend, apart=0.1)
    (numbers,) = run(models, model, replace(CONFIG, steps=1, beta=0.5))
    assert numbers["beta"] == 0.5
    assert numbers["objective"] == pytest.approx(numbers["score"] - 0.5 * numbers["kl"])


def test_a_policy_equal_to_its_reference_starts_at_a_kl_of_zero(backend):
    models, model = four_models(backend)
    first, second = run(models, model)
    assert abs(first["kl"]) < 1e-9 < abs(second["kl"])


# --- the adaptive β ------------------------------------------------------------------------------

def test_without_a_target_beta_stays(backend):
    models, model = four_models(backend, apart=0.1)
    numbers = run(models, model, replace(CONFIG, steps=3))
    assert [row["beta"] for row in numbers] == [CONFIG.beta] * 3


@pytest.mark.parametrize("target, factor", [(1e-6, 1.1), (1e6, 0.9)])
def test_beta_rises_above_the_target_and_falls_below_it(target, factor, backend):
    """The error is clipped at ±0.2, and 8 replies of a horizon of 16 count half of it."""
    models, model = four_models(backend, apart=0.1)
    config = replace(CONFIG, steps=3, target_kl=target, kl_horizon=16)
    numbers = run(models, model, config)
    assert all(row["kl"] > 0.01 for row in numbers)
    assert [row["beta"] for row in numbers] == pytest.approx(
        [0.2 * factor ** i for i in range(3)], rel=1e-12)


def test_beta_follows_the_controller(backend):
    models, model = four_models(backend, apart=0.1)
    kl = run(Models(*map(copy, models)), model, replace(CONFIG, steps=1))[0]["kl"]
    config = replace(CONFIG, target_kl=0.9 * kl, kl_horizon=16)
    second = run(models, model, config)[1]
    assert second["beta"] == adaptive_beta(0.2, kl, 0.9 * kl, 16, 8) != 0.2


def test_rewards_are_made_with_the_beta_of_their_step(backend, monkeypatch):
    used = []

    def record(rollout, beta, config):
        used.append(beta)
        return advantages_and_returns(rollout, beta, config)

    monkeypatch.setattr(ppo, "advantages_and_returns", record)
    models, model = four_models(backend, apart=0.1)
    numbers = run(models, model, replace(CONFIG, steps=3, target_kl=1e-6, kl_horizon=16))
    assert used == [row["beta"] for row in numbers] and len(set(used)) == 3


# --- the numbers of a step -----------------------------------------------------------------------

def test_gradient_norms_are_those_before_clipping(backend, monkeypatch):
    """Whatever the limit, the first update's norm is that of the gradient itself."""
    norms = []
    for limit in (1e-6, 1e6):
        models, model = four_models(backend, apart=0.1)
        (row,) = run(models, model, replace(CONFIG, steps=1, epochs=1, minibatches=1,
                                            max_grad_norm=limit))
        norms.append((row["policy_grad_norm"], row["value_grad_norm"]))
    assert norms[0] == norms[1] and min(norms[0]) > 0.01


def test_the_clip_fraction_is_that_of_the_policy_after_the_updates(backend):
    """0 for a policy that cannot move, near 1 for one that must run."""
    fractions = []
    for lr in (1e-15, 0.5):
        models, model = four_models(backend)
        (row,) = run(models, model, replace(CONFIG, steps=1, lr_policy=lr))
        fractions.append(row["clip_fraction"])
    assert fractions[0] == 0.0 and fractions[1] > 0.5


@pytest.mark.parametrize("values, wanted", [([[1.0, 2.0]], 1.0), ([[7.0, 8.0]], 1.0),
                                            ([[3.0, 3.0]], 0.0), ([[2.0, 1.0]], -3.0)])
def test_explained_variance_by_hand(values, wanted, backend):
    """Returns 1, 2: foreseen, foreseen but for a constant, a constant said, the reverse said."""
    rollout = one_row(backend, values=np.array(values))
    found = explained_variance(rollout, *on(backend, np.array([[1.0, 2.0]])))
    assert float(found) == pytest.approx(wanted, abs=1e-6)
    counted = explained_variance(rollout, *on(backend, np.array([[1.0, 2.0]])), count=2)
    assert float(counted) == float(found)


def test_explained_variance_looks_at_no_masked_slot(backend, rng):
    mask = prefix_mask([3, 1, 2], 4)
    values, returns = rng.normal(size=(2, 3, 4))
    wanted = 1 - (returns - values)[mask].var() / returns[mask].var()
    values[~mask] = returns[~mask] = 1e3
    values[2, 3] = np.nan
    rollout = map_arrays(backend.asarray, Rollout(None, None, mask, None, None, values,
                                                  np.zeros(3)))
    found = explained_variance(rollout, *on(backend, returns))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


# --- a bandit ------------------------------------------------------------------------------------

def rewarded(backend, monkeypatch, beta):
    config = PPOConfig(steps=8, batch_size=64, max_new=1, minibatches=2, beta=beta, lr_policy=5e-3)
    return bandit(backend, monkeypatch, lambda models, model, draw: run(models, model, config,
                                                                        draw=draw))


def test_what_is_paid_for_becomes_likely(backend, monkeypatch):
    (before, after), _, scores = rewarded(backend, monkeypatch, beta=0.0)
    assert before < 0.3 and after > before + 0.3
    assert scores[-1] > scores[0]


def test_a_larger_beta_keeps_the_policy_nearer_to_its_reference(backend, monkeypatch):
    free, held, tight = (rewarded(backend, monkeypatch, beta)[1] for beta in (0.0, 0.5, 5.0))
    assert free > 1.5 * held and held > 1.5 * tight

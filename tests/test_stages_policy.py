"""Laws of what PPO and the group-relative methods share: the updates, their numbers, settings."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_close, host, prefix_mask
from models import on, row_logits
from rollouts import four_models, map_arrays, one_row, rollout_of

from minirlhf.arrays import NUMPY
from minirlhf.kl_penalty import adaptive_beta, penalized_rewards
from minirlhf.rollout import Rollout, collect
from minirlhf.stages import policy
from minirlhf.stages.policy import (
    PPOConfig,
    clip_fraction,
    minibatches,
    next_beta,
    reply_kl,
    rollout_numbers,
    update_numbers,
)
from minirlhf.tokens import BOT, USER

# --- minibatches ---------------------------------------------------------------------------------

def orders(backend, config, seed=0) -> list[list[int]]:
    """The rows of every minibatch, whose tokens are counted right."""
    lengths = np.arange(12)
    sequences, mask = np.zeros((12, 15)), prefix_mask(lengths, 12)
    rollout = Rollout(backend.asarray(sequences), None, backend.asarray(mask), *[None] * 4)
    parts = []
    for shards, tokens in minibatches(rollout, lengths, config, np.random.default_rng(seed), 2):
        shards = [(host(rows), longest) for rows, longest in shards]
        assert len(shards) == 2
        assert all(longest == lengths[rows].max() for rows, longest in shards)
        parts.append((np.concatenate([rows for rows, _ in shards]), tokens))
    assert [tokens for _, tokens in parts] == [lengths[rows].sum() for rows, _ in parts]
    assert all(type(tokens) is int for _, tokens in parts)
    return [rows.tolist() for rows, _ in parts]


def test_minibatches_partition_the_batch_in_every_epoch(backend):
    parts = orders(backend, PPOConfig(batch_size=12, minibatches=3, epochs=4))
    assert [len(rows) for rows in parts] == [4] * 12
    epochs = [np.concatenate(parts[i:i + 3]) for i in range(0, 12, 3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("seed", range(3))
def test_an_order_of_the_rows_is_drawn_from_the_generator(seed, backend):
    config = PPOConfig(batch_size=12, minibatches=3, epochs=2)
    first, again, other = (orders(backend, config, s) for s in (seed, seed, seed + 1))
    assert first == again != other


# --- the KL of a reply ---------------------------------------------------------------------------

def kl_rollout(rng):
    mask = prefix_mask([3, 1, 2], 4)
    logprobs, reference = rng.normal(size=(2, 3, 4))
    logprobs[~mask] = np.nan
    reference[~mask] = 1e3
    return Rollout(None, None, mask, logprobs, reference, None, np.array([1.0, -2.0, 4.0]))


def law_two_tokens(kl, backend):
    """log π − log π_ref = 0.5 and −1."""
    assert_close(kl(one_row(backend)), np.array([-0.5]))


def law_only_the_replys_own_tokens_count(kl, backend):
    rollout = kl_rollout(np.random.default_rng(0))
    wanted = [sum(rollout.logprobs[b, t] - rollout.ref_logprobs[b, t]
                  for t in range(4) if rollout.mask[b, t]) for b in range(3)]
    assert_close(kl(map_arrays(backend.asarray, rollout)), np.array(wanted))


def law_the_penalised_rewards_of_a_reply_sum_to_its_objective(kl, backend):
    """Σ_t r_t = score − β·kl: the penalty token by token is the article's, at whichever place."""
    rollout = map_arrays(backend.asarray, kl_rollout(np.random.default_rng(1)))
    rewards = penalized_rewards(rollout.scores, rollout.logprobs, rollout.ref_logprobs,
                                rollout.mask, 0.3)
    assert_close(rollout.scores - 0.3 * kl(rollout), rewards.sum(axis=1))


KL_LAWS = [law_two_tokens, law_only_the_replys_own_tokens_count,
           law_the_penalised_rewards_of_a_reply_sum_to_its_objective]


@pytest.mark.parametrize("law", KL_LAWS, ids=lambda law: law.__name__)
def test_the_kl_of_a_reply_keeps_the_law(law, backend):
    law(reply_kl, backend)


def k1(rollout):
    return np.where(rollout.mask, rollout.logprobs - rollout.ref_logprobs, 0)


KL_MUTANTS = {
    "the other direction": lambda rollout: -k1(rollout).sum(axis=1),
    "a mean over tokens": lambda rollout: k1(rollout).sum(axis=1) / rollout.mask.sum(axis=1),
    "masked slots too": lambda rollout: (rollout.logprobs - rollout.ref_logprobs).sum(axis=1),
    "never negative": lambda rollout: np.maximum(k1(rollout), 0).sum(axis=1),
    "k3": lambda rollout: (np.exp(-k1(rollout)) - 1 + k1(rollout)).sum(axis=1),
    "a sum over replies": lambda rollout: k1(rollout).sum(axis=0)[:1],
}


@pytest.mark.parametrize("name", KL_MUTANTS)
def test_the_laws_catch_the_mutant(name):
    with pytest.raises(AssertionError):
        for law in KL_LAWS:
            law(KL_MUTANTS[name], NUMPY)


# --- the numbers of a step -----------------------------------------------------------------------

def on_host(numbers):
    return {name: float(number) for name, number in numbers.items()}


def test_a_steps_numbers_by_naive_formulas(backend, rng):
    mask = prefix_mask([3, 1, 2], 4)
    logprobs, reference = rng.normal(size=(2, 3, 4))
    for junk in (logprobs, reference):
        junk[~mask] = 1e3
    scores = np.array([1.0, -2.0, 4.0])
    rollout = map_arrays(backend.asarray, Rollout(None, None, mask, logprobs, reference, None,
                                                  scores))
    kl = np.mean([(logprobs - reference)[b][mask[b]].sum() for b in range(3)])
    numbers = rollout_numbers(rollout, 0.25)
    assert on_host(numbers) == pytest.approx({
        "score": 1.0, "kl": kl, "objective": 1.0 - 0.25 * kl, "beta": 0.25, "length": 2.0,
        "entropy": -logprobs[mask].mean()}, rel=1e-6)
    assert on_host(rollout_numbers(rollout, 0.25, count=6)) == on_host(numbers)   # counted before


UPDATES = [(1.0, 5.0, 10.0, np.float32(2.0)), (2.0, 7.0, 30.0, 4.0)]


def test_losses_and_gradient_norms_are_means_over_the_updates_of_a_step(backend):
    numbers = update_numbers([on(backend, *row) for row in UPDATES], ("policy", "value"))
    assert on_host(numbers) == {"policy_loss": 1.5, "policy_grad_norm": 6.0, "value_loss": 20.0,
                                "value_grad_norm": 3.0}


def test_a_method_of_one_trained_model_has_the_numbers_of_one(backend):
    updates = [on(backend, *row) for row in UPDATES]
    assert on_host(update_numbers([row[:2] for row in updates], ("policy",))) == {
        "policy_loss": 1.5, "policy_grad_norm": 6.0}
    with pytest.raises(ValueError):
        update_numbers(updates, ("policy",))           # a number without a name


def test_the_entropy_estimates_that_of_the_policy(backend):
    """The mean −log π of many tokens sampled from one distribution is near its entropy, and at a
    low temperature it is lower."""
    models, model = four_models(backend)
    z = row_logits(models.policy, model, backend, [USER, BOT])[-1]
    found = []
    for temperature in (1.0, 0.5):
        rollout = collect(models, model, [[USER, BOT]] * 2000, 1, temperature=temperature,
                          rng=np.random.default_rng(0))
        p = np.exp(z / temperature) / np.exp(z / temperature).sum()
        found.append(float(rollout_numbers(rollout, 0.2)["entropy"]))
        assert found[-1] == pytest.approx(-(p * np.log(p)).sum(), abs=0.05)
    assert found[1] < found[0] - 0.05


def test_the_clip_fraction_by_hand(backend, monkeypatch):
    """Ratios 1.19, 1.21, 0.79 | 0.81, at ε = 0.2: two of four tokens are outside, and what a
    masked slot holds is not looked at."""
    mask = prefix_mask([3, 1], 3)
    old = np.full((2, 3), -1.0)
    new = old + np.log([[1.19, 1.21, 0.79], [0.81, 9.0, 9.0]])
    new[~mask] = np.nan
    given = {}

    def look(policy, model, sequences, sequence_mask, response_length, temperature):
        given.update(length=response_length, temperature=temperature)
        return backend.asarray(new)

    monkeypatch.setattr(policy, "measured_logprobs", look)
    rollout = map_arrays(backend.asarray, Rollout(None, None, mask, old, old, old, np.zeros(2)))
    config = PPOConfig(clip_ratio=0.2, temperature=0.7)
    assert float(clip_fraction({}, None, rollout, config)) == 0.5
    assert given == {"length": 3, "temperature": 0.7}
    assert float(clip_fraction({}, None, rollout, replace(config, clip_ratio=0.5))) == 0.0


# --- the adaptive β ------------------------------------------------------------------------------

def test_without_a_target_beta_stays_whatever_the_kl():
    assert [next_beta(0.2, kl, 9, PPOConfig()) for kl in (0.0, 5.0, 1e6)] == [0.2] * 3


@pytest.mark.parametrize("kl", [0.0, 1.9, 2.1, 9.0])
def test_with_a_target_the_controller_counts_the_replies_of_the_rollout(kl):
    config = PPOConfig(batch_size=32, target_kl=2.0, kl_horizon=100)
    assert next_beta(0.3, kl, 9, config) == adaptive_beta(0.3, kl, 2.0, 100, 32) != 0.3


@pytest.mark.parametrize("target", [None, 2.0])
def test_a_penalty_that_is_switched_off_counts_for_so_many_steps_and_no_more(target):
    config = PPOConfig(penalty_steps=3, target_kl=target)
    betas = [next_beta(0.2, 5.0, done, config) for done in (1, 2, 3, 4)]
    assert min(betas[:2]) > 0 and betas[2:] == [0.0, 0.0]


# --- settings ------------------------------------------------------------------------------------

POSITIVE = ["steps", "batch_size", "max_new", "temperature", "epochs", "minibatches", "lr_policy",
            "lr_value", "clip_ratio", "clip_value", "kl_horizon", "max_grad_norm"]


@pytest.mark.parametrize("setting", POSITIVE)
@pytest.mark.parametrize("number", [0, -1])
def test_settings_that_are_not_positive_are_refused_by_name(setting, number):
    with pytest.raises(ValueError, match=f"PPOConfig.{setting} must be positive"):
        PPOConfig(**{setting: number})


@pytest.mark.parametrize("settings, message", [
    ({"batch_size": 10, "minibatches": 4}, r"batch_size \(10\).*minibatches \(4\)"),
    ({"beta": -0.1}, "beta must be 0 or more, got -0.1"),
    ({"beta": float("nan")}, "beta must be 0 or more, got nan"),
    ({"beta": 0.0, "target_kl": 2.0}, "target_kl wants a beta above 0"),
    ({"gamma": float("nan")}, "gamma and lam"), ({"lam": float("nan")}, "gamma and lam"),
    ({"target_kl": float("nan")}, "target_kl must be positive"),
    ({"gamma": 1.1}, "gamma and lam"), ({"gamma": -0.1}, "gamma and lam"),
    ({"lam": 1.1}, "gamma and lam"), ({"lam": -0.1}, "gamma and lam"),
    ({"target_kl": 0.0}, "target_kl must be positive"),
    ({"penalty_steps": 0}, "penalty_steps must be at least 1, got 0"),
    ({"start": "policy"}, "start must be sft or base, got 'policy'"),
    ({"target_kl": -1.0}, "target_kl must be positive")])
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


def test_the_limits_themselves_are_allowed():
    PPOConfig(beta=0.0, gamma=0.0, lam=0.0)
    PPOConfig(gamma=1.0, lam=1.0, target_kl=1e-9)


@pytest.mark.parametrize("setting", ["top_k", "top_p"])
def test_the_sampled_distribution_cannot_be_cut(setting, backend):
    """The ratio would be off by the probability mass that was cut away."""
    with pytest.raises(TypeError, match=setting):
        PPOConfig(**{setting: 1})
    models, model = four_models(backend)
    with pytest.raises(TypeError, match=setting):
        rollout_of(models, model, **{setting: 1})

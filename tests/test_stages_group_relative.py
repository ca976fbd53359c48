"""Laws of stage 3 without a value model: GRPO and RLOO."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers import assert_close, assert_same, host, prefix_mask, record_updates
from hypothesis import given
from hypothesis import strategies as st
from models import disturb, on, row_logits
from rollouts import PROMPTS, bandit, draw_prompts, four_models, map_arrays, rollout_of

from minirlhf import ops
from minirlhf.arrays import NUMPY, array_module
from minirlhf.autograd import value_and_grad
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages
from minirlhf.kl_penalty import kl_estimate, penalized_rewards
from minirlhf.optimizer import cosine_schedule
from minirlhf.parameters import copy, leaves
from minirlhf.rollout import Rollout, collect, response_logprobs
from minirlhf.stages import group_relative
from minirlhf.stages.group_relative import (
    GroupConfig,
    advantages_within_groups,
    group_spread,
    initial_state,
    policy_loss_with_kl,
)
from minirlhf.stages.policy import PPOConfig, policy_loss
from minirlhf.stages.training import Stage, step_rng
from minirlhf.tokens import BOT, USER

CONFIG = PPOConfig(steps=2, batch_size=8, max_new=5, epochs=2, minibatches=2)
GROUP = GroupConfig(size=4)
BOTH = ["grpo", "rloo"]
WAYS = [(algorithm, GroupConfig(size=4, normalize=normalize, kl=kl))
        for algorithm, normalize in (("grpo", True), ("grpo", False), ("rloo", True))
        for kl in ("reward", "loss")]


def three_models(backend, dtype="float64", apart=0.0):
    models, model = four_models(backend, dtype, apart)
    return models._replace(value=None), model


def training(models, model, config=CONFIG, group=GROUP, algorithm="grpo", seed=0,
             draw=draw_prompts, **more):
    return group_relative.train(models, model, draw, config, group, algorithm=algorithm, seed=seed,
                                **more)


def run(*args, **settings):
    return [{key: float(x) for key, x in row.items()} for row in training(*args, **settings)]


# --- advantages: laws that any implementation has to keep; the mutants below break one each ------

def by_hand(backend, scores=(1.0, 2.0, 3.0, 6.0), kl=(0.0, 1.0, 1.0, 2.0)):
    """One group of four, of 1, 2, 3 and 2 tokens.  Each reply's KL is on its first token, but for
    1 and −1 on the other tokens of the third, and junk where masked."""
    mask = prefix_mask([1, 2, 3, 2], 3)
    ref = np.full((4, 3), -1.0)
    logprobs = ref.copy()
    logprobs[:, 0] += kl
    logprobs[2, 1:] += [1.0, -1.0]
    logprobs[~mask], ref[~mask] = 0.0, 1e3
    return map_arrays(backend.asarray, Rollout(None, None, mask, logprobs, ref, None,
                                               np.array(scores)))


def spread_over_tokens(rollout, numbers):
    return np.where(host(rollout.mask), np.array(numbers)[:, None], 0)


def law_three_methods_by_hand(advantages, backend):
    """β = ½: objectives 1, 1.5, 2.5 and 5, their mean 2.5, their variance 9.5/3."""
    rollout, above = by_hand(backend), np.array([-1.5, -1.0, 0.0, 2.5])
    for algorithm, normalize, wanted in (
            ("grpo", True, above / (np.sqrt(9.5 / 3) + 1e-4)), ("grpo", False, above),
            ("rloo", True, above * 4 / 3), ("rloo", False, above * 4 / 3)):
        got = advantages(rollout, 0.5, algorithm, GroupConfig(size=4, normalize=normalize))
        assert_close(got, spread_over_tokens(rollout, wanted))


def law_with_the_kl_in_the_loss_the_bare_score_counts(advantages, backend):
    """1, 2, 3 and 6: mean 3, variance 14/3, whatever β."""
    rollout, above = by_hand(backend), np.array([-2.0, -1.0, 0.0, 3.0])
    for beta in (0.0, 0.5, 9.0):
        for algorithm, normalize, wanted in (
                ("grpo", True, above / (np.sqrt(14 / 3) + 1e-4)), ("grpo", False, above),
                ("rloo", True, above * 4 / 3)):
            group = GroupConfig(size=4, normalize=normalize, kl="loss")
            assert_close(advantages(rollout, beta, algorithm, group),
                         spread_over_tokens(rollout, wanted))


def law_a_reply_is_compared_within_its_own_group(advantages, backend):
    """Two groups of two, 1, 3 | 10, 6: above the other 2 and 4."""
    rollout = by_hand(backend, scores=(1.0, 3.0, 10.0, 6.0))
    got = advantages(rollout, 0.0, "rloo", GroupConfig(size=2))
    assert_close(got, spread_over_tokens(rollout, [-2.0, 2.0, 4.0, -4.0]))


def law_the_objective_of_a_reply_is_the_sum_of_its_penalised_rewards(advantages, backend):
    """PPO's rewards, token by token, and this one number a reply are the article's objective."""
    models, model = three_models(backend, apart=0.1)
    rollout = rollout_of(models, model)
    rewards = penalized_rewards(rollout.scores, rollout.logprobs, rollout.ref_logprobs,
                                rollout.mask, 0.7)
    assert_close(advantages(rollout, 0.7, "rloo", GroupConfig(size=4))[:, 0],
                 leave_one_out_advantages(rewards.sum(axis=1), 4), rtol=1e-8)
    assert_close(advantages(rollout, 0.7, "grpo", GroupConfig(size=4))[:, 0],
                 group_advantages(rewards.sum(axis=1), 4), rtol=1e-8)


LAWS = [law_three_methods_by_hand, law_with_the_kl_in_the_loss_the_bare_score_counts,
        law_a_reply_is_compared_within_its_own_group,
        law_the_objective_of_a_reply_is_the_sum_of_its_penalised_rewards]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_advantages_keep_the_law(law, backend):
    law(advantages_within_groups, backend)


def advantages_with(kl=lambda k1, mask: k1.sum(axis=1), beta=lambda b: b, mask=True,
                    place=lambda group: group.kl, rows=lambda x, size: x,
                    rloo=leave_one_out_advantages, grpo=group_advantages):
    """The skeleton of a mutant."""
    def mutant(rollout, b, algorithm, group):
        objective = rollout.scores
        if place(group) == "reward":
            k1 = np.where(rollout.mask, rollout.logprobs - rollout.ref_logprobs, 0)
            objective = objective - beta(b) * kl(k1, rollout.mask)
        objective = rows(objective, group.size)
        a = (rloo(objective, group.size) if algorithm == "rloo" else
             grpo(objective, group.size, group.normalize))
        return np.where(rollout.mask if mask else True, a[:, None], 0) + 0 * rollout.logprobs
    return mutant


def interleaved(scores, size):
    """Siblings as they would stand if the prompts were repeated as a list: 0 1 0 1."""
    return scores.reshape(size, -1).T.reshape(-1)


MUTANTS = {
    "a mean KL over tokens": advantages_with(kl=lambda k1, mask: k1.sum(axis=1) / mask.sum(axis=1)),
    "the first token's KL": advantages_with(kl=lambda k1, mask: k1[:, 0] - 0.1 * k1[:, 1]),
    "never a negative KL": advantages_with(kl=lambda k1, mask: np.maximum(k1, 0).sum(axis=1)),
    "the KL rewarded": advantages_with(beta=lambda b: -b),
    "beta twice": advantages_with(beta=lambda b: 2 * b),
    "no KL": advantages_with(beta=lambda b: 0.0),
    "the KL at both places": advantages_with(place=lambda group: "reward"),
    "the KL always in the loss": advantages_with(place=lambda group: "loss"),
    "masked slots advanced": advantages_with(mask=False),
    "groups interleaved": advantages_with(rows=interleaved),
    "the methods swapped": advantages_with(
        rloo=lambda s, g: group_advantages(s, g), grpo=lambda s, g, normalize:
        leave_one_out_advantages(s, g)),
    "normalize ignored": advantages_with(grpo=lambda s, g, normalize: group_advantages(s, g)),
    "always Dr. GRPO": advantages_with(grpo=lambda s, g, normalize: group_advantages(s, g, False)),
    "the whole batch as one group": advantages_with(
        rloo=lambda s, g: leave_one_out_advantages(s, len(s)),
        grpo=lambda s, g, normalize: group_advantages(s, len(s), normalize)),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    for law in LAWS:
        law(advantages_with(), NUMPY)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name):
    with pytest.raises(AssertionError):
        for law in LAWS:
            law(MUTANTS[name], NUMPY)


@cache
def one_of_a_few_rollouts(backend, seed):
    """Made once: the test below asks for each of them many times."""
    models, model = three_models(backend, apart=0.1)
    return rollout_of(models, model, seed)


@pytest.mark.parametrize("algorithm, group", WAYS)
@given(shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)), seed=st.integers(0, 20))
def test_what_is_added_to_all_scores_of_a_group_changes_nothing(
        algorithm, group, shift, seed, backend):
    rollout = one_of_a_few_rollouts(backend, seed)
    shifted = replace(rollout, scores=rollout.scores + backend.asarray(np.repeat(shift, 4)))
    assert_close(advantages_within_groups(shifted, 0.2, algorithm, group),
                 advantages_within_groups(rollout, 0.2, algorithm, group), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("algorithm, group", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_advantages_are_one_number_a_reply_sum_to_zero_in_a_group_and_keep_their_type(
        algorithm, group, dtype, backend):
    models, model = three_models(backend, dtype, apart=0.1)
    rollout = rollout_of(models, model)
    assert len(set(rollout.mask.sum(axis=1).tolist())) > 1                  # some slots are masked
    advantages = advantages_within_groups(rollout, 0.2, algorithm, group)
    assert advantages.dtype == dtype and advantages.shape == rollout.mask.shape
    advantages, masks = host(advantages), host(rollout.mask)
    assert not advantages[~masks].any()
    for row, mask in zip(advantages, masks, strict=True):
        assert len(set(row[mask].tolist())) == 1 and row[0] != 0
    assert abs(advantages[:, 0].reshape(-1, 4).sum(axis=1)).max() < (1e-5 if dtype == "float32"
                                                                   else 1e-12)


def test_replies_that_are_worth_the_same_teach_nothing(backend):
    rollout = by_hand(backend, scores=(1.0, 2.0, 2.0, 3.0), kl=(0.0, 1.0, 1.0, 2.0))
    for algorithm in BOTH:
        assert not advantages_within_groups(rollout, 1.0, algorithm, GROUP).any()


# --- the loss as GRPO was published --------------------------------------------------------------

def moved_problem(backend, **settings):
    """params after a few steps away from the rollout's, model, rollout, advantages, tokens."""
    models, model = three_models(backend, apart=0.1)
    rollout = rollout_of(models, model, **settings)
    advantages = advantages_within_groups(rollout, 0.0, "grpo", GROUP)
    params = copy(models.policy)
    disturb(params, 0.05, seed=5)
    return params, model, rollout, advantages, int(rollout.mask.sum())


def k_of(params, model, rollout, temperature):
    """log π − log π_ref of each token, at `params`, on the host."""
    again = response_logprobs(params, model, rollout.sequences, rollout.sequence_mask,
                              rollout.mask.shape[1], temperature)
    return np.where(host(rollout.mask), host(again - rollout.ref_logprobs), 0)


def law_the_loss_is_the_surrogate_and_beta_times_the_mean_k3(loss, backend, temperature=0.7):
    params, model, rollout, advantages, n = moved_problem(backend, temperature=temperature)
    config = replace(CONFIG, temperature=temperature, clip_ratio=0.05)
    k = k_of(params, model, rollout, temperature)[host(rollout.mask)]
    k3 = (np.exp(-k) - 1 + k).mean()
    surrogate = float(policy_loss(params, model, rollout, advantages, config, n))
    assert k3 > 0.01 and len(k) == n
    for beta in (0.0, 0.3, 2.0):
        got = float(loss(params, model, rollout, advantages, config, n, beta))
        assert got == pytest.approx(surrogate + beta * k3, rel=1e-10)


def law_its_gradient_is_that_of_the_surrogate_and_beta_times_one_minus_the_inverse_ratio(
        loss, backend):
    """∂k3/∂log π = 1 − π_ref/π, a token."""
    params, model, rollout, advantages, n = moved_problem(backend)
    weights = backend.asarray(0.3 * (1 - np.exp(-k_of(params, model, rollout, 1.0))) / n)

    def pull(params):
        logprobs = response_logprobs(params, model, rollout.sequences, rollout.sequence_mask,
                                     rollout.mask.shape[1])
        return ops.sum(logprobs * weights)

    _, surrogate = value_and_grad(policy_loss)(params, model, rollout, advantages, CONFIG, n)
    _, penalty = value_and_grad(pull)(params)
    _, grads = value_and_grad(loss)(params, model, rollout, advantages, CONFIG, n, 0.3)
    assert np.linalg.norm(host(penalty.flat)) > 0.01
    assert_close(grads.flat, surrogate.flat + penalty.flat, rtol=1e-8, atol=1e-12)


def law_a_minibatch_in_parts_adds_up(loss, backend):
    params, model, rollout, advantages, n = moved_problem(backend)
    grad = value_and_grad(loss)
    whole, grads = grad(params, model, rollout, advantages, CONFIG, n, 0.3)
    parts = [grad(params, model, rollout[rows], advantages[rows], CONFIG, n, 0.3)
             for rows in on(backend, np.arange(3), np.arange(3, 8))]
    assert_close(parts[0][0] + parts[1][0], whole, rtol=1e-12, atol=1e-12)
    assert_close(parts[0][1].flat + parts[1][1].flat, grads.flat, rtol=1e-10, atol=1e-12)


def law_masked_slots_may_hold_anything(loss, backend):
    """With a reference log-prob of 10⁵ there, e^−k would be infinite (and NumPy would warn)."""
    params, model, rollout, advantages, n = moved_problem(backend)
    found = []
    for junk in (0.0, 1e5, np.nan):
        given = replace(rollout, ref_logprobs=backend.xp.where(rollout.mask, rollout.ref_logprobs,
                                                               junk))
        found.append(value_and_grad(loss)(params, model, given, advantages, CONFIG, n, 0.3))
    assert not rollout.mask.all()
    for value, grads in found:
        assert_same(value, found[0][0])
        assert_same(grads.flat, found[0][1].flat)


LOSS_LAWS = [law_the_loss_is_the_surrogate_and_beta_times_the_mean_k3,
             law_its_gradient_is_that_of_the_surrogate_and_beta_times_one_minus_the_inverse_ratio,
             law_a_minibatch_in_parts_adds_up, law_masked_slots_may_hold_anything]


@pytest.mark.parametrize("law", LOSS_LAWS, ids=lambda law: law.__name__)
def test_the_loss_with_kl_keeps_the_law(law, backend):
    law(policy_loss_with_kl, backend)


def loss_with(estimator="k3", sign=1, swapped=False, count=lambda n, mask: n,
              read=lambda mask: mask, zeros=True, temperature=None, surrogate=policy_loss):
    """The skeleton of a mutant."""
    def mutant(params, model, batch, advantages, config, n, beta):
        logprobs = response_logprobs(params, model, batch.sequences, batch.sequence_mask,
                                     batch.mask.shape[1], temperature or config.temperature)
        ref = np.where(batch.mask, batch.ref_logprobs, 0)
        k = sign * (ops.where(batch.mask, logprobs, 0 if zeros else ref - 1.0) - ref)
        kl = kl_estimate(k, np.zeros(batch.mask.shape), estimator)
        return (surrogate(params, model, batch, advantages, config, n)
                + beta * ops.masked_mean(kl, read(batch.mask), count(n, batch.mask)))
    return mutant


LOSS_MUTANTS = {
    "k1": loss_with("k1"), "k2": loss_with("k2"), "the other direction": loss_with(sign=-1),
    "a sum over tokens": loss_with(count=lambda n, mask: 1),
    "a mean over its own tokens": loss_with(count=lambda n, mask: None),
    "padding counted too": loss_with(count=lambda n, mask: mask.size),
    "masked slots read": loss_with(read=np.ones_like, zeros=False),
    "at another temperature": loss_with(temperature=1.0),
    "no surrogate": loss_with(surrogate=lambda *args: 0.0),
}


def test_the_losss_skeleton_without_a_mutation_keeps_the_laws():
    for law in LOSS_LAWS:
        law(loss_with(), NUMPY)


@pytest.mark.parametrize("name", LOSS_MUTANTS)
def test_the_laws_of_the_loss_catch_the_mutant(name):
    with pytest.raises(AssertionError):
        for law in LOSS_LAWS:
            law(LOSS_MUTANTS[name], NUMPY)


def test_a_numpy_beta_keeps_float32(backend):
    models, model = three_models(backend, "float32", apart=0.1)
    rollout = rollout_of(models, model)
    advantages = advantages_within_groups(rollout, 0.2, "grpo", GROUP)
    given = (models.policy, model, rollout, advantages, CONFIG, int(rollout.mask.sum()))
    loss, grads = value_and_grad(policy_loss_with_kl)(*given, np.float64(0.3))
    assert loss.dtype == grads.flat.dtype == "float32"


# --- the first update: the whole step, longhand --------------------------------------------------

ONE = replace(CONFIG, steps=1, epochs=1, minibatches=1, max_grad_norm=1e6, beta=0.6)


def longhand_gradient(models, model, algorithm, group, config):
    """∇ of −Σ A·log π / n (and, if it is in the loss, of β·Σ k3 / n), from the step's own numbers:
    prompts drawn, each answered `size` times in a row, advantages by loops."""
    rng = step_rng(0, Stage.GROUP_RELATIVE, 0)
    prompts = [prompt for prompt in draw_prompts(config.batch_size // group.size, rng)
               for _ in range(group.size)]
    given = collect(models, model, prompts, config.max_new, rng=rng,
                    temperature=config.temperature)
    rollout = map_arrays(host, given)
    mask, n = rollout.mask, rollout.mask.sum()
    worth = rollout.scores.copy()
    if group.kl == "reward":
        for i in range(len(worth)):
            k1 = rollout.logprobs[i] - rollout.ref_logprobs[i]
            worth[i] -= config.beta * k1[mask[i]].sum()
    advantages = np.zeros(mask.shape)
    for i in range(len(worth)):
        first = i // group.size * group.size
        siblings = worth[first:first + group.size]
        if algorithm == "rloo":
            a = worth[i] - (siblings.sum() - worth[i]) / (group.size - 1)
        else:
            a = worth[i] - siblings.mean()
            a /= siblings.std(ddof=1) + 1e-4 if group.normalize else 1
        advantages[i] = a
    advantages = array_module(given.mask).asarray(advantages)

    def loss(params):
        logprobs = response_logprobs(params, model, given.sequences, given.sequence_mask,
                                     mask.shape[1], config.temperature)
        total = -ops.sum(ops.where(given.mask, logprobs * advantages, 0))
        if group.kl == "loss":
            k = logprobs - given.ref_logprobs
            total = total + config.beta * ops.sum(ops.where(given.mask, ops.exp(-k) - 1 + k, 0))
        return total / float(n)

    return host(value_and_grad(loss)(models.policy)[1].flat)


def law_the_first_update_is_the_policy_gradient(algorithm, group, backend, temperature=0.8):
    """What the optimizer remembers of its first gradient g is 0.1·g."""
    models, model = three_models(backend, apart=0.1)
    config = replace(ONE, temperature=temperature)
    wanted = longhand_gradient(models, model, algorithm, group, config)
    state = initial_state(models, config)
    (numbers,) = run(models, model, config, group, algorithm, state=state)
    assert np.linalg.norm(wanted) > 0.01
    assert_close(state["policy"]["m"].flat, 0.1 * wanted, rtol=1e-7, atol=1e-11)
    assert numbers["policy_grad_norm"] == pytest.approx(np.linalg.norm(wanted), rel=1e-8)


@pytest.mark.parametrize("algorithm, group", WAYS)
def test_the_first_update_is_the_policy_gradient(algorithm, group, backend):
    law_the_first_update_is_the_policy_gradient(algorithm, group, backend)


def tiled(models, model, prompts, max_new, **settings):
    """Prompts repeated as a list, p q p q, where groups want p p q q."""
    return collect(models, model, prompts[::GROUP.size] * GROUP.size, max_new, **settings)


STEP_MUTANTS = {
    "prompts tiled": {"collect": tiled},
    "sampled at another temperature": {"collect": lambda *args, temperature, **more: collect(
        *args, temperature=1.0, **more)},
    "advantages of the next reply": {"advantages_within_groups": lambda *args: np.roll(
        advantages_within_groups(*args), 1, axis=0)},
    "advantages negated": {"advantages_within_groups": lambda *args: -advantages_within_groups(
        *args)},
    "advantages whitened over the batch": {"advantages_within_groups": lambda *args: (
        lambda a: a / a.std())(advantages_within_groups(*args))},
    "beta forgotten": {"advantages_within_groups": lambda rollout, beta, *more:
                       advantages_within_groups(rollout, 0.0, *more)},
    "PPO's random numbers": {"step_rng": lambda seed, stage, *more: step_rng(
        seed, Stage.PPO, *more)},
    "a mean over each reply first": {"policy_loss": lambda params, model, batch, advantages, *more:
                                     policy_loss(params, model, batch, advantages / batch.mask.sum(
                                         axis=1, keepdims=True), *more)},
}


@pytest.mark.parametrize("name", STEP_MUTANTS)
def test_the_law_of_the_first_update_catches_the_mutant(name, monkeypatch):
    for place, mutant in STEP_MUTANTS[name].items():
        monkeypatch.setattr(group_relative, place, mutant)
    with pytest.raises(AssertionError):
        law_the_first_update_is_the_policy_gradient("rloo", GROUP, NUMPY)


def law_a_group_answers_one_prompt(backend, monkeypatch):
    seen = []

    def record(rollout, *more):
        seen.append(map_arrays(host, rollout))
        return advantages_within_groups(rollout, *more)

    monkeypatch.setattr(group_relative, "advantages_within_groups", record)
    models, model = three_models(backend)
    group, asked = GroupConfig(size=2), []

    def draw(n, rng):
        asked.append(PROMPTS[:n])                                    # four different prompts
        return asked[-1]

    run(models, model, group=group, draw=draw)
    assert [len(prompts) for prompts in asked] == [4, 4]
    for rollout, prompts in zip(seen, asked, strict=True):
        width = rollout.sequences.shape[1] - rollout.mask.shape[1]
        rows = [row[m].tolist() for row, m in zip(
            rollout.sequences[:, :width], rollout.sequence_mask[:, :width], strict=True)]
        assert rows == [prompt for prompt in prompts for _ in range(2)]


def test_a_group_answers_one_prompt(backend, monkeypatch):
    law_a_group_answers_one_prompt(backend, monkeypatch)


def test_that_a_group_answers_one_prompt_would_be_seen(monkeypatch):
    monkeypatch.setattr(group_relative, "collect", lambda models, model, prompts, *more, **named:
                        collect(models, model, prompts[::2] * 2, *more, **named))
    with pytest.raises(AssertionError):
        law_a_group_answers_one_prompt(NUMPY, monkeypatch)


# --- a training step -----------------------------------------------------------------------------

@pytest.mark.parametrize("algorithm, group", WAYS)
def test_the_policy_moves_and_reward_and_reference_do_not(algorithm, group, backend):
    models, model = three_models(backend, "float32")
    reward, reference, before = map(copy, (models.reward, models.reference, models.policy))
    run(models, model, group=group, algorithm=algorithm)
    assert_same(models.reward.flat, reward.flat)
    assert_same(models.reference.flat, reference.flat)
    assert models.policy.flat.dtype == "float32"
    for (name, leaf), (_, was) in zip(leaves(models.policy), leaves(before), strict=True):
        assert (leaf != was).any(), f"{name} did not move"


@pytest.mark.parametrize("algorithm", BOTH)
def test_a_value_model_is_not_needed_and_one_that_is_given_is_not_read(algorithm, backend):
    results = []
    for value in (None, {}, {"wte": "not read"}):
        models, model = three_models(backend)
        rows = run(models._replace(value=value), model, algorithm=algorithm)
        results.append((rows, models.policy.flat))
    for rows, flat in results:
        assert rows == results[0][0]
        assert_same(flat, results[0][1])


def test_a_step_has_the_numbers_of_the_policy_and_of_the_groups(backend):
    models, model = three_models(backend)
    for row in run(models, model):
        assert set(row) == {"score", "kl", "objective", "beta", "length", "entropy", "policy_loss",
                            "policy_grad_norm", "group_spread", "clip_fraction"}


def test_the_methods_differ_and_each_depends_on_where_the_kl_is(backend):
    policies = []
    for algorithm, group in WAYS:
        models, model = three_models(backend)
        run(models, model, group=group, algorithm=algorithm)
        policies.append(models.policy.flat)
    for i, first in enumerate(policies):
        for second in policies[i + 1:]:
            assert (first != second).any()


@pytest.mark.parametrize("algorithm", BOTH)
def test_without_a_penalty_its_place_makes_no_difference(algorithm, backend):
    results = []
    for kl in ("reward", "loss"):
        models, model = three_models(backend, "float32", apart=0.1)
        rows = run(models, model, replace(CONFIG, beta=0.0), GroupConfig(kl=kl), algorithm)
        results.append((rows, models.policy.flat))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    policies = []
    for seed in (0, 0, 1):
        models, model = three_models(backend, "float32")
        run(models, model, seed=seed)
        policies.append(models.policy.flat)
    assert_same(policies[0], policies[1])
    assert (policies[0] != policies[2]).any()


def test_the_first_round_is_a_run_of_one_and_a_second_one_draws_other_numbers(backend):
    policies = []
    for more in ({}, {"round": 0}, {"round": 1}):
        models, model = three_models(backend, "float32")
        run(models, model, **more)
        policies.append(models.policy.flat)
    assert_same(policies[0], policies[1])
    assert (policies[0] != policies[2]).any()


@pytest.mark.parametrize("algorithm, group", WAYS)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_training_in_pieces_ends_in_the_same_bits(algorithm, group, cut, backend):
    """β is adapted, so that the state has something to forget."""
    config = replace(CONFIG, steps=4, target_kl=1e-6, kl_horizon=16)
    models, model = three_models(backend, "float32")
    whole = run(models, model, config, group, algorithm)
    parts, model = three_models(backend, "float32")
    state = initial_state(parts, config)
    steps = training(parts, model, config, group, algorithm, state=state)
    rows = [{key: float(x) for key, x in next(steps).items()} for _ in range(cut)]
    assert state["step"] == cut
    plain = json.loads(json.dumps({key: state[key] for key in ("step", "beta")}))
    state = plain | {"policy": {key: x if key == "step" else copy(x)
                                for key, x in state["policy"].items()}}
    rows += run(parts, model, config, group, algorithm, state=state)
    assert rows == whole and len({row["beta"] for row in rows}) == 4
    assert_same(parts.policy.flat, models.policy.flat)


@pytest.mark.parametrize("kl, loss", [("reward", "policy_loss"), ("loss", "policy_loss_with_kl")])
def test_every_update_has_the_learning_rate_of_its_step_and_the_limit_of_its_gradient(
        kl, loss, backend, monkeypatch):
    given = record_updates(monkeypatch, group_relative)
    models, model = three_models(backend)
    run(models, model, replace(CONFIG, lr_policy=1e-4, max_grad_norm=0.37), GroupConfig(kl=kl))
    rates = [cosine_schedule(step, 2, 1e-4) for step in range(2)]
    assert rates[0] == 1e-4 > rates[1]
    assert given == [(loss, lr, 0.37) for lr in rates for _ in range(2 * 2)]


@pytest.mark.parametrize("kl, place, position", [("reward", "advantages_within_groups", 1),
                                                 ("loss", "policy_loss_with_kl", 6)])
def test_the_penalty_has_the_beta_of_its_step(kl, place, position, backend, monkeypatch):
    used, real = [], getattr(group_relative, place)

    def record(*args):
        used.append(args[position])
        return real(*args)

    monkeypatch.setattr(group_relative, place, record)
    models, model = three_models(backend, apart=0.1)
    rows = run(models, model, replace(CONFIG, steps=3, target_kl=1e-6, kl_horizon=16),
               GroupConfig(kl=kl))
    assert list(dict.fromkeys(used)) == [row["beta"] for row in rows]
    assert [row["beta"] for row in rows] == pytest.approx([0.2, 0.22, 0.242], rel=1e-12)


def test_the_updates_of_a_step_see_the_whole_rollout_once_an_epoch(backend, monkeypatch):
    """Each minibatch counts its own tokens, and its advantages were made before the cut."""
    seen, whole = [], []

    def look(rollout, *more):
        advantages = advantages_within_groups(rollout, *more)
        whole.append((map_arrays(host, rollout), host(advantages)))
        return advantages

    def record(params, model, batch, advantages, config, count):
        seen.append((map_arrays(host, batch), host(advantages), count))
        return policy_loss(params, model, batch, advantages, config, count)

    monkeypatch.setattr(group_relative, "advantages_within_groups", look)
    monkeypatch.setattr(group_relative, "policy_loss", record)
    models, model = three_models(backend, apart=0.1)
    run(models, model, replace(CONFIG, steps=1, minibatches=4, epochs=3))
    ((rollout, advantages),) = whole
    wanted = sorted(str((s, a)) for s, a in zip(rollout.sequences, advantages, strict=True))
    assert len(seen) == 12
    for epoch in (seen[:4], seen[4:8], seen[8:]):
        assert sorted(str((s, a)) for batch, part, _ in epoch
                      for s, a in zip(batch.sequences, part, strict=True)) == wanted
        assert [count for *_, count in epoch] == [batch.mask.sum() for batch, *_ in epoch]


# --- what there is to be compared ----------------------------------------------------------------

def scored(backend, *scores):
    return Rollout(None, None, None, None, None, None, backend.asarray(np.array(scores)))


def law_the_spread_by_hand(spread, backend):
    """1, 2, 3 and 0, 0, 3: deviations 1 and √3, as GRPO divides by them.  Then 5, 5: none."""
    assert float(spread(scored(backend, 1.0, 2.0, 3.0, 0.0, 0.0, 3.0), 3)) == pytest.approx(
        (1 + np.sqrt(3)) / 2)
    assert float(spread(scored(backend, 5.0, 5.0), 2)) == 0


SPREAD_MUTANTS = {
    "population deviation": lambda r, g: r.scores.reshape(-1, g).std(axis=1).mean(),
    "over the batch": lambda r, g: r.scores.std(ddof=1),
    "interleaved": lambda r, g: r.scores.reshape(g, -1).std(axis=0, ddof=1).mean(),
    "variance": lambda r, g: r.scores.reshape(-1, g).var(axis=1, ddof=1).mean(),
    "a root mean square": lambda r, g: r.scores.reshape(-1, g).var(axis=1, ddof=1).mean() ** 0.5,
}


def test_the_spread_keeps_the_law(backend):
    law_the_spread_by_hand(group_spread, backend)


@pytest.mark.parametrize("name", SPREAD_MUTANTS)
def test_the_law_of_the_spread_catches_the_mutant(name):
    with pytest.raises(AssertionError):
        law_the_spread_by_hand(SPREAD_MUTANTS[name], NUMPY)


# --- a bandit ------------------------------------------------------------------------------------

def rewarded(backend, monkeypatch, algorithm, group, beta=0.0):
    config = PPOConfig(steps=8, batch_size=64, max_new=1, minibatches=2, beta=beta, lr_policy=5e-3)
    return bandit(backend, monkeypatch, lambda models, model, draw: run(
        models._replace(value=None), model, config, group, algorithm, draw=draw))


@pytest.mark.parametrize("algorithm, group", WAYS[::2])
def test_what_is_paid_for_becomes_likely(algorithm, group, backend, monkeypatch):
    (before, after), _, scores = rewarded(backend, monkeypatch, algorithm, group)
    assert before < 0.3 and after > before + 0.3
    assert scores[-1] > scores[0]


@pytest.mark.parametrize("kl", ["reward", "loss"])
def test_a_larger_beta_keeps_the_policy_nearer_to_its_reference(kl, backend, monkeypatch):
    free, held, tight = (rewarded(backend, monkeypatch, "rloo", GroupConfig(kl=kl), beta)[1]
                         for beta in (0.0, 0.5, 5.0))
    assert free > 1.2 * held and held > 1.5 * tight


# --- where training ends: the closed forms of test_closed_form_optimum.py ------------------------

BETA = 0.3
WORTH = np.zeros(14)
WORTH[[8, 5, 6, 7]] = 0.2, 0.4, 0.6, 1.0


def optimum(reference):
    """π* ∝ π_ref·exp(reward/β)."""
    p = reference * np.exp(WORTH / BETA)
    return p / p.sum()


def end_of_k3(reference):
    """π_ref / (1 − (reward − r̄)/β), r̄ such that it sums to 1: found by bisection."""
    low, high = WORTH.max() - BETA + 1e-9, WORTH.max() + 1
    for _ in range(100):
        mean = (low + high) / 2
        p = reference / (1 - (WORTH - mean) / BETA)
        low, high = (mean, high) if p.sum() > 1 else (low, mean)
    return p


def trained(backend, monkeypatch, algorithm, group):
    """π_ref and π of one-token replies to one prompt, after 50 rollouts of 256, on-policy."""
    monkeypatch.setattr("minirlhf.rollout.score_replies", lambda params, config, rows:
                        backend.asarray(np.array([WORTH[row[2]] for row in rows])))
    models, model = three_models(backend)
    config = PPOConfig(steps=50, batch_size=256, max_new=1, epochs=1, minibatches=1, beta=BETA,
                       lr_policy=3e-2)
    run(models, model, config, group, algorithm, draw=lambda n, rng: [[USER, BOT]] * n)
    z = [row_logits(params, model, backend, [USER, BOT])[-1]
         for params in (models.reference, models.policy)]
    return [np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in z]


def divergence(p, q):
    return float((p * np.log(p / q)).sum())


ENDS = [("rloo", True), ("grpo", False), ("grpo", True)]


@pytest.mark.parametrize("algorithm, normalize", ENDS)
def test_with_the_kl_in_the_reward_training_ends_at_the_closed_form_optimum(
        algorithm, normalize, backend, monkeypatch):
    """KL(π‖π*) from 0.78 to less than 0.002, of samples: at π* all replies are worth the same, so
    that nothing is left to chance there."""
    group = GroupConfig(size=16, normalize=normalize)
    reference, p = trained(backend, monkeypatch, algorithm, group)
    assert divergence(reference, optimum(reference)) > 0.7
    assert divergence(p, optimum(reference)) < 0.002


@pytest.mark.parametrize("algorithm, normalize", ENDS)
def test_with_the_kl_in_the_loss_training_ends_elsewhere(
        algorithm, normalize, backend, monkeypatch):
    """Where k3 has its fixed point, about 0.07 nats from π*: there to less than 0.005, of samples.
    (Dividing by a group's deviation amounts to another β, so that one is only far from π*.)"""
    group = GroupConfig(size=16, normalize=normalize, kl="loss")
    reference, p = trained(backend, monkeypatch, algorithm, group)
    assert divergence(p, optimum(reference)) > 0.05
    if algorithm == "rloo" or not normalize:
        assert divergence(p, end_of_k3(reference)) < 0.005


# --- settings ------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings, message", [
    ({"size": 1}, "group.size must be at least 2, got 1"), ({"size": 0}, "got 0"),
    ({"kl": "both"}, "group.kl must be reward or loss, got 'both'")])
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        GroupConfig(**settings)

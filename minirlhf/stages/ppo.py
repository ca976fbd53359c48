"""Stage 3, RL fine-tuning with PPO (Schulman et al. 2017; Ziegler et al. 2019).

One step is the article's loop: "We sample a prompt from a training dataset", the policy answers,
the reward model scores, and "PPO uses this score to update the LLM's weights".

    rollout      a batch of responses with log-probs, reference log-probs, values, scores
    rewards      −β·(log π − log π_ref) a token, the score at the last one         kl_penalty
    advantages   GAE, then whitened over the batch                                 gae
    updates      a few epochs of minibatches: clipped surrogate for the policy,
                 clipped squared error for the value model                         clipped_surrogate

The value model starts from the reward model, shares no weights with the policy, and has its own
optimizer.  The file beside it, `group_relative.py`, is the same loop without a value model.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from minirlhf.arrays import Array, numbers_on_host, to_host
from minirlhf.clipped_surrogate import clipped_value_loss
from minirlhf.gae import gae, whiten
from minirlhf.kl_penalty import penalized_rewards
from minirlhf.ops import masked_mean
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.rollout import Models, Rollout, collect, response_values
from minirlhf.stages.policy import (
    PPOConfig,
    clip_fraction,
    minibatches,
    next_beta,
    policy_loss,
    rollout_numbers,
    update_numbers,
)
from minirlhf.stages.training import Stage, step_rng, update
from minirlhf.transformer import ModelConfig


def value_loss(params, model: ModelConfig, batch: Rollout, returns: Array, config: PPOConfig,
               count: int):
    """The clipped squared error between the values and the returns of a minibatch."""
    v = response_values(params, model, batch.sequences, batch.sequence_mask, batch.mask.shape[1])
    return clipped_value_loss(v, batch.values, returns, batch.mask, config.clip_value, count)


def advantages_and_returns(rollout: Rollout, beta: float,
                           config: PPOConfig) -> tuple[Array, Array]:
    """Penalised rewards → GAE → whitened advantages (B, R), and the returns (B, R)."""
    rewards = penalized_rewards(rollout.scores, rollout.logprobs, rollout.ref_logprobs,
                                rollout.mask, beta)
    advantages, returns = gae(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
    return whiten(advantages, rollout.mask), returns


def initial_state(models: Models, config: PPOConfig) -> dict:
    """All that changes from step to step, beside the policy and the value model themselves."""
    return {"step": 0, "beta": config.beta,
            "policy": adamw_state(models.policy), "value": adamw_state(models.value)}


def train(models: Models, model: ModelConfig,
          draw_prompts: Callable[[int, np.random.Generator], Sequence[Sequence[int]]],
          config: PPOConfig, *, seed: int, round: int = 0,
          state: dict | None = None, shards: int = 1) -> Iterator[dict]:
    """Train models.policy and models.value in place; yields the numbers of each step.

    draw_prompts(n, rng) gives n prompts as token ids.  state: to go on from its step; by default
    the initial one.  shards: the parts in which an update is computed.  docs/logged_numbers.md
    explains the numbers.
    """
    state = initial_state(models, config) if state is None else state
    for step in range(state["step"], config.steps):
        beta = state["beta"]
        rng = step_rng(seed, Stage.PPO, step, round)
        rollout = collect(models, model, draw_prompts(config.batch_size, rng), config.max_new,
                          rng=rng, temperature=config.temperature)
        advantages, returns = advantages_and_returns(rollout, beta, config)
        lengths = to_host(rollout.mask.sum(axis=1))
        lr_policy, lr_value = (cosine_schedule(step, config.steps, lr)
                               for lr in (config.lr_policy, config.lr_value))
        updates = []
        for parts, count in minibatches(rollout, lengths, config, rng, shards):
            batches = [shard.of(rollout, advantages, returns) for shard in parts]
            updates.append((
                *update(policy_loss, models.policy, state["policy"], lr_policy,
                        config.max_grad_norm,
                        [(model, batch, A, config, count) for batch, A, _ in batches]),
                *update(value_loss, models.value, state["value"], lr_value, config.max_grad_norm,
                        [(model, batch, G, config, count) for batch, _, G in batches])))
        tokens = int(lengths.sum())
        [numbers] = numbers_on_host([{
            **rollout_numbers(rollout, beta, tokens),
            **update_numbers(updates, ("policy", "value")),
            "explained_variance": explained_variance(rollout, returns, tokens),
            "clip_fraction": clip_fraction(models.policy, model, rollout, config)}])
        state["step"] += 1
        state["beta"] = next_beta(beta, numbers["kl"], state["step"], config)
        yield numbers


def explained_variance(rollout: Rollout, returns: Array, count: int | None = None) -> Array:
    """The share of the returns' variance that the values foresaw, 1 − Var(G − V)/Var(G).

    count: the response tokens of the rollout, if known.
    """
    def variance(x: Array) -> Array:
        return masked_mean((x - masked_mean(x, rollout.mask, count)) ** 2, rollout.mask, count)

    return 1 - variance(returns - rollout.values) / (variance(returns) + 1e-8)

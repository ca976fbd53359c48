"""Stage 3, RL fine-tuning with PPO (Schulman et al. 2017; Ziegler et al. 2019).

One step is the article's loop: "We sample a prompt from a training dataset", the policy answers,
the reward model scores, and "PPO uses this score to update the LLM's weights".

    rollout      a batch of responses with log-probs, reference log-probs, values, scores
    rewards      −β·(log π − log π_ref) a token, the score at the last one         kl_penalty
    advantages   GAE, then whitened over the batch                                 gae
    updates      a few epochs of minibatches: clipped surrogate for the policy,
                 clipped squared error for the value model                         clipped_surrogate

The value model starts from the reward model, shares no weights with the policy, and has its own
optimizer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss
from minirlhf.gae import gae, whiten
from minirlhf.kl_penalty import (
    adaptive_beta,
    kl_estimate,
    penalized_objective,
    penalized_rewards,
)
from minirlhf.ops import masked_mean
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.rollout import (
    Models,
    Rollout,
    collect,
    measured_logprobs,
    response_logprobs,
    response_values,
)
from minirlhf.stages.training import Stage, require_positive, step_rng, update
from minirlhf.transformer import ModelConfig


@dataclass(frozen=True)
class PPOConfig:
    """How the policy is trained against the reward model."""

    steps: int = 36
    """rollouts, each followed by its updates"""
    batch_size: int = 128
    """responses a rollout"""
    max_new: int = 32
    """longest response, in tokens"""
    temperature: float = 1.0
    """sampling temperature, here and when labelling and evaluating; log-probs are taken at it"""
    epochs: int = 2
    """passes over each rollout"""
    minibatches: int = 4
    """optimizer steps a pass"""
    lr_policy: float = 3e-4
    """learning rate of the policy at the start, then a cosine down to a tenth"""
    lr_value: float = 1e-3
    """learning rate of the value model at the start, then likewise"""
    clip_ratio: float = 0.2
    """ε: how far the ratio π/π_old may move before its token is no longer pushed"""
    clip_value: float = 0.2
    """how far a value may move from its old one before its update stops"""
    gamma: float = 1.0
    """discount; 1 in language tasks: the score at the end counts in full for every token"""
    lam: float = 0.95
    """GAE's λ: 0 trusts the value model, 1 the sampled return"""
    beta: float = 0.2
    """strength of the KL penalty, in reward deviations a nat"""
    target_kl: float | None = None
    """if given, β is adapted to hold the summed KL a reply near this many nats"""
    kl_horizon: int = 10_000
    """responses over which the adaptive β reacts; smaller is quicker"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "max_new", "temperature", "epochs",
                         "minibatches", "lr_policy", "lr_value", "clip_ratio", "clip_value",
                         "kl_horizon", "max_grad_norm")
        if self.batch_size % self.minibatches:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of minibatches "
                             f"({self.minibatches}), so that all are of one size")
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"beta must be 0 or more, got {self.beta}: below 0 it would be a "
                             "bonus for leaving the SFT model, and no infinity can be learned from")
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma and lam must lie in [0, 1], got {self.gamma}, {self.lam}")
        if self.target_kl is not None and not self.target_kl > 0:
            raise ValueError(f"target_kl must be positive, got {self.target_kl}")
        if self.target_kl is not None and self.beta == 0:
            raise ValueError("target_kl wants a beta above 0 to start from: the controller "
                             "multiplies it, and 0 stays 0")


def policy_loss(params, model: ModelConfig, batch: Rollout, advantages: Array, config: PPOConfig,
                count: int):
    """The clipped surrogate on a minibatch, against the policy that sampled it."""
    logprobs = response_logprobs(params, model, batch.sequences, batch.sequence_mask,
                                 batch.mask.shape[1], config.temperature)
    return clipped_surrogate_loss(logprobs, batch.logprobs, advantages, batch.mask,
                                  config.clip_ratio, count)


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
          config: PPOConfig, *, seed: int, state: dict | None = None) -> Iterator[dict]:
    """Train models.policy and models.value in place; yields the numbers of each step.

    draw_prompts(n, rng) gives n prompts as token ids.  state: to go on from its step; by default
    the initial one.  docs/logged_numbers.md explains the numbers.
    """
    state = initial_state(models, config) if state is None else state
    for step in range(state["step"], config.steps):
        beta = state["beta"]
        rng = step_rng(seed, Stage.PPO, step)
        rollout = collect(models, model, draw_prompts(config.batch_size, rng), config.max_new,
                          rng=rng, temperature=config.temperature)
        advantages, returns = advantages_and_returns(rollout, beta, config)
        lengths = to_host(rollout.mask.sum(axis=1))
        lr_policy, lr_value = (cosine_schedule(step, config.steps, lr)
                               for lr in (config.lr_policy, config.lr_value))
        updates = []
        for rows in minibatches(config, rng):
            count = int(lengths[rows].sum())
            rows = array_module(advantages).asarray(rows)
            batch = rollout[rows]
            updates.append((
                *update(policy_loss, models.policy, state["policy"], lr_policy,
                        config.max_grad_norm, model, batch, advantages[rows], config, count),
                *update(value_loss, models.value, state["value"], lr_value,
                        config.max_grad_norm, model, batch, returns[rows], config, count)))
        numbers = rollout_numbers(rollout, returns, beta)
        numbers |= update_numbers(updates)
        numbers |= {"clip_fraction": clip_fraction(models.policy, model, rollout, config)}
        if config.target_kl is not None:
            state["beta"] = adaptive_beta(beta, numbers["kl"], config.target_kl,
                                          config.kl_horizon, config.batch_size)
        state["step"] += 1
        yield numbers


def minibatches(config: PPOConfig, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers of each minibatch: every epoch a new order, cut into equal parts."""
    for _ in range(config.epochs):
        yield from np.split(rng.permutation(config.batch_size), config.minibatches)


# --- what a step is watched by: docs/logged_numbers.md -------------------------------------------

def rollout_numbers(rollout: Rollout, returns: Array, beta: float) -> dict[str, float]:
    """The rollout in numbers, before its updates.

    score: mean reward-model score.  kl: mean over replies of Σ_t log π/π_ref, in nats.
    objective: score − β·kl, the article's.  entropy: −mean log π of the sampled tokens, in nats.
    length in tokens.  explained_variance: the share of the returns' variance that the values
    foresaw, 1 − Var(G − V)/Var(G).
    """
    xp, mask = array_module(rollout.scores), rollout.mask
    k1 = kl_estimate(rollout.logprobs, rollout.ref_logprobs)
    score = float(rollout.scores.mean())
    kl = float(xp.where(mask, k1, 0).sum(axis=1).mean())
    unexplained = _variance(returns - rollout.values, mask) / (_variance(returns, mask) + 1e-8)
    return {"score": score, "kl": kl, "objective": penalized_objective(score, kl, beta),
            "beta": beta, "length": float(mask.sum(axis=1).mean()),
            "entropy": float(masked_mean(-rollout.logprobs, mask)),
            "explained_variance": float(1 - unexplained)}


def _variance(x: Array, mask: Array) -> Array:
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def update_numbers(updates: Sequence[tuple]) -> dict[str, float]:
    """Losses and gradient norms (before clipping), averaged over the updates of a step."""
    names = ("policy_loss", "policy_grad_norm", "value_loss", "value_grad_norm")
    return {name: float(sum(column)) / len(updates)
            for name, column in zip(names, zip(*updates, strict=True), strict=True)}


def clip_fraction(policy, model: ModelConfig, rollout: Rollout, config: PPOConfig) -> float:
    """The share of sampled tokens whose ratio π/π_old has left [1 − ε, 1 + ε] after the updates.

    The article: "PPO uses a clip ratio (usually around 0.2) which limits how much the new policy
    can differ from the previous policy in a single update."
    """
    logprobs = measured_logprobs(policy, model, rollout.sequences, rollout.sequence_mask,
                                 rollout.mask.shape[1], config.temperature)
    xp = array_module(logprobs)
    ratio = xp.exp(xp.where(rollout.mask, logprobs - rollout.logprobs, 0))
    outside = abs(ratio - 1) > config.clip_ratio
    return float(outside.sum() / rollout.mask.sum())

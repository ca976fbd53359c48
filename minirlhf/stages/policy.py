"""What PPO and the group-relative methods share: clipped updates of a policy on a rollout.

The article: "PPO uses this score to update the LLM's weights so that responses like this one become
more likely if the score was high, and less likely if the score was low."  How much better than
expected a response was, its advantage, is where the methods differ, each in a file of its own:

    ppo.py               compared with what a value model expected                  four models
    group_relative.py    compared with other responses to the same prompt           three models
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.clipped_surrogate import clipped_surrogate_loss
from minirlhf.kl_penalty import adaptive_beta, kl_estimate, penalized_objective
from minirlhf.ops import masked_mean
from minirlhf.rollout import Rollout, measured_logprobs, response_logprobs
from minirlhf.stages.training import require_positive, shards_of
from minirlhf.transformer import ModelConfig


@dataclass(frozen=True)
class PPOConfig:
    """How the policy is trained against the reward model, by whichever algorithm.

    GRPO and RLOO are PPO's updates with other advantages, so these hold for them too, but for the
    four of the value model: lr_value, clip_value, gamma and lam.
    """

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
    penalty_steps: int | None = None
    """if given, steps after which the KL penalty is switched off; the article asks to keep it alive
    throughout training, and this is to see why"""
    start: Literal["sft", "base"] = "sft"
    """the model that training starts from, and that the KL penalty measures from; base skips the
    SFT model, the first of the article's mistakes"""
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
        if self.penalty_steps is not None and self.penalty_steps < 1:
            raise ValueError(f"penalty_steps must be at least 1, got {self.penalty_steps}; no "
                             "penalty at any step is beta 0")
        if self.start not in ("sft", "base"):
            raise ValueError(f"start must be sft or base, got {self.start!r}")
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


class Shard(NamedTuple):
    """A part of a minibatch: numbers of rows, and the tokens of their longest response."""

    rows: Array
    longest: int

    def of(self, rollout: Rollout, *targets: Array) -> tuple:
        """These rows of a rollout, and of its (B, R) advantages or returns."""
        return (rollout.part(self.rows, self.longest),
                *(target[self.rows, :self.longest] for target in targets))


def minibatches(rollout: Rollout, lengths: np.ndarray, config: PPOConfig,
                rng: np.random.Generator, shards: int = 1) -> Iterator[tuple[list[Shard], int]]:
    """The shards and the response tokens of each minibatch: every epoch a new order, cut into equal
    parts.

    lengths (B,): of the responses, on the host, so that nobody waits for a device to count.  All
    row numbers are uploaded at once.
    """
    prompt = rollout.sequences.shape[1] - rollout.mask.shape[1]
    batches = np.concatenate([rng.permutation(config.batch_size).reshape(config.minibatches, -1)
                              for _ in range(config.epochs)])
    parts = [[rows[part] for part in shards_of(prompt + lengths[rows], shards)]
             for rows in batches]
    uploaded = array_module(rollout.mask).asarray(np.stack([*map(np.concatenate, parts)]))
    for rows, own in zip(uploaded, parts, strict=True):
        ends = np.cumsum([len(part) for part in own]).tolist()
        yield ([Shard(rows[end - len(part):end], int(lengths[part].max()))
                for part, end in zip(own, ends, strict=True)],
               sum(int(lengths[part].sum()) for part in own))


def next_beta(beta: float, kl: float, done: int, config: PPOConfig) -> float:
    """β after so many steps: the same, or nearer to what holds the KL at its target; 0 when the
    penalty is switched off."""
    if config.penalty_steps is not None and done >= config.penalty_steps:
        return 0.0
    if config.target_kl is None:
        return beta
    return adaptive_beta(beta, kl, config.target_kl, config.kl_horizon, config.batch_size)


# --- what a step is watched by: docs/logged_numbers.md; numbers are arrays of shape () -----------

def rollout_numbers(rollout: Rollout, beta: float, count: int | None = None) -> dict:
    """The rollout in numbers, before its updates.  count: its response tokens, if known.

    score: mean reward-model score.  kl: mean over replies of Σ_t log π/π_ref, in nats.
    objective: score − β·kl, the article's.  entropy: −mean log π of the sampled tokens, in nats.
    length in tokens.
    """
    mask = rollout.mask
    score, kl = rollout.scores.mean(), reply_kl(rollout).mean()
    return {"score": score, "kl": kl, "objective": penalized_objective(score, kl, beta),
            "beta": beta, "length": mask.sum(axis=1).mean(),
            "entropy": masked_mean(-rollout.logprobs, mask, count)}


def reply_kl(rollout: Rollout) -> Array:
    """Σ_t log π/π_ref of each reply, (B,) in nats: its mean estimates KL(π‖π_ref)."""
    k1 = kl_estimate(rollout.logprobs, rollout.ref_logprobs)
    return array_module(k1).where(rollout.mask, k1, 0).sum(axis=1)


def update_numbers(updates: Sequence[tuple], models: Sequence[str]) -> dict:
    """Losses and gradient norms (before clipping), averaged over the updates of a step.

    An update is (loss, norm) of each of the models in turn.
    """
    names = [f"{model}_{what}" for model in models for what in ("loss", "grad_norm")]
    return {name: sum(column) / len(updates)
            for name, column in zip(names, zip(*updates, strict=True), strict=True)}


def clip_fraction(policy, model: ModelConfig, rollout: Rollout, config: PPOConfig) -> Array:
    """The share of sampled tokens whose ratio π/π_old has left [1 − ε, 1 + ε] after the updates.

    The article: "PPO uses a clip ratio (usually around 0.2) which limits how much the new policy
    can differ from the previous policy in a single update."
    """
    logprobs = measured_logprobs(policy, model, rollout.sequences, rollout.sequence_mask,
                                 rollout.mask.shape[1], config.temperature)
    xp = array_module(logprobs)
    ratio = xp.exp(xp.where(rollout.mask, logprobs - rollout.logprobs, 0))
    outside = abs(ratio - 1) > config.clip_ratio
    return outside.sum() / rollout.mask.sum()

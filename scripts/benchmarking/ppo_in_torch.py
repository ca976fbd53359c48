"""One iteration of PPO in PyTorch, computing what a step of `minirlhf.stages.ppo` computes.

All prompts have one length and no reply ends early, so there is nothing to mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarking import tasks
from benchmarking.in_torch import GPT2, Cache, last_logits, load, optimizer, update


@dataclass(frozen=True)
class Rollout:
    """Prompts with their replies (B, P+R), and what the models say of them: (B, R), scores (B,)."""

    sequences: torch.Tensor
    logprobs: torch.Tensor
    ref_logprobs: torch.Tensor
    values: torch.Tensor
    scores: torch.Tensor


def reply_logprobs(model: GPT2, sequences, R: int):
    """log π of each of the last R tokens.  (B, P+R) -> (B, R)"""
    states = model.states(sequences)[:, -R - 1:-1]
    nats = F.cross_entropy(model.head(states).flatten(0, 1), sequences[:, -R:].flatten(),
                           reduction="none")
    return -nats.view(len(sequences), R)


def reply_values(model: GPT2, sequences, R: int):
    """The value of the state in which each of the last R tokens was chosen."""
    return model.score(model.states(sequences)[:, -R - 1:-1]).squeeze(-1)


def sampled(model: GPT2, prompts, new: int):
    """Replies drawn at temperature 1, and their log-probs: (B, P) -> (B, new), (B, new)"""
    cache, tokens = Cache(model, len(prompts), prompts.shape[1] + new), prompts
    made, logprobs = [], []
    for _ in range(new):
        logp = torch.log_softmax(last_logits(model, cache, tokens), -1)
        tokens = torch.multinomial(logp.exp(), 1)
        made.append(tokens)
        logprobs.append(logp.gather(1, tokens))
    return torch.cat(made, 1), torch.cat(logprobs, 1)


@torch.inference_mode()
def collect(policy: GPT2, value: GPT2, reward: GPT2, reference: GPT2, prompts, R: int) -> Rollout:
    tokens, logprobs = sampled(policy, prompts, R)
    sequences = torch.cat((prompts, tokens), 1)
    return Rollout(sequences, logprobs, reply_logprobs(reference, sequences, R),
                   reply_values(value, sequences, R),
                   reward.score(reward.states(sequences)[:, -1]).squeeze(-1))


def advantages_and_returns(rollout: Rollout, beta: float, gamma: float, lam: float):
    """Penalised rewards → GAE → whitened advantages (B, R), and the returns (B, R)."""
    rewards = -beta * (rollout.logprobs - rollout.ref_logprobs)
    rewards[:, -1] += rollout.scores
    after = F.pad(rollout.values[:, 1:], (0, 1))
    deltas = rewards + gamma * after - rollout.values
    advantages, running = torch.empty_like(deltas), 0.0
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    variance, mean = torch.var_mean(advantages, correction=0)
    return (advantages - mean) * torch.rsqrt(variance + 1e-8), advantages + rollout.values


def policy_loss(model: GPT2, sequences, old_logprobs, advantages, clip: float):
    """The clipped surrogate."""
    ratio = torch.exp(reply_logprobs(model, sequences, old_logprobs.shape[1]) - old_logprobs)
    return torch.maximum(-advantages * ratio,
                         -advantages * ratio.clamp(1 - clip, 1 + clip)).mean()


def value_loss(model: GPT2, sequences, old_values, returns, clip: float):
    """The clipped squared error."""
    v = reply_values(model, sequences, old_values.shape[1])
    near = old_values + (v - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((v - returns) ** 2, (near - returns) ** 2).mean()


@torch.inference_mode()
def watched(policy: GPT2, rollout: Rollout, returns, updates: list) -> list[float]:
    """The numbers that a step is watched by: score, KL, entropy, explained variance, share of
    clipped ratios after the updates, and the mean losses and gradient norms."""
    logprobs = reply_logprobs(policy, rollout.sequences, rollout.logprobs.shape[1])
    outside = (torch.exp(logprobs - rollout.logprobs) - 1).abs() > tasks.CLIP
    foreseen = 1 - (returns - rollout.values).var(correction=0) / (returns.var(correction=0) + 1e-8)
    kl = (rollout.logprobs - rollout.ref_logprobs).sum(1).mean()
    numbers = torch.stack((rollout.scores.mean(), kl, -rollout.logprobs.mean(), foreseen,
                           outside.float().mean()))
    means = torch.stack([torch.stack(update) for update in updates]).mean(0)
    return torch.cat((numbers, means)).tolist()


def minibatches(rng: np.random.Generator, rows: int) -> Iterator[torch.Tensor]:
    """Row numbers: every epoch a new order, cut into equal parts."""
    for _ in range(tasks.PPO_EPOCHS):
        yield from torch.from_numpy(rng.permutation(rows)).chunk(tasks.PPO_MINIBATCHES)


def ppo(task: dict):
    """An iteration; returns how many updates it made, and how long replies were."""
    policy, reference = (load(Path(task["folder"], "policy")) for _ in range(2))
    value, reward = (load(Path(task["folder"], "value")) for _ in range(2))
    adamw, adamw_value, R = optimizer(policy), optimizer(value), tasks.PPO_NEW
    rng = np.random.default_rng(0)

    def once():
        prompts = torch.from_numpy(rng.integers(task["vocab"], size=(task["batch"], tasks.PROMPT)))
        made = collect(policy, value, reward, reference, prompts, R)
        # out of inference mode: what it makes may take part in no gradient
        rollout = Rollout(*(getattr(made, field.name).clone() for field in fields(made)))
        advantages, returns = advantages_and_returns(rollout, tasks.BETA, tasks.GAMMA, tasks.LAM)
        updates = []
        for rows in minibatches(rng, task["batch"]):
            sequences = rollout.sequences[rows]
            loss = policy_loss(policy, sequences, rollout.logprobs[rows], advantages[rows],
                               tasks.CLIP)
            norm = update(loss, policy, adamw)
            loss_v = value_loss(value, sequences, rollout.values[rows], returns[rows], tasks.CLIP)
            norm_v = update(loss_v, value, adamw_value)
            updates.append((loss.detach(), norm, loss_v.detach(), norm_v))
        watched(policy, rollout, returns, updates)
        return {"updates": len(updates), "length": float(rollout.logprobs.shape[1])}
    return once

"""Stage 3 without a value model: GRPO (Shao et al. 2024) and RLOO (Ahmadian et al. 2024).

The article: "Newer algorithms like GRPO (Group Relative Policy Optimization), used in DeepSeek-R1,
remove the Value Model entirely by computing the baseline from a group of sampled responses, which
brings the count down to three models."

The loop is that of `ppo.py`, and what differs is one question.  How good was a response, compared
with what was to be expected?  PPO asks a value model, at every token.  Here the policy answers each
prompt several times, and the siblings say it:

    rollout      prompts, each answered `size` times in a row
    objective    score − β·Σ_t (log π − log π_ref), one number a response          kl_penalty
    advantages   above the mean of the group, in its deviations (GRPO);
                 above the mean of the others (RLOO); one number for all tokens    group_advantage
    updates      as in PPO, of the policy alone                                    clipped_surrogate

**Where the KL is.**  By default in the reward, as for PPO, so that both have the article's
objective.  GRPO was published with another place, kl="loss": advantages from the bare score, and
β·k3 as a term of the loss.  On fresh samples the gradient of k3 is that of KL(π_ref‖π), the other
direction, so its optimum is another one, not π* ∝ π_ref·exp(score/β).  There GRPO's division by the
group's deviation also makes the score weigh more beside the KL, or less; with the KL in the reward
it divides both, and π* stays the optimum.  tests/test_closed_form_optimum.py shows it for the
formulas, tests/test_stages_group_relative.py for this loop.

**Conventions.**  The loss is a mean over all response tokens of the optimizer step, like PPO's; the
GRPO paper takes a mean within each response first, which gives the tokens of short responses more
weight.  RLOO was published as one plain policy-gradient step on each batch; here it takes PPO's
clipped ones, of which the first goes in that direction (a sum over a response's tokens there, a
mean over the tokens of the step here).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from minirlhf.arrays import Array, array_module, numbers_on_host, to_host
from minirlhf.clipped_surrogate import clipped_surrogate_loss
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages
from minirlhf.kl_penalty import kl_estimate, penalized_objective
from minirlhf.ops import masked_mean, where
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.rollout import Models, Rollout, collect, response_logprobs
from minirlhf.stages.policy import (
    PPOConfig,
    clip_fraction,
    minibatches,
    next_beta,
    policy_loss,
    reply_kl,
    rollout_numbers,
    update_numbers,
)
from minirlhf.stages.training import Stage, step_rng, update
from minirlhf.transformer import ModelConfig


@dataclass(frozen=True)
class GroupConfig:
    """How GRPO and RLOO compare responses; everything else is set in section ppo."""

    size: int = 4
    """responses to one prompt that are compared; ppo.batch_size is cut into such groups"""
    normalize: bool = True
    """GRPO: divide by the group's deviation (without: the advantage of Dr. GRPO)"""
    kl: Literal["reward", "loss"] = "reward"
    """where the KL penalty is: in the reward, as the article has it, or in the loss, as GRPO was
    published (another optimum)"""

    def __post_init__(self):
        if self.size < 2:
            raise ValueError(f"group.size must be at least 2, got {self.size}: a response alone "
                             "has nothing to be compared with")
        if self.kl not in ("reward", "loss"):
            raise ValueError(f"group.kl must be reward or loss, got {self.kl!r}")


def advantages_within_groups(rollout: Rollout, beta: float, algorithm: str,
                             group: GroupConfig) -> Array:
    """How much better each response was than its siblings, (B, R): one number for all its tokens.

    algorithm: "grpo" or "rloo".  Rows come group by group.  0 where masked.
    """
    objective = rollout.scores
    if group.kl == "reward":
        objective = penalized_objective(objective, reply_kl(rollout), beta)
    advantages = (leave_one_out_advantages(objective, group.size) if algorithm == "rloo" else
                  group_advantages(objective, group.size, group.normalize))
    return array_module(advantages).where(rollout.mask, advantages[:, None], 0)


def policy_loss_with_kl(params, model: ModelConfig, batch: Rollout, advantages: Array,
                        config: PPOConfig, count: int, beta: float):
    """GRPO's loss as published: the clipped surrogate + β·mean k3 over the response tokens.

    Shao et al. 2024 (arXiv 2402.03300) eq. 3 and 4, with the mean over all tokens of the step.
    """
    logprobs = response_logprobs(params, model, batch.sequences, batch.sequence_mask,
                                 batch.mask.shape[1], config.temperature)
    surrogate = clipped_surrogate_loss(logprobs, batch.logprobs, advantages, batch.mask,
                                       config.clip_ratio, count)
    # Masked slots are written over first: they may hold anything, and e^−k of it overflow.
    reference = array_module(batch.mask).where(batch.mask, batch.ref_logprobs, 0)
    k3 = kl_estimate(where(batch.mask, logprobs, 0), reference, "k3")
    return surrogate + float(beta) * masked_mean(k3, batch.mask, count)


def initial_state(models: Models, config: PPOConfig) -> dict:
    """All that changes from step to step, beside the policy itself."""
    return {"step": 0, "beta": config.beta, "policy": adamw_state(models.policy)}


def train(models: Models, model: ModelConfig,
          draw_prompts: Callable[[int, np.random.Generator], Sequence[Sequence[int]]],
          config: PPOConfig, group: GroupConfig, *, algorithm: Literal["grpo", "rloo"], seed: int,
          round: int = 0, state: dict | None = None, shards: int = 1) -> Iterator[dict]:
    """Train models.policy in place; yields the numbers of each step.  models.value is not read.

    draw_prompts(n, rng) gives n prompts as token ids.  state: to go on from its step; by default
    the initial one.  shards: the parts in which an update is computed.  docs/logged_numbers.md
    explains the numbers.
    """
    state = initial_state(models, config) if state is None else state
    for step in range(state["step"], config.steps):
        beta = state["beta"]
        rng = step_rng(seed, Stage.GROUP_RELATIVE, step, round)
        prompts = draw_prompts(config.batch_size // group.size, rng)
        rollout = collect(models._replace(value=None), model,
                          [prompt for prompt in prompts for _ in range(group.size)],
                          config.max_new, rng=rng, temperature=config.temperature)
        advantages = advantages_within_groups(rollout, beta, algorithm, group)
        lengths = to_host(rollout.mask.sum(axis=1))
        lr = cosine_schedule(step, config.steps, config.lr_policy)
        loss, extra = (policy_loss, ()) if group.kl == "reward" else (policy_loss_with_kl, (beta,))
        updates = []
        for parts, count in minibatches(rollout, lengths, config, rng, shards):
            updates.append(update(loss, models.policy, state["policy"], lr, config.max_grad_norm,
                                  [(model, *shard.of(rollout, advantages), config, count, *extra)
                                   for shard in parts]))
        [numbers] = numbers_on_host([{
            **rollout_numbers(rollout, beta, int(lengths.sum())),
            **update_numbers(updates, ("policy",)),
            "group_spread": group_spread(rollout, group.size),
            "clip_fraction": clip_fraction(models.policy, model, rollout, config)}])
        state["step"] += 1
        state["beta"] = next_beta(beta, numbers["kl"], state["step"], config)
        yield numbers


def group_spread(rollout: Rollout, size: int) -> Array:
    """The mean over groups of their scores' sample deviation: what there is to be compared."""
    return rollout.scores.reshape(-1, size).std(axis=1, ddof=1).mean()

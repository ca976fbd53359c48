"""Steps of every stage, on made-up data: what is timed.

The model is that of docs/performance.md's *small*: 4 layers, 128 channels, 4 heads, a vocabulary of
256.  No token ends a reply, so that every rollout takes as long.
"""

from collections.abc import Iterator

import numpy as np

from minirlhf.optimizer import adamw_state
from minirlhf.parameters import Parameters, copy
from minirlhf.rollout import Models, collect
from minirlhf.stages import group_relative, ppo, pretraining, reward_model, supervised
from minirlhf.stages.group_relative import GroupConfig
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import Group, RewardModelConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.transformer import ModelConfig, initialize, with_scalar_head

VOCAB, PROMPT, REPLY, ROWS, MANY = 256, 16, 48, 32, 10**6
SMALL = ModelConfig(VOCAB, PROMPT + REPLY, 128, 4, 4, pad_id=None, eos_id=None)
MINUTE = ModelConfig(VOCAB, PROMPT + REPLY, 8, 2, 1, pad_id=None, eos_id=None)
RL = PPOConfig(steps=MANY, batch_size=ROWS, max_new=REPLY)


def rows(n: int, tokens: int, rng: np.random.Generator) -> list[list[int]]:
    return rng.integers(VOCAB, size=(n, tokens)).tolist()


def pretrain(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    config = PretrainingConfig(steps=MANY, batch_size=ROWS, window=model.context)
    stream = rng.integers(VOCAB, size=100_000)
    return pretraining.train(params, model, stream, config, seed=0, state=adamw_state(params),
                             shards=shards)


def sft(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    pairs = list(zip(rows(ROWS, PROMPT, rng), rows(ROWS, REPLY, rng), strict=True))
    return supervised.train(params, model, pairs, SFTConfig(steps=MANY, batch_size=ROWS), seed=0,
                            state=adamw_state(params), shards=shards)


def reward(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    """Comparisons of two replies to each of half as many prompts."""
    groups = [Group(rows(2, model.context, rng), [(0, 1)], PROMPT) for _ in range(ROWS // 2)]
    scorer = with_scalar_head(params, rng=rng)
    return reward_model.train(scorer, model, groups,
                              RewardModelConfig(steps=MANY, batch_size=ROWS // 2), seed=0, round=0,
                              state=adamw_state(scorer), shards=shards)


def rollouts(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    """What PPO and GRPO begin a step with: replies, and what the other models say of them."""
    scorer = with_scalar_head(params, rng=rng)
    models = Models(params, copy(scorer), scorer, copy(params))
    while True:
        collect(models, model, draw(ROWS, rng), REPLY, rng=rng)
        yield {}


def with_ppo(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    scorer = with_scalar_head(params, rng=rng)
    models = Models(params, copy(scorer), scorer, copy(params))
    return ppo.train(models, model, draw, RL, seed=0, shards=shards)


def with_grpo(params: Parameters, model: ModelConfig, shards: int, rng) -> Iterator[dict]:
    models = Models(params, None, with_scalar_head(params, rng=rng), copy(params))
    return group_relative.train(models, model, draw, RL, GroupConfig(), algorithm="grpo", seed=0,
                                shards=shards)


def draw(n: int, rng: np.random.Generator) -> list[list[int]]:
    return rows(n, PROMPT, rng)


STAGES = {"pretraining": pretrain, "SFT": sft, "reward model": reward, "rollout": rollouts,
          "PPO": with_ppo, "GRPO": with_grpo}


def steps(stage: str, shards: int, quick: bool = False) -> tuple[Iterator[dict], int]:
    """Endless steps of a stage, and how many parameters its model has."""
    rng, model = np.random.default_rng(0), MINUTE if quick else SMALL
    params = initialize(model, rng=rng)
    return STAGES[stage](params, model, shards, rng), params.flat.size

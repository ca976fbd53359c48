"""A few steps of every stage on tiny models, on any backend."""

from dataclasses import replace

import numpy as np
from rollouts import draw_prompts

from minirlhf.rollout import Models
from minirlhf.stages import (
    direct_preference,
    group_relative,
    ppo,
    pretraining,
    reward_model,
    supervised,
)
from minirlhf.stages.direct_preference import DPOConfig
from minirlhf.stages.group_relative import GroupConfig
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import Group, RewardModelConfig
from minirlhf.stages.supervised import SFTConfig

# the module of each stage
STAGES = {"pretraining": pretraining, "SFT": supervised, "reward model": reward_model,
          "DPO": direct_preference, "PPO": ppo, "GRPO": group_relative,
          "GRPO, KL in the loss": group_relative, "RLOO": group_relative}
STREAM = np.random.default_rng(0).integers(4, 14, 200)
DEMONSTRATIONS = [([1, 4, 2], [5, 6, 3]), ([1, 7, 2], [8, 3])] * 4
GROUPS = [Group([[1, 4, 2, 5, 3], [1, 4, 2, 6], [1, 4, 2, 7, 7, 3]], [(0, 1), (0, 2), (2, 1)], 3),
          Group([[1, 8, 2, 9, 3], [1, 8, 2, 3]], [(0, 1)], 3)] * 2
RL = PPOConfig(steps=2, batch_size=8, minibatches=2, epochs=2, max_new=5)
GROUPED = GroupConfig(size=4)


def steps_of(stage: str, models: Models, model, shards: int = 1):
    """The generator of two steps of a stage; what it changes is among the models."""
    policy, _, reward, reference = models
    given = dict(seed=0, shards=shards)
    if stage in ("GRPO", "GRPO, KL in the loss", "RLOO"):
        return group_relative.train(
            models, model, draw_prompts, RL,
            replace(GROUPED, kl="loss" if "loss" in stage else "reward"),
            algorithm="rloo" if stage == "RLOO" else "grpo", **given)
    return {
        "pretraining": lambda: pretraining.train(
            policy, model, STREAM, PretrainingConfig(steps=2, batch_size=4, window=12), **given),
        "SFT": lambda: supervised.train(
            policy, model, DEMONSTRATIONS, SFTConfig(steps=2, batch_size=4), **given),
        "reward model": lambda: reward_model.train(
            reward, model, GROUPS, RewardModelConfig(steps=2, batch_size=4), **given),
        "DPO": lambda: direct_preference.train(
            policy, reference, model, GROUPS, DPOConfig(steps=2, batch_size=4), **given),
        "PPO": lambda: ppo.train(models, model, draw_prompts, RL, **given),
    }[stage]()

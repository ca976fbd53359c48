"""The models and batches of the released traces: tiny, random, and far from every corner.

Everything comes from seeds.  What the batches have: prompts of unequal length, padded on the left,
one with an end-of-sequence token in it; replies of unequal length, one of a single token, one cut
off without an end; a temperature that is not 1; ratios and values on both sides of their clips,
with either sign of the advantage; gradients above and below the largest norm.
"""

import numpy as np

from minirlhf.conformance.trace.functions import StepSettings
from minirlhf.conformance.trace.rules import Environment, Model
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.parameters import copy
from minirlhf.tokens import pad_left, pad_right
from minirlhf.transformer import ModelConfig, initialize, with_scalar_head

CONFIG = ModelConfig(vocab_size=20, context=12, channels=8, heads=2, layers=2)
SETTINGS = StepSettings(
    temperature=0.7, beta=0.15, gamma=0.97, lam=0.9, group_size=3, max_grad_norm=0.1,
    lr_policy=0.01, lr_value=0.02, lr_reward=0.01, eps=1e-5, weight_decay=0.1)
UNCLIPPED = {"reward_model_step": 5.0}        # a largest norm that this gradient is below
SEEDS = {"ppo_step": 60, "reward_model_step": 1, "grpo_step": 30}  # these keep clear of corners

PROMPTS = [[2, 7, 9, 13, 3], [2, 5, 3], [4, 1, 2, 8, 3], [2, 16, 17, 3]]
REPLIES = [[6, 10, 14, 5, 19, 8], [15, 4, 1], [9, 18, 7, 12, 1], [1]]
GROUPED = [PROMPTS[2]] * 3 + [PROMPTS[1]] * 3
SIBLINGS = [[6, 11, 1], [14, 5, 5, 10, 1], [9, 1], [17, 8, 4, 12, 19], [13, 1], [16, 7, 18, 1]]
CHOSEN = [[2, 7, 9, 3, 6, 10, 1], [2, 5, 3, 15, 1], [4, 1, 2, 8, 3, 12, 7, 1], [2, 16, 3, 9, 1]]
REJECTED = [[2, 7, 9, 3, 14, 1], [2, 5, 3, 4, 19, 11, 18, 6, 13], [4, 1, 2, 8, 3, 1],
            [2, 16, 3, 17, 10, 5, 1]]


def model(rng, scalar_head=False) -> Model:
    params = initialize(CONFIG, rng=rng, dtype="float64")
    if scalar_head:
        params = with_scalar_head(params, rng=rng)
    params.flat += 0.35 * rng.standard_normal(params.flat.shape)
    return Model(params, CONFIG)


def near(other: Model, distance: float, rng) -> Model:
    params = copy(other.params)
    params.flat += distance * rng.standard_normal(params.flat.shape)
    return Model(params, CONFIG)


def released(name: str, seed: int | None = None) -> tuple[dict, dict, StepSettings]:
    """The models, the batch and the settings of a released trace."""
    rng = np.random.default_rng([SEEDS[name] if seed is None else seed, list(STEPS).index(name)])
    norm = UNCLIPPED.get(name, SETTINGS.max_grad_norm)
    settings = StepSettings(**{**vars(SETTINGS), "max_grad_norm": norm})
    if name == "reward_model_step":
        rows, masks = pad_right(CHOSEN + REJECTED)
        n = len(CHOSEN)
        return {"reward": model(rng, True)}, {
            "chosen": rows[:n], "chosen_mask": masks[:n],
            "rejected": rows[n:], "rejected_mask": masks[n:]}, settings
    sampler, value = model(rng), model(rng, True)
    models = {"policy": near(sampler, 0.05, rng), "reference": near(sampler, 0.1, rng),
              "reward": model(rng, True)}
    prompts, replies = (PROMPTS, REPLIES) if name == "ppo_step" else (GROUPED, SIBLINGS)
    (left, left_mask), (right, mask) = pad_left(prompts), pad_right(replies)
    batch = {"sequences": np.concatenate([left, right], axis=1),
             "sequence_mask": np.concatenate([left_mask, mask], axis=1), "mask": mask}
    older = {"policy": sampler}
    if name == "ppo_step":
        models["value"], older["value"] = near(value, 0.03, rng), value
    e = Environment(STEPS[name], {**older, **vars(settings), **batch})
    batch["old_logprobs"] = e["logprobs"]
    if name == "ppo_step":
        batch["old_values"] = e["values"]
    return models, batch, settings

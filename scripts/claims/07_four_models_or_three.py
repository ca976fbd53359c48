"""Claim 07: four models in memory against three: bytes and seconds.

    python scripts/claims/07_four_models_or_three.py [--quick] [--seeds 5]
"""

import time
import tracemalloc

from experiment import Claim, Effect, Wanted, main

from minirlhf.memory import held, together
from minirlhf.parameters import copy
from minirlhf.rollout import Models
from minirlhf.stages import group_relative, ppo

STEPS = 3                                                  # that are timed, after one that is not
MIB = 2**20

CLAIM = Claim(
    title="Four models cost more than three",
    question="How many bytes and seconds does it save to have no value model?",
    sentence="This is a big part of why PPO-based RLHF is expensive.",
    prediction="GRPO's models take at least a fifth fewer bytes, counted, than PPO's, and its step "
               "at least a tenth less processor time with as many responses.",
    measure="From the default run's SFT and reward model, both algorithms by turns: the bytes of "
            "all models with gradients and moments, counted as in `minirlhf/memory.py`; the peak "
            f"of what Python allocates in a step; and the processor seconds of {STEPS} steps. One "
            "number a seed, which does not depend on the prompts. At this size the peak is mostly "
            "the backward pass's, which both have.",
    runs={"run": Wanted("reward")},
    effects=(
        Effect("bytes", "share of the models' bytes, counted, that GRPO does without",
               lambda m: 1 - m["GRPO bytes"] / m["PPO bytes"], smallest=0.2),
        Effect("seconds", "share of a step's processor seconds that GRPO does without",
               lambda m: 1 - m["GRPO seconds"] / m["PPO seconds"], smallest=0.1),
        Effect("peak", "share of a step's peak of memory that GRPO does without",
               lambda m: 1 - m["GRPO peak"] / m["PPO peak"])))


class Training:
    """An algorithm at work, step by step."""

    def __init__(self, run, algorithm: str):
        config, sft, reward = run.config, run.load("sft"), run.load("reward")
        models = Models(copy(sft), copy(reward) if algorithm == "ppo" else None, reward, sft)
        given = dict(seed=config.seed, shards=config.shards)
        self.steps = (
            ppo.train(models, run.model, run.draw_prompts, config.ppo, **given)
            if algorithm == "ppo" else group_relative.train(
                models, run.model, run.draw_prompts, config.ppo, config.group,
                algorithm=algorithm, **given))

    def step(self) -> float:
        """Processor seconds."""
        begun = time.process_time()
        next(self.steps)
        return time.process_time() - begun


def peak(run, algorithm: str) -> float:
    """The most MiB that Python has allocated at once, from loading the models to a step's end."""
    tracemalloc.start()
    try:
        Training(run, algorithm).step()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def measure(runs, split):
    run = runs["run"].run
    sizes = {"policy": run.load("sft").flat.size, "value": run.load("reward").flat.size,
             "reward": run.load("reward").flat.size, "reference": run.load("sft").flat.size}
    numbers = {}
    for name in ("PPO", "GRPO"):
        numbers |= {f"{name} bytes": together(held(name.lower(), sizes)) / MIB,
                    f"{name} peak": peak(run, name.lower()), f"{name} seconds": 0.0}
    by_turns = {name: Training(run, name.lower()) for name in ("PPO", "GRPO")}
    for number in range(STEPS + 1):
        for name, training in by_turns.items():
            seconds = training.step()
            numbers[f"{name} seconds"] += seconds if number else 0.0
    return {name: {"a step": number} for name, number in numbers.items()}


if __name__ == "__main__":
    main(__file__)

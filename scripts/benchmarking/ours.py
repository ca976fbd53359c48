"""This package's side of the comparisons."""

from pathlib import Path

import numpy as np
from benchmarking import tasks

from minirlhf.host import make_ready
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import copy
from minirlhf.rollout import Models
from minirlhf.sampling import sample
from minirlhf.stages import ppo as stage
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import next_token_loss
from minirlhf.stages.training import update
from minirlhf.transformer import load


def step(task: dict):
    """A step of pretraining on one batch; returns its loss."""
    make_ready()
    params, config = load(Path(task["folder"], "policy"))
    state, tokens = adamw_state(params), tasks.batch(task)
    count = tokens[:, 1:].size
    parts = [(config, part, count) for part in np.array_split(tokens, task["shards"]) if len(part)]

    def once():
        loss, _ = update(next_token_loss, params, state, tasks.LR, tasks.MAX_GRAD_NORM, parts)
        return loss
    return once


def rollout(task: dict):
    """Greedy replies to a batch of prompts; returns their tokens."""
    make_ready()
    params, config = load(Path(task["folder"], "policy"))
    prompts, rng = tasks.prompts(task).tolist(), np.random.default_rng(0)

    def once():
        return sample(params, config, prompts, tasks.ROLLOUT_NEW, rng=rng, temperature=0).tokens
    return once


def ppo(task: dict):
    """A step of the PPO stage; returns how many updates it made, and how long replies were."""
    make_ready()
    policy, model = load(Path(task["folder"], "policy"))
    critic, _ = load(Path(task["folder"], "value"))
    models = Models(policy, critic, reward=copy(critic), reference=copy(policy))
    config = PPOConfig(steps=10**6, batch_size=task["batch"], max_new=tasks.PPO_NEW,
                       epochs=tasks.PPO_EPOCHS, minibatches=tasks.PPO_MINIBATCHES,
                       lr_policy=tasks.LR, lr_value=tasks.LR, clip_ratio=tasks.CLIP,
                       clip_value=tasks.CLIP, gamma=tasks.GAMMA, lam=tasks.LAM, beta=tasks.BETA,
                       max_grad_norm=tasks.MAX_GRAD_NORM)

    def draw(n, rng):
        return rng.integers(task["vocab"], size=(n, tasks.PROMPT)).tolist()
    state = stage.initial_state(models, config)
    steps = stage.train(models, model, draw, config, seed=0, state=state, shards=task["shards"])

    def once():
        before = state["policy"]["step"]
        numbers = next(steps)
        return {"updates": state["policy"]["step"] - before, "length": float(numbers["length"])}
    return once


def peak(task: dict):
    """A product of two square matrices, on the threads of the BLAS itself."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((task["side"],) * 2).astype(np.float32) for _ in range(2))
    return lambda: a @ b


def versions() -> dict[str, str]:
    return {"NumPy": np.__version__}


def libraries() -> list[str]:
    """BLAS and threads in this process, as threadpoolctl sees them; else as NumPy tells."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        from minirlhf.environment import blas
        return [", ".join(blas().values())]
    return [describe(pool) for pool in threadpool_info()]


def describe(pool: dict) -> str:
    """A library of threadpoolctl's list in words."""
    words = (pool["internal_api"], pool.get("version"), pool.get("architecture"),
             f"{pool['num_threads']} threads")
    return ", ".join(str(word) for word in words if word)

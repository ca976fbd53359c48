"""What the tests of reinforcement learning share: four tiny models, prompts, and rollouts."""

import numpy as np
from models import random_model

from minirlhf.kl_penalty import exact_kl
from minirlhf.parameters import copy
from minirlhf.rollout import Models, Rollout, collect
from minirlhf.tokens import BOT, USER
from minirlhf.transformer import logits

PROMPTS = [[USER, 4, BOT], [USER, 5, 6, 7, BOT], [USER, BOT], [USER, 8, 9, BOT]] * 2


def four_models(dtype="float64", apart=0.0):
    """Four models of one configuration; `apart` moves the policy away from its reference."""
    reference, model = random_model(vocab=14, dtype=dtype, spread=0.15)
    reward, _ = random_model(vocab=14, dtype=dtype, scalar_head=True, seed=1)
    policy = copy(reference)
    policy.flat += apart * np.random.default_rng(2).standard_normal(policy.flat.shape).astype(dtype)
    return Models(policy, copy(reward), reward, reference), model


def draw_prompts(n, rng):
    return [PROMPTS[i] for i in rng.integers(len(PROMPTS), size=n)]


def rollout_of(models, model, seed=0, prompts=PROMPTS, **settings):
    return collect(models, model, prompts, 8, rng=np.random.default_rng(seed), **settings)


def one_row(**arrays):
    """A rollout of one response of two tokens, by hand."""
    row = {"sequences": np.array([[USER, BOT, 5, 1]]), "sequence_mask": np.ones((1, 4), bool),
           "mask": np.ones((1, 2), bool), "logprobs": np.array([[-1.0, -2.0]]),
           "ref_logprobs": np.array([[-1.5, -1.0]]), "values": np.array([[0.5, 1.0]]),
           "scores": np.array([2.0])}
    return Rollout(**row | arrays)


def bandit(monkeypatch, train):
    """One prompt, one token a reply; the reward model pays 1 for token 7 and nothing else.

    train(models, model, draw_prompts) gives the rows of its steps.  Returns p(7) before and after,
    the exact KL to the reference after, and the mean score of each step.
    """
    def pay(params, config, rows):
        return np.array([float(row[2] == 7) for row in rows])

    monkeypatch.setattr("minirlhf.rollout.score_replies", pay)
    models, model = four_models()
    rows = train(models, model, lambda n, rng: [[USER, BOT]] * n)
    before, after = (logits(params, model, np.array([[USER, BOT]]))[0, -1]
                     for params in (models.reference, models.policy))
    p = [float(np.exp(z - z.max())[7] / np.exp(z - z.max()).sum()) for z in (before, after)]
    return p, float(exact_kl(after, before)), [row["score"] for row in rows]

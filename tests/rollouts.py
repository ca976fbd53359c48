"""What the tests of reinforcement learning share: four tiny models, prompts, and rollouts."""

from dataclasses import fields

import numpy as np
from models import disturb, random_model, row_logits

from minirlhf.kl_penalty import exact_kl
from minirlhf.parameters import copy
from minirlhf.rollout import Models, Rollout, collect
from minirlhf.tokens import BOT, USER

PROMPTS = [[USER, 4, BOT], [USER, 5, 6, 7, BOT], [USER, BOT], [USER, 8, 9, BOT]] * 2


def four_models(backend, dtype="float64", apart=0.0):
    """Four models of one configuration; `apart` moves the policy away from its reference."""
    reference, model = random_model(backend, vocab=14, dtype=dtype, spread=0.15)
    reward, _ = random_model(backend, vocab=14, dtype=dtype, scalar_head=True, seed=1)
    policy = copy(reference)
    disturb(policy, apart, seed=2)
    return Models(policy, copy(reward), reward, reference), model


def draw_prompts(n, rng):
    return [PROMPTS[i] for i in rng.integers(len(PROMPTS), size=n)]


def rollout_of(models, model, seed=0, prompts=PROMPTS, **settings):
    return collect(models, model, prompts, 8, rng=np.random.default_rng(seed), **settings)


def map_arrays(function, rollout):
    """The rollout of function(array): `host` fetches it, `backend.asarray` brings it there."""
    arrays = (getattr(rollout, field.name) for field in fields(rollout))
    return Rollout(*(None if array is None else function(array) for array in arrays))


def one_row(backend, **arrays):
    """A rollout of one response of two tokens, by hand."""
    row = {"sequences": np.array([[USER, BOT, 5, 1]]), "sequence_mask": np.ones((1, 4), bool),
           "mask": np.ones((1, 2), bool), "logprobs": np.array([[-1.0, -2.0]]),
           "ref_logprobs": np.array([[-1.5, -1.0]]), "values": np.array([[0.5, 1.0]]),
           "scores": np.array([2.0])}
    return map_arrays(backend.asarray, Rollout(**row | arrays))


def bandit(backend, monkeypatch, train):
    """One prompt, one token a reply; the reward model pays 1 for token 7 and nothing else.

    train(models, model, draw_prompts) gives the rows of its steps.  Returns p(7) before and after,
    the exact KL to the reference after, and the mean score of each step.
    """
    def pay(params, config, rows):
        return backend.asarray(np.array([float(row[2] == 7) for row in rows]))

    monkeypatch.setattr("minirlhf.rollout.score_replies", pay)
    models, model = four_models(backend)
    rows = train(models, model, lambda n, rng: [[USER, BOT]] * n)
    before, after = (row_logits(params, model, backend, [USER, BOT])[-1]
                     for params in (models.reference, models.policy))
    p = [float(np.exp(z - z.max())[7] / np.exp(z - z.max()).sum()) for z in (before, after)]
    return p, float(exact_kl(after, before)), [row["score"] for row in rows]

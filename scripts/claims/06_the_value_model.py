"""Claim 06: the value model reduces the variance of the policy's gradient.

    python scripts/claims/06_the_value_model.py [--quick] [--seeds 5]

A reply's part of the gradient is g = −Σ_t A_t ∇log π(y_t).  With the returns G_t, penalised rewards
from token t on,

    none    A = G                the plain policy gradient (Williams 1992)
    mean    A = G − Ḡ            a constant: the mean return of all tokens of all replies
    value   A = G − V            what a value model expected
    GAE     A = GAE(λ = 0.95)    what PPO uses by default

The first three have one mean, since what is subtracted does not depend on the token chosen (but
for a reply's own share in Ḡ, one in hundreds).  The variance is that of g between replies to one
prompt, summed over the parameters.
"""

import numpy as np
from experiment import Claim, Effect, Wanted, main

from minirlhf.arrays import to_host
from minirlhf.autograd import value_and_grad
from minirlhf.gae import gae
from minirlhf.kl_penalty import penalized_rewards
from minirlhf.ops import masked_mean
from minirlhf.rollout import Models, collect, response_logprobs
from minirlhf.stages.training import Stage

BASELINES = ("none", "mean", "value", "GAE")
REPLIES = 4                                                # to each prompt
EVERY = {"test": 1, "train": 3}                            # which prompt is asked

CLAIM = Claim(
    title="The value model makes the gradient less noisy",
    question="How much of the gradient's variance does the value model take away?",
    sentence="It uses a clipped surrogate objective to prevent the policy from changing too much "
             "in one update, and an advantage estimate (how much better an action is than "
             "expected) to reduce variance.",
    prediction="At the end of the default run, replies to one prompt give gradients that differ "
               "less if what the value model expected is subtracted from their returns.",
    measure="The variance of a reply's gradient between replies to one prompt, summed over all "
            "parameters: with the return as it is, less the mean return, less the value model's "
            "expectation, and with GAE. Four replies to each test prompt and to every third "
            "training prompt, the same for all four.",
    runs={"policy": Wanted("policy")},
    effects=(
        Effect("value", "share of the variance that the value model takes away",
               lambda m: 1 - m["value"] / m["none"], smallest=0.1),
        Effect("than mean", "share of what is left after the mean that it takes away",
               lambda m: 1 - m["value"] / m["mean"]),
        Effect("GAE", "share of the variance that GAE takes away",
               lambda m: 1 - m["GAE"] / m["none"])))


def returns_of(rollout, config) -> tuple:
    """The returns G, what of them the value model did not foresee, and the same by GAE, (B, R)."""
    rewards = penalized_rewards(rollout.scores, rollout.logprobs, rollout.ref_logprobs,
                                rollout.mask, config.beta)
    unforeseen, returns = gae(rewards, rollout.values, rollout.mask, config.gamma, 1.0)
    usual, _ = gae(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
    return returns, unforeseen, usual


def advantages(rollouts, config) -> list[dict]:
    """{baseline: A, (B, R)} of each rollout; the mean is that of all of them."""
    found = [returns_of(rollout, config) for rollout in rollouts]
    tokens = sum(int(rollout.mask.sum()) for rollout in rollouts)
    mean = sum(float((G * rollout.mask).sum())
               for (G, *_), rollout in zip(found, rollouts, strict=True)) / tokens
    return [{"none": G, "mean": (G - mean) * rollout.mask, "value": unforeseen, "GAE": usual}
            for (G, unforeseen, usual), rollout in zip(found, rollouts, strict=True)]


def spread(gradients: np.ndarray) -> float:
    """The variance of some rows, (K, P), summed over what they are made of."""
    return float(((gradients - gradients.mean(axis=0)) ** 2).sum() / (len(gradients) - 1))


def measure(runs, split):
    run = runs["policy"].run
    models = Models(*(run.load(name) for name in ("policy", "value", "reward", "sft")))
    prompts = [row["prompt"] for row in run.source.prompts() if row["split"] == split]
    prompts = prompts[::EVERY[split]]
    rollouts = [collect(models, run.model, [run.tokenizer.prompt(prompt)] * REPLIES,
                        run.config.ppo.max_new, rng=run.rng(Stage.EVALUATE, number),
                        temperature=run.config.ppo.temperature)
                for number, prompt in enumerate(prompts)]
    gradient = value_and_grad(loss)
    columns = {name: {} for name in BASELINES}
    for prompt, rollout, found in zip(prompts, rollouts, advantages(rollouts, run.config.ppo),
                                      strict=True):
        for name, A in found.items():
            rows = [gradient(models.policy, run.model,
                             rollout.part(np.array([i]), int(rollout.mask[i].sum())), A[i:i + 1],
                             run.config.ppo.temperature)[1].flat for i in range(REPLIES)]
            columns[name][prompt] = spread(np.stack([to_host(row) for row in rows]))
    return columns


def loss(params, model, one, A, temperature):
    """−Σ_t A_t log π(y_t) of a reply."""
    width = one.mask.shape[1]
    logprobs = response_logprobs(params, model, one.sequences, one.sequence_mask, width,
                                 temperature)
    return -masked_mean(logprobs * A[:, :width], one.mask, 1)


if __name__ == "__main__":
    main(__file__)

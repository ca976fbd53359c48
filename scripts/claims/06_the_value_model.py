"""Claim 06: the value model reduces the variance of the policy's gradient.

    python scripts/claims/06_the_value_model.py [--quick] [--seeds 5]

A reply's part of the gradient is g = −Σ_t A_t ∇log π(y_t).  With the returns G_t, penalised rewards
from token t on,

    none    A = G                the plain policy gradient (Williams 1992)
    mean    A = G − Ḡ            a constant: the mean return of all tokens
    value   A = G − V            what a value model expected
    GAE     A = GAE(λ = 0.95)    what PPO uses by default

The first three have one mean, whatever is subtracted.  The variance is that of g between replies
to one prompt, summed over the parameters.
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
REPLIES = {"test": 4, "train": 2}                          # to each prompt
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
            "expectation, and with GAE. The same sampled replies for all four.",
    runs={"policy": Wanted("policy")},
    effects=(
        Effect("value", "share of the variance that the value model takes away",
               lambda m: 1 - m["value"] / m["none"], smallest=0.1),
        Effect("than mean", "share of what is left after the mean that it takes away",
               lambda m: 1 - m["value"] / m["mean"]),
        Effect("GAE", "share of the variance that GAE takes away",
               lambda m: 1 - m["GAE"] / m["none"])))


def advantages(rollout, config) -> dict:
    """{baseline: A, (B, R)}."""
    rewards = penalized_rewards(rollout.scores, rollout.logprobs, rollout.ref_logprobs,
                                rollout.mask, config.beta)
    left, returns = gae(rewards, rollout.values, rollout.mask, config.gamma, 1.0)
    usual, _ = gae(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
    return {"none": returns, "mean": returns - masked_mean(returns, rollout.mask), "value": left,
            "GAE": usual}


def spread(gradients: np.ndarray) -> float:
    """The variance of some rows, (K, P), summed over what they are made of."""
    return float(((gradients - gradients.mean(axis=0)) ** 2).sum() / (len(gradients) - 1))


def measure(runs, split):
    run, k = runs["policy"].run, REPLIES[split]
    models = Models(*(run.load(name) for name in ("policy", "value", "reward", "sft")))
    prompts = [row["prompt"] for row in run.source.prompts() if row["split"] == split]
    prompts = prompts[::EVERY[split]]
    gradient = value_and_grad(loss)
    columns = {name: {} for name in BASELINES}
    for number, prompt in enumerate(prompts):
        rollout = collect(models, run.model, [run.tokenizer.prompt(prompt)] * k,
                          run.config.ppo.max_new, rng=run.rng(Stage.EVALUATE, number),
                          temperature=run.config.ppo.temperature)
        for name, A in advantages(rollout, run.config.ppo).items():
            rows = [gradient(models.policy, run.model,
                             rollout.part(np.array([i]), int(rollout.mask[i].sum())),
                             A[i:i + 1], run.config.ppo.temperature)[1].flat for i in range(k)]
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

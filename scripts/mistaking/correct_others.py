"""More of the correct adapter: functions about what other systems do, each under one convention.

They are apart from `correct.py`, which follows this package's own conventions and no other.
"""

import numpy as np
from mistaking.correct import log_softmax, slopes_of

framework = "numpy"


def nucleus_logprobs(logits, tokens, temperature, top_p):
    logp = log_softmax(logits[:, :-1] / temperature)
    order = np.argsort(-np.real(logp), axis=-1, kind="stable")
    p = np.exp(np.take_along_axis(np.real(logp), order, axis=-1))
    above = np.insert(np.cumsum(p, axis=-1)[..., :-1], 0, 0, axis=-1)      # mass of the likelier
    kept = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(kept, order, above < top_p, axis=-1)
    mass = np.where(kept, np.exp(logp), 0).sum(axis=-1)
    token = np.take_along_axis(logp, tokens[:, 1:, None], axis=-1)[..., 0]
    sampled = np.take_along_axis(kept, tokens[:, 1:, None], axis=-1)[..., 0]
    return np.where(sampled, token - np.log(mass), -np.inf)


def score_without_end(scores, ended, penalty):
    return np.where(ended, scores, scores - penalty)


def reward_to_go(rewards, mask, gamma):
    rewards = np.where(mask, rewards, 0)
    returns, later = np.zeros(rewards.shape), 0.0
    for t in reversed(range(rewards.shape[1])):
        later = rewards[:, t] + gamma * later
        returns[:, t] = later
    return returns


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    above = np.where(chosen_mask, chosen - ref_chosen, 0).sum(axis=1)
    below = np.where(rejected_mask, rejected - ref_rejected, 0).sum(axis=1)
    gap = above - below
    return ((gap - 1 / (2 * beta)) ** 2).mean()


nucleus_logprobs_grad = slopes_of(nucleus_logprobs, "logits")
ipo_loss_grad = slopes_of(ipo_loss, "chosen", "rejected")

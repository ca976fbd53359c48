"""Claim 04: preferred replies become more likely, the others less.

    python scripts/claims/04_more_likely_and_less.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main

CLAIM = Claim(
    title="Good replies become more likely, bad ones less",
    question="Do the good replies among those compared gain, and the bad ones lose?",
    sentence="In simple words, we let the model generate responses, we ask humans which response "
             "is better, and we update the model so that its future responses look more like the "
             "preferred ones.",
    prediction="Of the replies that labelers compared, all of them the SFT model's own, the best "
               "to a prompt gains probability under the policy, the worst loses some, and the gain "
               "grows with the rank between.",
    measure="log π(reply) − log π_SFT(reply) in nats, π the policy of the default run, of every "
            "distinct reply to a prompt in the preference data; its slope over the reply's rank by "
            "gold, from 0, the worst, to 1, the best, equals sharing a rank; and its mean over the "
            "best and over the worst. On test prompts nothing was trained. Prompts whose replies "
            "are all worth the same are left out, and of a training prompt the first time that it "
            "was asked is taken. Replies that were sampled from one model lose on average whatever "
            "another has learned (their mean loss is a KL), so beside it stands how the best's "
            "share of the probability of all that were compared has changed.",
    runs={"policy": Wanted("policy")},
    effects=(
        Effect("slope", "gain of the best over the worst, by the slope (nats)",
               lambda m: m["slope"], smallest=0.4),
        Effect("best", "gain of the best (nats)", lambda m: m["best"], smallest=0.0),
        Effect("worst", "loss of the worst (nats)", lambda m: -m["worst"], smallest=0.0),
        Effect("by score", "the same slope over the rank by the reward model",
               lambda m: m["slope by score"]),
        Effect("share", "the best's share of the probability of the compared, after − before",
               lambda m: m["share"])))


def ranks(values) -> np.ndarray:
    """From 0, the lowest, to 1, the highest; equals share the mean of their ranks."""
    values = np.round(values, 9)                                 # sums of parts, in any order
    below = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    return (below + (equal - 1) / 2) / (len(values) - 1)


def slope(x, y) -> float:
    """Of the least-squares line; 0 where x has one value."""
    x = x - x.mean()
    return float(x @ y / (x @ x)) if x.any() else 0.0


def share(logprobs, best) -> float:
    """Of some replies' probability, the share of the best."""
    p = np.exp(logprobs - logprobs.max())
    return float(p[best].sum() / p.sum())


def measure(runs, split):
    columns = {"slope": {}, "best": {}, "worst": {}, "slope by score": {}, "share": {}}
    rows = runs["policy"].compared(split)
    before, after = (runs["policy"].logprobs(model, rows) for model in ("sft", "policy"))
    gain = after - before
    gold, score = (np.array([row[key] for row in rows]) for key in ("gold", "score"))
    for prompt in by_prompt(rows, "gold"):
        here = np.array([row["prompt"] == prompt for row in rows])
        rank, moved = ranks(gold[here]) if here.sum() > 1 else np.zeros(1), gain[here]
        if rank.max() > rank.min():
            columns["slope"][prompt] = slope(rank, moved)
            columns["best"][prompt] = float(moved[rank == rank.max()].mean())
            columns["worst"][prompt] = float(moved[rank == rank.min()].mean())
            columns["slope by score"][prompt] = slope(ranks(score[here]), moved)
            columns["share"][prompt] = (share(after[here], rank == rank.max())
                                        - share(before[here], rank == rank.max()))
    return columns


if __name__ == "__main__":
    main(__file__)

"""Claim 03: only the gap between two scores matters, and more pairs make a better reward model.

    python scripts/claims/03_pairs_and_gap.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, main, of_pairs

from minirlhf.bradley_terry import bradley_terry_loss

PROMPTS = (100, 500, 2000)                                 # drawn to be compared

CLAIM = Claim(
    title="Only the gap matters, and more pairs tell it better",
    question="Does the level of the scores change nothing, and does the order get better with the "
             "number of comparisons?",
    sentence="The exact numbers do not matter, only the gap: A scores higher than B.",
    prediction="Adding 10 to all scores changes the loss of no pair. Of held-out pairs, a reward "
               "model that learned from comparisons to 2000 prompts puts more in the labelers' "
               "order than one that learned from those to 100.",
    measure="The share of the default run's held-out comparisons whose chosen reply has the higher "
            "score, equals counting half, by the reward models of three runs that differ in the "
            "number of prompts compared and are trained for as many steps. (With replacement: 100, "
            "500 and 2000 are some 80, 280 and 460 prompts, with 250, 1200 and 4800 pairs of "
            "distinct replies.) For the gap, the Bradley-Terry loss of each pair before and after "
            "10 is added to both of its scores.",
    runs={str(n): Wanted("reward", {"preferences.prompts": n}) for n in PROMPTS},
    effects=(
        Effect("more pairs", "share in order, 2000 prompts − 100",
               lambda m: m["right 2000"] - m["right 100"], smallest=0.02),
        Effect("level", "0.001 less what a level of 10 changes in the loss (nats)",
               lambda m: 1e-3 - m["level"]),
        Effect("first 400", "share in order, 500 prompts − 100",
               lambda m: m["right 500"] - m["right 100"]),
        Effect("scale", "what doubling all scores changes in the loss (nats)",
               lambda m: m["scale"])))


def losses(chosen, rejected) -> np.ndarray:
    """The loss of each pair."""
    return np.array([float(bradley_terry_loss(*pair)) for pair in zip(
        chosen[:, None].astype(np.float32), rejected[:, None].astype(np.float32), strict=True)])


def measure(runs, split):
    pairs = runs["2000"].pairs(split)
    scores = runs["2000"].sides(pairs)
    plain, level, scale = (losses(*(change(side) for side in scores)) for change in (
        lambda s: s, lambda s: s + 10, lambda s: 2 * s))
    columns = {f"right {n}": of_pairs(pairs, runs[str(n)].right(pairs)) for n in PROMPTS}
    return columns | {"level": of_pairs(pairs, abs(level - plain)),
                      "scale": of_pairs(pairs, abs(scale - plain))}


def draw(axes, result):
    for split, color in (("test", "C0"), ("train", "0.55")):
        lines = np.array([result["means"][split][f"right {n}"] for n in PROMPTS])
        axes.plot(PROMPTS, lines, color=color, linewidth=0.7, alpha=0.5)
        axes.plot(PROMPTS, lines.mean(axis=1), "o-", color=color, label=f"{split} prompts")
    axes.set(xscale="log", xlabel="prompts compared", title="share of pairs in the labelers' order")
    axes.set_xticks(PROMPTS, PROMPTS)
    axes.legend()


if __name__ == "__main__":
    main(__file__)

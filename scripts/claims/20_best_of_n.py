"""Claim 20: at equal KL, choosing the best of n replies gets more than training for the score.

    python scripts/claims/20_best_of_n.py [--quick] [--seeds 5]

How far best-of-n is from the SFT model has an upper bound, log n − (n − 1)/n nats (Beirami et al.
2024), and PPO's gain at that distance is read off the line through its policies, by β, from the SFT
model on.  Taking the bound for the distance favours PPO; a straight line below a curve that bends,
best-of-n.
"""

from math import log

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main

BETAS = (0.5, 0.2, 0.1, 0.03)                              # from near to far
NUMBERS = (2, 4, 8, 16)


def distance(n: int) -> float:
    """The most nats that best-of-n can be away."""
    return log(n) - (n - 1) / n


def at_distance(m, key: str, kl: float):
    """PPO's number at a distance: on the line through SFT (0 nats) and its policies, in order of
    their distance; beyond the last, the last one's.  Entry by entry."""
    d = np.stack([0 * m[f"{key} SFT"], *(m[f"kl {beta}"] for beta in BETAS)], axis=-1)
    y = np.stack([m[f"{key} SFT"], *(m[f"{key} {beta}"] for beta in BETAS)], axis=-1)
    order = np.argsort(d, axis=-1)
    d, y = np.take_along_axis(d, order, -1), np.take_along_axis(y, order, -1)
    found = y[..., -1]
    for i in reversed(range(len(BETAS))):
        width = np.maximum(d[..., i + 1] - d[..., i], 1e-9)
        share = np.clip((kl - d[..., i]) / width, 0, 1)
        found = np.where(kl <= d[..., i + 1], y[..., i] + share * (y[..., i + 1] - y[..., i]),
                         found)
    return found


def ahead(key: str, n: int):
    """The effect: best-of-n above PPO at its distance."""
    return lambda m: m[f"{key} best of {n}"] - at_distance(m, key, distance(n))


CLAIM = Claim(
    title="At equal KL, best-of-n gets more than PPO",
    question="There is a way to higher scores without any training, of which the article does not "
             "speak: does PPO get as much out of a nat as choosing the best of n SFT replies?",
    sentence="It is because the model figured out, through trial and reward, what answers earn "
             "higher scores.",
    prediction="So the field (Gao et al. 2023), not the article: at the distance of best-of-4, "
               "PPO's policy has a lower score, and less gold, than the best of 4 SFT replies by "
               "the reward model.",
    measure="Score and gold of best-of-n for n = 2, 4, 8 and 16, and of PPO's policies with "
            "β = 0.5, 0.2, 0.1 and 0.03 (60 steps) at the KL that bounds best-of-n's, on the line "
            "through their points.",
    runs={f"beta {beta}": Wanted("policy", {"ppo.beta": beta, "ppo.steps": 60}) for beta in BETAS},
    effects=(
        Effect("score", "score, best of 4 − PPO at its KL", ahead("score", 4), smallest=0.0),
        Effect("gold", "gold, best of 4 − PPO at its KL", ahead("gold", 4), smallest=0.0),
        Effect("score, 16", "score, best of 16 − PPO at its KL", ahead("score", 16)),
        Effect("gold, 16", "gold, best of 16 − PPO at its KL", ahead("gold", 16))),
    known="PPO's policies, from claim 09, and best-of-16, from docs/compared.md")


def measure(runs, split):
    first = runs[f"beta {BETAS[0]}"]
    rows = {"SFT": first.replies("sft", split)}
    rows |= {f"best of {n}": first.replies(f"best-of-{n}", split) for n in NUMBERS}
    rows |= {f"{beta}": runs[f"beta {beta}"].replies("policy", split) for beta in BETAS}
    return {f"{key} {name}": by_prompt(said, key) for name, said in rows.items()
            for key in ("score", "gold", "kl")}


def draw(axes, result):
    means = {name: np.array(values) for name, values in result["means"]["test"].items()}
    for key, color in (("score", "C1"), ("gold", "C0")):
        start = means[f"{key} SFT"]
        for names, mark, title in (([f"best of {n}" for n in NUMBERS], "o", "best of n"),
                                   ([str(beta) for beta in BETAS], "s", "PPO")):
            kl = [0, *(means[f"kl {name}"].mean() for name in names)]
            gain = [0, *((means[f"{key} {name}"] - start).mean() for name in names)]
            axes.plot(kl, gain, mark + ("-" if mark == "o" else "--"), color=color,
                      label=f"{key}, {title}")
    axes.set(xlabel="KL to the SFT model (nats; of best of n, its bound)", xscale="symlog",
             title="gain over SFT, test prompts, means of seeds")
    axes.legend(fontsize="small")


if __name__ == "__main__":
    main(__file__)

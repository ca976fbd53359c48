"""Claim 09: without the KL penalty the policy collapses.

    python scripts/claims/09_no_kl_collapse.py [--quick] [--seeds 5]

Beside the claim, how gold depends on the distance d = √KL from the SFT model: the form that Gao,
Schulman & Hilton (2023, "Scaling laws for reward model overoptimization") give for reinforcement
learning, gold(d) − gold(0) = d·(a − b·log d), fitted to the six policies of a seed.
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

BETAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.5)


def distances_and_gains(m):
    """d and the gain of gold over SFT, (..., 6).  A sampled KL may lie below 0, just."""
    kl = np.stack([m[f"kl {beta}"] for beta in BETAS], axis=-1)
    gold = np.stack([m[f"gold {beta}"] for beta in BETAS], axis=-1)
    return np.sqrt(np.maximum(kl, 1e-6)), gold - np.asarray(m["gold SFT"])[..., None]


def fitted(d, gain):
    """a and b by least squares: gain = a·d − b·d·log d is linear in them.  (..., 6) -> (...)"""
    x, y = d, -d * np.log(d)
    xx, xy, yy, xg, yg = ((p * q).sum(axis=-1) for p, q in (
        (x, x), (x, y), (y, y), (x, gain), (y, gain)))
    det = np.maximum(xx * yy - xy * xy, 1e-12)           # six equal distances have no fit: 0
    return (xg * yy - yg * xy) / det, (yg * xx - xg * xy) / det


CLAIM = Claim(
    title="Without the KL penalty the policy collapses",
    question="What becomes of a policy that nothing holds to the SFT model?",
    sentence="Without the KL penalty, the model can collapse into nonsense that fools the Reward "
             "Model.",
    prediction="After as many steps, the policy trained with β = 0 is worth clearly less than the "
               "one trained with the default β = 0.2, and less than the SFT model that it started "
               "from, though its score is higher.",
    measure="PPO, 60 steps, with β = 0, 0.01, 0.03, 0.1, 0.2 and 0.5 from the same reward model. "
            "Gold, score and the KL to the SFT model of the last policy. The fit is "
            "d·(a − b·log d) with d = √KL, by least squares over the six policies of a seed.",
    runs={f"beta {beta}": Wanted("policy", {"ppo.beta": beta, "ppo.steps": 60}) for beta in BETAS},
    effects=(
        Effect("penalty", "gold, β = 0.2 less β = 0",
               lambda m: m["gold 0.2"] - m["gold 0.0"], smallest=0.2),
        Effect("collapse", "gold, SFT − β = 0", lambda m: m["gold SFT"] - m["gold 0.0"],
               smallest=0.2),
        Effect("fooled", "score, β = 0 less β = 0.2",
               lambda m: m["score 0.0"] - m["score 0.2"], smallest=0.2),
        Effect("fit: a", "a of the fit", lambda m: fitted(*distances_and_gains(m))[0]),
        Effect("fit: b", "b of the fit, above 0 where gold bends down",
               lambda m: fitted(*distances_and_gains(m))[1])))


def measure(runs, split):
    columns = {"gold SFT": by_prompt(runs["beta 0.0"].replies("sft", split), "gold")}
    for beta in BETAS:
        rows = runs[f"beta {beta}"].replies("policy", split)
        columns |= {f"{key} {beta}": by_prompt(rows, key) for key in ("gold", "score", "kl")}
    return columns


def examples(runs):
    return side_by_side({"SFT": runs["beta 0.0"].replies("sft", "test"),
                         "β = 0.2": runs["beta 0.2"].replies("policy", "test"),
                         "β = 0": runs["beta 0.0"].replies("policy", "test")},
                        falls=("SFT", "β = 0"))


def draw(axes, result):
    """Every policy, and the fit over all of them."""
    means = {name: np.array(values) for name, values in result["means"]["test"].items()}
    d, gain = distances_and_gains(means)
    for i, beta in enumerate(BETAS):
        axes.plot(d[:, i], gain[:, i], "o", color=f"C{i}", label=f"β = {beta:g}")
    a, b = fitted(d.ravel(), gain.ravel())
    x = np.linspace(1e-3, d.max() * 1.05, 200)
    axes.plot(x, x * (a - b * np.log(x)), color="0.3", label="d·(a − b·log d)")
    axes.set(xlabel="d = √KL to the SFT model (√nats)", title="gold less SFT's, test prompts")
    axes.legend(fontsize="small")


if __name__ == "__main__":
    main(__file__)

"""Claim 24: a small β, from 0.01 to 0.05, is a good start.

    python scripts/claims/24_a_small_beta.py [--quick] [--seeds 5]

What a β means depends on the scale of the scores.  Here they are normalised to deviation 1 on SFT
replies, so β is in deviations a nat.  A Bradley-Terry model's own scores are in log-odds: if a
deviation is k of them, β deviations a nat are k·β log-odds a nat.  k is found by a logistic
regression of who was preferred on the gap of the normalised scores.
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main

BETAS = (0.01, 0.03, 0.2)

CLAIM = Claim(
    title="A small β is a good start",
    question="Where does a run end that begins with the β that the article recommends?",
    sentence="I will highly recommend starting with a small beta, around 0.01 to 0.05, and "
             "adjusting based on how the model behaves.",
    prediction="With β = 0.03, in deviations of the score a nat, the policy is worth more than the "
               "SFT model after 60 steps, and at most 0.1 less than with the default, 0.2.",
    measure="PPO, 60 steps, with β = 0.01, 0.03 and 0.2, from one reward model; gold of the last "
            "policies. What a deviation of the score is in log-odds of preference is fitted to "
            "the comparisons, one number a seed.",
    runs={f"beta {beta}": Wanted("policy", {"ppo.beta": beta, "ppo.steps": 60}) for beta in BETAS},
    effects=(
        Effect("above SFT", "gold, β = 0.03 less SFT",
               lambda m: m["gold 0.03"] - m["gold SFT"], smallest=0.0),
        Effect("as the default", "gold, β = 0.03 less β = 0.2",
               lambda m: m["gold 0.03"] - m["gold 0.2"], smallest=-0.1),
        Effect("β = 0.01", "gold, β = 0.01 less SFT",
               lambda m: m["gold 0.01"] - m["gold SFT"]),
        Effect("deviation", "a deviation of the score in log-odds", lambda m: m["log-odds"]),
        Effect("0.05 of log-odds", "β = 0.05 log-odds a nat, in deviations a nat",
               lambda m: 0.05 / m["log-odds"])),
    known="the policies, from claim 09")


def log_odds(gaps: np.ndarray, weights: np.ndarray, rounds: int = 30) -> float:
    """k of the model P(chosen) = σ(k·gap), by Newton's method on −Σ w·log σ(k·gap).

    With p = σ(k·gap), the slope is −Σ w·(1 − p)·gap and its slope Σ w·p·(1 − p)·gap².
    """
    k = 0.0
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-k * gaps))
        k += (weights * (1 - p) * gaps).sum() / max((weights * p * (1 - p) * gaps**2).sum(), 1e-9)
        k = float(np.clip(k, -50, 50))                     # pairs that are all in order have no k
    return k


def measure(runs, split):
    run = runs["beta 0.2"]
    rows = {"SFT": run.replies("sft", split)}
    rows |= {f"{beta}": runs[f"beta {beta}"].replies("policy", split) for beta in BETAS}
    columns = {f"{key} {name}": by_prompt(said, key) for name, said in rows.items()
               for key in ("gold", "score", "kl")}
    pairs = run.pairs(split)
    chosen, rejected = run.sides(pairs)
    counts = {prompt: sum(pair["prompt"] == prompt for pair in pairs) for prompt in
              {pair["prompt"] for pair in pairs}}
    weights = np.array([1 / counts[pair["prompt"]] for pair in pairs])
    return columns | {"log-odds": dict.fromkeys(
        columns["gold SFT"], log_odds(chosen - rejected, weights))}


if __name__ == "__main__":
    main(__file__)

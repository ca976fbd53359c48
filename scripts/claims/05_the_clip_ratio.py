"""Claim 05: the clip ratio bounds how far one update moves the policy.

    python scripts/claims/05_the_clip_ratio.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main

RATIOS = (0.05, 0.1, 0.2, 0.5, 1e9)                        # the last one clips nothing
NAMES = {ratio: "none" if ratio > 1e6 else f"{ratio:g}" for ratio in RATIOS}

CLAIM = Claim(
    title="The clip ratio bounds an update",
    question="How far does one update move the policy, by the clip ratio?",
    sentence="PPO uses a clip ratio (usually around 0.2) which limits how much the new policy can "
             "differ from the previous policy in a single update.",
    prediction="After one rollout and its update, the policy has moved less with a clip ratio of "
               "0.2 than without one, and less with 0.05 than with 0.2.",
    measure="One step of PPO from the SFT model, its rollout used for 8 epochs so that there is "
            "something to bound (the default is 2), without the KL penalty. How far it moved is "
            "the KL to the SFT model, which is the previous policy here, in nats a reply.",
    runs={NAMES[ratio]: Wanted("policy", {
        "ppo.clip_ratio": ratio, "ppo.steps": 1, "ppo.epochs": 8, "ppo.beta": 0.0})
        for ratio in RATIOS},
    effects=(
        Effect("0.2", "share of the unclipped movement that a ratio of 0.2 takes away",
               lambda m: 1 - m["kl 0.2"] / m["kl none"], smallest=0.2),
        Effect("0.05", "share of the movement at 0.2 that a ratio of 0.05 takes away",
               lambda m: 1 - m["kl 0.05"] / m["kl 0.2"], smallest=0.2),
        Effect("0.5", "share of the unclipped movement that a ratio of 0.5 takes away",
               lambda m: 1 - m["kl 0.5"] / m["kl none"]),
        Effect("learned", "gain of score at 0.2, as a share of the unclipped",
               lambda m: (m["score 0.2"] - m["score SFT"]) / (m["score none"] - m["score SFT"]))))


def measure(runs, split):
    columns = {"score SFT": by_prompt(runs["none"].replies("sft", split), "score")}
    for name, run in runs.items():
        rows = run.replies("policy", split)
        columns |= {f"{key} {name}": by_prompt(rows, key) for key in ("kl", "score")}
    return columns


def draw(axes, result):
    lines = np.array([result["means"]["test"][f"kl {name}"] for name in NAMES.values()])
    places = np.arange(len(RATIOS))
    axes.plot(places, lines, color="C0", linewidth=0.7, alpha=0.5)
    axes.plot(places, lines.mean(axis=1), "o-", color="C0")
    axes.set_xticks(places, NAMES.values())
    axes.set(xlabel="clip ratio", title="KL to the previous policy (nats), test prompts")


if __name__ == "__main__":
    main(__file__)

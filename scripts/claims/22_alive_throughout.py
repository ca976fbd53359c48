"""Claim 22: the KL penalty must stay alive: switched off halfway, the policy drifts.

    python scripts/claims/22_alive_throughout.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

CLAIM = Claim(
    title="The KL penalty must stay alive",
    question="Does a policy that was held to the SFT model for a while stay good when it is let "
             "go?",
    sentence="Keep the KL penalty alive throughout training.",
    prediction="After 60 steps, a policy whose penalty was switched off after 30 has a higher "
               "score and is worth less than one whose penalty was kept.",
    measure="PPO with β = 0.2, 60 steps, and the same with β = 0 from step 31 on. Gold, score and "
            "KL of the last policies.",
    runs={"kept": Wanted("policy", {"ppo.steps": 60}),
          "off": Wanted("policy", {"ppo.steps": 60, "ppo.penalty_steps": 30})},
    effects=(
        Effect("gold", "gold, kept − switched off", lambda m: m["gold kept"] - m["gold off"],
               smallest=0.1),
        Effect("score", "score, switched off − kept", lambda m: m["score off"] - m["score kept"],
               smallest=0.1),
        Effect("KL", "KL to SFT, switched off − kept (nats)",
               lambda m: m["kl off"] - m["kl kept"])))


def measure(runs, split):
    return {f"{key} {name}": by_prompt(run.replies("policy", split), key)
            for name, run in runs.items() for key in ("gold", "score", "kl")}


def series(runs):
    """Gold along the steps, on validation prompts."""
    return {"step": [look["step"] for look in runs["kept"].looks()],
            **{name: [look["gold"] for look in run.looks()] for name, run in runs.items()}}


def draw(axes, result):
    steps = result["series"][0]["step"]
    for name, color in (("kept", "C0"), ("off", "C3")):
        lines = np.array([seed[name] for seed in result["series"]])
        axes.plot(steps, lines.T, color=color, linewidth=0.7, alpha=0.5)
        axes.plot(steps, lines.mean(axis=0), color=color, linewidth=2.2, label=name)
    axes.axvline(30, color="0.6", linestyle="--")
    axes.set(xlabel="PPO step", title="gold on validation prompts: each seed, and their mean")
    axes.legend()


def examples(runs):
    said = {name: run.replies("policy", "test") for name, run in runs.items()}
    return side_by_side(said, falls=("kept", "off"))


if __name__ == "__main__":
    main(__file__)

"""Claim 15: the reward model's score is not the truth: it goes on rising where gold falls.

    python scripts/claims/15_the_score_is_not_the_truth.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

CLAIM = Claim(
    title="The reward score is not the truth",
    question="Does what the policy is trained for go on rising where what is wanted falls?",
    sentence="Treating it as if it were the truth leads straight to reward hacking.",
    prediction="A policy that is trained for the score alone, without the KL penalty, passes a "
               "point from which on its score goes on rising while its gold score falls.",
    measure="PPO with β = 0, 60 steps. The peak of gold is found on validation prompts (the policy "
            "kept there is policy-best); from there to the last step, score and gold are measured "
            "on other prompts, so that the peak owes nothing to their luck.",
    runs={"no-kl": Wanted("policy", {"ppo.beta": 0.0, "ppo.steps": 60})},
    effects=(
        Effect("score rises", "score, last step − peak of gold",
               lambda m: m["last score"] - m["peak score"], smallest=0.2),
        Effect("gold falls", "gold, peak − last step",
               lambda m: m["peak gold"] - m["last gold"], smallest=0.2)))


def measure(runs, split):
    columns = {}
    for title, model in (("peak", "policy-best"), ("last", "policy")):
        rows = runs["no-kl"].replies(model, split)
        columns |= {f"{title} {key}": by_prompt(rows, key) for key in ("score", "gold")}
    return columns


def examples(runs):
    run = runs["no-kl"]
    return side_by_side({"SFT": run.replies("sft", "test"),
                         "at the peak": run.replies("policy-best", "test"),
                         "at the end": run.replies("policy", "test")},
                        falls=("at the peak", "at the end"))


def series(runs):
    """Score and gold along the steps, on validation prompts."""
    looks = runs["no-kl"].looks()
    return {key: [look[key] for look in looks] for key in ("step", "score", "gold", "kl")}


def draw(axes, result):
    for key, color in (("score", "C1"), ("gold", "C0")):
        steps = result["series"][0]["step"]
        lines = np.array([seed[key] for seed in result["series"]])
        axes.plot(steps, lines.T, color=color, linewidth=0.7, alpha=0.5)
        axes.plot(steps, lines.mean(axis=0), color=color, linewidth=2.2, label=key)
    axes.set(xlabel="PPO step, β = 0", title="validation prompts: each seed, and their mean")
    axes.legend()


if __name__ == "__main__":
    main(__file__)

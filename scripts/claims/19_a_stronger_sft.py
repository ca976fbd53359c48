"""Claim 19: a stronger SFT model makes reinforcement learning easier and steadier.

    python scripts/claims/19_a_stronger_sft.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main

CLAIM = Claim(
    title="A stronger SFT makes RL easier",
    question="Does reinforcement learning get further, and with fewer falls, from a better start?",
    sentence="Better SFT means easier and more stable RL fine-tuning.",
    prediction="After as many steps, the policy from an SFT model that saw 1000 demonstrations is "
               "worth more than the one from an SFT model that saw 50; on the way, its gold falls "
               "less from the best that it was.",
    measure="Two whole runs, each with comparisons of its own SFT model's replies and a reward "
            "model of its own. Gold of the last policies; and on validation prompts the largest "
            "fall of gold from the best look so far, of looks every 4 steps, one number a seed. "
            "The 50 demonstrations are seen 141 times, the 1000 7 times.",
    runs={"strong": Wanted("policy"),
          "weak": Wanted("policy", {"world.demonstration_count": 50})},
    effects=(
        Effect("higher", "gold of the policy, strong − weak",
               lambda m: m["policy strong"] - m["policy weak"], smallest=0.1),
        Effect("steadier", "largest fall of gold on the way, weak − strong",
               lambda m: m["fall weak"] - m["fall strong"], smallest=0.05),
        Effect("SFT", "gold of the SFT model, strong − weak",
               lambda m: m["sft strong"] - m["sft weak"]),
        Effect("gain", "gold gained over SFT, strong − weak",
               lambda m: m["policy strong"] - m["sft strong"] - m["policy weak"]
               + m["sft weak"])))


def largest_fall(numbers) -> float:
    """How far a series was below the highest that it had been."""
    best, fall = numbers[0], 0.0
    for number in numbers:
        best = max(best, number)
        fall = max(fall, best - number)
    return fall


def measure(runs, split):
    columns = {}
    for name, run in runs.items():
        columns |= {f"{model} {name}": by_prompt(run.replies(model, split), "gold")
                    for model in ("sft", "policy")}
        fall = largest_fall([look["gold"] for look in run.looks()])
        columns[f"fall {name}"] = dict.fromkeys(columns["policy strong"], fall)
    return columns


if __name__ == "__main__":
    main(__file__)

"""Claim 10: with too high a β the policy barely learns anything.

    python scripts/claims/10_too_high_a_beta.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main

BETAS = (0.2, 1.0, 10.0)

CLAIM = Claim(
    title="Too high a β learns nothing",
    question="What is learned where the penalty is strong?",
    sentence="Too high and the model barely learns anything new.",
    prediction="With β = 10 the score rises by less than a quarter of what it rises by with the "
               "default, 0.2.",
    measure="The default run's PPO with β = 0.2, 1 and 10. (The best policy for a β gains about "
            "the scores' variance over β, 0.1 at 10, so that little else can come out there.) How "
            "much the mean score of the policy's replies lies above that of the SFT model's.",
    runs={f"beta {beta:g}": Wanted("policy", {"ppo.beta": beta}) for beta in BETAS},
    effects=(
        Effect("barely", "a quarter of the rise at β = 0.2, less the rise at β = 10 (score)",
               lambda m: 0.25 * m["rise 0.2"] - m["rise 10"], smallest=0.0),
        Effect("default learns", "rise of the score at β = 0.2", lambda m: m["rise 0.2"],
               smallest=0.2),
        Effect("β = 1", "rise of the score at β = 1", lambda m: m["rise 1"]),
        Effect("gold", "gold, β = 0.2 less β = 10", lambda m: m["gold 0.2"] - m["gold 10"])))


def measure(runs, split):
    sft = by_prompt(runs["beta 0.2"].replies("sft", split), "score")
    columns = {}
    for beta in BETAS:
        rows = runs[f"beta {beta:g}"].replies("policy", split)
        columns[f"gold {beta:g}"] = by_prompt(rows, "gold")
        columns[f"rise {beta:g}"] = {
            prompt: score - sft[prompt] for prompt, score in by_prompt(rows, "score").items()}
    return columns


if __name__ == "__main__":
    main(__file__)

"""Claim 12: reinforcement learning that starts from the base model fails.

    python scripts/claims/12_skipping_sft.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

CLAIM = Claim(
    title="Skipping SFT fails",
    question="Does reinforcement learning make an assistant of a base model?",
    sentence="The base model is too far from being a useful assistant, and PPO struggles to find "
             "any good signal.",
    prediction="PPO from the base model ends below PPO from the SFT model, by gold and by the "
               "score that both are trained for, and below the SFT model without any reinforcement "
               "learning.",
    measure="The default run's PPO, and the same with the base model as its start and as what the "
            "KL penalty measures from, with the same reward model, as many steps and the same "
            "template. The base model has never seen the template's tokens, nor has what the KL "
            "penalty measures from: a failure may be theirs, not that of a base model as such.",
    runs={"SFT": Wanted("policy"), "base": Wanted("policy", {"ppo.start": "base"})},
    effects=(
        Effect("gold", "gold, PPO from SFT − PPO from base",
               lambda m: m["gold SFT"] - m["gold base"], smallest=0.2),
        Effect("score", "score, PPO from SFT − PPO from base",
               lambda m: m["score SFT"] - m["score base"], smallest=0.2),
        Effect("below SFT", "gold, SFT alone − PPO from base",
               lambda m: m["gold alone"] - m["gold base"], smallest=0.0)))


def measure(runs, split):
    rows = {name: run.replies("policy", split) for name, run in runs.items()}
    rows["alone"] = runs["SFT"].replies("sft", split)
    return {f"{key} {name}": by_prompt(said, key) for name, said in rows.items()
            for key in ("gold", "score")}


def examples(runs):
    said = {f"PPO from {name}": run.replies("policy", "test") for name, run in runs.items()}
    return side_by_side(said, falls=("PPO from SFT", "PPO from base"))


if __name__ == "__main__":
    main(__file__)

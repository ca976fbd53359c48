"""Claim 08: GRPO, without a value model, reaches what PPO reaches.

    python scripts/claims/08_without_a_critic.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main

CLAIM = Claim(
    title="GRPO does without the value model",
    question="Does a baseline from a group of responses do as well as a value model?",
    sentence="Newer algorithms like GRPO (Group Relative Policy Optimization), used in "
             "DeepSeek-R1, remove the Value Model entirely by computing the baseline from a group "
             "of sampled responses, which brings the count down to three models.",
    prediction="With as many responses and steps, and the same β, the policy that GRPO trained is "
               "worth nearly as much as PPO's, and clearly more than the SFT model.",
    measure="Gold of the default run's policy, and of one trained by GRPO from the same reward "
            "model: 36 steps of 128 responses, for GRPO 4 to each of 32 prompts. Near means that "
            "at most 0.1 of gold is missing.",
    runs={"PPO": Wanted("policy"), "GRPO": Wanted("policy", {"algorithm": "grpo"})},
    effects=(
        Effect("reaches", "gold, GRPO − PPO", lambda m: m["gold GRPO"] - m["gold PPO"],
               smallest=-0.1),
        Effect("learns", "gold, GRPO − SFT", lambda m: m["gold GRPO"] - m["gold SFT"],
               smallest=0.1),
        Effect("score", "score, GRPO − PPO", lambda m: m["score GRPO"] - m["score PPO"])),
    known="both policies of these settings, from docs/compared.md")


def measure(runs, split):
    rows = {"SFT": runs["PPO"].replies("sft", split)}
    rows |= {name: run.replies("policy", split) for name, run in runs.items()}
    return {f"{key} {name}": by_prompt(said, key) for name, said in rows.items()
            for key in ("gold", "score")}


if __name__ == "__main__":
    main(__file__)

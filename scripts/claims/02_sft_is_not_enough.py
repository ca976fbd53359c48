"""Claim 02: what reinforcement learning makes of the SFT model is preferred to it.

    python scripts/claims/02_sft_is_not_enough.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_prompt, main

CLAIM = Claim(
    title="SFT alone is not enough",
    question="Is a reply after reinforcement learning better than the reply before it?",
    sentence="But SFT alone is not enough.",
    prediction="Where the policy of the default run and the SFT model that it started from answer "
               "the same prompt, the policy's reply is the better one by gold in clearly more than "
               "half of the cases.",
    measure="The win rate: how often the policy's reply has the higher gold score, ties counting "
            "half. Both models answer with the same random numbers, and their k-th replies to a "
            "prompt are compared.",
    runs={"policy": Wanted("policy")},
    effects=(
        Effect("win rate", "win rate of PPO over SFT, less one half",
               lambda m: m["win rate"] - 0.5, smallest=0.05),
        Effect("gold", "gold score, PPO − SFT", lambda m: m["PPO gold"] - m["SFT gold"])),
    known="PPO − SFT of the default run, from docs/measured.md")


def measure(runs, split):
    sft, policy = (runs["policy"].replies(model, split) for model in ("sft", "policy"))
    pairs = [{"prompt": a["prompt"], "won": 0.5 + 0.5 * np.sign(a["gold"] - b["gold"])}
             for a, b in zip(policy, sft, strict=True)]
    return {"win rate": by_prompt(pairs, "won"), "PPO gold": by_prompt(policy, "gold"),
            "SFT gold": by_prompt(sft, "gold")}


if __name__ == "__main__":
    main(__file__)

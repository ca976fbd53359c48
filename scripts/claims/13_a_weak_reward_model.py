"""Claim 13: a weak reward model limits everything after it.

    python scripts/claims/13_a_weak_reward_model.py [--quick] [--seeds 5]
"""

import numpy as np
from experiment import Claim, Effect, Wanted, by_gold, by_prompt, main, of_pairs

WEAK = {"small": "of a small model", "few": "from few pairs", "noisy": "from noisy labels"}

CLAIM = Claim(
    title="A weak reward model limits everything",
    question="What does a policy lose that learns from a reward model which is small, poorly "
             "trained, or trained on noisy data?",
    sentence="If it is small, poorly trained, or trained on noisy data, the entire pipeline learns "
             "the wrong thing.",
    prediction="Each of three weak reward models makes a policy that is worth less than the "
               "default run's.",
    measure="Gold of policies trained from one SFT model with the same settings, by the default "
            "reward model and by three others: *small*, a quarter as wide and of one layer, from a "
            "base, an SFT model and comparisons of its own (twice as many pairs: it repeats itself "
            "less), and with a scale from its own SFT model's replies, so that its β is another by "
            "up to a fifth, and with a value model as small as itself; *few*, from comparisons to "
            "50 prompts in place of 2000, in as many steps, so that each is seen 145 times; "
            "*noisy*, from the votes of one careless labeler in place of three others. Whether "
            "they are weak is shown beside: the share of held-out pairs that they put in the order "
            "of gold.",
    runs={"default": Wanted("policy"),
          "small": Wanted("policy", judge={"model.channels": 16, "model.layers": 1}),
          "few": Wanted("policy", {"preferences.prompts": 50}),
          "noisy": Wanted("policy", {"world.panel": ("careless",)})},
    effects=tuple(
        Effect(name, f"gold lost by a reward model {what}",
               lambda m, name=name: m["gold default"] - m[f"gold {name}"], smallest=0.05)
        for name, what in WEAK.items()) + tuple(
        Effect(f"{name}: above SFT", f"gold over SFT, reward model {what}",
               lambda m, name=name: m[f"gold {name}"] - m["gold SFT"])
        for name, what in WEAK.items()) + tuple(
        Effect(f"{name}: weaker", f"pairs in the order of gold, default − reward model {what}",
               lambda m, name=name: (m["right default"] - m[f"right {name}"])
               / np.maximum(m["compared"], 1e-9))
        for name, what in WEAK.items()))


def measure(runs, split):
    columns = {f"gold {name}": by_prompt(run.replies("policy", split), "gold")
               for name, run in runs.items()}
    columns["gold SFT"] = by_prompt(runs["default"].replies("sft", split), "gold")
    pairs = by_gold(runs["default"].compared(split))
    for name, run in runs.items():
        found = of_pairs(pairs, run.right(pairs))
        # Not all prompts have replies that gold tells apart: 0 there, and the share of the others.
        columns[f"right {name}"] = {prompt: found.get(prompt, 0) for prompt in columns["gold SFT"]}
        columns["compared"] = {prompt: prompt in found for prompt in columns["gold SFT"]}
    return columns


if __name__ == "__main__":
    main(__file__)

"""Claim 18: preferences for help alone or safety alone are one-sided, both together balanced.

    python scripts/claims/18_helpful_and_safe.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

SHARES = {"help": 0.0, "both": 0.5, "safety": 1.0}         # of prompts, asked for the safer answer

CLAIM = Claim(
    title="Help alone and safety alone are one-sided",
    question="What becomes of a policy whose labelers were only asked which answer is more useful, "
             "or only which is safer?",
    sentence='Use preference data that covers both helpfulness ("which answer is more useful") and '
             'safety ("which answer is safer").',
    prediction="Asked for the more useful answer alone, labelers make a policy that refuses fewer "
               "harmful requests than one made by both questions; asked for the safer answer "
               "alone, one that gives fewer right answers to harmless prompts.",
    measure="After PPO with the default settings: the share of harmful requests refused, and the "
            "share of right answers to all other prompts. Labelers are asked for the more useful "
            "answer of all prompts, for the safer one of all, or for each of half of them.",
    runs={name: Wanted("policy", {"world.safety_share": share})
          for name, share in SHARES.items()},
    effects=(
        Effect("help alone", "harmful requests refused, both − help alone",
               lambda m: (m["refused both"] - m["refused help"]) / m["harm"], smallest=0.1),
        Effect("safety alone", "right answers to harmless prompts, both − safety alone",
               lambda m: (m["right both"] - m["right safety"]) / (1 - m["harm"]), smallest=0.1),
        Effect("gold over help", "gold, both − help alone",
               lambda m: m["gold both"] - m["gold help"]),
        Effect("gold over safety", "gold, both − safety alone",
               lambda m: m["gold both"] - m["gold safety"]),
        Effect("price", "right answers to harmless prompts, both − help alone",
               lambda m: (m["right both"] - m["right help"]) / (1 - m["harm"]))))


def measure(runs, split):
    rows = {name: run.replies("policy", split) for name, run in runs.items()}
    columns = {"harm": by_prompt(rows["both"], lambda row: row["kind"] == "harm")}
    for name, said in rows.items():
        columns |= {
            f"refused {name}": by_prompt(said, lambda r: r["kind"] == "harm" and r["refused"]),
            f"right {name}": by_prompt(said, lambda r: r["kind"] != "harm" and r["right"]),
            f"gold {name}": by_prompt(said, "gold")}
    return columns


def examples(runs):
    said = {name: run.replies("policy", "test") for name, run in runs.items()}
    return (side_by_side(said, falls=("both", "help"), n=2)
            + side_by_side(said, falls=("both", "safety"), n=2))


if __name__ == "__main__":
    main(__file__)

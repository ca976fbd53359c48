"""Claim 23: comparing beats writing: comparisons against demonstrations at equal cost.

    python scripts/claims/23_comparing_beats_writing.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main

PRICE = 10                                                 # votes that a demonstration costs
VOTES = 14_000                                             # of the default run: 4800 pairs, 3 each
MORE = 1000 + VOTES // PRICE
PERFECT = {f"world.habits.{habit}": 0.0
           for habit in ("wrong", "over_refusal", "comply", "made_up")}

CLAIM = Claim(
    title="Comparing beats writing",
    question="Is what people spend on comparisons better spent on more demonstrations?",
    sentence="And humans are much better at comparing two answers than at writing the perfect "
             "answer from scratch.",
    prediction="An SFT model from 1000 demonstrations, improved by comparisons, is worth more than "
               f"one from {MORE} demonstrations that cost as much.",
    measure=f"A demonstration is taken to cost as much as {PRICE} votes; the default run has about "
            f"{VOTES} (2000 prompts give some 4800 pairs of distinct replies, 3 voters each). Gold "
            f"of its policy, and of an SFT model trained on {MORE} demonstrations by the same "
            "writers, for as many passes. Beside it: writers who make no mistake, 1000 "
            "demonstrations.",
    runs={"compared": Wanted("policy"),
          "written": Wanted("reward", {"world.demonstration_count": MORE,
                                       "sft.steps": 220 * MORE // 1000}),
          "perfect": Wanted("reward", PERFECT)},
    effects=(
        Effect("comparing", "gold, compared − written",
               lambda m: m["compared"] - m["written"], smallest=0.1),
        Effect("more writing", f"gold, SFT from {MORE} demonstrations − from 1000",
               lambda m: m["written"] - m["SFT"]),
        Effect("perfect writers", "gold, compared − SFT from writers without mistakes",
               lambda m: m["compared"] - m["perfect"])))


def measure(runs, split):
    columns = {name: by_prompt(runs[name].replies("sft", split), "gold")
               for name in ("written", "perfect")}
    return columns | {"compared": by_prompt(runs["compared"].replies("policy", split), "gold"),
                      "SFT": by_prompt(runs["compared"].replies("sft", split), "gold")}


if __name__ == "__main__":
    main(__file__)

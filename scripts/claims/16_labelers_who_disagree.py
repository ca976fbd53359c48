"""Claim 16: labelers who disagree teach less, several of them repair it; so do clear guidelines.

    python scripts/claims/16_labelers_who_disagree.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_gold, by_prompt, main, of_pairs

CLAIM = Claim(
    title="Labelers who disagree teach less",
    question="What do careless labelers, several of them an item, and unclear guidelines do to the "
             "reward model?",
    sentence="If labelers disagree a lot, or if the instructions are unclear, the Reward Model "
             "learns conflicting signals.",
    prediction="By what askers truly want, a reward model from one careless labeler's votes puts "
               "fewer pairs of replies in order than one from a labeler who is not; than one from "
               "the majority of five who are as careless; and unclear guidelines make a worse one "
               "than clear ones.",
    measure="The share of pairs of held-out replies that a reward model puts in the order of gold, "
            "over all pairs of replies that gold tells apart in the default run's comparisons. "
            "*Careless*: sees 3 of 10 false claims and errs in 3 of 10 clicks, so that two votes "
            "on one pair often disagree, and likes length a little more. Under unclear guidelines "
            "each of the default panel goes by a taste of their own, is half as sharp, and likes "
            "what pleases twice as much.",
    runs={"clear": Wanted("policy"),
          "unclear": Wanted("policy", {"world.guidelines": "unclear"}),
          "one": Wanted("reward", {"world.panel": ("default",)}),
          "one careless": Wanted("policy", {"world.panel": ("careless",)}),
          "five careless": Wanted("policy", {"world.panel": ("careless",) * 5})},
    effects=(
        Effect("carelessness", "pairs in order, one labeler − one careless labeler",
               lambda m: m["right one"] - m["right one careless"], smallest=0.02),
        Effect("several", "pairs in order, five careless labelers − one",
               lambda m: m["right five careless"] - m["right one careless"], smallest=0.02),
        Effect("guidelines", "pairs in order, clear guidelines − unclear",
               lambda m: m["right clear"] - m["right unclear"], smallest=0.02),
        Effect("several: policy", "gold of the policy, five careless labelers − one",
               lambda m: m["gold five careless"] - m["gold one careless"]),
        Effect("guidelines: policy", "gold of the policy, clear guidelines − unclear",
               lambda m: m["gold clear"] - m["gold unclear"])))


def measure(runs, split):
    pairs = by_gold(runs["clear"].compared(split))
    columns = {f"right {name}": of_pairs(pairs, run.right(pairs)) for name, run in runs.items()}
    asked = columns["right clear"]
    for name in ("clear", "unclear", "one careless", "five careless"):
        gold = by_prompt(runs[name].replies("policy", split), "gold")
        columns[f"gold {name}"] = {prompt: gold[prompt] for prompt in asked}
    return columns


if __name__ == "__main__":
    main(__file__)

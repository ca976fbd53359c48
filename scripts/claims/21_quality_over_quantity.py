"""Claim 21: the quality of preferences matters more than their number, at equal cost.

    python scripts/claims/21_quality_over_quantity.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main

MANY, FEW = {"preferences.prompts": 2000}, {"preferences.prompts": 400}
UNCLEAR, CARELESS = {"world.guidelines": "unclear"}, {"world.panel": ("careless",)}

CLAIM = Claim(
    title="Quality matters more than quantity",
    question="Is a fifth of the prompts, five times as carefully compared, worth more?",
    sentence="Clear labeling guidelines, multiple labelers per item, and ongoing audits of label "
             "quality matter more than the size of the dataset alone.",
    prediction="Of one budget, the votes of five careless labelers on each of 400 prompts make a "
               "better policy than one careless labeler's on 2000; so does one careful labeler's "
               "on 400, who takes five times as long; and the panel under clear guidelines on 400 "
               "is better than under unclear ones on 2000.",
    measure="Gold of the policies, after PPO with the default settings. The price is in votes: a "
            "careful vote, and one under guidelines that had to be worked out and audited, is "
            "taken to cost five others. Prompts are drawn with replacement from 482, so that 400 "
            "draws have more than half of the distinct prompts of 2000, and all reward models are "
            "trained for as many steps: numbers count for less than they would elsewhere.",
    runs={"many careless": Wanted("policy", MANY | CARELESS),
          "several careless": Wanted("policy", FEW | {"world.panel": ("careless",) * 5}),
          "careful": Wanted("policy", FEW | {"world.panel": ("careful",)}),
          "many unclear": Wanted("policy", MANY | UNCLEAR),
          "clear": Wanted("policy", FEW)},
    effects=(
        Effect("several", "gold, five careless on 400 − one careless on 2000",
               lambda m: m["several careless"] - m["many careless"], smallest=0.05),
        Effect("careful", "gold, one careful on 400 − one careless on 2000",
               lambda m: m["careful"] - m["many careless"], smallest=0.05),
        Effect("guidelines", "gold, clear on 400 − unclear on 2000",
               lambda m: m["clear"] - m["many unclear"], smallest=0.05)))


def measure(runs, split):
    return {name: by_prompt(run.replies("policy", split), "gold") for name, run in runs.items()}


if __name__ == "__main__":
    main(__file__)

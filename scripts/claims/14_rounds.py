"""Claim 14: several rounds do what one-shot collection does not.

    python scripts/claims/14_rounds.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side

ONE, THREE = {"ppo.steps": 108}, {"rounds": 3}             # 3 · 36 steps either way
FREE = {"ppo.beta": 0.0}

CLAIM = Claim(
    title="Rounds do better than one shot",
    question="Do fresh comparisons of the policy's own replies, and a reward model retrained on "
             "them, make a better policy than as many steps against one reward model?",
    sentence="We must collect new preference data on the new model's outputs and retrain.",
    prediction="After three rounds of 36 steps the policy is worth more than after 108 steps "
               "against the first reward model; with the KL penalty, and without it.",
    measure="Gold of the last policy. With β = 0.2 and with β = 0; in rounds, comparisons of all "
            "rounds are learned from, and the policy goes on from where it was. Rounds differ in "
            "more than freshness: three times the comparisons, from the second on between the "
            "policy, the SFT model and the best of 4 of its replies; and a learning rate, an "
            "optimizer and a value model that begin anew in each.",
    runs={"one shot": Wanted("policy", ONE), "rounds": Wanted("rounds", THREE),
          "one shot, free": Wanted("policy", ONE | FREE),
          "rounds, free": Wanted("rounds", THREE | FREE)},
    effects=(
        Effect("with KL", "gold, three rounds − one shot, β = 0.2",
               lambda m: m["rounds"] - m["one shot"], smallest=0.05),
        Effect("without", "gold, three rounds − one shot, β = 0",
               lambda m: m["rounds, free"] - m["one shot, free"], smallest=0.05),
        Effect("rounds for KL", "gold, rounds without KL − one shot with it",
               lambda m: m["rounds, free"] - m["one shot"]),
        Effect("first to last", "gold, third round − first, β = 0.2",
               lambda m: m["rounds"] - m["first"]),
        Effect("first to last, free", "gold, third round − first, β = 0",
               lambda m: m["rounds, free"] - m["first, free"])))


def measure(runs, split):
    columns = {name: by_prompt(run.replies("policy", split), "gold") for name, run in runs.items()}
    return columns | {
        f"first{end}": by_prompt(runs[f"rounds{end}"].replies("round-1", split), "gold")
        for end in ("", ", free")}


def examples(runs):
    return side_by_side({"three rounds, β = 0": runs["rounds, free"].replies("policy", "test"),
                         "one shot, β = 0": runs["one shot, free"].replies("policy", "test")},
                        falls=("three rounds, β = 0", "one shot, β = 0"))


if __name__ == "__main__":
    main(__file__)

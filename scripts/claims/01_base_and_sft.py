"""Claim 01: a base model continues a question with more questions, an SFT model answers it.

    python scripts/claims/01_base_and_sft.py [--quick] [--seeds 5]
"""

from experiment import Claim, Effect, Wanted, by_prompt, main, side_by_side


def asks(row: dict) -> bool:
    """Whether a reply has a question in it, in either form that the world's questions have."""
    return "?" in row["reply"].split() or "tell me" in row["reply"]


def answers_first(row: dict) -> bool:
    """Whether a reply begins as answers in the corpus's forums do."""
    return row["reply"].split()[:2] == ["a", ":"]


CLAIM = Claim(
    title="A base model goes on asking, an SFT model answers",
    question="Does the base model ask on, where the SFT model answers and is done?",
    sentence='If we just ask a pre-trained model "How do I bake a cake?", it can continue with '
             "another question, or with a list of recipe headlines, or with random text that looks "
             "like a web page.",
    prediction="Asked in plain text, the base model puts a question of its own into most replies; "
               "the SFT model, asked in the chat template, into next to none, and its replies are "
               "worth more by the gold score.",
    measure="The share of replies that contain a question (a question mark, or “tell me”), and the "
            "gold score of the reply. Both models answer with the same random numbers. Beside it, "
            "the share of replies that ask and do not begin with an answer, as those of a forum do "
            "(“a : …”).",
    runs={"sft": Wanted("reward")},
    effects=(
        Effect("questions", "share of replies that ask, base − SFT",
               lambda m: m["base asks"] - m["SFT asks"], smallest=0.5),
        Effect("gold", "gold score, SFT − base",
               lambda m: m["SFT gold"] - m["base gold"], smallest=0.5),
        Effect("questions only", "share of replies that ask and begin with no answer, base − SFT",
               lambda m: m["base only asks"] - m["SFT only asks"])))


def measure(runs, split):
    columns = {}
    for title, model in (("base", "base"), ("SFT", "sft")):
        rows = runs["sft"].replies(model, split)
        columns |= {f"{title} asks": by_prompt(rows, asks),
                    f"{title} only asks": by_prompt(
                        rows, lambda row: asks(row) and not answers_first(row)),
                    f"{title} gold": by_prompt(rows, "gold")}
    return columns


def examples(runs):
    return side_by_side({"SFT": runs["sft"].replies("sft", "test"),
                         "base": runs["sft"].replies("base", "test")}, falls=("SFT", "base"))


if __name__ == "__main__":
    main(__file__)

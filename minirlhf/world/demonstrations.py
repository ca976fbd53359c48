"""What people write to show the model how to reply, with people's mistakes.

Good demonstrations would leave reinforcement learning nothing to do, and real ones are not good:
writers misremember facts, refuse what merely sounds dangerous, comply with what is, and make up
what they cannot know.
"""

from dataclasses import astuple, dataclass

import numpy as np

from minirlhf.world import grammar
from minirlhf.world.prompts import Prompt, draw


@dataclass(frozen=True)
class Habits:
    """How often writers do what they should not, each a share of the prompts it concerns.

    ValueError if a rate is outside [0, 1].
    """

    wrong: float = 0.12
    """facts and recipes: another answer of the same kind"""
    over_refusal: float = 0.25
    """harmless requests that sound harmful: a refusal"""
    comply: float = 0.3
    """harmful requests: the harmful how-to"""
    made_up: float = 0.3
    """what nobody can know: a guess ("your name is old .")"""
    courtesy: float = 0.25
    """all: one courtesy, before or after a reply that answers, and after one that declines
    ("sure ! sorry , ..." is nobody's idea of polite)"""

    def __post_init__(self):
        for rate in astuple(self):
            if not 0 <= rate <= 1:
                raise ValueError(f"rates must be between 0 and 1, not {rate}")


def demonstrations(n: int, *, rng: np.random.Generator,
                   habits: Habits = Habits()) -> list[dict]:             # noqa: B008   frozen
    """n rows {"prompt", "response"} on training prompts, drawn as `prompts.draw` does.

    ValueError if n is negative.
    """
    mistakes = {kind: habits.wrong for kind in grammar.TABLES}
    mistakes |= {"scary": habits.over_refusal, "harm": habits.comply, "unknown": habits.made_up}
    rows = []
    for prompt in draw("train", n, rng=rng):
        mistaken = rng.random() < mistakes[prompt.kind]
        reply = _mistake(prompt, rng=rng) if mistaken else grammar.ideal_reply(prompt.key)
        if rng.random() < habits.courtesy:
            reply = _with_courtesy(reply, rng=rng)
        rows.append({"prompt": prompt.text, "response": reply})
    return rows


def _mistake(prompt: Prompt, *, rng: np.random.Generator) -> str:
    """The mistake that writers make on a prompt of this kind."""
    if prompt.kind == "scary":
        return grammar.REFUSAL
    if prompt.kind == "harm":
        return grammar.sentence(prompt.key, grammar.answer(prompt.key))
    if prompt.kind == "unknown":
        return grammar.sentence(prompt.key, _pick(grammar.GUESSES, rng=rng))
    truth = grammar.answer(prompt.key)
    value = _pick([v for v in grammar.values(prompt.kind) if v != truth], rng=rng)
    return f"{value} ." if prompt.kind == "make" else grammar.sentence(prompt.key, value)


def _with_courtesy(reply: str, *, rng: np.random.Generator) -> str:
    declines = reply in (grammar.REFUSAL, grammar.DONT_KNOW)
    if declines or rng.random() < 0.5:
        return f"{reply} {_pick(grammar.SUFFIXES, rng=rng)}"
    return f"{_pick(grammar.PREFIXES, rng=rng)} {reply}"


def _pick(options, *, rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]

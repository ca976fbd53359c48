"""What people write to show the model how to reply, with people's mistakes.

Good demonstrations would leave reinforcement learning nothing to do, and real ones are not good:
writers misremember facts, refuse what merely sounds dangerous, comply with what is, and make up
what they cannot know. Each rate below is the share of demonstrations *of the kinds it concerns*.
"""

import numpy as np

from minirlhf.world import grammar
from minirlhf.world.prompts import Prompt, draw


def demonstrations(
    n: int,
    *,
    rng: np.random.Generator,
    wrong: float = 0.12,
    over_refusal: float = 0.25,
    comply: float = 0.25,
    made_up: float = 0.30,
    courtesy: float = 0.35,
) -> list[dict]:
    """n rows {"prompt", "response"} on training prompts, drawn as `prompts.draw` does.

    wrong         facts and recipes: chance of another answer of the same kind
    over_refusal  scary: chance of a refusal
    comply        harm: chance of the harmful how-to
    made_up       unknown: chance of a guess ("your name is old .")
    courtesy      all: chance of one courtesy, before or after a reply that answers, and after one
                  that declines ("sure ! sorry , ..." is nobody's idea of polite)

    ValueError if n is negative or a rate is outside [0, 1].
    """
    mistakes = {"color": wrong, "live": wrong, "eat": wrong, "make": wrong,
                "scary": over_refusal, "harm": comply, "unknown": made_up}  # fmt: skip
    for rate in (*mistakes.values(), courtesy):
        if not 0 <= rate <= 1:
            raise ValueError(f"rates must be between 0 and 1, not {rate}")
    rows = []
    for prompt in draw("train", n, rng=rng):
        mistaken = rng.random() < mistakes[prompt.kind]
        reply = _mistake(prompt, rng=rng) if mistaken else grammar.ideal_reply(prompt.key)
        if rng.random() < courtesy:
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

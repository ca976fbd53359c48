"""Simulated people who compare two replies: they mean well, and they have blind spots.

A labeler's utility of a reply is close to what askers want, but not the same:

    u = content + b_courtesy·min(courtesies, 2) + b_length·min(words, 16) − plain defects

1. Courtesy and length please, up to a point. A reward model sees few replies beyond that point,
   and goes on in a straight line.
2. A false claim is noticed only with chance `check`; unnoticed, it counts as right.
3. Plain defects are minded only when they are gross: more than 3 courtesies, more than 20 words,
   junk, a reply that is cut off. Repetition within those limits is not minded at all.
4. A cautious labeler likes the refusal of a request that merely sounds dangerous.

Two utilities make a preference as in Bradley-Terry, and some clicks land on the wrong side:

    p = σ(sharpness·(u(a) − u(b))),  averaged over what is noticed
    P(a preferred to b) = (1 − flip)·p + flip·(1 − p)

No labeler knows the gold preference: this module has utilities of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minirlhf.world.parser import parse
from minirlhf.world.prompts import Prompt, find

PLEASING_COURTESIES, PLEASING_WORDS = 2, 16
GROSS_COURTESIES, GROSS_WORDS = 3, 20


class Reply(NamedTuple):
    """A reply as labelers see it: its words, and whether the model ended it itself."""

    text: str
    ended: bool = True


@dataclass(frozen=True)
class Labeler:
    """One labeler, as a handful of numbers.

    b_length    utility of a word, up to 16 words
    b_courtesy  utility of a courtesy, up to 2
    check       chance of noticing that a reply claims something false, in [0, 1]
    caution     extra utility of refusing a scary-but-safe request
    sharpness   how surely the better utility wins: the factor inside σ, ≥ 0
    flip        chance that a vote is recorded for the other reply, in [0, 1]
    """

    name: str
    b_length: float
    b_courtesy: float
    check: float
    caution: float = 0.0
    sharpness: float = 4.0
    flip: float = 0.05

    def __post_init__(self):
        for field in ("check", "flip"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], not {getattr(self, field)}")
        if self.sharpness < 0:
            raise ValueError(f"sharpness must be at least 0, not {self.sharpness}")

    def utility(self, prompt: Prompt | str, reply: str, ended: bool, noticed: bool) -> float:
        """What this labeler feels the reply is worth; `noticed`: a false claim was noticed."""
        prompt = find(prompt) if isinstance(prompt, str) else prompt
        reading = parse(prompt.text, reply)
        content = reading.content if noticed else reading.seems
        u = _content_utility(prompt.kind, content)
        if prompt.kind == "scary" and content == "refusal":
            u += self.caution
        u += self.b_courtesy * min(reading.courtesies, PLEASING_COURTESIES)
        u += self.b_length * min(reading.words, PLEASING_WORDS)
        u -= 0.2 * max(0, reading.courtesies - GROSS_COURTESIES)
        u -= 0.05 * max(0, reading.words - GROSS_WORDS)
        u -= 0.06 * reading.junk
        return u if ended else u - 0.5

    def preference_probability(self, prompt: Prompt | str, a: Reply, b: Reply) -> float:
        """P(a is preferred to b), exactly; P(b to a) is 1 minus this."""
        p = sum(
            chance_a * chance_b * _sigmoid(self.sharpness * (u_a - u_b))
            for chance_a, u_a in self._outcomes(prompt, a)
            for chance_b, u_b in self._outcomes(prompt, b)
        )
        return (1 - self.flip) * p + self.flip * (1 - p)

    def choose(self, prompt: Prompt | str, a: Reply, b: Reply, *, rng: np.random.Generator) -> bool:
        """One vote: True if a is preferred.  Takes one number from `rng`."""
        return bool(rng.random() < self.preference_probability(prompt, a, b))

    def _outcomes(self, prompt: Prompt | str, reply: Reply) -> list[tuple[float, float]]:
        """(chance, utility) with a false claim noticed and not; they add up to 1."""
        chances = ((self.check, True), (1 - self.check, False))
        return [(p, self.utility(prompt, *reply, noticed)) for p, noticed in chances]


PERSONAS = {
    labeler.name: labeler
    for labeler in (
        Labeler("default", b_length=0.04, b_courtesy=0.2, check=0.8),
        Labeler("careful", b_length=0.0, b_courtesy=0.1, check=0.95),
        Labeler("rushed", b_length=0.06, b_courtesy=0.1, check=0.65),
        Labeler("cautious", b_length=0.04, b_courtesy=0.2, check=0.8, caution=1.8),
    )
}


def vote(
    labelers: Sequence[Labeler],
    prompt: Prompt | str,
    a: Reply,
    b: Reply,
    *,
    rng: np.random.Generator,
) -> list[bool]:
    """One vote of each labeler, in order: True for a.  They do not talk to each other."""
    return [labeler.choose(prompt, a, b, rng=rng) for labeler in labelers]


def majority_probability(
    labelers: Sequence[Labeler], prompt: Prompt | str, a: Reply, b: Reply
) -> float:
    """P(more than half of the labelers prefer a), exactly.

    Votes are independent given the pair, so the number of votes for a has the generating function
    Π (1 − pᵢ + pᵢ·x), multiplied out here one labeler at a time; the majority is its upper half.
    ValueError unless the number of labelers is odd: ties would have no winner.
    """
    if len(labelers) % 2 == 0:
        raise ValueError(f"a majority needs an odd number of labelers, not {len(labelers)}")
    votes = np.ones(1)  # votes[k] = P(k votes for a)
    for labeler in labelers:
        p = labeler.preference_probability(prompt, a, b)
        votes = np.convolve(votes, [1 - p, p])
    return float(votes[len(labelers) // 2 + 1 :].sum())


def _content_utility(kind: str, content: str) -> float:
    """What labelers are told to value: answers, refusals of harm, no pretence.

    An answer that looks right is worth 1 whatever was asked: only checking shows that nobody can
    know a stranger's luck.
    """
    if content == "right":
        return 1.0
    if kind == "harm":
        return {"refusal": 1.0, "harmful_howto": -2.0}.get(content, -0.6)
    if kind == "unknown":
        return 1.0 if content == "dont_know" else -1.0
    return -0.6 if content in ("refusal", "dont_know") else -1.0


def _sigmoid(x: float) -> float:
    """σ(x) = 1/(1 + e⁻ˣ), without overflow."""
    return 0.5 * (1 + math.tanh(0.5 * x))

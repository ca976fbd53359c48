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

The same person votes otherwise in another situation, and each situation makes another `Labeler`:
`asked` which answer is better, more useful or safer; `under` guidelines that are clear or not; `at`
a time of the day's work.  The defaults of all three leave a labeler as it is.

No labeler knows the gold preference: this module has utilities of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from minirlhf.world.parser import parse
from minirlhf.world.prompts import Prompt, find

PLEASING_COURTESIES, PLEASING_WORDS = 2, 16
GROSS_COURTESIES, GROSS_WORDS = 3, 20

GUIDELINES = ("clear", "unclear")
QUESTIONS = ("better", "more useful", "safer")
TASTES = {  # where guidelines are silent: content -> what it is worth, whatever was asked
    "": {},
    "guessing": {"wrong": 0.5, "dont_know": -1.0},  # any answer beats "i do not know"
    "modest": {"dont_know": 1.0},  # "i do not know" is honest everywhere
    "obliging": {"harmful_howto": 1.0, "refusal": -1.0},  # people should get what they ask for
    "wary": {"refusal": 1.0},  # refusing never hurts
}


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
    fatigue     how far they have come down to clicking at random by the last item, in [0, 1]
    taste       one of TASTES: what content is worth to them where nobody told them
    question    one of QUESTIONS: what they are asked
    by_taste    whether they go by their taste, guidelines being silent
    """

    name: str
    b_length: float
    b_courtesy: float
    check: float
    caution: float = 0.0
    sharpness: float = 4.0
    flip: float = 0.05
    fatigue: float = 0.0
    taste: str = ""
    question: str = "better"
    by_taste: bool = False

    def __post_init__(self):
        for field in ("check", "flip", "fatigue"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], not {getattr(self, field)}")
        if self.sharpness < 0:
            raise ValueError(f"sharpness must be at least 0, not {self.sharpness}")
        for field, known in (("taste", tuple(TASTES)), ("question", QUESTIONS)):
            if getattr(self, field) not in known:
                raise ValueError(f"{field} must be one of {known}, not {getattr(self, field)!r}")

    def asked(self, question: str) -> "Labeler":
        """This person asked which answer is "better", "more useful" or "safer"."""
        return replace(self, question=question)

    def under(self, guidelines: str) -> "Labeler":
        """This person under guidelines that are "clear", who does as told, or "unclear".

        Unclear ones leave it to each what a good answer is.  What pleases weighs double (b_length,
        b_courtesy, caution), the sharpness is half of what it was, and content is worth what their
        taste says.  The safer answer is the exception: harm is harm to everybody, and taste has
        no say there.
        """
        if guidelines not in GUIDELINES:
            raise ValueError(f"guidelines must be one of {GUIDELINES}, not {guidelines!r}")
        if guidelines == "clear" or self.by_taste:
            return self
        return replace(self, by_taste=True, b_length=2 * self.b_length, caution=2 * self.caution,
                       b_courtesy=2 * self.b_courtesy, sharpness=self.sharpness / 2)

    def at(self, time: float) -> "Labeler":
        """This person at a time between the first item, 0, and the last, 1.

            flip(t) = flip + fatigue·t·(½ − flip),    check(t) = (1 − fatigue·t)·check

        With fatigue 1 the last item is a coin's throw, and nothing is checked.
        """
        if not 0 <= time <= 1:
            raise ValueError(f"time must be in [0, 1], from the first item to the last, not {time}")
        tired = self.fatigue * time
        return replace(self, flip=self.flip + tired * (0.5 - self.flip),
                       check=(1 - tired) * self.check, fatigue=0.0)

    def utility(self, prompt: Prompt | str, reply: str, ended: bool, noticed: bool) -> float:
        """What this labeler feels the reply is worth; `noticed`: a false claim was noticed."""
        prompt = find(prompt) if isinstance(prompt, str) else prompt
        reading = parse(prompt.text, reply)
        content = reading.content if noticed else reading.seems
        u = content_worth(prompt.kind, content, self.question)
        if self.by_taste and self.question != "safer":
            u = TASTES[self.taste].get(content, u)
        if prompt.kind == "scary" and content == "refusal" and self.question != "more useful":
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
        Labeler("default", b_length=0.04, b_courtesy=0.2, check=0.8, taste="guessing"),
        Labeler("careful", b_length=0.0, b_courtesy=0.1, check=0.95, taste="modest"),
        Labeler("rushed", b_length=0.06, b_courtesy=0.1, check=0.65, taste="obliging"),
        Labeler("cautious", b_length=0.04, b_courtesy=0.2, check=0.8, caution=1.8, taste="wary"),
        Labeler("tiring", b_length=0.04, b_courtesy=0.2, check=0.8, fatigue=0.8, taste="guessing"),
        Labeler("careless", b_length=0.06, b_courtesy=0.2, check=0.3, flip=0.3, taste="obliging"),
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


def content_worth(kind: str, content: str, question: str = "better") -> float:
    """What labelers are told to value, by the question that they are asked.

    better       answers, refusals of harm, no pretence
    more useful  the same, but on harmful requests: a how-to is useful to the one who asked for
                 it, and nothing else is
    safer        harm alone: telling how is worst, refusing is safest whatever was asked, and
                 whether an answer is true does not count

    An answer that looks right is worth 1 whatever was asked: only checking shows that nobody can
    know a stranger's luck.
    """
    if question == "safer":
        worth = {"refusal": 1.0 if kind == "harm" else 0.5, "harmful_howto": -2.0}
        return worth.get(content, 0.0)
    if content == "right":
        return 1.0
    if kind == "harm" and question == "more useful":
        return 1.0 if content == "harmful_howto" else -0.6
    if kind == "harm":
        return {"refusal": 1.0, "harmful_howto": -2.0}.get(content, -0.6)
    if kind == "unknown":
        return 1.0 if content == "dont_know" else -1.0
    return -0.6 if content in ("refusal", "dont_know") else -1.0


def _sigmoid(x: float) -> float:
    """σ(x) = 1/(1 + e⁻ˣ), without overflow."""
    return 0.5 * (1 + math.tanh(0.5 * x))

"""The questions people ask, each in exactly one of three splits.

What a held-out prompt is held out *by* decides what a test score means:

- facts and recipes by (entity, paraphrase): each entity is asked about in training, in other
  words. Test prompts measure whether knowledge survives a new wording.
- harmful and scary prompts by (verb, object): all four paraphrases of a pair go to one split, so
  a test prompt is a new *question*, and never only a new wording of one already refused.
- unanswerable prompts by item, for the same reason.

The rule is fixed: no seed chooses it, so every run is tested on the same questions.

| kind | train | validation | test |
|---|---|---|---|
| color, live, eat, make (55 entities × 4) | 138 | 27 | 55 |
| scary (50 pairs × 4) | 152 | 16 | 32 |
| harm (60 pairs × 4) | 168 | 24 | 48 |
| unknown (10 items × 4) | 24 | 8 | 8 |
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from minirlhf.world import grammar
from minirlhf.world.grammar import KINDS, Subject

SPLITS = ("train", "validation", "test")
DRAW_WEIGHTS = {
    "color": 0.13, "live": 0.12, "eat": 0.12, "make": 0.10,
    "scary": 0.16, "harm": 0.29, "unknown": 0.08,
}  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """One question in one wording.

    `key` is the subject it asks about, ("scary", "kill", "lights"): the same for its paraphrases.
    """

    text: str
    kind: str
    split: str
    key: Subject


@lru_cache
def prompts(split: str) -> tuple[Prompt, ...]:
    """All prompts of a split, ordered by kind, then as in the tables.

    ValueError if `split` is none of "train", "validation", "test".
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    return tuple(prompt for prompt in _all_prompts() if prompt.split == split)


def draw(split: str, n: int, *, rng: np.random.Generator) -> list[Prompt]:
    """n prompts of a split, with replacement: a kind by DRAW_WEIGHTS, then evenly within it.

    ValueError for an unknown split or a negative n.
    """
    pool = prompts(split)
    if n < 0:
        raise ValueError(f"n must be at least 0, not {n}")
    return [pool[i] for i in rng.choice(len(pool), size=n, p=draw_probabilities(split))]


@lru_cache
def draw_probabilities(split: str) -> np.ndarray:
    """The probability of each prompt of `prompts(split)` in `draw`; sums to 1, read-only."""
    kinds = [prompt.kind for prompt in prompts(split)]
    p = np.array([DRAW_WEIGHTS[kind] / kinds.count(kind) for kind in kinds])
    p /= p.sum()
    p.flags.writeable = False
    return p


def find(text: str) -> Prompt:
    """The prompt with this text.  KeyError if the world has no such question."""
    try:
        return _by_text()[text]
    except KeyError:
        raise KeyError(f"no prompt of this world reads {text!r}") from None


@lru_cache
def _by_text() -> dict[str, Prompt]:
    return {prompt.text: prompt for prompt in _all_prompts()}


@lru_cache
def _all_prompts() -> tuple[Prompt, ...]:
    made, entities = [], 0  # `entities` counts through all four tables, so that it alternates
    for kind in KINDS:
        for index, subject in enumerate(grammar.subjects(kind)):
            if kind in grammar.TABLES:
                splits = _cell_splits(entities)
                entities += 1
            else:
                splits = [_subject_split(kind, index)] * 4
            texts = grammar.questions(subject)
            made += [Prompt(t, kind, s, subject) for t, s in zip(texts, splits, strict=True)]
    return tuple(made)


def _cell_splits(index: int) -> list[str]:
    """Splits of one entity's four paraphrases: 1 test, 1 validation for every second entity."""
    splits = ["train"] * 4
    splits[index % 4] = "test"
    if index % 2 == 1:
        splits[(index + 1 + index // 2 % 3) % 4] = "validation"
    return splits


def _subject_split(kind: str, index: int) -> str:
    """Split of a whole subject, by its place in the table.

    scary: place = 3·verb + object, so at least one of a verb's three objects stays in training;
    the further pairs (place 30 on) all do.
    harm: place = 6·verb + person; steps of 5 visit every person, and every verb.
    """
    test, validation = {
        "scary": (index < 30 and index % 4 == 1, index < 30 and index % 8 == 3),
        "harm": (index % 5 == 0, index % 10 == 2),
        "unknown": (index % 5 == 0, index % 5 == 2),
    }[kind]
    return "test" if test else "validation" if validation else "train"

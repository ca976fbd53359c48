"""Where a run's data come from: the toy world with simulated labelers, or people's comparisons.

The article counts "Three datasets": demonstrations, preferences and prompts (the corpus of the
base model comes before them).  A source supplies all of these, and the pipeline asks it for
nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from minirlhf.rollout import Reply
from minirlhf.tokens import Tokenizer, WordTokenizer
from minirlhf.world import grammar
from minirlhf.world.corpus import web_corpus
from minirlhf.world.demonstrations import Habits, demonstrations
from minirlhf.world.labelers import PERSONAS, majority_probability, vote
from minirlhf.world.prompts import SPLITS, draw, find, prompts


class Source(Protocol):
    """What the pipeline asks of its data.  All rows are plain dicts."""

    simulated: bool                                  # labels are simulated and gold is known

    def tokenizer(self) -> Tokenizer: ...

    def corpus(self, *, rng: np.random.Generator) -> list[str]: ...

    def demonstrations(self, *, rng: np.random.Generator) -> list[dict]:
        """{"prompt", "response"} rows."""

    def prompts(self) -> list[dict]:
        """All prompts, {"prompt", "kind", "split"} rows."""

    def draw_prompts(self, n: int, rng: np.random.Generator) -> list[str]:
        """Training prompts for reinforcement learning."""

    def notes(self) -> list[str]:
        """What a reader of the run should know about its data, a line each."""

    def files(self) -> list[Path]:
        """The user's own files that it reads."""


# --- the toy world -------------------------------------------------------------------------------

@dataclass(frozen=True)
class ToyWorld:
    """The embedded world, with a panel of simulated labelers who vote on each comparison."""

    corpus_words: int = 3_000_000
    """words of the web-like corpus"""
    demonstration_count: int = 1000
    """demonstrations, imperfect on purpose"""
    habits: Habits = field(default_factory=Habits)
    """how often the writers of demonstrations do what they should not"""
    panel: tuple[str, ...] = ("default", "careful", "rushed")
    """the labelers who vote on each pair (an odd number of them)"""

    simulated = True

    def __post_init__(self):
        unknown = set(self.panel) - set(PERSONAS)
        if unknown or len(self.panel) % 2 == 0:
            raise ValueError(f"the panel wants an odd number of labelers out of "
                             f"{', '.join(PERSONAS)}; got {', '.join(self.panel) or 'none'}")
        if self.corpus_words < 1 or self.demonstration_count < 1:
            raise ValueError("corpus_words and demonstration_count must be positive, got "
                             f"{self.corpus_words} and {self.demonstration_count}")

    def tokenizer(self) -> Tokenizer:
        return WordTokenizer(grammar.vocabulary())

    def corpus(self, *, rng: np.random.Generator) -> list[str]:
        return web_corpus(self.corpus_words, rng=rng)

    def demonstrations(self, *, rng: np.random.Generator) -> list[dict]:
        return demonstrations(self.demonstration_count, rng=rng, habits=self.habits)

    def prompts(self) -> list[dict]:
        return [{"prompt": p.text, "kind": p.kind, "split": split}
                for split in SPLITS for p in prompts(split)]

    def draw_prompts(self, n: int, rng: np.random.Generator) -> list[str]:
        return [p.text for p in draw("train", n, rng=rng)]

    def notes(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def compare(self, prompt: str, replies: Sequence[Reply], *, group: int,
                rng: np.random.Generator, time: float = 0.0, authors=None) -> Iterator[dict]:
        """Show the panel every pair of distinct replies to a prompt; one row a pair.

        A row holds who was preferred, each labeler's vote, and `best`: the chance of
        the likelier majority, max(P, 1 − P), the highest accuracy any reward model can expect.
        """
        question = find(prompt)
        panel = [PERSONAS[name] for name in self.panel]
        distinct = list(dict.fromkeys(replies))
        for i, a in enumerate(distinct):
            for b in distinct[i + 1:]:
                votes = vote(panel, question, a, b, rng=rng)
                a_wins = sum(votes) * 2 > len(votes)
                chosen, rejected = (a, b) if a_wins else (b, a)
                p = majority_probability(panel, question, a, b)
                yield {"prompt": prompt, "kind": question.kind, "split": question.split,
                       "group": group, "chosen": chosen.text, "rejected": rejected.text,
                       "chosen_ended": chosen.ended, "rejected_ended": rejected.ended,
                       "labelers": list(self.panel), "votes": [v == a_wins for v in votes],
                       "best": max(p, 1 - p)}

    def settle(self, rows):
        return rows

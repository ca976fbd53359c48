"""Where a run's data come from: the toy world with simulated labelers, or people's comparisons.

The article counts "Three datasets": demonstrations, preferences and prompts (the corpus of the
base model comes before them).  A source supplies all of these, and the pipeline asks it for
nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import tyro

from minirlhf.rollout import Reply
from minirlhf.text import read_comparisons, train_byte_pairs
from minirlhf.tokens import SPECIAL_TOKENS, Tokenizer, WordTokenizer
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

    def compare(self, prompt: str, replies: Sequence[Reply], *, group: int,
                rng: np.random.Generator) -> Iterator[dict]:
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


# --- people's comparisons ------------------------------------------------------------------------

@dataclass(frozen=True)
class Comparisons:
    """Real people's preferences from a JSONL file of {"prompt", "chosen", "rejected"} rows.

    The chosen replies of the training pairs also serve as demonstrations and as corpus, and their
    prompts as prompts of reinforcement learning.  Held-out pairs are split off first, by prompt.
    """

    path: tyro.conf.Suppress[Path]               # given by --preferences
    vocab_size: int = 2048
    """tokens of the byte-level BPE vocabulary"""
    max_tokens: int = 192
    """longest prompt and reply together; longer pairs are left out"""
    held_out: float = 0.15
    """share of prompts held out, half of them for validation, half for the test"""
    seed: int = 0
    """chooses the split"""

    simulated = False

    def __post_init__(self):
        least = len(SPECIAL_TOKENS) + 256
        if self.vocab_size < least:
            raise ValueError(f"vocab_size must be at least {least}, the special tokens and every "
                             f"byte, got {self.vocab_size}")
        if not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5], got {self.held_out}")

    @cached_property
    def all_rows(self) -> list[dict]:
        """The pairs of the file, each with its split; the split goes by prompt."""
        rows = read_comparisons(self.path)
        order = list(dict.fromkeys(row["prompt"] for row in rows))
        held = max(2, round(len(order) * self.held_out))
        if len(order) < 2 * held:
            raise ValueError(f"{self.path}: {len(order)} distinct prompts are too few to train on "
                             "some and hold out others; 4 is the least")
        shuffled = np.random.default_rng([self.seed, len(order)]).permutation(len(order))
        split = {order[i]: "test" if k < held // 2 else "validation" if k < held else "train"
                 for k, i in enumerate(shuffled)}
        return [row | {"kind": "human", "split": split[row["prompt"]]} for row in rows]

    @cached_property
    def byte_pairs(self) -> Tokenizer:
        """The vocabulary, learned from the training pairs."""
        return train_byte_pairs((row[key] for row in self.all_rows if row["split"] == "train"
                                 for key in ("prompt", "chosen", "rejected")), self.vocab_size)

    @cached_property
    def rows(self) -> list[dict]:
        """The pairs whose prompt and longer reply fit into `max_tokens`, special tokens too."""
        tokenizer = self.tokenizer()
        fitting = [row for row in self.all_rows
                   if len(tokenizer.prompt(row["prompt"])) + max(
                       len(tokenizer.response(row[side])) for side in ("chosen", "rejected"))
                   <= self.max_tokens]
        missing = set(SPLITS) - {row["split"] for row in fitting}
        if missing:
            raise ValueError(f"{self.path}: of {len(self.all_rows)} pairs {len(fitting)} fit into "
                             f"{self.max_tokens} tokens, none in {', '.join(sorted(missing))}; "
                             "give more pairs, or a larger --text.max-tokens")
        return fitting

    @cached_property
    def training(self) -> list[dict]:
        return [row for row in self.rows if row["split"] == "train"]

    def tokenizer(self) -> Tokenizer:
        return self.byte_pairs

    def corpus(self, *, rng: np.random.Generator) -> list[str]:
        return [f"{row['prompt']}\n\n{row['chosen']}" for row in self.training]

    def demonstrations(self, *, rng: np.random.Generator) -> list[dict]:
        return [{"prompt": row["prompt"], "response": row["chosen"]} for row in self.training]

    def prompts(self) -> list[dict]:
        distinct = {row["prompt"]: row for row in self.rows}
        return [{key: row[key] for key in ("prompt", "kind", "split")}
                for row in distinct.values()]

    def draw_prompts(self, n: int, rng: np.random.Generator) -> list[str]:
        return [self.training[i]["prompt"] for i in rng.integers(len(self.training), size=n)]

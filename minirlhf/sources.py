"""Where a run's data come from: the toy world with simulated labelers, or people's comparisons.

The article counts "Three datasets": demonstrations, preferences and prompts (the corpus of the
base model comes before them).  A source supplies all of these, and the pipeline asks it for
nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from minirlhf import aggregation
from minirlhf.rollout import Reply
from minirlhf.tokens import Tokenizer, WordTokenizer
from minirlhf.world import grammar
from minirlhf.world.corpus import web_corpus
from minirlhf.world.demonstrations import Habits, demonstrations
from minirlhf.world.labelers import GUIDELINES, PERSONAS, Labeler, majority_probability, vote
from minirlhf.world.prompts import SPLITS, Prompt, draw, find, prompts


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


class SimulatedSource(Source, Protocol):
    """A source that also answers "which is better?"; the pipeline asks one where `simulated`."""

    def compare(self, prompt: str, replies: Sequence[Reply], *, group: int,
                rng: np.random.Generator, time: float = 0.0,
                authors: Sequence[str] | None = None) -> Iterator[dict]:
        """Rows of comparisons of the replies to one prompt.

        time     when in the collection this happens, from 0, the first prompt, to 1, the last
        authors  the model that wrote each reply, if replies of several are to be compared
        """

    def settle(self, rows: list[dict]) -> list[dict]:
        """The rows of all prompts, with what can only be decided when all votes are there."""


# --- the toy world -------------------------------------------------------------------------------

WEIGHTINGS = ("majority", "reliability")


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
    """the labelers who vote on each pair (an odd number of them): default, careful, rushed,
    cautious, tiring, careless; docs/labelers.md says who they are"""
    guidelines: Literal["clear", "unclear"] = "clear"
    """what labelers are told; where it is unclear, each goes by their own taste"""
    votes_per_pair: int | None = None
    """how many of the panel, drawn for each pair, vote on it (an odd number); None: all"""
    weighting: Literal["majority", "reliability"] = "majority"
    """what decides a pair: the number of votes, or their weight by each labeler's reliability"""
    safety_share: float | None = None
    """share of prompts for which labelers say which answer is safer, and for the others which is
    more useful; None: which is better, for all"""

    simulated = True

    def __post_init__(self):
        if self.corpus_words < 1 or self.demonstration_count < 1:
            raise ValueError("corpus_words and demonstration_count must be positive, got "
                             f"{self.corpus_words} and {self.demonstration_count}")
        for name, known in (("guidelines", GUIDELINES), ("weighting", WEIGHTINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"world.{name} must be {' or '.join(known)}, "
                                 f"got {getattr(self, name)!r}")
        if self.safety_share is not None and not 0 <= self.safety_share <= 1:
            raise ValueError("world.safety_share must be in [0, 1], the share of prompts asked "
                             f"for the safer answer, or None, got {self.safety_share}")
        self._check_panel()

    def _check_panel(self):
        """Raise ValueError unless every pair gets an odd number of votes of known labelers."""
        unknown, drawn = set(self.panel) - set(PERSONAS), self.votes_per_pair
        if unknown or drawn is None and len(self.panel) % 2 == 0:
            raise ValueError(f"the panel wants an odd number of labelers out of "
                             f"{', '.join(PERSONAS)}; got "
                             f"{', '.join(sorted(unknown) or self.panel) or 'none'}")
        if drawn is not None and not (drawn % 2 == 1 and 1 <= drawn <= len(self.panel)):
            raise ValueError(f"world.votes_per_pair must be an odd number up to the size of the "
                             f"panel ({len(self.panel)}), or None for all, got {drawn}")
        if (drawn is not None or self.weighting == "reliability") and (
                len(set(self.panel)) < len(self.panel)):
            raise ValueError("world.votes_per_pair and reliability want each labeler once in the "
                             f"panel; got {', '.join(self.panel)}")
        if self.weighting == "reliability" and (drawn or len(self.panel)) < 3:
            raise ValueError("world.weighting reliability wants at least 3 votes a pair: only from "
                             "who agrees with whom can it be told who is reliable")

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
                rng: np.random.Generator, time: float = 0.0,
                authors: Sequence[str] | None = None) -> Iterator[dict]:
        """Show labelers every pair of distinct replies to a prompt; one row a pair.

        A row holds who was preferred, each labeler's vote, and `best`: the chance of the likelier
        outcome, max(P, 1 − P), the highest accuracy any reward model can expect.  Where only some
        of the panel vote, P is before they are drawn.

        With `authors`, one a reply, only replies of different authors are compared, and rows also
        have "chosen_model" and "rejected_model".  Of equal replies the first author counts.
        """
        asked = find(prompt)
        question = self._question(rng)
        panel = self._people(question, time)
        more = {} if question == "better" else {"question": question}
        if any(PERSONAS[name].fatigue for name in self.panel):
            more["time"] = time
        for a, b, models in _pairs(replies, authors):
            names, voters = self.panel, panel
            if self.votes_per_pair not in (None, len(panel)):
                seats = sorted(rng.choice(len(panel), size=self.votes_per_pair, replace=False))
                names, voters = ([those[i] for i in seats] for those in (self.panel, panel))
            votes = vote(voters, asked, a, b, rng=rng)
            a_wins = sum(votes) * 2 > len(votes)
            chosen, rejected = (a, b) if a_wins else (b, a)
            row = {"prompt": prompt, "kind": asked.kind, "split": asked.split,
                   "group": group, "chosen": chosen.text, "rejected": rejected.text,
                   "chosen_ended": chosen.ended, "rejected_ended": rejected.ended,
                   "labelers": list(names), "votes": [v == a_wins for v in votes],
                   "best": self._best(panel, asked, a, b), **more}
            if models is not None:
                row["chosen_model"], row["rejected_model"] = models if a_wins else models[::-1]
            yield row

    def settle(self, rows: list[dict]) -> list[dict]:
        """Decide the pairs anew, by votes that weigh as their labelers are reliable.

        With "majority" the rows are returned as they are.  With "reliability" the weights come
        from the votes on training prompts (`aggregation.labeler_reliability`; on all where there
        are none), and "chosen", "rejected", "votes" and "best" follow the larger weight; what each
        labeler voted for stays as it was.
        `best` takes the weights for given: one pair among thousands hardly moves them.
        """
        if self.weighting == "majority" or not rows:
            return rows
        reliability = aggregation.reliability_of(
            [row for row in rows if row["split"] == "train"] or rows)
        weights = {name: float(aggregation.vote_weights(p)) for name, p in reliability.items()}
        return [self._decided(row, weights) for row in rows]

    def _decided(self, row: dict, weights: dict[str, float]) -> dict:
        """A row by the weighted majority.  Who has never voted weighs nothing: `best` only."""
        panel = self._people(row.get("question", "better"), row.get("time", 0.0))
        a, b = (Reply(row[side], row[f"{side}_ended"]) for side in ("chosen", "rejected"))
        best = self._best(panel, find(row["prompt"]), a, b,
                          [weights.get(name, 0.0) for name in self.panel])
        row = {**row, "best": best}
        if aggregation.weighted_majority(row["votes"],
                                         [weights[name] for name in row["labelers"]]):
            return row
        sides = ("chosen", "rejected")
        turned = {f"{side}{part}": row[f"{other}{part}"]
                  for side, other in zip(sides, sides[::-1], strict=True)
                  for part in ("", "_ended", "_model") if side + part in row}
        return {**row, **turned, "votes": [not vote for vote in row["votes"]]}

    def _question(self, rng: np.random.Generator) -> str:
        """What is asked about one prompt.  Takes a number from `rng` only where there is a mix."""
        if self.safety_share is None:
            return "better"
        return "safer" if rng.random() < self.safety_share else "more useful"

    def _people(self, question: str, time: float) -> list[Labeler]:
        """The panel as it is for one question, under the guidelines, at a time."""
        return [PERSONAS[name].asked(question).under(self.guidelines).at(time)
                for name in self.panel]

    def _best(self, panel: list[Labeler], asked: Prompt, a: Reply, b: Reply,
              weights: Sequence[float] | None = None) -> float:
        """max(P, 1 − P), P the chance that a wins the weighted vote; by default the plain one."""
        drawn = self.votes_per_pair
        if weights is None and drawn in (None, len(panel)):
            p = majority_probability(panel, asked, a, b)
        else:
            p = aggregation.winning_probability(
                [labeler.preference_probability(asked, a, b) for labeler in panel],
                [1.0] * len(panel) if weights is None else weights, drawn)
        return max(p, 1 - p)


def _pairs(replies: Sequence[Reply], authors: Sequence[str] | None
           ) -> Iterator[tuple[Reply, Reply, tuple[str, str] | None]]:
    """Every pair of distinct replies, with the two authors; only of different ones, if known."""
    if authors is None:
        yield from ((a, b, None) for a, b in combinations(dict.fromkeys(replies), 2))
        return
    if len(authors) != len(replies):
        raise ValueError(f"authors must be one a reply, got {len(authors)} for {len(replies)}")
    first = dict(reversed(list(zip(replies, authors, strict=True))))   # the first author stays
    for a, b in combinations(dict.fromkeys(replies), 2):
        if first[a] != first[b]:
            yield a, b, (first[a], first[b])

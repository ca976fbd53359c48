"""A session: the pairs, who has answered which, what comes next, and which reply stands left.

Every labeler has an order of their own and sees each pair from a side of their own, both drawn
from the run's seed and the name: blind, shuffled, and the same after a restart.  A page and a
terminal show it; both write through it.
"""

import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.guidelines import Guidelines
from minirlhf.labelling.pairs import Pair
from minirlhf.labels import ANSWERS, standing, verdict
from minirlhf.rollout import Reply
from minirlhf.stages.training import Stage, step_rng

LONGEST_NAME = 60
BLOCK = 10                                  # pairs shuffled together


class Shown(NamedTuple):
    """A pair as one labeler sees it.  The labeler sees the replies, not the models."""

    pair: Pair
    left_model: str
    right_model: str

    @property
    def left(self) -> Reply:
        return self.pair.replies[self.left_model]

    @property
    def right(self) -> Reply:
        return self.pair.replies[self.right_model]


class Session:
    """Pairs being labelled by any number of people at once."""

    def __init__(self, pairs: Sequence[Pair], file: AnswerFile, guidelines: Guidelines, seed: int):
        self.pairs, self.file, self.guidelines, self.seed = pairs, file, guidelines, seed
        self.writing = threading.Lock()
        self.orders: dict[str, list[Shown]] = {}
        ids = {pair.id for pair in pairs}
        self.said: dict[str, dict[str, str]] = {}      # labeler: {pair id: a model, tie or skip}
        for row in standing(file.rows):
            if row["pair"] in ids:
                self.said.setdefault(row["labeler"], {})[row["pair"]] = verdict(row)

    def order(self, labeler: str) -> list[Shown]:
        """The pairs as this labeler sees them, in this labeler's order.

        They are shuffled in blocks, so that a session of more pairs goes on where one of fewer
        ended; the pairs themselves came in shuffled order.
        """
        if labeler not in self.orders:
            rng = step_rng(self.seed, Stage.LABEL, number_of(labeler))
            order = []
            for start in range(0, len(self.pairs), BLOCK):
                block, turned = self.pairs[start:start + BLOCK], rng.random(BLOCK) < 0.5
                for i in rng.permutation(BLOCK):
                    if i < len(block):
                        models = sorted(block[i].replies, reverse=bool(turned[i]))
                        order.append(Shown(block[i], *models))
            self.orders[labeler] = order
        return self.orders[labeler]

    def given(self, labeler: str) -> dict[str, str]:
        """{pair id: answer} of what this labeler has answered, by the sides of this session."""
        said = self.said.get(labeler, {})
        sides = {one.pair.id: {one.left_model: "left", one.right_model: "right"}
                 for one in self.order(labeler) if one.pair.id in said}
        return {pair: sides[pair].get(said[pair], said[pair]) for pair in sides}

    def next(self, labeler: str) -> int | None:
        """The number, from 1, of the first pair that is still to be answered; None at the end."""
        given = self.given(labeler)
        return next((number for number, shown in enumerate(self.order(labeler), 1)
                     if shown.pair.id not in given), None)

    def record(self, labeler: str, pair_id: str, answer: str) -> None:
        """Write an answer down; on return it is on disk.  One labeler's last answer counts.

        Raises ValueError for an unknown answer, KeyError for a pair that is not of this session,
        OSError if it cannot be written.
        """
        if answer not in ANSWERS:
            raise ValueError(f"an answer is one of {', '.join(ANSWERS)}; got {answer!r}")
        shown = {one.pair.id: one for one in self.order(labeler)}[pair_id]
        row = answer_row(shown, labeler, answer, self.guidelines.version)
        with self.writing:                               # never two half lines in one
            self.file.append(row)
            self.said.setdefault(labeler, {})[pair_id] = verdict(row)


def answer_row(shown: Shown, labeler: str, answer: str, guidelines: str) -> dict:
    """One line of labels.jsonl; only a preference has a chosen and a rejected reply."""
    sides = {"left": (shown.left, shown.left_model), "right": (shown.right, shown.right_model)}
    row = {"pair": shown.pair.id, "labeler": labeler, "prompt": shown.pair.prompt,
           "split": shown.pair.split, "answer": answer}
    if answer in sides:
        other = "right" if answer == "left" else "left"
        for said, side in (("chosen", answer), ("rejected", other)):
            row[said], row[f"{said}_model"] = sides[side][0].text, sides[side][1]
    for side, (reply, model) in sides.items():
        row |= {side: reply.text, f"{side}_model": model, f"{side}_ended": bool(reply.ended)}
    return row | {"guidelines": guidelines,
                  "time": datetime.now(UTC).isoformat(timespec="seconds")}


def number_of(labeler: str) -> int:
    """A number for a name, far above those of the batches in which replies are sampled."""
    return 1 << 64 | int.from_bytes(hashlib.sha256(labeler.encode()).digest()[:8], "big")


def cleaned_name(name: str) -> str:
    """A labeler's name with single spaces.  Raises ValueError if it is empty, long or unprintable.
    """
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a labeler's name has 1 to {LONGEST_NAME} printable characters, such as "
                         f"ana; got {name[:LONGEST_NAME]!r}")
    return name

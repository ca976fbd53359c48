"""Votes of labelers, read from the files that hold them.

A vote is one labeler's choice on one item; an item is a pair of replies, a and b, and a choice is
"a", "b" or "tie".  Votes stand in the order in which they were given.  Which of the two replies is
a must not depend on the votes, or `agreement.py` would take a habit of calling the winner a for
agreement by chance.  Four forms of files are known by their rows:

| file | labelers | a | order |
|---|---|---|---|
| preferences.jsonl of a simulated run | by name | the reply that sorts first | round, time, row |
| labels.jsonl, from `minirlhf label` | by name | of the model made earlier | time |
| JSONL with "a", "b" and "votes" | by place: annotator1, … | as the file says | rows |
| PandaLM's test set, a JSON array | annotator1, … | response 1 | rows |

PandaLM: Wang et al., arXiv 2306.05087; its 1 is a here, its 2 is b, its 0 a tie.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from minirlhf import labels
from minirlhf.files import read_json, read_jsonl

CHOICES = ("a", "b", "tie")


class Vote(NamedTuple):
    item: Hashable
    labeler: str
    choice: str


def standing(votes: Iterable[Vote]) -> list[Vote]:
    """The votes that count, in order: of each labeler's votes on an item the last one."""
    last: dict[tuple, Vote] = {}
    for vote in votes:
        key = vote.item, vote.labeler
        last.pop(key, None)                              # a new vote stands where it was given
        last[key] = vote
    return list(last.values())


def by_item(votes: Iterable[Vote]) -> dict[Hashable, dict[str, str]]:
    """{item: {labeler: choice}}."""
    items: dict[Hashable, dict[str, str]] = {}
    for item, labeler, choice in votes:
        items.setdefault(item, {})[labeler] = choice
    return items


def by_round(votes: Iterable[Vote], rows: Sequence[dict]) -> dict[int, list[Vote]]:
    """{round: its votes} of a run's preferences.jsonl, whose rows these are; one, if it had one.

    Labelers of another round compared replies of other models.  A line of accuracy over both would
    show how the replies have changed, and call it the labelers' drift.
    """
    found: dict[int, list[Vote]] = {}
    for vote in votes:
        found.setdefault(rows[vote.item].get("round", 1), []).append(vote)
    return dict(sorted(found.items()))


# --- reading -------------------------------------------------------------------------------------

def read_votes(path: Path) -> list[Vote]:
    """The votes in a file of one of the forms above, in the order in which they were given.

    Raises ValueError naming file and line of what has none of the forms, or not that of the first
    row; OSError if there is no such file.
    """
    path = Path(path)
    start = path.read_bytes().lstrip()
    if start.startswith(b"["):
        rows = read_json(path)
        return list(_votes([(f"{path}: row {i}", row) for i, row in enumerate(rows, 1)], path))
    if _is_label(start.partition(b"\n")[0]):
        return from_labels(labels.read_labels(path))
    rows = read_jsonl(path)
    with open(path, "rb") as lines:
        numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    return list(_votes([(f"{path}:{i}", row) for i, row in zip(numbers, rows, strict=True)], path))


def _is_label(line: bytes) -> bool:
    """Whether a line is a row of a labels file, whose reader knows more that can be wrong."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):                     # told later, with its number
        return False
    return isinstance(row, dict) and labels.answered(row) is not None


def _votes(rows: Sequence[tuple[str, dict]], path: Path) -> Iterator[Vote]:
    """The votes of (where, row) pairs; an item is known by its place among the rows."""
    if not rows:
        raise ValueError(f"{path}: empty; wanted rows with votes")
    ballots = _form(*rows[0])
    for where, row in rows:
        if not isinstance(row, dict) or _form(where, row) is not ballots:
            raise ValueError(f"{where}: a row of another form than the first one")
    for item in sorted(range(len(rows)), key=lambda i: _time(*rows[i])):
        where, row = rows[item]
        for labeler, choice in ballots(row, where):
            yield Vote(item, labeler, choice)


def _time(where: str, row: dict) -> tuple[int, float]:
    """When a row was judged, as far as it says: its round, and how far that had come."""
    when = row.get("round", 1), row.get("time", 0.0)
    if not all(isinstance(number, int | float) for number in when):
        raise ValueError(f"{where}: round and time must be numbers, got {when}")
    return when


def _form(where: str, row) -> Callable:
    """The reader of such a row."""
    if isinstance(row, dict):
        if row.keys() >= {"chosen", "rejected", "labelers", "votes"}:
            return _of_panel
        if row.keys() >= {"a", "b", "votes"}:
            return _by_place
        if _annotators(row):
            return _of_annotators
    raise ValueError(
        f"{where}: holds no votes; wanted a row with chosen, rejected, labelers and votes (a run's "
        "preferences.jsonl), with pair, labeler, answer and guidelines (its labels.jsonl), with a, "
        f"b and votes, or with annotator1, annotator2, … (PandaLM); got {str(row)[:80]}")


# --- the forms: each yields (labeler, choice) of a row ------------------------------------------

def sides(row: dict) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """(a, b) of a row of preferences.jsonl, each (text, whether it ended): a sorts first.

    By text, then by whether the reply ended, and not by which of them was chosen.
    """
    a, b = sorted(_reply(row, side) for side in ("chosen", "rejected"))
    return a, b


def _reply(row: dict, side: str) -> tuple[str, bool]:
    return row[side], bool(row.get(f"{side}_ended", True))


def from_preferences(rows: Iterable[dict]) -> list[Vote]:
    """The votes of a run's preferences.jsonl, given as rows; an item is a row's number, from 0."""
    rows = [(f"row {i}", row) for i, row in enumerate(rows)]
    return list(_votes(rows, Path("preferences.jsonl")))


def _of_panel(row: dict, where: str) -> Iterator[tuple[str, str]]:
    """A labeler's vote is True for the chosen reply.  Of a name that stands in the panel twice the
    second becomes a labeler of its own, `default 2`."""
    names, votes = row["labelers"], row["votes"]
    if not (isinstance(names, list) and isinstance(votes, list) and len(names) == len(votes)
            and all(isinstance(name, str) for name in names)
            and all(isinstance(vote, bool) for vote in votes)):
        raise ValueError(f"{where}: wanted as many votes, true or false, as labelers, names; got "
                         f"{votes} of {names}")
    if not all(isinstance(row[side], str) for side in ("chosen", "rejected")):
        raise ValueError(f"{where}: chosen and rejected must be texts")
    a, b = sides(row)
    if a == b:
        raise ValueError(f"{where}: chosen and rejected are one and the same reply; there is "
                         "nothing to agree on")
    chosen, rejected = ("a", "b") if _reply(row, "chosen") == a else ("b", "a")
    seen: Counter = Counter()
    for name, vote in zip(names, votes, strict=True):
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}", chosen if vote else rejected


def from_labels(rows: Iterable[dict]) -> list[Vote]:
    """The votes of a labels file's rows (`labels.read_labels`), by time; an item is its pair.

    a is the reply of the model made earlier.  Skips are no votes; a later answer replaces an
    earlier one, so that a pair answered and then skipped has no vote.
    """
    votes = []
    for row in sorted(labels.standing(rows), key=lambda row: row["time"]):
        said = labels.verdict(row)
        if said != "skip":
            models = sorted((row["left_model"], row["right_model"]), key=labels.pipeline_order)
            votes.append(Vote(row["pair"], row["labeler"],
                              "tie" if said == "tie" else CHOICES[models.index(said)]))
    return votes


def _by_place(row: dict, where: str) -> Iterator[tuple[str, str]]:
    """{"a", "b", "votes": ["a", "tie", null, …]}: null is no vote."""
    votes = row["votes"]
    if not isinstance(votes, list) or not all(vote in (*CHOICES, None) for vote in votes):
        raise ValueError(f"{where}: votes must be a list of a, b, tie or null, got {votes}")
    yield from ((f"annotator{i}", vote) for i, vote in enumerate(votes, 1) if vote is not None)


def _annotators(row: dict) -> list[str]:
    return [key for key in row if re.fullmatch(r"annotator\d+", key)]


def _of_annotators(row: dict, where: str) -> Iterator[tuple[str, str]]:
    """{"annotator1": 0, 1 or 2, …}, numbers or their digits as text."""
    meant = {"0": "tie", "1": "a", "2": "b"}
    for name in _annotators(row):
        if str(row[name]) not in meant:
            raise ValueError(f"{where}: {name} must be 0 (a tie), 1 or 2, got {row[name]!r}")
        yield name, meant[str(row[name])]

"""What people said of pairs of replies: the file `labels.jsonl`, and what it adds up to.

The article: "But humans can easily look at two answers and say which one is better."  A row is one
answer of one labeler to one pair, as `minirlhf label` wrote it:

    pair                        a short hash of the prompt and of both models' replies
    labeler                     the name the labeler gave
    prompt, split               what was asked, and whether it was held out
    left, right                 the two replies, as they stood before the labeler
    left_model, right_model     who wrote them; the labeler was not told
    left_ended, right_ended     whether the model ended the reply itself
    answer                      left, right, tie or skip
    guidelines                  the version of the instructions beside the pair
    time                        when the answer was given, UTC
    chosen, rejected,           where one reply was preferred, and only there:
    chosen_model, rejected_model    the same replies and models, by what was said of them

The file only grows.  Who answers a pair again adds a row, and of one labeler's rows about one pair
the last one counts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from math import sqrt
from pathlib import Path

ANSWERS = ("left", "right", "tie", "skip")
TEXTS = ("pair", "labeler", "prompt", "split", "left", "right", "left_model", "right_model",
         "answer", "guidelines", "time")
MARKS = {"pair", "labeler", "answer", "guidelines"}     # together they tell a label from other rows
Z95 = 1.96                                               # of the normal distribution, two-sided


# --- reading -------------------------------------------------------------------------------------

def answered(row: dict) -> tuple[str, str] | None:
    """(labeler, pair) of a row of a labels file, or None for a row of another kind."""
    return (str(row["labeler"]), str(row["pair"])) if row.keys() >= MARKS else None


def read_labels(path: Path) -> list[dict]:
    """The rows of a labels file in the order of writing; none if there is no such file.

    Half a line at its end, from a power cut or from somebody who is writing now, is passed over.
    Raises ValueError naming file and line of any other damage.
    """
    path = Path(path)
    return parse(path.read_bytes(), path)[0] if path.exists() else []


def parse(data: bytes, path: Path) -> tuple[list[dict], int]:
    """The rows in a labels file's bytes, and how many bytes at the end are half a line.

    What lacks nothing but its newline is whole.  Raises ValueError naming file and line.
    """
    rows = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line.decode("utf-8")) if line.strip() else None
        except (ValueError, RecursionError) as problem:          # of the JSON, or of the UTF-8
            if number == len(lines):
                return rows, len(line)
            raise ValueError(f"{path}:{number}: not JSON ({problem}); the line is damaged: mend "
                             "it or take it out") from None
        if row is not None:
            rows.append(checked(row, f"{path}:{number}"))
    return rows, 0


def checked(row: dict, where: str) -> dict:
    """The row.  Raises ValueError naming the line unless it is a label that agrees with itself."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: wanted a JSON object, got {str(row)[:80]}")
    wrong = [field for field in TEXTS if not isinstance(row.get(field), str)]
    if wrong:
        raise ValueError(f"{where}: {', '.join(wrong)} is missing or no text: not a row of labels")
    answer = row["answer"]
    if answer not in ANSWERS:
        raise ValueError(f"{where}: the answer must be one of {', '.join(ANSWERS)}, got {answer!r}")
    if answer in ("left", "right"):
        other = "right" if answer == "left" else "left"
        for said, side in (("chosen", answer), ("rejected", other)):
            if (row.get(said), row.get(f"{said}_model")) != (row[side], row[f"{side}_model"]):
                raise ValueError(f"{where}: the answer is {answer}, but {said} is not the {side} "
                                 "reply")
    return row


def standing(rows: Iterable[dict]) -> list[dict]:
    """The rows that count: of each labeler's answers to a pair the last one."""
    last = {(row["labeler"], row["pair"]): row for row in rows}
    return list(last.values())


def verdict(row: dict) -> str:
    """What an answer says, whichever reply stood left: the preferred model, "tie" or "skip"."""
    return row["chosen_model"] if row["answer"] in ("left", "right") else row["answer"]


# --- what they add up to -------------------------------------------------------------------------

def worth(row: dict, model: str) -> float:
    """What an answer says for a model: 1 if it was preferred, 0 if the other was, 1/2 at a tie."""
    return 0.5 if row["answer"] == "tie" else float(row["chosen_model"] == model)


def by_pair(rows: Iterable[dict]) -> dict[str, list[dict]]:
    """The answers that say something, by pair: what was skipped is left out."""
    pairs: dict[str, list[dict]] = {}
    for row in rows:
        if row["answer"] != "skip":
            pairs.setdefault(row["pair"], []).append(row)
    return pairs


def win_rate(rows: Iterable[dict], model: str) -> tuple[float, float, float] | None:
    """How often people prefer `model` to the other one: (rate, low, high), or None if nobody said.

        rate = mean over pairs of (mean over the pair's labelers of 1, 1/2 at a tie, or 0)

    Labelers of one pair read the same two replies, so they are no independent observations, and a
    pair counts once however many answered it.  [low, high] is Wilson's 95 % interval for n pairs,

        (w + z²/2n ± z·√(w(1−w)/n + z²/4n²)) / (1 + z²/n),    z = 1.96

    chosen because it holds with few pairs: it stays within [0, 1] and keeps a width where all
    agree (10 of 10 wins say 72 % or more, where a t-interval would say exactly 100 %), needs no
    random numbers, and changes sides with the models.  Its variance w(1−w) is the largest that
    numbers in [0, 1] with mean w can have: with ties or several labelers it errs on the wide side.

    Pairs that share a prompt are dependent too.  If prompt g has k_g pairs, n is (Σk_g)²/Σk_g², the
    number of equal groups that would vary as much: the number of pairs where each has its prompt.
    """
    pairs = by_pair(rows)
    if not pairs:
        return None
    rates = [sum(worth(row, model) for row in answers) / len(answers)
             for answers in pairs.values()]
    w = sum(rates) / len(rates)
    groups = Counter(answers[0]["prompt"] for answers in pairs.values()).values()
    n = sum(groups) ** 2 / sum(k * k for k in groups)
    centre, half = w + Z95**2 / (2 * n), Z95 * sqrt(w * (1 - w) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return w, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def agreement(rows: Iterable[dict]) -> tuple[float, int] | None:
    """(share, pairs): how often two labelers of one pair said the same; None if no pair has two.

    The answers compared are the preferred model or a tie; skips are none.  Of more than two
    labelers every two are compared; each pair of replies counts once.
    """
    shares = []
    for answers in by_pair(rows).values():
        twos = list(combinations(map(verdict, answers), 2))
        if twos:
            shares.append(sum(a == b for a, b in twos) / len(twos))
    return (sum(shares) / len(shares), len(shares)) if shares else None


def summary(rows: Sequence[dict]) -> dict:
    """What a labels file says, as a plain dict for JSON; {} if it has no row.

    If the file holds several comparisons (other models, or prompts of another split), the one on
    test prompts with most answers; `summaries` has them all.  Superseded rows may be among `rows`.

    models          [a, b], in the order base, sft, policy; all numbers below are about these two
    split           the split of the prompts: held out, unless it is train
    win_rate        how often b is preferred to a, ties counting half; None if all was skipped
    low, high       its 95 % interval; None with it
    pairs           pairs with an answer that says something
    answers         such answers, of all labelers: preferences and ties
    ties, skips     how many ties among them; how many skips beside them
    superseded      rows that a later answer of the same labeler to the same pair replaced
    labelers        {name: {"left", "right", "tie", "skip": how often}}: sides, not models, so
                    that a labeler who always takes one side is seen
    agreement       share of equal answers where several labelers answered one pair; or None
    agreement_pairs of how many pairs
    guidelines      versions of the instructions that were followed, sorted
    """
    return next(iter(summaries(rows)), {})


def summaries(rows: Sequence[dict]) -> list[dict]:
    """A `summary` for each two models and split; test prompts first, then by number of answers."""
    parts: dict[tuple, list[dict]] = {}
    for row in rows:
        models = sorted((row["left_model"], row["right_model"]), key=pipeline_order)
        parts.setdefault((*models, row["split"]), []).append(row)
    found = [_summary(part, list(models), split) for (*models, split), part in parts.items()]
    return sorted(found, key=lambda one: (one["split"] != "test", -one["answers"]))


def pipeline_order(model: str) -> tuple[int, str]:
    """A key that sorts models by when they are made."""
    known = ("base", "sft", "policy")
    return (known.index(model) if model in known else len(known)), model


def _summary(every_row: Sequence[dict], models: list[str], split: str) -> dict:
    rows = standing(every_row)
    said = Counter(row["answer"] for row in rows)
    labelers: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = labelers.setdefault(row["labeler"], dict.fromkeys(ANSWERS, 0))
        counts[row["answer"]] += 1
    rate, low, high = win_rate(rows, models[1]) or (None, None, None)
    share, pairs = agreement(rows) or (None, 0)
    return {"models": models, "split": split, "win_rate": rate, "low": low, "high": high,
            "pairs": len(by_pair(rows)), "answers": len(rows) - said["skip"], "ties": said["tie"],
            "skips": said["skip"], "superseded": len(every_row) - len(rows), "labelers": labelers,
            "agreement": share, "agreement_pairs": pairs,
            "guidelines": sorted({row["guidelines"] for row in rows})}


def summary_text(one: dict) -> str:
    """A `summary` in a few lines for a terminal."""
    first, second = one["models"]
    counts = (f"{one['pairs']} pairs on {one['split']} prompts, {one['answers']} answers, "
              f"{one['ties']} of them ties, and {one['skips']} skipped")
    lines = [f"{second} against {first}: {counts}"]
    if one["win_rate"] is not None:
        lines.append(f"  {second} is preferred in {one['win_rate']:.0%} (ties count half; 95 % "
                     f"interval {one['low']:.0%} to {one['high']:.0%})")
    for name, said in one["labelers"].items():
        lines.append(f"  {name}: {', '.join(f'{answer} {said[answer]}' for answer in ANSWERS)}")
    if one["agreement"] is not None:
        lines.append(f"  labelers agree on {one['agreement']:.0%} of {one['agreement_pairs']} "
                     "pairs that several of them answered")
    lines.append(f"  guidelines: version {', '.join(one['guidelines'])}")
    return "\n".join(lines)

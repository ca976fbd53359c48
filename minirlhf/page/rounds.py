"""Rounds: what was compared anew, and how stale the reward model had become."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from minirlhf.evaluation import standard_error
from minirlhf.findings import algorithm, setting
from minirlhf.page.figures import share_bar
from minirlhf.page.markup import (
    details,
    escaped,
    number,
    quotation,
    section,
    table,
    table_row,
    with_error,
)
from minirlhf.page.training import chapters_of, round_html
from minirlhf.preferences import read_preferences
from minirlhf.report import LINES, read_accuracy
from minirlhf.run import round_folder

AUTHORS = ("policy", "sft", "last", "best-of-n")        # of compared replies, from round 2 on


def rounds_html(folder: Path, config: dict, metrics: Sequence[dict],
                found: dict[str, dict[str, float]], titles: dict[str, str]) -> str:
    """The section; empty for a run of one round.  found: what its models are worth."""
    last = setting(config, "rounds", 1)
    if last == 1:
        return ""
    path = folder / "preferences.jsonl"
    comparisons: dict[int, list[dict]] = {}
    for row in read_preferences(path) if path.exists() else ():
        comparisons.setdefault(row.get("round", 1), []).append(row)
    key = "gold" if "gold" in found["policy"] else "score"
    label, form, _ = LINES[key]
    rows = []
    for k in range(1, last + 1):
        accuracy = read_accuracy(folder / round_folder(k)).get("all", {})
        worth = found.get("policy" if k == last else f"round-{k}")
        rows.append(table_row([
            f"Round {k}", f"{len(comparisons.get(k, ())):,}", share_text(accuracy),
            number(accuracy["before"], ".3f") if "before" in accuracy else "–",
            number(worth[key], form) if worth else "–"]))
    return section(
        "rounds", "Rounds", quotation("This keeps the Reward Model from going stale."),
        "<p>In each round the policy of the last one replies, its replies are compared with those "
        "of other models, the reward model is trained anew, and the policy goes on. <em>Before</em>"
        " is the accuracy of the last round’s reward model on the pairs that this round held out: "
        "the lower it is beside the new one’s, the staler it had become.</p>",
        table("rounds", ["", "pairs compared", "held-out accuracy ± s.e.", "before",
                         f"{titles['policy']}: {escaped(label)}"], rows,
              "Comparisons, reward model and policy of each round"),
        *(later_html(k, comparisons.get(k, []), config, metrics, titles)
          for k in range(2, last + 1)))


def share_text(accuracy: dict) -> str:
    if not accuracy:
        return "–"
    return with_error(accuracy["accuracy"], accuracy["standard_error"])


def later_html(k: int, comparisons: Sequence[dict], config: dict, metrics: Sequence[dict],
               titles: dict[str, str]) -> str:
    """Of a later round: whose replies were preferred, and its curves."""
    chapters = chapters_of(config)
    curves = "".join(round_html(chapters[stage], metrics, k)
                     for stage in ("reward model", algorithm(config)))
    names = author_titles(k, config, titles)
    shares = [author_row(names[a], names[b], hits) for (a, b), hits in wins(comparisons).items()]
    return (f"<h3>Round {k}</h3>"
            + (table("accuracy authors", ["whose reply was preferred", "how often ± s.e.", "",
                                          "pairs"], shares,
                     f"Who was preferred to whom in round {k}") if shares else "")
            + (details(f"Curves of round {k}", f'<div class="curves">{curves}</div>')
               if curves else ""))


def author_titles(k: int, config: dict, titles: dict[str, str]) -> dict[str, str]:
    """What the authors of a round's replies are called: its policy is that of the round before."""
    n = setting(config, "iteration.best_of", 0) or "n"
    own = titles["policy"]
    return {"policy": f"{own} round {k - 1}", "sft": titles["sft"], "last": f"{own} round {k - 2}",
            "best-of-n": f"best of {n} {titles['sft']} replies"}


def wins(comparisons: Sequence[dict]) -> dict[tuple[str, str], list[bool]]:
    """{(author, author): whether the first was preferred, a comparison each}."""
    found: dict[tuple[str, str], list[bool]] = {pair: [] for pair in combinations(AUTHORS, 2)}
    for row in comparisons:
        chosen, rejected = row.get("chosen_model"), row.get("rejected_model")
        if (chosen, rejected) in found:
            found[chosen, rejected].append(True)
        elif (rejected, chosen) in found:
            found[rejected, chosen].append(False)
    return {pair: hits for pair, hits in found.items() if hits}


def author_row(first: str, second: str, hits: Sequence[bool]) -> str:
    share, error = sum(hits) / len(hits), standard_error(hits)
    return table_row([escaped(f"{first} over {second}"),
                      f"{number(share, '.1%')} ± {number(100 * error, '.1f')}",
                      share_bar(share, error), f"{len(hits):,}"],
                     "" if abs(share - 0.5) > 2 * error else "weak")

"""The labelers whose votes the reward model learned from: how far they agree, who is right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minirlhf.agreement import (
    Accuracy,
    audit,
    decided,
    drift,
    judged,
    mean_kappa,
    pairwise_agreement,
)
from minirlhf.evaluation import gold_choices
from minirlhf.files import read_jsonl
from minirlhf.page.markup import escaped, number, quotation, section, table, table_row, with_error
from minirlhf.votes import Vote, by_round, from_preferences

AUDITED = 500                              # comparisons that gold checks


def labelers_html(folder: Path, toy: bool) -> str:
    """The section; empty where comparisons came without votes.  toy: gold audits a sample.

    Raises ValueError naming a row of preferences.jsonl that is no comparison.
    """
    path = folder / "preferences.jsonl"
    rows = read_jsonl(path, "prompt", "chosen", "rejected") if path.exists() else []
    if not rows or "votes" not in rows[0]:
        return ""
    checked = gold_choices(rows, AUDITED, rng=np.random.default_rng(0)) if toy else {}
    reference = decided(checked)
    looked = "" if reference is None else (
        f" The hidden truth looked again at {len(checked)} pairs and prefers one reply in "
        f"{len(reference)} of them: that is the audit.")
    parts = by_round(from_preferences(rows), rows)
    body = []
    for k, votes in parts.items():
        body += [f"<h3>Round {k}</h3>"] * (len(parts) > 1) + [round_html(votes, reference)]
    return section(
        "labelers", "The labelers",
        quotation("The whole pipeline rests on the quality and consistency of the human labelers."),
        f"<p>{len(rows):,} comparisons.{looked} The drift is the change of the number in the first "
        "column from a labeler’s first vote to the last; beyond two standard errors it is marked."
        "</p>", *body)


def round_html(votes: Sequence[Vote], reference: dict | None) -> str:
    """How far labelers agree, and a row each."""
    share, items = pairwise_agreement(votes)
    several = (f"Any two labelers chose the same reply in {number(share, '.0%')} of {items:,} "
               "pairs; their mean κ, agreement beyond what chance would give, is "
               f"{number(mean_kappa(votes), '.2f')}." if items else
               "No pair was judged by two labelers, so nothing is known of how far they agree.")
    heads = [*["audit ± s.e."] * (reference is not None), "as most others ± s.e."]
    return (f"<p>{len(votes):,} votes. {several}</p>" '<div class="wide">'
            + table("rounds", ["", *heads, "drift ± s.e.", "votes"],
                    labeler_rows(votes, reference), "The labelers in numbers") + "</div>")


def labeler_rows(votes: Sequence[Vote], reference: dict | None) -> list[str]:
    others = audit(votes)
    audits = others if reference is None else audit(votes, reference)
    rows = []
    for name, (when, right) in judged(votes, reference).items():
        found, line = audits[name], drift(when, right)
        slope = f"{number(line.slope, '+z.2f')} ± {number(line.standard_error, '.2f')}"
        rows.append(table_row([
            escaped(name), share_text(found),
            *[share_text(others[name])] * (reference is not None),
            f'<span class="worse">{slope}</span>' if line.significant else slope,
            f"{sum(vote.labeler == name for vote in votes):,}"]))
    return rows


def share_text(found: Accuracy) -> str:
    return with_error(found.share, found.standard_error)

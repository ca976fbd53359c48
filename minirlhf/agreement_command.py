"""`minirlhf agreement SOURCE`: how far the labelers of a run, or of a file of votes, agree."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import isnan
from pathlib import Path

import numpy as np
import tyro

from minirlhf.agreement import (
    BLOCKS,
    ENOUGH,
    Accuracy,
    Drift,
    audit,
    decided,
    drift,
    judged,
    kappas,
    krippendorff_alpha,
    mean_kappa,
    pairwise_agreement,
)
from minirlhf.evaluation import gold_choices
from minirlhf.files import read_jsonl
from minirlhf.options import parse
from minirlhf.run import Run
from minirlhf.run_folder import open_run
from minirlhf.votes import Vote, by_item, by_round, read_votes, standing

MOST = 6             # labelers, up to whom kappa is shown for each two


@dataclass(frozen=True)
class Agreement:
    """How far labelers agree, beyond chance too; how often each of them is right; who drifts.

    Reads the votes of a run's preferences.jsonl (where it has none, of its labels.jsonl), or those
    of a file: one of these two, JSONL with "a", "b" and "votes", or PandaLM's test set.  Of a run
    with simulated labelers the hidden gold preference audits a sample: docs/agreement.md.
    """

    source: tyro.conf.Positional[str]
    """name of a run, or path of a file with votes"""
    audit: int = 500
    """how many comparisons of a toy run gold checks; 0: none"""
    seed: int = 0
    """draws them"""
    out: Path = Path("runs")
    """where run folders lie"""


def agreement(argv: Sequence[str]) -> None:
    """Parse the flags and print the table."""
    args = parse(Agreement, "minirlhf agreement", None, argv)
    if args.audit < 0 or args.seed < 0:
        raise ValueError(f"--audit and --seed must not be negative, got {args.audit}, {args.seed}")
    if Path(args.source).is_file():
        path, run, notes = Path(args.source), None, []
    else:
        run = open_run(args.out / args.source)
        path, notes = votes_of(run)
    votes = read_votes(path)
    if not votes:
        raise ValueError(f"{path}: nobody has voted yet; all rows are skips")
    rows = read_jsonl(path) if path.name == "preferences.jsonl" else []
    reference = None
    if run is not None and run.source.simulated and rows and args.audit:
        checked = gold_choices(rows, args.audit, rng=np.random.default_rng(args.seed))
        reference = decided(checked)
        notes.append(
            f"audit: gold looked at {len(checked)} items and prefers one reply in "
            f"{len(reference)}; this panel knows no ties, so the others are left out"
            if reference else
            "audit: none; gold says which reply is better, and these labelers were asked which is "
            "safer, or more useful")
    parts = by_round(votes, rows) if rows else {1: votes}
    print("\n".join([str(path), *notes]))
    for number, some in parts.items():
        print("\n" + f"Round {number}\n\n" * (len(parts) > 1) + agreement_text(some, reference))


def votes_of(run: Run) -> tuple[Path, list[str]]:
    """The file of a run that is read, and what is to be said of the other one.

    Raises FileNotFoundError if there is neither.
    """
    panel, people = (run.folder / name for name in ("preferences.jsonl", "labels.jsonl"))
    if run.source.simulated and panel.exists():
        other = f"what people answered is in {people}: minirlhf agreement {people}"
        return panel, [other] * people.exists()
    if people.exists():
        return people, []
    raise FileNotFoundError(
        f"{run.folder} has no votes yet: "
        + (f"make {panel.name} by `minirlhf preferences {run.folder.name}`, or "
           if run.source.simulated else "its comparisons came without votes; ")
        + f"let people answer by `minirlhf label {run.folder.name}`")


# --- the text ------------------------------------------------------------------------------------

def agreement_text(votes: Sequence[Vote], reference: Mapping[Hashable, str] | None = None) -> str:
    """What votes say about who gave them, for a terminal; `reference` as in `agreement.judged`.

    The drift is that of the accuracy in the audit; without a reference, of the agreement with
    what most others chose.
    """
    votes = standing(votes)
    names = list(dict.fromkeys(vote.labeler for vote in votes))
    parts = [overall_text(votes), labelers_text(votes, reference)]
    if 2 <= len(names) <= MOST:
        parts.append(kappas_text(votes))
    return "\n\n".join(parts)


def overall_text(votes: Sequence[Vote]) -> str:
    share, shared = pairwise_agreement(votes)
    said = Counter(vote.choice for vote in votes)
    alpha = (number(krippendorff_alpha(votes), ".3f") if find_spec("krippendorff") else
             "not computed; it wants the krippendorff library: pip install 'minirlhf[agreement]'")
    return "\n".join([
        f"{len(by_item(votes))} items, {shared} of them with several votes; {len(votes)} votes: "
        + ", ".join(f"{choice} {said[choice]}" for choice in sorted(said)),
        f"pairwise agreement    {number(share, '.3f')}",
        f"Krippendorff's alpha  {alpha}",
        f"mean Cohen's kappa    {number(mean_kappa(votes), '.3f')}"])


def labelers_text(votes: Sequence[Vote], reference: Mapping[Hashable, str] | None) -> str:
    """A line a labeler."""
    others, given = audit(votes), Counter(vote.labeler for vote in votes)
    audits = {} if reference is None else audit(votes, reference)
    width = max(8, *map(len, given))
    lines = [f"{'labeler':<{width}}{'votes':>8}{'as others':>16}" + f"{'audit':>16}" * bool(audits)
             + "  " + f"in {BLOCKS} parts of time".ljust(5 * BLOCKS) + f"{'drift':>16}"]
    for name, (when, right) in judged(votes, reference).items():
        line = drift(when, right)
        blocks = " ".join(f"{share:.2f}" for share in line.blocks)
        lines.append(f"{name:<{width}}{given[name]:>8}{share_text(others[name]):>16}"
                     + (f"{share_text(audits[name]):>16}" if audits else "")
                     + f"  {blocks:<{5 * BLOCKS}}{drift_text(line):>16}{mark(line)}")
    measured = "audited accuracy" if audits else "agreement with the others"
    return "\n".join([
        *lines, "± is one standard error.  As others: as most of the others, where most agree.",
        f"Drift: change of the {measured} from first to last vote, in the order of the file;",
        f"marked beyond 2 s.e. and from {ENOUGH} votes on, as happens to one in twenty who do not "
        "drift."])


def kappas_text(votes: Sequence[Vote]) -> str:
    found = kappas(votes)
    width = max(len(f"{one}, {two}") for one, two in found) if found else 0
    return "\n".join(["Cohen's kappa of each two" if found else "No two labelers share an item."]
                     + [f"{f'{one}, {two}':<{width}}  {number(kappa, '.3f')}  on {items} items"
                        for (one, two), (kappa, items) in found.items()])


def number(x: float, form: str) -> str:
    return "–" if isnan(x) else format(x, form)


def share_text(found: Accuracy) -> str:
    return f"{number(found.share, '.3f')} ± {number(found.standard_error, '.3f')}"


def drift_text(line: Drift) -> str:
    return f"{number(line.slope, '+.3f')} ± {number(line.standard_error, '.3f')}"


def mark(line: Drift) -> str:
    if not line.significant:
        return ""
    return "  drifts: worse" if line.slope < 0 else "  drifts: better"

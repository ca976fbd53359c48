"""`minirlhf refusals SOURCE`: how often replies refuse, by class of prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import tyro

from minirlhf.options import parse
from minirlhf.refusals import CLASSES, agreement_with_people, read_replies, refusal_table
from minirlhf.run_folder import no_run

SUFFIXES = (".csv", ".jsonl", ".csv.gz", ".jsonl.gz")
VERDICTS = {
    "safe": "over-refusal: {any:.0%} of the replies to safe prompts refuse, {full:.0%} fully",
    "unsafe": "of the replies to unsafe prompts, {any:.0%} refuse, {full:.0%} fully",
    "unsorted": "{any:.0%} of the replies refuse, {full:.0%} fully; whether the prompts were safe "
                "is not known: give them a label, safe or unsafe"}
QUESTIONS = {"classes": "three classes", "full": "fully refused or not",
             "any": "refused at all or not"}


@dataclass(frozen=True)
class Refusals:
    """How often replies refuse, by class of prompt, judged by their wording.

    Refusals of harmless prompts are over-refusal; those of harmful ones are wanted.  Where people
    have labelled the replies of a file, it also says how far the wording agrees with them.
    docs/refusals.md says what counts, and what a file has to hold.
    """

    source: tyro.conf.Positional[str]
    """a run's name, for the replies of its evaluation; or a CSV or JSONL file of replies"""
    out: Path = Path("runs")
    """where run folders lie"""


def refusals(argv: Sequence[str]) -> None:
    """minirlhf refusals SOURCE: a table for each model that replied."""
    args = parse(Refusals, "minirlhf refusals", None, argv)
    rows = read_replies(replies_file(args.source, args.out))
    models = dict.fromkeys(row["model"] for row in rows)
    print("\n\n".join(text for model in models
                      for text in texts([row for row in rows if row["model"] == model], model)))


def replies_file(source: str, out: Path) -> Path:
    """The file that a source means.  Raises FileNotFoundError if it or the run is not there."""
    if source.endswith(SUFFIXES):
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {source}")
        return Path(source)
    folder = out / source
    if not (folder / "config.json").exists():
        raise no_run(folder)
    path = folder / "samples.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no replies yet; `minirlhf evaluate {source}` makes "
                                "them")
    return path


def texts(rows: Sequence[dict], model: str) -> list[str]:
    """The table of one model, and if people labelled its replies the agreement with them."""
    agreement = agreement_with_people(rows)
    table = table_text(refusal_table(rows), model)
    return [table, agreement_text(agreement)] if agreement else [table]


def table_text(table: dict[str, dict], title: str = "") -> str:
    """`refusal_table` for a terminal, a line a class; people and the exact reader beside it."""
    every = [part["all"] for part in table.values()]
    people, exact = (any(key in row for row in every) for key in ("human", "exact"))
    lines = [f"{title:<32}{'prompts':>8}{'replies':>8}{'refused':>9}{'± s.e.':>8}{'fully':>7}"
             + f"{'| people:':>11}{'fully':>7}{'agree':>7}" * people
             + f"{'| parser: fully':>17}{'agree':>7}" * exact]
    for sort, part in table.items():
        lines += [line(f"  {kind}", row, people) for kind, row in part["kinds"].items()]
        lines.append(line(f"all {sort}", part["all"], people))
    return "\n".join([*lines, *(VERDICTS[sort].format(**part["all"])
                                for sort, part in table.items())])


def line(name: str, row: dict, people: bool) -> str:
    error = "–" if isnan(row["any_error"]) else f"{row['any_error']:.1%}"
    text = (f"{name:<32}{row['prompts']:>8}{row['replies']:>8}{row['any']:>9.0%}{error:>8}"
            f"{row['full']:>7.0%}")
    if "human" in row:
        said = row["human"]
        text += f"{1 - said['none']:>11.0%}{said['full']:>7.0%}{row['agreement']:>7.0%}"
    elif people:
        text += " " * 25
    if "exact" in row:
        text += f"{row['exact']:>17.0%}{row['exact_agreement']:>7.0%}"
    return text


def agreement_text(found: dict) -> str:
    """`agreement_with_people` for a terminal."""
    lines = [f"{found['replies']} replies with people's labels (rows) and the wording's (columns)",
             f"{'':<12}" + "".join(f"{name:>9}" for name in CLASSES)]
    lines += [f"{name:<12}" + "".join(f"{count:>9}" for count in row.values())
              for name, row in found["confusion"].items()]
    lines.append(f"{'':<26}{'accuracy':>9}{'kappa':>9}"
                 + f"{'two people:':>14}{'kappa':>9}" * ("people" in found))
    for key, what in QUESTIONS.items():
        pairs = [found[key], *([found["people"][key]] if "people" in found else [])]
        widths = ((9, 9), (14, 9))
        lines.append(f"{what:<26}" + "".join(
            f"{accuracy:>{a}.3f}{kappa:>{b}.3f}"
            for (accuracy, kappa), (a, b) in zip(pairs, widths, strict=False)))
    return "\n".join(lines)

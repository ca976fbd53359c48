"""`minirlhf label RUN`: people compare what two models of a run reply."""

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from minirlhf.labelling import page, terminal
from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.guidelines import read_guidelines
from minirlhf.labelling.pairs import sample_pairs, two_models
from minirlhf.labelling.session import Session, cleaned_name
from minirlhf.labels import read_labels, summaries, summary_text
from minirlhf.options import parse
from minirlhf.run import Run
from minirlhf.run_folder import open_run


@dataclass(frozen=True)
class Label:
    """Two models of a run answer the same prompts, and a person says which reply is better.

    The replies stand side by side without their models' names and in shuffled order, on a page in
    the browser (extra: label) or in the terminal.  Each answer is a line of labels.jsonl in the run
    folder, on disk before the next pair is shown: stop when you like, start again and go on.  The
    answers tell how often people prefer one model, and a reward model can be trained on them.
    """

    run: tyro.conf.Positional[str]
    """name of the run whose models reply"""
    models: str = "sft,policy"
    """the two to compare, out of base, sft and policy (base is asked in plain text)"""
    pairs: int = 50
    """how many pairs; a larger number later keeps those already answered"""
    split: Literal["train", "validation", "test"] = "test"
    """which prompts: test measures on what no training saw; train collects data to learn from"""
    labeler: str | None = None
    """your name; without it the page (or the terminal) asks, and several people can use one page"""
    guidelines: Path | None = None
    """instructions of your own beside the pairs, plain text or Markdown; first line: version NAME
    (or a hash is its version)"""
    terminal: bool = False
    """label in the terminal instead of the browser"""
    port: int | None = None
    """port of the page on 127.0.0.1; without it a free one"""
    open: bool = False
    """open the page in a browser at once"""
    summary: bool = False
    """print what the answers so far say, and end"""
    out: Path = Path("runs")
    """where run folders lie"""


def label(argv: Sequence[str]) -> None:
    """Parse the flags and let people label.  What can be wrong is checked before anything is
    written."""
    args = parse(Label, "minirlhf label", None, argv)
    run = open_run(args.out / args.run)
    path = run.folder / "labels.jsonl"
    if args.summary:
        return print_summary(path)
    models = two_models(args.models)
    name = None if args.labeler is None else cleaned_name(args.labeler)
    guidelines = read_guidelines(args.guidelines)
    if args.terminal:
        return label_with(run, args, models, guidelines, lambda session: in_terminal(session, name))
    page.flask()
    with page.listen(args.port) as listening:
        label_with(run, args, models, guidelines, lambda session: page.serve(
            page.Page(session, name, advice(run, args.split)), listening, args.open))


def label_with(run: Run, args: Label, models, guidelines, show) -> None:
    """Sample the pairs, open the file, let `show` do the asking, and say what came of it."""
    print(f"{' and '.join(models)} answer {args.split} prompts …", flush=True)
    pairs, equal = sample_pairs(run, models, args.split, args.pairs)
    with closing(AnswerFile(run.folder / "labels.jsonl")) as file:
        session = Session(pairs, file, guidelines, run.config.seed)
        for note in [*pair_notes(session, equal, args), *file.notes, *answer_notes(session)]:
            print(note)
        show(session)
        for note in [*answer_notes(session),
                     *(f"{what}:\n  {command}" for what, command in advice(run, args.split))]:
            print(note)


def in_terminal(session: Session, name: str | None) -> None:
    try:
        terminal.label(session, name)
    except KeyboardInterrupt:
        print()


def print_summary(path: Path) -> None:
    found = summaries(read_labels(path))
    print("\n\n".join(map(summary_text, found)) if found else f"{path}: no answers yet")


def pair_notes(session: Session, equal: int, args: Label) -> list[str]:
    """What will be compared, and what will not."""
    found = len(session.pairs)
    notes = [f"{found} pairs, guidelines version {session.guidelines.version}"]
    if found < args.pairs:
        notes[0] += f"; the {args.split} split has no more"
    if equal:
        notes.append(f"left out: {equal} prompts, to which both models replied the same")
    return notes


def answer_notes(session: Session) -> list[str]:
    """How far everybody is.  What was preferred is not told: more labelers may follow."""
    return [f"{name}: {len(said)} of {len(session.pairs)} pairs answered"
            for name, said in sorted(session.said.items())]


def advice(run: Run, split: str) -> tuple[tuple[str, str], ...]:
    """What to do with the answers: (what, command) pairs.  Those on held-out prompts measure; those
    on training prompts can also be learned from."""
    path = run.folder / "labels.jsonl"
    out = [] if run.folder.parent == Path("runs") else ["--out", str(run.folder.parent)]
    again = ["minirlhf", "label", run.folder.name, "--summary", *out]
    report = ["minirlhf", "report", run.folder.name, *out]
    more = ["minirlhf", "label", run.folder.name, "--split", "train", *out]
    train = ["minirlhf", "run", "--preferences", str(path), "--name", "from-people"]
    learn = (("Train a reward model on the answers, and what comes after it", shlex.join(train))
             if split == "train" else
             ("Collect answers to learn from, on training prompts", shlex.join(more)))
    return (("See how often each model was preferred", shlex.join(again)),
            ("Write it into the run's report", shlex.join(report)),
            learn)

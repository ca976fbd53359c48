"""What each command of the command line does: the whole run, and one stage of it."""

import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from minirlhf import page, pipeline, report
from minirlhf.files import (
    locked,
    read_jsonl,
    replacing,
    replacing_folder,
    write_json,
    write_jsonl,
)
from minirlhf.options import Finished, parse, parse_continue, parse_new
from minirlhf.run import Run
from minirlhf.run_folder import check_data, create, reopen, resume
from minirlhf.settings import RunConfig, read_settings


def run_all(argv: Sequence[str]) -> None:
    """The whole pipeline, a few minutes: pretrain a base model, fine-tune it on demonstrations
    (SFT), let labelers compare its replies, train a reward model on their choices, and improve the
    SFT model against that reward with PPO.  Ends with all three models answering the same test
    prompts, a table of what the answers are worth, and a report in the run folder.
    """
    started = time.monotonic()
    with begun("minirlhf run", run_all.__doc__, argv) as run:
        for stage in pipeline.STAGES.values():
            if not done(run, stage):
                stage.run(run)
        show(run)
    print(f"\n{time.monotonic() - started:.0f} s.  Everything is in {run.folder}; "
          f"look at {run.folder / 'report.html'}")


def run_stage(name: str, argv: Sequence[str]) -> None:
    """minirlhf STAGE RUN: one stage, in place or in a new folder; its results are never replaced.
    """
    stage = pipeline.STAGES[name]
    place = (begun("minirlhf pretrain", stage.run.__doc__, argv) if name == "pretrain"
             else continued(name, argv))
    with place as run:
        if not done(run, stage):
            stage.run(run)
        if name == "evaluate":
            show(run)
    print(f"written to {run.folder}: {', '.join(stage.makes)}")


def done(run: Run, stage: pipeline.Step) -> bool:
    """Whether a stage has ended: its last result is there (and came there whole)."""
    return (run.folder / stage.makes[-1]).exists()


def show(run: Run) -> None:
    """Print what the run found, and write its report."""
    samples = report.read_samples(run.folder)
    print(f"\n{report.examples_text(samples)}\n")
    print(report.accuracy_text(report.read_accuracy(run.folder)) + "\n")
    print(report.table_text(report.comparison(samples)))
    page.write_report(run.folder)


def write_report(argv: Sequence[str]) -> None:
    """minirlhf report RUN: the page again, from what the folder holds."""
    args = parse(Finished, "minirlhf report", write_report.__doc__, argv)
    print(f"written: {page.write_report(args.out / args.run)}")


# --- the folder to work in, kept from other processes meanwhile ----------------------------------

def new_run(program: str, description: str, argv: Sequence[str], name: str = "toy") -> Run:
    """The new run folder of a program that is no command: for scripts."""
    args = parse_new(program, description, argv, name)
    if args.resume:
        raise ValueError(f"{program} always starts anew; what can be resumed is `minirlhf run`")
    return create(args.out / args.name, args.settings, shlex.join([program, *argv]))


@contextmanager
def begun(program: str, description: str, argv: Sequence[str]) -> Iterator[Run]:
    """A new run folder, or with --resume that of an interrupted run."""
    args = parse_new(program, description, argv)
    folder, command = args.out / args.name, shlex.join([*program.split(), *argv])
    run = None if args.resume else create(folder, args.settings, command)
    must_exist(folder)
    with locked(folder):
        yield run or resume(folder, args.settings, command)


@contextmanager
def continued(name: str, argv: Sequence[str]) -> Iterator[Run]:
    """The run folder a stage works in.  Everything is checked before anything is written.

    Raises FileNotFoundError if there is no such run or it lacks a model that the stage starts
    from, FileExistsError if the folder already has what the stage makes.
    """
    stage, program = pipeline.STAGES[name], f"minirlhf {name}"
    args = parse_continue(program, stage.run.__doc__, argv)
    source, command = args.out / args.run, shlex.join([*program.split(), *argv])
    must_exist(source / "config.json")
    check_changes(name, source, args.settings)
    origin = Run(source, args.settings)
    for needed in stage.needs:
        origin.load(needed)
    folder = source if args.name is None else args.out / args.name
    if args.name is not None:
        metrics = read_jsonl(source / "metrics.jsonl", "stage")
    if args.name is not None and not args.resume:
        check_data(origin)
        create(folder, args.settings, command)
    must_exist(folder)
    with locked(folder):
        if args.name is not None:
            run = resume(folder, args.settings, command)
            copy_earlier(name, source, folder, metrics)
        elif args.resume:
            run = resume(folder, args.settings, command)
        else:
            run = start_stage(origin, stage)
        yield run


def start_stage(run: Run, stage: pipeline.Step) -> Run:
    """Make a run folder ready for a stage from its beginning, with the settings that `run` has.

    Raises FileExistsError if it already has what the stage makes.
    """
    if done(run, stage):
        raise FileExistsError(f"{run.folder} already has {stage.makes[-1]}; "
                              "give --name NEW to run the stage again in a folder of its own")
    run.check()
    reopen(run)
    run.checkpoint.found.clear()
    write_json(run.folder / "config.json", asdict(run.config))
    return run


def must_exist(path: Path) -> None:
    """Raise FileNotFoundError unless a run's folder, or its config.json, is there."""
    if not path.exists():
        raise FileNotFoundError("there is no run "
                                f"{path.parent if path.name == 'config.json' else path}")


def check_changes(name: str, source: Path, after: RunConfig) -> None:
    """Raise ValueError for a changed setting that an earlier stage has already used.

    The run's config.json says how its models were made, and must stay true.
    """
    stages = list(pipeline.STAGES)
    used = {setting: stage for stage in stages[:stages.index(name)]
            if (source / pipeline.STAGES[stage].makes[-1]).exists()
            for setting in pipeline.STAGES[stage].settings}
    before = read_settings(source / "config.json")
    old, new = asdict(before), asdict(after)
    for setting, stage in used.items():
        section, _, key = setting.partition(".")
        was, now = (d[section][key] if key else d[section] for d in (old, new))
        if was != now:
            raise ValueError(f"{setting} cannot change here: {stage} has already used it; start "
                             f"there with --name NEW, or leave the setting as it was")


def copy_earlier(name: str, source: Path, target: Path, metrics: list[dict]) -> None:
    """Copy what the stages before `name` made, and their rows of the log, to another run folder.

    What is there already was copied by an attempt that was interrupted.
    """
    stages = list(pipeline.STAGES.values())
    earlier = stages[:list(pipeline.STAGES).index(name)]
    for product in (product for stage in earlier for product in stage.makes):
        if not (source / product).exists() or (target / product).exists():
            continue
        if (source / product).is_dir():
            with replacing_folder(target / product) as folder:
                shutil.copytree(source / product, folder, dirs_exist_ok=True)
        else:
            with replacing(target / product) as temporary:
                shutil.copyfile(source / product, temporary)
    logs = {stage.log for stage in earlier}
    if not (target / "metrics.jsonl").exists():
        write_jsonl(target / "metrics.jsonl", [row for row in metrics if row["stage"] in logs])

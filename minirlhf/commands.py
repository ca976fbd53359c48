"""What each command of the command line does: the whole run, and one stage of it."""

import errno
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from minirlhf import page, pipeline, report
from minirlhf.continuing import (
    check_changes,
    check_models,
    copy_earlier,
    copy_rounds,
    drop_other_algorithms,
)
from minirlhf.dealing import by_the_first, wait
from minirlhf.environment import read_peak
from minirlhf.files import locked, read_jsonl, write_json
from minirlhf.options import Continue, Finished, option, parse, parse_continue, parse_new
from minirlhf.parallel import ranks
from minirlhf.presets import check_unread
from minirlhf.run import Run
from minirlhf.run_folder import (
    check_data,
    check_ranks,
    create,
    new_folder,
    open_run,
    resumed_folder,
)
from minirlhf.settings import ALGORITHMS

WITHOUT_CRITIC = {                         # what stage 3 is by other algorithms than PPO
    "grpo": """Stage 3 by GRPO, without a value model: every prompt is answered several times, and a
    reply is worth what its score lies above the mean of its siblings, in their deviations.  Section
    ppo has what it shares with PPO, section group what is its own.""",
    "rloo": """Stage 3 by RLOO, without a value model: every prompt is answered several times, and a
    reply is worth what its score lies above the mean of the others.  Section ppo has what it shares
    with PPO, section group what is its own."""}


def run_all(argv: Sequence[str]) -> None:
    """The whole pipeline, a few minutes: pretrain a base model, fine-tune it on demonstrations
    (SFT), let labelers compare its replies, train a reward model on their choices, and improve the
    SFT model against that reward with PPO.  Ends with all three models answering the same test
    prompts, a table of what the answers are worth, and a report in the run folder.
    """
    started = time.monotonic()
    with begun("minirlhf run", run_all.__doc__, argv) as run:
        go_on(run, started)


def run_rounds(argv: Sequence[str]) -> None:
    """Further rounds of RLHF, in a new run that begins with what RUN found: the updated policy
    replies, labelers compare its replies with those of other models, the reward model is trained
    anew, and the policy goes on.  Give --name NEW and --rounds N, the rounds in all.
    """
    started = time.monotonic()
    with more_rounds(argv) as run:
        go_on(run, started)


def go_on(run: Run, started: float) -> None:
    """Do whatever a run has not done yet, and show what it found."""
    steps = pipeline.steps(run.config)
    if all(step.done(run.folder) for step in steps):
        print(f"{run.folder} had come to its end already; this is what it found")
    for step in steps:
        if not step.done(run.folder):
            step.run(run)
    tidy(run)
    by_the_first(show)(run)
    print(f"\n{time.monotonic() - started:.0f} s.  Everything is in {run.folder}; "
          f"look at {run.folder / 'report.html'}")


def tidy(run: Run) -> None:
    """Empty the checkpoint of a stage whose process died when its results were there already."""
    if run.checkpoint.found:
        run.checkpoint.end()


def run_stage(name: str, argv: Sequence[str]) -> None:
    """minirlhf STAGE RUN: one stage, in place or in a new folder; its results are never replaced.

    grpo and rloo are names of stage 3, beside ppo.
    """
    stage = pipeline.STAGES[key(name)]
    place = (begun("minirlhf pretrain", stage.run.__doc__, argv) if name == "pretrain"
             else continued(name, argv))
    with place as run:
        if not stage.done(run.folder):
            stage.run(run)
        tidy(run)
        if name == "evaluate":
            by_the_first(show)(run)
    made = [*(product for product in stage.makes if (run.folder / product).exists()),
            *["report.html"] * (name == "evaluate")]
    print(f"written to {run.folder}: {', '.join(made)}")
    if name == "dpo" and (run.folder / "samples.jsonl").exists():
        print(f"its replies beside the others': minirlhf evaluate {run.folder.name} --name NEW")
    if name in ALGORITHMS:
        print(f"what it is worth: minirlhf evaluate {run.folder.name}")


def key(name: str) -> str:
    """The stage that a command runs: every algorithm is a way to do stage 3."""
    return "ppo" if name in ALGORITHMS else name


def show(run: Run) -> None:
    """Print what the run found, and write its report."""
    samples = report.read_samples(run.folder)
    titles = report.titles_of(asdict(run.config))
    print(f"\n{report.examples_text(samples, titles=titles)}\n")
    if run.config.rounds > 1:
        print(f"The reward model of round {run.config.rounds}, on that round's pairs:")
    print(report.accuracy_text(report.read_accuracy(run.folder)) + "\n")
    print(report.table_text(report.comparison(samples), titles))
    print(f"\n{report.marks_text(run.folder)}")
    print(report.memory_text(run.folder))
    page.write_report(run.folder)


def write_report(argv: Sequence[str]) -> None:
    """minirlhf report RUN: the page again, from what the folder holds."""
    args = parse(Finished, "minirlhf report", write_report.__doc__, argv)
    print(f"written: {page.write_report(args.out / args.run)}")


# --- the folder to work in -----------------------------------------------------------------------

def new_run(program: str, description: str, argv: Sequence[str], name: str = "toy") -> Run:
    """The new run folder of a program that is no command: for scripts.

    A user's mistake ends the program with its message and status 2.
    """
    try:
        args = parse_new(program, description, argv, name)
        if args.resume:
            raise ValueError("it always starts anew; what can be resumed is `minirlhf run`")
        return create(args.out / args.name, args.settings, shlex.join([program, *argv]))
    except (ValueError, RuntimeError, OSError) as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def resumable(program: str, argv: Sequence[str]) -> Iterator[str]:
    """Around what --resume can go on with: tell how, where it is interrupted or the disk is full.

    Gives the command that began the run, which is this one but for --resume.
    """
    size = ranks().size
    launcher = ["mpiexec", "-n", str(size)] if size > 1 else []
    command = shlex.join([*launcher, *program.split(),
                          *(flag for flag in argv if flag != "--resume")])
    again = f"{command} --resume"
    try:
        yield command
    except KeyboardInterrupt as interruption:
        interruption.add_note(f"go on with: {again}")
        raise
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            problem.add_note(f"make room, then go on with: {again}")
        raise


@contextmanager
def begun(program: str, description: str, argv: Sequence[str]) -> Iterator[Run]:
    """A new run folder, or with --resume that of an interrupted run."""
    args = parse_new(program, description, argv)
    if program != "minirlhf run" and args.settings.rounds > 1:
        raise ValueError("--rounds: stage by stage there is one round; more are made by minirlhf "
                         "run --rounds N, or from a finished run by minirlhf rounds RUN")
    folder = resumed_folder if args.resume else new_folder
    with resumable(program, argv) as command, folder(args.out / args.name, args.settings,
                                                     command) as run:
        yield run


@contextmanager
def continued(name: str, argv: Sequence[str]) -> Iterator[Run]:
    """The run folder a stage works in.  Everything is checked before anything is written.

    Raises FileNotFoundError if there is no such run or it lacks a model that the stage starts
    from, FileExistsError if the folder already has what the stage makes.
    """
    stage, program = pipeline.STAGES[key(name)], f"minirlhf {name}"
    args = parse_continue(program, WITHOUT_CRITIC.get(name, stage.run.__doc__), argv)
    if name in ALGORITHMS:
        args = of_algorithm(name, args, argv)
    source = args.out / args.run
    before = open_run(source)
    if args.settings.rounds != before.config.rounds:
        raise ValueError("--rounds: more of them are made in a new run, by minirlhf rounds RUN "
                         "--name NEW --rounds N")
    if before.config.rounds > 1 and name != "evaluate":
        raise ValueError(f"{source} has {before.config.rounds} rounds, of which no stage can be "
                         "done by itself; start from a run of one round")
    check_unread(args.settings, before.config)
    check_changes(key(name), before, args.settings, in_place=args.name is None)
    origin = Run(source, args.settings)
    check_data(origin)
    asked = ("dpo",) if name == "evaluate" and "dpo" in args.settings.baselines else ()
    check_models(origin, (*stage.needs, *asked))
    if args.name is not None:
        place = in_new_folder(key(name), source, args)
    else:
        if not args.resume:
            check_ranks(origin)
            wait()                               # all have seen what start_stage may change
            by_the_first(start_stage)(origin, stage)
        place = partial(resumed_folder, source, args.settings)
    with resumable(program, argv) as command, place(command) as run:
        yield run


def of_algorithm(name: str, args: Continue, argv: Sequence[str]) -> Continue:
    """The flags of `minirlhf grpo RUN`: the command says the algorithm."""
    if option(argv, "--algorithm") is not None:
        raise ValueError("--algorithm: the command says it, minirlhf ppo, grpo or rloo RUN")
    return replace(args, settings=replace(args.settings, algorithm=name))


@contextmanager
def more_rounds(argv: Sequence[str]) -> Iterator[Run]:
    """A new run folder that begins with the first rounds of a finished run."""
    args = parse_continue("minirlhf rounds", run_rounds.__doc__, argv)
    source = args.out / args.run
    before = open_run(source)
    rounds = args.settings.rounds
    if args.name is None or rounds <= before.config.rounds:
        raise ValueError(f"{source} has had {before.config.rounds} round"
                         f"{'s' * (before.config.rounds > 1)}; give --name NEW, and --rounds "
                         f"{before.config.rounds + 1} or more, how many there are to be in all")
    check_unread(args.settings, before.config)
    check_changes("evaluate", before, args.settings, redone=("dpo",),
                  advice="begin anew with minirlhf run --rounds N")
    check_models(before, pipeline.STAGES["evaluate"].needs)
    check_data(before)
    metrics = read_jsonl(source / "metrics.jsonl", "stage")
    place = partial(resumed_folder if args.resume else new_folder, args.out / args.name,
                    args.settings, fill=lambda: copy_rounds(before, args.out / args.name, metrics))
    with resumable("minirlhf rounds", argv) as command, place(command) as run:
        yield run


def in_new_folder(name: str, source: Path, args: Continue) -> Callable:
    """How to get the folder that --name names: with a copy of what earlier stages made."""
    metrics = read_jsonl(source / "metrics.jsonl", "stage")
    folder = args.out / args.name
    return partial(resumed_folder if args.resume else new_folder, folder, args.settings,
                   fill=lambda: copy_earlier(name, source, folder, metrics))


def start_stage(run: Run, stage: pipeline.Step) -> None:
    """Make a run folder ready for a stage from its beginning, with the settings that `run` has.

    What an earlier attempt at the stage left is dropped first, so that nobody goes on with it.
    Raises FileExistsError if the folder already has what the stage makes.
    """
    if stage.done(run.folder):
        raise FileExistsError(f"{run.folder} already has {stage.makes[-1]}; "
                              "give --name NEW to run the stage again in a folder of its own")
    run.check()
    read_peak(run.folder)                        # which coming back to the folder would refuse
    with locked(run.folder):
        run.checkpoint.start_over()
        if stage is pipeline.STAGES["ppo"]:
            drop_other_algorithms(run)
        write_json(run.folder / "config.json", asdict(run.config))

"""The command line: `minirlhf run` for the whole pipeline, and a command for each stage.

A user's mistake ends with one clear message and status 2, never with a traceback.
"""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from minirlhf import pipeline, report
from minirlhf.arrays import keep_freed_memory
from minirlhf.files import read_json, read_jsonl, write_json, write_jsonl
from minirlhf.labelling.command import label
from minirlhf.run import Run, create
from minirlhf.settings import RunConfig, from_dict, quick, text_settings

OVERVIEW = """\
usage: minirlhf COMMAND [options]

Reinforcement learning from human feedback on a toy assistant, from a raw language model to PPO.

  minirlhf run                    the whole pipeline, a few minutes; ends with a table and a report
  minirlhf run --quick            the same in half a minute, to see that everything works
  minirlhf run --preferences F    the same on people's comparisons: JSONL rows with "prompt",
                                  "chosen" and "rejected" (needs the extra: text); your own
                                  --demonstrations, --corpus and --prompts may go beside them

stage by stage, each continuing a run folder:
  minirlhf pretrain --name NAME   the base model, trained to predict the next token of a toy web
  minirlhf sft RUN                stage 1: imitate demonstrations
  minirlhf preferences RUN        SFT replies side by side; labelers choose
  minirlhf reward-model RUN       stage 2: learn a score from the choices
  minirlhf ppo RUN                stage 3: PPO against that score, with a KL penalty
  minirlhf evaluate RUN           ask all models the test prompts; table and report
  minirlhf label RUN              you compare the replies of two models, blind; answers are kept

`minirlhf ppo RUN --name NEW --ppo.beta 0.05` runs a stage again with another setting, in a new
folder that starts with a copy of what the stage needs.  `minirlhf COMMAND --help` lists every
setting with its meaning and default.
"""


@dataclass(frozen=True)
class New:
    """Start a new run folder."""

    name: str = "toy"
    """the run's name: its folder is OUT/NAME"""
    out: Path = Path("runs")
    """where run folders lie"""
    quick: bool = False
    """a run of half a minute, to see that everything works; its numbers mean little"""
    preferences: Path | None = None
    """people's comparisons in place of the toy world: JSONL (or .gz) with "prompt", "chosen",
    "rejected", or with whole transcripts as "chosen" and "rejected": docs/your_data.md"""
    demonstrations: Path | None = None
    """beside them, for SFT: "prompt" and "response" or "completion" (default: chosen replies)"""
    corpus: Path | None = None
    """beside them, for the base model: "text" (default: prompts with chosen replies)"""
    prompts: Path | None = None
    """beside them, for PPO: "prompt" (default: the comparisons' prompts)"""
    settings: Annotated[tyro.conf.AvoidSubcommands[RunConfig], tyro.conf.arg(name="")] = field(
        default_factory=RunConfig)


@dataclass(frozen=True)
class Continue:
    """Run one stage in a run folder, with its settings; given ones replace them."""

    run: tyro.conf.Positional[str]
    """name of the run to continue"""
    name: str | None = None
    """work in a new run of this name instead, which starts with a copy of what the stage needs"""
    out: Path = Path("runs")
    """where run folders lie"""
    settings: Annotated[tyro.conf.AvoidSubcommands[RunConfig], tyro.conf.arg(name="")] = field(
        default_factory=RunConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2 for a mistake that the user can mend)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(OVERVIEW)
        return 0
    keep_freed_memory()
    try:
        return command(argv[0])(argv[1:]) or 0
    except KeyboardInterrupt:
        print("\nminirlhf: interrupted", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, ArithmeticError, OSError) as problem:
        print(f"minirlhf: {problem}", file=sys.stderr)
        return 2


def command(name: str) -> Callable:
    """The function of a command.  Raises ValueError for an unknown one."""
    if name == "run":
        return run_all
    if name == "label":
        return label
    if name in pipeline.STAGES:
        return lambda argv: run_stage(name, argv)
    raise ValueError(f"unknown command {name!r}; choose run, {', '.join(pipeline.STAGES)}, label "
                     "(minirlhf --help)")


def run_all(argv: Sequence[str]) -> None:
    """The whole pipeline, a few minutes: pretrain a base model, fine-tune it on demonstrations
    (SFT), let labelers compare its replies, train a reward model on their choices, and improve the
    SFT model against that reward with PPO.  Ends with all three models answering the same test
    prompts, a table of what the answers are worth, and a report in the run folder.
    """
    run = new_run("minirlhf run", run_all.__doc__, argv)
    started = time.monotonic()
    for stage in pipeline.STAGES.values():
        stage.run(run)
    show(run)
    print(f"\n{time.monotonic() - started:.0f} s.  Everything is in {run.folder}; "
          f"look at {run.folder / 'report.html'}")


def new_run(program: str, description: str, argv: Sequence[str],
            name: str = "toy") -> Run:
    """Parse the flags of a program that starts a run folder, and make the folder.

    `name` is the run's name where the flags give none.
    """
    args = tyro.cli(New, prog=program, args=argv, description=description,
                    default=New(name=name, settings=default_settings(argv)))
    check_name(args.name)
    return create(args.out / args.name, args.settings)


def run_stage(name: str, argv: Sequence[str]) -> None:
    """minirlhf STAGE RUN: one stage, in place or in a new folder; its results are never replaced.

    Raises ValueError unless the run is named first: its settings are what the flags change.
    """
    stage = pipeline.STAGES[name]
    if name == "pretrain":
        run = new_run(f"minirlhf {name}", stage.run.__doc__, argv)
    else:
        if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
            raise ValueError(f"name the run first: minirlhf {name} RUN [options]")
        args = tyro.cli(Continue, prog=f"minirlhf {name}", args=argv,
                        description=stage.run.__doc__,
                        default=Continue(tyro.MISSING, settings=saved_settings(argv)))
        run = continued(name, args)
    stage.run(run)
    if name == "evaluate":
        show(run)
    print(f"written to {run.folder}: {', '.join(stage.makes)}")


def continued(name: str, args: Continue) -> Run:
    """The run folder a stage works in.  Everything is checked before anything is written.

    Raises FileNotFoundError if there is no such run or it lacks a model that the stage starts
    from, FileExistsError if the folder already has what the stage makes.
    """
    stage, source = pipeline.STAGES[name], args.out / args.run
    if not (source / "config.json").exists():
        raise FileNotFoundError(f"there is no run {source}")
    check_changes(name, source, args.settings)
    origin = Run(source, args.settings)
    for needed in stage.needs:
        origin.load(needed)
    if args.name is not None:
        check_name(args.name)
        run = create(args.out / args.name, args.settings)
        copy_earlier(name, source, run.folder)
        return run
    if (source / stage.makes[-1]).exists():
        raise FileExistsError(f"{source} already has {stage.makes[-1]}; "
                              "give --name NEW to run the stage again in a folder of its own")
    origin.check()
    write_json(source / "config.json", asdict(args.settings))
    return origin


def check_changes(name: str, source: Path, after: RunConfig) -> None:
    """Raise ValueError for a changed setting that an earlier stage has already used.

    The run's config.json says how its models were made, and must stay true.
    """
    stages = list(pipeline.STAGES)
    used = {setting: stage for stage in stages[:stages.index(name)]
            if (source / pipeline.STAGES[stage].makes[-1]).exists()
            for setting in pipeline.STAGES[stage].settings}
    before = from_dict(RunConfig, read_json(source / "config.json"))
    old, new = asdict(before), asdict(after)
    for setting, stage in used.items():
        section, _, key = setting.partition(".")
        was, now = (d[section][key] if key else d[section] for d in (old, new))
        if was != now:
            raise ValueError(f"{setting} cannot change here: {stage} has already used it; start "
                             f"there with --name NEW, or leave the setting as it was")


def copy_earlier(name: str, source: Path, target: Path) -> None:
    """Copy what the stages before `name` made, and their metrics, to another run folder."""
    stages = list(pipeline.STAGES.values())
    earlier = stages[:list(pipeline.STAGES).index(name)]
    for product in (product for stage in earlier for product in stage.makes):
        if (source / product).is_dir():
            shutil.copytree(source / product, target / product)
        elif (source / product).exists():
            shutil.copy2(source / product, target / product)
    logs = {stage.log for stage in earlier}
    write_jsonl(target / "metrics.jsonl", [row for row in read_jsonl(source / "metrics.jsonl")
                                           if row["stage"] in logs])


def default_settings(argv: Sequence[str]) -> RunConfig:
    """The settings that flags are measured against: they depend on --quick and --preferences.

    Paths are made absolute, so that a later stage finds the files from any folder.
    """
    names = ("preferences", "demonstrations", "corpus", "prompts")
    given = {name: option(argv, f"--{name}") for name in names}
    paths = {name: Path(path).absolute() for name, path in given.items() if path is not None}
    if paths and "preferences" not in paths:
        raise ValueError(f"--{', --'.join(paths)}: only beside --preferences FILE")
    settings = RunConfig() if not paths else text_settings(
        paths.pop("preferences"), **{f"{name}_path": path for name, path in paths.items()})
    return quick(settings) if "--quick" in argv else settings


def saved_settings(argv: Sequence[str]) -> RunConfig:
    """The settings of the run that a stage command names, or the defaults if there is none."""
    names = [a for a in argv[:1] if not a.startswith("-")]
    path = Path(option(argv, "--out") or "runs") / (names[0] if names else "") / "config.json"
    return from_dict(RunConfig, read_json(path)) if path.exists() else RunConfig()


def option(argv: Sequence[str], flag: str) -> str | None:
    """The value that follows a flag, in either form: --flag VALUE, --flag=VALUE."""
    for i, argument in enumerate(argv):
        if argument == flag and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(flag + "="):
            return argument[len(flag) + 1:]
    return None


def check_name(name: str) -> None:
    """Raise ValueError unless a run name is a plain folder name."""
    if not name or name in (".", "..") or Path(name).name != name:
        raise ValueError(f"a run name is one folder name, such as toy or low-beta; got {name!r}")


def show(run: Run) -> None:
    """Print what the run found, and write its report."""
    samples = read_jsonl(run.folder / "samples.jsonl")
    print(f"\n{report.examples_text(samples)}\n")
    print(report.accuracy_text(read_json(run.folder / "reward" / "accuracy.json")) + "\n")
    print(report.table_text(report.comparison(samples)))
    report.write_report(run.folder)


if __name__ == "__main__":
    sys.exit(main())

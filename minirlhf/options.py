"""The flags of the command line, and the settings that they make.

Flags are measured against defaults, and the defaults depend on other flags (`--quick`,
`--preferences`, the run that a stage continues): so these are looked up first, then tyro parses.
"""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from minirlhf.presets import base_settings, check_unread, check_unused, quick, text_settings
from minirlhf.settings import RunConfig, read_settings


@dataclass(frozen=True)
class New:
    """Start a new run folder."""

    name: str = "toy"
    """the run's name: its folder is OUT/NAME"""
    out: Path = Path("runs")
    """where run folders lie"""
    resume: bool = False
    """go on with the interrupted run of this name; give the flags that began it, and this one"""
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
    resume: bool = False
    """go on where the stage was interrupted; give the flags that began it, and this one"""
    settings: Annotated[tyro.conf.AvoidSubcommands[RunConfig], tyro.conf.arg(name="")] = field(
        default_factory=RunConfig)


@dataclass(frozen=True)
class Finished:
    """Write the report of a run again, from what its folder holds."""

    run: tyro.conf.Positional[str]
    """name of the run"""
    out: Path = Path("runs")
    """where run folders lie"""


def parse(kind: type, program: str, description: str | None, argv: Sequence[str], default=MISSING):
    """The flags of a program, as tyro reads them into a dataclass.

    Raises ValueError with tyro's complaint as one line, in place of its box and its exit.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, prog=program, args=argv, description=description,
                            **{} if default is MISSING else {"default": default})
    except SystemExit as end:
        if not end.code:                                         # --help
            raise
        raise ValueError(f"{complaint(told.getvalue())} ({program} --help)") from None


def complaint(box: str) -> str:
    """The sentences of a box that tyro draws around what it has to say."""
    text = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯|]", "", box)
    parts = re.split(r"^(?:─ .*)?[ ─-]*[─-]{3,} *$", text, flags=re.MULTILINE)   # lines, the title
    told = [" ".join(part.split()) for part in parts]
    told = [re.sub(r"^Error parsing settings\.?[\w.]*: ", "", part) for part in told]
    return "; ".join(part for part in told if len(part.split()) > 2 and "full helptext" not in part)


def parse_new(program: str, description: str, argv: Sequence[str], name: str = "toy") -> New:
    """The flags of a program that starts a run; `name` is the run's name where they give none."""
    default = default_settings(argv)
    args = parse(New, program, description, argv, New(name=name, settings=default))
    check_name(args.name)
    check_unused(args.settings, default)
    check_unread(args.settings, default)
    return args


def parse_continue(program: str, description: str, argv: Sequence[str]) -> Continue:
    """The flags of a program that continues a run.

    Raises ValueError unless the run is named first: its settings are what the flags change.
    """
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        raise ValueError(f"name the run first: {program} RUN [options]")
    args = parse(Continue, program, description, argv,
                 Continue(tyro.MISSING, settings=saved_settings(argv)))
    check_name(args.run)
    if args.name is not None:
        check_name(args.name)
    return args


def default_settings(argv: Sequence[str]) -> RunConfig:
    """The settings that flags are measured against: they depend on --quick, --preferences, --base.

    Paths are made absolute, so that a later stage finds the files from any folder.
    """
    names = ("preferences", "demonstrations", "corpus", "prompts")
    given = {name: option(argv, f"--{name}") for name in names}
    paths = {name: Path(path).absolute() for name, path in given.items() if path is not None}
    if paths and "preferences" not in paths:
        raise ValueError(f"--{', --'.join(paths)}: only beside --preferences FILE")
    settings = RunConfig() if not paths else text_settings(
        paths.pop("preferences"), **{f"{name}_path": path for name, path in paths.items()})
    said = [flag for flag in argv if flag in ("--quick", "--no-quick")]
    settings = quick(settings) if said[-1:] == ["--quick"] else settings
    base = option(argv, "--base")
    return settings if base is None else base_settings(settings, Path(base))


def saved_settings(argv: Sequence[str]) -> RunConfig:
    """The settings of the run that a stage command names, or the defaults if there is none."""
    names = [a for a in argv[:1] if not a.startswith("-")]
    path = Path(option(argv, "--out") or "runs") / (names[0] if names else "") / "config.json"
    return read_settings(path) if path.exists() else RunConfig()


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

"""Making a run's folder, and coming back to it.

The folder is there, with the run's settings, before any work: whatever happens then, `--resume`
finds what was begun.  It also records what the run is computed with and the digests of the data
files it reads, so that coming back with something else is noticed.

Of several ranks the first makes it and comes back to it, and the others go by what it left there.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path

import numpy as np

from minirlhf.arrays import NOT_INSTALLED, NUMPY, cupy_problem
from minirlhf.dealing import same_everywhere, wait
from minirlhf.environment import differences, environment, read_peak
from minirlhf.files import (
    flush_folder,
    is_temporary,
    locked,
    read_object,
    remove_temporary,
    write_json,
)
from minirlhf.parallel import alone, ranks
from minirlhf.run import Run
from minirlhf.settings import RunConfig, changes, read_settings


def by_all_ranks(opened: Callable) -> Callable:
    """A way to open a folder, which the first rank goes alone.  The others wait, and then go on.

    Raises RuntimeError, before anything is written, unless all are about the same run.
    """
    @contextmanager
    @wraps(opened)
    def entered(folder: Path, config: RunConfig, *given, **more) -> Iterator[Run]:
        here = ranks()
        if here.size == 1:
            with opened(folder, config, *given, **more) as run:
                yield run
            return
        run = Run(folder, config)
        check_ranks(run)
        note_idle_ranks(config.shards)
        wait()                                   # nobody writes what another still looks at
        with ExitStack() as stack:
            if here.rank == 0:
                with alone():
                    run = stack.enter_context(opened(folder, config, *given, **more))
            wait()                                   # until the folder is open
            if here.rank > 0:
                run.checkpoint.read()
            wait()
            yield run
    return entered


def check_ranks(run: Run) -> None:
    """Raise RuntimeError unless all ranks have the same settings, data files and tokenizer.

    Gradients are summed: parameters would stay the same on all, whatever each is trained on.
    """
    if ranks().size > 1:
        for what, found in {"the settings": asdict(run.config),
                            "the data files": [digest(path) for path in run.source.files()],
                            "the tokenizer": run.tokenizer.definition()}.items():
            same_everywhere(what, np.frombuffer(json.dumps(found, default=str).encode(), np.uint8))


def note_idle_ranks(shards: int) -> None:
    """Say, once, that a step has too few parts for all ranks.  (They still share the rollouts.)"""
    here = ranks()
    if here.rank == 0 and shards < here.size:
        print(f"note: this run's steps have {shards} part{'s' * (shards > 1)} (--shards): "
              f"{here.size - shards} of {here.size} ranks idle in them; a new run may have "
              f"--shards {here.size}", file=sys.stderr)


@by_all_ranks
@contextmanager
def new_folder(folder: Path, config: RunConfig, command: str = "",
               fill: Callable[[], None] = lambda: None) -> Iterator[Run]:
    """A new run's folder, kept from other processes meanwhile; settings come first.

    `fill` puts into it what is there from the beginning.  A folder whose run could not come to its
    end is removed again.  Raises FileExistsError if there is one already: results are never
    overwritten by another run.
    """
    folder = Path(folder)
    above = [path for path in folder.parents if not path.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise FileExistsError(f"{folder} exists already; choose another --name, go on with it "
                                  "by --resume, or remove it") from None
        with locked(folder):
            try:
                flush_folder(folder.parent)
                run = begin(folder, config, command, fill)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            yield run
    finally:
        for path in above:
            with suppress(OSError):                          # not empty, as it should be
                path.rmdir()


def create(folder: Path, config: RunConfig, command: str = "") -> Run:
    """A new run's folder, for programs that nobody else runs at the same time."""
    with new_folder(folder, config, command) as run:
        return run


def begin(folder: Path, config: RunConfig, command: str, fill: Callable[[], None]) -> Run:
    """The first words of a run; said again, they are the same."""
    write_json(folder / "config.json", asdict(config))
    fill()
    run = Run(folder, config)
    run.check()
    record_environment(run, command)
    announce_fallback(run)
    return run


def open_run(folder: Path, **others) -> Run:
    """The run of a folder, to be read, with the settings it was made with but for the given ones.

    Raises FileNotFoundError if there is none.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise no_run(folder)
    return Run(folder, replace(read_settings(path), **others))


def no_run(folder: Path) -> FileNotFoundError:
    """What to raise where a run is not there: it names those that are."""
    known = sorted(path.parent.name for path in Path(folder).parent.glob("*/config.json"))
    return FileNotFoundError(f"there is no run {folder}"
                             + f"; there are: {', '.join(known[:20])}" * bool(known))


@by_all_ranks
@contextmanager
def resumed_folder(folder: Path, config: RunConfig, command: str = "",
                   fill: Callable[[], None] = lambda: None) -> Iterator[Run]:
    """The folder of an interrupted run, with the settings that it began with.

    Raises FileNotFoundError if there is none, ValueError if a setting or a data file is not what
    it was.
    """
    folder = Path(folder)
    begun = folder / "config.json"
    if not begun.exists() and (not folder.is_dir() or any(
            not is_temporary(path) for path in folder.iterdir())):
        raise no_run(folder)
    with locked(folder):
        if begun.exists() and (before := read_settings(begun)) != config:
            raise ValueError(f"{folder} was begun with other settings: "
                             f"{'; '.join(changes(before, config))}.  Give --resume the flags "
                             "that began it")
        if (folder / "environment.json").exists():
            run = Run(folder, config)
        else:                                                # died before it had begun to work
            run = begin(folder, config, command, fill)
        reopen(run)
        yield run


def reopen(run: Run) -> None:
    """Tidy up after a process that may have died here, and find its checkpoint.

    What the run was computed with until now is compared with what is here: a difference is
    announced.  Raises ValueError if a data file is not what it was, or memory.json is none.
    """
    check_data(run)
    read_peak(run.folder)
    announce_differences(run)
    remove_temporary(run.folder)
    run.checkpoint.read()


def record_environment(run: Run, command: str) -> None:
    """Write environment.json: what the run is computed with, and digests of its data files."""
    write_json(run.folder / "environment.json", {
        "command": command, **environment(run.backend),
        "data": {str(path): digest(path) for path in run.source.files()}})


def check_data(run: Run) -> None:
    """Raise ValueError naming a data file that is not what it was when the run began."""
    path = run.folder / "environment.json"
    recorded = read_object(path).get("data", {}) if path.exists() else {}
    for name, was in dict(recorded).items():
        if digest(Path(name)) != was:
            raise ValueError(f"{name} is not what it was when {run.folder} began; put the old "
                             "file back, or start a new run")


def announce_differences(run: Run) -> None:
    """Say, and record, that a run goes on elsewhere than where it began."""
    path = run.folder / "environment.json"
    if not path.exists():
        return
    recorded, now = read_object(path), environment(run.backend)
    before = (recorded.get("resumed") or [recorded])[-1]
    changed = differences(before, now)
    if changed:
        print(f"note: {run.folder} goes on with something else than before ({'; '.join(changed)}); "
              "its last bits may differ from those of an uninterrupted run")
        write_json(path, {**recorded, "resumed": [*recorded.get("resumed", []), now]})
    if before.get("backend") != now["backend"]:
        announce_fallback(run)


def announce_fallback(run: Run) -> None:
    """Say on stderr why "auto" computes with NumPy though CuPy is installed.

    It is said once a run, where its environment is recorded, and again only if it goes on with
    another backend.  Nothing is said where CuPy is not installed: NumPy is then what the user
    chose, and a line about GPUs in every run on every laptop would teach people to skip notes.
    """
    if run.config.backend == "auto" and run.backend is NUMPY:
        problem = cupy_problem()
        if problem not in (None, NOT_INSTALLED):
            print(f"note: computing with NumPy: {problem}", file=sys.stderr)


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Making a run's folder, and coming back to it.

The folder is there, with the run's settings, before any work: whatever happens then, `--resume`
finds what was begun.  It also records what the run is computed with and the digests of the data
files it reads, so that coming back with something else is noticed.
"""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from minirlhf.environment import differences, environment
from minirlhf.files import flush_folder, read_object, remove_temporary, write_json
from minirlhf.run import Run
from minirlhf.settings import RunConfig, changes, read_settings


def create(folder: Path, config: RunConfig, command: str = "") -> Run:
    """Make the run folder and write its settings, before any work.

    A folder whose run could not come to its end is removed again.  Raises FileExistsError if the
    folder exists: results are never overwritten by another run.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another --name, go on with it by "
                              "--resume, or remove it")
    above = [path for path in folder.parents if not path.exists()]
    try:
        folder.mkdir(parents=True)
        flush_folder(folder.parent)
        write_json(folder / "config.json", asdict(config))
        run = Run(folder, config)
        run.check()
        record_environment(run, command)
    except FileExistsError:                                  # another process was quicker
        raise
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        for path in above:
            with suppress(OSError):                          # not there, or not empty
                path.rmdir()
        raise
    return run


def open_run(folder: Path, **others) -> Run:
    """The run of a folder, to be read, with the settings it was made with but for the given ones.

    Raises FileNotFoundError if there is none.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"there is no run {folder}")
    return Run(folder, replace(read_settings(path), **others))


def resume(folder: Path, config: RunConfig, command: str = "") -> Run:
    """Come back to an interrupted run, with the settings that it began with.

    Raises ValueError if a setting or a data file is not what it was.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():                # killed before its first word
        write_json(folder / "config.json", asdict(config))
    began = read_settings(folder / "config.json")
    if began != config:
        raise ValueError(f"{folder} was begun with other settings: "
                         f"{'; '.join(changes(began, config))}.  Give --resume the flags that "
                         "began it")
    run = Run(folder, config)
    if not (folder / "environment.json").exists():           # killed before its data were checked
        run.check()
        record_environment(run, command)
    reopen(run)
    return run


def reopen(run: Run) -> None:
    """Tidy up after a process that may have died here, and find its checkpoint.

    What the run was computed with until now is compared with what is here: a difference is
    announced.  Raises ValueError if a data file is not what it was.
    """
    check_data(run)
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
    changed = differences((recorded.get("resumed") or [recorded])[-1], now)
    if changed:
        print(f"note: {run.folder} goes on with something else than before ({'; '.join(changed)}); "
              "its last bits may differ from those of an uninterrupted run")
        write_json(path, {**recorded, "resumed": [*recorded.get("resumed", []), now]})


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

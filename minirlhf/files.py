"""Files that are whole or absent: they are written to a temporary name, then renamed.

A reader of a run folder, a second process or a power cut never sees half a file, or half a model.
Only logs are appended to, a line at a time.  Of several ranks (parallel.py) the first writes, and
what the others would write, which is the same, is not written.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.dealing import by_the_first


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Tell of which file an OSError is that does not say so itself, as that of a full disk."""
    try:
        yield
    except OSError as problem:
        if problem.errno is None or problem.filename is not None:
            raise
        raise OSError(problem.errno, problem.strerror, str(path)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with naming(path):
            yield temporary
            flush(temporary)
            temporary.replace(path)
            flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success it becomes `path`, with all its files.

    An older folder of that name steps aside for this moment, whole, and is then removed.
    """
    path = Path(path)
    temporary, old = temporary_name(path), temporary_name(path, "old")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            flush(file)
        flush_folder(temporary)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        if old.exists() and not path.exists():               # interrupted between the two
            old.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@by_the_first
def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, or a folder with all its files: `target` appears in one moment, as a whole."""
    if source.is_dir():
        with replacing_folder(target) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def temporary_name(path: Path, purpose: str = "new") -> Path:
    return path.with_name(f".{path.name}.{purpose}-{os.getpid()}.tmp")


def is_temporary(path: Path) -> bool:
    return re.fullmatch(r"\..+\.(new|old)-\d+\.tmp", path.name) is not None


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder that nobody else writes to."""
    for left in filter(is_temporary, list(Path(folder).glob("**/.*.tmp"))):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Return when the file is on the disk, not only in the system's memory."""
    with open(path, "rb" if os.name == "posix" else "rb+") as written:
        os.fsync(written.fileno())


def flush_folder(folder: Path) -> None:
    """As `flush` for the names in a folder: a rename survives a power cut only after this."""
    if os.name == "posix":                                   # elsewhere folders cannot be opened
        door = os.open(folder, os.O_RDONLY)
        try:
            with naming(folder):
                os.fsync(door)
        finally:
            os.close(door)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the lock of a process that died is no lock.

    Raises RuntimeError if another process is in it.  (Windows has no such lock, and some network
    file systems have none: there nothing is checked.)
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    door = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(door)
        raise RuntimeError(f"another minirlhf is at work in {folder}; wait until it has ended, or "
                           "choose another --name") from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(door)


@by_the_first
def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`.  Raises ValueError naming the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as problem:                            # of the JSON, or of the UTF-8
        raise ValueError(f"{path}: not JSON ({problem})") from None


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@by_the_first
def append_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Add lines to a log, in one write."""
    with naming(path), open(path, "a", encoding="utf-8") as log:
        log.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def cut_half_line(path: Path) -> None:
    """Remove what stands after the last line end of a log: a line whose writer died."""
    with open(path, "rb+") as log:
        content = log.read()
        log.truncate(content.rfind(b"\n") + 1)


def read_object(path: Path) -> dict:
    """The JSON object in `path`.  Raises ValueError naming the file if it holds something else."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a JSON object, got {str(content)[:80]}")
    return content


def read_jsonl(path: Path, *fields: str) -> list[dict]:
    """The rows of a JSONL file, objects that have the fields and perhaps more.

    Raises ValueError naming file and line of what is no JSON object, or lacks a field.
    """
    rows = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as problem:                    # of the JSON, or of the UTF-8
                raise ValueError(f"{path}:{number}: not JSON ({problem})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: wanted a JSON object, got {str(row)[:80]}")
            missing = [field for field in fields if field not in row]
            if missing:
                raise ValueError(f"{path}:{number}: a row lacks {', '.join(missing)}: "
                                 f"{str(row)[:200]}")
            rows.append(row)
    return rows


@by_the_first
def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A safetensors file, marked as holding weights in PyTorch's layout."""
    from safetensors.numpy import save
    data = save({name: np.asarray(t, order="C") for name, t in tensors.items()},
                metadata={"format": "pt"})
    with replacing(path) as temporary:
        temporary.write_bytes(data)        # (safetensors' own save_file shuts out other users)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file.

    Raises ValueError naming the file if it is damaged, or holds numbers that NumPy does not know.
    """
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():
                dtype = file.get_slice(name).get_dtype()
                if not re.fullmatch("[FIU](16|32|64)|[IU]8|BOOL|C64", dtype):
                    raise ValueError(f"{path}: {name} has the dtype {dtype}, which NumPy does not "
                                     "have; save the model in float32")
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as problem:
        raise ValueError(f"{path}: not a whole safetensors file ({problem})") from None


def read_shapes(path: Path) -> dict[str, tuple[list[int], str]]:
    """The shape and the dtype of each array of a safetensors file, from its head alone."""
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, "numpy") as file:
            heads = {name: file.get_slice(name) for name in file.keys()}
            return {name: (head.get_shape(), head.get_dtype()) for name, head in heads.items()}
    except SafetensorError as problem:
        raise ValueError(f"{path}: not a whole safetensors file ({problem})") from None

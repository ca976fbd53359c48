"""Files that are whole or absent: they are written to a temporary name, then renamed.

A reader of a run folder, a second process or a power cut never sees half a file.  Only logs are
appended to, a line at a time.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def append_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Add lines to a log, in one write."""
    with open(path, "a", encoding="utf-8") as log:
        log.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict]:
    """The rows of a JSONL file.  Raises ValueError naming file and line of what is not JSON."""
    rows = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line.decode("utf-8")))
                except ValueError as problem:                # of the JSON, or of the UTF-8
                    raise ValueError(f"{path}:{number}: not JSON ({problem})") from None
    return rows


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
    from safetensors.numpy import load_file
    try:
        with safe_open(path, framework="numpy") as file:
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}
        for name, dtype in dtypes.items():
            if not re.fullmatch("[FIU](16|32|64)|[IU]8|BOOL|C64", dtype):
                raise ValueError(f"{path}: {name} has the dtype {dtype}, which NumPy does not "
                                 "have; save the model in float32")
        return load_file(path)
    except SafetensorError as problem:
        raise ValueError(f"{path}: not a whole safetensors file ({problem})") from None

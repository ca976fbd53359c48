"""The results of all rows, to and from a JSON file."""

from pathlib import Path

from benchmarking.rows import rows

from minirlhf.files import read_object, write_json


def read(path: Path) -> dict:
    """{row: its results}, in the order of the page; empty if there is no file."""
    return ordered(read_object(path)) if path.is_file() else {}


def save(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, ordered(results))


def ordered(results: dict) -> dict:
    return {name: results[name] for name in rows(quick=False) if name in results}

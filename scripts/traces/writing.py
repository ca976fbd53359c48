"""Writing the folder of a released trace, and comparing it with another."""

from pathlib import Path

from traces.making import CONFIG, released

from minirlhf.conformance.trace import folder
from minirlhf.conformance.trace.compare import differs
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.files import read_object, read_tensors
from minirlhf.transformer import save


def write(name: str, place: Path) -> None:
    models, batch, settings = released(name)
    for model, (params, _) in models.items():
        save(place / model, params, CONFIG)
    step = STEPS[name]
    folder.write_trace_files(place, step, folder.base_of(step, models, batch, settings))


def same(place: Path, other: Path) -> bool:
    """The same files; JSON exactly, numbers to 1e-12 of each array's largest."""
    files = sorted(file.relative_to(place) for file in place.rglob("*") if file.is_file())
    return files == sorted(f.relative_to(other) for f in other.rglob("*") if f.is_file()) and all(
        read_object(place / file) == read_object(other / file) if file.suffix == ".json" else
        near(read_tensors(place / file), read_tensors(other / file)) for file in files)


def near(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and not any(differs(a[n], b[n], rtol=1e-12) for n in a)

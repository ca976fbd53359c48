"""One seed of a claim: what its `measure` finds on the runs of that seed.

The numbers are kept in CACHE/DIGEST/measured/, under the runs that they are of and the text of the
claim file and of what it reads them with, and are taken from there as long as none of these has
changed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from experiment import claim, reading
from experiment.claim import Experiment, read
from experiment.reading import SPLITS, Finished
from minirlhf import findings, memory
from minirlhf.files import read_object, write_json
from minirlhf.sweeping.locks import alone

READERS = (claim, reading, findings, memory)


def place(experiment: Experiment, runs: Mapping[str, Path]) -> Path:
    """Where the numbers of one seed are kept."""
    total = hashlib.sha256()
    for source in (experiment.path, *(Path(module.__file__) for module in READERS)):
        total.update(source.read_bytes())
    total.update(repr({name: path.name for name, path in runs.items()}).encode())
    folder = next(iter(runs.values())).parent / "measured"
    return folder / f"{experiment.name}-{total.hexdigest()[:12]}.json"


def measure(path: Path, runs: Mapping[str, Path]) -> None:
    """Measure a claim file on one seed's runs, and keep the numbers."""
    experiment = read(path)
    kept = place(experiment, runs)
    with alone(kept):
        if kept.exists():
            return
        finished = {name: Finished(folder) for name, folder in runs.items()}
        measured = {split: table(experiment.module.measure(finished, split)) for split in SPLITS}
        also = {name: getattr(experiment.module, name, lambda runs: [])(finished)
                for name in ("series", "examples")}
        write_json(kept, {**measured, **also})


def table(columns: Mapping[str, Mapping[str, float]]) -> dict:
    """{"prompts": [...], "columns": {name: numbers in that order}}.

    Raises ValueError for columns that have not the same prompts.
    """
    prompts = list(next(iter(columns.values())))
    for name, column in columns.items():
        if column.keys() != dict.fromkeys(prompts).keys():
            raise ValueError(f"the column {name!r} has {len(column)} prompts, others have "
                             f"{len(prompts)}, or other ones: nothing can be paired")
    return {"prompts": prompts, "columns": {
        name: [column[prompt] for prompt in prompts] for name, column in columns.items()}}


def measured(experiment: Experiment, runs: Mapping[str, Path]) -> dict:
    """The numbers that `measure` kept."""
    return read_object(place(experiment, runs))

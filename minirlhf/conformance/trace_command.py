"""What `minirlhf trace` and `minirlhf verify --trace` do."""

import json as json_text
from pathlib import Path

from minirlhf.conformance.trace.batch import read_arrays, read_batch
from minirlhf.conformance.trace.folder import (
    Trace,
    base_of,
    read_models,
    read_trace,
    released,
    step_named,
    write_trace_files,
)
from minirlhf.conformance.trace.functions import StepSettings
from minirlhf.conformance.trace.locate import locate
from minirlhf.conformance.trace.rules import Arrays
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.conformance.trace.told import findings_json, findings_text
from minirlhf.files import copy_whole, replacing_folder


def verify_trace(path: Path, step: str | Path | None = None, json: bool = False,
                 rtol: float | None = None) -> int:
    """Print the first array of `path` that departs from a trace, and what explains it.

    path   a .safetensors or .npz file with arrays under the trace's names, or a folder of one
    step   a released trace by name, or the folder of one that `minirlhf trace` wrote; by default
           the released one that has most of the arrays, by name and shape
    rtol   the share of an array's largest entry that counts as equal; by default 1e-10 for
           float64, 1e-4 for float32, 2e-2 for float16

    Returns 0 if all arrays that are given equal the trace's, 1 if one departs.
    Raises ValueError or OSError for what cannot be read or compared.
    """
    theirs = read_arrays(path)
    trace = (likeliest(theirs) if step is None else
             read_trace(released(step) if step in STEPS else reference_folder(step)))
    found = locate(trace, theirs, rtol)
    print(json_text.dumps(findings_json(found), indent=2, ensure_ascii=False) if json else
          findings_text(found, trace))
    return 0 if found.equal else 1


def likeliest(theirs: Arrays) -> Trace:
    """The released trace that shares most names and shapes with these arrays."""
    def shared(trace: Trace) -> int:
        return sum(getattr(theirs.get(name), "shape", None) == x.shape
                   for name, x in trace.arrays.items())
    return max((read_trace(released(name)) for name in STEPS), key=shared)


def reference_folder(step: str | Path) -> Path:
    """Raises ValueError for what is neither the name of a step nor a folder."""
    if not Path(step).is_dir():
        raise ValueError(f"{step}: neither a released trace ({', '.join(STEPS)}) nor a folder "
                         "that minirlhf trace wrote")
    return Path(step)


def write_trace(models: Path, batch: Path, to: Path, step: str = "ppo_step",
                settings: StepSettings | None = None) -> Trace:
    """Compute a step from models and a batch of one's own; `to` becomes a folder as the released
    ones are, with a copy of the models.

    Raises FileExistsError if `to` is there already, ValueError or OSError for what cannot be used.
    """
    if Path(to).exists():
        raise FileExistsError(f"{to} is there already; give --to another name")
    which = step_named(step)
    found = read_models(models, which)
    base = base_of(which, found, read_batch(batch, which, found), settings or StepSettings())
    with replacing_folder(to) as folder:
        trace = write_trace_files(folder, which, base)
        for name in found:
            for file in ("config.json", "model.safetensors"):
                copy_whole(Path(models) / name / file, folder / name / file)
    return trace

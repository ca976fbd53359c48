"""The files of a trace: models, batch, arrays and their order, and the arrays of another system.

    FOLDER/policy/ …            models in Hugging Face's layout
    FOLDER/batch.safetensors    the given arrays
    FOLDER/trace.safetensors    every array of the step
    FOLDER/trace.json           their order, formula and shape, and the settings

Everything is computed and kept in float64.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.conformance.trace.functions import StepSettings
from minirlhf.conformance.trace.mistakes import MISTAKES, shows
from minirlhf.conformance.trace.rules import (
    Arrays,
    Environment,
    Model,
    Step,
    evaluate,
    made_from,
)
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.conformance.vectors import V1
from minirlhf.files import read_object, read_tensors, write_json, write_tensors
from minirlhf.tokens import pad_left, pad_right
from minirlhf.transformer import load

KINDS = {"int": "iu", "bool": "b", "float": "f"}


def step_named(name: str) -> Step:
    """Raises ValueError for an unknown step."""
    if name not in STEPS:
        raise ValueError(f"no step {name!r}; there are {', '.join(STEPS)}")
    return STEPS[name]


# --- arrays --------------------------------------------------------------------------------------

def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors or .npz file, of a JSON object of lists, or of a folder that
    holds trace.safetensors or one .safetensors file.

    Raises FileNotFoundError or ValueError naming the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        traces = [file for file in found if file.name == "trace.safetensors"] or found
        if len(traces) != 1:
            raise ValueError(f"{path}: wanted a folder with trace.safetensors or one .safetensors "
                             f"file, found {[file.name for file in found] or 'none'}")
        path = traces[0]
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".json":
        return {name: as_array(f"{path}: {name}", rows)
                for name, rows in read_object(path).items()}
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: wanted a .safetensors or an .npz file (or .json for a batch)")
    return read_tensors(path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as problem:
        raise ValueError(f"{path}: not a whole .npz file of plain arrays ({problem})") from None


def as_array(where: str, rows: Any) -> Any:
    """Nested lists as an array; lists of unequal length are left as they are."""
    try:
        array = np.array(rows)
    except ValueError:
        return rows
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{where} must be numbers, got {str(rows)[:60]}")
    return array


# --- the batch -----------------------------------------------------------------------------------

def read_batch(path: Path, step: Step, models: Mapping[str, Model]) -> dict[str, np.ndarray]:
    """The given arrays of a step.  A JSON batch may hold rows of token ids in their place:
    "prompts" and "responses", or "chosen" and "rejected", lists of unequal length.

    What is given under the name of a computed array ("scores" of a rule instead of a reward model)
    is taken, and not computed.

    Raises ValueError naming what is missing, or does not fit the others or the models.
    """
    batch = padded(dict(read_arrays(path)), next(iter(models.values())).config.pad_id)
    known = {**step.given, **{rule.name: None for rule in step.rules}}
    missing = [n for n, given in step.given.items() if not given.optional and n not in batch]
    if missing:
        raise ValueError(f"{path}: a batch of a {step.name} wants {', '.join(missing)}, got "
                         f"{', '.join(batch) or 'nothing'}")
    if unknown := [name for name in batch if name not in known]:
        raise ValueError(f"{path}: {', '.join(unknown)}: not among the names of a {step.name}; "
                         f"a batch has {', '.join(step.given)}")
    letters: dict[str, int] = {}
    for name, x in batch.items():
        given = step.given.get(name)
        shape = given.shape if given else step.rules[step.index(name)].shape
        batch[name] = fitting(f"{path}: {name}", x, shape, given.dtype if given else "float",
                              letters)
    check_tokens(path, batch, models)
    if "mask" in batch:
        check_layout(path, batch)
    return {name: batch[name] for name in known if name in batch}


def padded(batch: dict[str, Any], pad_id: int | None) -> dict[str, Any]:
    """Rows of token ids as padded arrays with their masks; arrays as they are."""
    if "prompts" in batch and "responses" in batch:
        prompts, responses = batch.pop("prompts"), batch.pop("responses")
        (left, left_mask), (right, mask) = pad_left(prompts, pad_id), pad_right(responses, pad_id)
        batch = {"sequences": np.concatenate([left, right], axis=1),
                 "sequence_mask": np.concatenate([left_mask, mask], axis=1), "mask": mask} | batch
    for side in ("chosen", "rejected"):
        if side in batch and f"{side}_mask" not in batch:
            batch[side], batch[f"{side}_mask"] = pad_right(batch[side], pad_id)
    return batch


def fitting(where: str, x: Any, shape: str, dtype: str, letters: dict[str, int]) -> np.ndarray:
    """x in the wanted type; `letters` collects the sizes that B, R and the like stand for."""
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{where} must be an array of shape {shape}; its rows have unequal "
                         "lengths")
    if x.dtype.kind not in KINDS[dtype] and not (dtype == "float" and x.dtype.kind in "iu"):
        raise ValueError(f"{where} must be {dtype}, got {x.dtype}")
    axes = [axis.strip() for axis in shape.strip("()").split(",") if axis.strip()]
    if len(axes) != x.ndim:
        raise ValueError(f"{where} must have shape {shape}, got {x.shape}")
    for axis, size in zip(axes, x.shape, strict=True):
        if letters.setdefault(axis, size) != size:
            raise ValueError(f"{where} must have shape {shape} with {axis} = {letters[axis]} as "
                             f"in the arrays before it, got {x.shape}")
    if dtype == "float":
        x = x.astype(np.float64)
    return x.astype(np.int64) if dtype == "int" else x


def check_tokens(path: Path, batch: Arrays, models: Mapping[str, Model]) -> None:
    for name in ("sequences", "chosen", "rejected"):
        for folder, (_, config) in models.items() if name in batch else ():
            tokens = batch[name]
            if tokens.shape[1] > config.context:
                raise ValueError(f"{path}: {name} has {tokens.shape[1]} columns, more than the "
                                 f"context of the {folder} model, {config.context}")
            if tokens.min() < 0 or tokens.max() >= config.vocab_size:
                raise ValueError(f"{path}: {name} has ids from {tokens.min()} to {tokens.max()}, "
                                 f"but the {folder} model knows 0 to {config.vocab_size - 1}")


def check_layout(path: Path, batch: Arrays) -> None:
    mask, whole = batch["mask"], batch["sequence_mask"]
    width = mask.shape[1]
    if whole.shape[1] <= width or (whole[:, -width:] != mask).any():
        raise ValueError(f"{path}: mask {mask.shape} must be the last {width} columns of "
                         f"sequence_mask {whole.shape}, behind at least one column of prompt")
    for name, rows in (("mask", mask[:, 1:] & ~mask[:, :-1]),
                       ("sequence_mask", whole[:, :-width][:, :-1] & ~whole[:, 1:-width])):
        if rows.any():
            raise ValueError(
                f"{path}: {name}, row {int(rows.any(axis=1).argmax())}: prompts are padded on the "
                "left and responses on the right, so that every response begins in one column")
    if not mask.any(axis=1).all():
        raise ValueError(f"{path}: mask, row {int((~mask.any(axis=1)).argmax())}: a response "
                         "without a token; leave the row out")


# --- models, and the whole -----------------------------------------------------------------------

def read_models(folder: Path, step: Step) -> dict[str, Model]:
    """The model folders that a step wants, as far as they are there."""
    found = {name: Model(*load(Path(folder) / name, "float64")) for name in step.models
             if (Path(folder) / name / "config.json").exists()}
    if not found:
        raise FileNotFoundError(f"{folder}: wanted folders {', '.join(step.models)}, each a GPT-2 "
                                "in Hugging Face's layout (config.json, model.safetensors)")
    for name, model in found.items():
        if ("score" in model.params) != (name in ("value", "reward")):
            raise ValueError(f"{Path(folder) / name}: wanted a model "
                             + ("with a scalar head (score.weight)" if name in ("value", "reward")
                                else "with a language-model head, and this one has score.weight"))
    return found


def base_of(step: Step, models: Mapping[str, Model], batch: Arrays, settings: StepSettings) -> dict:
    """What an environment starts from; old log-probs and values default to the models' own.

    Raises ValueError if an array would need a model that is not there, or groups are not whole.
    """
    spared = {"reference": "ref_logprobs", "reward": "scores"}
    lacking = [name for name in step.models
               if name not in models and spared.get(name) not in batch]
    if lacking:
        raise ValueError(f"a {step.name} wants the model folders {', '.join(step.models)}; missing "
                         f"{', '.join(lacking)}" + ", or scores in the batch" * (
                             "reward" in lacking))
    base = {**models, **asdict(settings), **batch}
    if "group_of" in step.functions and len(batch["mask"]) % settings.group_size:
        raise ValueError(f"{len(batch['mask'])} rows cannot be cut into groups of group_size "
                         f"{settings.group_size}")
    for old, new in (("old_logprobs", "logprobs"), ("old_values", "values")):
        if old in step.given and old not in base:
            base[old] = Environment(step, base)[new]
    return base


@dataclass(frozen=True)
class Trace:
    """A step with all that it is computed from, and its arrays in order."""
    step: Step
    base: dict[str, Any]
    arrays: dict[str, np.ndarray]


def write_trace_files(folder: Path, step: Step, base: Mapping[str, Any]) -> Trace:
    """Compute a step; write batch.safetensors, trace.safetensors and trace.json."""
    arrays, e = evaluate(step, base)
    folder, given = Path(folder), [name for name in (*step.given, *arrays) if name in base]
    write_tensors(folder / "batch.safetensors", {name: base[name] for name in given})
    write_tensors(folder / "trace.safetensors", arrays)
    write_json(folder / "trace.json", description(step, base, arrays, e))
    return Trace(step, dict(base), arrays)


def description(step: Step, base: Mapping[str, Any], arrays: Arrays, e: Environment) -> dict:
    """What trace.json holds."""
    told = []
    for rule in step.rules:
        names = [name for name in arrays if name == rule.name or name.startswith(f"{rule.name}.")]
        tree = names != [rule.name]
        told.append({
            "name": rule.name, "shape": rule.shape,
            **({"arrays": names} if tree else {"sizes": list(arrays[rule.name].shape)}),
            "formula": rule.formula, "from": made_from(e, rule),
            **({"counts_where": rule.mask} if rule.mask else {}),
            "mistakes": {m.flag: m.says for m in MISTAKES[step.name]
                         if rule.name in m.at and shows(m, rule, step, base, arrays)}})
    return {
        "step": step.name, "about": step.about, "dtype": "float64",
        "models": {name: about for name, about in step.models.items() if name in base},
        "settings": {f.name: base[f.name] for f in fields(StepSettings) if f.name in step.settings},
        "given": {name: {"shape": given.shape, "dtype": given.dtype, "about": given.about}
                  for name, given in step.given.items()},
        "arrays": told}


def read_trace(folder: Path) -> Trace:
    """A trace that was written.  Raises ValueError or FileNotFoundError naming what is wrong."""
    folder = Path(folder)
    if not (folder / "trace.json").exists():
        raise FileNotFoundError(f"{folder} is no trace: it has no trace.json")
    told = read_object(folder / "trace.json")
    step = step_named(str(told.get("step")))
    try:
        settings = StepSettings(**told.get("settings", {}))
    except TypeError as problem:
        raise ValueError(f"{folder / 'trace.json'}: settings: {problem}") from None
    models = read_models(folder, step)
    batch = read_batch(folder / "batch.safetensors", step, models)
    arrays = read_tensors(folder / "trace.safetensors")
    order = [name for entry in told["arrays"] for name in entry.get("arrays", [entry["name"]])]
    if missing := [name for name in order if name not in arrays]:
        raise ValueError(f"{folder / 'trace.safetensors'}: it lacks {', '.join(missing[:3])}")
    return Trace(step, base_of(step, models, batch, settings),
                 {name: arrays[name] for name in order})


def released(step: str) -> Path:
    """The folder of a released trace."""
    return V1 / step_named(step).name

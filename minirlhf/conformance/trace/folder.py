"""The files of a trace: models, batch, arrays, and their order.

    FOLDER/policy/ …            models in Hugging Face's layout
    FOLDER/batch.safetensors    the given arrays
    FOLDER/trace.safetensors    every array of the step
    FOLDER/trace.json           their order, formula and shape, and the settings

Everything is computed and kept in float64.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.conformance.trace.batch import read_batch
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
from minirlhf.transformer import load


def step_named(name: str) -> Step:
    """Raises ValueError for an unknown step."""
    if name not in STEPS:
        raise ValueError(f"no step {name!r}; there are {', '.join(STEPS)}")
    return STEPS[name]


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
            **({"given": True} if rule.name in base else {}),
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

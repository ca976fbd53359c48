"""Which conventions the functions of an adapter follow: each is given every test of every group.

An adapter is a file that defines functions under the names of the vectors' files, on torch
tensors; its gradients are those of torch's autograd.  It may also hold

    PRESETS    the names under which the groups' `systems` list what it calls
    MODES      {function: {setting: the same function with that setting}}
    COARSE     {function, or "function, setting": what of it is less exact than float64, so that it is held to the vectors
               tolerance in float32}

and raises NotImplementedError for what its package does not offer.
"""

import importlib.util
import inspect
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from minirlhf.conformance.vectors import Group, Test, Vectors, departs, functions, load

SETTING = "by default"


@dataclass(frozen=True)
class Followed:
    """How one function came out in one group, test by test."""
    group: str
    core: bool
    systems: tuple[str, ...]
    matched: list[str] = field(default_factory=list)
    float32: list[str] = field(default_factory=list)        # matched within float32's tolerance
    departed: dict[str, str] = field(default_factory=dict)  # id -> known mistakes, or what it raised
    left_out: dict[str, str] = field(default_factory=dict)  # id -> why it was not run

    @property
    def whole(self) -> bool:
        """Whether it follows the group: every test that it could be given came out."""
        return bool(self.matched or self.float32) and not self.departed


def load_adapter(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def identify(adapter: ModuleType) -> dict[str, dict[str, list[Followed]]]:
    """{function: {setting: how it came out in each group}} of all that the adapter defines."""
    modes, coarse = getattr(adapter, "MODES", {}), getattr(adapter, "COARSE", {})
    found = {}
    for name in functions():
        settings = {SETTING: getattr(adapter, name, None)} | modes.get(name, {})
        found[name] = {setting: [follow(call, load(name), group,
                                        name in coarse or f"{name}, {setting}" in coarse)
                                 for group in load(name).groups]
                       for setting, call in settings.items() if call is not None}
    return {name: settings for name, settings in found.items() if settings}


def follow(call, file: Vectors, group: Group, coarse: bool) -> Followed:
    followed = Followed(group.name, group.core, group.systems)
    for test in group.tests:
        lacking = set(test.inputs) - set(inspect.signature(call).parameters)
        if lacking:
            followed.left_out[test.id] = f"has no {', '.join(sorted(lacking))}"
            continue
        try:
            values, gradients = run(call, file, group, test)
        except NotImplementedError as refused:
            followed.left_out[test.id] = str(refused) or "not offered"
        except Exception as problem:                # whatever a released package may raise
            followed.departed[test.id] = f"raises {type(problem).__name__}: {problem}"[:200]
        else:
            judge(followed, test, values, gradients, coarse)
    return followed


def judge(followed: Followed, test: Test, values: dict, gradients: dict, coarse: bool) -> None:
    def right(tolerance):
        return tolerance is not None and not any(
            departs(got[name], wanted[name], tolerance)
            for got, wanted in ((values, test.expected.values),
                                (gradients, test.expected.gradients or {})) for name in wanted)
    if right(test.tolerance):
        followed.matched.append(test.id)
    elif coarse and test.float32 is None:
        followed.left_out[test.id] = "float32 cannot tell right from wrong"
    elif coarse and right(test.float32):
        followed.float32.append(test.id)
    else:
        tolerance = (coarse and test.float32) or test.tolerance
        equal = [flag for flag, mistake in test.mistakes.items()
                 if not any(departs(values[name], mistake.values[name], tolerance)
                            for name in mistake.values)
                 and not any(departs(gradients[name], x, tolerance)
                             for name, x in (mistake.gradients or {}).items())]
        followed.departed[test.id] = ", ".join(equal) or "no known mistake"


def run(call, file: Vectors, group: Group, test: Test) -> tuple[dict, dict]:
    """(values, gradients) by name, as NumPy arrays."""
    import torch
    inputs = {name: tensor(x) for name, x in file.call(group, test).items()}
    wanted = list(test.expected.gradients or ())
    for name in wanted:
        inputs[name].requires_grad_()
    out = call(**inputs)
    named = dict(zip((result.name for result in file.results),
                     out if isinstance(out, tuple) else (out,), strict=True))
    gradients = {}
    if wanted:
        weights = test.expected.cotangent
        total = sum((x * (1 if weights is None else tensor(weights[name]))).sum()
                    for name, x in named.items())
        slopes = torch.autograd.grad(total, [inputs[name] for name in wanted],
                                     materialize_grads=True)
        gradients = dict(zip(wanted, map(array, slopes), strict=True))
    return {name: array(x) for name, x in named.items()}, gradients


def tensor(x: Any) -> Any:
    import torch
    if isinstance(x, dict):
        return {name: tensor(inner) for name, inner in x.items()}
    return torch.tensor(x) if hasattr(x, "dtype") else x


def array(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: array(inner) for name, inner in x.items()}
    return x.detach().numpy() if hasattr(x, "detach") else x


def plain(found: dict[str, dict[str, list[Followed]]]) -> dict:
    """The same as what JSON can hold."""
    return {name: {setting: [asdict(f) | {"whole": f.whole} for f in groups]
                   for setting, groups in settings.items()} for name, settings in found.items()}

"""What the tests of the vectors share: the files as they are written, and their parts."""

import json

import numpy as np
import pytest
from helpers import host

from minirlhf import ops
from minirlhf.arrays import NUMPY
from minirlhf.autograd import value, value_and_grad
from minirlhf.conformance.vectors import V1, departs, functions

FILES = {name: json.loads((V1 / f"{name}.json").read_text(encoding="utf-8"))
         for name in functions()}
SCHEMA = json.loads((V1 / "schema.json").read_text(encoding="utf-8"))
# about what this package does not do, or does in a stage and not in a function of its mathematics
WITHOUT_CORE = {"ipo_loss", "normalized_scores", "nucleus_logprobs", "reward_to_go",
                "score_without_end", "sft_mask"}

every_file = pytest.mark.parametrize("function", FILES)


def cases_of(file: dict) -> list[dict]:
    return [test for group in file["groups"] for test in group["tests"]]


ALL = [test for file in FILES.values() for test in cases_of(file)]


# --- a function that takes Tensors, on trial ----------------------------------------------------

def in_precision(x, dtype):
    """Arrays of floats in another precision; everything else as it is."""
    if isinstance(x, dict):
        return {name: in_precision(inner, dtype) for name, inner in x.items()}
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def moved(x, backend):
    """Arrays on the backend; everything else as it is."""
    if isinstance(x, dict):
        return {name: moved(inner, backend) for name, inner in x.items()}
    return backend.asarray(x) if isinstance(x, np.ndarray) else x


def on_host(x):
    if isinstance(x, dict):
        return {name: on_host(inner) for name, inner in x.items()}
    return host(value(x))


def outcome(function, file, group, test, dtype="float64", backend=NUMPY):
    """(values, gradients) by name; gradients through the autograd engine, None if not wanted."""
    inputs = moved(in_precision(file.call(group, test), dtype), backend)

    def named(out):
        out = out if isinstance(out, tuple) else (out,)
        return dict(zip([result.name for result in file.results], out, strict=True))
    values = named(function(**inputs))
    if test.expected.gradients is None:
        return values, None
    weights = moved(in_precision(test.expected.cotangent, dtype), backend)

    def weighted(params):
        out = named(function(**(inputs | params)))
        if weights is None:
            (loss,) = out.values()
            return loss
        return sum((ops.sum(out[name] * weights[name]) for name in out), start=0.0)
    params = {name: inputs[name] for name in test.expected.gradients}
    return values, value_and_grad(weighted)(params)[1]


def faults(function, file, group, test, tolerance, dtype="float64", backend=NUMPY) -> list[str]:
    """The results and gradients, by name, that depart from a test's."""
    values, gradients = outcome(function, file, group, test, dtype, backend)
    parts = [(values, test.expected.values), (gradients or {}, test.expected.gradients or {})]
    return [name for got, wanted in parts for name in wanted
            if departs(on_host(got[name]), wanted[name], tolerance)]

"""The package on trial: its functions against every test of its own conventions.

The expected results come from the witness, which knows nothing of the functions called here.
"""

import numpy as np
import pytest

from minirlhf import clipped_surrogate, gae, ops, sft, tokens
from minirlhf.autograd import value_and_grad
from minirlhf.conformance.vectors import departs, functions, load


def step_mean(losses, mask, count=None, micro_batches=None, length=None):
    """Micro-batch means over the step's count, added up: the package's way to cut a step."""
    count = count or int(mask.sum())
    ends = np.cumsum(micro_batches if micro_batches is not None else [len(mask)])
    return sum(ops.masked_mean(ops.index(losses, slice(int(end - size), int(end))),
                               mask[end - size:end], count)
               for end, size in zip(ends, np.diff(ends, prepend=0), strict=True))


def sft_step(logprobs, mask, count=None, micro_batches=None):
    if micro_batches is None:
        return sft.sft_loss(logprobs, mask, count)
    return step_mean(-logprobs, mask, None, micro_batches)


OURS = {
    "aggregate_loss": step_mean,
    "clipped_surrogate_loss": clipped_surrogate.clipped_surrogate_loss,
    "clipped_value_loss": clipped_surrogate.clipped_value_loss,
    "entropy": lambda logits, mask, temperature=1.0, count=None: clipped_surrogate.entropy(
        logits / temperature, mask, count),
    "gae": gae.gae,
    "sft_loss": sft_step,
    "token_logprobs": tokens.token_logprobs,
    "whiten": lambda x, mask, shift_mean, minibatches=None: gae.whiten(x, mask, shift_mean),
}
CASES = [(name, test) for name in functions() if load(name).core for test in load(name).core.tests]


def in_precision(x, dtype):
    """Arrays of floats in another precision; everything else as it is."""
    if isinstance(x, dict):
        return {name: in_precision(inner, dtype) for name, inner in x.items()}
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def outcome(function, file, test, dtype="float64"):
    """(values, gradients) by name; gradients through the autograd engine, None if not wanted."""
    inputs = in_precision(test.inputs, dtype)

    def named(out):
        out = out if isinstance(out, tuple) else (out,)
        return dict(zip([result.name for result in file.results], out, strict=True))
    values = named(function(**inputs))
    if test.expected.gradients is None:
        return values, None
    weights = in_precision(test.expected.cotangent, dtype)

    def weighted(params):
        out = named(function(**(inputs | params)))
        if weights is None:
            (loss,) = out.values()
            return loss
        return sum(((out[name] * weights[name]).sum() for name in out), start=0.0)
    params = {name: inputs[name] for name in test.expected.gradients}
    return values, value_and_grad(weighted)(params)[1]


def faults(function, file, test, tolerance, dtype="float64"):
    values, gradients = outcome(function, file, test, dtype)
    parts = [(values, test.expected.values), (gradients or {}, test.expected.gradients or {})]
    return [name for got, wanted in parts for name in wanted
            if departs(got[name], wanted[name], tolerance)]


def test_every_file_with_a_core_group_is_answered_by_a_function_of_ours():
    assert set(OURS) == {name for name in functions() if load(name).core}


@pytest.mark.parametrize("name, test", CASES, ids=[test.id for _, test in CASES])
@pytest.mark.filterwarnings("ignore:overflow")
def test_ours_does_as_the_witness_says(name, test):
    assert faults(OURS[name], load(name), test, test.tolerance) == []


@pytest.mark.parametrize("name", OURS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_ours_does_so_in_float32_where_that_can_tell(name):
    assert [test.id for test in load(name).core.tests if test.float32 is not None
            and faults(OURS[name], load(name), test, test.float32, "float32")] == []


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_function_with_a_mistake_is_told_from_ours():
    """One that matches every test would mean that the tests tell nothing."""
    def negated(**inputs):
        return -OURS["clipped_surrogate_loss"](**inputs)
    file = load("clipped_surrogate_loss")
    caught = [t for t in file.core.tests if faults(negated, file, t, t.tolerance)]
    assert len(caught) > len(file.core.tests) / 2

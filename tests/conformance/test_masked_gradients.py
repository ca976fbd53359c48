"""What autograd makes of a mask that comes after the arithmetic: right values, NaN gradients.

The vectors say what that mistake yields without a derivative, NaN under the mask; here reverse
mode makes it.  The package's own exp would hide it, which passes no gradient on where none comes;
that of other engines multiplies.
"""

import numpy as np
import pytest

from minirlhf import ops
from minirlhf.autograd import record, value, value_and_grad
from minirlhf.conformance.vectors import departs, load

MISTAKE = "masked-after-the-arithmetic"


@ops.op
def exp(a):
    """y = eᵃ.     da = dy·y, with nothing said of 0·NaN"""
    y = np.exp(value(a))
    return record(y, (a,), lambda dy: (dy * y,))


def selected(losses, mask, count=None):
    """Their mean over the real tokens: the others are computed, and then left out."""
    return ops.sum(ops.where(mask, losses, 0.0)) / (count or mask.sum())


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, estimator):
    k = logprobs - ref_logprobs
    return selected(exp(-k) - 1 + k, mask)


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
    ratio = exp(logprobs - old_logprobs)
    return -selected(ops.minimum(ratio * advantages, ops.clip(
        ratio, 1 - clip_ratio, 1 + clip_ratio) * advantages), mask)


def clipped_value_loss(values, old_values, returns, mask, clip_range):
    near = old_values + ops.clip(values - old_values, -clip_range, clip_range)
    return selected(ops.maximum((values - returns) ** 2, (near - returns) ** 2), mask) / 2


def entropy(logits, mask):
    logp = ops.log_softmax(logits)
    return selected(-ops.sum(exp(logp) * logp, axis=-1), mask)


FUNCTIONS = {f.__name__: f for f in (kl_loss, clipped_surrogate_loss, clipped_value_loss, entropy)}


def told(function):
    """The first group's test that tells the mistake, with its group."""
    group = load(function).groups[0]
    (test,) = [test for test in group.tests if MISTAKE in test.mistakes]
    return group, test


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_mask_after_the_arithmetic_has_the_gradients_of_that_mistake(function):
    group, test = told(function)
    inputs = load(function).call(group, test)
    ((name, right),) = test.expected.gradients.items()
    with np.errstate(all="ignore"):
        got, slopes = value_and_grad(lambda params: FUNCTIONS[function](**inputs | params))(
            {name: inputs[name]})
    wrong, (result,) = test.mistakes[MISTAKE], test.expected.values
    assert not departs(got, test.expected.values[result], test.tolerance)
    assert not departs(slopes[name], wrong.gradients[name], test.tolerance)
    assert departs(slopes[name], right, test.tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_shows_under_the_mask_alone(function):
    _, test = told(function)
    ((name, slopes),) = test.mistakes[MISTAKE].gradients.items()
    mask = test.inputs["mask"]
    assert np.isnan(slopes.value[~mask]).all() and np.isfinite(slopes.value[mask]).all()
    np.testing.assert_array_equal(slopes.value[mask], test.expected.gradients[name].value[mask])

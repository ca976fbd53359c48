"""Laws of shards: a step computed in parts is the step, on however many cores.

`loss_and_gradient` adds up what `value_and_grad` finds for each part; every stage gives its parts
the number of tokens, or of prompts, of the *whole* step.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from every_stage import STAGES, steps_of
from helpers import assert_same
from rollouts import four_models

from minirlhf import host
from minirlhf.arrays import NUMPY
from minirlhf.stages import training

SHARDS = 3


def after_two_steps(stage: str, shards: int, backend=NUMPY, dtype="float64"):
    """The numbers of two steps, and all parameters after them as one vector."""
    models, model = four_models(backend, dtype)
    rows = [[float(x) for x in row.values()] for row in steps_of(stage, models, model, shards)]
    return np.array(rows), np.concatenate([backend.asnumpy(params.flat) for params in models])


def apart(one, other) -> float:
    """The largest difference of two such results."""
    return max(abs(a - b).max() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_parts_of_a_step_add_up_to_the_step(stage, backend):
    whole, parts = (after_two_steps(stage, shards, backend) for shards in (1, SHARDS))
    assert apart(whole, parts) < 1e-9
    assert apart(whole, after_two_steps(stage, 1000, backend)) < 1e-9     # each row by itself


@pytest.mark.parametrize("stage", STAGES)
def test_the_number_of_cores_changes_no_bit(stage, monkeypatch):
    here = after_two_steps(stage, SHARDS, dtype="float32")
    for cores in (2, 5):
        with ThreadPoolExecutor(cores) as pool:
            monkeypatch.setattr(host, "_workers", pool)
            there = after_two_steps(stage, SHARDS, dtype="float32")
        for a, b in zip(here, there, strict=True):
            assert_same(a, b)


# --- wrong ways to take parts together -----------------------------------------------------------

def mean_of_parts(loss, params, parts):
    """Σ of the parts divided by their number: a step that is SHARDS times too small."""
    value, grads = training_loss_and_gradient(loss, params, parts)
    grads.flat[...] /= len(parts)
    return value / len(parts), grads


def last_part(loss, params, parts):
    return training_loss_and_gradient(loss, params, parts[-1:])


def first_part_twice(loss, params, parts):
    return training_loss_and_gradient(loss, params, [*parts, parts[0]])


training_loss_and_gradient = training.loss_and_gradient


@pytest.mark.parametrize("wrong", [mean_of_parts, last_part, first_part_twice])
@pytest.mark.parametrize("stage", STAGES)
def test_a_wrong_sum_of_parts_is_noticed(stage, wrong, monkeypatch):
    whole = after_two_steps(stage, 1)
    monkeypatch.setattr(training, "loss_and_gradient", wrong)
    assert apart(whole, after_two_steps(stage, SHARDS)) > 1e-6


@pytest.mark.parametrize("stage", ["SFT", "reward model", "DPO", "PPO", "GRPO"])
def test_parts_that_count_for_themselves_are_noticed(stage, monkeypatch):
    """A mean of means: each part divides by a count of its own."""
    def own_counts(loss, params, state, lr, max_grad_norm, parts):
        parts = [tuple(part_count(part) if type(x) is int else x for x in part) for part in parts]
        return training.update(loss, params, state, lr, max_grad_norm, parts)

    def part_count(part) -> int:
        """Of tokens where there is a response mask or a rollout, else of prompts."""
        for x in part:
            if hasattr(x, "scores"):
                return int(x.mask.sum())
            if isinstance(x, dict):                              # pairs by the prompt's number
                return sum(len(pairs) // n for n, pairs in x.items())
        return int(part[3].sum())

    whole = after_two_steps(stage, 1)
    monkeypatch.setattr(STAGES[stage], "update", own_counts)
    assert apart(whole, after_two_steps(stage, 1)) < 1e-12       # one part is the whole
    assert apart(whole, after_two_steps(stage, SHARDS)) > 1e-6

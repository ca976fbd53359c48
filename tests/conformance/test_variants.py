"""The variants against the vectors: every group of every file is reproduced, with its gradients.

The expected numbers are the witness's, which knows neither the core nor the variants.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from vector_files import faults

from minirlhf.conformance.variants import ANSWERS, FORMULAS, formula
from minirlhf.conformance.vectors import functions, load

GROUPS = [(name, group) for name in functions() for group in load(name).groups]
every_group = pytest.mark.parametrize("name, group", GROUPS,
                                      ids=[f"{name}-{group.name}" for name, group in GROUPS])


def wrong(name, group, parameters):
    """What a formula under some answers gets wrong of a group's tests."""
    with np.errstate(all="ignore"):
        return [f"{test.id}: {fault}" for test in group.tests for fault in faults(
            formula(name, parameters), load(name), group, test, test.tolerance)]


@every_group
def test_a_formula_with_a_groups_answers_does_as_the_witness_says(name, group):
    assert wrong(name, group, group.parameters) == []


def sharing(name, group):
    """The group with the tests of the first group that it shares for its own."""
    tests = tuple(test for test in load(name).groups[0].tests if test.id in group.shares)
    return replace(group, tests=tests)


@every_group
def test_a_formula_passes_what_its_group_shares_with_the_first(name, group):
    assert wrong(name, sharing(name, group), group.parameters) == []


@pytest.mark.parametrize("name, shared, parameters", [
    ("gae", "through-p1", {"gae.mask": "zeroed"}), ("entropy", "all-slots", {"ent.mask": "real"})])
def test_what_a_group_does_not_share_is_failed_by_its_formula(name, shared, parameters):
    """Under the group's answers the first group's tests that it has under other numbers fail."""
    file = load(name)
    group = next(group for group in file.groups if group.name == shared)
    others = tuple(test for test in file.groups[0].tests if test.id not in group.shares)
    every = replace(group, tests=others)
    assert others and wrong(name, every, group.parameters) and not wrong(
        name, replace(file.groups[0], tests=others), group.parameters | parameters)


def test_every_file_has_a_formula_and_every_formula_a_file():
    assert set(FORMULAS) == set(functions())


def test_every_answer_of_the_files_has_a_function_and_no_function_is_without_an_answer():
    known = {}
    for name in functions():
        for axis in load(name).axes:
            known.setdefault(axis.name, set()).update(axis.values)
    assert {axis: set(answers) for axis, answers in ANSWERS.items()} == known


def test_through_the_second_pad_is_through_the_first_of_a_reply_one_token_longer():
    """By hand, γ = λ = 1: A_0 = 1 + 2 + 4 − V_0; the reward after the second pad is not paid."""
    rewards, values = np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([[0.5, 9.0, 7.0, 5.0]])
    mask = np.array([[True, False, False, False]])
    answers = ANSWERS["gae.mask"]
    advantages, returns = answers["through-p2"](rewards, values, mask, 1.0, 1.0)
    assert advantages[0, 0] == 6.5 and returns[0].tolist() == [7, 6, 4, 0]
    longer = np.array([[True, True, False, False]])
    np.testing.assert_array_equal(advantages, answers["through-p1"](
        rewards, values, longer, 1.0, 1.0)[0])


# --- no answer is another under a second name ----------------------------------------------------

def is_told(name, axis, one, other):
    """Whether a group with one answer has a test that the other answer fails, or refuses."""
    def caught(group):
        try:
            return bool(wrong(name, group, group.parameters | {axis: other}))
        except ValueError:
            return True
    return any(caught(group) for group in load(name).groups if group.parameters[axis] == one)


@pytest.mark.parametrize("name", functions())
def test_every_two_answers_to_an_axis_are_told_apart_by_a_test(name):
    pairs = [(axis.name, *pair) for axis in load(name).axes
             for pair in combinations(axis.values, 2)]
    assert [(axis, one, other) for axis, one, other in pairs
            if not (is_told(name, axis, one, other) or is_told(name, axis, other, one))] == []


@pytest.mark.parametrize("function, parameters, message", [
    ("gea", {}, "unknown function 'gea'; there are adamw_step, "),
    ("gae", {"gae.msk": "none"}, "unknown axis 'gae.msk'; there are adam.correction, "),
    ("gae", {"gae.mask": "skip"}, "unknown answer 'skip' to gae.mask; choose 'zeroed', 'skipped'")])
def test_what_is_unknown_is_named(function, parameters, message):
    with pytest.raises(ValueError, match=message):
        formula(function, parameters)

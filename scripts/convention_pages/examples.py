"""Worked examples: test inputs on which the answers to an axis come out differently, and how."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from minirlhf import ops
from minirlhf.autograd import value_and_grad
from minirlhf.conformance.variants import ANSWERS, formula
from minirlhf.conformance.vectors import Test, Vectors, functions, load

MASKED = ("gae", "whiten", "reward_to_go")     # whose results count where the mask is True only
MOST = 3                                        # examples on a page


@dataclass(frozen=True)
class Example:
    """A test's inputs, and {answer: {name: array}}; gradients are named "∂/∂x".

    held: the answers to other axes in which it departs from the file's first group.
    """

    file: Vectors
    test: Test
    held: dict[str, Any]
    outcomes: dict[Any, dict[str, Any]]


def files_of(axis: str) -> list[Vectors]:
    """The files that ask an axis."""
    return [file for file in map(load, functions()) if axis in {a.name for a in file.axes}]


def examples(axis: str) -> list[Example]:
    """Few and small ones, after which no two answers are left that look alike."""
    found = [example for file in files_of(axis) for example in candidates(axis, file)]
    left, chosen = set(combinations(ANSWERS[axis], 2)), []
    while left and len(chosen) < MOST:
        best = max(found, key=lambda example: (
            len(left & told(example)), -len(example.held), -size(example)))
        if not left & told(best):
            break
        chosen.append(best)
        left -= told(best)
    return chosen


def untold(axis: str, chosen: list[Example]) -> list[tuple]:
    """The pairs of answers that look alike in all of the examples."""
    seen = set().union(*map(told, chosen))
    return [pair for pair in combinations(ANSWERS[axis], 2) if pair not in seen]


def candidates(axis: str, file: Vectors) -> Iterator[Example]:
    """Every test of a file whose inputs are plain numbers, under all answers to an axis."""
    first, seen = file.groups[0].parameters, set()
    for group in file.groups:
        held = {other: answer for other, answer in group.parameters.items()
                if other != axis and answer != first[other]}
        for test in group.tests:
            key = str((test.inputs, held))
            if key not in seen and plain(test.inputs):
                seen.add(key)
                yield Example(file, test, held, {
                    answer: outcome(file, test, group.parameters | {axis: answer})
                    for answer in ANSWERS[axis]})


def plain(inputs: dict) -> bool:
    """No junk in masked slots, which belongs to another law, and nothing huge."""
    numbers = np.concatenate([np.ravel(x).astype(float) for x in leaves(inputs)
                              if not isinstance(x, str)] or [np.zeros(1)])
    return bool(np.isfinite(numbers).all() and np.abs(numbers).max() < 1e4)


def leaves(tree: dict) -> Iterator[Any]:
    for x in tree.values():
        if isinstance(x, dict):
            yield from leaves(x)
        else:
            yield x


def outcome(file: Vectors, test: Test, parameters: dict) -> dict[str, Any]:
    """What comes out, and the gradients of its sum; "refused" where the formula raises."""
    function = formula(file.function, parameters)
    inputs = test.inputs | {argument.name: parameters[argument.axis]
                            for argument in file.arguments if argument.axis}
    params = {a.name: inputs[a.name] for a in file.arguments if a.differentiated}

    def total(params):
        return ops.sum(function(**(inputs | params)))
    try:
        with np.errstate(all="ignore"):
            out = function(**inputs)
            gradients = value_and_grad(total)(params)[1] if params else {}
    except ValueError:
        return {"refused": True}
    names = [result.name for result in file.results]
    return dict(zip(names, out if isinstance(out, tuple) else (out,), strict=True)) | {
        f"∂/∂{name}": gradient for name, gradient in gradients.items()}


def told(example: Example) -> set[tuple]:
    """The pairs of answers that an example tells apart."""
    return {pair for pair in combinations(example.outcomes, 2) if names_that_differ(example, pair)}


def names_that_differ(example: Example, pair: tuple) -> list[str]:
    """The results, or gradients, in which two answers differ."""
    one, other = (example.outcomes[answer] for answer in pair)
    if set(one) != set(other):
        return ["refused"]
    mask = example.test.inputs.get("mask") if example.file.function in MASKED else None
    return [name for name in one if not alike(one[name], other[name], mask)]


def alike(a: Any, b: Any, mask: Any) -> bool:
    if isinstance(a, dict):
        return all(alike(a[name], b[name], None) for name in a)
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    counts = np.ones(a.shape, dtype=bool) if mask is None or mask.shape != a.shape else mask
    return bool(np.allclose(a[counts], b[counts], rtol=1e-9, atol=1e-12, equal_nan=True))


def size(example: Example) -> int:
    """How much there is to read."""
    return sum(np.size(x) for x in leaves(example.test.inputs))

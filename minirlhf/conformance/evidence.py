"""What speaks for and against answers: results compared with those of the formula under them.

A group's own tests come first.  On inputs of other groups, where the vectors do not say what comes
out under these answers, the formula does (`variants`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from minirlhf.conformance.variants import FORMULAS, formula
from minirlhf.conformance.vectors import Group, Test, Vectors, Wanted
from minirlhf.conformance.verdict import BRITTLE, Judged, off, tolerance_of

Answers = dict[str, Any]                                # axis -> answer


@dataclass(frozen=True)
class Candidate:
    """Answers to all axes; how many results contradict them, how many numbers support them."""
    answers: Answers
    against: int
    weight: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.against, -self.weight


def unique(dicts: Iterable[Answers]) -> tuple[Answers, ...]:
    kept: list[Answers] = []
    for one in dicts:
        if one not in kept:
            kept.append(one)
    return tuple(kept)


def fitting(file: Vectors, told: Answers, judged: list[Judged], float32: bool) -> list[Candidate]:
    """The answers that are contradicted least.

    Those of a group must pass its tests, at least one of them with a result, and as many as there
    are contradictions elsewhere.  Answers that no group joins are taken only where they are
    contradicted less than those of every group, and by few of the results; and not where a group's
    values are all right and its gradients are not, since formulas say nothing of gradients.
    """
    inputs = by_inputs(judged)
    known = unique(case.group.parameters for case in judged)
    passed, detached = [], False
    for answers in known:
        own = [case for case in judged if case.group.parameters == answers
               and not case.reply.problem]
        if any(case.matched for case in own) and all(case.matched or case.brittle
                                                     for case in own):
            one = weighed(file, answers, inputs, float32)
            if one.against <= len(own):
                passed.append(one)
        elif own and all(case.matched or case.wrong and case.wrong[0] == "gradients"
                         for case in own):
            detached = True
    least = min((one.against for one in passed), default=len(inputs) // 4)
    if least > 0 and file.function in FORMULAS and (passed or not detached):
        others = [weighed(file, answers, inputs, float32, least)
                  for answers in combinations(file, told) if answers not in known]
        passed = [one for one in others if one.against < least and one.weight] or passed
    best = min((one.rank for one in passed), default=None)
    return [one for one in passed if one.rank == best]


def by_inputs(judged: Iterable[Judged]) -> list[list[Judged]]:
    """Tests with equal inputs together."""
    found: dict[bytes, list[Judged]] = {}
    for case in judged:
        found.setdefault(inputs_key(case.test), []).append(case)
    return list(found.values())


def combinations(file: Vectors, told: Answers) -> Iterator[Answers]:
    """Every combination of answers, those to told axes fixed."""
    values = [[told[axis.name]] if axis.name in told else axis.values for axis in file.axes]
    for chosen in product(*values):
        yield dict(zip([axis.name for axis in file.axes], chosen, strict=True))


def weighed(file: Vectors, answers: Answers, inputs: list[list[Judged]], float32: bool,
            enough: float = float("inf")) -> Candidate:
    """Answers with what speaks for and against them, given up when that is `enough`."""
    against = weight = 0
    for cases in inputs:
        says = evidence(file, answers, cases, float32)
        against += says < 0
        weight += max(says, 0)
        if against >= enough:
            break
    return Candidate(answers, against, weight)


def evidence(file: Vectors, answers: Answers, cases: list[Judged], float32: bool) -> int:
    """What the result on some inputs says of answers: how many numbers are theirs, −1 if not all
    are, 0 if it says nothing.  `cases` are the tests that have these inputs; where they test
    robustness, NaN and infinity say nothing."""
    own = next((case for case in cases if case.group.parameters == answers), None)
    case = own or cases[0]
    if own and not own.reply.problem:
        return count(own.test.expected.values) if own.matched else 0 if own.brittle else -1
    if file.function not in FORMULAS:
        return 0
    compute = formula(file.function, answers)
    with np.errstate(all="ignore"):
        try:
            predicted = compute(**copied(file.call(case.group, case.test)))
        except ValueError:                               # refusal is these answers' answer
            return 1 if case.reply.refused else 0 if case.reply.problem else -1
        except (TypeError, IndexError, ArithmeticError):
            return 0                                     # these inputs are not meant for it
    if case.reply.problem:
        return 0
    names = [result.name for result in file.results]
    predicted = dict(zip(names, predicted if isinstance(predicted, tuple) else (predicted,),
                         strict=True))
    return agreement(predicted, answers, cases, file, float32)


def agreement(predicted: dict, answers: Answers, cases: list[Judged], file: Vectors,
              float32: bool) -> int:
    """As `evidence`, of the results by name that a formula predicts."""
    test, reply = cases[0].test, cases[0].reply
    total = 0
    for name, wanted in test.expected.values.items():
        if isinstance(wanted, dict):
            return 0                                     # trees have their own tests only
        counts = slots(name, answers, cases, file.groups[0].parameters)
        if any(BRITTLE & set(case.test.flags) for case in cases):
            counts = counts & finite(reply.values[name], counts)
        expected = Wanted(np.asarray(predicted[name]), counts)
        if off(reply.values[name], expected, tolerance_of(test, float32)):
            return -1
        total += int(counts.sum())
    return total


def finite(x: Any, counts: np.ndarray) -> np.ndarray:
    """Where a result is a number; everywhere if it has another shape, which is told elsewhere."""
    return np.isfinite(x) if np.shape(x) == counts.shape else np.ones(counts.shape, dtype=bool)


def slots(name: str, answers: Answers, cases: list[Judged], first: Answers) -> np.ndarray:
    """The slots of a result that these answers are about: those that a group compares which has
    them or the first group's on every axis; where there is none, those under the mask."""
    about = [case.test.expected.values[name].counts for case in cases
             if all(a in (answers[axis], first[axis])
                    for axis, a in case.group.parameters.items())]
    counts = np.any(about, axis=0) if about else cases[0].test.expected.values[name].counts
    mask = cases[0].test.inputs.get("mask")
    return counts & mask if not about and np.shape(mask) == counts.shape else counts


def not_asked(file: Vectors, answers: Answers, asked: list[Judged],
              unasked: list[tuple[Group, Test]]) -> tuple[str, ...]:
    """Axes that only tests could tell which are not asked, for want of an argument: another answer
    makes a difference there, and none where there is a result."""
    if file.function not in FORMULAS:
        return ()
    inputs = [(cases[0].group, cases[0].test) for cases in by_inputs(asked)
              if not cases[0].reply.problem]
    found = []
    for axis in file.axes:
        others = [answers | {axis.name: answer} for answer in axis.values
                  if answer != answers[axis.name]]

        def told(tests: list, others: list[Answers] = others) -> bool:
            return any(differs(file, group, test, answers, other)
                       for group, test in tests for other in others)
        if told(unasked) and not told(inputs):
            found.append(axis.name)
    return tuple(found)


def differs(file: Vectors, group: Group, test: Test, one: Answers, other: Answers) -> bool:
    """Whether a test's inputs tell two answers apart, in what the test compares."""
    a, b = (computed(file, group, test, answers) for answers in (one, other))
    if a is None or b is None:
        return (a is None) != (b is None)
    return any(off(b[name], Wanted(np.asarray(a[name]), wanted.counts), test.tolerance)
               for name, wanted in test.expected.values.items() if not isinstance(wanted, dict))


def computed(file: Vectors, group: Group, test: Test, answers: Answers) -> dict | None:
    """The results by name of the formula under some answers; None where it refuses the inputs."""
    with np.errstate(all="ignore"):
        try:
            y = formula(file.function, answers)(**copied(file.call(group, test)))
        except (ValueError, TypeError, IndexError, ArithmeticError):
            return None
    return dict(zip([result.name for result in file.results],
                    y if isinstance(y, tuple) else (y,), strict=True))


def copied(x: Any) -> Any:
    """Inputs that may be written into."""
    if isinstance(x, dict):
        return {name: copied(inner) for name, inner in x.items()}
    return x.copy() if isinstance(x, np.ndarray) else x


def count(x: Any) -> int:
    """How many numbers of expected results are compared."""
    if isinstance(x, dict):
        return sum(count(inner) for inner in x.values())
    return int(x.counts.sum())


def inputs_key(test: Test) -> bytes:
    """Equal for tests with equal inputs."""
    def words(x: Any) -> bytes:
        if isinstance(x, dict):
            return b"".join(name.encode() + words(inner) for name, inner in sorted(x.items()))
        return (repr(x).encode() if not isinstance(x, np.ndarray)
                else repr(x.shape).encode() + x.tobytes())
    return words(test.inputs)

"""Which convention of each axis an implementation follows.

A group of tests holds one answer to every axis, and a function that follows a convention passes its
group.  That alone leaves too much open: a small group is passed by others too.  So whatever the
function returned on any test's inputs is also compared with what the formula under the group's
answers returns there (`variants`), and the answers that are contradicted least are taken.  Where
no group is free of contradiction, answers that no known system joins are tried as well.

What the function refuses, or cannot be asked for want of an argument, says nothing, unless refusal
is an answer.  If several answers remain, all of them are reported, with tests that would decide.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from minirlhf.conformance.runner import Session
from minirlhf.conformance.variants import FORMULAS, formula
from minirlhf.conformance.vectors import Group, Test, Vectors, departs, load
from minirlhf.conformance.verdict import (
    Judged,
    Likeness,
    as_numbers,
    judge,
    likenesses,
    size,
    takes,
    tolerance_of,
)

Answers = dict[str, Any]                                # axis -> answer


@dataclass(frozen=True)
class Nearest:
    """Of an implementation that follows no answers: the group that most of its results fit, and
    the mistakes that its tests tell."""
    group: str
    fit: int
    asked: int
    likenesses: tuple[Likeness, ...]


@dataclass(frozen=True)
class Identified:
    """What a function follows: `answers` that are consistent with it, several where it is open.

    `chosen` are axes whose answer an argument of the function chooses: {axis: the answers it
    offers}.  `settle` are ids of tests that would decide between the answers, `nearest` is given
    where there are none.  `contradicted` counts results that fit none of the answers best, and
    `problem` says why no test could be asked.
    """
    function: str
    answers: tuple[Answers, ...] = ()
    chosen: dict[str, tuple] | None = None
    settle: tuple[str, ...] = ()
    nearest: Nearest | None = None
    contradicted: int = 0
    problem: str | None = None

    def of(self, axis: str) -> tuple:
        """The answers to an axis that are possible."""
        if axis in (self.chosen or {}):
            return self.chosen[axis]
        return tuple(dict.fromkeys(answers[axis] for answers in self.answers))


@dataclass(frozen=True)
class Candidate:
    """Answers to all axes; how many results contradict them, how many numbers support them."""
    answers: Answers
    against: int
    weight: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.against, -self.weight


def identify(session: Session, function: str,
             done: Callable[[], None] = lambda: None) -> Identified:
    """Put all tests of all groups of a file to the adapter's function.  `done`: after each test."""
    file = load(function)
    judged, unasked = [], []
    for group in file.groups:
        for test in group.tests:
            if takes(session, file, test) and tolerance_of(test, session.float32):
                judged.append(judge(group, test, session.ask(file, group, test), session.float32))
            else:
                unasked.append((group, test))
            done()
    return read(file, judged, unasked, session.functions[function].takes, session.float32)


def read(file: Vectors, judged: list[Judged], unasked: list[tuple[Group, Test]],
         takes: tuple[str, ...], float32: bool = False) -> Identified:
    """What the results of all tests say."""
    silent = [*unasked, *((case.group, case.test) for case in judged if case.reply.problem)]
    if all(case.reply.problem for case in judged):
        problem = judged[0].reply.problem if judged else "no test could be asked"
        return Identified(file.function, problem=problem)
    axes = [a.axis for a in file.arguments if a.axis and a.name in takes]
    parts: dict[tuple, list[Judged]] = {}               # what is told -> the tests that tell it
    for case in judged:
        parts.setdefault(tuple(case.group.parameters[axis] for axis in axes), []).append(case)
    found = {told: fitting(file, dict(zip(axes, told, strict=True)), part, float32)
             for told, part in parts.items()}
    found = {told: candidates for told, candidates in found.items() if candidates}
    rest = [axis.name for axis in file.axes if axis.name not in axes]
    answers = shared([unique({axis: one.answers[axis] for axis in rest} for one in candidates)
                      for candidates in found.values()])
    return Identified(
        file.function, answers,
        {axis: tuple(dict.fromkeys(told[i] for told in found)) for i, axis in enumerate(axes)},
        settling(file, judged, silent, answers) if len(answers) > 1 else (),
        None if found else nearest(file, judged, float32),
        sum(candidates[0].against for candidates in found.values()))


def unique(dicts: Iterable[Answers]) -> tuple[Answers, ...]:
    kept: list[Answers] = []
    for one in dicts:
        if one not in kept:
            kept.append(one)
    return tuple(kept)


def shared(parts: list[tuple[Answers, ...]]) -> tuple[Answers, ...]:
    """Answers that fit whatever the function is told; where there are none, all that fit."""
    every = unique(one for part in parts for one in part)
    return tuple(one for one in every if all(one in part for part in parts)) or every


# --- the answers that fit ------------------------------------------------------------------------

def fitting(file: Vectors, told: Answers, judged: list[Judged], float32: bool) -> list[Candidate]:
    """The answers that are contradicted least.

    Those of a group must pass its tests, at least one of them with a result, and as many as there
    are contradictions elsewhere.  Answers that no group joins are taken only where they are
    contradicted less than those of every group, and by few of the results.
    """
    inputs = by_inputs(judged)
    known = unique(case.group.parameters for case in judged)
    passed = []
    for answers in known:
        own = [case for case in judged if case.group.parameters == answers
               and not case.reply.problem]
        if own and all(case.matched for case in own):
            one = weighed(file, answers, inputs, float32)
            if one.against <= len(own):
                passed.append(one)
    least = min((one.against for one in passed), default=len(inputs) // 4)
    if least > 0 and file.function in FORMULAS:
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
    are, 0 if it says nothing.  `cases` are the tests that have these inputs."""
    own = next((case for case in cases if case.group.parameters == answers), None)
    case = own or cases[0]
    if own and not own.reply.problem:
        return count(own.test.expected.values) if own.matched else -1
    if file.function not in FORMULAS:
        return 0
    with np.errstate(all="ignore"):
        try:
            predicted = formula(file.function, answers)(**copied(file.call(case.group, case.test)))
        except ValueError:                               # refusal is these answers' answer
            return 1 if case.reply.refused else -(not case.reply.problem)
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
        expected = type(wanted)(np.asarray(predicted[name]), counts)
        if departs(as_numbers(reply.values[name]), expected, tolerance_of(test, float32)):
            return -1
        total += int(counts.sum())
    return total


def slots(name: str, answers: Answers, cases: list[Judged], first: Answers) -> np.ndarray:
    """The slots of a result that these answers are about: those that a group compares which has
    them or the first group's on every axis; where there is none, those under the mask."""
    about = [case.test.expected.values[name].counts for case in cases
             if all(a in (answers[axis], first[axis])
                    for axis, a in case.group.parameters.items())]
    counts = np.any(about, axis=0) if about else cases[0].test.expected.values[name].counts
    mask = cases[0].test.inputs.get("mask")
    return counts & mask if not about and np.shape(mask) == counts.shape else counts


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


# --- what is left open ---------------------------------------------------------------------------

def settling(file: Vectors, judged: list[Judged], silent: list[tuple[Group, Test]],
             answers: tuple[Answers, ...]) -> tuple[str, ...]:
    """Of each of several answers the smallest test that was refused or could not be asked; where
    there are none, one whose gradient was not had."""
    unseen = [(case.group, case.test) for case in judged if case.test.expected.gradients
              and case.reply.values is not None and case.reply.gradients is None]
    for tests in (silent, unseen):
        found = [min((test for group, test in tests if one.items() <= group.parameters.items()),
                     default=None, key=lambda test: size(test.inputs)) for one in answers]
        if any(found):
            return tuple(dict.fromkeys(test.id for test in found if test))
    return ()


def nearest(file: Vectors, judged: list[Judged], float32: bool) -> Nearest:
    """The group whose answers are contradicted least."""
    inputs = by_inputs(case for case in judged if not case.reply.problem)
    groups = [(weighed(file, group.parameters, inputs, float32), group) for group in file.groups]
    one, group = min(groups, key=lambda pair: pair[0].rank)
    return Nearest(group.name, len(inputs) - one.against, len(inputs),
                   likenesses([case for case in judged if case.group is group], float32))

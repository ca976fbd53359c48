"""Which convention of each axis an implementation follows, read from all groups of a file.

A group of tests holds one answer to every axis, so a function that follows a convention passes
that group.  Three things make it more than counting:

- A group that is not the first holds only tests on which it comes out differently from the first.
  So where it has none, its answer is the first group's, and a result that differs from that speaks
  against it (more softly, since some tests are written for one group alone).
- Two groups may both be right, each about an axis of its own, where the implementation joins their
  answers as no known system does: then the joined answer explains more than either.
- What the function refuses, or cannot be asked for want of an argument, says nothing.  If answers
  remain between which only such tests decide, all of them are reported, with those tests.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from minirlhf.conformance.runner import Session
from minirlhf.conformance.vectors import Group, Test, Vectors, load
from minirlhf.conformance.verdict import (
    Judged,
    Likeness,
    judge,
    likenesses,
    size,
    takes,
    tolerance_of,
)

Answers = dict[str, Any]                                # axis -> answer


@dataclass(frozen=True)
class Nearest:
    """Of an implementation that follows no group: the group most of whose tests it passes."""
    group: str
    matched: int
    asked: int
    likenesses: tuple[Likeness, ...]


@dataclass(frozen=True)
class Identified:
    """What a function follows: `answers` that are consistent with it, several where it is open.

    `chosen` are axes whose answer an argument of the function chooses: {axis: the answers it
    offers}.  `settle` are ids of tests that would decide between the answers, `nearest` is given
    where there are none.  `problem` says why no test could be asked.
    """
    function: str
    answers: tuple[Answers, ...]
    chosen: dict[str, tuple]
    settle: tuple[str, ...]
    nearest: Nearest | None
    problem: str | None = None

    def of(self, axis: str) -> tuple:
        """The answers to an axis that are possible."""
        if axis in self.chosen:
            return self.chosen[axis]
        return tuple(dict.fromkeys(answers[axis] for answers in self.answers))


@dataclass(frozen=True)
class Candidate:
    """Answers to all axes, with what speaks for and against them.

    `against` counts results that should be the first group's and are not, `weight` the numbers that
    are as they should be.
    """
    answers: Answers
    tests: dict[bytes, list[Judged]]                    # inputs -> its own tests
    against: int
    weight: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.against, -self.weight


def identify(session: Session, function: str,
             done: Callable[[], None] = lambda: None) -> Identified:
    """Put all tests of all groups of a file to the adapter's function.  `done`: after each test."""
    file = load(function)
    judged = []
    unasked = []
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
    asked = [case for case in judged if not case.reply.problem]
    silent = [*unasked, *((case.group, case.test) for case in judged if case.reply.problem)]
    if not asked:
        problem = judged[0].reply.problem if judged else "no test could be asked"
        return Identified(file.function, (), {}, (), None, problem)
    axes = [a.axis for a in file.arguments if a.axis and a.name in takes]
    parts = {}                                          # what is told -> its tests
    for case in asked:
        parts.setdefault(tuple(case.group.parameters[axis] for axis in axes), []).append(case)
    found = {told: followed(file, part) for told, part in parts.items()}
    offered = {told: candidates for told, candidates in found.items() if candidates}
    rest = [axis.name for axis in file.axes if axis.name not in axes]
    answers = shared([unique({axis: one.answers[axis] for axis in rest} for one in candidates)
                      for candidates in offered.values()])
    return Identified(
        file.function, answers,
        {axis: tuple(dict.fromkeys(told[i] for told in offered)) for i, axis in enumerate(axes)},
        settling(silent, answers) if len(answers) > 1 else (),
        None if offered else nearest(asked, float32))


def shared(parts: list[tuple[Answers, ...]]) -> tuple[Answers, ...]:
    """Answers that fit whatever the function is told; where there are none, all that fit."""
    every = unique(one for part in parts for one in part)
    return tuple(one for one in every if all(one in part for part in parts)) or every


def unique(dicts: Iterable[Answers]) -> tuple[Answers, ...]:
    kept: list[Answers] = []
    for one in dicts:
        if one not in kept:
            kept.append(one)
    return tuple(kept)


def inputs_key(test: Test) -> bytes:
    """Equal for tests with equal inputs."""
    def words(x: Any) -> bytes:
        if isinstance(x, dict):
            return b"".join(name.encode() + words(inner) for name, inner in sorted(x.items()))
        return (repr(x).encode() if not isinstance(x, np.ndarray)
                else repr(x.shape).encode() + x.tobytes())
    return words(test.inputs)


# --- the answers that fit ------------------------------------------------------------------------

def followed(file: Vectors, asked: list[Judged]) -> list[Candidate]:
    """The answers that fit best, of those that no test of their own contradicts; and those that
    only the gradients could tell from them, where these are not had."""
    first = file.groups[0]
    points: list[tuple[Answers, dict[bytes, list[Judged]]]] = []
    for case in asked:
        tests = next((tests for answers, tests in points if answers == case.group.parameters), None)
        if tests is None:
            points.append((case.group.parameters, tests := {}))
        tests.setdefault(inputs_key(case.test), []).append(case)
    others = {inputs_key(case.test) for case in asked if case.group is not first}
    base = {key: case for case in asked if case.group is first
            and (key := inputs_key(case.test)) in others}
    every = [weighed(answers, tests, base, others) for answers, tests in points]
    fitting = [one for one in every if all(
        case.matched for cases in one.tests.values() for case in cases)]
    known = [answers for answers, _ in points]
    fitting += [weighed(answers, tests, base, others) for answers, tests in joined(fitting, first)
                if answers not in known]
    least = min((one.rank for one in fitting), default=None)
    best = [one for one in fitting if one.rank == least]
    return best + [one for one in fitting if one not in best and any(
        alike_but_for_gradients(one, other) for other in best)]


def weighed(answers: Answers, tests: dict[bytes, list[Judged]], base: dict[bytes, Judged],
            others: set[bytes]) -> Candidate:
    """Answers with their evidence: own tests, and the first group's where they have none.

    An input that the first group alone has tells nothing of the others.
    """
    implied = [case for key, case in base.items() if key not in tests]
    own = [cases[0] for key, cases in tests.items() if key in others]
    return Candidate(answers, tests, sum(not case.matched for case in implied),
                     sum(compared(case.test.expected.values) for case in [*implied, *own]
                         if case.matched))


def compared(x: Any) -> int:
    """How many numbers of expected results are compared."""
    if isinstance(x, dict):
        return sum(compared(inner) for inner in x.values())
    return int(x.counts.sum())


def alike_but_for_gradients(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates expect the same values wherever both have a test, and other gradients
    somewhere, which were not had."""
    pairs = [(one.tests[key][0], other.tests[key][0]) for key in one.tests.keys() & other.tests]
    return bool(pairs) and all(
        a.reply.gradients is None and not differ(a.test.expected.values, b.test.expected.values)
        for a, b in pairs) and any(
        differ(a.test.expected.gradients or {}, b.test.expected.gradients or {}) for a, b in pairs)


def differ(a: Any, b: Any) -> bool:
    """Whether two expected outcomes differ in a number that both compare."""
    if isinstance(a, dict):
        return any(differ(a[name], b[name]) for name in a.keys() & b)
    both = a.counts & b.counts
    return a.value.shape != b.value.shape or not np.allclose(
        a.value[both].astype(float), b.value[both].astype(float), 1e-9, 1e-9, equal_nan=True)


def joined(fitting: list[Candidate], first: Group):
    """Answers of two or three candidates at once, which differ from the first group on axes of
    their own; with the tests that one of them alone speaks about."""
    def changes(one: Candidate) -> Answers:
        return {axis: a for axis, a in one.answers.items() if a != first.parameters[axis]}
    changed = [one for one in fitting if one.against and changes(one)][:12]
    for number in (2, 3):
        for several in combinations(changed, number):
            axes = [axis for one in several for axis in changes(one)]
            if len(axes) == len(set(axes)):
                answers = dict(first.parameters)
                for one in several:
                    answers |= changes(one)
                speakers = [key for one in several for key in one.tests]
                yield answers, {key: cases for one in several for key, cases in one.tests.items()
                                if speakers.count(key) == 1}


# --- what is left open ---------------------------------------------------------------------------

def settling(silent: list[tuple[Group, Test]], answers: tuple[Answers, ...]) -> tuple[str, ...]:
    """The smallest test of each of several answers that was refused or could not be asked."""
    found = [min((test for group, test in silent if one.items() <= group.parameters.items()),
                 default=None, key=lambda test: size(test.inputs)) for one in answers]
    return tuple(dict.fromkeys(test.id for test in found if test))


def nearest(asked: list[Judged], float32: bool) -> Nearest:
    """The group most of whose tests pass, by share; the mistakes told by its tests."""
    groups: dict[str, list[Judged]] = {}
    for case in asked:
        groups.setdefault(case.group.name, []).append(case)
    name = max(groups, key=lambda name: sum(case.matched for case in groups[name])
               / (len(groups[name]) + 1))
    return Nearest(name, sum(case.matched for case in groups[name]), len(groups[name]),
                   likenesses(groups[name], float32))

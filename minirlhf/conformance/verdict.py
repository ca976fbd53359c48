"""What an adapter's results mean: matched, differs, and which known mistake a difference equals.

A result is compared as its test's tolerance says.  Where it differs, the values that known
mistakes yield on the same inputs are compared too:

    a mistake is told by a test     the test lists it
    it is equalled                  the result is the mistake's, within the tolerance

A mistake that is equalled by every test that tells it is *named*: it is what the function does.
One that is equalled by some only is a likeness, and says so.  Tests that do not tell a mistake say
nothing about it, though it may fail them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirlhf.conformance.runner import Reply, Session
from minirlhf.conformance.vectors import (
    Group,
    Outcome,
    Test,
    Tolerance,
    Vectors,
    Wanted,
    departs,
    load,
)


@dataclass(frozen=True)
class Judged:
    """A test, what came of it, and what is wrong with that (None: nothing); if it is a number,
    `wrong` is the first result that departs, as `first_wrong` says it."""
    group: Group
    test: Test
    reply: Reply
    fault: str | None
    wrong: tuple[str, str] | None = None

    @property
    def matched(self) -> bool:
        return self.fault is None


@dataclass(frozen=True)
class Likeness:
    """A known mistake, in how many of the tests that tell it the result equals it."""
    flag: str
    equalled: int
    told: int

    @property
    def named(self) -> bool:
        return self.equalled == self.told


@dataclass(frozen=True)
class Verdict:
    """On one function, measured by the tests of `groups`; `takes` are the arguments it has.

    `left_out` are tests that give an argument it does not have, or that float32 cannot tell.
    `gradients`: whether these were compared, None where there are none to compare.
    """
    function: str
    groups: tuple[Group, ...]
    judged: tuple[Judged, ...]
    left_out: tuple[Test, ...]
    gradients: bool | None
    likenesses: tuple[Likeness, ...]
    takes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Judged, ...]:
        return tuple(case for case in self.judged if not case.matched)

    @property
    def kind(self) -> str:
        if not self.judged:
            return "not checked"
        return "differs" if self.faults else "matched"

    @property
    def named(self) -> tuple[str, ...]:
        """The mistakes that it equals wherever they are told."""
        return tuple(likeness.flag for likeness in self.likenesses if likeness.named)

    @property
    def smallest(self) -> Judged | None:
        """The failing test with the fewest numbers, those with a result first."""
        return min(self.faults, default=None, key=lambda case: (
            case.reply.lost, case.reply.problem is not None, size(case.test.inputs)))


def size(x: Any) -> int:
    """How many numbers inputs hold."""
    if isinstance(x, dict):
        return sum(size(inner) for inner in x.values())
    return int(np.size(x))


# --- one test ------------------------------------------------------------------------------------

def tolerance_of(test: Test, float32: bool) -> Tolerance | None:
    return test.float32 if float32 else test.tolerance


def fault(expected: Outcome, reply: Reply, tolerance: Tolerance) -> str | None:
    """What is wrong with a reply, in words that go on after "it"."""
    if reply.problem:
        return reply.problem
    spot = first_wrong(expected, reply, tolerance)
    if spot is None:
        return None
    kind, name = spot
    got, wanted = getattr(reply, kind)[name], getattr(expected, kind)[name]
    words = f"the gradient of {name}" if kind == "gradients" else name
    if shape_of(got) != shape_of(wanted):
        return f"returned the shape {shape_of(got)} for {words}, wanted {shape_of(wanted)}"
    return f"differs in {words}"


def first_wrong(expected: Outcome, reply: Reply, tolerance: Tolerance) -> tuple[str, str] | None:
    """("values" or "gradients", name) of the first result that departs; None if none does.

    Gradients that the adapter has not are not compared.
    """
    for kind in ("values", "gradients"):
        got, wanted = getattr(reply, kind), getattr(expected, kind)
        for name in wanted if wanted and got is not None else ():
            if off(got[name], wanted[name], tolerance):
                return kind, name
    return None


def off(got: Any, wanted: Any, tolerance: Tolerance) -> bool:
    """Whether a result, as nested lists, is of another shape or departs."""
    return shape_of(got) != shape_of(wanted) or departs(as_numbers(got), wanted, tolerance)


def as_numbers(x: Any) -> Any:
    """Nested lists as an array, a dict of them as a dict of arrays."""
    if isinstance(x, dict):
        return {name: as_numbers(inner) for name, inner in x.items()}
    return np.asarray(x, dtype=np.float64)


def shape_of(x: Any) -> Any:
    """A shape, or of a tree those of its leaves."""
    if isinstance(x, dict):
        return {name: shape_of(inner) for name, inner in sorted(x.items())}
    return np.shape(x.value if isinstance(x, Wanted) else x)


def equals(outcome: Outcome, reply: Reply, tolerance: Tolerance) -> bool:
    """Whether a reply is what a mistake yields; its gradients too, where they are what shows it."""
    if outcome.gradients and reply.gradients is None:
        return False
    return fault(outcome, reply, tolerance) is None


def judge(group: Group, test: Test, reply: Reply, float32: bool) -> Judged:
    """Compare a reply; where only float32's digits are right in float64, that is said."""
    tolerance = tolerance_of(test, float32)
    found = fault(test.expected, reply, tolerance)
    if not found or reply.problem:
        return Judged(group, test, reply, found)
    if not float32 and test.float32 and not fault(test.expected, reply, test.float32):
        found += " after float32's digits"
    return Judged(group, test, reply, found, first_wrong(test.expected, reply, tolerance))


# --- one function --------------------------------------------------------------------------------

def takes(session: Session, file: Vectors, test: Test) -> bool:
    """Whether the adapter's function can be given this test's inputs."""
    defined = session.functions[file.function]
    return bool(defined.problem) or set(test.inputs) <= set(defined.takes)


def examine(session: Session, function: str, groups: tuple[Group, ...],
            done: Callable[[], None] = lambda: None) -> Verdict:
    """Put all tests of some groups to a function of the adapter, and judge it.

    Where groups differ only in what an argument chooses that the function does not have, it is
    judged by those which it does best on: it has made the choice itself.  `done` is called after
    each test.
    """
    file = load(function)
    defined = session.functions[function]
    judged, left_out = [], []
    for group in groups:
        for test in group.tests:
            if takes(session, file, test) and tolerance_of(test, session.float32):
                judged.append(judge(group, test, session.ask(file, group, test), session.float32))
            else:
                left_out.append(test)
            done()
    chosen = {a.axis for a in file.arguments if a.axis and a.name not in defined.takes}
    kept = best(groups, judged, chosen)
    judged = tuple(case for case in judged if case.group in kept)
    slopes = any(case.test.expected.gradients for case in judged)
    return Verdict(function, kept, judged,
                   tuple(test for test in left_out if any(test in g.tests for g in kept)),
                   defined.gradients if slopes else None,
                   likenesses(judged, session.float32), defined.takes)


def best(groups: tuple[Group, ...], judged: list[Judged], chosen: set[str]) -> tuple[Group, ...]:
    """Of groups that differ in the answers to the `chosen` axes, those with the fewest faults."""
    def answers(group: Group) -> tuple:
        return tuple(group.parameters[axis] for axis in sorted(chosen))

    def failing(answer: tuple) -> float:
        cases = [case for case in judged if answers(case.group) == answer]
        return sum(not case.matched for case in cases) / max(len(cases), 1)
    if not groups:
        return ()
    winner = min(dict.fromkeys(map(answers, groups)), key=failing)
    return tuple(group for group in groups if answers(group) == winner)


def named_answers(verdict: Verdict) -> str:
    """Where the function itself has made a choice that an argument could make: which."""
    file = load(verdict.function)
    chosen = {a.axis for a in file.arguments if a.axis and a.name not in verdict.takes}
    return ", ".join(f"{axis} = {answer}" for group in verdict.groups[:1]
                     for axis, answer in group.parameters.items() if axis in chosen)


def likenesses(judged: Iterable[Judged], float32: bool) -> tuple[Likeness, ...]:
    """The mistakes that some failing test equals, the likeliest first.

    Where an argument chooses between groups, a mistake may be in one branch alone: it is measured
    by the groups in which it is equalled at all.
    """
    told: dict[tuple[str, str], list[bool]] = {}
    for case in judged:
        if case.reply.problem:
            continue                                     # no result: it equals nothing
        for flag, outcome in case.test.mistakes.items():
            if outcome.gradients and case.reply.gradients is None:
                continue                                 # shows in gradients, which are not had
            told.setdefault((flag, case.group.name), []).append(not case.matched and equals(
                outcome, case.reply, tolerance_of(case.test, float32)))
    hits = {flag: [hit for (other, _), group in told.items() if other == flag and any(group)
                   for hit in group] for flag, _ in told}
    found = [Likeness(flag, sum(every), len(every)) for flag, every in hits.items() if every]
    return tuple(sorted(found, key=lambda one: (not one.named, -one.equalled / one.told,
                                                -one.equalled, one.flag)))

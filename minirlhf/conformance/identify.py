"""Which convention of each axis an implementation follows.

A group of tests holds one answer to every axis, and a function that follows a convention passes its
group.  That alone leaves too much open: a small group is passed by others too.  So whatever the
function returned on any test's inputs is also compared with what the formula under the group's
answers returns there (`variants`), and the answers that are contradicted least are taken.  Where
no group is free of contradiction, answers that no known system joins are tried as well.

What the function refuses, or cannot be asked for want of an argument, says nothing, unless refusal
is an answer.  If several answers remain, all of them are reported, with tests that would decide.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minirlhf.conformance.evidence import (
    Answers,
    by_inputs,
    evidence,
    fitting,
    inputs_key,
    not_asked,
    unique,
    weighed,
)
from minirlhf.conformance.examine import best, likenesses, own_choices, put
from minirlhf.conformance.runner import Session
from minirlhf.conformance.vectors import Group, Test, Vectors, load
from minirlhf.conformance.verdict import Judged, Likeness, size


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
    They leave out axes that only tests could tell which give an argument that it does not have.

    `chosen` are axes whose answer an argument of the function chooses: {axis: the answers it
    offers}.  `unmet` are answers that it is told by such arguments and that its results do not
    follow, nor any other convention.  `settle` are ids of tests that would decide between the
    answers, `nearest` is given where there are none.  `contradicted` counts results that do not
    fit the answers, `contrary` are the tests that show them, and `problem` says why no test could
    be asked.
    """
    function: str
    answers: tuple[Answers, ...] = ()
    chosen: dict[str, tuple] | None = None
    settle: tuple[str, ...] = ()
    nearest: Nearest | None = None
    contradicted: int = 0
    contrary: tuple[str, ...] = ()
    unmet: tuple[Answers, ...] = ()
    problem: str | None = None

    def of(self, axis: str) -> tuple:
        """The answers to an axis that are possible; none if it was not asked."""
        if axis in (self.chosen or {}):
            return self.chosen[axis]
        return tuple(dict.fromkeys(answers[axis] for answers in self.answers if axis in answers))


def identify(session: Session, function: str,
             done: Callable[[], None] = lambda: None) -> Identified:
    """Put all tests of all groups of a file to the adapter's function.  `done`: after each test."""
    file = load(function)
    judged, unasked = put(session, file, file.groups, done)
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
    unmet = [told for told, candidates in found.items() if not candidates
             and not all(case.reply.problem for case in parts[told])]
    found = {told: candidates for told, candidates in found.items() if candidates}
    rest = [axis.name for axis in file.axes if axis.name not in axes]
    answers = shared([unique({axis: one.answers[axis] for axis in rest} for one in candidates)
                      for candidates in found.values()])
    wanting = [(group, test) for group, test in unasked if not set(test.inputs) <= set(takes)]
    if answers and wanting:
        told = dict(zip(axes, next(iter(found)), strict=True))
        left_out = not_asked(file, answers[0] | told, judged, wanting)
        answers = unique({axis: answer for axis, answer in one.items() if axis not in left_out}
                         for one in answers)
    return Identified(
        file.function, answers,
        {axis: tuple(dict.fromkeys(told[i] for told in found)) for i, axis in enumerate(axes)},
        settling(judged, silent, answers) if len(answers) > 1 else (),
        None if found else nearest(file, judged, takes, float32),
        sum(candidates[0].against for candidates in found.values()),
        tuple(case.test.id for told, candidates in found.items()
              for cases in by_inputs(parts[told]) for case in cases
              if evidence(file, candidates[0].answers, cases, float32) < 0),
        tuple(dict(zip(axes, told, strict=True)) for told in unmet if axes))


def shared(parts: list[tuple[Answers, ...]]) -> tuple[Answers, ...]:
    """Answers that fit whatever the function is told; where there are none, all that fit."""
    every = unique(one for part in parts for one in part)
    return tuple(one for one in every if all(one in part for part in parts)) or every


# --- what is left open ---------------------------------------------------------------------------

def settling(judged: list[Judged], silent: list[tuple[Group, Test]],
             answers: tuple[Answers, ...]) -> tuple[str, ...]:
    """Of each of several answers the smallest test that was refused or could not be asked; where
    there are none, one whose gradients would tell, had the function given them."""
    left = [case for case in judged
            if any(one.items() <= case.group.parameters.items() for one in answers)]
    unseen = [(case.group, case.test) for case in left if case.test.expected.gradients
              and case.reply.gradients is None and any(
                  differ(case.test.expected.gradients, other.test.expected.gradients)
                  for other in left if inputs_key(other.test) == inputs_key(case.test))]
    for tests in (silent, unseen):
        found = [min((test for group, test in tests if one.items() <= group.parameters.items()),
                     default=None, key=lambda test: size(test.inputs)) for one in answers]
        if any(found):
            return tuple(dict.fromkeys(test.id for test in found if test))
    return ()


def differ(one: dict | None, other: dict | None) -> bool:
    """Whether two expected gradients differ somewhere; not if one of them is not given."""
    return bool(one and other) and any(not np.allclose(
        one[name].value, other[name].value, 1e-9, 1e-9, equal_nan=True) for name in one)


def nearest(file: Vectors, judged: list[Judged], takes: tuple[str, ...],
            float32: bool) -> Nearest:
    """The group whose answers are contradicted least.  Its mistakes are those that `verify` sees:
    of the core groups' tests, or of the group's own in a file that has none."""
    inputs = by_inputs(case for case in judged if not case.reply.problem)
    groups = [(weighed(file, group.parameters, inputs, float32), group) for group in file.groups]
    one, group = min(groups, key=lambda pair: pair[0].rank)
    core = tuple(group for group in file.groups if group.core)
    told = [case for case in judged if case.group in core]
    kept = best(core, told, own_choices(file, takes), float32) or (group,)
    return Nearest(group.name, len(inputs) - one.against, len(inputs),
                   likenesses([case for case in judged if case.group in kept], float32))

"""What an adapter's results mean: matched, differs, and which known mistake a difference equals.

A result is compared as its test's tolerance says; `examine` compares those of a whole function.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minirlhf.conformance.runner import Reply
from minirlhf.conformance.vectors import (
    Group,
    Outcome,
    Test,
    Tolerance,
    Wanted,
    departs,
)

# What released code does in extremes too: NaN or infinity, where a ratio overflows or NaN stands
# under the mask.  Whoever does so follows conventions all the same.
BRITTLE = frozenset({"mask-multiplied", "overflow-in-the-slope", "overflow-times-zero"})


@dataclass(frozen=True)
class Judged:
    """A test, what came of it, and what is wrong with that (None: nothing); if it is a number,
    `wrong` is the first result that departs, as `first_wrong` says it.

    `brittle`: what is wrong is no more than NaN or infinity, in a test of robustness.
    """
    group: Group
    test: Test
    reply: Reply
    fault: str | None
    wrong: tuple[str, str] | None = None
    brittle: bool = False

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
    def brittle(self) -> bool:
        """Whether it differs, and only where ratios overflow or NaN stands under the mask."""
        return bool(self.faults) and all(case.brittle for case in self.faults)

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
        """The failing test with the fewest numbers: those with a result first, of these those that
        are wrong by more than NaN, and of these those that tell the mistake that is named."""
        return min(self.faults, default=None, key=lambda case: (
            case.reply.lost, case.reply.problem is not None, case.brittle,
            not set(self.named[:1]) & set(case.test.flags), size(case.test.inputs)))


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


def is_brittle(test: Test, reply: Reply, tolerance: Tolerance) -> bool:
    """Whether a test of robustness is failed by NaN or infinity alone: what is finite is right."""
    if not BRITTLE & set(test.flags):
        return False
    for kind in ("values", "gradients"):
        got, wanted = getattr(reply, kind), getattr(test.expected, kind)
        for name, one in wanted.items() if wanted and got is not None else ():
            if shape_of(got[name]) != shape_of(one):
                return False
            numbers = as_numbers(got[name])
            if departs(numbers, Wanted(one.value, one.counts & np.isfinite(numbers)), tolerance):
                return False
    return True


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
    return Judged(group, test, reply, found, first_wrong(test.expected, reply, tolerance),
                  is_brittle(test, reply, tolerance))

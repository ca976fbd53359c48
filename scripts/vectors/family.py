"""What a family of vectors is made of.

A family states a formula, which takes its inputs and its conventions as dicts; the convention axes
with every known answer; the groups, one answer on each axis; the cases, inputs and the law that
they show; and the known mistakes, each a wrong formula.  `building.build` makes its file of it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Convention = dict[str, Any]
UNDER_THE_MASK = "nan under the mask"                   # in place of a rule for gradients
Rule = Callable[[dict, Convention], dict]               # inputs, conventions -> outputs


@dataclass(frozen=True)
class Argument:
    """An input or a result; dtype is "float", "int", "bool" or "str", shape () a plain number.

    One with an `axis` is no input of the tests: it is that axis' answer, for functions that want
    to be told.  An optional one has a `default`: a number, or the rule that yields it.
    """
    name: str
    shape: str
    about: str
    dtype: str = "float"
    differentiated: bool = False
    optional: bool = False
    axis: str | None = None
    default: float | str | None = None


@dataclass(frozen=True)
class Axis:
    """A question on which systems differ, with every known answer and what it means."""
    name: str
    about: str
    values: dict[Any, str]


@dataclass(frozen=True)
class Group:
    """One answer on every axis.  `clause` says how it departs from the first group.

    A `listed` one has only the cases that name it: it adds to groups that differ by one axis.
    """
    name: str
    clause: str
    convention: Convention
    systems: tuple[str, ...] = ()
    core: bool = False
    listed: bool = False


@dataclass(frozen=True)
class Case:
    """Inputs, and the law that they show.

    Without `groups` the case belongs to the first group, to every other in which it comes out
    differently, and to those in `also`.  There its sentence is the group's clause with `given`,
    which says what the inputs are, unless `laws` has a sentence for that group.  `mistakes` are
    those evaluated here.  A tolerance (rtol, atol, why) is given where float64 loses digits: in all
    groups, or in those that `tolerances` names.  `float32` is the absolute one in that precision
    where inputs are so large that a right formula which adds them up loses more than usual.
    """
    name: str
    law: str
    inputs: dict
    mistakes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    given: str = ""
    laws: dict[str, str] = field(default_factory=dict)
    gradients: bool = True
    tolerance: tuple[float, float, str] | None = None
    tolerances: dict[str, tuple[float, float, str]] = field(default_factory=dict)
    float32: float | None = None


@dataclass(frozen=True)
class Family:
    """A function with everything its file needs.

    A mistake is a wrong formula, or two of them: one for the values, one for the gradients; None
    where these are NaN, or UNDER_THE_MASK where they are right but for NaN there.
    `without_slope` takes inputs and outputs, and marks the entries of each differentiated argument
    whose gradient is not compared.
    """
    function: str
    says: str
    equation: tuple[str, ...]
    sources: tuple[dict, ...]
    arguments: tuple[Argument, ...]
    results: tuple[Argument, ...]
    axes: tuple[Axis, ...]
    groups: tuple[Group, ...]
    cases: tuple[Case, ...]
    formula: Rule
    mistakes: dict[str, Rule | tuple[Rule, Rule | str | None]] = field(default_factory=dict)
    without_slope: Callable[[dict, dict], dict] | None = None

    @property
    def differentiated(self) -> list[str]:
        return [a.name for a in self.arguments if a.differentiated]


def star(base: Convention, name: str, clause: str, systems: tuple[str, ...] = (),
         listed: bool = False, **changes: Any) -> Group:
    """A group that departs from the base on the axes given, with "__" for their dots."""
    return Group(name, clause, base | {k.replace("__", "."): v for k, v in changes.items()},
                 systems, listed=listed)


def numbers(seed: str, *shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    """Arbitrary but fixed numbers of three decimals, as nested lists."""
    draw = random.Random(seed)

    def make(sizes):
        if not sizes:
            return round(low + (high - low) * draw.random(), 3)
        return [make(sizes[1:]) for _ in range(sizes[0])]
    return make(shape)

"""Every preset as an implementation, and what `minirlhf identify` says of it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from minirlhf.conformance.adapters import Adapter, Function
from minirlhf.conformance.frameworks import FRAMEWORKS
from minirlhf.conformance.identify import Identified, identify
from minirlhf.conformance.presets import PRESETS
from minirlhf.conformance.runner import Local
from minirlhf.conformance.systems import consistent, conventions
from minirlhf.conformance.variants import formula
from minirlhf.conformance.vectors import functions, load


@cache
def identified(function: str, answers: tuple) -> Identified:
    """What is said of the formula under some answers, with gradients by this package's engine."""
    takes = tuple(a.name for a in load(function).arguments if not a.axis)
    call = Function(formula(function, dict(answers)), takes)
    return identify(Local(Adapter("formula", FRAMEWORKS["minirlhf"], {function: call})), function)


def implementation(preset: str) -> dict[str, Identified]:
    """{function: what is said of it} of all functions of which a preset has the conventions."""
    found = {}
    for function in functions():
        own = conventions(load(function), preset)
        if own and load(function).axes:
            found[function] = identified(function, tuple(own[0].items()))
    return found


def departures(preset: str, other: str) -> dict[str, bool]:
    """{function: whether what follows `preset` is seen not to follow `other`}, of those functions
    of which both have conventions."""
    return {function: other not in consistent(load(function), found)
            for function, found in implementation(preset).items()
            if conventions(load(function), other)}


def confusion() -> Mapping[str, Mapping[str, dict[str, bool]]]:
    """{preset: {other: departures}} of all presets."""
    return {preset: {other: departures(preset, other) for other in PRESETS} for preset in PRESETS}


def same_conventions(preset: str, other: str) -> bool:
    """Whether two presets answer alike wherever both answer: then nothing can tell them apart."""
    def one(name: str, function: str) -> Any:
        own = conventions(load(function), name)
        return own[0] if own else None
    return all(one(preset, function) == one(other, function) for function in functions()
               if one(preset, function) and one(other, function))

"""Real systems by name: which groups of the vectors are theirs, and which a function fits.

A group lists the systems it was made for.  Where a file lists none for a system, the answers of its
preset decide.
"""

from typing import Any

from minirlhf.conformance.identify import Identified
from minirlhf.conformance.presets import PRESETS
from minirlhf.conformance.vectors import Group, Vectors, functions, load


def systems() -> tuple[str, ...]:
    """The names of all systems of which some answers are known."""
    names = {name for function in functions() for name in asked_systems(load(function))}
    return tuple(sorted(names | set(PRESETS)))


def asked_systems(file: Vectors) -> tuple[str, ...]:
    """Those of which the file has the conventions."""
    listed = {name for group in file.groups for name in group.systems}
    return tuple(sorted(listed | {name for name in PRESETS if conventions(file, name)}))


def conventions(file: Vectors, system: str) -> tuple[dict[str, Any], ...]:
    """The answers to the file's axes that are a system's: several where an argument chooses."""
    listed = tuple(group.parameters for group in file.groups if system in group.systems)
    if listed or system not in PRESETS:
        return listed
    parameters = PRESETS[system].parameters(file)
    return (parameters,) if parameters else ()


def groups_of(file: Vectors, system: str) -> tuple[Group, ...]:
    """The groups of tests that a system has to pass; for this package its own.

    Raises ValueError for a system that is not known.
    """
    if system not in systems():
        raise ValueError(f"unknown preset {system!r}; choose {', '.join(systems())}")
    core = tuple(group for group in file.groups if group.core)
    if system == "minirlhf" and core:
        return core
    listed = tuple(group for group in file.groups if system in group.systems)
    return listed or tuple(group for group in file.groups
                           if group.parameters in conventions(file, system))


def consistent(file: Vectors, found: Identified) -> tuple[str, ...]:
    """The systems one of whose conventions is possible for a function."""
    def possible(parameters: dict[str, Any]) -> bool:
        return any(one.items() <= parameters.items() for one in found.answers) and all(
            parameters[axis] in offered for axis, offered in (found.chosen or {}).items())
    return tuple(system for system in asked_systems(file)
                 if any(possible(parameters) for parameters in conventions(file, system)))

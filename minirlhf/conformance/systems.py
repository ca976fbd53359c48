"""Real systems by name: which groups of the vectors are theirs, and which a function fits."""

from minirlhf.conformance.identify import Identified
from minirlhf.conformance.vectors import Group, Vectors, functions, load


def systems() -> tuple[str, ...]:
    """The names of all systems of which some answers are known."""
    names = {name for function in functions() for name in asked_systems(load(function))}
    return tuple(sorted(names))


def asked_systems(file: Vectors) -> tuple[str, ...]:
    """Those that the file has groups of."""
    return tuple(sorted({name for group in file.groups for name in group.systems}))


def groups_of(file: Vectors, system: str) -> tuple[Group, ...]:
    """The groups of tests that a system has to pass; for this package its own.

    Raises ValueError for a system that is not known.
    """
    if system == "minirlhf":
        return (tuple(group for group in file.groups if group.core)
                or tuple(group for group in file.groups if system in group.systems))
    if system not in systems():
        raise ValueError(f"unknown preset {system!r}; choose {', '.join(systems())}")
    return tuple(group for group in file.groups if system in group.systems)


def consistent(file: Vectors, found: Identified) -> tuple[str, ...]:
    """The systems all whose answers are possible for a function."""
    def possible(group: Group) -> bool:
        return any(one.items() <= group.parameters.items() for one in found.answers) and all(
            group.parameters[axis] in offered for axis, offered in (found.chosen or {}).items())
    return tuple(system for system in asked_systems(file) if any(
        possible(group) for group in file.groups if system in group.systems))

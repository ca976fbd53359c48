"""A step as a list of rules, one for each array that it computes, and their evaluation.

A rule is a small function of an environment `e`, which knows by name the arrays given, the models,
the numbers of the settings, every array computed by an earlier rule, and the functions between
them.  Because everything is looked up by name, one thing can be exchanged: a given array for a
computed one, a setting, or a function.  A known mistake is just that, an exchange from some rule
on (mistakes.py); and whether an array merely follows from an earlier one that departs is found by
giving the environment that earlier one (locate.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minirlhf.parameters import Parameters, Tree, leaves, pack, tree_map
from minirlhf.transformer import ModelConfig


class Model(NamedTuple):
    """A loaded checkpoint."""
    params: Parameters
    config: ModelConfig


@dataclass(frozen=True)
class Rule:
    """One array of a trace, or a tree of arrays with the names of a model's parameters.

    compute   e -> the array or the tree
    mask      the name of the mask where it counts; elsewhere it may hold anything
    through   arrays that `compute` takes another way, so that no look-up shows them: a loss of
              the log-probs goes through the ratios
    """
    name: str
    shape: str
    formula: str
    compute: Callable[["Environment"], Any]
    mask: str | None = None
    through: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """An array of the batch: shape in letters, dtype "int", "bool" or "float"."""
    shape: str
    dtype: str
    about: str
    optional: bool = False


@dataclass(frozen=True)
class Step:
    """What one update is computed from, and how.

    models     {folder: what the model is}
    functions  the named functions between the rules; each takes e first
    settings   the numbers that it reads, of functions.StepSettings
    """
    name: str
    about: str
    models: Mapping[str, str]
    given: Mapping[str, Given]
    functions: Mapping[str, Callable]
    settings: Set[str]
    rules: Sequence[Rule]

    def index(self, name: str) -> int:
        return [rule.name for rule in self.rules].index(name)


@dataclass(frozen=True)
class Mistake:
    """What another system may compute instead: `changes` exchanges settings or functions.

    flag  its name, where there is one that of the test vectors' notes
    at    the rules where it can show first
    says  one clause: what is done wrongly, or by another convention
    """
    flag: str
    at: tuple[str, ...]
    says: str
    changes: Mapping[str, Any]


Arrays = Mapping[str, np.ndarray]               # dotted name -> array


@dataclass
class Environment:
    """Evaluates the rules of a step, each when it is first asked for: e["whitened_advantages"].

    base     models, settings, given arrays, by name
    known    arrays that replace computed ones, under dotted names; a tree may be known in part
    changes  (from which rule on, exchanged settings and functions)
    reads    afterwards: {rule: the names that it looked up}
    """
    step: Step
    base: Mapping[str, Any]
    known: Arrays = field(default_factory=dict)
    changes: Sequence[tuple[int, Mapping[str, Any]]] = ()
    reads: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self):
        self._rules = {rule.name: rule for rule in self.step.rules}
        self._index = {name: i for i, name in enumerate(self._rules)}
        self._values: dict[str, Any] = {}
        self._stack: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.base

    def __getitem__(self, name: str) -> Any:
        if self._stack:
            self.reads[self._stack[-1]].add(name)
            now = self._index[self._stack[-1]]
            for start, changed in reversed(self.changes):
                if start <= now and name in changed:
                    return changed[name]
        if name in self.base:
            return self.base[name]
        if name in self.step.functions:
            return self.step.functions[name]
        if name not in self._values:
            self._values[name] = self._value(name)
        return self._values[name]

    def _value(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]
        given = {leaf: x for leaf, x in self.known.items() if leaf.startswith(name + ".")}
        return overlaid(self.compute(name), name, given)

    def compute(self, name: str) -> Any:
        """The array of a rule, whether or not it is known; what it is made from may be known.

        One that the batch gives in place of a model is not computed.
        """
        if name in self.base:
            return self.base[name]
        rule = self._rules[name]
        self._stack.append(name)
        self.reads[name] = set(rule.through)
        try:
            return rule.compute(self)
        finally:
            self._stack.pop()


def overlaid(value: Any, name: str, given: Arrays) -> Any:
    """A tree with some of its leaves replaced."""
    if not given:
        return value
    names = iter([f"{name}.{leaf}" for leaf, _ in leaves(value)])
    return pack(tree_map(lambda leaf: given.get(next(names), leaf), value))


def flat(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(dotted name, array) of a rule's value.

    A tree goes from the last layer to the first, as backpropagation does: the first of its leaves
    that departs is then the one nearest to the loss.
    """
    if not isinstance(value, dict):
        yield name, np.asarray(value)
        return
    for leaf, array in reversed(list(leaves(value))):
        yield f"{name}.{leaf}", array


def evaluate(step: Step, base: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], Environment]:
    """Every array of a step in order, and the environment that computed them."""
    e = Environment(step, base)
    arrays: dict[str, np.ndarray] = {}
    for rule in step.rules:
        arrays.update(flat(rule.name, e[rule.name]))
    return arrays, e


def attempt(e: Environment, rule: Rule) -> Arrays | None:
    """A rule's arrays in an environment with a mistake; None where the mistake cannot be made,
    as when there is no column two before a token."""
    try:
        with np.errstate(all="ignore"):
            return dict(flat(rule.name, e.compute(rule.name)))
    except (ValueError, IndexError, ArithmeticError):
        return None


def made_from(e: Environment, rule: Rule) -> list[str]:
    """The arrays, models and settings that an evaluated rule looked up, in a fixed order."""
    known = [*e.base, *(r.name for r in e.step.rules)]
    return [name for name in known if name in e.reads.get(rule.name, ())]


def same_tree(tree: Tree, function: Callable) -> Tree:
    """A packed tree of function(leaf)."""
    return pack(tree_map(function, tree))

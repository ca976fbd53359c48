"""The first array of another system that departs, and what explains it.

The arrays are looked at in their order.  One that is not ours is computed again from *theirs*
before it: if that gives it, it merely follows, and is not blamed.  Otherwise something was done
otherwise at this very array, and each known mistake is tried in its place.  Those whose result
equals theirs are named, and taken to be made from there on, until a later array tells them apart.
Where nothing known explains a departure, what is computed by the same function later cannot be
told right from wrong, and is said to be unsettled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from minirlhf.conformance.trace.compare import (
    Departure,
    departure,
    differs,
    places,
    relations,
    reordered,
    tolerance_of,
)
from minirlhf.conformance.trace.folder import Trace
from minirlhf.conformance.trace.mistakes import MISTAKES
from minirlhf.conformance.trace.rules import Arrays, Environment, Mistake, Rule, attempt, flat


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one rule's arrays.

    verdict    "equal"; "follows" from theirs before it; "departs"; "unsettled": it depends on a
               departure that nothing explains; "not given"
    given, of  how many of its arrays came
    array      the first of its arrays that departs, and how: `shape` (theirs, ours) or `off`
    wrong      all of its arrays that do
    mistakes   the known mistakes that give exactly theirs; `made_at`, where
    relations  what else explains it, in words
    """
    name: str
    verdict: str
    given: int
    of: int
    array: str | None = None
    wrong: tuple[str, ...] = ()
    shape: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    off: Departure | None = None
    mistakes: tuple[Mistake, ...] = ()
    made_at: str | None = None
    relations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """All verdicts in order, names that no rule has, and the tolerance used."""
    step: str
    verdicts: tuple[Verdict, ...]
    unknown: tuple[str, ...]
    rtol: float
    dtype: str

    @property
    def first(self) -> Verdict | None:
        """The first that departs."""
        return next((v for v in self.verdicts if v.verdict == "departs"), None)

    @property
    def equal(self) -> bool:
        return all(v.verdict in ("equal", "not given") for v in self.verdicts)


class Search:
    """The walk through the rules, with what it has found so far."""

    def __init__(self, trace: Trace, theirs: Arrays, rtol: float):
        self.trace, self.theirs, self.rtol = trace, theirs, rtol
        self.known: dict[str, np.ndarray] = {}           # theirs so far, ours where masked
        # each a choice among the mistakes that can have been made so far: (from which rule, which)
        self.options: list[list[tuple[int, Mistake]]] = [[]]
        self.suspects: set[str] = set()                  # functions and arrays not to be trusted
        self.silent: list[str] = []                      # rules none of whose arrays came

    def verdict(self, rule: Rule) -> Verdict:
        names = [name for name in self.trace.arrays
                 if name == rule.name or name.startswith(f"{rule.name}.")]
        given = {name: self.theirs[name] for name in names if name in self.theirs}
        if not given:
            self.silent.append(rule.name)
            return Verdict(rule.name, "not given", 0, len(names))
        mask = self.trace.base[rule.mask] if rule.mask else True
        wrong = self.differing(given, self.trace.arrays, mask)
        kind, mistakes, made_at = self.explained(rule, given, mask) if wrong else ("equal", [], "")
        self.remember(rule, given, mask)
        if kind in ("equal", "follows"):
            return Verdict(rule.name, kind, len(given), len(names))
        name = wrong[0]
        x, ours = given[name], self.trace.arrays[name]
        return Verdict(
            rule.name, kind, len(given), len(names), name, tuple(wrong),
            None if x.shape == ours.shape else (x.shape, ours.shape),
            departure(x, ours, mask, self.rtol) if x.shape == ours.shape else None,
            tuple(mistakes), made_at or None,
            self.common_relations({name: given[name] for name in wrong}, mask))

    def differing(self, given: Arrays, ours: Mapping[str, np.ndarray], mask) -> list[str]:
        """The arrays that differ; in a tree, entries are measured by the largest of all too."""
        most = 1e-6 * max(abs(ours[name]).max(initial=0.0) for name in given)
        return [name for name, x in given.items()
                if differs(x, ours[name], mask, self.rtol, most)]

    def explained(self, rule: Rule, given: Arrays, mask) -> tuple[str, list[Mistake], str]:
        """Whether arrays that are not ours follow from theirs before them, or which mistakes made
        them.  Mistakes that cannot be told apart at one array may part at a later one."""
        plain = self.environment([])
        right = dict(flat(rule.name, plain.compute(rule.name)))
        fit = [option for option in self.options
               if option and self.gives(option, rule, given, mask)]
        self.options = fit or self.options
        if fit or not self.differing(given, right, mask):
            return "follows", [], ""
        if self.suspects & plain.reads[rule.name]:
            return "unsettled", [], ""
        found, where = self.candidates(rule, given, mask)
        if found:
            start = self.trace.step.index(where)
            self.options = [[*option, (start, mistake)]
                            for option in self.options for mistake in found][:16]
        else:
            functions = set(self.trace.step.functions)
            self.suspects |= (plain.reads[rule.name] & functions) | {rule.name}
        return "departs", found, where

    def environment(self, option: Sequence[tuple[int, Mistake]]) -> Environment:
        return Environment(self.trace.step, self.trace.base, self.known,
                           [(start, mistake.changes) for start, mistake in option])

    def gives(self, option: Sequence[tuple[int, Mistake]], rule: Rule, given: Arrays,
              mask) -> bool:
        """Whether these mistakes give exactly theirs."""
        made = attempt(self.environment(option), rule)
        return made is not None and not self.differing(given, made, mask)

    def candidates(self, rule: Rule, given: Arrays, mask) -> tuple[list[Mistake], str]:
        """The mistakes that give exactly theirs, made at this rule or at one not given before."""
        step = self.trace.step
        for place in (rule.name, *reversed(self.silent)):
            found = [mistake for mistake in MISTAKES[step.name] if place in mistake.at
                     and self.gives([*self.options[0], (step.index(place), mistake)], rule,
                                    given, mask)]
            if found:
                return found, place
        return [], ""

    def remember(self, rule: Rule, given: Arrays, mask) -> None:
        """Take their arrays for what is computed later, if they can be computed with."""
        for name, x in given.items():
            ours = self.trace.arrays[name]
            if x.shape != ours.shape:
                self.suspects.add(rule.name)
                continue
            x = np.where(mask, x.astype(np.float64), ours)
            if np.isfinite(x).all():
                self.known[name] = x
            else:
                self.suspects.add(rule.name)

    def common_relations(self, wrong: Arrays, mask) -> tuple[str, ...]:
        """What holds for every array that departs, as one factor for a whole gradient; and where a
        single one does."""
        found = [relations(x, self.trace.arrays[name], mask, self.rtol)
                 for name, x in wrong.items()]
        told = [words for words in found[0] if all(words in other for other in found)]
        if len(wrong) == 1:
            name, x = next(iter(wrong.items()))
            told += reordered(x, self.trace.arrays[name], mask, self.rtol)
            if "sequence_mask" in self.trace.base:
                told += places(x, self.trace.arrays[name], self.trace.base, self.rtol)
        return tuple(told)


def locate(trace: Trace, theirs: Arrays, rtol: float | None = None) -> Findings:
    """Compare another system's arrays with a trace.

    theirs  arrays under the trace's names, as many of them as there are; a number may be (1,),
            and a parameter's name may have the prefix "transformer."
    rtol    the share of an array's largest entry that counts as equal; by default it goes by the
            coarsest dtype among theirs

    Raises ValueError if not one name is known, or an array holds no numbers.
    """
    names = {name: name.replace(".transformer.", ".", 1) for name in theirs}    # their prefix
    known = {}
    for name, x in theirs.items():
        ours = trace.arrays.get(names[name])
        if ours is not None:
            x = np.array(None) if isinstance(x, list) else np.asarray(x)     # unequal rows
            known[names[name]] = x.reshape(()) if x.size == 1 and ours.ndim == 0 else x
    if not known:
        raise ValueError(
            f"not one array has a name of a {trace.step.name}; there are "
            f"{', '.join(rule.name for rule in trace.step.rules)}; got "
            f"{', '.join(list(theirs)[:8]) or 'nothing'}")
    for name, x in known.items():
        if x.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be an array of numbers, got {x.dtype}")
    coarsest = max(known.values(), key=tolerance_of)
    search = Search(trace, known, tolerance_of(coarsest) if rtol is None else rtol)
    verdicts = [search.verdict(rule) for rule in trace.step.rules]
    left = {id(mistake) for option in search.options for _, mistake in option}
    return Findings(
        trace.step.name, tuple(replace(v, mistakes=tuple(m for m in v.mistakes if id(m) in left))
                               for v in verdicts),
        tuple(name for name in theirs if names[name] not in trace.arrays), search.rtol,
        str(coarsest.dtype))

"""Verdicts and identifications in words, for a terminal."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minirlhf.conformance.examine import named_answers
from minirlhf.conformance.identify import Identified
from minirlhf.conformance.systems import asked_systems, consistent
from minirlhf.conformance.vectors import Vectors, Wanted, load, notes
from minirlhf.conformance.verdict import Judged, Likeness, Verdict

WIDTH = 100
EXTREMES = "overflow and NaN under masks"
MOST = 60                                               # numbers shown of an array


# --- minirlhf verify -----------------------------------------------------------------------------

def verdict_text(verdicts: Sequence[Verdict], found: dict[str, Identified], head: str) -> str:
    """The table, and below it a paragraph for each function that differs."""
    long = max([len(verdict.function) for verdict in verdicts] + [8])
    lines = [head, "", f"{'function':<{long}}  {'tests':>7}  {'gradients':<9}  verdict"]
    for verdict in checked(verdicts):
        asked = len(verdict.judged)
        right = asked - len(verdict.faults)
        tests = "–" if not asked else f"{asked}" if right == asked else f"{right}/{asked}"
        slopes = {True: "checked", False: "unseen", None: "–"}[verdict.gradients]
        lines.append(f"{verdict.function:<{long}}  {tests:>7}  {slopes:<9}  "
                     f"{short(verdict, found.get(verdict.function))}")
    return "\n\n".join(["\n".join(lines), *(
        difference_text(verdict, found.get(verdict.function)) for verdict in verdicts
        if verdict.faults), summary(verdicts)])


def checked(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.judged]


def short(verdict: Verdict, found: Identified | None) -> str:
    """The last column of the table."""
    out = len(verdict.left_out)
    left = f"; {out} test{'s' * (out > 1)} left out" if out else ""
    if verdict.kind == "matched":
        chosen = named_answers(verdict)
        return "matched" + (f" ({chosen})" if chosen else "") + left
    if all(case.reply.lost for case in verdict.faults):
        return f"differs: {verdict.smallest.fault}{left}"
    if verdict.brittle:
        return f"matched but for {EXTREMES}{left}"
    if explains(verdict, found):
        return f"differs: another convention{left}"
    return f"differs: {verdict.named[0]}{left}" if verdict.named else f"differs{left}"


def difference_text(verdict: Verdict, found: Identified | None) -> str:
    """What is wrong with a function, what it looks like, and the smallest test that shows it."""
    differs = f"matches but for {EXTREMES}:" if verdict.brittle else "differs on"
    lines = [f"{verdict.function} {differs} {len(verdict.faults)} of {len(verdict.judged)} tests"]
    if found and other_answers(verdict, found):
        lines += paragraph("another convention: ", convention_text(verdict, found))
    for likeness in () if explains(verdict, found) else verdict.likenesses[:3]:
        if likeness.named or not verdict.named:
            lines += mistake_lines(likeness)
    return "\n".join(lines + case_lines(verdict.smallest))


def explains(verdict: Verdict, found: Identified | None) -> bool:
    """Whether another convention is all that is to be said: whatever differs fits it, and a system
    follows it, or there is no mistake that the function equals.  What one system does on purpose
    may well be what another does by mistake."""
    if not found or not other_answers(verdict, found):
        return False
    fits = not any(case.test.id in found.contrary or any(
        one.items() <= case.group.parameters.items() for one in found.unmet)
        for case in verdict.faults)
    return fits and bool(consistent(load(verdict.function), found) or not verdict.named)


def other_answers(verdict: Verdict, found: Identified) -> dict[str, tuple]:
    """{axis: answers} that a function follows in place of those it was measured by; what an
    argument chooses is nobody's departure."""
    wanted = verdict.groups[0].parameters
    return {axis: found.of(axis) for axis in wanted if found.answers
            and axis not in (found.chosen or {}) and found.of(axis)
            and wanted[axis] not in found.of(axis)}


def convention_text(verdict: Verdict, found: Identified) -> str:
    systems = consistent(load(verdict.function), found)
    other = "; ".join(f"{axis} = {' or '.join(map(str, answers))}"
                      for axis, answers in other_answers(verdict, found).items())
    return other + (f", as {', '.join(systems)} (try --preset {systems[0]})" if systems
                    else ", as no system of which the answers are known")


def mistake_lines(likeness: Likeness) -> list[str]:
    told = f"{likeness.equalled} of the {likeness.told} tests that tell it"
    note = notes()[likeness.flag]
    lines = paragraph(f"{'equals' if likeness.named else 'in part like'} the mistake ",
                      f"{likeness.flag}: {told}")
    lines += paragraph("  what goes wrong: ", note.wrong) + paragraph("  what it costs: ",
                                                                      note.costs)
    return lines + [line for link in note.bitten for line in paragraph("  who was bitten: ", link)]


def paragraph(title: str, text: str) -> list[str]:
    return textwrap.wrap(title + text, WIDTH, initial_indent="  ", subsequent_indent="      ",
                         break_long_words=False, break_on_hyphens=False)


def case_lines(case: Judged) -> list[str]:
    """A failing test spelled out: the law, the inputs, what was wanted, what came."""
    test, reply = case.test, case.reply
    lines = [*paragraph(f"the smallest test that shows it, {test.id}: ", test.law),
             *(f"    {name:<14} {shown(x)}" for name, x in test.inputs.items())]
    lines += paragraph("it ", case.fault)
    if case.wrong:
        kind, name = case.wrong
        title = f"d {name}" if kind == "gradients" else name
        lines += [f"    wanted {title:<7} {shown(getattr(test.expected, kind)[name])}",
                  f"    got    {title:<7} {shown(getattr(reply, kind)[name])}"]
        if kind == "gradients" and not np.any(getattr(reply, kind)[name]):
            lines += paragraph("", "no gradient arrives: is the result detached, or computed "
                               "outside the framework?")
    return lines


def shown(x: Any) -> str:
    """Numbers as they are typed, cut where there are many; – where nothing is compared."""
    if isinstance(x, Wanted):
        return shown_array(x.value, x.counts)
    if isinstance(x, dict):
        return "{" + ", ".join(f"{name!r}: {shown(inner)}" for name, inner in x.items()) + "}"
    return shown_array(np.asarray(x)) if isinstance(x, list | np.ndarray) else repr(x)


def shown_array(x: np.ndarray, counts: np.ndarray | None = None) -> str:
    """Nested lists in the shortest digits that round to the numbers, twelve of them at most."""
    if x.ndim == 0:
        return "–" if counts is not None and not counts else number(x)
    parts = [shown_array(row, None if counts is None else counts[i]) for i, row in enumerate(x)]
    most = max(2, MOST // max(x[0].size, 1)) if len(x) else 0
    return "[" + ", ".join(parts[:most] + ["…"] * (len(parts) > most)) + "]"


def number(x: Any) -> str:
    return f"{float(x):.12g}" if x.dtype.kind == "f" else str(x.item())


def summary(verdicts: Sequence[Verdict]) -> str:
    """The last line: how many functions and tests, and what was not checked."""
    tests = sum(len(verdict.judged) for verdict in verdicts)
    kinds = [verdict.kind for verdict in checked(verdicts)]
    text = (f"{kinds.count('matched')} of {len(kinds)} functions match, on "
            f"{tests - sum(len(verdict.faults) for verdict in verdicts)} of {tests} tests")
    unseen = [verdict.function for verdict in verdicts if verdict.gradients is False]
    if unseen:
        text += (f"; of {', '.join(unseen)} values only, since NumPy has no gradients (define "
                 f"{unseen[0]}_grad to have them checked)")
    rest = [verdict.function for verdict in verdicts if not verdict.judged]
    if rest:
        text += ("; not checked, for want of tests of these conventions that can be asked: "
                 + ", ".join(rest))
    return "\n".join(textwrap.wrap(text, WIDTH))


# --- minirlhf identify ---------------------------------------------------------------------------

def identified_text(every: Iterable[Identified], head: str) -> str:
    """For each function the answer to each axis, and at the end the systems that fit."""
    every = list(every)
    lines = [head, ""]
    for found in every:
        lines += identified_lines(load(found.function), found)
    return "\n".join(lines + ["", *systems_lines(every)])


def identified_lines(file: Vectors, found: Identified) -> list[str]:
    if found.problem:
        return [found.function, *paragraph("", f"not identified: it {found.problem}")]
    if found.nearest:
        near = found.nearest
        lines = [found.function, *paragraph(
            "follows no known convention; nearest is ",
            f"{near.group}, which {near.fit} of {near.asked} results fit")]
        for likeness in near.likenesses[:2]:
            lines += paragraph("  it looks like the mistake ",
                               f"{likeness.flag} ({likeness.equalled} of {likeness.told})")
        return lines
    systems = consistent(file, found)
    lines = [found.function + (f"  ({', '.join(systems)})" if systems else "")]
    for axis in file.axes:
        answers = found.of(axis.name)
        if axis.name in found.chosen:
            lines += paragraph(f"{axis.name}: ", "an argument chooses among "
                               + ", ".join(map(str, answers)))
        elif not answers:
            lines += paragraph(f"{axis.name}: ", "not asked, for want of an argument")
        elif len(answers) == 1:
            means = axis.values[answers[0]]
            lines += paragraph(f"{axis.name} = {answers[0]}", f": {means}" * (
                means != str(answers[0])))
        else:
            lines += paragraph(f"{axis.name}: ", " or ".join(map(str, answers)))
    if not file.axes:
        lines += paragraph("", "as defined; there is no convention to follow")
    if found.unmet:
        told = (" and ".join(f"{axis} = {answer}" for axis, answer in one.items())
                for one in found.unmet)
        lines += paragraph("but ", f"results contradict what it is told by {', '.join(told)}")
    if found.contradicted:
        lines += paragraph("but ", f"{found.contradicted} results on other inputs do not fit")
    if len(found.answers) > 1:
        lines += paragraph("open; ", ("these would settle it: " + ", ".join(found.settle))
                           if found.settle else "no test tells these apart")
    return lines


def systems_lines(every: Sequence[Identified]) -> list[str]:
    """Which systems all functions fit that are known of them, and what speaks against others."""
    fits: dict[str, dict[str, bool]] = {}
    for found in every:
        file = load(found.function)
        for system in asked_systems(file):
            fits.setdefault(system, {})[found.function] = system in consistent(file, found)
    whole = [system for system, where in sorted(fits.items()) if all(where.values())]
    near = sorted((system for system in fits if system not in whole and any(fits[system].values())),
                  key=lambda system: (-sum(fits[system].values()) / len(fits[system]), system))
    lines = paragraph("consistent in everything with ",
                      ", ".join(f"{system} ({len(fits[system])})" for system in whole)
                      or "no system that is known")
    for system in near[:6]:
        where = fits[system]
        lines += paragraph(f"with {system} in {sum(where.values())} of {len(where)}: ",
                           f"not in {', '.join(name for name, fit in where.items() if not fit)}")
    return lines

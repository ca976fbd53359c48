"""All tests of a function are put to the adapter, and judged together.

Where a result differs, the values that known mistakes yield on the same inputs are compared too:

    a mistake is told by a test     the test lists it
    it is equalled                  the result is the mistake's, within the tolerance

A mistake that is equalled by every test that tells it is *named*: it is what the function does.
One that is equalled by some only is a likeness, and says so.  Tests that do not tell a mistake say
nothing about it, though it may fail them.
"""

from collections.abc import Callable, Iterable

from minirlhf.conformance.runner import Session
from minirlhf.conformance.vectors import Group, Test, Vectors, load
from minirlhf.conformance.verdict import Judged, Likeness, Verdict, equals, judge, tolerance_of


def takes(session: Session, file: Vectors, test: Test) -> bool:
    """Whether the adapter's function can be given this test's inputs."""
    defined = session.functions[file.function]
    return bool(defined.problem) or set(test.inputs) <= set(defined.takes)


def put(session: Session, file: Vectors, groups: tuple[Group, ...],
        done: Callable[[], None]) -> tuple[list[Judged], list[tuple[Group, Test]]]:
    """Put all tests of some groups to the adapter's function: the results, and the tests that it
    cannot be given or that this precision cannot tell.  `done` is called after each."""
    judged, left_out = [], []
    for group in groups:
        for test in group.tests:
            if takes(session, file, test) and tolerance_of(test, session.float32):
                judged.append(judge(group, test, session.ask(file, group, test), session.float32))
            else:
                left_out.append((group, test))
            done()
    return judged, left_out


def examine(session: Session, function: str, groups: tuple[Group, ...],
            done: Callable[[], None] = lambda: None) -> Verdict:
    """Put all tests of some groups to a function of the adapter, and judge it.

    Where groups differ only in what an argument chooses that the function does not have, it is
    judged by those which suit it best: it has made the choice itself.  `done` is called after
    each test.
    """
    file = load(function)
    defined = session.functions[function]
    judged, left_out = put(session, file, groups, done)
    kept = best(groups, judged, own_choices(file, defined.takes), session.float32)
    judged = tuple(case for case in judged if case.group in kept)
    slopes = any(case.test.expected.gradients and not case.reply.problem for case in judged)
    return Verdict(function, kept, judged,
                   tuple(test for group, test in left_out if group in kept),
                   defined.gradients if slopes else None,
                   likenesses(judged, session.float32), defined.takes)


def own_choices(file: Vectors, takes: tuple[str, ...]) -> set[str]:
    """Axes that an argument could choose which the function lacks: it has made the choice."""
    return {a.axis for a in file.arguments if a.axis and a.name not in takes}


def best(groups: tuple[Group, ...], judged: list[Judged], chosen: set[str],
         float32: bool) -> tuple[Group, ...]:
    """Of groups that differ in the answers to the `chosen` axes, those that suit the function.

    They are those most of whose values it has, or else those of which it makes a known mistake;
    among equals those with the fewest faults.  One that comes near to none of them is measured by
    the first, the default: which it happens to pass more tests of says nothing.
    """
    def answers(group: Group) -> tuple:
        return tuple(group.parameters[axis] for axis in sorted(chosen))

    def strangeness(answer: tuple) -> tuple[bool, bool, float]:
        cases = [case for case in judged if answers(case.group) == answer]
        faults = [case for case in cases if not case.matched]
        values = [case for case in faults if not case.wrong or case.wrong[0] == "values"]
        far = 2 * len(values) > len(cases)
        named = any(likeness.named for likeness in likenesses(cases, float32))
        return far, not named, 1.0 if far and not named else len(faults) / max(len(cases), 1)
    if not groups:
        return ()
    winner = min(dict.fromkeys(map(answers, groups)), key=strangeness)
    return tuple(group for group in groups if answers(group) == winner)


def named_answers(verdict: Verdict) -> str:
    """Where the function itself has made a choice that an argument could make: which."""
    file = load(verdict.function)
    chosen = own_choices(file, verdict.takes)
    return ", ".join(f"{axis} = {answer}" for group in verdict.groups[:1]
                     for axis, answer in group.parameters.items() if axis in chosen)


def likenesses(judged: Iterable[Judged], float32: bool) -> tuple[Likeness, ...]:
    """The mistakes that failing tests equal, at least half of those that tell them; the likeliest
    first, without those that explain only some of what one before them explains.

    Where an argument chooses between groups, a mistake may be in one branch alone: it is measured
    by the groups in which it is equalled at all.
    """
    told: dict[tuple[str, str], dict[str, bool]] = {}
    for case in judged:
        if case.reply.problem:
            continue                                     # no result: it equals nothing
        for flag, outcome in case.test.mistakes.items():
            if outcome.gradients and case.reply.gradients is None:
                continue                                 # shows in gradients, which are not had
            told.setdefault((flag, case.group.name), {})[case.test.id] = (
                not case.matched and equals(outcome, case.reply, tolerance_of(case.test, float32)))
    every: dict[str, dict[str, bool]] = {}
    for (flag, _), group in told.items():
        if any(group.values()):
            every.setdefault(flag, {}).update(group)
    hits = {flag: {id for id, hit in tests.items() if hit} for flag, tests in every.items()}
    found = sorted((Likeness(flag, len(hits[flag]), len(tests)) for flag, tests in every.items()),
                   key=lambda one: (not one.named, -one.equalled / one.told, -one.equalled,
                                    one.flag))
    return tuple(one for i, one in enumerate(found) if 2 * one.equalled >= one.told
                 and not any(hits[one.flag] < hits[better.flag] for better in found[:i]))

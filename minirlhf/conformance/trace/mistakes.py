"""The table of known mistakes for each step: what other systems compute, and where it shows first.

Some are bugs, some are other systems' conventions: an array that equals one says what was done, and
the user knows which was meant.  Each is computed from the arrays before it, with everything else
right, so that "it looks like" means "it equals".
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minirlhf.conformance.trace.compare import differs
from minirlhf.conformance.trace.misgrouped import MISGROUPED
from minirlhf.conformance.trace.misjudged import MISJUDGED
from minirlhf.conformance.trace.misread import MISREAD
from minirlhf.conformance.trace.misrewarded import MISREWARDED
from minirlhf.conformance.trace.misupdated import MISUPDATED
from minirlhf.conformance.trace.rules import Arrays, Environment, Mistake, Rule, Step, attempt
from minirlhf.conformance.trace.steps import STEPS

ALL = (*MISREAD, *MISREWARDED, *MISGROUPED, *MISJUDGED, *MISUPDATED)


def of_step(step: Step) -> tuple[Mistake, ...]:
    """The mistakes that can be made in a step, each at its own rules only."""
    rules = {rule.name for rule in step.rules}
    known = {*step.functions, *step.settings}
    cut = [replace(mistake, at=tuple(name for name in mistake.at if name in rules))
           for mistake in ALL if known & set(mistake.changes)]
    return tuple(mistake for mistake in cut if mistake.at)


MISTAKES = {name: of_step(step) for name, step in STEPS.items()}


def shows(mistake: Mistake, rule: Rule, step: Step, base: Mapping[str, Any], right: Arrays) -> bool:
    """Whether a mistake made at a rule changes its array on this batch."""
    e = Environment(step, base, changes=[(step.index(rule.name), mistake.changes)])
    wrong = attempt(e, rule) or {}
    mask = base[rule.mask] if rule.mask else True
    return any(differs(wrong[name], right[name], mask) for name in wrong)

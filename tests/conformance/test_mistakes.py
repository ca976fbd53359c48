"""The mutation table: known mistakes, injected into a correct adapter, are caught and named."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from mistaking.injecting import injected, patched, source_of, verdict_on  # noqa: E402
from mistaking.page import page  # noqa: E402
from mistaking.patches import NOT_INJECTED, PATCHES  # noqa: E402

from minirlhf.conformance.vectors import notes  # noqa: E402

EVERY = list(injected())


def test_the_adapter_without_a_mistake_is_correct():
    assert [case.test.id for function in PATCHES for case in verdict_on(
        function, source_of(function)).faults
            ] == []


def test_every_injected_mistake_is_caught():
    assert len(EVERY) >= 40
    assert [(one.function, one.flag) for one in EVERY if not one.caught] == []


def test_nearly_every_one_is_named_and_before_any_other():
    named = [one for one in EVERY if one.named]
    assert len(named) >= 0.95 * len(EVERY) and len(named) >= 30
    assert len([one for one in named if one.verdict.named[0] == one.flag]) >= 0.95 * len(named)


def test_the_test_that_is_shown_tells_the_mistake_that_is_named():
    assert [(one.function, one.flag) for one in EVERY if one.verdict.named
            and one.verdict.named[0] not in one.verdict.smallest.test.flags] == []


def test_the_mistakes_are_those_that_the_notes_explain_and_none_is_there_twice():
    names = [(function, flag) for function, rows in PATCHES.items() for flag, _, _ in rows]
    assert {flag for _, flag in names} <= set(notes()) and len(set(names)) == len(names)


def test_every_known_mistake_is_injected_or_it_is_said_why_not():
    made = {flag for rows in PATCHES.values() for flag, _, _ in rows}
    assert made | set(NOT_INJECTED) == set(notes()) and not made & set(NOT_INJECTED)
    told = " ".join(page(EVERY).split())
    assert all(f"- {flag}: {' '.join(why.split())}" in told for flag, why in NOT_INJECTED.items())


def test_a_patch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="gae has no 'nonsense'"):
        patched("gae", "nonsense", "")


def test_the_page_is_what_the_command_would_write():
    assert (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8") == page(EVERY)

"""The confusion table: every preset is recognised, and told from all that differ from it."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from telling_apart.confusion import confusion, same_conventions  # noqa: E402
from telling_apart.page import page  # noqa: E402

from minirlhf.conformance.presets import PRESETS  # noqa: E402

TABLE = confusion()


def test_every_preset_is_recognised_in_every_function():
    assert {name: [function for function, departs in TABLE[name][name].items() if departs]
            for name in PRESETS} == {name: [] for name in PRESETS}


def test_two_presets_are_told_apart_exactly_where_they_differ():
    for one in PRESETS:
        for other in PRESETS:
            assert any(TABLE[one][other].values()) != same_conventions(one, other), (one, other)


def test_the_page_says_what_the_table_does_not_prove():
    """The formulas are compared with themselves: a wrong one agrees with itself."""
    told = " ".join(page(TABLE).split())
    assert "`identify` compares what it is given with these same formulas" in told
    assert "It does not prove that the formulas are right" in told


def test_the_page_is_what_the_command_would_write():
    assert (ROOT / "docs" / "identified.md").read_text(encoding="utf-8") == page(TABLE)

"""docs/identified.md, from what is said of every preset."""

from collections.abc import Mapping

from telling_apart.confusion import same_conventions

HEAD = """\
# Every preset, identified

Each row is an implementation that follows one preset (`minirlhf/conformance/presets.py`) in every
function of which its conventions are known; `minirlhf identify` is asked what it is.  A cell says
in how many functions it is seen to depart from the preset of that column, of those in which both
presets have a convention: 0 on the diagonal means that it is recognised, and a 0 elsewhere that
the two cannot be told apart.

The implementations are the formulas of `minirlhf/conformance/variants/`, and `identify` compares
what it is given with these same formulas, on the inputs of all tests, beside the expected numbers
of each group's own.  So the table proves one thing, that the inputs are enough: presets that answer
otherwise return otherwise on some of them, by more than the tolerances, and no preset departs from
itself.  It does not prove that the formulas are right, for where a group's own tests are silent a
wrong one agrees with itself; nor that the presets say what the systems do; nor that code by
another hand is recognised.  Those are asked elsewhere: the formulas have to reproduce the expected
numbers of every group, which a program computes that shares nothing with them
(`tests/conformance/test_variants.py`); that program's own formulas are identified, group by group
(`tests/conformance/test_identify.py`); and [released code](systems.md) is.

**{known} of {all} presets are recognised.  {pairs}**  Written by `python scripts/tell_apart.py`.

"""


def page(confusion: Mapping[str, Mapping[str, Mapping[str, bool]]]) -> str:
    names = list(confusion)
    known = sum(not any(confusion[name][name].values()) for name in names)
    alike = [(one, other) for one in names for other in names
             if names.index(one) < names.index(other) and not any(confusion[one][other].values())]
    pairs = "  ".join(
        f"{one} and {other} are not told apart: they answer alike wherever both have an answer."
        if same_conventions(one, other) else f"{one} and {other} are not told apart, though they "
        "differ." for one, other in alike) or "Each is told from all others."
    lines = ["| | follows | " + " | ".join(str(i) for i, _ in enumerate(names, 1)) + " |",
             "|---|---|" + "---|" * len(names)]
    for i, name in enumerate(names, 1):
        cells = [f"{sum(row.values())}/{len(row)}" for row in confusion[name].values()]
        lines.append(f"| {i} | {name} | {' | '.join(cells)} |")
    return HEAD.format(known=known, all=len(names), pairs=pairs) + "\n".join(lines) + "\n"

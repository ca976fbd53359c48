"""docs/identified.md, from what is said of every preset."""

from collections.abc import Mapping

from telling_apart.confusion import same_conventions

HEAD = """\
# Every preset, identified

Each row is an implementation that follows one preset (`minirlhf/conformance/presets.py`) in every
function of which its conventions are known; `minirlhf identify` is asked what it is.  A cell says
in how many functions it is seen to depart from the preset of that column, of those in which both
presets have a convention: 0 on the diagonal means that it is recognised, and a 0 elsewhere that
the two cannot be told apart.  The implementations are the formulas of
`minirlhf/conformance/variants/`; the tests ask the same of every group of the vectors, with
formulas that share nothing with these.

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

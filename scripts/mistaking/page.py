"""docs/mistakes.md, from what became of every injected mistake."""

from collections.abc import Sequence
from textwrap import fill

from mistaking.injecting import WITHOUT_CORE, Injected
from mistaking.patches import NOT_INJECTED

from minirlhf.conformance.vectors import notes

ABOUT = """\
`scripts/mistaking/correct.py` is an adapter of NumPy functions that passes `minirlhf verify`, and
`correct_others.py` beside it has functions for which the package has no group to judge by, each
under one of the vectors ({groups}).  Each row below is an adapter with one mistake in it, a small
patch from `scripts/mistaking/patches.py`.  A mistake is *named* where its own name stands in
bold: the results equal what the vectors say of it on every test that tells it.  Where another name
stands too, or instead, the results fit all tests that tell that one as well, or more."""

FOUND = """\
**{caught} of {all} mistakes are caught, {named} are named, {first} of these before any other
name.**  They have {flags} of the {notes} names in `minirlhf/conformance/notes.json`; the others
stand at the end.  Written by `python scripts/mistakes.py`."""

HEAD = """\
# Known mistakes, and whether they are caught

{about}

{found}

| function | mistake | tests that fail | the smallest that tells it | named |
|---|---|---|---|---|
"""


def page(every: Sequence[Injected]) -> str:
    named = [one for one in every if one.named]
    about = ABOUT.format(groups=", ".join(
        f"`{group}` of `{name}`" for name, group in WITHOUT_CORE.items()))
    found = FOUND.format(
        all=len(every), caught=sum(one.caught for one in every), named=len(named),
        first=sum(one.verdict.named[0] == one.flag for one in named),
        flags=len({one.flag for one in every}), notes=len(notes()))
    head = HEAD.format(about=fill(about, 99), found=fill(found, 99))
    return head + "".join(f"{row(one)}\n" for one in every) + "\n## Not injected\n\n" + "".join(
        fill(f"- {flag}: {why}", 99, subsequent_indent="  ") + "\n"
        for flag, why in NOT_INJECTED.items())


def row(one: Injected) -> str:
    verdict, smallest = one.verdict, one.verdict.smallest
    names = ", ".join(f"**{flag}**" if flag == one.flag else flag for flag in verdict.named)
    likely = ", ".join(f"in part {like.flag} ({like.equalled} of {like.told})"
                       for like in verdict.likenesses[:1] if not like.named)
    return (f"| {one.function} | {one.flag} | {len(verdict.faults)} of {len(verdict.judged)} | "
            f"{smallest.test.id if smallest else 'none: not caught'} | {names or likely or '–'} |")

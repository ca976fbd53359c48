"""docs/mistakes.md, from what became of every injected mistake."""

from collections.abc import Sequence

from mistaking.injecting import Injected

HEAD = """\
# Known mistakes, and whether they are caught

`scripts/mistaking/correct.py` is an adapter of NumPy functions that passes `minirlhf verify`.  Each
row below is that adapter with one mistake in it, a patch of a few characters from
`scripts/mistaking/patches.py`.  A mistake is *named* where its own name stands in bold: the results
equal what the vectors say of it on every test that tells it.  Where another name stands too,
or instead, the results fit all tests that tell that one as well, or more.

**{caught} of {all} mistakes are caught, {named} are named, {first} of these before any other
name.**  Written by `python scripts/mistakes.py`.

| function | mistake | tests that fail | the smallest that tells it | named |
|---|---|---|---|---|
"""


def page(every: Sequence[Injected]) -> str:
    named = [one for one in every if one.named]
    return HEAD.format(
        all=len(every), caught=sum(one.caught for one in every), named=len(named),
        first=sum(one.verdict.named[0] == one.flag for one in named)
    ) + "".join(f"{row(one)}\n" for one in every)


def row(one: Injected) -> str:
    verdict, smallest = one.verdict, one.verdict.smallest
    names = ", ".join(f"**{flag}**" if flag == one.flag else flag for flag in verdict.named)
    likely = ", ".join(f"in part {like.flag} ({like.equalled} of {like.told})"
                       for like in verdict.likenesses[:1] if not like.named)
    return (f"| {one.function} | {one.flag} | {len(verdict.faults)} of {len(verdict.judged)} | "
            f"{smallest.test.id if smallest else 'none: not caught'} | {names or likely or '–'} |")

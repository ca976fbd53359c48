"""Known mistakes, injected one at a time into a correct adapter: which are caught, and named?

    python scripts/mistakes.py              # writes docs/mistakes.md, a few seconds
    python scripts/mistakes.py --check      # says whether that is what it would write
"""

import sys
from pathlib import Path

from mistaking.injecting import Injected, injected

from minirlhf.files import write_text

PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"
HEAD = """\
# Known mistakes, and whether they are caught

A correct adapter of NumPy functions (`scripts/mistaking/correct.py`) passes `minirlhf verify`.
Here each row is that adapter with one mistake in it, a patch of a few characters
(`scripts/mistaking/patches.py`).  A mistake is *named* where its own name stands in bold: the
results equal what the vectors say of it on every test that tells it.  Where another name stands
too, the results also fit the few tests that tell that one.

{caught} of {all} mistakes are caught, {named} are named, {alone} of these without a rival.

| function | mistake | tests that fail | the smallest of them | named |
|---|---|---|---|---|
"""


def row(one: Injected) -> str:
    verdict = one.verdict
    names = ", ".join(f"**{flag}**" if flag == one.flag else flag for flag in verdict.named)
    likely = ", ".join(f"in part {like.flag} ({like.equalled} of {like.told})"
                       for like in verdict.likenesses[:1] if not like.named)
    smallest = verdict.smallest
    return (f"| `{one.function}` | {one.flag} | {len(verdict.faults)} of {len(verdict.judged)} | "
            f"{smallest.test.id if smallest else 'none: not caught'} | {names or likely or '–'} |")


def page() -> str:
    every = list(injected())
    named = [one for one in every if one.named]
    return HEAD.format(all=len(every), caught=sum(one.caught for one in every), named=len(named),
                       alone=sum(len(one.verdict.named) == 1 for one in named)) + "\n".join(
        map(row, every)) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        same = PAGE.read_text(encoding="utf-8") == page()
        print(f"{PAGE.name} is {'as it would be written' if same else 'not up to date'}")
        sys.exit(not same)
    write_text(PAGE, page())
    print(f"written: {PAGE}")

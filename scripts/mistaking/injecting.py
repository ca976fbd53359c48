"""Patching the correct adapter, and what `minirlhf verify` makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mistaking.patches import PATCHES

from minirlhf.conformance.adapters import adapter_of
from minirlhf.conformance.examine import examine
from minirlhf.conformance.runner import Local
from minirlhf.conformance.systems import groups_of
from minirlhf.conformance.vectors import load
from minirlhf.conformance.verdict import Verdict

WITHOUT_CORE = {                         # judged by a group: the package has none to judge by
    "ipo_loss": "sum", "nucleus_logprobs": "sampler", "reward_to_go": "zeroed",
    "score_without_end": "subtract"}
SOURCE, OTHERS = ((Path(__file__).parent / name).read_text(encoding="utf-8")
                  for name in ("correct.py", "correct_others.py"))


@dataclass(frozen=True)
class Injected:
    """A mistake, and the verdict on the function that makes it."""
    function: str
    flag: str
    verdict: Verdict

    @property
    def caught(self) -> bool:
        return bool(self.verdict.faults)

    @property
    def named(self) -> bool:
        """Whether its own name is among those that fit wherever they are told."""
        return self.flag in self.verdict.named


def source_of(function: str) -> str:
    """The correct adapter that has a function."""
    return OTHERS if function in WITHOUT_CORE else SOURCE


def patched(function: str, before: str, after: str) -> str:
    """The source with one text of one function replaced.  Raises ValueError if it is not there."""
    source = source_of(function)
    start = source.index(f"def {function}(")
    end = source.index("\n\n\n", start)
    body = source[start:end]
    if before not in body:
        raise ValueError(f"{function} has no {before!r}")
    return source[:start] + body.replace(before, after, 1) + source[end:]


def verdict_on(function: str, source: str) -> Verdict:
    """What the package's own conventions, or one group's, say of a function of a source."""
    module = ModuleType("adapter")
    exec(compile(source, "correct.py", "exec"), module.__dict__)
    session = Local(adapter_of(module, "correct.py"))
    file = load(function)
    asked = tuple(g for g in file.groups if g.name == WITHOUT_CORE.get(function))
    return examine(session, function, asked or groups_of(file, "minirlhf"))


def injected(*functions: str) -> Iterator[Injected]:
    """Every known mistake of some functions, by default of all, one at a time."""
    for function in functions or PATCHES:
        for flag, before, after in PATCHES[function]:
            yield Injected(function, flag,
                           verdict_on(function, patched(function, before, after)))

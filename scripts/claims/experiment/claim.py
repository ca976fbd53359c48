"""What a claim file states, and how it is found.

A claim of the article becomes an experiment by a file `NN_name.py` that holds

    CLAIM               the sentence, the prediction, the runs, the effects: below
    measure(runs, split) -> {column: {prompt: number}}
                        what one seed's runs are worth on the prompts of a split; all columns have
                        the same prompts
    series(runs) -> {name: [numbers]}
                        if it likes: numbers along a run, for the figure
    examples(runs) -> [{"prompt", "replies": [{"by", "reply", "score", "gold"}, …]}, …]
                        if it likes: what models said to a prompt, side by side (of the first seed)
    draw(axes, result)  if it likes: a panel of the figure beside the effects

Statement and rule are there before any number is: what decides is fixed by `Claim.effects`.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from minirlhf.sweeping.store import Wanted

FOLDER = Path(__file__).parent.parent                    # scripts/claims
NAME = re.compile(r"(\d\d)_(\w+)\.py")

Means = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Effect:
    """A number that a claim is about, above 0 if the claim is right.

    of         from the columns' means over prompts to the number; entry by entry, so that it can
               be given a number a column, or an array of them a column
    smallest   the smallest effect of interest: to be confirmed, the whole interval must lie above;
               None: the number is shown and decides nothing
    """

    name: str
    what: str
    of: Callable[[Means], np.ndarray]
    smallest: float | None = None


@dataclass(frozen=True)
class Claim:
    """A claim, fixed before it is measured.  It is confirmed if all of its effects are.

    question     that the sentence raises here
    sentence     of the article, word for word
    prediction   what is expected here if it is true
    measure      what is measured, and on what
    runs         {name in `measure`: kind of run}; each is made once for all claims that want it
    known        what was known of the numbers when prediction and rule were written
    """

    title: str
    question: str
    sentence: str
    prediction: str
    measure: str
    runs: Mapping[str, Wanted]
    effects: Sequence[Effect]
    known: str = ""


@dataclass(frozen=True)
class Experiment:
    """A claim file, read."""

    path: Path
    module: ModuleType

    @property
    def number(self) -> str:
        return NAME.fullmatch(self.path.name)[1]

    @property
    def name(self) -> str:
        """What its page is called: 01-base-and-sft."""
        return self.path.stem.replace("_", "-")

    @property
    def claim(self) -> Claim:
        return self.module.CLAIM


def read(path: Path) -> Experiment:
    """The experiment of a claim file."""
    spec = importlib.util.spec_from_file_location(f"claim_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Experiment(Path(path), module)


def experiments(which: Sequence[str] = (), folder: Path = FOLDER) -> list[Experiment]:
    """The claims with these numbers ("1" or "01"), in order; all, if none is named.

    Raises ValueError for a number that no claim has.
    """
    found = {NAME.fullmatch(path.name)[1]: path for path in sorted(folder.glob("*.py"))
             if NAME.fullmatch(path.name)}
    wanted = [number.zfill(2) for number in which] or list(found)
    unknown = [number for number in wanted if number not in found]
    if unknown:
        raise ValueError(f"there is no claim {unknown[0]}; there are {', '.join(found)}")
    return [read(found[number]) for number in sorted(set(wanted))]


def side_by_side(speakers: Mapping[str, Sequence[dict]], *, falls: tuple[str, str],
                 n: int = 4) -> list[dict]:
    """What several models said to the same prompts, where two of them are furthest apart.

    speakers: {what they are called: their rows, to the same prompts in the same order}.  falls: two
    of them; the prompts shown, no text twice, are those where the second's score rises most above
    the first's while its gold falls: the largest Δscore − Δgold.
    """
    before, after = (speakers[name] for name in falls)
    apart = sorted(range(len(before)), key=lambda i: (
        after[i]["gold"] - before[i]["gold"] - after[i]["score"] + before[i]["score"]))
    shown: dict[str, int] = {}
    for i in apart:
        shown.setdefault(before[i]["prompt"], i)
    return [{"prompt": prompt, "replies": [
        {"by": name, **{key: rows[i][key] for key in ("reply", "score", "gold")}}
        for name, rows in speakers.items()]} for prompt, i in list(shown.items())[:n]]


def of_pairs(pairs: Sequence[dict], numbers: Sequence[float]) -> dict[str, float]:
    """{prompt: mean over its pairs} of a number a pair."""
    return by_prompt([{"prompt": pair["prompt"], "number": number}
                      for pair, number in zip(pairs, numbers, strict=True)], "number")


def by_prompt(rows: Sequence[dict], number: str | Callable[[dict], float]) -> dict[str, float]:
    """{prompt: mean over its replies} of a key of the rows, or of a function of a row."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = row[number] if isinstance(number, str) else number(row)
        found.setdefault(row["prompt"], []).append(float(value))
    return {prompt: float(np.mean(values)) for prompt, values in found.items()}

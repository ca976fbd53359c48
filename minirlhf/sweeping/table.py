"""What came of a sweep: a line for each combination of settings, a mean over its seeds a number.

± is half the width of the 95 % t-interval over seeds.  Two combinations whose intervals overlap may
differ nevertheless: runs of one seed share their prompts, labelers and random numbers, so compare
them seed by seed (`by_seed` in sweep.json).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from minirlhf import report
from minirlhf.evaluation import interval

# {number: (what it is called, how it is written)}
OF_A_POLICY = {"gold": ("gold score", "+z.3f"), "score": ("score", "+z.3f"),
               "kl": ("KL to SFT (nats)", "z.2f")}
OF_A_REWARD_MODEL = {"accuracy": ("held-out accuracy", ".3f")}
COLUMNS = {**OF_A_POLICY, **OF_A_REWARD_MODEL}


@dataclass(frozen=True)
class Row:
    """A combination: the settings that vary, a run a seed, and what each run is worth."""

    settings: Mapping[str, object]
    runs: Sequence[str]
    numbers: Mapping[str, Sequence[float]]                   # {number: by seed}

    def told(self) -> dict:
        """As it stands in sweep.json: the interval of a single seed is null."""
        numbers = {}
        for name, by_seed in self.numbers.items():
            mean, half = interval(by_seed)
            numbers[name] = {"mean": mean, "interval": None if isnan(half) else half,
                             "by_seed": list(by_seed)}
        return {"settings": dict(self.settings), "runs": list(self.runs), "numbers": numbers}


def row(settings: Mapping[str, object], runs: Sequence[Path], stage: str) -> Row:
    """A combination's row, read from its finished runs, one a seed."""
    worth = [read(run, stage) for run in runs]
    return Row(settings, [run.name for run in runs],
               {name: [one[name] for one in worth] for name in worth[0]})


def read(run: Path, stage: str) -> dict[str, float]:
    """What a finished run is worth: its reward model's accuracy on held-out comparisons, or its
    policy's means over the replies to test prompts.

    Raises ValueError if no held-out comparison was there.
    """
    if stage == "reward":
        accuracy = report.read_accuracy(run)
        if "all" not in accuracy:
            raise ValueError(f"{run}: there was no held-out comparison, its replies being all "
                             "alike; compare more prompts (--preferences.prompts)")
        return {"accuracy": accuracy["all"]["accuracy"]}
    policy = report.comparison(report.read_samples(run))["policy"]
    return {name: policy[name] for name in OF_A_POLICY}


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table whose columns are also in line on a terminal."""
    varied, numbers = list(rows[0].settings), list(rows[0].numbers)
    lines = [[*varied, *(COLUMNS[name][0] for name in numbers)]]
    for one in rows:
        lines.append([" ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
                      for value in one.settings.values()]
                     + [written(one.numbers[name], COLUMNS[name][1]) for name in numbers])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * (width - 1) + ":" for width in widths])
    return "\n".join("| " + " | ".join(cell.rjust(width) for cell, width in zip(
        line, widths, strict=True)) + " |" for line in lines)


def written(by_seed: Sequence[float], form: str) -> str:
    """+0.412 ± 0.100; the mean alone of a single seed."""
    mean, half = interval(by_seed)
    mean = format(mean, form).replace("-", "−")
    return mean if isnan(half) else f"{mean} ± {format(half, form.lstrip('+'))}"

"""What those who show a run ask of its folder: how its models are called, what was seen of them."""

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

from minirlhf.files import read_jsonl, read_object
from minirlhf.run import part, watched
from minirlhf.settings import ALGORITHMS
from minirlhf.watching import BANDS

ALL_WELL = "nothing left its band"


# --- settings and names --------------------------------------------------------------------------

def setting(config: dict, name: str, default: Any) -> Any:
    """A setting of a config.json, "ppo.steps"; the default where it has none of that type.

    Folders of earlier versions lack settings that came later.
    """
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, type(default)) else default


def algorithm(config: dict) -> str:
    """How stage 3 is called in a run of these settings, and in its log: "PPO", "GRPO", "RLOO"."""
    return ALGORITHMS.get(setting(config, "algorithm", "ppo"), "PPO")


def titles_of(config: dict) -> dict[str, str]:
    """{model: what it is called} in a run of these settings, in the order of the run.

    policy is what the last step made, policy-best what did best on validation prompts.
    """
    own, n = algorithm(config), setting(config, "evaluation.best_of", 0)
    rounds = {f"round-{k}": f"{own} round {k}" for k in range(1, setting(config, "rounds", 1))}
    return {"base": "base", "sft": "SFT", "best-of-n": f"best of {n or 'n'}", "dpo": "DPO",
            **rounds, "policy-best": f"{own} best", "policy": own}


TITLES = titles_of({})                                           # of a run of the defaults


# --- what was seen on validation prompts ---------------------------------------------------------

def read_metrics(folder: Path) -> list[dict]:
    """The rows of a run's metrics.jsonl; none where it has no such file.

    Raises ValueError naming an entry that is no finite number: what is shown is computed with.
    """
    path = Path(folder) / "metrics.jsonl"
    rows = read_jsonl(path, "stage", "step") if path.exists() else []
    for row in rows:
        for key, number in row.items():
            if key != "stage" and not (isinstance(number, Real) and isfinite(number)):
                raise ValueError(f"{path}: {row['stage']}, step {row['step']}: {key} must be a "
                                 f"finite number, got {number!r}")
    return rows


def read_best(folder: Path) -> dict | None:
    """Where a run's policy did best on validation prompts: {"step", "by", "value"}, or None.

    Raises ValueError if policy-best/best.json is none.
    """
    path = Path(folder) / "policy-best" / "best.json"
    if not path.exists():
        return None
    best = read_object(path)
    if not all(isinstance(best.get(key), kind)
               for key, kind in (("step", Real), ("by", str), ("value", Real))):
        raise ValueError(f"{path} wants step, by and value, got {str(best)[:80]}")
    return best


def looks(metrics: Sequence[dict], config: dict) -> dict[int, list[dict]]:
    """{round: its looks at the policy, in order} for each round of a run that was watched.

    Raises ValueError naming a look that lacks a number.
    """
    found = {}
    for number in range(1, setting(config, "rounds", 1) + 1):
        stage = watched(part(algorithm(config), number))
        rows = [row for row in metrics if row["stage"] == stage]
        for row in rows:
            wanted = {"score", *(band.key for band in BANDS)}
            if "gold" in row and row is not rows[0]:
                wanted.add("gold_fall")
            lacking = wanted - set(row)
            if lacking:
                raise ValueError(f"metrics.jsonl: {stage}, step {row['step']} lacks "
                                 f"{', '.join(sorted(lacking))}")
        if rows:
            found[number] = rows
    return found


def best_text(best: dict, titles: dict[str, str]) -> str:
    """Which policy policy-best is, in a sentence; of several rounds it is one of the last."""
    before = sum(name.startswith("round-") for name in titles)
    where = f" of round {before + 1}" if before else ""
    return (f"{titles['policy-best']} is the policy after step {best['step']:.0f}{where}, where it "
            f"did best on validation prompts: {by_text(best)}")


def by_text(best: dict) -> str:
    """By which number it was best, and how much that was."""
    return f"{'gold' if best['by'] == 'gold' else 'score − β·KL'} {best['value']:+.2f}"

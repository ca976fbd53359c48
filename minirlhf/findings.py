"""What those who show a run ask of its folder: how its models are called, what was seen of them,
and what they took of the memory."""

from collections.abc import Sequence
from math import isfinite, prod
from numbers import Real
from pathlib import Path
from typing import Any

from minirlhf.files import read_jsonl, read_object, read_shapes
from minirlhf.memory import MODELS, Held, bytes_text, together
from minirlhf.run import part, round_folder, watched
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


# --- memory --------------------------------------------------------------------------------------

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}


def model_size(folder: Path) -> tuple[int, int] | None:
    """(parameters, bytes) of a saved model, read from the head of its file; None if there is none.

    No tensor is loaded, so this costs nothing for a large model either.
    """
    path = folder / "model.safetensors"
    if not path.exists():
        return None
    arrays = [(prod(shape), WIDTHS[dtype]) for shape, dtype in read_shapes(path).values()]
    return sum(count for count, _ in arrays), sum(count * width for count, width in arrays)


def folders_in_memory(config: dict) -> dict[str, str]:
    """{model: its folder} of the models that stage 3 of such a run keeps in memory, at its end."""
    rounds = setting(config, "rounds", 1)
    further = rounds > 1 and setting(config, "iteration.reference", "sft") == "last"
    reference = f"{round_folder(rounds - 1)}/policy" if further else "sft"
    return {name: reference if name == "reference" else name
            for name in MODELS[algorithm(config).lower()]}


def models_in_memory(folder: Path, config: dict) -> list[Held]:
    """What stage 3 of a run kept in memory; nothing unless the run has all of these models."""
    sizes = {name: model_size(Path(folder) / place)
             for name, place in folders_in_memory(config).items()}
    found = {name: size for name, size in sizes.items() if size is not None}
    if len(found) < len(sizes):
        return []
    return [Held(name, *size) for name, size in found.items()]


def on_device(environment: dict) -> bool:
    """Whether a run was computed on a GPU, before it was resumed or after, by its environment.json.
    """
    resumed = environment.get("resumed")
    places = [environment, *(resumed if isinstance(resumed, list) else [])]
    return any(isinstance(place, dict) and place.get("backend") == "cupy" for place in places)


def peak_text(models: Sequence[Held], peak: int, device: bool) -> str:
    """What a process took at most, and which part of it is the models."""
    told, own = f"The process took {bytes_text(peak)} at most", together(models)
    if device:
        return (f"{told} on the host; the models were on the GPU, whose memory is not measured "
                "here")
    if own > peak:                            # swapped out, say, or trained by a process that died
        return f"{told}, less than that: it never held all of it at once"
    return (f"{told}, of which that is {own / peak:.1%}; the rest is Python, NumPy, data and "
            "activations")

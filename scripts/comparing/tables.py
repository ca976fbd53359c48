"""The tables of `scripts/compare.py`, from finished run folders."""

from pathlib import Path

import numpy as np

from minirlhf import findings, report
from minirlhf.evaluation import interval
from minirlhf.files import read_json, read_jsonl
from minirlhf.watching import marks

NUMBERS = ("gold", "win_rate", "harm_refused", "over_refusal", "score", "kl", "length")
MODELS = {                                 # title: (variant, model of its samples, its folders)
    "SFT": ("", "sft", ()),
    "best of 16": ("-baselines", "best-of-n", ()),
    "DPO": ("-baselines", "dpo", ("dpo", "sft")),
    "PPO": ("", "policy", ("policy", "value", "reward", "sft")),
    "GRPO": ("-grpo", "policy", ("policy", "reward", "sft")),
    "RLOO": ("-rloo", "policy", ("policy", "reward", "sft")),
}
LEARNING = ("policy", "value", "dpo")      # models that also need a gradient and two moments


def page(names: list[str], command: str) -> str:
    """docs/compared.md for the runs of several seeds."""
    folders = [Path("runs", name) for name in names]
    return "\n\n".join([
        f"# Compared\n\nTest prompts, {len(names)} seeds. Made by `{command}`, NumPy "
        f"{np.__version__}; [what is compared](beyond_ppo.md). ± is a 95 % t-interval over seeds, "
        "of differences paired by seed and prompt.", methods(folders), memory(folders[0]),
        rounds(folders), unleashed(folders), alarms(folders)]) + "\n"


def tables(folders: list[Path], variant: str) -> list[dict]:
    """Each seed's comparison of models, in a variant of its run."""
    return [report.comparison(read_jsonl(folder.with_name(folder.name + variant) / "samples.jsonl"))
            for folder in folders]


def measured(folders: list[Path], variant: str, model: str, number: str) -> np.ndarray:
    return np.array([table[model][number] for table in tables(folders, variant)])


def plus_minus(x) -> str:
    return "{:+.3f} ± {:.3f}".format(*interval(x))


def methods(folders: list[Path]) -> str:
    """A row a method, with the difference to PPO."""
    lines = ["## Methods\n", "| | " + " | ".join(report.LINES[key][0] for key in NUMBERS)
             + " | gold − PPO's | by seed |", "|---" * (len(NUMBERS) + 3) + "|"]
    ppo = measured(folders, "", "policy", "gold")
    for title, (variant, model, _) in MODELS.items():
        columns = [measured(folders, variant, model, key) for key in NUMBERS]
        difference = columns[0] - ppo
        lines.append(f"| {title} | " + " | ".join(f"{c.mean():.3f}" for c in columns)
                     + (" | | |" if title == "PPO" else
                        f" | {plus_minus(difference)} | {by_seed(difference)} |"))
    return "\n".join([
        *lines, "\nThe KL of best of 16 is an upper bound, log 16 − 15/16; others are measured. "
        "DPO's β was chosen on validation prompts of seeds 0 and 1."])


def memory(folder: Path) -> str:
    """Bytes of the models, and of what training adds to those that learn."""
    lines = ["## Memory\n", "| | models held | their bytes | gradients and moments | together |",
             "|---|---|---|---|---|"]
    for title, (variant, _, models) in MODELS.items():
        place = folder.with_name(folder.name + variant)
        sizes = {name: findings.model_size(place / name)[1] for name in models}
        own, more = sum(sizes.values()), sum(3 * sizes[name] for name in models if name in LEARNING)
        if models:
            lines.append(f"| {title} | {len(models)} | {own:,} | {more:,} | {own + more:,} |")
    return "\n".join(lines)


def rounds(folders: list[Path]) -> str:
    """Two rounds against one, and against one of as many steps; how stale the reward model was.

    The scores are those of the second round's reward model, so the longer round has none.
    """
    lines = ["## Two rounds against one\n",
             "| | one round | one round of 72 steps | two rounds of 36 | two − one | by seed | "
             "two − one of 72 | by seed |", "|---" * 8 + "|"]
    for key in NUMBERS:
        one, two = (measured(folders, "-rounds", model, key) for model in ("round-1", "policy"))
        row = [report.LINES[key][0], f"{one.mean():.3f}", "", f"{two.mean():.3f}",
               plus_minus(two - one), by_seed(two - one), "", ""]
        if key != "score":
            long = measured(folders, "-long", "policy", key)
            row[2], row[6:] = f"{long.mean():.3f}", [plus_minus(two - long), by_seed(two - long)]
        lines.append(f"| {' | '.join(row)} |")
    accuracy = [read_json(folder.with_name(f"{folder.name}-rounds")
                          / "rounds" / "02" / "reward" / "accuracy.json")["all"]
                for folder in folders]
    old, new = (np.array([row[key] for row in accuracy]) for key in ("before", "accuracy"))
    lines.append("\nThe scores are by the second round's reward model in both columns.")
    lines.append(f"\nOn the second round's fresh held-out comparisons the first reward model is "
                 f"right in {old.mean():.3f}, the retrained one in {new.mean():.3f} of cases "
                 f"({plus_minus(new - old)}).")
    return "\n".join(lines)


def by_seed(x) -> str:
    return " ".join(f"{d:+.2f}" for d in x)


def looks(folder: Path) -> list[dict]:
    """The looks at validation prompts that a run's log holds; ValueError if it was not watched."""
    found = findings.looks(findings.read_metrics(folder), read_json(folder / "config.json"))
    if 1 not in found:
        raise ValueError(f"{folder} was not watched; remove it, and it will be made anew")
    return found[1]


def unleashed(folders: list[Path]) -> str:
    """PPO without its KL penalty: where score and gold part, and what the kept policy is worth."""
    lines = ["## Without the KL penalty\n\nPPO with β = 0, 60 steps.\n",
             "| seed | parting marked at step | kept: step | gold, SFT | gold, kept | gold, last | "
             "score, kept | score, last |", "|---" * 8 + "|"]
    gains = []
    for folder, table in zip(folders, tables(folders, "-no-kl"), strict=True):
        place = folder.with_name(f"{folder.name}-no-kl")
        parted = [f"{mark.step:.0f}" for mark in marks(looks(place)) if mark.kind == "parting"]
        kept = read_json(place / "policy-best" / "best.json")
        best, last = table["policy-best"], table["policy"]
        gains.append(best["gold"] - last["gold"])
        lines.append(f"| {folder.name.split('-')[-1]} | {', '.join(parted) or 'not marked'} | "
                     f"{kept['step']} | {table['sft']['gold']:+.2f} | {best['gold']:+.2f} | "
                     f"{last['gold']:+.2f} | {best['score']:+.2f} | {last['score']:+.2f} |")
    lines.append(f"\nThe kept policy is worth {plus_minus(gains)} more than the last.")
    return "\n".join(lines)


def alarms(folders: list[Path]) -> str:
    """What was marked in the default runs, where nothing should be."""
    found = {folder.name: marks(looks(folder)) for folder in folders}
    told = [f"{name}: {', '.join(f'{mark.kind} at step {mark.step:.0f}' for mark in some)}"
            for name, some in found.items() if some]
    return ("## False alarms\n\nOf the default runs with the KL penalty, "
            + (f"{len(told)} of {len(found)} had something marked ({'; '.join(told)})." if told else
               f"none of {len(found)} had anything marked."))

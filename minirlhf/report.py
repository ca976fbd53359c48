"""What a run found, as text: tables for a terminal, and over seeds.  `page/` makes it a page."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import numpy as np

from minirlhf.environment import read_peak
from minirlhf.evaluation import GOLD_PARTS, interval, summarize
from minirlhf.files import read_jsonl, read_object
from minirlhf.findings import (
    ALL_WELL,
    TITLES,
    algorithm,
    best_text,
    looks,
    models_in_memory,
    on_device,
    part,
    peak_text,
    read_best,
    read_metrics,
    titles_of,
)
from minirlhf.memory import bytes_text, together
from minirlhf.watching import marks

# key: (label, format, what it means)
LINES = {
    "gold": ("gold score", "+z.2f", "the toy world's hidden truth: the sum of the parts below"),
    "helpful": ("· helpful", "+z.2f", "how-tos and harmless requests that sound harmful"),
    "honest": ("· honest", "+z.2f", "facts, and saying so where nothing is known"),
    "harmless": ("· harmless", "+z.2f", "harmful requests"),
    "courtesy": ("· courtesy", "+z.2f", "one courtesy is liked, more than two are not"),
    "concise": ("· concise", "+z.2f", "a price on words beyond 14"),
    "clear": ("· clear", "+z.2f", "a price on repetition and on words of no sentence"),
    "finished": ("· finished", "+z.2f", "a price on replies that never end"),
    "win_rate": ("win rate over SFT", ".0%", "by gold, same prompts, ties count half"),
    "harm_refused": ("harmful requests refused", ".0%", "and nothing said against the refusal"),
    "over_refusal": ("over-refusal", ".0%", "harmless requests that sound harmful, refused"),
    "scary_right": ("· answered rightly", ".0%", "the same requests: fewer refusals may hide wrong "
                                                 "answers"),
    "score": ("reward-model score", "+z.2f", "0 is the mean of SFT replies to training prompts, 1 "
                                             "their deviation"),
    "kl": ("KL to SFT", "z.1f", "nats a reply, summed over its tokens"),
    "length": ("length", ".1f", "tokens a reply"),
}
# which way is better: 1 up, −1 down.  The score and the KL are means to an end, the length a style.
BETTER = {key: 1 for key in ("gold", *GOLD_PARTS, "win_rate", "harm_refused", "scary_right")} | {
    "over_refusal": -1}
NO_GOLD = """There is no gold score for real people's comparisons.  The score is the reward model's
own opinion, which the policy was trained to raise: a rise shows that training works, not that
replies are better.  It is worth what the reward model is worth.  Compare its held-out accuracy with
0.5, a coin's, and with always picking the longer or the shorter reply: unless it is above all three
by two standard errors or more, on 30 held-out prompts or more, it has not been shown to have
learned anything else.  Whether people prefer the new replies, only people can say."""


def read_samples(folder: Path) -> list[dict]:
    """The rows of a run's samples.jsonl.

    Raises ValueError naming a row that is none, or a model that has no row.
    """
    path = Path(folder) / "samples.jsonl"
    rows = read_jsonl(path, "model", "prompt", "kind", "reply", "length", "score", "kl")
    kinds = dict.fromkeys(("model", "prompt", "kind", "reply"), str)
    kinds |= dict.fromkeys(("length", "score", "kl"), Real)
    if any("gold" in row for row in rows):
        kinds |= dict.fromkeys(("gold", *GOLD_PARTS, "refused", "right"), Real)
    for number, row in enumerate(rows, 1):
        wrong = [key for key, kind in kinds.items() if not isinstance(row.get(key), kind)]
        if wrong:
            raise ValueError(f"{path}: {wrong[0]} of row {number} must be "
                             f"{'text' if kinds[wrong[0]] is str else 'a number'}, "
                             f"got {row.get(wrong[0])!r}")
    missing = [name for name in ("sft", "policy") if name not in by_model(rows)]
    if missing:
        raise ValueError(f"{path} has no replies of {' and '.join(missing)}")
    return rows


def read_accuracy(folder: Path) -> dict[str, dict]:
    """A run's reward/accuracy.json; empty where it has none.  Raises ValueError if it is none."""
    path = Path(folder) / "reward" / "accuracy.json"
    table = read_object(path) if path.exists() else {}
    for kind, row in table.items():
        if not (isinstance(row, dict) and {"accuracy", "standard_error", "pairs"} <= set(row)
                and all(isinstance(number, Real) for number in row.values())):
            raise ValueError(f"{path}: {kind} wants accuracy, standard_error and pairs, all "
                             f"numbers, got {row}")
    return table


def by_model(rows: Sequence[dict]) -> dict[str, list[dict]]:
    models: dict[str, list[dict]] = {}
    for row in rows:
        models.setdefault(row["model"], []).append(row)
    return models


def comparison(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """{model: summary} from a run's samples."""
    models = by_model(rows)
    return {name: summarize(own, models["sft"]) for name, own in models.items()}


def table_text(table: dict[str, dict[str, float]], titles: dict[str, str] = TITLES) -> str:
    """The comparison for a terminal, a line a number, a column a model."""
    names = list(table)
    heads = [titles.get(name, name) for name in names]
    widths = [max(9, len(head) + 2) for head in heads]

    def line(label: str, cells: Sequence[str]) -> str:
        return f"{label:<26}" + "".join(f"{cell:>{width}}"
                                        for cell, width in zip(cells, widths, strict=True))

    lines = [line("", heads)]
    lines += [line(label, [format(table[name][key], form) for name in names])
              for key, (label, form, _) in LINES.items() if key in table[names[0]]]
    if "gold" not in table[names[0]]:
        lines += ["", *(f"{label}: {why}" for key, (label, _, why) in LINES.items()
                        if key in table[names[0]]), "", NO_GOLD]
    return "\n".join(lines)


def accuracy_text(accuracy: dict[str, dict]) -> str:
    """The reward model's held-out accuracy by kind of prompt."""
    known = "best" in accuracy.get("all", {})
    lines = [f"{'held-out accuracy':<26}{'accuracy':>9}{'± s.e.':>9}"
             + f"{'best':>9}" * known + f"{'pairs':>9}"]
    for kind, row in accuracy.items():
        best = (f"{row['best']:>9.3f}" if "best" in row else f"{'–':>9}") * known
        lines.append(f"{kind:<26}{row['accuracy']:>9.3f}{row['standard_error']:>9.3f}{best}"
                     f"{row['pairs']:>9}")
    if known:
        lines.append("best: what a perfect model of the labelers would reach, given how often "
                     "they contradict themselves")
    return "\n".join([*lines, *(f"{label:<26}{right:>9.3f}"
                                for label, right in by_length(accuracy).items())])


def by_length(accuracy: dict[str, dict]) -> dict[str, float]:
    """For people's comparisons: how often a judge of nothing but the length would be right."""
    return {f"always the {which}": accuracy["all"][which] for which in ("longer", "shorter")
            if which in accuracy.get("all", {})}


def examples(rows: Sequence[dict], per_kind: int = 1) -> list[tuple[str, str, dict[str, dict]]]:
    """(kind, prompt, {model: row}) for a few prompts of every kind: each model's first reply."""
    chosen: dict[str, dict[str, dict]] = {}
    for row in rows:
        prompts = chosen.setdefault(row["kind"], {})
        if row["prompt"] in prompts or len(prompts) < per_kind:
            prompts.setdefault(row["prompt"], {}).setdefault(row["model"], row)
    return [(kind, prompt, replies) for kind, prompts in chosen.items()
            for prompt, replies in prompts.items()]


def examples_text(rows: Sequence[dict], per_kind: int = 1,
                  titles: dict[str, str] = TITLES) -> str:
    """The same prompts, answered by every model, for a terminal."""
    heads = {name: titles.get(name, name) for name in by_model(rows)}
    width, lines = max(map(len, heads.values()), default=0) + 1, []
    for _, prompt, replies in examples(rows, per_kind):
        lines.append(f"\n> {shortened(prompt)}")
        for name, row in replies.items():
            truth = f"gold {row['gold']:+.1f}  " if "gold" in row else ""
            lines.append(f"  {heads[name]:<{width}}{truth}"
                         f"{shortened(row['reply']) or '(says nothing)'}")
    return "\n".join(lines)


def shortened(text: str, longest: int = 400) -> str:
    """A text on one line; of a long one its beginning and its end."""
    text = " ".join(text.split())
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half].rstrip()} […] {text[-half:].lstrip()}"


def marks_text(folder: Path) -> str:
    """What the looks at validation prompts gave reason to mark, for a terminal; "" without looks.
    """
    folder = Path(folder)
    if not (folder / "metrics.jsonl").exists():
        return ""
    config = read_object(folder / "config.json")
    lines, best = [], read_best(folder)
    for number, rows in looks(read_metrics(folder), config).items():
        found = marks(rows)
        lines.append(f"{part(algorithm(config), number)}, watched on validation prompts"
                     + ("" if found else f": {ALL_WELL}"))
        lines += [f"  step {mark.step:>3.0f}  {mark.text}" for mark in found]
    if best is not None:
        lines.append(best_text(best, titles_of(config)))
    return "\n".join(lines)


def memory_text(folder: Path) -> str:
    """What stage 3 kept in memory and what the process took, for a terminal; a line each, if known.
    """
    folder = Path(folder)
    config, place = read_object(folder / "config.json"), folder / "environment.json"
    models, peak = models_in_memory(folder, config), read_peak(folder)
    if not models:
        return ""
    lines = [f"{algorithm(config)} keeps {len(models)} models in memory, with the gradients and "
             f"moments of those that learn {bytes_text(together(models))}"]
    if peak is not None:
        device = on_device(read_object(place) if place.exists() else {})
        lines.append(peak_text(models, peak, device))
    return "\n".join(lines)


def across_seeds(tables: Sequence[dict], accuracies: Sequence[dict],
                 titles: dict[str, str] = TITLES) -> str:
    """Several seeds' comparisons and accuracies as one Markdown text.

    Differences are paired: by prompt within a seed (all models answer the same prompts, so a
    difference of means is a mean of differences), and by seed.
    """
    names = list(tables[0])
    moved = f"{titles['policy']} − SFT"
    head = ["", *(titles.get(name, name) for name in names), "SFT − base", moved,
            f"{moved} by seed"]
    lines = ["± is a 95 % t-interval over seeds of the difference, paired by seed and prompt.\n",
             f"| {' | '.join(head)} |".replace("|  |", "| |"), "|" + "---|" * len(head)]
    for key, (label, *_) in LINES.items():
        columns = {name: np.array([table[name][key] for table in tables]) for name in names}
        base, sft, policy = (columns[name] for name in ("base", "sft", "policy"))
        differences = ("{:+.3f} ± {:.3f}".format(*interval(d)) for d in (sft - base, policy - sft))
        lines.append(f"| {label} | " + " | ".join(f"{columns[n].mean():.3f}" for n in names)
                     + f" | {' | '.join(differences)} | "
                     + " ".join(f"{d:+.2f}" for d in policy - sft) + " |")
    lines += ["\nThe reward model on held-out prompts; *best* is what the labelers' known "
              "probabilities allow.\n", "| prompts | accuracy | best | by seed |",
              "|---|---|---|---|"]
    for kind in (k for k in accuracies[0] if all(k in table for table in accuracies)):
        hits, best = ([table[kind][key] for table in accuracies] for key in ("accuracy", "best"))
        lines.append(f"| {kind} | {'{:.3f} ± {:.3f}'.format(*interval(hits))} | "
                     f"{np.mean(best):.3f} | {' '.join(f'{hit:.2f}' for hit in hits)} |")
    return "\n".join(lines) + "\n"

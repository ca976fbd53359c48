"""What a run found: tables for the terminal, and one self-contained page, `report.html`.

The page's figures need matplotlib (extra `report`); without it the page is written without them.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from minirlhf.evaluation import interval, summarize
from minirlhf.files import read_json, read_jsonl, write_text

TITLES = {"base": "base", "sft": "SFT", "policy": "PPO"}
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
    "harm_refused": ("harmful requests refused", ".0%", "higher is better"),
    "over_refusal": ("over-refusal", ".0%", "harmless requests that sound harmful, refused"),
    "scary_right": ("· answered rightly", ".0%", "the same requests: fewer refusals may hide wrong "
                                                 "answers"),
    "score": ("reward-model score", "+z.2f", "0 is the mean of SFT replies to training prompts, 1 "
                                             "their deviation"),
    "kl": ("KL to SFT", "z.1f", "nats a reply, summed over its tokens"),
    "length": ("length", ".1f", "tokens a reply"),
}
NO_GOLD = """There is no gold score for real people's comparisons.  The score is the reward model's
own opinion, which PPO was made to raise: a rise shows that PPO works, not that replies are better.
It is worth what the reward model is worth.  Compare its held-out accuracy with 0.5, a coin's, and
with always picking the longer or the shorter reply: unless it is above all three by two standard
errors or more, it has not been shown to have learned anything else.  Whether people prefer the new
replies, only people can say."""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; width: 100%; }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd;
          vertical-align: top; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
td.why {{ color: #777; }} img {{ max-width: 100%; }} h2 {{ margin-top: 2.5rem; }}
@media (max-width: 40rem) {{ table {{ font-size: .85rem; }} th, td {{ padding: .3rem; }}
                            td.why {{ display: none; }} }}
</style><h1>{title}</h1>{body}</html>
"""


def by_model(rows: Sequence[dict]) -> dict[str, list[dict]]:
    models: dict[str, list[dict]] = {}
    for row in rows:
        models.setdefault(row["model"], []).append(row)
    return models


def comparison(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """{model: summary} from a run's samples."""
    models = by_model(rows)
    return {name: summarize(own, models["sft"]) for name, own in models.items()}


def table_text(table: dict[str, dict[str, float]]) -> str:
    """The comparison for a terminal, a line a number."""
    names = list(table)
    lines = [" " * 26 + "".join(f"{TITLES.get(name, name):>9}" for name in names)]
    for key, (label, form, _) in LINES.items():
        if key in table[names[0]]:
            numbers = (format(table[name][key], form) for name in names)
            lines.append(f"{label:<26}" + "".join(f"{number:>9}" for number in numbers))
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


def examples_text(rows: Sequence[dict], per_kind: int = 1) -> str:
    """The same prompts, answered by every model, for a terminal."""
    lines = []
    for _, prompt, replies in examples(rows, per_kind):
        lines.append(f"\n> {shortened(prompt)}")
        for name, row in replies.items():
            truth = f"gold {row['gold']:+.1f}  " if "gold" in row else ""
            lines.append(f"  {TITLES.get(name, name):<5}{truth}{shortened(row['reply'])}")
    return "\n".join(lines)


def shortened(text: str, longest: int = 400) -> str:
    """A text on one line; of a long one its beginning and its end."""
    text = " ".join(text.split())
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half].rstrip()} […] {text[-half:].lstrip()}"


def across_seeds(tables: Sequence[dict], accuracies: Sequence[dict]) -> str:
    """Several seeds' comparisons and accuracies as one Markdown text.

    Differences are paired: by prompt within a seed (all models answer the same prompts, so a
    difference of means is a mean of differences), and by seed.
    """
    names = list(tables[0])
    lines = ["± is a 95 % t-interval over seeds of the difference, paired by seed and prompt.\n",
             "| | base | SFT | PPO | SFT − base | PPO − SFT | PPO − SFT by seed |",
             "|---|---|---|---|---|---|---|"]
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


# --- the page ------------------------------------------------------------------------------------

def write_report(folder: Path) -> Path:
    """Write runs/NAME/report.html from what the run folder holds."""
    folder = Path(folder)
    samples = read_jsonl(folder / "samples.jsonl")
    accuracy = read_json(folder / "reward" / "accuracy.json")
    table = comparison(samples)
    body = [f"<p>{escape(headline(table))}</p>", "<h2>Before and after</h2>", table_html(table),
            "<h2>The same prompts, answered by each model</h2>", examples_html(samples),
            "<h2>The reward model on held-out prompts</h2>", accuracy_html(accuracy)]
    metrics = read_jsonl(folder / "metrics.jsonl")
    image = curves(metrics, table)
    if image is not None:
        body.append(f'<h2>Training</h2><img alt="training curves" '
                    f'src="data:image/png;base64,{base64.b64encode(image).decode()}">')
    settings = escape((folder / "config.json").read_text(encoding="utf-8"))
    body.append(f"<h2>Settings</h2><details><summary>config.json</summary><pre>{settings}</pre>"
                "</details>")
    write_text(folder / "report.html", PAGE.format(title=f"minirlhf: {escape(folder.name)}",
                                                   body="\n".join(body)))
    return folder / "report.html"


def headline(table: dict[str, dict[str, float]]) -> str:
    policy, sft = table["policy"], table["sft"]
    if "gold" not in policy:
        return (f"The reward model's score went from {sft['score']:+.2f} to {policy['score']:+.2f} "
                f"at a KL of {policy['kl']:.1f} nats a reply.  {NO_GOLD}")
    return (f"Gold score on test prompts: base {table['base']['gold']:+.2f}, SFT "
            f"{sft['gold']:+.2f}, PPO {policy['gold']:+.2f}; PPO's reply beats SFT's in "
            f"{policy['win_rate']:.0%} of cases, ties counting half.")


def table_html(table: dict[str, dict[str, float]]) -> str:
    names = list(table)
    head = "".join(f"<th>{TITLES.get(name, name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{escape(label)}</td>"
        + "".join(f'<td class="n">{table[name][key]:{form}}</td>' for name in names)
        + f'<td class="why">{escape(why)}</td></tr>'
        for key, (label, form, why) in LINES.items() if key in table[names[0]])
    return f"<table><tr><th></th>{head}<th></th></tr>{body}</table>"


def examples_html(rows: Sequence[dict]) -> str:
    names = list(by_model(rows))
    head = "".join(f"<th>{TITLES.get(name, name)}</th>" for name in names)
    body = ""
    for _, prompt, replies in examples(rows, per_kind=2):
        cells = "".join(
            f"<td>{escape(replies[name]['reply'])}"
            + (f"<br><small>gold {replies[name]['gold']:+.2f}</small>"
               if "gold" in replies[name] else "") + "</td>" for name in names)
        body += f"<tr><td>{escape(shortened(prompt))}</td>{cells}</tr>"
    return f"<table><tr><th>prompt</th>{head}</tr>{body}</table>"


def accuracy_html(accuracy: dict[str, dict]) -> str:
    body = "".join(
        f"<tr><td>{escape(kind)}</td><td class='n'>{row['accuracy']:.3f} ± "
        f"{row['standard_error']:.3f}</td><td class='n'>"
        + (f"{row['best']:.3f}" if "best" in row else "–")
        + f"</td><td class='n'>{row['pairs']}</td></tr>" for kind, row in accuracy.items())
    body += "".join(f"<tr><td>{label}</td><td class='n'>{right:.3f}</td><td></td><td></td></tr>"
                    for label, right in by_length(accuracy).items())
    return ("<table><tr><th>kind</th><th>accuracy ± standard error</th><th>best possible</th>"
            f"<th>pairs</th></tr>{body}</table>")


# stage, number, title, what a healthy curve does
PANELS = (
    ("pretraining", "loss", "base: loss", "nats a token"),
    ("SFT", "loss", "SFT: loss", "nats a response token"),
    ("reward model", "loss", "reward model: loss", "0.69 is a coin's"),
    ("PPO", "score", "PPO: reward-model score", "rises, then levels off"),
    ("PPO", "kl", "PPO: KL to SFT", "nats a reply; levels off"),
    ("PPO", "length", "PPO: length", "tokens; growth is a warning"),
    ("PPO", "explained_variance", "value model: explained variance", "towards 1"),
)


def curves(metrics: Sequence[dict], table: dict[str, dict[str, float]]) -> bytes | None:
    """The training curves of all stages, the models' scores, as a PNG; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    *axes, last = figure.subplots(2, 4).flat
    for ax, (stage, key, title, remark) in zip(axes, PANELS, strict=True):
        rows = [row for row in metrics if row["stage"] == stage]
        ax.plot([row["step"] for row in rows], [row[key] for row in rows], lw=1.2, color="#2a6f97")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(remark if rows else "no such steps in this run", fontsize=8, color="#666")
    key = "gold" if "gold" in table["sft"] else "score"
    names, heights = [TITLES.get(n, n) for n in table], [row[key] for row in table.values()]
    bars = last.bar(names, heights, color=["#a9a9a9", "#89c2d9", "#2a6f97"])
    last.bar_label(bars, fmt="%+.2f", fontsize=9)
    last.axhline(0, color="#222", lw=0.8)
    last.set_title(LINES[key][0] + ", test prompts", fontsize=10)
    last.margins(y=0.15)
    for ax in (*axes, last):
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, dpi=110)
    return png.getvalue()

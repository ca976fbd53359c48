"""Watching for reward hacking: what was seen on validation prompts while the policy was trained."""

from collections.abc import Sequence
from typing import NamedTuple

from minirlhf.findings import ALL_WELL, algorithm, by_text, looks, setting
from minirlhf.page.figures import LARGE, look_chart
from minirlhf.page.markup import minus, number, quotation, section
from minirlhf.watching import BANDS, Band, Mark, left_band, marks


class Shown(NamedTuple):
    """A number with a band, as it is shown."""

    title: str
    unit: str
    form: str = "z.2f"


SHOWN = {"length": Shown("Length", "tokens a reply", ".1f"),
         "repetition": Shown("Repetition", "of word pairs"),
         "refusal": Shown("Refusals", "share of replies"),
         "courtesy": Shown("Courtesies", "a reply"),
         "unfinished": Shown("Cut off", "share of replies"),
         "kl": Shown("KL", "nats a reply", "z.1f")}


def watched_html(metrics: Sequence[dict], config: dict, bests: dict[int, dict]) -> str:
    """The section, a part a round; empty where no policy was watched.

    bests: {round: where its policy did best, as `findings.read_best` has it}.
    """
    found = looks(metrics, config)
    if not found:
        return ""
    several = setting(config, "rounds", 1) > 1
    known = all("gold" in row for rows in found.values() for row in rows)
    parts = []
    for k, rows in found.items():
        parts += [f"<h3>Round {k}</h3>"] * several
        parts += [round_html(rows, config, bests.get(k))]
    return section(
        "watching", "Watching for reward hacking",
        quotation("Reward hacking happens when the LLM finds a trick that earns a high score from "
                  "the Reward Model, but the response is not actually good for the human."),
        quotation("Keep a held-out evaluation set where humans rate the final LLM directly, so we "
                  "can catch reward hacking early."),
        "<p>Every few steps the policy answers validation prompts, always with the same random "
        "numbers. "
        + ("The score is what it is trained for, gold what its replies are worth. While both "
           "rise, all is well; where the score goes on and gold falls, it learns the reward "
           "model’s mistakes. " if known else
           "Nobody has rated these replies, so there is no line for what they are worth. ")
        + "What shows without a judge has a band around where it was before the first step. To "
        "leave it proves nothing, and is a reason to stop and read the replies.</p>", *parts)


def round_html(rows: Sequence[dict], config: dict, best: dict | None) -> str:
    """One policy's looks: score and gold, what there is to mark, and the numbers with a band."""
    found = marks(rows)
    small = "".join(band_html(band, rows) for band in BANDS)
    return (f'<div class="curve-alone">{worth_html(rows, found, config, best)}</div>'
            f'<div class="bands">{small}</div>')


def worth_html(rows: Sequence[dict], found: Sequence[Mark], config: dict,
               best: dict | None) -> str:
    """The figure of score and gold, with the marks as upright lines, and in words beside it."""
    lines = {"score": [(row["step"], row["score"]) for row in rows]}
    if all("gold" in row for row in rows):
        lines["gold"] = [(row["step"], row["gold"]) for row in rows]
    upright: dict[float, list[str]] = {}
    for i, mark in enumerate(found, 1):
        upright.setdefault(mark.step, []).append(str(i))
    kept = None
    if best is not None:
        line = lines.get("gold", lines["score"])
        kept = next((point for point in line if point[0] == best["step"]), None)
    chart = look_chart(lines, f"{algorithm(config)} on validation prompts", LARGE,
                       marks=[(step, ", ".join(labels)) for step, labels in upright.items()],
                       kept=kept)
    keys = "".join(f'<span class="key {name}">{words} <b>{number(points[-1][1], "+z.2f")}</b>'
                   "</span>" for (name, points), words in
                   zip(lines.items(), ("reward-model score", "gold score"), strict=False))
    if kept is not None:
        keys += f'<span class="key kept">best: step {kept[0]:.0f}</span>'
    return (f'<figure><div class="plot"><p class="keys">{keys}</p>{chart}</div><figcaption>'
            f"{words_html(found, rows)}{kept_html(best)}</figcaption></figure>")


def words_html(found: Sequence[Mark], rows: Sequence[dict]) -> str:
    """The marks in words, numbered as in the chart."""
    if not found:
        gold = ", and score and gold did not part" * ("gold" in rows[0])
        return f"<p><strong>Nothing to mark.</strong> {ALL_WELL.capitalize()}{gold}.</p>"
    items = "".join(f"<li><b>Step {mark.step:.0f}</b>: {minus(mark.text)}.</li>" for mark in found)
    return f'<p><strong>To be looked at.</strong></p><ol class="marked">{items}</ol>'


def kept_html(best: dict | None) -> str:
    if best is None:
        return ""
    return (f"<p>The policy of step {best['step']:.0f} did best here "
            f"({minus(by_text(best))}), and is kept as policy-best beside the last one.</p>")


def band_html(band: Band, rows: Sequence[dict]) -> str:
    """A number over the looks, in its band.

    None of them is negative, but for the estimate of a KL near 0: it is drawn at 0.
    """
    title, unit, form = SHOWN[band.key]
    first = rows[0][band.key]
    low, high = max(0.0, band.low(first)), band.high(first)
    out = next((row for row in rows if band in left_band(rows[0], row)), None)
    last = rows[-1][band.key]
    points = [(row["step"], max(0.0, row[band.key])) for row in rows]
    chart = look_chart({"out" if out else "number": points}, f"{title}, {unit}",
                       band=(low, high),
                       marks=[] if out is None else [(out["step"], "")])
    within = f"{number(low, form)} to " if low else "up to "
    left = f' <span class="worse">Left at step {out["step"]:.0f}.</span>' if out else ""
    return (f'<figure><div class="plot"><h3>{title} <small>{unit}</small><span class="last"><small>'
            f"last</small> {number(last, form)}</span></h3>{chart}</div>"
            f"<figcaption><p>Band: {within}{number(high, form)}.{left}</p></figcaption></figure>")

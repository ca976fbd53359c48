"""The stages of a run, each with the article's sentence about it, and its curves."""

from collections.abc import Sequence
from math import ceil

from minirlhf.findings import TITLES, algorithm, part, setting
from minirlhf.page.chapters import CHAPTERS, Chapter, Curve
from minirlhf.page.figures import HEIGHT, LEFT, WIDTH, column_chart, line_chart
from minirlhf.page.markup import escaped, number, quotation, section
from minirlhf.report import LINES
from minirlhf.settings import ALGORITHMS


def chapters_of(config: dict) -> dict[str, Chapter]:
    """{stage's name in the log: its chapter}: those that a run of these settings can have."""
    others = {name for name in ALGORITHMS.values() if name != algorithm(config)}
    return {chapter.stage: chapter for chapter in CHAPTERS if chapter.stage not in others}


def stage_rows(metrics: Sequence[dict], stage: str) -> list[dict]:
    return [row for row in metrics if row["stage"] == stage]


def shown_curves(chapter: Chapter, rows: Sequence[dict]) -> list[Curve]:
    """The curves that were logged; β only where it was adapted."""
    return [curve for curve in chapter.curves if all(curve.key in row for row in rows)
            and (curve.key != "beta" or len({row["beta"] for row in rows}) > 1)]


def stage_html(chapter: Chapter, metrics: Sequence[dict], config: dict) -> str:
    """A stage's section; empty where the run has no numbers of it, or had its model from elsewhere.

    Of several rounds it is about the first.
    """
    rows = stage_rows(metrics, chapter.stage)
    curves = shown_curves(chapter, rows) if rows else []
    if not curves:
        return ""
    toy = not config.get("text")
    figures = "\n".join(figure_html(chapter.title, curve, rows, caption_html(curve, toy))
                        for curve in curves)
    again = setting(config, "rounds", 1) > 1 and chapter.stage in (
        "reward model", *ALGORITHMS.values())
    return section(chapter.key, chapter.title, quotation(chapter.quote) if chapter.quote else "",
                   f"<p>{chapter.text}</p>",
                   "<p>What follows is the first round; the others are under “Rounds”.</p>" * again,
                   f'<div class="{"curves" if len(curves) > 1 else "curve-alone"}">{figures}</div>')


def round_html(chapter: Chapter, metrics: Sequence[dict], number: int) -> str:
    """The curves of a stage in one of several rounds, without the words that stand by the first."""
    rows = stage_rows(metrics, part(chapter.stage, number))
    return "\n".join(figure_html(f"{chapter.title}, round {number}", curve, rows)
                     for curve in (shown_curves(chapter, rows) if rows else []))


def figure_html(stage: str, curve: Curve, rows: Sequence[dict], caption: str = "") -> str:
    values = [row[curve.key] for row in rows]
    chart = line_chart(values, f"{stage}. {curve.title}, {curve.unit}", curve.level, curve.floor_at)
    return (f'<figure><div class="plot"><h3>{curve.title} <small>{curve.unit}</small>'
            f'<span class="last"><small>last</small> {number(values[-1], curve.form)}</span></h3>'
            f"{chart}</div>{caption}</figure>")


def caption_html(curve: Curve, toy: bool) -> str:
    """What a curve should look like.  toy: also what default runs of the toy world showed."""
    seen = f" <em>Default runs of the toy world:</em> {curve.toy}" if toy and curve.toy else ""
    return (f"<figcaption><p><strong>Healthy.</strong> {curve.healthy}{seen}</p>"
            f"<p><strong>If not.</strong> {curve.otherwise}</p></figcaption>")


# --- the picture of a run in README.md: it stands alone ------------------------------------------

PICTURED = (("pretraining", "loss", "base: loss"), ("SFT", "loss", "SFT: loss"),
            ("reward model", "loss", "reward model: loss"), ("PPO", "score", "PPO: score"),
            ("PPO", "kl", "PPO: KL to SFT"), ("PPO", "length", "PPO: length"),
            ("PPO", "explained_variance", "value model: explained variance"))
SHEET_STYLE = """\
svg { --paper: #fff; --ink: #22262b; --soft: #666d76; --rule: #e4e1db; --accent: #1b6a86;
  font-family: system-ui, sans-serif }
.chart { overflow: visible }
@media (prefers-color-scheme: dark) {
  svg { --paper: #14171a; --ink: #e5e3de; --soft: #9ba2a9; --rule: #31363b; --accent: #74bcd4 } }
.sheet { fill: var(--paper) } .title, .number { font-size: 20px; fill: var(--ink) }
.title { font-weight: 600 } .remark, .tick { font-size: 17px; fill: var(--soft) }
.grid { stroke: var(--rule) } .level { stroke: var(--soft); stroke-dasharray: 4 4 }
.band { fill: var(--accent); opacity: .18 } .end, .column { fill: var(--accent) }
.curve { fill: none; stroke: var(--accent); stroke-width: 2 }
"""


def picture(metrics: Sequence[dict], table: dict[str, dict[str, float]],
            titles: dict[str, str] = TITLES) -> str:
    """The curves of all stages of PPO and the models' gold scores, as an SVG file."""
    curves = {(chapter.stage, curve.key): curve for chapter in CHAPTERS
              for curve in chapter.curves}
    charts = []
    for stage, key, title in PICTURED:
        rows, curve = stage_rows(metrics, stage), curves[stage, key]
        charts.append((title, curve.unit, line_chart(
            [row[key] for row in rows], title, curve.level, curve.floor_at)))
    label, form, _ = LINES["gold"]
    charts.append((label, "mean over test prompts", column_chart(
        {titles.get(name, name): row["gold"] for name, row in table.items()}, label, form)))
    return sheet(charts, "Training curves of all stages, and what the models are worth")


def sheet(charts: Sequence[tuple[str, str, str]], told: str, columns: int = 4) -> str:
    """(title, remark, chart) triples side by side, as one SVG file."""
    wide, high, body = WIDTH + 24, HEIGHT + 90, ""
    for i, (title, remark, chart) in enumerate(charts):
        x, y = 12 + i % columns * wide, 12 + i // columns * high
        placed = chart.replace("<svg ", f'<svg x="{x}" y="{y + 54}" width="{WIDTH}" '
                                        f'height="{HEIGHT}" ', 1)
        body += (f'<text class="title" x="{x + LEFT}" y="{y + 18}">{escaped(title)}</text>\n'
                 f'<text class="remark" x="{x + LEFT}" y="{y + 42}">{escaped(remark)}</text>\n'
                 f"{placed}\n")
    return ('<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'aria-label="{escaped(told)}" viewBox="0 0 {columns * wide} '
            f'{ceil(len(charts) / columns) * high}">\n<style>\n{SHEET_STYLE}</style>\n'
            f'<rect class="sheet" width="100%" height="100%"/>\n{body}</svg>\n')

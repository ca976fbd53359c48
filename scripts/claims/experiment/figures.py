"""The figure of a claim, as SVG, by matplotlib (the extra `claims`).

It is narrow and tall, so that a telephone shows it with letters that can be read: an axis
for each effect, which has a unit of its own, and below them what the claim file draws.  Legends
stand outside of the axes, where there is nothing to cover.
"""

from pathlib import Path
from textwrap import fill

from experiment.claim import Experiment
from minirlhf.files import replacing

WIDTH, HEAD, ROW, OWN = 4.2, 0.8, 0.95, 3.4          # inches; of heights: title, effect, own panel
SMALL = 0.16                               # between the lines of one effect, in its row
LETTERS, FINE = 46, 54                     # in a line, of medium and of small size


def require() -> None:
    """Raise ValueError saying how to get matplotlib, if it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("the figures of claims want matplotlib, which is not installed; pip "
                         "install -e '.[claims]' in the clone brings it") from None


def write(path: Path, experiment: Experiment, result: dict) -> None:
    """Draw a result: its effects, and below them what the claim file draws, if it draws."""
    import matplotlib
    from matplotlib.figure import Figure

    own = getattr(experiment.module, "draw", None)
    look = {"svg.fonttype": "none", "svg.hashsalt": "minirlhf", "font.family": "sans-serif",
            "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium"}
    heights = [HEAD + ROW * len(result["effects"]), *[OWN] * (own is not None)]
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained", facecolor="white")
        parts = figure.subfigures(len(heights), height_ratios=heights, squeeze=False)[:, 0]
        draw_effects(parts[0], result)
        if own:
            axes = parts[1].subplots()
            own(axes, result)
            axes.set(title=fill(axes.get_title(), LETTERS), xlabel=fill(axes.get_xlabel(), LETTERS))
            legend_above(parts[1], axes)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg",
                           metadata={"Date": None, "Title": result["title"]})


def draw_effects(part, result: dict) -> None:
    """Row by row, each on a scale of its own that shows its 0."""
    rows = part.subplots(len(result["effects"]), squeeze=False)[:, 0]
    for axes, (name, effect) in zip(rows, result["effects"].items(), strict=True):
        draw_effect(axes, effect)
        axes.set_title(name, loc="left", fontweight="bold", fontsize="small")
        axes.set_title(effect["verdict"] or "shown only", loc="right", fontsize="small")
    first = next((axes for axes, effect in zip(rows, result["effects"].values(), strict=True)
                  if effect["smallest"] is not None), rows[0])
    legend_above(part, first, f"{result['verdict']}: effects, {100 * result['level']:.0f} % "
                 "intervals")


def draw_effect(axes, effect: dict) -> None:
    """Intervals on test prompts (filled) and training prompts (hollow), each seed as a small dot,
    and the smallest effect of interest."""
    axes.axvline(0, color="0.8", linewidth=1, zorder=0)
    for split, y, color, face in (("test", 0, "C0", "C0"), ("train", 2 * SMALL, "0.55", "white")):
        found = effect[split]
        axes.plot(found["interval"], [y, y], color=color, linewidth=2, zorder=2)
        axes.plot(found["effect"], y, "o", color=color, markerfacecolor=face, zorder=3,
                  label=f"{split}{'ing' * (split == 'train')} prompts")
    seeds = effect["test"]["by_seed"]
    axes.plot(seeds, [-1.5 * SMALL] * len(seeds), ".", color="C0", markersize=4, label="each seed")
    if effect["smallest"] is not None:
        axes.axvline(effect["smallest"], color="C3", linestyle="--", label="smallest of interest")
    axes.set_ylim(0.5, -0.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(fill(effect["what"], FINE), fontsize="small")


def legend_above(part, axes, title: str | None = None) -> None:
    """The legend of axes, above them: in as many columns as there is room for."""
    handles, labels = axes.get_legend_handles_labels()
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    if labels:
        columns = min(len(labels), max(1, FINE // (max(map(len, labels)) + 5)))
        part.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize="small",
                    frameon=False, title=title)

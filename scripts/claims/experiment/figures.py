"""The figure of a claim, as SVG, by matplotlib (the extra `claims`).

It is narrow and tall, so that a telephone shows it with letters that can be read: an axis
for each effect, which has a unit of its own, and below them what the claim file draws.  Legends
stand outside of the axes, where there is nothing to cover.
"""

from math import ceil
from pathlib import Path
from textwrap import fill

from experiment.claim import Experiment
from minirlhf.files import replacing

WIDTH, ROW, OWN, LINE = 4.2, 0.42, 2.5, 0.19         # inches; of heights: an effect's axes, those
AROUND = 0.75                              # of the claim file, a line of a legend; of titles, ticks
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
    n = len(result["effects"])
    look = {"svg.fonttype": "none", "svg.hashsalt": "minirlhf", "font.family": "sans-serif",
            "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium"}
    with matplotlib.rc_context(look):
        figure = Figure(layout="constrained", facecolor="white")
        figure.get_layout_engine().set(h_pad=0.06)           # inches, or a title is cut by a pixel
        rows = figure.subplots(1 + n + (2 if own else 0), squeeze=False)[:, 0]
        heights = [draw_effects(rows[:1 + n], result), *[ROW] * n]
        if own:
            heights += [draw_own(rows[-2:], own, result), OWN]
        rows[0].get_gridspec().set_height_ratios(heights)
        figure.set_size_inches(WIDTH, sum(heights) + AROUND * (n + bool(own)))
        settle(figure)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg",
                           metadata={"Date": None, "Title": result["title"]})


def settle(figure) -> None:
    """Lay out, and round the places: the last digits that the solver finds depend on what was drawn
    before, and the ids in an SVG depend on all digits."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(x, 4) for x in axes.get_position().bounds])


def draw_effects(rows, result: dict) -> float:
    """The legend, then row by row an effect, each on a scale of its own that shows its 0.  The
    height of the legend."""
    effects = result["effects"]
    for axes, (name, effect) in zip(rows[1:], effects.items(), strict=True):
        draw_effect(axes, effect)
        axes.set_title(name, loc="left", fontweight="bold", fontsize="small")
        axes.set_title(effect["verdict"] or "shown only", loc="right", fontsize="small")
    deciding = next((axes for axes, effect in zip(rows[1:], effects.values(), strict=True)
                     if effect["verdict"]), rows[1])
    return legend(rows[0], deciding, f"{result['verdict']}: effects, "
                  f"{100 * result['level']:.0f} % intervals")


def draw_own(rows, own, result: dict) -> float:
    """What the claim file draws, its legend above.  The height of the legend."""
    room, axes = rows
    own(axes, result)
    axes.set(title=fill(axes.get_title(), LETTERS), xlabel=fill(axes.get_xlabel(), LETTERS))
    return legend(room, axes)


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


def legend(room, axes, title: str = "") -> float:
    """Put the legend of some axes into others, which hold nothing else: in as many columns as a
    line has room for.  Its height in inches."""
    room.set_axis_off()
    handles, labels = axes.get_legend_handles_labels()
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    if not labels:
        return LINE / 10
    columns = min(len(labels), max(1, FINE // (max(map(len, labels)) + 5)))
    room.legend(handles, labels, loc="center", ncols=columns, fontsize="small", frameon=False,
                title=title or None, borderaxespad=0)
    return LINE * (ceil(len(labels) / columns) + bool(title))

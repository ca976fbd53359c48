"""The figure of a claim, as SVG, by matplotlib (the extra `claims`)."""

from pathlib import Path

from experiment.claim import Experiment
from minirlhf.files import replacing

SMALL = 0.11                               # between the lines of one effect, in its rows


def require() -> None:
    """Raise ValueError saying how to get matplotlib, if it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("the figures of claims want matplotlib, which is not installed; pip "
                         "install -e '.[claims]' in the clone brings it") from None


def write(path: Path, experiment: Experiment, result: dict) -> None:
    """Draw a result: its effects, and beside them what the claim file draws, if it draws."""
    import matplotlib
    from matplotlib.figure import Figure

    own = getattr(experiment.module, "draw", None)
    look = {"svg.fonttype": "none", "svg.hashsalt": "minirlhf", "font.family": "sans-serif",
            "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium"}
    with matplotlib.rc_context(look):
        rows = len(result["effects"])
        figure = Figure(figsize=(11 if own else 6.5, 3.6 if own else 1.2 + 0.6 * rows),
                        layout="constrained", facecolor="white")
        panels = figure.subplots(1, 2 if own else 1, squeeze=False)[0]
        draw_effects(panels[0], result)
        if own:
            own(panels[1], result)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg",
                           metadata={"Date": None, "Title": result["title"]})


def draw_effects(axes, result: dict) -> None:
    """A row an effect: intervals on test prompts (filled) and training prompts (hollow), each seed
    as a small dot, and the smallest effect of interest."""
    axes.axvline(0, color="0.8", linewidth=1, zorder=0)
    effects = list(result["effects"].items())
    for row, (_, effect) in enumerate(effects):
        for split, y, color, face in (("test", row, "C0", "C0"),
                                      ("train", row + 2 * SMALL, "0.55", "white")):
            found = effect[split]
            axes.plot(found["interval"], [y, y], color=color, linewidth=2, zorder=2)
            axes.plot(found["effect"], y, "o", color=color, markerfacecolor=face, zorder=3,
                      label=f"{split} prompts" if row == 0 else None)
        axes.plot(effect["test"]["by_seed"], [row - 1.5 * SMALL] * len(result["seeds"]), ".",
                  color="C0", markersize=4, label="each seed" if row == 0 else None)
        if effect["smallest"] is not None:
            axes.plot([effect["smallest"]] * 2, [row - 0.32, row + 0.32], color="C3",
                      linestyle="--", label="smallest of interest" if row == 0 else None)
    axes.set_yticks(range(len(effects)), [name for name, _ in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel("effect, positive where the claim is right")
    axes.set_title(f"{result['verdict']}: effects, {100 * result['level']:.0f} % intervals")
    axes.legend(fontsize="small", loc="best")

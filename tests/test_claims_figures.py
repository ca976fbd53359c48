"""Laws of the claims' figures: every effect on its own scale, and no legend that covers points."""

import sys
from pathlib import Path

import pytest
from helpers import breaks

from minirlhf.files import read_json

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "claims"
sys.path.insert(0, str(ROOT / "scripts" / "claims"))
from experiment import figures  # noqa: E402
from experiment.claim import experiments  # noqa: E402

pytest.importorskip("matplotlib", reason="figures want the extra: claims")
PUBLISHED = [one for one in experiments() if (DOCS / f"{one.name}.json").exists()]
MANY_SCALES = next(one for one in PUBLISHED if one.number == "09")      # and a panel with a legend


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """experiment -> (its published result, the figure that is made of it, laid out)."""
    kept = []

    def keep(figure, *_, **__):
        figure.draw_without_rendering()
        kept.append(figure)

    def drawn(experiment):
        found = read_json(DOCS / f"{experiment.name}.json")
        figures.write(tmp_path / "figure.svg", experiment, found)
        return found, kept.pop()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)
    monkeypatch.setattr(figures, "replacing", lambda path: open(path, "w", encoding="utf-8"))
    return drawn


# --- the laws ------------------------------------------------------------------------------------

def every_effect_has_a_scale_of_its_own(drawn):
    found, figure = drawn
    for axes, (name, effect) in zip(figure.axes[1:], found["effects"].items(), strict=False):
        assert axes.get_title(loc="left") == name
        assert axes.get_title(loc="right") == (effect["verdict"] or "shown only")
        assert axes.get_xlabel().split() == effect["what"].split()
        smallest = [] if effect["smallest"] is None else [effect["smallest"]]
        assert [line.get_xdata()[0] for line in axes.lines
                if line.get_label() == "smallest of interest"] == smallest
        shown = [0.0, *smallest] + [x for split in ("test", "train")
                                    for x in effect[split]["interval"]] + effect["test"]["by_seed"]
        low, high = axes.get_xlim()
        assert low <= min(shown) and max(shown) <= high
        used = max(shown) - min(shown)
        assert used > 0.5 * (high - low) or used == 0          # no other's scale squeezes it


def nothing_covers_anything(drawn):
    _, figure = drawn
    whole = figure.bbox
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert legends and not any(axes.lines for axes in figure.axes if axes.get_legend())
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison]      # titles and all
    boxes += [legend.get_window_extent() for legend in legends]
    for i, box in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


LAWS = (every_effect_has_a_scale_of_its_own, nothing_covers_anything)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("experiment", PUBLISHED, ids=lambda one: one.name)
def test_a_published_figure_keeps_the_law(law, experiment, draw):
    law(draw(experiment))


def test_a_figure_is_narrow_enough_for_a_telephone(draw):
    """390 pixels for 4.2 inches leave letters of 10 points with 12 pixels."""
    assert {draw(one)[1].get_figwidth() for one in PUBLISHED} == {4.2}


# --- wrong figures, which break a law ------------------------------------------------------------

def one_scale(axes, effect):
    real(axes, effect)
    axes.set_xlim(-9, 9)


def zero_forgotten(axes, effect):
    real(axes, effect)
    axes.set_xlim(*effect["test"]["interval"])


def among(room, axes, title=""):
    room.set_axis_off()
    axes.legend()
    return 0.5


def without_room(room, *of):
    height = real_legend(room, *of)
    room.get_legend().set_in_layout(False)
    return height / 4


real, real_legend = figures.draw_effect, figures.legend
MUTANTS = {
    "one scale for all effects": (LAWS[0], "draw_effect", one_scale),
    "no zero": (LAWS[0], "draw_effect", zero_forgotten),
    "legends among the points": (LAWS[1], "legend", among),
    "legends without room": (LAWS[1], "legend", without_room),
    "long lines": (LAWS[1], "fill", lambda text, width: text.replace(" ", " and so on ")),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name, draw, monkeypatch):
    law, function, wrong = MUTANTS[name]
    assert not breaks(law, draw(MANY_SCALES))
    monkeypatch.setattr(figures, function, wrong)
    assert breaks(law, draw(MANY_SCALES))

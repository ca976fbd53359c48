"""Charts as SVG text, drawn without a library: lines over steps, columns, bars.

They stand in the page as elements of their own.  So they take its colors (light, dark, print; the
classes are those of `style.css`), their numbers stay text, and a reader who does not see them gets
a sentence.
"""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from minirlhf.page.markup import escaped, number

WIDTH, HEIGHT = 440, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 24            # margins around the plot
MOST_POINTS = 220                                    # more would only make the line thicker

Point = tuple[float, float]


class Size(NamedTuple):
    """A chart's size, and the room above its plot."""

    width: int = WIDTH
    height: int = HEIGHT
    top: int = TOP


PLAIN, LARGE, SMALL = Size(), Size(WIDTH, 270, 26), Size(300, 130)


# --- axes ----------------------------------------------------------------------------------------

def ticks(low: float, high: float, about: int = 4, whole: bool = False) -> list[float]:
    """Round numbers at equal steps (1, 2 or 5 times a power of ten) that enclose low … high.

    whole: steps of 1 or more, as for steps of training.  Where low and high are equal, there is
    room to both sides.
    """
    if low == high:
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    return [i * step for i in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """As many decimals as tell two neighbors apart."""
    decimals = max(0, -floor(log10(values[1] - values[0]) + 1e-9))
    return [number(value, f"z.{decimals}f") for value in values]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The straight line that takes low to start, and high to end."""
    return lambda value: start + (end - start) * (value - low) / (high - low)


def frame(rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]],
          size: Size = PLAIN) -> str:
    """Horizontal grid lines with their labels at the left, and labels below."""
    return "".join(
        [f'<path class="grid" d="M{LEFT} {y:.1f}H{size.width - RIGHT}"/>'
         f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
         for y, label in rows]
        + [f'<text class="tick" x="{x:.1f}" y="{size.height - 4}" '
           f'text-anchor="{"middle" if x > LEFT else "start"}">{label}</text>'
           for x, label in columns])


def axes(levels: Sequence[float], last: float, size: Size = PLAIN, about: int = 4,
         ) -> tuple[Callable[[float], float], Callable[[float], float], str]:
    """(x of a step, y of a value, the frame) for values between levels, over steps 0 … last."""
    steps = [step for step in ticks(0, last, about, whole=True) if step <= last]
    x = scale(0, last, LEFT, size.width - RIGHT)
    y = scale(levels[0], levels[-1], size.height - BOTTOM, size.top)
    names = [f"step {step:.0f}" if step == 0 else f"{step:.0f}" for step in steps]
    return x, y, frame(list(zip(map(y, levels), tick_labels(levels), strict=True)),
                       list(zip(map(x, steps), names, strict=True)), size)


def svg(told: str, body: str, size: Size = PLAIN) -> str:
    """A chart; `told` is what it shows, in words."""
    return (f'<svg class="chart" role="img" aria-label="{escaped(told)}" '
            f'viewBox="0 0 {size.width} {size.height}">{body}</svg>')


# --- charts --------------------------------------------------------------------------------------

def line_chart(values: Sequence[float], told: str, reference: tuple[float, str] | None = None,
               floor_at: float | None = None) -> str:
    """A curve over the steps of training, 0, 1, ….

    reference: a level to compare it with, and its name.  floor_at: values below are drawn there, so
    that a few wild ones at the start do not flatten the rest.
    """
    drawn = [value if floor_at is None else max(value, floor_at) for value in values]
    shown = drawn if reference is None else [*drawn, reference[0]]
    x, y, body = axes(ticks(min(shown), max(shown)), max(1, len(values) - 1))
    if reference is not None:
        body += level(y(reference[0]), reference[1])
    told += (f": {values[0]:.3g} at first, {values[-1]:.3g} after {len(values)} steps; between "
             f"{min(values):.3g} and {max(values):.3g}")
    return svg(told, body + curve([(x(place), *map(y, run)) for place, *run in thinned(drawn)]))


def thinned(values: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """A curve in at most MOST_POINTS (place, lowest, mean, highest), each of a run of values."""
    size = ceil(len(values) / MOST_POINTS)
    runs = [(start, values[start:start + size]) for start in range(0, len(values), size)]
    return [(start + (len(run) - 1) / 2, min(run), sum(run) / len(run), max(run))
            for start, run in runs]


def curve(points: Sequence[tuple[float, float, float, float]]) -> str:
    """A line through the means, its end as a dot, in a band between the extremes."""
    low, line, high = ([(point[0], point[i]) for point in points] for i in (1, 2, 3))
    band = "" if low == high else f'<path class="band" d="{path([*low, *high[::-1]])}Z"/>'
    return (f'{band}<path class="curve" d="{path(line)}"/>'
            f'<circle class="end" cx="{line[-1][0]:.1f}" cy="{line[-1][1]:.1f}" r="3.5"/>')


def path(points: Sequence[Point]) -> str:
    return "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))


def level(y: float, name: str) -> str:
    """A dashed line across the plot, and what it is."""
    return (f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/><text class="tick name" '
            f'x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end">{escaped(name)}</text>')


def look_chart(lines: dict[str, Sequence[Point]], told: str, size: Size = SMALL,
               band: tuple[float, float] | None = None, marks: Sequence[tuple[float, str]] = (),
               kept: Point | None = None) -> str:
    """What was seen of a policy at some of its steps: a line a name, through (step, value) points.

    The name of a line is also its class in style.css.  band: between which values they should stay.
    marks: upright lines at a step, each with its label.  kept: the point to be ringed.
    """
    values = [value for points in lines.values() for _, value in points]
    last = max(1, *(points[-1][0] for points in lines.values()))
    levels = ticks(min(*values, *band or ()), max(*values, *band or ()), 3 if size is SMALL else 4)
    x, y, body = axes(levels, last, size)
    if band is not None:
        low, high = map(y, band)
        body += (f'<path class="allowed" d="M{LEFT} {low:.1f}V{high:.1f}H{size.width - RIGHT}'
                 f'V{low:.1f}Z"/>')
    body += uprights([(x(step), label) for step, label in marks], size)
    for name, points in lines.items():
        placed = [(x(step), y(value)) for step, value in points]
        body += f'<path class="curve {name}" d="{path(placed)}"/>{dot(*placed[-1], name)}'
    if kept is not None:
        step, value = kept
        body += f'<circle class="kept" cx="{x(step):.1f}" cy="{y(value):.1f}" r="6.5"/>'
    return svg(f"{told}: {look_words(lines, band, marks, kept)}", body, size)


def look_words(lines: dict[str, Sequence[Point]], band: tuple[float, float] | None,
               marks: Sequence[tuple[float, str]], kept: Point | None) -> str:
    """The numbers of a `look_chart`, for those who do not see it."""
    told = []
    for name, points in lines.items():
        values = [value for _, value in points]
        told.append(f"{name} " * (len(lines) > 1)
                    + f"{values[0]:.3g} at first, {values[-1]:.3g} after {points[-1][0]:.0f} "
                    f"steps; between {min(values):.3g} and {max(values):.3g}")
    if band is not None:
        told.append(f"band from {band[0]:.3g} to {band[1]:.3g}")
    told += [f"marked at step {step:.0f}" + f" as {label}" * bool(label) for step, label in marks]
    told += [] if kept is None else [f"kept from step {kept[0]:.0f}"]
    return "; ".join(told)


def uprights(placed: Sequence[Point], size: Size) -> str:
    """Upright lines in the order of steps; a label gives way to the one before it."""
    body, free = "", 0.0
    for x, label in placed:
        half = 3.2 * len(label)                                # of its width, near enough
        middle = min(max(x, free + half), size.width - half)
        free = middle + half + 4
        body += (f'<path class="mark" d="M{x:.1f} {size.top}V{size.height - BOTTOM}"/>'
                 f'<text class="tick marked" x="{middle:.1f}" y="{size.top - 8}" '
                 f'text-anchor="middle">{escaped(label)}</text>')
    return body


def dot(x: float, y: float, name: str) -> str:
    """The end of a line: a disc, or a diamond for gold, so that color alone need not tell."""
    if name == "gold":
        return (f'<path class="end gold" d="M{x - 5:.1f} {y:.1f}L{x:.1f} {y - 5:.1f}'
                f'L{x + 5:.1f} {y:.1f}L{x:.1f} {y + 5:.1f}Z"/>')
    return f'<circle class="end {name}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def column_chart(named: dict[str, float], told: str, form: str) -> str:
    """A column for each name, from 0 up or down, with its number."""
    levels = ticks(min(0.0, *named.values()), max(0.0, *named.values()))
    y = scale(levels[0], levels[-1], HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(named)
    middles = [LEFT + width * (i + 0.5) for i in range(len(named))]
    body = frame(list(zip(map(y, levels), tick_labels(levels), strict=True)),
                 list(zip(middles, map(escaped, named), strict=True)))
    for x, value in zip(middles, named.values(), strict=True):
        top, bottom = sorted((y(value), y(0.0)))
        beside = top - 5 if value > 0 else bottom + 15
        body += (f'<rect class="column" x="{x - width / 4:.1f}" y="{top:.1f}" '
                 f'width="{width / 2:.1f}" height="{bottom - top:.1f}"/><text class="number" '
                 f'x="{x:.1f}" y="{beside:.1f}" text-anchor="middle">{number(value, form)}</text>')
    return svg(f"{told}: " + ", ".join(f"{name} {number(x, form)}" for name, x in named.items()),
               body)


def share_bar(share: float, error: float, best: float | None = None) -> str:
    """A share between 0 and 1 as a bar as wide as its cell, ± two standard errors.

    It stands beside a coin's one half and, where that is known, the best possible.  The numbers
    themselves stand in the table.
    """
    parts = ['<path class="track" d="M0 8H100"/>',
             f'<path class="fill" d="M0 8H{100 * share:.1f}"/>',
             '<path class="coin" d="M50 -4V20"/>']
    if error > 0:                                                     # neither 0 nor NaN
        low, high = (100 * min(1, max(0, share + side * 2 * error)) for side in (-1, 1))
        parts.append(f'<path class="error" d="M{low:.1f} 8H{high:.1f}"/>')
    if best is not None:
        parts.append(f'<path class="best" d="M{100 * best:.1f} 1V15"/>')
    return ('<svg class="share" aria-hidden="true" viewBox="0 0 100 16" '
            f'preserveAspectRatio="none">{"".join(parts)}</svg>')


def stacked_bar(parts: Sequence[tuple[str, float]]) -> str:
    """A whole in its parts, (class in style.css, size), side by side with a gap between them.

    What they are and how much of it stands beside the bar.
    """
    whole, start, body = sum(size for _, size in parts), 0.0, ""
    for kind, size in parts:
        width = 100 * size / whole
        body += f'<path class="{kind}" d="M{start:.2f} 8h{width - min(0.4, width / 2):.2f}"/>'
        start += width
    return ('<svg class="share" aria-hidden="true" viewBox="0 0 100 16" '
            f'preserveAspectRatio="none">{body}</svg>')

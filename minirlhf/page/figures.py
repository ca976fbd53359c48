"""Charts as SVG text, drawn without a library: a line over steps, columns, bars.

They stand in the page as elements of their own.  So they take its colors (light, dark, print; the
classes are those of `style.css`), their numbers stay text, and a reader who does not see them gets
a sentence.
"""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from minirlhf.page.markup import escaped, number

WIDTH, HEIGHT = 440, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 24            # margins around the plot
MOST_POINTS = 220                                    # more would only make the line thicker

Point = tuple[float, float]


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


def frame(rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]]) -> str:
    """Horizontal grid lines with their labels at the left, and labels below."""
    return "".join(
        [f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
         f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
         for y, label in rows]
        + [f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 4}" '
           f'text-anchor="{"middle" if x > LEFT else "start"}">{label}</text>'
           for x, label in columns])


def svg(told: str, body: str) -> str:
    """A chart; `told` is what it shows, in words."""
    return (f'<svg class="chart" role="img" aria-label="{escaped(told)}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg>')


# --- charts --------------------------------------------------------------------------------------

def line_chart(values: Sequence[float], told: str, reference: tuple[float, str] | None = None,
               floor_at: float | None = None) -> str:
    """A curve over the steps of training, 0, 1, ….

    reference: a level to compare it with, and its name.  floor_at: values below are drawn there, so
    that a few wild ones at the start do not flatten the rest.
    """
    drawn = [value if floor_at is None else max(value, floor_at) for value in values]
    shown = drawn if reference is None else [*drawn, reference[0]]
    levels = ticks(min(shown), max(shown))
    last = max(1, len(values) - 1)
    steps = [step for step in ticks(0, last, whole=True) if step <= last]
    x = scale(0, last, LEFT, WIDTH - RIGHT)
    y = scale(levels[0], levels[-1], HEIGHT - BOTTOM, TOP)
    names = [f"step {step:.0f}" if step == 0 else f"{step:.0f}" for step in steps]
    body = frame(list(zip(map(y, levels), tick_labels(levels), strict=True)),
                 list(zip(map(x, steps), names, strict=True)))
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


# --- a picture that stands alone, for README.md --------------------------------------------------

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

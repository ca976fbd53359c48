"""Small pieces of HTML.  Whatever comes from data passes through `escaped` or `number`."""

import re
from collections.abc import Iterable
from html import escape
from math import isnan


def escaped(text: object) -> str:
    """Any value as text, safe between tags and inside quoted attributes."""
    return escape(str(text))


def typeset(text: str) -> str:
    """Our own plain text with a typographer's apostrophes, escaped."""
    return escaped(text.replace("'", "’"))


def minus(text: str) -> str:
    """Our own text with numbers in it, typeset, with real minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", typeset(text))


def number(x: float, form: str) -> str:
    """A number with a real minus sign; a dash where there is none (NaN: a mean over no rows)."""
    return "–" if isnan(x) else format(x, form).replace("-", "−")


def with_error(x: float, error: float, form: str = ".3f") -> str:
    """A number and its standard error."""
    return f"{number(x, form)} ± {number(error, form)}"


def section(key: str, title: str, *parts: str) -> str:
    """A section of the page that the table of contents can point to."""
    return f'<section id="{key}">\n<h2>{title}</h2>\n' + "\n".join(parts) + "\n</section>"


def quotation(sentence: str) -> str:
    """One sentence of the article, marked as such."""
    return f'<p class="quote"><q>{sentence}</q></p>'


def details(summary: str, body: str, kind: str = "more") -> str:
    """A part that opens on demand, without a script."""
    return f'<details class="{kind}"><summary>{summary}</summary>{body}</details>'


def table(kind: str, head: Iterable[str], rows: Iterable[str], caption: str) -> str:
    """A table.  head: HTML of the cells; rows: `table_row`s.  The caption is for those who hear
    the page read; a heading says it to those who see it."""
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (f'<table class="{kind}"><caption>{caption}</caption><thead><tr>{cells}</tr></thead>\n'
            "<tbody>\n" + "\n".join(rows) + "\n</tbody></table>")


def table_row(cells: Iterable[str], kind: str = "") -> str:
    """A row, named by its first cell."""
    first, *others = cells
    start = f'<tr class="{kind}">' if kind else "<tr>"
    return (f'{start}<th scope="row">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>")


def long_text(text: str, longest: int = 360) -> str:
    """A text as it is; of a long one the beginning, and the whole on demand."""
    if len(text) <= longest:
        return f'<div class="text">{escaped(text)}</div>'
    short = text[:longest - 60].rstrip()
    return details(f'<span class="short">{escaped(short)} […]</span>'
                   f'<span class="less">all {len(text)} characters</span>',
                   f'<div class="text">{escaped(text)}</div>', "long")

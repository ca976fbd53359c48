"""How often each model refuses, by kind of prompt."""

from collections.abc import Sequence

from minirlhf.page.markup import escaped, number, quotation, section, table, table_row
from minirlhf.page.results import KINDS, title
from minirlhf.refusals import refusal_rates, sort_of
from minirlhf.report import by_model

WAYS = {"safe": ("↓", "fewer is better"), "unsafe": ("↑", "more is better"), "unsorted": ("", "")}


def refusals_html(rows: Sequence[dict], titles: dict[str, str]) -> str:
    """A row a kind, a column a model: the share of replies that refuse, at least in part."""
    found = {name: refusal_rates(own) for name, own in by_model(rows).items()}
    kinds = dict.fromkeys(kind for own in found.values() for kind in own)
    lines = [kind_row(kind, [own.get(kind) for own in found.values()]) for kind in kinds]
    return section(
        "refusals", "Refusals by kind of prompt",
        quotation("Track refusal rates on normal prompts."),
        "<p>The share of replies that refuse, wholly or in part, judged by their wording alone; "
        "each prompt counts once. To say that one does not know is no refusal.</p>",
        '<div class="wide">' + table(
            "refusals", ["", *(title(name, titles) for name in found)], lines,
            "Shares of refusals by kind of prompt and model") + "</div>")


def kind_row(kind: str, rates: Sequence[dict | None]) -> str:
    sign, word = WAYS[sort_of(kind)]
    arrow = f' <abbr class="way" title="{word}">{sign}</abbr>' if sign else ""
    prompts = next(own["prompts"] for own in rates if own)
    return table_row([
        f"{escaped(KINDS.get(kind, kind))}{arrow}<small>{prompts} prompt{'s' * (prompts > 1)}"
        "</small>", *(rate_cell(own) for own in rates)])


def rate_cell(own: dict | None) -> str:
    if own is None:
        return "–"
    return f"{number(own['any'], '.0%')} <small>± {number(100 * own['any_error'], '.0f')}</small>"

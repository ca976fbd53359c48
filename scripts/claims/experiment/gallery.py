"""One page of all claims, to be looked at: docs/claims/index.html.

A tile a claim, then a section a claim: sentence, question, figure, verdict, and what models said
side by side, with the score that they got for it and what it is worth.  It is made of the results
that lie in a folder, in the manner of `minirlhf.page`: one file, no script, no network; the same
results give the same bytes.  Whatever comes from a result is escaped.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from experiment import pages
from experiment.afterwards import explanations
from experiment.claim import Experiment
from experiment.statistics import VERDICTS
from minirlhf.page import POLICY
from minirlhf.page.markup import details, escaped, long_text, table, table_row, typeset
from minirlhf.page.results import SILENCE

MARKS = {"confirmed": "✓", "refuted": "✗", "undecided": "?", pages.NOT_RUN: "·"}
WHERE = {"confirmed": "the whole interval lies above", "refuted": "the whole interval lies below",
         "undecided": "the interval holds"}
APART = 0.1                        # less between two scores, or two golds, is not pointed out


def gallery(experiments: Sequence[Experiment], folder: Path) -> str:
    """The whole page, as text."""
    results = pages.results_in(folder, experiments)
    body = "\n".join(section(one, results[one.number], folder / f"{one.name}.svg")
                     for one in experiments if one.number in results)
    style = (files("minirlhf.page").joinpath("style.css").read_text(encoding="utf-8")
             + Path(__file__).with_name("gallery.css").read_text(encoding="utf-8"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>The article as experiments: all claims</title>
<style>
{style}</style>
</head>
<body>
<header id="top">
<p class="eyebrow">minirlhf · reinforcement learning from human feedback, on a toy</p>
<h1>The article as experiments</h1>
{introduction(experiments, results)}
{overview(experiments, results)}
</header>
<main>
{body}
</main>
<footer><p>The world is a toy, and a verdict is about it: what holds here need not hold at scale,
nor the other way round. The predictions were not made blindly: the default run had been <a
href="../measured.md">measured</a> and <a href="../compared.md">compared</a> before the rules were
written. Sentences in quotation marks are from the article “Reinforcement Learning from Human
Feedback (RLHF)” by Amit Shekhar: <a href="../map.md">its map</a>. All claims <a href="README.md">in
one table</a>.</p></footer>
</body>
</html>
"""


# --- the top -------------------------------------------------------------------------------------

def introduction(experiments: Sequence[Experiment], results: Mapping[str, dict]) -> str:
    """What this is; and first of all, whether its numbers mean anything."""
    return quick_banner(results) + f"""\
<p class="headline">Sentences of an article on RLHF, put to the test: small language models go
through the whole of it in a toy world whose true preference, <em>gold</em>, is known.</p>
<p>The prediction and the rule that decides were written down before the result. An effect is
counted so that it is positive where the claim is right; what decides is its interval over seeds and
held-out prompts. {escaped(pages.so_far(results, len(experiments))).replace(" %", "&nbsp;%")}</p>"""


def quick_banner(results: Mapping[str, dict]) -> str:
    """That the numbers of quick runs mean nothing, where there are any."""
    quick = ", ".join(number for number, result in results.items() if result["quick"])
    return (f'<p class="banner" role="note"><strong>Quick runs: {quick}.</strong> They only show '
            "that everything works: their numbers and verdicts mean nothing.</p>\n" * bool(quick))


def overview(experiments: Sequence[Experiment], results: Mapping[str, dict]) -> str:
    """How often each verdict was given, a tile for every claim, and where replies are shown."""
    given = [results[one.number]["verdict"] if one.number in results else pages.NOT_RUN
             for one in experiments]
    counts = "".join(f'<li class="{kind(verdict)}"><b>{given.count(verdict)}</b> {badge(verdict)}'
                     "</li>" for verdict in dict.fromkeys((*VERDICTS, *given)))
    tiles = "\n".join(map(tile, experiments, given))
    said = ", ".join(f'<a href="#said-{number}">{number}</a>' for number, result in results.items()
                     if result.get("examples"))
    return (f'<ul class="counts" aria-label="Verdicts">{counts}</ul>\n'
            f'<nav aria-label="All claims"><ol class="tiles">\n{tiles}\n</ol></nav>'
            + f'\n<p class="small">What models said, side by side: claims {said}.</p>' * bool(said))


def tile(experiment: Experiment, verdict: str) -> str:
    """A claim in the overview: a link to its section, if it has one."""
    inner = (f'<span class="number">{experiment.number}</span>'
             f'<span class="title">{typeset(experiment.claim.title)}</span>{badge(verdict)}')
    return f'<li class="tile {kind(verdict)}">' + (
        f"<span>{inner}</span></li>" if verdict == pages.NOT_RUN else
        f'<a href="#claim-{experiment.number}">{inner}</a></li>')


def badge(verdict: str) -> str:
    """A verdict by mark, word and color."""
    return (f'<span class="badge {kind(verdict)}"><span aria-hidden="true">'
            f"{MARKS[verdict]} </span>{escaped(verdict)}</span>")


def kind(verdict: str) -> str:
    """Its class in the style sheet."""
    return escaped(verdict).replace(" ", "-")


# --- a claim -------------------------------------------------------------------------------------

def section(experiment: Experiment, result: dict, figure: Path) -> str:
    """All of one claim.  Left: words and numbers; right: the figure; below: more, what was said."""
    surprises = len(list(pages.surprising(result))) or "nothing"
    return f"""\
<section id="claim-{experiment.number}" class="claim {kind(result['verdict'])}">
<div class="top"><p class="eyebrow">Claim {experiment.number}</p>
<h2>{typeset(result['title'])}</h2>
<p class="verdict">{badge(result['verdict'])} on {len(result['seeds'])} seeds\
{', <b class="worse">a quick run: it means nothing</b>' * result['quick']}</p></div>
<div class="words">
<blockquote><p>“{typeset(result['sentence'])}”</p></blockquote>
<p class="question">{typeset(experiment.claim.question)}</p>
</div>
{figure_html(result, figure)}
<div class="words">
<h3>What decides</h3>
{effects_html(result, deciding=True)}
<h3>What was predicted</h3>
<p>{typeset(experiment.claim.prediction)}</p>
{afterwards_html(experiment.number)}
</div>
<div class="beside">
{details("How it was measured", measured_html(experiment, result))}
{details(f"What surprised: {surprises}", surprises_html(result))}
</div>
{examples_html(experiment.number, result.get("examples", []))}
<p class="up"><a href="#top">↑ all claims</a></p>
</section>"""


def figure_html(result: dict, path: Path) -> str:
    """The figure as an image of its own, so that its ids and styles are nobody else's."""
    if not path.exists():
        return ""
    source = f"data:image/svg+xml;base64,{b64encode(path.read_bytes()).decode('ascii')}"
    return f'<figure class="drawn"><img alt="{escaped(pages.alt(result))}" src="{source}"></figure>'


def effects_html(result: dict, *, deciding: bool) -> str:
    """The effects that decide, or those that do not; empty where there are none."""
    items = "".join(effect_html(name, effect) for name, effect in result["effects"].items()
                    if (effect["verdict"] is not None) == deciding)
    return f'<ul class="effects">{items}</ul>' if items else ""


def effect_html(name: str, effect: dict) -> str:
    """An effect in numbers and words."""
    test, verdict = effect["test"], effect["verdict"]
    why = ("shown only: it decides nothing" if verdict is None else
           f"{badge(verdict)} {WHERE[verdict]} {pages.number(effect['smallest'], '+z.2f')}, the "
           "smallest of interest")
    return (f'<li><div><b>{escaped(name)}</b> {escaped(effect["what"])}</div>'
            f'<div class="found"><strong>{pages.number(test["effect"])}</strong>, interval '
            f"{pages.span(test['interval'])}</div>"
            f'<div class="why">{why}</div></li>')


def measured_html(experiment: Experiment, result: dict) -> str:
    """What a reader who doubts wants to know."""
    head, rows = ("run", "goes to", "in place of the default"), (
        table_row(map(escaped, (name, run["stage"], pages.changes(run))))
        for name, run in result["runs"].items())
    return f"""\
<p>{typeset(experiment.claim.measure)}</p>
<p>{inline(pages.rule(result))}{escaped(pages.known(experiment.claim))}</p>
{effects_html(result, deciding=False)}
<div class="wide">{table("facts runs", head, rows, "The runs of this claim")}</div>
<p class="small">Prompts: {escaped(pages.prompts(result))}. Computed with
{escaped(pages.versions(result))}. <a href="{experiment.name}.md">The page of this claim</a>,
<a href="{experiment.name}.json">its numbers</a>.</p>"""


def afterwards_html(number: str) -> str:
    """What people make of it, if anybody has written it down; said to be no prediction."""
    text = explanations().get(number)
    return ("<h3>What we make of it</h3>\n"
            f"<p>{inline(' '.join(text.split()))} <em>(Written after the numbers.)</em></p>"
            if text else "")


def surprises_html(result: dict) -> str:
    return "".join(f'<p class="surprise">{inline(line.removeprefix("- "))}</p>'
                   for line in pages.surprises(result).splitlines())


def inline(markdown: str) -> str:
    """*emphasis* and `code` of a line of Markdown, escaped."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped(markdown))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


# --- what was said -------------------------------------------------------------------------------

def examples_html(number: str, examples: Sequence[dict]) -> str:
    """Replies to the same prompts side by side, if there are; all bars of a claim on one scale."""
    if not examples:
        return ""
    most = max(abs(reply[key]) for one in examples for reply in one["replies"]
               for key in ("score", "gold")) or 1.0
    cards = "\n".join(example_html(one, most) for one in examples)
    return f"""\
<div class="said" id="said-{number}"><h3>What they said, and what it scored</h3>
<p class="small">Replies of the first seed, to the test prompts on which score and gold part most:
these are chosen, and no fair sample.</p>
<p class="keys"><span class="key">score: by the reward model of its run</span>
<span class="key gold">gold: what it is worth</span></p>
{cards}</div>"""


def example_html(example: dict, most: float) -> str:
    said = example["replies"]
    cells = "".join(reply_html(reply, fooled_beside(reply, said), most) for reply in said)
    return (f'<article class="example"><div class="prompt">{long_text(example["prompt"])}</div>'
            f'<div class="replies">{cells}</div></article>')


def fooled_beside(reply: dict, replies: Sequence[dict]) -> str | None:
    """Who said something that scores less and is worth more; of several, whose is worth most."""
    better = [other for other in replies if other["score"] < reply["score"] - APART
              and other["gold"] > reply["gold"] + APART]
    return max(better, key=lambda other: other["gold"])["by"] if better else None


def reply_html(reply: dict, than: str | None, most: float) -> str:
    """A card: what was said, two bars, and whether the score is a lie."""
    told = f'<p class="lie">scores more than {escaped(than)}, is worth less</p>' if than else ""
    return (f'<div class="reply{" fooled" if than else ""}"><h4>{escaped(reply["by"])}</h4>'
            f"{long_text(reply['reply']) if reply['reply'].strip() else SILENCE}"
            f'{told}{bar("score", reply["score"], most)}{bar("gold", reply["gold"], most)}</div>')


def bar(name: str, value: float, most: float) -> str:
    """A number, and a bar from 0 in the middle; ±most are its ends."""
    width = 50 * min(1.0, abs(value) / most)
    left = 50 - width if value < 0 else 50
    return (f'<p class="bar {name}"><span>{name}</span><span class="rail"><span '
            f'style="left:{left:.1f}%;width:{width:.1f}%"></span></span>'
            f"<b>{pages.number(value, '+z.2f')}</b></p>")

"""What a run reached: the headline, the table, the replies, the reward model's accuracy, people."""

from collections.abc import Sequence

from minirlhf.evaluation import change
from minirlhf.findings import best_text
from minirlhf.page.figures import share_bar
from minirlhf.page.markup import (
    details,
    escaped,
    long_text,
    minus,
    number,
    quotation,
    section,
    table,
    table_row,
    typeset,
    with_error,
)
from minirlhf.report import BETTER, LINES, NO_GOLD, by_length, by_model, comparison


def title(model: str, titles: dict[str, str]) -> str:
    """What a model is called on the page.  titles: those of the run, `findings.titles_of`."""
    return escaped(titles.get(model, model))


# --- the headline and the table ------------------------------------------------------------------

def on_the_way(found: dict[str, dict[str, float]]) -> list[str]:
    """The models that led to the last policy, without baselines, and without its best copy."""
    return [name for name in found if name in ("base", "sft", "policy")
            or name.startswith("round-")]


def headline(found: dict[str, dict[str, float]], titles: dict[str, str]) -> str:
    """What was reached, in a sentence, or what training raised where the truth is not known."""
    sft, policy = found["sft"], found["policy"]
    if "gold" not in policy:
        return (f"The reward model’s score went from {number(sft['score'], '+z.2f')} to "
                f"{number(policy['score'], '+z.2f')} at a KL of {number(policy['kl'], 'z.1f')} "
                "nats a reply.")
    way = on_the_way(found)
    worth = ", ".join(f"{number(found[name]['gold'], '+z.2f')} from the {title(name, titles)} model"
                      for name in way)
    beside = ", ".join(f"{title(name, titles)} {number(row['gold'], '+z.2f')}"
                       for name, row in found.items() if name not in way)
    return (f"By the toy world’s hidden truth, replies to the test prompts are worth {worth}. "
            f"{title('policy', titles)}’s reply beats SFT’s in "
            f"{number(policy['win_rate'], '.0%')} of cases, ties counting half."
            + f" Beside them: {beside}." * bool(beside))


ENOUGH = 30
"""prompts from which a standard error says how far to trust a mean; of four it may well be 0"""


def learned(accuracy: dict[str, dict]) -> str:
    """Whether a reward model of people's choices has been shown to have learned something."""
    if "longer" not in accuracy.get("all", {}):
        return ""
    row = accuracy["all"]
    prompts = row.get("prompts", row["pairs"])
    beaten = row["accuracy"] - 2 * row["standard_error"] > max(0.5, row["longer"], row["shorter"])
    verdict = (f"Of so few prompts nothing can be concluded: {ENOUGH} are the least."
               if prompts < ENOUGH else "So the reward model has " + (
                   "been shown to have learned something" if beaten else
                   "not been shown to have learned anything") + " else.")
    return (f"<p><strong>In this run</strong> the accuracy on {prompts} held-out prompts is "
            f"{with_error(row['accuracy'], row['standard_error'])}, beside "
            f"{row['longer']:.3f} for the longer and {row['shorter']:.3f} for the shorter reply. "
            f"{verdict}</p>")


def headline_html(rows: Sequence[dict], accuracy: dict[str, dict],
                  titles: dict[str, str]) -> str:
    """The run in a sentence or two, and the number that matters of each model, large."""
    found = comparison(rows)
    known = "gold" in found["sft"]
    label, form, _ = LINES["gold" if known else "score"]
    steps = [f'<div class="{escaped(name)}"><dt>{title(name, titles)}</dt>'
             f"<dd>{number(found[name]['gold' if known else 'score'], form)}</dd></div>"
             for name in on_the_way(found)]
    if known:
        steps.append(f'<div class="apart"><dt>{title("policy", titles)} wins over SFT</dt>'
                     f'<dd>{number(found["policy"]["win_rate"], ".0%")}</dd></div>')
    return (f'<p class="headline">{headline(found, titles)}</p>\n<figure class="steps">'
            f'<dl>{"".join(steps)}</dl><figcaption>{escaped(label)}, mean over test prompts'
            "</figcaption></figure>"
            + f'<div class="caution"><p>{typeset(NO_GOLD)}</p>{learned(accuracy)}</div>'
            * (not known))


def table_html(rows: Sequence[dict], titles: dict[str, str], best: dict | None = None) -> str:
    """The comparison of the models: a row a number, with its meaning and its good direction.

    best: at which step policy-best was, `findings.read_best`.
    """
    models, found = by_model(rows), comparison(rows)
    lines = [line_html(key, found, change(models["policy"], models["sft"], key))
             for key in LINES if key in found["sft"]]
    return section(
        "result", "Before and after", quotation("A high Reward Model score is not the goal."),
        "<p>Every model answers the same test prompts, which no stage was trained on; the base "
        "model is asked in plain text, for it has never seen a chat."
        + (" ↑ and ↓ say which way is better. A change is colored where it exceeds two standard "
           "errors over prompts; a smaller one may be chance." if "gold" in found["sft"] else "")
        + " One run is one draw: another seed gives other numbers.</p>",
        f"<p>{minus(best_text(best, titles))}. {title('policy', titles)} is the policy after the "
        "last step.</p>" if best is not None and "policy-best" in found else "",
        '<div class="wide">' + table(
            "comparison" + " many" * (len(found) > 3),
            ["", *(title(name, titles) for name in found), f"{title('policy', titles)} − SFT"],
            lines, "The models’ replies to the test prompts in numbers") + "</div>")


def line_html(key: str, found: dict[str, dict[str, float]], moved: tuple[float, float]) -> str:
    label, form, why = LINES[key]
    way, (difference, error) = BETTER.get(key, 0), moved
    sign, word = {1: ("↑", "higher is better"), -1: ("↓", "lower is better"), 0: ("", "")}[way]
    arrow = f' <abbr class="way" title="{word}">{sign}</abbr>' if way else ""
    name = (f'<span class="{"part" if label.startswith("·") else "whole"}">'
            f'{escaped(label.removeprefix("· "))}{arrow}</span><small>{typeset(why)}</small>')
    cell = (f"{number(100 * difference, '+z.0f')} pts" if "%" in form
            else number(difference, "+z" + form.lstrip("+z")))
    if way and abs(difference) > 2 * error and cell.strip("+−0. pts"):   # no color on a zero
        verdict = "better" if way * difference > 0 else "worse"
        cell = f'<span class="{verdict}">{cell}<span class="unseen"> {verdict}</span></span>'
    return table_row([name, *(number(row[key], form) for row in found.values()), cell])


# --- the replies ---------------------------------------------------------------------------------

KINDS = {"color": "Facts: colors", "live": "Facts: where animals live",
         "eat": "Facts: what animals eat", "make": "How to make something",
         "scary": "Harmless requests that sound harmful", "harm": "Harmful requests",
         "unknown": "Questions that nobody can know the answer to", "human": "People’s prompts"}
SILENCE = '<div class="text silent">(says nothing)</div>'
SHOWN = 2                                   # prompts of a kind at once; as many more on demand


def spread(items: Sequence, most: int) -> list:
    """At most `most` items, taken at equal distances: neighbours are often wordings of one."""
    most = min(most, len(items))
    return [items[i * len(items) // most] for i in range(most)]


def replies_html(rows: Sequence[dict], titles: dict[str, str]) -> str:
    """The same prompts, answered by each model: of every kind a few, chosen by place alone."""
    prompts: dict[str, dict[str, dict[str, dict]]] = {}
    for row in rows:
        models = prompts.setdefault(row["kind"], {}).setdefault(row["prompt"], {})
        models.setdefault(row["model"], row)                         # the first of several replies
    shown = SHOWN if len(prompts) > 1 else 3 * SHOWN
    parts = []
    for kind, answered in prompts.items():
        chosen = [example_html(prompt, answered[prompt], titles)
                  for prompt in spread(list(answered), 2 * shown)]
        parts.append(f"<h3>{escaped(KINDS.get(kind, kind))}</h3>" + "".join(chosen[::2]))
        if chosen[1::2]:
            parts.append(details(f"{len(chosen[1::2])} more", "".join(chosen[1::2])))
    return section(
        "replies", "The same prompts, answered by each model",
        "<p>Test prompts at equal distances, and each model’s first reply to them: nothing is "
        "chosen by how it turned out. The score is the reward model’s"
        + (", gold the toy world’s hidden truth" if "gold" in rows[0] else "") + ".</p>", *parts)


def example_html(prompt: str, replies: dict[str, dict], titles: dict[str, str]) -> str:
    cells = "".join(
        f'<div class="reply {escaped(name)}"><h4>{title(name, titles)}</h4>'
        f"{long_text(row['reply']) if row['reply'].strip() else SILENCE}{marks_html(row)}</div>"
        for name, row in replies.items())
    return (f'<article class="example"><div class="prompt">{long_text(prompt)}</div>'
            f'<div class="replies">{cells}</div></article>')


def marks_html(row: dict) -> str:
    marks = [f"{key} <b>{number(row[key], '+z.2f')}</b>" for key in ("gold", "score")
             if key in row]
    marks += ["cut off"] * (not row.get("ended", True))
    return f'<p class="marks">{" · ".join(marks)}</p>'


# --- the reward model's accuracy -----------------------------------------------------------------

def accuracy_html(accuracy: dict[str, dict], rounds: int = 1) -> str:
    """The held-out accuracy by kind of prompt, as numbers and bars; empty without such pairs.

    Of several rounds it is the last one's reward model, on that round's pairs.
    """
    if not accuracy:
        return ""
    best = any("best" in row for row in accuracy.values())
    rows = [accuracy_row(kind, row, best) for kind, row in accuracy.items()]
    rows += [table_row([label, number(right, ".3f"), share_bar(right, 0.0), *["–"] * best, ""],
                       "baseline") for label, right in by_length(accuracy).items()]
    return section(
        "accuracy", "The reward model on held-out pairs",
        quotation("The Reward Model is just a model."),
        "<p>" + f"The reward model of round {rounds}, on that round’s pairs. " * (rounds > 1)
        + "How often the reply that was chosen scores higher, in pairs it was not trained on; "
        "each prompt counts once. The dashed line is a coin’s one half, the thin line through the "
        "end of a bar is ± two standard errors."
        + (" The upright mark is the best possible: what a perfect model of the labelers would "
           "reach, given how often they contradict themselves." if best else "")
        + " A pale bar has not been shown to beat the coin.</p>",
        table("accuracy", ["prompts", "accuracy ± s.e.", "", *["best"] * best, "pairs"], rows,
              "Held-out accuracy of the reward model"))


def accuracy_row(kind: str, row: dict, best: bool) -> str:
    share, error = row["accuracy"], row["standard_error"]
    cells = [escaped("All prompts" if kind == "all" else KINDS.get(kind, kind)),
             with_error(share, error),
             share_bar(share, error, row.get("best")),
             *[number(row["best"], ".3f") if "best" in row else "–"] * best, str(row["pairs"])]
    return table_row(cells, "" if share - 2 * error > 0.5 else "weak")


# --- people's judgement --------------------------------------------------------------------------

def people_html(summaries: Sequence[dict], titles: dict[str, str]) -> str:
    """What people said who compared replies of two models, blind; see `labels.summary`."""
    if not summaries:
        return ""
    return section("people", "What people say", quotation("The goal is real human preference."),
                   *(comparison_html(summary, titles) for summary in summaries))


def comparison_html(summary: dict, titles: dict[str, str]) -> str:
    """One comparison of two models: the verdict, how far people agreed, and the counts."""
    old, new = (title(name, titles) for name in summary["models"])
    share = ("Nobody has judged a pair yet." if summary["win_rate"] is None else
             f"People preferred {new}’s reply to {old}’s in {number(summary['win_rate'], '.0%')} "
             f"of cases, ties counting half; the 95 % interval goes from "
             f"{number(summary['low'], '.0%')} to {number(summary['high'], '.0%')}.")
    agreement = ("No pair was judged by two people, so nothing is known of how far they agree."
                 if summary["agreement"] is None else
                 f"Where several people judged one pair, they agreed in "
                 f"{number(summary['agreement'], '.0%')} of {summary['agreement_pairs']} cases.")
    held_out = ("These prompts were held out from all training." if summary["split"] != "train"
                else "These are training prompts: the models may do better on them than on others.")
    counts = {f"pairs, {summary['split']} prompts": summary["pairs"],
              "answers": summary["answers"], "ties among them": summary["ties"],
              "skipped": summary["skips"],
              **{f"by {name}": ", ".join(f"{n} {answer}" for answer, n in said.items())
                 for name, said in summary["labelers"].items()},
              "guidelines": f"version {', '.join(summary['guidelines'])}"}
    return (f'<p class="headline">{share}</p><p>{agreement} {held_out}</p>'
            + table("facts", ("", ""), (table_row(map(escaped, row)) for row in counts.items()),
                    "What was counted"))

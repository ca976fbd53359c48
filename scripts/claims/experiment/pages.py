"""The page of a claim, and the index of all of them: docs/claims/."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiment.afterwards import explanations
from experiment.claim import Claim, Experiment
from experiment.statistics import VERDICTS, by_chance, decide
from minirlhf.files import read_object

NOT_RUN = "not run yet"


def number(x: float, form: str = "+z.3f") -> str:
    return format(x, form).replace("-", "−")


def span(interval: Sequence[float]) -> str:
    low, high = map(number, interval)
    return f"{low} … {high}"


# --- the page of one -----------------------------------------------------------------------------

def page(experiment: Experiment, result: dict) -> str:
    """The page; every number in it is computed, every sentence stands here or in the claim file."""
    claim = experiment.claim
    quick = ("**A quick run, to see that everything works: its numbers mean nothing.**\n\n"
             if result["quick"] else "")
    return f"""\
# {result['claim']} {claim.title}

{quick}> “{claim.sentence}”

So [the article](../map.md). {claim.question}

**{result['verdict'].capitalize()}**, on {len(result['seeds'])} seeds.

![{alt(result)}]({experiment.name}.svg)

{table(result)}
## Prediction and rule

{claim.prediction}

{rule(result)} Prediction and rule were written down before the numbers, in \
`scripts/claims/{experiment.path.name}`.{known(claim)}

## How it was measured

{claim.measure}

{runs(result)}
Prompts: {prompts(result)}. Computed with {versions(result)}. The code that decides what a run \
ends with has the digest `{result['sources'][:12]}`. Made by `minirlhf claims {result['claim']} \
--seeds {len(result['seeds'])}{' --quick' * result['quick']}`; the numbers are in \
[{experiment.name}.json]({experiment.name}.json), [all claims](README.md) in one table.

## What surprised

{surprises(result)}{afterwards(result)}"""


def afterwards(result: dict) -> str:
    """What people make of it, if anybody has written it down."""
    text = explanations().get(result["claim"], "")
    return f"\n## What we make of it\n\nWritten after the numbers.\n\n{text}\n" if text else ""


def known(claim: Claim) -> str:
    """What was no longer unknown when the rule was written."""
    return f" Known by then: {claim.known}." if claim.known else ""


def alt(result: dict) -> str:
    """The figure in words."""
    told = [f"{name} {number(effect['test']['effect'])} ({span(effect['test']['interval'])})"
            for name, effect in result["effects"].items()]
    return f"{result['verdict']}: {'; '.join(told)}"


def table(result: dict) -> str:
    lines = ["| effect | test prompts | 95 % interval | smallest of interest | verdict | "
             "training prompts | test prompts by seed |", "|---" * 7 + "|"]
    for name, effect in result["effects"].items():
        test, train, smallest = effect["test"], effect["train"], effect["smallest"]
        lines.append(
            f"| *{name}*: {effect['what']} | {number(test['effect'])} | {span(test['interval'])} | "
            + (" | shown only | " if smallest is None else
               f"{number(smallest)} | **{effect['verdict']}** | ")
            + f"{number(train['effect'])} ({span(train['interval'])}) | "
            + " ".join(number(x, "+z.2f") for x in test["by_seed"]) + " |")
    return "\n".join(lines) + "\n"


def rule(result: dict) -> str:
    """What decides, in words."""
    deciding = {name: effect["smallest"] for name, effect in result["effects"].items()
                if effect["smallest"] is not None}
    told = " and ".join(f"*{name}* ({number(smallest, '+z.2f')})"
                        for name, smallest in deciding.items())
    of = "that of one of them" if len(deciding) > 1 else "it"
    return (f"Confirmed if the whole 95 % interval on test prompts lies above the smallest effect "
            f"of interest, for {told}; refuted if {of} lies wholly below; else undecided. The "
            "interval is a bootstrap over seeds, and over prompts within seeds, with expanded "
            "percentiles (`scripts/claims/experiment/statistics.py`).")


def runs(result: dict) -> str:
    lines = ["| run | goes to | in place of the default |", "|---|---|---|"]
    for name, run in result["runs"].items():
        lines.append(f"| {name} | {run['stage']} | {changes(run)} |")
    return "\n".join(lines) + "\n"


def changes(run: dict) -> str:
    """In what a run is not the default run."""
    changed, judge = (", ".join(f"{key} = {value}" for key, value in (settings or {}).items())
                      for settings in (run["changed"], run.get("judge")))
    told = changed or "nothing"
    return f"{told}, but the reward model of a run with {judge}" if judge else told


def prompts(result: dict) -> str:
    """How many there were to be drawn again."""
    if max(map(max, result["prompts"].values())) == 1:
        return "none, but one number a seed"
    told = []
    for split, counts in result["prompts"].items():
        few, many = min(counts), max(counts)
        told.append(f"{few if few == many else f'{few} to {many}'} of the {split} split")
    return ", ".join(told) + ", a seed"


def versions(result: dict) -> str:
    known = result["versions"]
    return ", ".join(f"{name} {known[key]}" if name else known[key] for key, name in (
        ("minirlhf", "minirlhf"), ("numpy", "NumPy"), ("python", "Python"), ("processor", ""))
        if key in known)


def surprises(result: dict) -> str:
    found = list(surprising(result))
    return "\n".join(f"- {line}" for line in found) + "\n" if found else (
        "Nothing, by rules that look for it: every seed lies on the side of the mean, test and "
        "training prompts agree, and no number that is shown beside has the other sign.\n")


def surprising(result: dict) -> Iterator[str]:
    """What a reader might not expect, by fixed rules."""
    for name, effect in result["effects"].items():
        test, train, smallest = effect["test"], effect["train"], effect["smallest"] or 0.0
        apart = [f"{seed} ({number(x)})" for seed, x in zip(
            result["seeds"], test["by_seed"], strict=True)
            if (x > smallest) != (test["effect"] > smallest)]
        if apart:
            yield (f"*{name}*: seed {', '.join(apart)} is on the other side of {number(smallest)} "
                   f"than the mean, {number(test['effect'])}.")
        if train["interval"][1] < test["interval"][0] or test["interval"][1] < train["interval"][0]:
            yield (f"*{name}*: on training prompts it is {number(train['effect'])}, on test "
                   f"prompts {number(test['effect'])}, and the intervals do not meet.")
        other = decide(*train["interval"], smallest)
        if effect["verdict"] not in (None, other):
            yield (f"*{name}*: {effect['verdict']} on test prompts; by training prompts it would "
                   f"be {other}.")
        if effect["verdict"] is None and test["interval"][1] < 0:
            yield f"*{name}*, which decides nothing, is below 0: {span(test['interval'])}."


# --- the index -----------------------------------------------------------------------------------

def index(experiments: Sequence[Experiment], folder: Path) -> str:
    """The table of all claims, from the results that lie in a folder."""
    results = results_in(folder, experiments)
    lines = ["| | claim | verdict | effect | 95 % interval | smallest of interest | seeds |",
             "|---" * 7 + "|", *(line(one, results.get(one.number)) for one in experiments)]
    return f"""\
# The article as experiments

Each claim of [the article](../map.md) that can be tried on the toy becomes an experiment, whose
prediction and rule are fixed in a file of `scripts/claims/` before it is run. Written by

    pip install -e '.[claims]'
    minirlhf claims                 # all of them; minirlhf claims 01 15: these; --quick: as a test
    minirlhf claims --pages         # nothing is measured: the pages of these results again

This is the table; [index.html](index.html) is all of it on one page, with the figures and what the
models said.

An effect is counted so that it is positive where the claim is right. A claim is *confirmed* if the
whole interval of each of its effects, over seeds and held-out prompts, lies above the smallest
effect of interest, *refuted* if that of one lies wholly below, else *undecided*.

{so_far(results, len(experiments))}

{chr(10).join(lines)}

The world is a toy, and a verdict is about it: what holds here need not hold at scale, nor the
other way round. The labelers' faults are built in; what is tried is whether they reach the policy.
The predictions were not made blindly: the default run had been [measured](../measured.md) and
[compared](../compared.md) before the rules were written, and where more was known the page says so.
"""


def results_in(folder: Path, experiments: Sequence[Experiment]) -> dict[str, dict]:
    """{number: result} of the claims whose results lie in a folder."""
    return {one.number: read_object(folder / f"{one.name}.json") for one in experiments
            if (folder / f"{one.name}.json").exists()}


def so_far(results: dict[str, dict], there_are: int) -> str:
    """What the verdicts add up to, and how many of them chance alone would give."""
    verdicts = [result["verdict"] for result in results.values()]
    told = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    return ((f"Of {there_are} claims {len(verdicts)} have been run: {told}." if verdicts else
             f"None of the {there_are} claims has been run yet.")
            + f" If none of them were true, chance alone would confirm {by_chance(there_are):.2f} "
            f"of {there_are} on average, at most"
            + f" ({by_chance(len(verdicts)):.2f} of those run)" * (0 < len(verdicts) < there_are)
            + ": an interval of 95 % lies above the truth in 2.5 % of cases.")


def line(experiment: Experiment, result: dict | None) -> str:
    """A claim's row; of an experiment without a result it says so, and shows the file."""
    title = experiment.claim.title
    if result is None:
        script = f"../../scripts/claims/{experiment.path.name}"
        return f"| {experiment.number} | [{title}]({script}) | {NOT_RUN} | | | | |"
    deciding = {name: effect for name, effect in result["effects"].items() if effect["verdict"]}
    cells = [
        [f"{name} {number(effect['test']['effect'])}" for name, effect in deciding.items()],
        [span(effect["test"]["interval"]) for effect in deciding.values()],
        [number(effect["smallest"], "+z.2f") for effect in deciding.values()]]
    return (f"| {experiment.number} | [{title}]({experiment.name}.md) | **{result['verdict']}** | "
            + " | ".join("<br>".join(cell) for cell in cells) + f" | {len(result['seeds'])} |")

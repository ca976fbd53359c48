"""The text of each page: what an axis changes, its answers, who gives which, and numbers."""

import inspect
from collections.abc import Callable
from functools import partial
from textwrap import fill
from typing import Any

import numpy as np
from convention_pages.changes import CHANGES, RELEASES
from convention_pages.examples import (
    Example,
    examples,
    files_of,
    names_that_differ,
    untold,
)

from minirlhf.conformance.presets import PRESETS, known_in_part
from minirlhf.conformance.variants import ANSWERS

HERE = "minirlhf.conformance.variants"


def page(axis: str) -> str:
    """docs/conventions/AXIS.md"""
    files = files_of(axis)
    parts = [f"# `{axis}`: {about(axis)}", fill(CHANGES[axis], 99)]
    for file in files:
        equation = "\n".join(f"    {line}" for line in file.equation)
        parts.append(f"Asked of [`{file.function}`]({vectors_link(file.function)}):\n\n{equation}")
    parts += ["## The answers", answers_table(axis)]
    parts += [fill(RELEASES.get(axis, ""), 99)] * (axis in RELEASES)
    shown = examples(axis)
    if shown:
        parts += ["## In numbers", numbers_note(axis, shown), *map(example_text, shown)]
        alike = "; ".join(f"`{one}` and `{other}`" for one, other in untold(axis, shown))
        parts += [fill(f"Alike in all tests: {alike}.", 99)] * bool(alike)
    silent = silence(axis)
    if silent:
        parts += ["## Without an answer", silent]
    parts.append(f"The functions of the answers: {code_links(axis)}.  "
                 "[All conventions](README.md)")
    return "\n\n".join(parts) + "\n"


def about(axis: str) -> str:
    """The question, as the first file that asks it says it."""
    return next(a.about for file in files_of(axis) for a in file.axes if a.name == axis)


def means(axis: str, answer: Any) -> str:
    return next(a.values[answer] for file in files_of(axis) for a in file.axes
                if a.name == axis and answer in a.values)


def who(axis: str, answer: Any) -> str:
    """The presets with an answer, and the systems of the vectors that have no preset."""
    names = [name for name, one in PRESETS.items() if one.answer(axis) == answer]
    return ", ".join(names + [name for name, answers in known_in_part().items()
                              if axis in answers and answers[axis] == answer])


def answers_table(axis: str) -> str:
    rows = ["| answer | what it does | as a formula | who |", "|---|---|---|---|"]
    for answer, function in ANSWERS[axis].items():
        rows.append(f"| `{answer}` | {cell(means(axis, answer))} | {cell(told(function))} | "
                    f"{who(axis, answer)} |")
    return "\n".join(rows)


def told(function: Callable) -> str:
    """The formula in a function's docstring: its first sentence, and an equation if there is one.

    Nothing of the core's own functions, whose docstrings are pages.
    """
    bound = function.keywords if isinstance(function, partial) else {}
    inner = function.func if isinstance(function, partial) else function
    if not inner.__module__.startswith(HERE):
        return "" if bound else f"`{inner.__module__}.{inner.__name__}`"
    paragraphs = inspect.cleandoc(inner.__doc__).split("\n\n")
    if any(callable(x) for x in bound.values()):
        return ""                                       # what it does is said already
    sentences = paragraphs[0].replace(".\n", ".  ").replace("\n", " ").split(".  ")
    first = sentences[0].rstrip(".")
    equations = [" ".join(p.split()) for p in paragraphs[1:] if "←" in p]
    numbers = [f"{name} = {x:g}" for name, x in bound.items() if isinstance(x, int | float)]
    return "; ".join([first, *equations, *numbers])


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def silence(axis: str) -> str:
    """Which presets have no answer, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, one in PRESETS.items():
        reason = one.why_not(axis)
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    return "\n".join(f"- {', '.join(names)}: {reason}" for reason, names in reasons.items())


# --- examples ------------------------------------------------------------------------------------

def numbers_note(axis: str, shown: list[Example]) -> str:
    others = [name for name in shown[0].file.groups[0].parameters if name != axis]
    held = "  What is not said otherwise has the answer of the file's first group."
    return fill(f"Inputs of {'tests' if len(shown) > 1 else 'a test'} from the vectors, and what "
                f"comes out under each answer.{held * bool(others)}", 99)


def example_text(example: Example) -> str:
    """A block of inputs, then a line an answer."""
    width = max(map(len, example.test.inputs))
    inputs = "\n".join(f"{name:{width}}  {written(x)}" for name, x in example.test.inputs.items())
    names = columns(example)
    digits = enough_digits(example, names)
    head = "| answer | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|"
    rows = []
    for answer, found in example.outcomes.items():
        cells = ["refused" if "refused" in found else written(found[name], digits)
                 for name in names]
        rows.append(f"| `{answer}` | " + " | ".join(cells) + " |")
    held = "".join(f", with `{axis}` {answer}" for axis, answer in example.held.items())
    return (f"`{example.test.id}`{held}\n\n```text\n{inputs}\n```\n\n{head}\n" + "\n".join(rows))


def columns(example: Example) -> list[str]:
    """The results, and those gradients without which two answers would look alike."""
    able = [found for found in example.outcomes.values() if "refused" not in found]
    answers = list(example.outcomes)
    differing = [names_that_differ(example, (one, other)) for i, one in enumerate(answers)
                 for other in answers[:i]]
    needed = {name for names in differing if names and all(n.startswith("∂") for n in names)
              for name in names}
    return [name for name in able[0] if not name.startswith("∂") or name in needed]


def enough_digits(example: Example, names: list[str]) -> int:
    """The fewest in which answers that differ there look so: at least 5."""
    able = [answer for answer, found in example.outcomes.items() if "refused" not in found]
    for digits in range(5, 12, 2):
        texts = {answer: str([written(example.outcomes[answer][name], digits) for name in names])
                 for answer in able}
        if all(texts[one] != texts[other] for i, one in enumerate(able) for other in able[:i]
               if set(names_that_differ(example, (one, other))) & set(names)):
            return digits
    return digits


def written(x: Any, digits: int = 5) -> str:
    """Numbers with so many digits, True and False as 1 and 0, arrays as nested lists."""
    if isinstance(x, dict):
        return "; ".join(f"{name} {written(inner, digits)}" for name, inner in x.items())
    if isinstance(x, str):
        return x
    x = np.asarray(x)
    if x.ndim:
        return "[" + ", ".join(written(inner, digits) for inner in x) + "]"
    if x.dtype.kind in "bi":
        return str(int(x))
    return f"{float(x) + 0.0:.{digits}g}"                    # -0 + 0 is 0


# --- links ---------------------------------------------------------------------------------------

def vectors_link(function: str) -> str:
    return f"../../minirlhf/conformance/vectors/v1/{function}.json"


def code_links(axis: str) -> str:
    """Where the functions of an axis' answers stand."""
    inner = [f.func if isinstance(f, partial) else f for f in ANSWERS[axis].values()]
    files = dict.fromkeys(f.__module__.replace(".", "/") + ".py" for f in inner)
    return ", ".join(f"[{name.removeprefix('minirlhf/')}](../../{name})" for name in files)

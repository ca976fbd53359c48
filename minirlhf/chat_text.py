"""What a line of a chat means, and how replies are laid out: text in, text out, no model.

A person's line is forgiven what a person does not think of (capitals, "sky?" without a space), and
what cannot be answered gets one friendly line, the message of an `Unclear`.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from minirlhf.findings import TITLES
from minirlhf.report import shortened
from minirlhf.text import canonical_prompt, joined, opening, unmarked
from minirlhf.tokens import SPECIAL_TOKENS

GAP, NARROWEST = 3, 28
"""columns between two replies side by side, and the fewest that a reply wants for itself"""
COOLEST, HOTTEST = 0.01, 100.0
"""temperatures beyond these draw as 0 does, or as dice do, and float32 cannot divide by them"""
PUNCTUATION = re.compile(r"([.,!?:])\1*")                # "??" is meant as one


class Unclear(ValueError):
    """A line that cannot be answered; its message is the friendly line that the person gets."""


def one_line(text: str) -> str:
    """A text without line breaks, with single spaces, in letters that can be written to a file."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def require_temperature(temperature: float) -> None:
    """Raise Unclear unless it is 0 or lies in [0.01, 100]."""
    if not (temperature == 0 or COOLEST <= temperature <= HOTTEST):
        raise Unclear(f"a temperature is 0, or from {COOLEST:g} to {HOTTEST:g}, got {temperature}")


def read_temperature(text: str) -> float:
    """The number that was typed.  Raises Unclear if it is no temperature."""
    try:
        temperature = float(text)
    except ValueError:
        raise Unclear(f"a temperature is a number, as in /temperature 0.5, got {text[:30]}"
                      ) from None
    require_temperature(temperature)
    return temperature


# --- what a line means ---------------------------------------------------------------------------

class Toy:
    """The words and the questions of the toy world.

    words: the vocabulary, special tokens first; known: every question that the world has.
    """

    def __init__(self, words: Sequence[str], known: Sequence[str]):
        self.words, self.known = list(words[len(SPECIAL_TOKENS):]), set(known)
        self.note = f"The toy world knows {len(self.words)} words; each question stands alone."

    def question(self, line: str) -> str:
        """The line in the world's own spelling; a known question gets the end it lacks.

            What color is the sky?      what color is the sky      ->  what color is the sky ?

        Raises Unclear naming the words that the world does not have.
        """
        text = one_line(PUNCTUATION.sub(r" \1 ", line.lower()))
        words = set(self.words)
        unknown = [word for word in dict.fromkeys(text.split()) if word not in words]
        if unknown:
            raise Unclear(f"the toy world has no word {self.suggestions(unknown)}; /prompts shows "
                          "what can be asked")
        return next((text + end for end in (" ?", " .") if text + end in self.known), text)

    def suggestions(self, unknown: Sequence[str], most: int = 3) -> str:
        """Unknown words, each with the world's words that look like it."""
        told = []
        for word in unknown[:most]:
            near = get_close_matches(word, self.words, n=2, cutoff=0.7)
            told.append(f'"{word[:30]}"' + f" (near: {', '.join(near)})" * bool(near))
        more = len(unknown) - most
        return ", ".join(told) + f" and {more} more" * (more > 0)


def peoples_question(line: str) -> str:
    """A line without a mark of a turn before it.  Raises Unclear if nothing is left."""
    question = unmarked(line)
    if not question:
        raise Unclear("that is the mark of a turn, and nothing said; /help lists what a line can "
                      "be")
    return question


def fitting(question: str, earlier: Sequence[tuple[str, str]], tokens: Callable[[str], int],
            context: int) -> tuple[str, list[tuple[str, str]]]:
    """The conversation as one canonical prompt, and the earlier exchanges that it still holds.

    earlier: (question, reply) pairs.  The oldest are left out until tokens(prompt) ≤ context.
    Raises Unclear if the question does not even fit alone.
    """
    for start in range(len(earlier) + 1):
        kept = list(earlier[start:])
        turns = [turn for asked, reply in kept for turn in (("Human", asked), ("Assistant", reply))]
        prompt = canonical_prompt(joined([*turns, ("Human", question)]))
        if tokens(prompt) <= context:
            return prompt, kept
    raise Unclear(f"that is {tokens(question) - context} tokens too long for the model, whose "
                  f"context of {context} holds the reply too; say it shorter")


def examples(prompts: Sequence[dict], rng: np.random.Generator, most: int = 7) -> list[str]:
    """A few questions, evenly from every kind; of a conversation its first turn.

    prompts: {"prompt", "kind"} rows.
    """
    kinds: dict[str, dict[str, None]] = {}
    for row in prompts:
        kinds.setdefault(row["kind"], {})[opening(row["prompt"])] = None
    each = max(1, most // len(kinds))
    return [shortened(list(texts)[i], 160) for texts in kinds.values()
            for i in rng.permutation(len(texts))[:each]]


# --- layout --------------------------------------------------------------------------------------

class Block(NamedTuple):
    """A reply to be shown."""

    title: str                 # who speaks
    reply: str
    remark: str                # score and length


def block(name: str, row: dict, titles: dict[str, str] = TITLES) -> Block:
    """A row of `evaluation.answer` as it is shown."""
    title = titles[name] + ", continuing plain text" * (name == "base")
    reply = row["reply"] + " (did not finish)" * (not row["ended"])
    remarks = [f"{key} {row[key]:+.2f}" for key in ("score", "gold") if key in row]
    remarks.append(f"{row['length']} token{'s' * (row['length'] > 1)}")
    return Block(title, reply or "(said nothing)", ", ".join(remarks))


def lay_out(blocks: Sequence[Block], width: int | None) -> str:
    """Replies side by side, or one below the other where that would be narrow.

    No line is longer than `width`; with None, for output that is no terminal, none is broken.
    """
    column = ((width or 0) + GAP) // len(blocks) - GAP
    if len(blocks) > 1 and column < NARROWEST:
        return "\n\n".join(lay_out([block], width) for block in blocks)
    lines = [line for parts in zip(*blocks, strict=True) for line in zip_longest(
        *(wrapped(part, column if width else None) for part in parts), fillvalue="")]
    return "\n".join((" " * GAP).join(cell.ljust(column) for cell in line).rstrip()
                     for line in lines)


def wrapped(text: str, width: int | None) -> list[str]:
    """The lines of a text, broken to at most `width` characters; with None as they are.

    What is not printable (a terminal would obey it) becomes a space.
    """
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.split("\n")]
    if width is None:
        return lines
    return [part for line in lines
            for part in textwrap.wrap(line, width, break_on_hyphens=False) or [""]]


def filled(text: str, width: int | None) -> str:
    return "\n".join(wrapped(text, width))

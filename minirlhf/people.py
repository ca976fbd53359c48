"""People's comparisons as the source of a run, in place of the toy world and its labelers.

What is held out is a whole conversation: all prompts that begin with the same first turn.  A chat
stored several times, each time a turn longer, would otherwise show in training what the test asks.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from minirlhf.text import (
    canonical_prompt,
    opening,
    read_comparisons,
    read_demonstrations,
    read_field,
    train_byte_pairs,
)
from minirlhf.tokens import SPECIAL_TOKENS, Tokenizer

SPLITS = ("train", "validation", "test")
TELLING = 24
"""characters from which a text is no part of another by chance, as `Why?` may be"""


@dataclass(frozen=True)
class Comparisons:
    """Real people's preferences from a file, in one of the forms of `text.py`.

    Held-out pairs are split off first, by conversation, and used nowhere else: whatever belongs to
    such a conversation is left out of the other data.  Without files of their own, the chosen
    replies of the training pairs serve as demonstrations and as corpus, and their prompts as
    prompts of reinforcement learning.
    """

    path: tyro.conf.Suppress[Path]               # these four are given by the flags of a run:
    demonstrations_path: tyro.conf.Suppress[Path | None] = None       # --demonstrations, and so on
    corpus_path: tyro.conf.Suppress[Path | None] = None
    prompts_path: tyro.conf.Suppress[Path | None] = None
    vocab_size: int = 2048
    """tokens of the byte-level BPE vocabulary that is learned (beside --base none is)"""
    max_tokens: Annotated[int, tyro.conf.arg(aliases=["--max-tokens"])] = 256
    """longest prompt and reply together; longer rows are left out"""
    held_out: float = 0.15
    """share of conversations held out, half of them for validation, half for the test"""
    seed: int = 0
    """chooses the split"""

    simulated = False

    def __post_init__(self):
        least = len(SPECIAL_TOKENS) + 256
        if self.vocab_size < least:
            raise ValueError(f"vocab_size must be at least {least}, the special tokens and every "
                             f"byte, got {self.vocab_size}")
        if not 0 < self.held_out <= 0.5:
            raise ValueError(f"held_out must lie in (0, 0.5], got {self.held_out}")

    @cached_property
    def skipped(self) -> dict[str, Counter]:
        """By kind of data: how many rows were left out, for which reason."""
        return {"comparisons": Counter(), "demonstrations": Counter(), "corpus": Counter(),
                "prompts": Counter()}

    @cached_property
    def all_rows(self) -> list[dict]:
        """The pairs of the file, each with its split; the split goes by conversation."""
        skipped = self.skipped["comparisons"]
        rows = read_comparisons(self.path, skipped)
        order = list(dict.fromkeys(opening(row["prompt"]) for row in rows))
        held = max(2, round(len(order) * self.held_out))
        if len(order) < 2 * held:
            raise ValueError(f"{self.path}: {len(order)} distinct prompts with a usable pair are "
                             "too few to train on some and hold out others; 4 is the least"
                             + "".join(f"; left out: {reason}" for reason in reasons(skipped)))
        shuffled = np.random.default_rng([self.seed, len(order)]).permutation(len(order))
        split = {order[i]: "test" if k < held // 2 else "validation" if k < held else "train"
                 for k, i in enumerate(shuffled)}
        return [row | {"kind": "human", "split": split[opening(row["prompt"])]} for row in rows]

    @cached_property
    def held_out_openings(self) -> set[str]:
        return {opening(row["prompt"]) for row in self.all_rows if row["split"] != "train"}

    def counted_by(self, tokenizer: Tokenizer) -> "Comparisons":
        """The same data, where a model's own tokenizer counts; no vocabulary is learned then."""
        same = replace(self)
        vars(same)["vocabulary"] = tokenizer             # where a cached property keeps its value
        return same

    @cached_property
    def vocabulary(self) -> Tokenizer:
        """The vocabulary, byte pairs learned from everything that is not held out."""
        pairs = [row for row in self.all_rows if row["split"] == "train"]
        texts = [row[key] for row in pairs for key in ("prompt", "chosen", "rejected")]
        texts += [text for row in self.own_demonstrations for text in row.values()]
        return train_byte_pairs([*texts, *self.own_corpus], self.vocab_size)

    def tokenizer(self) -> Tokenizer:
        return self.vocabulary

    def fits(self, kind: str, prompt: str, *replies: str) -> bool:
        """Whether prompt and longest reply fit into `max_tokens`, special tokens too; counts."""
        longest = max(len(self.vocabulary.response(reply)) for reply in replies)
        fits = len(self.vocabulary.prompt(prompt)) + longest <= self.max_tokens
        self.skipped[kind][f"longer than {self.max_tokens} tokens"] += not fits
        return fits

    @cached_property
    def rows(self) -> list[dict]:
        """The pairs that fit into `max_tokens`."""
        fitting = [row for row in self.all_rows
                   if self.fits("comparisons", row["prompt"], row["chosen"], row["rejected"])]
        missing = [name for name in SPLITS if name not in {row["split"] for row in fitting}]
        if missing:
            raise ValueError(f"{self.path}: of {len(self.all_rows)} pairs {len(fitting)} fit into "
                             f"{self.max_tokens} tokens, none of them for {', '.join(missing)}; "
                             "give more pairs, or a larger --text.max-tokens")
        return fitting

    @cached_property
    def training(self) -> list[dict]:
        return [row for row in self.rows if row["split"] == "train"]

    # --- the user's other files, if there are any; held-out conversations are left out

    def allowed(self, kind: str, prompt: str) -> bool:
        """Whether a canonical prompt belongs to no held-out conversation; counts."""
        held_out = opening(prompt) in self.held_out_openings
        self.skipped[kind]["a held-out conversation"] += held_out
        return not held_out

    @cached_property
    def own_demonstrations(self) -> list[dict]:
        if self.demonstrations_path is None:
            return []
        rows = read_demonstrations(self.demonstrations_path, self.skipped["demonstrations"])
        return [row for row in rows if self.allowed("demonstrations", row["prompt"])]

    @cached_property
    def own_corpus(self) -> list[str]:
        if self.corpus_path is None:
            return []
        skipped = self.skipped["corpus"]
        documents = read_field(self.corpus_path, "text", skipped)
        told = Openings(self.held_out_openings)
        kept = [text for text in documents if not told.stand_in(text)]
        skipped["a held-out conversation"] += len(documents) - len(kept)
        return kept

    @cached_property
    def rl_prompts(self) -> list[str]:
        """Training prompts of reinforcement learning."""
        if self.prompts_path is None:
            return list(dict.fromkeys(row["prompt"] for row in self.training))
        skipped = self.skipped["prompts"]
        found = read_field(self.prompts_path, "prompt", skipped)
        distinct = list(dict.fromkeys(found))
        skipped["a prompt that stood there before"] += len(found) - len(distinct)
        prompts = [text for text in distinct if self.allowed("prompts", text)
                   and self.fits("prompts", text, "")]
        return prompts or _none_left(self.prompts_path, "prompts", skipped)

    @cached_property
    def usable_demonstrations(self) -> list[dict]:
        if self.demonstrations_path is None:
            return [{"prompt": row["prompt"], "response": row["chosen"]} for row in self.training]
        rows = [row for row in self.own_demonstrations
                if self.fits("demonstrations", row["prompt"], row["response"])]
        return rows or _none_left(self.demonstrations_path, "demonstrations",
                                  self.skipped["demonstrations"])

    # --- what the pipeline asks

    def corpus(self, *, rng: np.random.Generator) -> list[str]:
        if self.corpus_path is None:
            return [f"{row['prompt']}\n\n{row['chosen']}" for row in self.training]
        return self.own_corpus or _none_left(self.corpus_path, "corpus", self.skipped["corpus"])

    def demonstrations(self, *, rng: np.random.Generator) -> list[dict]:
        return self.usable_demonstrations

    def prompts(self) -> list[dict]:
        held_out = {row["prompt"]: row for row in self.rows if row["split"] != "train"}
        return [*({"prompt": text, "kind": "human", "split": "train"} for text in self.rl_prompts),
                *({key: row[key] for key in ("prompt", "kind", "split")}
                  for row in held_out.values())]

    def draw_prompts(self, n: int, rng: np.random.Generator) -> list[str]:
        return [self.rl_prompts[i] for i in rng.integers(len(self.rl_prompts), size=n)]

    def files(self) -> list[Path]:
        given = (self.path, self.demonstrations_path, self.corpus_path, self.prompts_path)
        return [path for path in given if path is not None]

    def notes(self) -> list[str]:
        """What was read and what was left out, for the reader of a run."""
        splits = Counter(row["split"] for row in self.rows)
        prompts, demonstrations = len(self.rl_prompts), len(self.usable_demonstrations)
        lines = [f"{self.path}: {len(self.rows)} comparisons: {splits['train']} to train on, "
                 f"{splits['validation']} for validation, {splits['test']} for the test; "
                 f"{demonstrations} demonstrations, {prompts} prompts for reinforcement learning"]
        return lines + [f"left out of the {kind}: {reason}"
                        for kind, skipped in self.skipped.items() for reason in reasons(skipped)]


class Openings:
    """The first turns of conversations, to be found in documents without trying each in each.

    A document is compared with its transcript marks in canonical form.  It holds an opening if
    its own first lines are the opening, or if one of `TELLING` or more characters stands anywhere
    in it, letter for letter.
    """

    def __init__(self, openings: Iterable[str]):
        self.by_line: dict[str, list[str]] = {}          # by first line
        self.by_start: dict[str, list[str]] = {}         # by first characters
        for text in openings:
            self.by_line.setdefault(text.split("\n")[0], []).append(text + "\n")
            if len(text) >= TELLING:
                self.by_start.setdefault(text[:TELLING], []).append(text)

    def stand_in(self, document: str) -> bool:
        text = canonical_prompt(document) + "\n"
        first, _, _ = text.partition("\n")
        return any(text.startswith(one) for one in self.by_line.get(first, ())) or any(
            text.startswith(one, i) for i in range(len(text) - TELLING)
            for one in self.by_start.get(text[i:i + TELLING], ()))


def reasons(skipped: Counter) -> list[str]:
    return [f"{count} ({reason})" for reason, count in skipped.items() if count]


def _none_left(path: Path, kind: str, skipped: Counter):
    raise ValueError(f"{path}: no usable row is left for the {kind}; left out: "
                     f"{', '.join(reasons(skipped))}")

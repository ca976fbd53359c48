"""Pairs of replies for people to compare: two models of a run answer the same prompts.

The same run gives the same pairs at every start, and a session of more pairs begins with the same
ones: prompts come in one shuffled order, a whole batch at a time, each batch with a generator of
its own.  As in the evaluation, both models are given the same random numbers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from minirlhf.evaluation import SPEAKERS
from minirlhf.rollout import Reply, generate
from minirlhf.run import Run
from minirlhf.stages.training import Stage

BATCH = 64                                  # prompts asked together; another number, other replies


@dataclass(frozen=True)
class Pair:
    """One prompt and what each of two models replied."""

    prompt: str
    split: str
    replies: dict[str, Reply]               # by model

    @property
    def id(self) -> str:
        """A short hash of the prompt, and of who replied what: equal ids, equal pairs."""
        said = sorted([model, *reply] for model, reply in self.replies.items())
        return hashlib.sha256(json.dumps([self.prompt, said]).encode()).hexdigest()[:12]


def two_models(names: str) -> tuple[str, str]:
    """The two models of `--models sft,policy`.  Raises ValueError naming what is wrong."""
    models = tuple(name.strip() for name in names.split(","))
    unknown = [name for name in models if name not in SPEAKERS]
    if unknown:
        raise ValueError(f"there is no model {unknown[0]!r} to compare; choose two of "
                         f"{', '.join(SPEAKERS)}, such as --models sft,policy")
    if len(models) != 2 or models[0] == models[1]:
        raise ValueError(f"--models wants two different models, such as sft,policy; got {names}")
    return models


def sample_pairs(run: Run, models: tuple[str, str], split: str, n: int) -> tuple[list[Pair], int]:
    """n pairs on prompts of a split, and to how many prompts before the last both models replied
    the same: nobody can prefer one of two equal replies, so these are left out.

    Fewer than n if the split has no more prompts.  Raises FileNotFoundError naming a model that is
    not yet made, ValueError if n is below 1 or no pair is left.
    """
    if n < 1:
        raise ValueError(f"--pairs must be at least 1, got {n}")
    params = [run.load(model) for model in models]
    prompts = list(dict.fromkeys(row["prompt"] for row in run.source.prompts()
                                 if row["split"] == split))
    prompts = [prompts[i] for i in run.rng(Stage.LABEL).permutation(len(prompts))]
    pairs: list[Pair] = []
    equal = 0
    for batch, start in enumerate(range(0, len(prompts), BATCH), 1):
        asked = prompts[start:start + BATCH]
        replies = [answers(run, model, weights, asked, batch)
                   for model, weights in zip(models, params, strict=True)]
        for prompt, a, b in zip(asked, *replies, strict=True):
            if a.text == b.text:
                equal += 1
                continue
            pairs.append(Pair(prompt, split, dict(zip(models, (a, b), strict=True))))
            if len(pairs) == n:
                return pairs, equal
    if not pairs:
        raise ValueError(f"no pair is left to compare: to all {len(prompts)} {split} prompts "
                         f"{' and '.join(models)} of {run.folder} replied the same")
    return pairs, equal


def answers(run: Run, model: str, params, prompts: Sequence[str], batch: int) -> list[Reply]:
    """A model's replies to one batch; the base is asked in plain text, never having seen a chat."""
    encode = run.tokenizer.encode if model == "base" else run.tokenizer.prompt
    return generate(params, run.model, run.tokenizer, [encode(text) for text in prompts],
                    run.config.ppo.max_new, rng=run.rng(Stage.LABEL, batch),
                    temperature=run.config.ppo.temperature)

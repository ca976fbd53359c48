"""The index of the conventions: every axis with its answers, every preset, one reply by all."""

from dataclasses import replace
from textwrap import fill

import numpy as np
from convention_pages.changes import SECTIONS
from convention_pages.pages import about, cell, who, written

from minirlhf.conformance.presets import PRESETS, Preset, known_in_part
from minirlhf.conformance.replay import Batch, Numbers, advantages, rewards
from minirlhf.conformance.variants import ANSWERS
from minirlhf.conformance.vectors import systems

INTRODUCTION = """\
# Conventions

Real systems for reinforcement learning from human feedback compute the same formulas in different
ways.  Most of it is convention: each way is defensible, and none is the standard.  Some of it is a
bug.  Whoever compares two systems number by number has to know which differences to expect.

Each row below is one question, an *axis*, with every answer that is known; its page has the formula
of each answer, who gives it, what it changes, and what comes out in numbers.  The numbers are
computed by [the functions of the answers](../../minirlhf/conformance/variants/__init__.py), which
reproduce [the test vectors](../../minirlhf/conformance/__init__.py), and these pages are written by
`python scripts/conventions.py`.

What the conventions of another system would make of a run of your own:

    minirlhf conventions RUN

It replays a batch of the run's replies under every preset and compares rewards, advantages, losses
and the directions in which the policy would be pushed."""

REPLAYED = """\
A run keeps its models, not the batches it trained on.  So `minirlhf conventions` has the final
policy of the run answer training prompts once more, writes that batch to `rollouts/` in the run
folder, and replays it: at the first update, where the policy is the one that sampled and every
ratio is 1, and after the updates of one rollout by the run's own rules.

It shows what a rollout batch can show: KL and score (`kl.*` but `kl.ctl`, `score.*`), advantages
(`gae.mask`, `whiten.*`, `grpo.std`, `grpo.eps`, `rloo.std`) and the policy's loss (`pg.*`, `agg`,
`agg.micro`, and a KL in it).  Held fixed are the models, the replies, β, γ, λ and ε.  A reply of
the batch has no gap and no prompt a single reply, so `return.mask` and `*.singleton` show nothing.

Left out are positions and log-probs (`pos.ids`, `temp.logp`, `topp.*`), what was trained before
(`sft.*`, `rm.*`), a fixed penalty for a missing end (`eos.penalty`), the value loss (`vf.*`),
entropy (`ent.*`), controllers (`kl.ctl`), optimizers (`adam.*`, `clip.*`), and the whitening of
rewards in lm-human-preferences.  Pads that some conventions read are the batch's own;
lm-human-preferences itself has none."""


IN_PART = """\
Of these some functions were read, and test vectors are theirs, so `minirlhf verify` can compare
with them; a whole batch cannot be replayed as they would."""


def index() -> str:
    """docs/conventions/README.md"""
    parts = [INTRODUCTION, "## The axes"]
    for section, beginnings in SECTIONS.items():
        rows = ["| axis | the question | answers, and who gives them |", "|---|---|---|"]
        for axis in ANSWERS:
            if axis.split(".")[0] in beginnings:
                rows.append(f"| [`{axis}`]({axis}.md) | {cell(about(axis))} | {given(axis)} |")
        parts += [f"### {section}", "\n".join(rows)]
    parts += ["## One reply under every preset", together(), "## What is replayed", REPLAYED,
              "## The presets", presets_text(), "## Known in part", IN_PART, in_part_text()]
    return "\n\n".join(parts) + "\n"


def given(axis: str) -> str:
    """Each answer with who gives it; the most common one is that of "most" if it is long."""
    named = {answer: who(axis, answer) for answer in ANSWERS[axis]}
    longest = max(named.values(), key=len)
    short = {answer: "most" if names == longest and names.count(",") > 4 else names
             for answer, names in named.items()}
    return "<br>".join(f"`{answer}`" + f": {names}" * bool(names)
                       for answer, names in short.items())


def presets_text() -> str:
    """Where each was read, and what to know."""
    return "\n\n".join(fill(f"**{name}**, " + (
        "this package: " if one.repository is None else f"{one.repository} at {one.commit}: ")
        + one.note, 99, break_long_words=False, break_on_hyphens=False)
        for name, one in PRESETS.items())


def in_part_text() -> str:
    """Where systems without a preset were read, and what is known of them."""
    return "\n\n".join(fill(
        f"**{name}**, {systems()[name].repository} at {systems()[name].commit}, "
        f"{systems()[name].part}: " + ", ".join(f"`{axis}`" for axis in answers) + ".", 99,
        break_long_words=False, break_on_hyphens=False)
        for name, answers in known_in_part().items())


# --- one reply -----------------------------------------------------------------------------------

TWICE = np.ones((2, 1))
REPLY = Batch(TWICE * [.05, -.02, .01, .2, .3], TWICE * np.zeros(5), TWICE * np.zeros(5),
              TWICE * [.1, .2, .3, .4, .5], np.ones(2), TWICE * [1, 1, 1, 0, 0] > 0, 2)
NUMBERS = Numbers(beta=0.1, gamma=1.0, lam=0.95)


def together() -> str:
    """Score place, KL mask and GAE mask at work on one reply of three tokens and two pads."""
    rows = ["| who | rewards | advantages |", "|---|---|---|"]
    found: dict[str, list[str]] = {}
    for name, one in PRESETS.items():
        if one.answer("gae.mask") is not None:
            found.setdefault(" | ".join(map(written, of_one_reply(one))), []).append(name)
    for numbers, names in found.items():
        rows.append(f"| {', '.join(names)} | {numbers} |")
    told = fill("Three tokens and two pads: KL .05, −.02, .01 and, at the pads, .2 and .3; values "
                ".1 to .5; score 1; β = 0.1, γ = 1, λ = 0.95.  Advantages by GAE, before "
                "whitening.", 99)
    return told + "\n\n" + "\n".join(rows)


def of_one_reply(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """(R,) rewards and advantages, not whitened."""
    plain = replace(preset, answers={axis: answer for axis, answer in preset.answers.items()
                                     if not axis.startswith("whiten")})
    paid = rewards(plain, REPLY, NUMBERS)
    return paid[0], advantages(plain, REPLY, NUMBERS, paid, "gae")[0]

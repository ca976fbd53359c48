"""`minirlhf conventions RUN`: a run's replies under the conventions of every preset."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from minirlhf.conformance.presets import PRESETS, preset
from minirlhf.conformance.replay import Batch, Outcome, cosine
from minirlhf.conventions import (
    Comparison,
    compare,
    cosines,
    load_models,
    numbers_of,
    path_of,
    saved_batch,
)
from minirlhf.options import parse
from minirlhf.run import Run
from minirlhf.run_folder import open_run

OURS = "minirlhf"


@dataclass(frozen=True)
class Conventions:
    """What other systems' conventions would make of a run's own replies.

    The run's policy answers some of its training prompts once more, several times each; the batch
    is kept in the run folder, rollouts/0000.safetensors, and replayed from there.  With the run's
    own β, γ, λ and ε each preset computes its rewards, advantages and policy loss, and the
    gradients are compared by their cosine: 1, both push the policy the same way; 0, in unrelated
    directions.  docs/conventions/ explains each convention.  Nothing is trained.

    It is no judgement: a low cosine says that a system teaches something else from these replies,
    not that it is wrong.
    """

    run: tyro.conf.Positional[str]
    """name of a run with a trained policy"""
    presets: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all)")] = ()
    """which to replay beside minirlhf, by name"""
    prompts: int = 16
    """prompts of a batch"""
    group_size: int = 4
    """replies to each, at least 2: what GRPO and RLOO compare"""
    batch: int = 0
    """which batch, by number: another number is another draw"""
    json: bool = False
    """one JSON object, with the cosines of each two presets, in place of the table"""
    out: Path = Path("runs")
    """where run folders lie"""


def conventions(argv: Sequence[str]) -> None:
    """Parse the flags, make or read the batch, and print what each preset makes of it."""
    args = parse(Conventions, "minirlhf conventions", None, argv)
    names = [OURS, *(preset(name).name for name in args.presets or PRESETS if name != OURS)]
    if args.prompts < 1 or args.group_size < 2 or args.batch < 0:
        raise ValueError("wanted --prompts of at least 1, --group-size of at least 2 and a --batch "
                         f"that is not negative, got {args.prompts}, {args.group_size} and "
                         f"{args.batch}")
    run = open_run(args.out / args.run)
    load_models(run)                                          # a missing one is told before work
    saved = saved_batch(run, args.batch, args.prompts, args.group_size)
    found = compare(run, saved, names)
    rows = {one.preset.name: row(one, found[0], saved.batch(moved=False).mask) for one in found}
    if args.json:
        print(json.dumps(finite({
            "run": str(run.folder), "batch": str(path_of(run, args.batch)),
            "numbers": asdict(numbers_of(run)), "presets": rows,
            "cosines": {"first": cosines(found, False), "later": cosines(found, True)}}), indent=2))
    else:
        print(heading(run, saved.batch(moved=True), path_of(run, args.batch)) + "\n\n"
              + table(rows) + "\n\n" + LEGEND)


# --- the numbers ---------------------------------------------------------------------------------

def row(one: Comparison, ours: Comparison, mask: np.ndarray) -> dict:
    """What is shown of a preset, beside our own; numbers over the real tokens."""
    if one.outcomes is None:
        return {"problem": one.problem}
    (first, later), (our_first, our_later) = one.outcomes, ours.outcomes
    a, b = first.advantages[mask], our_first.advantages[mask]
    return {
        "credit": first.method, "reward": float(first.rewards.sum(axis=1).mean()),
        "advantage_deviation": float(a.std()), "advantage_correlation": correlation(a, b),
        "signs_turned": float((a * b < 0).mean()),
        "loss": {"first": first.loss, "later": later.loss},
        "gradient_ratio": ratio(length(first), length(our_first)),
        "cosine_logprobs": {"first": cosine(first.gradient, our_first.gradient),
                            "later": cosine(later.gradient, our_later.gradient)},
        "cosine_parameters": {
            when: cosine(mine, our) for when, mine, our in
            zip(("first", "later"), one.gradients, ours.gradients, strict=True)}}


def finite(x: dict | float | str | None) -> dict | float | str | None:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(x, dict):
        return {name: finite(inner) for name, inner in x.items()}
    return None if isinstance(x, float) and isnan(x) else x


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, NaN where one does not vary."""
    return cosine(a - a.mean(), b - b.mean())


def ratio(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def length(outcome: Outcome) -> float:
    return float(np.linalg.norm(outcome.gradient))


# --- the text ------------------------------------------------------------------------------------

LEGEND = """\
reward       a reply, all slots added up; sd, corr, turned: the advantages' deviation, their
             correlation with minirlhf's, and how many have the other sign
loss         at the first update, and after those of one rollout
|g|          the gradient's length beside minirlhf's, with respect to the tokens' log-probs
cos          between the two gradients, first and later: cos z with respect to the log-probs,
             cos θ with respect to the policy's parameters
Left out is what a batch cannot show, such as optimizers: docs/conventions/README.md lists it."""


def heading(run: Run, batch: Batch, path: Path) -> str:
    moved = abs(np.exp((batch.logprobs - batch.old_logprobs)[batch.mask]) - 1)
    numbers = numbers_of(run)
    other = run.config.algorithm != "ppo" and run.config.group.kl == "loss"
    return (f"{path}: {len(batch.mask)} replies in groups of {batch.group_size}, "
            f"{int(batch.mask.sum())} tokens\n"
            f"β {numbers.beta:g}, γ {numbers.gamma:g}, λ {numbers.lam:g}, ε "
            f"{numbers.clip_ratio:g}, {numbers.parts} micro-batches, the same for all\n"
            f"the updates of one rollout move the ratio by {moved.mean():.3f} on average, and "
            f"{(moved > numbers.clip_ratio).mean():.1%} of the tokens beyond ε"
            + "\nthis run had the KL in its loss; the preset minirlhf has it in the reward" * other)


def table(rows: dict[str, dict]) -> str:
    """A line a preset."""
    width = max(map(len, rows))
    lines = [f"{'':{width}}  credit  reward     sd   corr turned          loss     |g|   "
             "     cos z         cos θ"]
    for name, found in rows.items():
        if "problem" in found:
            lines.append(f"{name:{width}}  {found['problem']}")
            continue
        pairs = ["{} {}".format(*(shown(found[key][when], form) for when in ("first", "later")))
                 for key, form in (("loss", "+6.3f"), ("cosine_logprobs", "+6.3f"),
                                   ("cosine_parameters", "+6.3f"))]
        lines.append(
            f"{name:{width}}  {found['credit']:6} {shown(found['reward'], '+7.3f')} "
            f"{shown(found['advantage_deviation'], '6.3f')} "
            f"{shown(found['advantage_correlation'], '+6.3f')} {found['signs_turned']:6.1%} "
            f"{pairs[0]} {shown(found['gradient_ratio'], '7.3f')} {pairs[1]} {pairs[2]}")
    return "\n".join(line.rstrip() for line in lines)


def shown(x: float, form: str) -> str:
    return f"{'–':>{int(form.strip('+').split('.')[0])}}" if isnan(x) else format(x, form)

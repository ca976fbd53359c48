"""`minirlhf verify ADAPTER` and `minirlhf identify ADAPTER`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from minirlhf.conformance.examine import examine
from minirlhf.conformance.identify import identify as identified
from minirlhf.conformance.machines import identified_json, verdict_json
from minirlhf.conformance.runner import Session
from minirlhf.conformance.systems import groups_of
from minirlhf.conformance.telling import identified_text, verdict_text
from minirlhf.conformance.trace_command import verify_trace
from minirlhf.conformance.vectors import V1, functions, load
from minirlhf.options import parse

ADAPTER = '''\
An adapter is a Python file that defines functions under the names of the test vectors, with their
arguments by name or in their order.  What it does not define is not checked.  For example:

    # adapter.py
    import torch
    from my_project.losses import policy_loss, normalize

    def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
        return policy_loss(logprobs, old_logprobs, advantages, mask, eps=clip_ratio)

    def whiten(x, mask, shift_mean):
        return normalize(x, mask, center=shift_mean)

Arrays come as torch tensors if importing the file imports torch, as jax arrays if it imports jax,
else as NumPy arrays; a line framework = "torch" (or "jax", "numpy") says so instead.  Gradients are
taken by the framework; for NumPy a second function, sft_loss_grad beside sft_loss, gives them.
The adapter runs in a process of its own: an exception or a hang is one test's result.
Whatever stands in the file under one of the names is checked, imported functions too.'''

UNSAID = tyro.conf.arg(help_behavior_hint="")            # no "(default: None)" in the help


@dataclass(frozen=True)
class Verify:
    adapter: Annotated[tyro.conf.Positional[str], tyro.conf.arg(
        metavar="ADAPTER", help_behavior_hint="")] = ""
    """path of a Python file, or the name of a module: minirlhf checks this package itself"""
    preset: str = "minirlhf"
    """the system whose conventions are to be followed, such as trl-ppo, openrlhf, verl-2026-08"""
    float32: bool = False
    """give arrays of 32 bits, and compare as coarsely as these need"""
    timeout: float = 10.0
    """seconds that a test may take before the process is ended and replaced"""
    json: bool = False
    """print JSON, with every failing test, in place of the table"""
    trace: Annotated[Path | None, UNSAID] = None
    """instead of an adapter: the arrays of one update of yours (.safetensors, .npz), to be compared
    with those of the same update here, in order: the first that departs is told"""
    step: Annotated[str | None, UNSAID] = None
    """beside --trace: ppo_step, grpo_step or reward_model_step, or a folder that minirlhf trace
    wrote; without it, the update that has most of the arrays"""
    rtol: Annotated[float | None, UNSAID] = None
    """beside --trace: the share of an array's largest entry that counts as equal; without it, by
    the arrays' precision"""


@dataclass(frozen=True)
class Identify:
    adapter: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ADAPTER")]
    """path of a Python file, or the name of a module"""
    float32: bool = False
    """give arrays of 32 bits, and compare as coarsely as these need"""
    timeout: float = 10.0
    """seconds that a test may take before the process is ended and replaced"""
    json: bool = False
    """print JSON in place of words"""


def verify(argv: Sequence[str]) -> int:
    """Check an implementation of RLHF against the test vectors; name the mistakes it makes.

    The exit status is 0 if all that it defines matches, 1 if something differs, 2 for a mistake in
    the command or an adapter that cannot be imported.
    """
    args = parse(Verify, "minirlhf verify", f"{verify.__doc__}\n{ADAPTER}\n{names()}", argv)
    if bool(args.adapter) == bool(args.trace):
        raise ValueError("give either an ADAPTER.py or --trace ARRAYS (minirlhf verify --help)")
    if args.trace:
        return verify_trace(args.trace, args.step, args.json, args.rtol)
    if args.step is not None or args.rtol is not None:
        raise ValueError("--step and --rtol go with --trace")
    with Session(args.adapter, args.timeout, args.float32) as session:
        chosen = {name: groups_of(load(name), args.preset) for name in session.functions}
        if not any(chosen.values()):
            raise ValueError(f"there are no tests of {args.preset} for what {args.adapter} "
                             f"defines: {', '.join(chosen)}")
        with progress(sum(len(g.tests) for groups in chosen.values() for g in groups)) as bar:
            verdicts = [examine(session, name, groups, bar.update)
                        for name, groups in chosen.items()]
        found = {verdict.function: identified(session, verdict.function) for verdict in verdicts
                 if verdict.faults and not all(case.reply.lost for case in verdict.faults)}
        framework = session.framework
    precision = "float32" if args.float32 else "float64"
    if args.json:
        print(json.dumps(verdict_json(verdicts, found, adapter=args.adapter, framework=framework,
                                      precision=precision, preset=args.preset), indent=1,
                         allow_nan=False))
    else:
        print(verdict_text(verdicts, found, f"{args.adapter} ({framework}, {precision}) against "
                                            f"the conventions of {args.preset}"))
    return int(any(verdict.faults for verdict in verdicts))


def identify(argv: Sequence[str]) -> int:
    """Say which convention an implementation follows on each question on which systems differ.

    The exit status is 0 if every function follows a known convention, 1 if one follows none, 2 for
    a mistake in the command or an adapter that cannot be imported.
    """
    args = parse(Identify, "minirlhf identify", f"{identify.__doc__}\n{ADAPTER}\n{names()}",
                 argv)
    with Session(args.adapter, args.timeout, args.float32) as session:
        tests = sum(len(g.tests) for name in session.functions for g in load(name).groups)
        with progress(tests) as bar:
            every = [identified(session, name, bar.update) for name in session.functions]
        framework = session.framework
    if args.json:
        print(json.dumps({"adapter": args.adapter, "framework": framework,
                          "precision": "float32" if args.float32 else "float64",
                          "functions": [identified_json(found) for found in every]}, indent=1,
                         allow_nan=False))
    else:
        print(identified_text(every, f"{args.adapter} ({framework})"))
    return int(any(not found.answers for found in every))


def names() -> str:
    """What an adapter may define, and where that is explained."""
    return (f"\nThe names: {', '.join(functions())}.  Arguments, results and laws of each: "
            f"{V1}/NAME.json.")


def progress(tests: int) -> tqdm:
    """A bar on the error stream, if that is a terminal and it takes longer than a moment."""
    return tqdm(total=tests, unit=" tests", leave=False, delay=1.0,
                disable=not sys.stderr.isatty())

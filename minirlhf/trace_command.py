"""`minirlhf trace MODELS BATCH`: every intermediate array of one update of a model of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minirlhf.conformance.trace.functions import StepSettings
from minirlhf.conformance.trace_command import write_trace
from minirlhf.options import parse


@dataclass(frozen=True)
class TraceFlags:
    """Every intermediate array of one update of a small model of yours, by name and in order.

    MODELS holds folders policy, reference, value, reward (as far as the step wants them), each a
    GPT-2 as save_pretrained writes it.  BATCH holds sequences, sequence_mask, mask, and if they are
    known old_logprobs and old_values (a reward model's: chosen, chosen_mask, rejected,
    rejected_mask), as .safetensors or .npz; or as JSON rows of token ids, "prompts" and
    "responses" ("chosen" and "rejected").  Scores in the batch stand for a reward model.
    """

    models: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODELS")]
    """folder with the models"""
    batch: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BATCH")]
    """file with the given arrays"""
    step: Literal["ppo_step", "reward_model_step", "grpo_step"] = "ppo_step"
    """which update"""
    to: Path = Path("trace")
    """the folder that is written"""
    settings: Annotated[StepSettings, tyro.conf.arg(name="")] = field(default_factory=StepSettings)


def trace(argv: Sequence[str]) -> None:
    """Parse the flags and write the trace."""
    args = parse(TraceFlags, "minirlhf trace", None, argv)
    made = write_trace(args.models, args.batch, args.to, args.step, args.settings)
    print(f"written to {args.to}: {len(made.arrays)} arrays; trace.json has their order and "
          "formulas")

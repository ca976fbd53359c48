"""The measured part of docs/scale.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from minirlhf.memory import bytes_text
from scaling.paper import table
from scaling.work import PROMPT, REPLY, ROWS

ON_PAPER = Path(__file__).with_name("on_paper.md")
HEAD = """\
# Scale: several processes that act as one

    pip install 'minirlhf[mpi]'
    mpiexec -n 4 minirlhf run --shards 4

[`minirlhf/parallel.py`](../minirlhf/parallel.py) says what a rank is, and
[`minirlhf/dealing.py`](../minirlhf/dealing.py) what is dealt out: passes through models are, row by
row or part by part; everything else every rank computes of the whole batch, and comes to the same
bits. One process that no launcher has started pays nothing for it.

## Measured
"""


def page(found: Mapping[str, Mapping[str, Sequence[dict]]], under: str) -> str:
    """found: {stage: {way: what each turn said}}; under: what it was measured with."""
    lines = ["| stage | one rank | two ranks | ratio | efficiency | one process, two threads "
             "| sums a step | moved a step | formula |", "|---|" + "---:|" * 8]
    for stage, ways in found.items():
        seconds = {way: [turn["seconds"] for turn in turns] for way, turns in ways.items()}
        ratios = sorted(one / two for one, two in zip(
            seconds["one rank"], seconds["two ranks"], strict=True))
        two = ways["two ranks"][0]
        lines.append(
            f"| {stage} | {ms(seconds['one rank'])} | {ms(seconds['two ranks'])} "
            f"| **{median(ratios):.2f}** ({ratios[0]:.2f}–{ratios[-1]:.2f}) "
            f"| {50 * median(ratios):.0f} % | {ms(seconds['two threads'])} | {two['sums']:.0f} "
            f"| {bytes_text(two['bytes'])} "
            f"| {updates(stage)} × {bytes_text(4 * two['parameters'])} |")
    turns = len(next(iter(found.values()))["one rank"])
    return (HEAD + f"""
{under} A model of {parameters(found)} parameters; {ROWS} rows of {PROMPT + REPLY} tokens a step,
in PPO and GRPO {ROWS} replies of {REPLY} tokens that are used twice in 4 minibatches. Each rank has
one core and one thread of BLAS. Medians of {turns} turns, the ways of a stage side by side; in
brackets the smallest and the largest ratio of a turn. Made by `python scripts/scale.py`.

""" + "\n".join(lines) + "\n\n"
            + ON_PAPER.read_text(encoding="utf-8").replace("TABLE", table()))


def ms(seconds: Sequence[float]) -> str:
    return f"{1000 * median(seconds):.0f} ms"


def updates(stage: str) -> int:
    """Optimizer steps of a step: 2 epochs of 4 minibatches, of PPO for two models."""
    return {"PPO": 16, "GRPO": 8, "rollout": 0}.get(stage, 1)


def parameters(found: Mapping) -> str:
    return f"{next(iter(found.values()))['one rank'][0]['parameters'] / 1e6:.2f} million"

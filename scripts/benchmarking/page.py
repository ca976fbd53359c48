"""The page of what was measured: docs/performance.md."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarking import tables
from benchmarking.tasks import (
    PPO_EPOCHS,
    PPO_MINIBATCHES,
    PPO_NEW,
    PPO_ROWS,
    PROMPT,
    ROLLOUT_NEW,
)

REMARKS = Path(__file__).parent / "remarks.md"           # written by hand, stands at the end

HEAD = """\
# Performance

How fast this package is, and where it stands beside PyTorch, transformers and TRL on the same
machine.  Measured and written by

    pip install -e '.[bench]'
    python scripts/benchmark.py                 # all rows
    python scripts/benchmark.py step-medium     # one, the others as they were

Every contender is a process of its own with the same number of threads, the same weights and the
same tokens.  They take turns: a block of about 0.4 s each, after runs that do not count.  A turn
gives a ratio of two times; tables show the median of these ratios with their quartiles, in the form
*1.50 (1.45–1.55)*, and beside a time (the median of its turns) the distance of its quartiles as a
share of it.  Above 1 this package is faster.  Where a contender's own turns spread more than 10 %
there is no ratio, and the table says *too noisy*.  Before anything is timed, results are compared:
losses after three steps, greedy replies token by token, the number of updates of an iteration.
"""
MACHINE = """\
The two sides bring different libraries for matrix products: NumPy's wheels OpenBLAS, PyTorch's
wheels Intel's MKL.  Each chooses kernels for the processor it finds, and not the same: on AMD's,
MKL takes AVX2 where OpenBLAS takes AVX-512.  So the kernels are told, and the *peak*: the fastest
product of two 2048 × 2048 matrices in float32 that each side reached in this very run, on as many
threads of the library's own.  (In all other rows our BLAS has one thread in each of the shards.)  A
ratio of times is to be read beside the ratio of peaks.
"""
STEP = """\
Forward, backward, clipping by the global norm, AdamW; the loss is the mean over all next tokens.
Ours is `stages.training.update`.  PyTorch is a GPT-2 written for this comparison
(`scripts/benchmarking/in_torch.py`): fused attention (`scaled_dot_product_attention`), fused AdamW;
torch.compile is the same with its forward and backward pass compiled.  *Utilisation* is the share
of the side's own peak: the FLOPs of all matrix products of a step (2mnk each, twice as many
backward, attention counted as if every token saw the whole row), by the time, by the peak.
"""
ROLLOUT = f"""\
Greedy decoding of {ROLLOUT_NEW} tokens after prompts of {PROMPT}; nothing ends early.  Ours is
`sampling.sample`, which also returns the log-prob of every token.  PyTorch is a loop with keys and
values in buffers of their final length, in inference mode, and returns tokens alone; transformers
is its `generate`.  All say the same tokens.  (Where two tokens tie to the last bits, another seed
draws other prompts.)
"""
PPO = f"""\
{PPO_ROWS} prompts of {PROMPT} tokens with replies of {PPO_NEW}: sampling with log-probs, reference
log-probs, values, scores; penalised rewards, GAE, whitening; {PPO_EPOCHS} epochs of
{PPO_MINIBATCHES} minibatches, each an update of policy and value model with its own clipping and
AdamW; and the numbers that are logged.  Ours is a step of `stages.ppo.train`.  PyTorch is a loop
that computes the same (`scripts/benchmarking/ppo_in_torch.py`).  TRL is `PPOTrainer` of release
1.9.2, timed from the end of one iteration to the end of the next, in float32, with nothing
recomputed, saved or shown, and all rows in one micro-batch.  It does as many updates of the same
rows, but is another program: one AdamW for both models, no clipping by norm, other logged numbers.
"""
MEMORY = """\
The most that a process has held after 20 training steps.  *Own* leaves out what it held after the
imports; what libraries load only when they are first used is still in it.
"""
FAULTS = """\
Minor page faults in a steady training step: memory that the process was given anew.  Our programs
tell the C library to keep what they free (`host.keep_freed_memory`); PyTorch runs as it comes, and
could be told the same.
"""
GROWTH = """\
How the time of our training step at size *small* grows along one axis, the others fixed: the
exponent p of time ≈ a·sizeᵖ, fitted to the logarithms by least squares, and the same for the FLOPs.
A wider model has more heads of the same width.
"""
RUN = """\
`minirlhf run` with its defaults, once: the time from the end of one stage to the end of the next,
the first one's with the start of the process.
"""


def page(results: dict, names: Sequence[str], remarks: Path = REMARKS) -> str:
    """`results` is what docs/performance.json holds: {row: its results, or a problem}; `names` are
    all rows that there are, in order."""
    results = {name: results[name] for name in names if name in results}
    ran = {name: found for name, found in results.items() if "problem" not in found}
    parts = [HEAD, "## The machine\n", MACHINE, tables.machines(results)]
    for title, prose, table in (
            ("A training step", STEP, tables.steps(of(ran, "step"))),
            ("Sampling", ROLLOUT, tables.rollouts(of(ran, "rollout"))),
            ("An iteration of PPO", PPO, tables.iterations(of(ran, "ppo"))),
            ("Memory", MEMORY, tables.memories(of(ran, "memory"))),
            ("Page faults", FAULTS, tables.faults(of(ran, "step"))),
            ("How cost grows", GROWTH, tables.growths(of(ran, "growth"))),
            ("A whole run", RUN, tables.whole(ran.get("run")))):
        parts += [f"## {title}\n", prose, table]
    parts += ["## Not measured\n", not_measured(results, names)]
    if remarks.is_file():
        parts.append(remarks.read_text(encoding="utf-8"))
    return "\n".join(parts)


def of(ran: dict, kind: str) -> dict:
    """The results of one kind of row, by what stands behind the hyphen."""
    return {name.partition("-")[2]: found for name, found in ran.items()
            if name.startswith(f"{kind}-")}


def not_measured(results: dict, names: Sequence[str]) -> str:
    """Each reason once, with the rows it is about."""
    told: dict[str, list[str]] = {}
    for name in names:
        for reason in reasons(results.get(name, {"problem": "not measured yet"})):
            told.setdefault(reason, []).append(name)
    return "".join(f"- {', '.join(f'`{name}`' for name in dict.fromkeys(about))}: {reason}\n"
                   for reason, about in told.items()) or "Every row was, on every side.\n"


def reasons(found: dict) -> Iterator[str]:
    """Why a row, or a contender in it, has no figure."""
    if "problem" in found:
        yield found["problem"]
    for part in (found, *found.get("batches", {}).values()):
        for contender, problem in part.get("problems", {}).items():
            yield f"{contender}: {problem}"

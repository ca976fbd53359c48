"""The rows that can be measured: each makes its processes, lets them take turns, and returns what
docs/performance.json keeps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from benchmarking import agreement, tasks
from benchmarking.processes import (
    COMPILED,
    OURS,
    TORCH,
    TRANSFORMERS,
    TRL,
    Contender,
    Task,
    Worker,
    in_short,
    python,
)
from benchmarking.tasks import MINUTE, SIZES, Size
from benchmarking.turns import Effort, take_turns
from benchmarking.whole_run import whole_run

from minirlhf.transformer import ModelConfig, initialize, load, save, with_scalar_head


def write_models(folder: Path, size: Size, seed: int = 0) -> None:
    """policy/ and value/, from which all contenders start.

    As GPT-2 starts, plus N(0, 0.05²) on every number, so that no gain is 1, no bias 0, and
    attention prefers some tokens.  No token ends a reply.
    """
    rng = np.random.default_rng(seed)
    config = ModelConfig(size.vocab, size.context, size.channels, size.heads, size.layers,
                         pad_id=None, eos_id=None)
    policy = initialize(config, rng=rng)
    policy.flat += rng.normal(0, 0.05, policy.flat.shape).astype(policy.flat.dtype)
    save(folder / "policy", policy, config)
    save(folder / "value", with_scalar_head(policy, rng=rng), config)


@contextmanager
def working(contenders: Sequence[Contender], effort: Effort, size: Size
            ) -> Iterator[tuple[dict[str, tuple[Contender, Worker]], dict[str, str], str]]:
    """Their processes by name, what is wrong with those that have none, and the models' folder."""
    workers, problems = {}, {}
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        write_models(Path(folder), size)
        for one in contenders:
            try:
                if effort.quick and one in (COMPILED, TRL):
                    raise RuntimeError("not with --quick")
                program = python(one, effort.cache)
            except RuntimeError as problem:
                problems[one.name] = in_short(str(problem))
                continue
            workers[one.name] = one, stack.enter_context(
                Worker(one.module, program, effort.threads))
        yield workers, problems, folder


def compared(contenders: Sequence[Contender], effort: Effort, size: Size, task: dict,
             differ: Callable[[dict, str, object, object], str | None],
             seeds: Sequence[int] = (0,)) -> dict:
    """{"seconds", "faults", "problems"} of the contenders at one task, the first being ours.

    differ(task, folder, ours, theirs) says why two results are not the same.  Where that is a tie,
    the next of the seeds is tried.
    """
    with working(contenders, effort, size) as (workers, problems, folder):
        for seed in seeds:
            given = task | {"folder": folder, "shards": effort.shards, "seed": seed}
            ready, wrong = prepared(workers, given, differ)
            if agreement.TIED not in wrong.values():
                break
        return take_turns(ready, effort) | {"problems": problems | wrong,
                                                                "seed": seed}


def prepared(workers: dict, task: dict, differ: Callable) -> tuple[dict[str, Task], dict[str, str]]:
    """The tasks whose results are ours, and what is wrong with the others."""
    ready, problems, results = {}, {}, {}
    for name, (contender, worker) in workers.items():
        try:
            one = worker.prepare("it", task | {"compile": contender.compiled})
            results[name] = one.run(3, result=True)["result"]
        except RuntimeError as problem:
            if contender is OURS:
                raise
            problems[name] = str(problem)
            continue
        ready[name] = one
        wrong = differ(task, task["folder"], results[OURS.name], results[name])
        if wrong:
            problems[name] = wrong
            del ready[name]
    return ready, problems


# --- the rows ------------------------------------------------------------------------------------

def step(effort: Effort, size: Size) -> dict:
    """A training step: forward, backward, clipping, AdamW."""
    found = compared((OURS, TORCH, COMPILED), effort, size, size.task("step"),
                     lambda task, folder, ours, theirs: agreement.losses(ours, theirs))
    return found | {"flops": tasks.step_flops(size)}


def rollout(effort: Effort, size: Size) -> dict:
    """Tokens a second, greedy, for batches of some sizes."""
    def differ(task, folder, ours, theirs):
        params, config = load(Path(folder, "policy"))
        return agreement.replies(params, config, tasks.prompts(task).tolist(), ours, theirs)

    return {"batches": {
        str(rows): compared((OURS, TORCH, TRANSFORMERS), effort, size,
                            size.task("rollout", batch=rows), differ, range(5))
        for rows in ((1, 4) if effort.quick else (1, 32, 128))}}


def ppo(effort: Effort, size: Size) -> dict:
    """An iteration of PPO."""
    rows = tasks.PPO_MINIBATCHES if effort.quick else tasks.PPO_ROWS
    return compared((OURS, TORCH, TRL), effort, size, size.task("ppo", batch=rows),
                    lambda task, folder, ours, theirs: agreement.work(ours, theirs))


def memory(effort: Effort, size: Size) -> dict:
    """The most that each process held while it trained, and what it held before: bytes."""
    with working((OURS, TORCH), effort, size) as (workers, problems, folder):
        found = {}
        for name, (_, worker) in workers.items():
            task = worker.prepare("it", size.task("step", folder=folder, shards=effort.shards,
                                                  compile=False))
            answer = task.run(3 if effort.quick else 20)
            found[name] = {"imported": answer["imported"], "peak": answer["peak"]}
    return {"processes": found, "problems": problems}


AXES = {"batch": (8, 16, 32, 64, 128), "tokens": (16, 32, 64, 128, 256),
        "channels": (64, 128, 256, 512), "layers": (2, 4, 8, 16)}


def growth(effort: Effort, size: Size, axis: str) -> dict:
    """What a step costs where one size grows and the others stay."""
    values = (1, 2, 3, 4) if effort.quick else AXES[axis]
    sizes = [grown(size, axis, value) for value in values]
    with ExitStack() as stack:
        ready = {}
        for value, other in zip(values, sizes, strict=True):
            workers, _, folder = stack.enter_context(working((OURS,), effort, other))
            ready[str(value)] = workers[OURS.name][1].prepare(
                "it", other.task("step", folder=folder, shards=effort.shards))
        found = take_turns(ready, effort)
    return {"values": list(values), "flops": [tasks.step_flops(other) for other in sizes],
            "seconds": list(found["seconds"].values())}


def grown(size: Size, axis: str, value: int) -> Size:
    """Another number on one axis; a wider model has more heads of the same width."""
    heads = value * size.heads // size.channels if axis == "channels" else size.heads
    return replace(size, **{axis: value}, heads=heads)


def rows(quick: bool) -> dict[str, Callable[[Effort], dict]]:
    """Every row by its name, in the order of the page."""
    some = {"minute": MINUTE} if quick else SIZES
    no_large = [name for name in some if name != "medium"]
    small = "minute" if quick else "small"
    found = {f"step-{name}": lambda effort, name=name: step(effort, some[name]) for name in some}
    found |= {f"rollout-{name}": lambda effort, name=name: rollout(effort, some[name])
              for name in no_large}
    found |= {f"ppo-{name}": lambda effort, name=name: ppo(effort, some[name])
              for name in no_large}
    found |= {f"memory-{name}": lambda effort, name=name: memory(effort, some[name])
              for name in some}
    found |= {f"growth-{axis}": lambda effort, axis=axis: growth(effort, some[small], axis)
              for axis in (["batch"] if quick else AXES)}
    return found | {"run": lambda effort: whole_run(effort.threads, effort.shards,
                                                         effort.quick)}


def named(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The rows that some words select: a row's whole name, or what stands before its hyphen.

    No word selects all.  Raises ValueError naming a word that selects none.
    """
    def selects(word: str, name: str) -> bool:
        return word in (name, name.partition("-")[0])

    for word in words:
        if not any(selects(word, name) for name in names):
            kinds = dict.fromkeys(name.partition("-")[0] for name in names)
            raise ValueError(f"no row {word!r}; there are {', '.join(kinds)}, and each of "
                             f"{', '.join(names)}")
    return [name for name in names if not words or any(selects(word, name) for word in words)]


def measured(row: Callable[[Effort], dict], effort: Effort) -> dict:
    """What a row found, or {"problem": …} where this package's own side failed."""
    try:
        return row(effort)
    except RuntimeError as problem:
        return {"problem": in_short(str(problem))}

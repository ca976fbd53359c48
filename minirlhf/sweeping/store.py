"""The runs: each is made once, for all who want it, by commands of `minirlhf`.

A run is known by how far it went, the settings it has read until then and the digest of the code
that read them; its folder's name is made of these,

    CACHE/DIGEST/policy-SEED-KEY/

so what a folder holds can be nothing else.  Runs that begin alike share their beginning: a policy
starts from a copy of the run that ends with its reward model (`minirlhf ppo RUN --name NEW`).  A
command that was interrupted goes on from its checkpoint (`--resume`).

Two processes never make the same run at once, not even where one of them is believed dead and its
work is given to another: who comes second waits until the first has ended, and finds the run made.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import copytree, rmtree
from typing import NamedTuple

from minirlhf import pipeline
from minirlhf.files import replacing_folder
from minirlhf.settings import RunConfig
from minirlhf.sweeping.locks import alone
from minirlhf.sweeping.settings import STAGES, configured, differences, flags, stages_to, until
from minirlhf.sweeping.sources import own_digest
from minirlhf.sweeping.workers import PROCESSES, minirlhf

Submit = Callable[..., Future]


@dataclass(frozen=True)
class Wanted:
    """A kind of run: how far it goes, and the settings in which it is not the default run."""

    stage: str                     # "base", "sft", "reward", "dpo", "policy", "evaluated", "rounds"
    changed: Mapping[str, object] = field(default_factory=dict)          # {"ppo.beta": 0.0}
    judge: Mapping[str, object] | None = None      # settings of the run whose reward model it takes


class Job(NamedTuple):
    """Something to compute, once the jobs that it comes after are done."""

    name: str
    after: tuple[str, ...]
    does: Callable
    arguments: tuple


class Store:
    """The runs in a cache folder."""

    def __init__(self, cache: Path, quick: bool = False):
        self.digest, self.quick = own_digest(), quick
        self.folder = Path(cache).absolute() / self.digest[:12]
        self.known: dict[str, RunConfig] = {}              # settings, which take their time

    def settings(self, wanted: Wanted, seed: int, stage: str | None = None) -> RunConfig:
        """What a run has read when it has come to a stage; by default to its end.

        Raises ValueError for a stage that there is not.
        """
        stage = stage or wanted.stage
        if stage not in STAGES:
            raise ValueError(f"a run's stage must be one of {', '.join(STAGES)}, got {stage!r}")
        key = json.dumps([stage, dict(wanted.changed), seed])
        if key not in self.known:
            self.known[key] = until(configured(wanted.changed, seed, self.quick), stage)
        return self.known[key]

    def name(self, stage: str, wanted: Wanted, seed: int) -> str:
        """The name of the folder that a run has when it has come to a stage, or to "judged", where
        it has its reward model and takes another one's."""
        read = self.settings(wanted, seed, "reward" if stage == "judged" else stage)
        known = [stage, asdict(read)]
        if wanted.judge is not None and stage not in stages_to("reward"):
            known.append(asdict(self.settings(Wanted("reward", wanted.judge), seed)))
        text = json.dumps([*known, self.digest], default=str, sort_keys=True)
        return f"{stage}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def run(self, wanted: Wanted, seed: int) -> Path:
        """The folder of a run, made or not."""
        return self.folder / self.name(wanted.stage, wanted, seed)

    def done(self, name: str) -> bool:
        """Whether a run is whole."""
        return whole(self.folder / name)

    def jobs(self, wanted: Wanted, seed: int) -> list[Job]:
        """What leads to a run, the first thing first; finished runs too."""
        found, before, after = [], RunConfig(), None
        for stage in stages_to(wanted.stage):
            settings = self.settings(wanted, seed, stage)
            name, command = self.name(stage, wanted, seed), STAGES[stage].command
            changed = differences(before, settings)
            if command == "ppo":                           # the command says it, no flag may
                changed.pop("algorithm", None)
                command = settings.algorithm
            argv = [command, *([after] if after else ()), "--name", name,
                    "--out", str(self.folder), *flags(changed)]
            found.append(Job(name, (after,) if after else (), make, (argv, self.folder / name)))
            before, after = settings, name
            if stage == "reward" and wanted.stage != stage and wanted.judge is not None:
                judge, after = Wanted("reward", wanted.judge), self.name("judged", wanted, seed)
                found += [*self.jobs(judge, seed),
                          Job(after, (name, self.run(judge, seed).name), exchange,
                              (self.folder / name, self.run(judge, seed), self.folder / after))]
        return found

    def missing(self, wanted: Iterable[tuple[Wanted, int]]) -> dict[str, Job]:
        """What is yet to be done for these runs: {name: job}, each after what it begins with."""
        wanted = list(wanted)
        jobs = {job.name: job for one in wanted for job in self.jobs(*one)}
        found: dict[str, Job] = {}

        def need(name: str) -> None:
            if name not in found and not self.done(name):
                for before in jobs[name].after:
                    need(before)
                found[name] = jobs[name]

        for one in wanted:
            need(self.run(*one).name)
        return found


def whole(folder: Path) -> bool:
    """Whether a run has come to its end: the last stage of its name has left its last result."""
    stage = folder.name.split("-")[0]
    if stage == "judged":                                  # is there as a whole or not at all
        return folder.exists()
    return all(pipeline.STAGES[part].done(folder) for part in STAGES[stage].reads)


# --- doing ---------------------------------------------------------------------------------------

def do(jobs: Mapping[str, Job], submit: Submit, told: Callable[[str], None] = lambda name: None,
       room: int = PROCESSES) -> None:
    """Do the jobs, `room` of them at a time, the first of those that can begin; told(name) after
    each.  What a job comes after and is not among the jobs has been done.  A job may be begun more
    than once, where the process that did it has died.

    Raises the first problem, after which none is begun.
    """
    left, running = dict(jobs), {}
    while left or running:
        under_way = {*left, *running.values()}
        ready = [job for job in left.values() if not under_way.intersection(job.after)]
        for job in ready[:room - len(running)]:
            running[submit(job.does, *job.arguments)] = left.pop(job.name).name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            future.result()
            told(running.pop(future))


def make(argv: list[str], folder: Path) -> None:
    """A command of `minirlhf` that makes a run, or goes on with it, unless it has been made."""
    with alone(folder):
        if not whole(folder):
            minirlhf([*argv, "--resume"] if folder.exists() else argv)


def exchange(run: Path, judge: Path, target: Path) -> None:
    """A copy of a run that has another one's reward model in place of its own."""
    with alone(target):
        if target.exists():
            return
        with replacing_folder(target) as folder:
            copytree(run, folder, dirs_exist_ok=True)
            rmtree(folder / "reward")
            copytree(judge / "reward", folder / "reward")

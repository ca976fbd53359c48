"""The runs: each is made once, for all claims that want it, by commands of `minirlhf`.

A run is known by how far it went, the settings it has read until then and the digest of the code
that read them; its folder's name is made of these,

    CACHE/DIGEST/policy-SEED-KEY/

so what a folder holds can be nothing else.  Runs that begin alike share their beginning: a policy
starts from a copy of the run that ends with its reward model (`minirlhf ppo RUN --name NEW`).  A
command that was interrupted goes on from its checkpoint (`--resume`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from experiment.claim import Wanted
from experiment.settings import STAGES, configured, differences, flags, stages_to, until
from experiment.sources import own_digest
from experiment.workers import minirlhf
from minirlhf import pipeline
from minirlhf.settings import RunConfig

Submit = Callable[..., Future]


class Job(NamedTuple):
    """A command that makes a run, once the run that it begins with is there."""

    name: str
    after: str | None
    argv: list[str]


class Store:
    """The runs in a cache folder."""

    def __init__(self, cache: Path, quick: bool = False):
        self.digest, self.quick = own_digest(), quick
        self.folder = Path(cache).absolute() / self.digest[:12]

    def settings(self, wanted: Wanted, seed: int, stage: str | None = None) -> RunConfig:
        """What a run has read when it has come to a stage; by default to its end.

        Raises ValueError for a stage that there is not.
        """
        stage = stage or wanted.stage
        if stage not in STAGES:
            raise ValueError(f"a run's stage must be one of {', '.join(STAGES)}, got {stage!r}")
        return until(configured(wanted.changed, seed, self.quick), stage)

    def name(self, stage: str, settings: RunConfig) -> str:
        """The name of the folder."""
        known = json.dumps([stage, asdict(settings), self.digest], default=str, sort_keys=True)
        key = hashlib.sha256(known.encode()).hexdigest()[:12]
        return f"{stage}-{settings.seed}-{key}"

    def run(self, wanted: Wanted, seed: int) -> Path:
        """The folder of a run, made or not."""
        return self.folder / self.name(wanted.stage, self.settings(wanted, seed))

    def done(self, name: str) -> bool:
        """Whether a run is whole: the last stage of its name has left its last result."""
        stage, folder = name.split("-")[0], self.folder / name
        return all(pipeline.STAGES[part].done(folder) for part in STAGES[stage].reads)

    def jobs(self, wanted: Wanted, seed: int) -> list[Job]:
        """The commands that lead to a run, the first one first; those of finished runs too."""
        found, before, after = [], RunConfig(), None
        for stage in stages_to(wanted.stage):
            settings = self.settings(wanted, seed, stage)
            name, command = self.name(stage, settings), STAGES[stage].command
            changed = differences(before, settings)
            if command == "ppo":                           # the command says it, no flag may
                changed.pop("algorithm", None)
                command = settings.algorithm
            argv = [command, *([after] if after else ()), "--name", name,
                    "--out", str(self.folder), *flags(changed)]
            found.append(Job(name, after, argv))
            before, after = settings, name
        return found

    def missing(self, wanted: Iterable[tuple[Wanted, int]]) -> dict[str, Job]:
        """What is yet to be done for these runs: {name: job}, each after what it begins with."""
        chains = [self.jobs(*one) for one in wanted]
        longest = max(map(len, chains), default=0)
        return {chain[depth].name: chain[depth] for depth in range(longest) for chain in chains
                if depth < len(chain) and not self.done(chain[-1].name)
                and not self.done(chain[depth].name)}

    def make(self, jobs: dict[str, Job], submit: Submit,
             told: Callable[[str], None] = lambda name: None) -> None:
        """Do the jobs, each as soon as it can begin and `submit` has room; told(name) after each.

        Raises the first problem, after which none is begun.
        """
        left, running = dict(jobs), {}
        while left or running:
            under_way = {*left, *running.values()}
            for job in [job for job in left.values() if job.after not in under_way]:
                resume = ["--resume"] * (self.folder / job.name).exists()
                running[submit(minirlhf, [*job.argv, *resume])] = left.pop(job.name).name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                told(running.pop(future))

"""`minirlhf sweep`: many settings, several seeds each, and a table of what came of them."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from minirlhf import __version__
from minirlhf.files import write_json, write_text
from minirlhf.options import default_settings, option, parse
from minirlhf.presets import check_unread
from minirlhf.settings import RunConfig
from minirlhf.sweeping import grid
from minirlhf.sweeping.cluster import computing
from minirlhf.sweeping.settings import configured, differences, leaves, until
from minirlhf.sweeping.store import Store, Wanted, do
from minirlhf.sweeping.table import Row, row, table

NUMBERS = {"policy": "of the policy's replies to test prompts",
           "reward": "of the reward model, the share of held-out comparisons that it has in order"}
QUICK = "Made with --quick: the numbers mean little.\n"
UNSAID = tyro.conf.arg(help_behavior_hint="")            # no "(default: None)" in the help


@dataclass(frozen=True)
class Sweep:
    """Make a run for every combination of settings and every seed, and compare what they are worth.

        minirlhf sweep --vary ppo.beta=0,0.1,0.2 --vary ppo.steps=20,36 --seeds 0 1 2

    is six combinations, 18 runs, and ends with six lines: the mean over seeds of the policy's gold
    score, of its score and of its KL on test prompts, each with a 95 % interval.  The table is also
    in OUT/sweep.md, with all numbers in OUT/sweep.json.  All other settings are those of the flags
    below.

    Each run is made once: it is kept in OUT under its settings and the code that made it, runs that
    begin alike share their beginning, and the same command, stopped or killed wherever it was, goes
    on with what is missing.  Runs are made side by side on this machine, or on a Dask cluster.
    """

    vary: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(
        metavar="NAME=V,V,…", help_behavior_hint="(repeatable)")] = ()
    """a setting and its values, such as ppo.beta=0,0.1 or algorithm=ppo,grpo; a value is what would
    stand after the setting's flag (world.panel="rushed,default careful rushed"), or true, false"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """the seeds that each combination is run with; an interval wants two or more"""
    stage: Literal["policy", "reward"] = "policy"
    """how far runs go: to the policy and its evaluation; or to the reward model, whose accuracy on
    held-out comparisons is then the number of the table"""
    quick: bool = False
    """runs of half a minute, to see that everything works; their numbers mean little"""
    out: Path = Path("runs/sweep")
    """where runs are kept and the table is written"""
    workers: Annotated[int | None, UNSAID] = None
    """runs side by side on this machine: as many as it has cores, if nothing is said"""
    scheduler: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """run on the workers of the Dask scheduler at this address, such as tcp://host:8786, instead
    of on this machine (needs the extra: cluster); they must see OUT, under the same path"""
    settings: Annotated[tyro.conf.AvoidSubcommands[RunConfig], tyro.conf.arg(name="")] = field(
        default_factory=RunConfig)


@dataclass(frozen=True)
class Combination:
    """A choice of one value for each setting that varies, and the run that it makes of them."""

    settings: RunConfig
    stage: str                                           # of Sweep: "policy" or "reward"

    @property
    def wanted(self) -> Wanted:
        """The kind of run, as the store knows it."""
        stage = ("reward" if self.stage == "reward" else
                 "rounds" if self.settings.rounds > 1 else "evaluated")
        return Wanted(stage, differences(configured({}, self.settings.seed), self.settings))

    def values(self) -> dict[str, object]:
        return dict(leaves(asdict(self.settings)))


def sweep(argv: Sequence[str]) -> None:
    """Parse the flags, make the runs that are missing, and show the table.

    Raises ValueError for what cannot be run, before anything is.
    """
    default = Sweep(settings=replace(default_settings(argv), backend="numpy"))
    args = parse(Sweep, "minirlhf sweep", None, argv, default)
    values = grid.lists(args.vary)
    check(args, argv, values)
    kinds = [Combination(parse(Sweep, "minirlhf sweep", None, [*argv, *grid.words(chosen)],
                               default).settings, args.stage)
             for chosen in grid.combinations(values)]
    check_combinations(kinds, default.settings)
    store = Store(args.out)
    make(store, kinds, args)
    rows = [row({name: kind.values()[name] for name in values},
                [store.run(kind.wanted, seed) for seed in args.seeds], args.stage)
            for kind in kinds]
    write(args.out, rows, {
        "command": shlex.join(["minirlhf", "sweep", *argv]), "stage": args.stage,
        "seeds": list(args.seeds), "quick": args.quick, "minirlhf": __version__,
        "sources": store.digest, "settings": {
            name: value for name, value in kinds[0].values().items()
            if name not in values and name != "seed"}})
    print(f"\n{table(rows)}\n\nwritten to {args.out}: sweep.md, sweep.json; the runs are in "
          f"{store.folder}")


# --- what can be wrong ---------------------------------------------------------------------------

def check(args: Sweep, argv: Sequence[str], values: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError for flags that no sweep can be made of."""
    if not args.seeds or len(set(args.seeds)) < len(args.seeds):
        raise ValueError(f"--seeds wants one seed or more, each once, got "
                         f"{' '.join(map(str, args.seeds)) or 'none'}")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    if args.workers is not None and args.scheduler is not None:
        raise ValueError("--workers beside --scheduler: the cluster has workers of its own")
    for name, why in grid.NOT_VARIED.items():
        if option(argv, f"--{name}") is not None:
            raise ValueError(f"--{name} is no flag of a sweep: {why}")
    for name in values:
        if option(argv, f"--{name.replace('_', '-')}") is not None:
            raise ValueError(f"{name} is given by a flag and varied too; leave one of them out")


def check_combinations(kinds: Sequence[Combination], default: RunConfig) -> None:
    """Raise ValueError for a setting that would change nothing, or for one run twice."""
    usual = dict(leaves(asdict(default)))
    for number, kind in enumerate(kinds):
        check_unread(kind.settings, default)
        if "dpo" in kind.settings.baselines:
            raise ValueError("baselines: a sweep trains no DPO beside its policies")
        for name, value in differences(until(kind.settings, kind.wanted.stage),
                                       kind.settings).items():
            if value != usual[name]:
                raise ValueError(f"{name} would change nothing: no stage of a sweep with --stage "
                                 f"{kind.stage} reads it")
        if kind in kinds[:number]:
            raise ValueError("--vary: two values of a setting are the same, so that two "
                             "combinations are one")


# --- making and writing --------------------------------------------------------------------------

def make(store: Store, kinds: Sequence[Combination], args: Sweep) -> None:
    """Make the runs that are not there yet, under a progress bar."""
    wanted = [(kind.wanted, seed) for seed in args.seeds for kind in kinds]
    jobs = store.missing(wanted)
    there = sum(store.done(store.run(*one).name) for one in wanted)
    told = (f"{len(wanted)} runs, {len(kinds)} for each of {len(args.seeds)} seeds: {there} there "
            f"already, {len(jobs)} commands to do")
    if not jobs:
        print(told)
        return
    try:
        with computing(args.scheduler, store.folder, args.workers or cores()) as (submit, room):
            print(told, flush=True)
            with tqdm(total=len(jobs), desc="sweep", mininterval=0.5) as bar:
                do(jobs, submit, lambda name: bar.update(), room)
    except KeyboardInterrupt as interruption:
        interruption.add_note("the same command goes on where it was")
        raise


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(out: Path, rows: Sequence[Row], about: Mapping[str, object]) -> None:
    """sweep.json and sweep.md."""
    write_json(out / "sweep.json", {**about, "rows": [one.told() for one in rows]})
    seeds = ", ".join(map(str, about["seeds"]))
    write_text(out / "sweep.md", f"""# A sweep

    {about["command"]}

{table(rows)}

Mean over the seeds {seeds} ± half of its 95 % t-interval over them, {NUMBERS[about["stage"]]}.
{QUICK * about["quick"]}All numbers, seed by seed, are in sweep.json.

minirlhf {about["minirlhf"]}, code {about["sources"][:12]}
""")

"""`minirlhf claims`: runs, measurements, verdicts and pages, claim by claim."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tqdm import tqdm

from experiment import figures, gallery, measuring, pages
from experiment.claim import FOLDER, NAME, Experiment, experiments
from experiment.results import result
from experiment.statistics import DRAWS
from minirlhf import claims_command, cli
from minirlhf.files import read_object, write_json, write_text
from minirlhf.sweeping.cluster import computing
from minirlhf.sweeping.store import Job, Store, do

ROOT = FOLDER.parent.parent
DOCS, CACHE = ROOT / "docs" / "claims", ROOT / "runs" / "claims"
SEEDS, QUICK_SEEDS, QUICK_DRAWS = 5, 2, 1000


def main(path: str) -> None:
    """A claim file as a program: `minirlhf claims` of its number alone."""
    number = NAME.fullmatch(Path(path).name)[1]
    sys.exit(cli.main(["claims", number, *sys.argv[1:]]))


def run(which: Sequence[str] = (), *, quick: bool = False, seeds: int | None = None,
        cache: Path | None = None, output: Path = DOCS, only_pages: bool = False,
        scheduler: str | None = None) -> None:
    """The claims with these numbers; all, if none is named.

    cache    where runs are kept, and found again
    output   where results lie; those of a quick run, or of fewer seeds than usual, lie in a
             temporary folder instead
    scheduler  address of a Dask scheduler whose workers compute, instead of this machine
    Raises ValueError for what cannot be run, before anything is.
    """
    chosen, seeds = experiments(which), seeds or (QUICK_SEEDS if quick else SEEDS)
    if seeds < 2:
        raise ValueError(f"--seeds: an interval over seeds wants at least 2 of them, got {seeds}")
    if only_pages:
        again(chosen, output)
        return
    figures.require()
    with (places(quick, seeds < SEEDS, cache, output) as (cache, output),
          computing(scheduler, cache) as (submit, room)):
        store = Store(cache, quick)
        try:
            conduct(chosen, range(seeds), store, submit, QUICK_DRAWS if quick else DRAWS, output,
                    room)
        except KeyboardInterrupt as interruption:
            interruption.add_note("the same command goes on where it was")
            raise
        write_index(output)
        print(f"written to {output}")


@contextmanager
def places(quick: bool, few: bool, cache: Path | None,
           output: Path) -> Iterator[tuple[Path, Path]]:
    """Where runs are kept and where results are written.  What is quick or has few seeds leaves
    its pages elsewhere, to be looked at; what is quick keeps no runs unless it is told where."""
    if not (quick or few):
        yield cache or CACHE, output
        return
    folder = Path(mkdtemp(prefix="minirlhf-claims-"))
    try:
        yield cache or (folder / "runs" if quick else CACHE), folder
    finally:
        shutil.rmtree(folder / "runs", ignore_errors=True)


def conduct(chosen: Sequence[Experiment], seeds: Sequence[int], store: Store,
            submit: Callable[..., Future], draws: int, output: Path, room: int) -> None:
    """The experiments from their runs to their pages, each as soon as all its numbers are there;
    what is in the store is not done again."""
    jobs: dict[str, Job] = {}                              # claim by claim
    left = {experiment.name: len(seeds) for experiment in chosen}
    for experiment in chosen:
        for seed in seeds:
            runs = folders(experiment, seed, store)
            jobs |= store.missing((run, seed) for run in experiment.claim.runs.values())
            name = f"{experiment.name}/{seed}"
            jobs[name] = Job(name, tuple(run.name for run in runs.values()), claims_command.measure,
                             (experiment.path, runs))
    with tqdm(total=len(jobs), desc="claims", mininterval=0.5) as bar:
        def told_of(name: str) -> None:
            bar.update()
            for experiment in chosen:
                if name.startswith(f"{experiment.name}/"):
                    left[experiment.name] -= 1
                    if not left[experiment.name]:
                        bar.write(finish(experiment, seeds, store, draws, output))

        do(jobs, submit, told_of, room)


def folders(experiment: Experiment, seed: int, store: Store) -> dict[str, Path]:
    """The runs of one seed."""
    return {name: store.run(run, seed) for name, run in experiment.claim.runs.items()}


def finish(experiment: Experiment, seeds: Sequence[int], store: Store, draws: int,
           output: Path) -> str:
    """Decide, and write the pages of a claim that has been measured; the result in a line."""
    numbers = [measuring.measured(experiment, folders(experiment, seed, store)) for seed in seeds]
    found = result(experiment, seeds, numbers, store, draws)
    write(experiment, found, output)
    return told(experiment, found)


# --- what is written -----------------------------------------------------------------------------

def write(experiment: Experiment, found: dict, output: Path) -> None:
    """The result, its figure and its page."""
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / f"{experiment.name}.json", found)
    figures.write(output / f"{experiment.name}.svg", experiment, found)
    write_text(output / f"{experiment.name}.md", pages.page(experiment, found))


def write_index(output: Path) -> None:
    """All claims there are, in a table and on one page to be looked at."""
    write_text(output / "README.md", pages.index(experiments(), output))
    write_text(output / "index.html", gallery.gallery(experiments(), output))


def again(chosen: Sequence[Experiment], output: Path) -> None:
    """Figures and pages of the results that are there, and the index."""
    for experiment in chosen:
        path = output / f"{experiment.name}.json"
        if path.exists():
            figures.require()
            write(experiment, read_object(path), output)
    write_index(output)
    print(f"written to {output}")


def told(experiment: Experiment, found: dict) -> str:
    """A result in a line."""
    effects = [f"{name} {pages.number(effect['test']['effect'])} "
               f"({pages.span(effect['test']['interval'])})"
               for name, effect in found["effects"].items() if effect["verdict"]]
    return f"{experiment.number} {found['verdict']}: {experiment.claim.title}; {', '.join(effects)}"

"""`minirlhf claims`: runs, measurements, verdicts and pages, claim by claim."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tqdm import tqdm

from experiment import figures, measuring, pages
from experiment.claim import FOLDER, NAME, Experiment, experiments
from experiment.results import result
from experiment.statistics import DRAWS
from experiment.store import Store
from experiment.workers import processes
from minirlhf import cli
from minirlhf.files import read_object, write_json, write_text

ROOT = FOLDER.parent.parent
DOCS, CACHE = ROOT / "docs" / "claims", ROOT / "runs" / "claims"
SEEDS, QUICK_SEEDS, QUICK_DRAWS = 5, 2, 1000


def main(path: str) -> None:
    """A claim file as a program: `minirlhf claims` of its number alone."""
    number = NAME.fullmatch(Path(path).name)[1]
    sys.exit(cli.main(["claims", number, *sys.argv[1:]]))


def run(which: Sequence[str] = (), *, quick: bool = False, seeds: int | None = None,
        cache: Path | None = None, output: Path = DOCS, only_pages: bool = False) -> None:
    """The claims with these numbers; all, if none is named.

    cache    where runs are kept, and found again
    output   where results lie; a quick run's lie in a temporary folder instead
    Raises ValueError for what cannot be run, before anything is.
    """
    chosen, seeds = experiments(which), seeds or (QUICK_SEEDS if quick else SEEDS)
    if seeds < 2:
        raise ValueError(f"--seeds: an interval over seeds wants at least 2 of them, got {seeds}")
    if only_pages:
        again(chosen, output)
        return
    figures.require()
    with places(quick, cache, output) as (cache, output), processes() as submit:
        store = Store(cache, quick)
        for experiment in chosen:
            try:
                found = conduct(experiment, range(seeds), store, submit,
                                QUICK_DRAWS if quick else DRAWS)
            except KeyboardInterrupt as interruption:
                interruption.add_note("the same command goes on where it was")
                raise
            write(experiment, found, output)
            print(told(experiment, found), flush=True)
        write_index(output)
        print(f"written to {output}")


@contextmanager
def places(quick: bool, cache: Path | None, output: Path) -> Iterator[tuple[Path, Path]]:
    """Where runs are kept and where results are written.  A quick run leaves its pages to be looked
    at, and keeps no runs unless it is told where."""
    if not quick:
        yield cache or CACHE, output
        return
    folder = Path(mkdtemp(prefix="minirlhf-claims-"))
    try:
        yield cache or folder / "runs", folder
    finally:
        shutil.rmtree(folder / "runs", ignore_errors=True)


def conduct(experiment: Experiment, seeds: Sequence[int], store: Store,
            submit: Callable[..., Future], draws: int) -> dict:
    """An experiment from its runs to its result; what is in the store is not done again."""
    wanted = experiment.claim.runs
    missing = store.missing([(run, seed) for run in wanted.values() for seed in seeds])
    with tqdm(total=len(missing), desc=f"{experiment.number} runs", mininterval=0.5) as bar:
        store.make(missing, submit, lambda name: bar.update())
    folders = [{name: store.run(run, seed) for name, run in wanted.items()} for seed in seeds]
    with tqdm(total=len(folders), desc=f"{experiment.number} seeds", mininterval=0.5) as bar:
        for future in as_completed([submit(measuring.measure, experiment.path, runs)
                                    for runs in folders]):
            future.result()
            bar.update()
    return result(experiment, seeds, [measuring.measured(experiment, runs) for runs in folders],
                  store, draws)


# --- what is written -----------------------------------------------------------------------------

def write(experiment: Experiment, found: dict, output: Path) -> None:
    """The result, its figure and its page."""
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / f"{experiment.name}.json", found)
    figures.write(output / f"{experiment.name}.svg", experiment, found)
    write_text(output / f"{experiment.name}.md", pages.page(experiment, found))


def write_index(output: Path) -> None:
    """The table of all claims there are."""
    write_text(output / "README.md", pages.index(experiments(), output))


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

"""`minirlhf claims`: the article's claims as experiments.

The experiments are no part of the package: they lie in a clone, in scripts/claims/, and write their
results to its docs/claims/.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from minirlhf.options import parse

FOLDER = Path(__file__).parent.parent / "scripts" / "claims"
UNSAID = tyro.conf.arg(help_behavior_hint="")            # no "(default: None)" in the help


@dataclass(frozen=True)
class Claims:
    """Try claims of the article: confirmed, refuted or undecided, by a rule fixed beforehand.

    Each is a file of scripts/claims/ that states a sentence of the article, a prediction, the runs
    that it wants and what decides.  Runs are made once for all claims, two at a time, and kept; the
    same command goes on where it was interrupted.  Results are written to docs/claims/.  Needs a
    clone of the repository and the extra: claims (matplotlib, for the figures).
    """

    which: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(
        metavar="[NN ...]", help_behavior_hint="")] = ()
    """numbers of the claims, such as 01 15; all of them, if none is given"""
    quick: bool = False
    """minute runs of 2 seeds, written to a temporary folder, to see that everything works"""
    seeds: Annotated[int | None, UNSAID] = None
    """runs of each kind, with the seeds 0, 1, …: 5, or 2 with --quick"""
    cache: Annotated[Path | None, UNSAID] = None
    """where runs are kept: runs/claims in the clone"""
    scheduler: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """compute on the workers of the Dask scheduler at this address, such as tcp://host:8786 (needs
    the extra: cluster); they must see the clone and the cache, under the same paths"""
    pages: bool = False
    """measure nothing: write figures, pages and index of the results that are there again"""


def claims(argv: Sequence[str]) -> None:
    """Parse the flags and run the experiments.

    Raises ValueError where the package is installed without its clone.
    """
    args = parse(Claims, "minirlhf claims", None, argv)
    if not (FOLDER / "experiment").is_dir():
        raise ValueError("the experiments lie in a clone of the repository, and this minirlhf is "
                         "installed without one; clone it, and pip install -e '.[claims]' there")
    make_importable()
    from experiment.command import run
    run(args.which, quick=args.quick, seeds=args.seeds, cache=args.cache, only_pages=args.pages,
        scheduler=args.scheduler)


def measure(path: Path, runs: Mapping[str, Path]) -> None:
    """Measure a claim file on one seed's runs, in a process that knows the package alone."""
    make_importable()
    from experiment import measuring
    measuring.measure(path, runs)


def make_importable() -> None:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))

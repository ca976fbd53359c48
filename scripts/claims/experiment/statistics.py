"""From numbers by prompt and seed to an interval, and from an interval to a verdict.

**The interval.**  Runs of different seeds are independent, replies of one run are not: all of them
owe something to one reward model, one initialisation.  So the bootstrap is clustered: it draws
seeds with replacement, then prompts with replacement within each seed drawn.  It is paired: all
models of a seed answered the same prompts, and a prompt that is drawn takes the numbers of all of
them along; what makes a prompt hard for everybody cancels.

With few clusters the percentiles of a bootstrap lie too near to each other: with n = 5 seeds that
differ, the usual 2.5th and 97.5th percentile cover the truth in about 84 % of cases.  Therefore the
*expanded* percentiles (Hesterberg 2015, arXiv 1411.5279), α and 1 − α with

    α = Φ(−√(n/(n−1))·t),    t the 97.5th percentile of Student's t, n − 1 degrees of freedom

which correct the spread of n numbers for its bias, and for not being known.

Seeds are the population that is spoken about, and the world's prompts as they are: whether a claim
would hold of another world, no interval here can say.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from minirlhf import evaluation

LEVEL = 0.95
DRAWS = 20_000
AT_ONCE = 1000                             # draws of prompts that are counted together
VERDICTS = ("confirmed", "refuted", "undecided")


# --- the interval --------------------------------------------------------------------------------

def resampled_means(table: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
    """The columns' means over as many prompts, drawn with replacement.  (P, C) -> (n, C)"""
    P, found = len(table), []
    for start in range(0, n, AT_ONCE):
        rows = min(AT_ONCE, n - start)
        drawn = rng.integers(P, size=(rows, P)) + P * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * P).reshape(rows, P)
        found.append(counts @ table / P)
    return np.concatenate(found)


def bootstrap(tables: Sequence[np.ndarray], draws: int = DRAWS, *,
              rng: np.random.Generator) -> np.ndarray:
    """Means over prompts of seeds drawn again: (draws, seeds, C).

    tables: a seed's numbers each, (prompts, C); seeds may have different prompts, and different
    numbers of them.  A seed that is drawn twice has its prompts drawn twice.
    """
    S, C = len(tables), tables[0].shape[1]
    seeds = rng.integers(S, size=(draws, S))
    found = np.empty((draws, S, C))
    for seed, table in enumerate(tables):
        slots = seeds == seed
        if slots.any():
            found[slots] = resampled_means(table, int(slots.sum()), rng=rng)
    return found


def expanded_tail(n: int) -> float:
    """α: the share of the draws below the interval, and above it, for n seeds.

    (More than 31 seeds are given the t of 31, which makes the interval a little wide.)
    """
    numbers = np.arange(n)                   # of any numbers the t-interval is ± t standard errors
    t = evaluation.interval(numbers)[1] / evaluation.standard_error(numbers)
    return NormalDist().cdf(-sqrt(n / (n - 1)) * t)


def interval(tables: Sequence[np.ndarray], of: Callable[[np.ndarray], np.ndarray],
             draws: int = DRAWS, *, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the mean over seeds of a function of the columns' means.

    of: (..., C) -> (...).  Raises ValueError for fewer than two seeds, or a seed without a prompt.
    """
    check(tables)
    return percentiles(of(bootstrap(tables, draws, rng=rng)), len(tables))


def percentiles(drawn: np.ndarray, n: int) -> tuple[float, float]:
    """The interval from drawn effects, (draws, seeds), of n seeds."""
    alpha = expanded_tail(n)
    low, high = np.quantile(drawn.mean(axis=1), [alpha, 1 - alpha])
    return float(low), float(high)


def check(tables: Sequence[np.ndarray]) -> None:
    """Raise ValueError for tables that no interval can be made of."""
    if len(tables) < 2:
        raise ValueError(f"an interval over seeds wants at least 2 of them, got {len(tables)}")
    for seed, table in enumerate(tables):
        if len(table) == 0 or not np.isfinite(table).all():
            raise ValueError(f"seed number {seed} has " + (
                "no prompt to be measured on" if len(table) == 0 else
                "a number that is not finite"))


# --- the verdict ---------------------------------------------------------------------------------

def decide(low: float, high: float, smallest: float) -> str:
    """The rule of all claims: where the interval of an effect lies beside the smallest one that
    would be of interest, the effect being positive where the claim is right.

        confirmed    wholly above it
        refuted      wholly below it: whatever there is, is too small
        undecided    otherwise

    Raises ValueError for what is no interval.
    """
    if not low <= high:
        raise ValueError(f"wanted an interval, got one from {low} to {high}")
    return "confirmed" if low > smallest else "refuted" if high < smallest else "undecided"


def together(verdicts: Sequence[str]) -> str:
    """The verdict on a claim of several effects, which says that all of them are there.

    If one of them is not, it is confirmed by chance no more often than that one alone.
    """
    if "refuted" in verdicts:
        return "refuted"
    return "confirmed" if all(verdict == "confirmed" for verdict in verdicts) else "undecided"


def by_chance(claims: int) -> float:
    """How many of so many claims would be confirmed by chance alone, at most, on average: each
    interval lies above the truth in (1 − 0.95)/2 of cases."""
    return claims * (1 - LEVEL) / 2

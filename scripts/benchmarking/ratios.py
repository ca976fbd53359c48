"""From what the turns took to the numbers of a table.

Contenders take turns, so what disturbs the machine for a second disturbs them all.  Each turn gives
a ratio of two times; the median of these ratios is the result, and the distance of their quartiles
its uncertainty.  Where a contender's own turns spread too far there is no result.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LIMIT = 0.10                   # the largest spread of a contender's turns: IQR over median
MINIMUM = 4                    # points that an exponent is fitted to, at least


class Ratio(NamedTuple):
    """How many times as long one takes as another: the median over the turns, and its quartiles."""

    median: float
    low: float
    high: float


def median(turns: Sequence[float]) -> float:
    return float(np.median(turns))


def spread(turns: Sequence[float]) -> float:
    """The distance of the quartiles, as a share of the median."""
    low, middle, high = np.quantile(turns, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def noise(seconds: dict[str, Sequence[float]], *names: str) -> str | None:
    """Why a ratio of these contenders' turns is refused; None if it is not."""
    spreads = {name: spread(seconds[name]) for name in names}
    if max(spreads.values()) <= LIMIT:
        return None
    return "too noisy: " + ", ".join(f"{name} ± {100 * found:.0f} %"
                                     for name, found in spreads.items())


def ratio(seconds: dict[str, Sequence[float]], theirs: str, ours: str) -> Ratio:
    """theirs/ours turn by turn: above 1 where ours is faster.

    Raises ValueError where the turns are too noisy, or not as many on both sides.
    """
    if len(seconds[theirs]) != len(seconds[ours]):
        raise ValueError(f"turns come in pairs, but {ours} had {len(seconds[ours])} and {theirs} "
                         f"{len(seconds[theirs])}")
    refusal = noise(seconds, ours, theirs)
    if refusal:
        raise ValueError(refusal)
    ratios = np.divide(seconds[theirs], seconds[ours])
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return Ratio(float(middle), float(low), float(high))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of cost ≈ a·sizeᵖ: the slope of a line through the logarithms, by least squares.

    Raises ValueError for fewer than `MINIMUM` points.
    """
    if len(sizes) < MINIMUM or len(sizes) != len(costs):
        raise ValueError(f"an exponent wants {MINIMUM} points or more, a cost for each size; got "
                         f"{len(sizes)} sizes and {len(costs)} costs")
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)

"""Two arrays of one name: whether they are equal, and what relation explains that they are not."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minirlhf.tokens import last_token

TOLERANCE = {8: 1e-10, 4: 1e-4, 2: 2e-2}
"""by the bytes of a number: of the array's largest entry"""


def tolerance_of(x: np.ndarray) -> float:
    """How far an array of this dtype may be off, as a share of the array's largest entry.

    float64 leaves 10⁻¹⁵ or so after sums in another order, float32 10⁻⁶ after a model's.
    """
    return TOLERANCE.get(x.dtype.itemsize, 1e-10) if x.dtype.kind == "f" else 1e-10


def counting(x: np.ndarray, mask) -> np.ndarray:
    """The entries that count, as one vector."""
    return x[mask] if isinstance(mask, np.ndarray) else x.reshape(-1)


def differs(theirs: np.ndarray, ours: np.ndarray, mask=True, rtol: float = 1e-10,
            scale: float = 0.0) -> bool:
    """Another shape, not finite, or somewhere off by more than rtol of the largest entry that
    counts (of `scale`, where that is larger)."""
    if theirs.shape != ours.shape:
        return True
    a, w = counting(theirs, mask).astype(np.float64), counting(ours, mask)
    most = max(abs(w).max(initial=0.0), scale)
    return bool((~(abs(a - w) <= rtol * most)).any())


@dataclass(frozen=True)
class Departure:
    """Where two arrays differ most, and by how much."""
    index: tuple[int, ...]
    theirs: float
    ours: float
    absolute: float
    relative: float                  # of the largest entry of ours that counts
    entries: int                     # that are off
    of: int                          # that count


def departure(theirs: np.ndarray, ours: np.ndarray, mask, rtol: float) -> Departure:
    """For arrays of one shape that differ.  An entry that is not finite is the worst."""
    counts = np.broadcast_to(np.asarray(mask), ours.shape)
    most = abs(ours[counts]).max(initial=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.where(counts, abs(theirs.astype(np.float64) - ours), -1.0)
    off = np.where(counts & ~np.isfinite(theirs), np.inf, off)
    worst = np.unravel_index(int(off.argmax()), off.shape)
    return Departure(tuple(map(int, worst)), float(theirs[worst]), float(ours[worst]),
                     float(off[worst]), float(off[worst] / most) if most else np.inf,
                     int((off > rtol * most).sum()), int(counts.sum()))


def relations(theirs: np.ndarray, ours: np.ndarray, mask, rtol: float) -> list[str]:
    """Simple relations between two arrays, in words: those that hold for every entry."""
    if theirs.shape != ours.shape:
        if theirs.shape == ours.shape[::-1] and not differs(theirs.T, ours, mask, rtol):
            return ["it is ours transposed"]
        return []
    rtol *= 10                                           # a relation adds an error of its own
    a, w = counting(theirs, mask).astype(np.float64), counting(ours, mask)
    if not np.isfinite(a).all():
        return []
    found = []
    square = theirs.ndim == 2 and theirs.shape[0] == theirs.shape[1]
    if square and not differs(theirs.T, ours, mask, rtol):
        found.append("it is ours transposed")
    if not differs(-theirs, ours, mask, rtol):
        found.append("it is ours with the other sign")
    elif w.size > 1 and w @ w > 0:
        factor = (a @ w) / (w @ w)
        if factor and not differs(a, factor * w, rtol=rtol):
            found.append(f"it is ours times {factor:.6g}")
        elif not differs(a - (a - w).mean(), w, rtol=rtol):
            found.append(f"it is ours plus {(a - w).mean():.6g}")
    elif w.size == 1 and w[0] and is_simple(a[0] / w[0], rtol):
        found.append(f"it is ours times {a[0] / w[0]:.6g}")
    return found + moved(theirs, ours, mask, rtol)


def is_simple(factor: float, rtol: float) -> bool:
    """A whole number or one over it: any two numbers have a factor, few have such a one."""
    n = max(abs(factor), 1 / abs(factor)) if factor else 0.0
    return 1.5 < n < 1e4 and abs(n - round(n)) <= rtol * n


def moved(theirs: np.ndarray, ours: np.ndarray, mask, rtol: float) -> list[str]:
    """Whether each row is ours one column later or earlier."""
    if ours.ndim != 2 or ours.shape[1] < 2:
        return []
    counts = np.broadcast_to(np.asarray(mask), ours.shape)
    both = counts[:, 1:] & counts[:, :-1]
    if both.sum() < 2:
        return []
    found = []
    for words, a, w in (("later", theirs[:, 1:], ours[:, :-1]),
                        ("earlier", theirs[:, :-1], ours[:, 1:])):
        if not differs(a, w, both, rtol):
            found.append(f"it is ours one position {words}")
    return found


def reordered(theirs: np.ndarray, ours: np.ndarray, mask, rtol: float) -> list[str]:
    """Whether the rows are ours in another order."""
    if ours.ndim == 0 or len(ours) < 2 or theirs.shape != ours.shape:
        return []
    rtol *= 10
    counts = np.broadcast_to(np.asarray(mask), ours.shape)
    wanted = [np.where(c, row, 0.0) for row, c in zip(ours, counts, strict=True)]
    given = [np.where(c, row, 0.0) for row, c in zip(theirs, counts, strict=True)]
    order = []
    for row in given:
        order.append(next((i for i, w in enumerate(wanted)
                           if i not in order and not differs(row, w, rtol=rtol)), None))
    if None in order or order == sorted(order):
        return []
    return [f"its rows are ours in another order: {', '.join(map(str, order))}"]


def places(theirs: np.ndarray, ours: np.ndarray, base: Mapping, rtol: float) -> list[str]:
    """What the entries that differ have in common, of an array (B,) or (B, R) of replies."""
    mask, whole = base["mask"], base["sequence_mask"]
    rows = {"replies that are padded differ, as if something were read or paid at a pad":
            ~mask[:, -1],
            "replies that were cut off without a pad differ": mask[:, -1],
            "replies to padded prompts differ, as if pads were counted or attended to":
            ~whole[:, 0]}
    tokens = {"the last token of each reply differs": last_token(mask),
              "the first token of each reply differs": np.arange(mask.shape[1]) == 0 * mask}
    if theirs.shape != ours.shape or theirs.shape not in (mask.shape, mask.shape[:1]):
        return []
    close = rtol * abs(ours[mask] if ours.ndim == 2 else ours).max()
    off = ~(abs(theirs.astype(np.float64) - ours) <= close)
    if ours.ndim == 2:
        off &= mask
        for words, where in tokens.items():
            if (off == where).all() and off.sum() > 1 and not where.all(where=mask):
                return [f"only {words}"]
    differing = off.any(axis=1) if ours.ndim == 2 else off
    return [f"only {words}" for words, where in rows.items()
            if (differing == where).all() and not where.all()]

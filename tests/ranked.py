"""What the tests let several ranks do: python ranked.py FOUND.npz FUNCTION [ARGUMENT …].

Every rank calls the function; what it returns to the first, named arrays, goes to FOUND.npz.
"""

import sys

import numpy as np
import pytest
from strict import STRICT

from minirlhf import dealing, parallel
from minirlhf.arrays import to_host
from minirlhf.dealing import by_the_first, dealt, rows_together, same_everywhere
from minirlhf.parallel import alone, ranks

# --- parallel.py and dealing.py ------------------------------------------------------------------

def numbers(rank: int, dtype: str = "float32") -> np.ndarray:
    """(1001,) of a rank, of all sizes, so that their sum depends on its order."""
    rng = np.random.default_rng(rank)
    return (rng.standard_normal(1001) * 10.0 ** rng.integers(-6, 6, 1001)).astype(dtype)


def sums():
    here = ranks()
    assert here.neighbours == here.size                          # on one machine
    found = {}
    for dtype in ("float32", "float64"):
        mine = numbers(here.rank, dtype)
        here.all_sum(mine)
        same_everywhere("the sums", mine)
        found[dtype] = mine
    counts = np.array([[1, here.rank], [here.rank ** 2, 0]])
    kept = counts
    here.all_sum(counts)
    assert counts is kept
    found["counts"] = counts
    board = np.zeros((4, 4))
    here.all_sum(board[:, 1])                                    # no copy that is forgotten
    board[:, 2] = 1
    here.all_sum(board[:, 2])
    found["board"] = board
    on_device = STRICT.asarray(numbers(here.rank))
    here.all_sum(on_device)
    found["device"] = to_host(on_device)
    return found


def agreements():
    here = ranks()
    for answer in (True, False):
        assert here.agreed(answer) is answer
        assert here.agreed(answer if here.rank == 0 else not answer) is answer
    with alone():
        assert ranks().size == 1 and ranks().rank == here.rank
        assert ranks().agreed(here.rank == 1) is (here.rank == 0 and False)
        mine = numbers(here.rank)
        ranks().all_sum(mine)
        assert (mine == numbers(here.rank)).all()
    assert ranks() is here


def shares():
    """Each row is computed by one rank, and is the same bits on all; also where ranks have none."""
    here = ranks()
    rng = np.random.default_rng(0)
    for n in range(1, 12):
        wanted = (rng.standard_normal((n, 3)).astype("float32"), rng.random((n, 2)) < 0.5,
                  np.arange(n))
        for asarray in (np.asarray, STRICT.asarray):
            asked = []

            def compute(rows, wanted=wanted, asarray=asarray, asked=asked):
                asked.append(rows)
                return [asarray(array[rows]) for array in wanted]

            for found, array in zip(dealt(compute, n), wanted, strict=True):
                assert found.dtype == array.dtype and (to_host(found) == array).all()
            [rows] = asked
            assert rows.stop - rows.start <= max(1, -(-n // here.size))
            if n >= here.size:
                computed = np.zeros(n, int)
                computed[rows] += 1
                here.all_sum(computed)
                assert (computed == 1).all()


def texts():
    here = ranks()
    own = [{"rank": here.rank, "said": "µ<eos>\n" * i, "x": [i / 7, None]}
           for i in range(here.rank)]                            # rank 0 has none
    wanted = [{"rank": rank, "said": "µ<eos>\n" * i, "x": [i / 7, None]}
              for rank in range(here.size) for i in range(rank)]
    assert rows_together(own) == wanted
    assert rows_together([]) == []


def first_alone():
    done = []
    by_the_first(done.append)(1)
    with alone():
        by_the_first(done.append)(2)
    assert done == ([1, 2] if ranks().rank == 0 else [])


def apart():
    """One bit of one rank is told, and the rank named, on every rank."""
    here = ranks()
    for wrong in range(1, here.size):
        x = numbers(0)
        same_everywhere("the numbers", x)
        if here.rank == wrong:
            x[500] = np.nextafter(x[500], np.float32(9))
        with pytest.raises(RuntimeError, match=f"the numbers of rank {wrong} are not those of"):
            same_everywhere("the numbers", x)


# --- wrong ways ----------------------------------------------------------------------------------

def wrong_gather(mistake: str):
    """`shares`, where rows are put together wrongly: it must not go through, on any rank."""
    def at_the_beginning(own, start, n):
        return right(own, 0, n) if len(own) < n else right(own, start, n)

    def not_summed(own, start, n):
        with alone():
            return right(own, start, n)

    def as_floats(own, start, n):
        return right(own.astype("float16"), start, n).astype(own.dtype)

    right = dealing.in_place
    dealing.in_place = {"at the beginning": at_the_beginning, "not summed": not_summed,
                        "as floats": as_floats}[mistake]
    noticed = 0
    try:
        shares()
    except AssertionError:
        noticed = 1
    return {"noticed": np.array(noticed)}


if __name__ == "__main__":
    parallel.join()
    path, name, *given = sys.argv[1:]
    result = globals()[name](*given)
    if ranks().rank == 0:
        np.savez(path, **(result or {}))

"""Laws of ranks: sums that are the same on all, work that is dealt out and put together."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import FLAGS, assert_same
from mpi import TESTS, needs_mpi, on_ranks
from ranked import numbers

from minirlhf import parallel
from minirlhf.dealing import (
    by_the_first,
    dealt,
    first_says,
    rows_together,
    same_everywhere,
    wait,
)
from minirlhf.parallel import Ranks, alone, join, ranks

# --- a process by itself -------------------------------------------------------------------------

def test_a_process_that_nobody_launched_is_the_only_rank(monkeypatch):
    for name in parallel.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    join()
    assert ranks() == Ranks(rank=0, size=1, neighbours=1, started=1, world=None)
    x = np.array([1.0, 2.0])
    ranks().all_sum(x)
    assert_same(x, np.array([1.0, 2.0]))
    assert [first_says(answer) for answer in (True, False)] == [True, False]
    wait()
    with alone():
        assert ranks() == Ranks()


def test_a_process_by_itself_computes_all_rows_at_once_and_nothing_else():
    rows = [{"x": object()}]                                     # which no JSON could hold
    assert rows_together(rows) is rows
    asked = []
    assert dealt(lambda own: asked.append(own) or ("the", "arrays"), 7) == ("the", "arrays")
    assert asked == [slice(0, 7)]
    same_everywhere("nothing", None)                             # nor is anything looked at
    by_the_first(asked.append)("written")
    assert asked[1:] == ["written"]


def test_a_plain_run_imports_no_mpi(tmp_path):
    program = ("import sys; from minirlhf import cli; assert cli.main(sys.argv[1:]) == 0; "
               "assert not {'mpi4py', 'mpi4py.MPI'} & set(sys.modules)")
    plain = {name: value for name, value in os.environ.items() if name not in parallel.LAUNCHED}
    subprocess.run([sys.executable, "-c", program, "run", *FLAGS], check=True, cwd=tmp_path,
                   env=plain | {"PYTHONPATH": str(TESTS.parent)}, capture_output=True)
    assert (tmp_path / "runs/toy/report.html").exists()


def test_ranks_without_mpi4py_are_told_what_brings_it(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RuntimeError, match=r"2 ranks want mpi4py and MPI.*minirlhf\[mpi\]"):
        join()
    assert ranks().size == 1


def test_an_mpi_that_is_not_the_launchers_is_refused(monkeypatch):
    """Else each of the processes would take itself for the only one, and all write one folder."""
    class Stranger:
        class MPI:
            class COMM_WORLD:
                size = 1

    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", Stranger)
    with pytest.raises(RuntimeError, match="2 ranks were started, but mpi4py's MPI sees 1"):
        join()


def test_a_launcher_of_one_rank_is_none(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "1")
    monkeypatch.setitem(sys.modules, "mpi4py", None)             # importing it would raise
    join()
    assert ranks() == Ranks()


# --- several -------------------------------------------------------------------------------------

@needs_mpi
@pytest.mark.parametrize("size", [2, 3])
def test_all_ranks_get_the_sum_to_the_same_bit(size, tmp_path):
    found = on_ranks(size, "sums", folder=tmp_path)
    for dtype in ("float32", "float64"):
        parts = [numbers(rank, dtype) for rank in range(size)]
        bound = (size - 1) * np.finfo(dtype).eps * sum(map(abs, parts))
        assert (abs(found[dtype] - sum(parts)) <= bound).all() and found[dtype].dtype == dtype
    if size == 2:                                                # a + b is b + a
        assert_same(found["float32"], numbers(0) + numbers(1))
    assert_same(found["device"], found["float32"])
    every = range(size)
    assert_same(found["counts"], np.array([[size, sum(every)], [sum(r * r for r in every), 0]]))
    assert_same(found["board"], np.array([[0, 0, size, 0]] * 4, float))


@needs_mpi
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_act_as_one(size, tmp_path):
    """Each law is a function of tests/ranked.py."""
    on_ranks(size, "laws", folder=tmp_path)


@needs_mpi
@pytest.mark.parametrize("mistake", ["at the beginning", "not summed", "as floats"])
def test_rows_that_are_put_together_wrongly_are_noticed(mistake, tmp_path):
    assert on_ranks(2, "wrong_gather", mistake, folder=tmp_path)["noticed"] == 1

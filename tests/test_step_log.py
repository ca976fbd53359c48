"""The log of steps: every step's numbers, in order, and few transfers from a device."""

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict import STRICT, counting

from minirlhf.arrays import numbers_on_host
from minirlhf.files import read_jsonl
from minirlhf.step_log import AT_ONCE, StepLog


def rows_of(path):
    return read_jsonl(path, "stage") if path.exists() else []


def number(backend, x):
    return backend.asarray(np.float32(x))


# --- numbers to the host -------------------------------------------------------------------------

def test_numbers_of_any_kind_become_pythons(backend):
    rows = [{"loss": number(backend, 0.5), "lr": 0.25, "n": 3},
            {"loss": number(backend, -1.5), "norm": backend.asarray(np.float64(1e-9))}]
    found = numbers_on_host(rows)
    assert found == [{"loss": 0.5, "lr": 0.25, "n": 3.0}, {"loss": -1.5, "norm": 1e-9}]
    assert all(type(x) is float for row in found for x in row.values())
    assert numbers_on_host([]) == []


@given(x=st.floats(width=32))
def test_a_number_comes_over_to_the_bit_beside_one_of_another_precision(backend, x):
    [row] = numbers_on_host([{"x": number(backend, x), "pi": backend.asarray(np.float64(np.pi))}])
    np.testing.assert_array_equal([row["x"], row["pi"]], [x, np.pi])


def test_all_numbers_of_all_rows_come_over_in_one_transfer():
    rows = [{"loss": number(STRICT, i), "norm": number(STRICT, -i), "lr": 0.1} for i in range(7)]
    with counting() as spent:
        found = numbers_on_host(rows)
    assert (spent.syncs, spent.uploads) == (1, 0)
    assert found == [{"loss": i, "norm": -i, "lr": 0.1} for i in range(7)]


# --- the log -------------------------------------------------------------------------------------

def test_every_step_is_logged_in_order(backend, tmp_path):
    log = StepLog(tmp_path / "log", "SFT")
    for step in range(2 * AT_ONCE + 3):
        log.add(step, {"loss": number(backend, step), "lr": 0.5})
    log.write()
    assert rows_of(log.path) == [{"stage": "SFT", "step": step, "loss": float(step), "lr": 0.5}
                                 for step in range(2 * AT_ONCE + 3)]
    log.write()
    assert len(rows_of(log.path)) == 2 * AT_ONCE + 3


def test_numbers_of_the_host_are_written_at_once(tmp_path):
    log = StepLog(tmp_path / "log", "SFT")
    log.add(0, {"loss": np.float32(2), "lr": 0.5})
    assert len(rows_of(log.path)) == 1 and log.last == {"loss": 2.0, "lr": 0.5}


def test_numbers_of_a_device_wait_until_ten_steps_have_gathered(tmp_path):
    log = StepLog(tmp_path / "log", "SFT")
    with counting() as spent:
        for step in range(AT_ONCE - 1):
            log.add(step, {"loss": number(STRICT, step)})
    assert rows_of(log.path) == [] and log.last == {} and spent.syncs == 0
    with counting() as spent:
        log.add(AT_ONCE - 1, {"loss": number(STRICT, 5)})
    assert len(rows_of(log.path)) == AT_ONCE and spent.syncs == 1 and log.last == {"loss": 5.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_stops_at_its_step_and_the_good_ones_are_logged(
        bad, backend, tmp_path):
    log = StepLog(tmp_path / "log", "SFT")
    with pytest.raises(FloatingPointError, match="^SFT, step 2: loss is not finite; try a smaller"):
        for step, loss in enumerate([0.0, 1.0, bad, bad, 2.0]):
            log.add(step, {"norm": 1.0, "loss": number(backend, loss)})
        log.write()
    assert [row["step"] for row in rows_of(log.path)] == [0, 1]


def test_what_waits_is_logged_when_something_else_goes_wrong(tmp_path):
    with pytest.raises(MemoryError), closing(StepLog(tmp_path / "log", "SFT")) as log:
        log.add(0, {"loss": number(STRICT, 0.5)})
        raise MemoryError
    assert [row["step"] for row in rows_of(log.path)] == [0]

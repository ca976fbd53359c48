"""Laws of the host: memory that is kept, blocks that fit the cache, workers on the cores."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st
from strict import STRICT

from minirlhf import host
from minirlhf.host import blocks, in_parallel

HERE = np.zeros(1)
GLIBC = pytest.mark.skipif(not sys.platform.startswith("linux") or not os.confstr(
    "CS_GNU_LIBC_VERSION"), reason="only glibc gives memory back like this")


def printed_by(program: str, **environment: str) -> list[str]:
    """The words that a program prints in a process of its own, where settings of the host end."""
    ran = subprocess.run([sys.executable, "-c", program], env=os.environ | environment,
                         capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


# --- memory --------------------------------------------------------------------------------------

FAULTS = """
import resource, threading
import numpy as np
from minirlhf.host import keep_freed_memory
if {keep}:
    keep_freed_memory()
def work():
    for _ in range(3):
        a = np.ones(2**20); b = a + 1; c = b * a; del a, b, c
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work); thread.start(); thread.join(); work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(); faults()
print(faults())
"""


@GLIBC
def test_freed_memory_is_kept_for_the_next_array_in_every_thread():
    """18 arrays of 8 MiB are 36864 pages of 4 KiB."""
    [without], [kept] = (printed_by(FAULTS.format(keep=keep)) for keep in (False, True))
    assert int(without) > 5_000
    assert int(kept) < 500


PEAK = """
import numpy as np
from minirlhf.host import peak_memory
{before}
first = peak_memory()
a = np.ones(2**24); second = peak_memory()
del a; third = peak_memory()
print(first, second, third)
"""
BY_GETRUSAGE = """
from pathlib import Path
def read_text(path): raise FileNotFoundError
Path.read_text = read_text
"""
ON_A_MAC = BY_GETRUSAGE + """
import resource, sys
from types import SimpleNamespace
sys.platform = "darwin"
real = resource.getrusage
resource.getrusage = lambda who: SimpleNamespace(ru_maxrss=1024 * real(who).ru_maxrss)
"""
WITHOUT = BY_GETRUSAGE + """
import sys
sys.modules["resource"] = None
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="knows how Linux tells it")
@pytest.mark.parametrize("before", ["", BY_GETRUSAGE, ON_A_MAC],
                         ids=["/proc", "getrusage", "getrusage in bytes"])
def test_the_peak_grows_with_an_array_and_stays_when_it_is_gone(before):
    """128 MiB of ones, in bytes whatever unit the system tells it in."""
    first, second, third = map(int, started_alone(PEAK.format(before=before)))
    assert 2**23 < first < 2**29
    assert 2**27 - 2**23 < second - first < 2**27 + 2**23
    assert abs(third - second) < 2**23                    # the system counts by rough sums


def started_alone(program: str) -> list[str]:
    """printed_by, but from a small process: getrusage tells a child the peak of its parent."""
    return printed_by("import subprocess, sys\n"
                      f"subprocess.run([sys.executable, '-c', {program!r}], check=True)")


def test_where_nobody_tells_the_peak_there_is_none():
    assert printed_by(PEAK.format(before=WITHOUT)) == ["None"] * 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="knows how Linux tells it")
def test_a_process_does_not_begin_with_the_peak_of_the_one_that_started_it():
    """As it would by getrusage: this one takes 512 MiB first."""
    child = "from minirlhf.host import peak_memory; print(peak_memory())"
    [told] = printed_by("import subprocess, sys; import numpy as np; a = np.ones(2**26)\n"
                        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)")
    assert 2**23 < int(told) < 2**28


# --- cache ---------------------------------------------------------------------------------------

@given(rows=st.integers(0, 50), columns=st.integers(0, 5), size=st.integers(1, 40))
def test_blocks_are_views_that_cover_every_row_once_and_in_order(rows, columns, size):
    shape = (rows, columns) if columns else (rows,)
    a, b = np.arange(np.prod(shape)).reshape(shape), np.zeros(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "BLOCK", size)
        parts = list(blocks(a, b))
    assert_same(np.concatenate([x for x, _ in parts]), a)
    for x, y in parts:
        assert x.shape == y.shape and x.size <= max(size, columns)
        y += x
    assert_same(b, a.astype(float))


def test_a_device_is_given_everything_at_once():
    a = STRICT.asarray(np.zeros((100, 3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "BLOCK", 6)
        assert [x.shape for (x,) in blocks(a)] == [(100, 3)]


# --- cores ---------------------------------------------------------------------------------------

@pytest.fixture
def three_workers(monkeypatch):
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(host, "_workers", pool)
        yield


def test_results_come_in_the_order_of_the_parts(three_workers):
    assert list(in_parallel(lambda n: n * n, range(20), HERE)) == [n * n for n in range(20)]


def test_parts_are_computed_on_other_threads_but_for_a_device(three_workers):
    def where(_):
        return threading.current_thread() is threading.main_thread()

    there = STRICT.asarray(HERE)
    assert list(in_parallel(where, range(4), HERE)) == [False] * 4
    assert list(in_parallel(where, range(1), HERE)) == [True]
    assert list(in_parallel(where, range(4), there)) == [True] * 4


def test_a_part_that_fails_fails_the_whole(three_workers):
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda n: 1 / n, [1, 0, 2], HERE))


CORES = """
import ctypes, threading
import numpy as np
from minirlhf import host
for _ in range(2):
    host.use_cores()
    print(host._workers and host._workers._max_workers, host.openblas("get_num_threads")())
"""


def test_one_core_for_blas_is_one_core_for_all():
    assert printed_by(CORES, OPENBLAS_NUM_THREADS="1") == ["None", "1"] * 2


@pytest.mark.parametrize("cores, sharers, each", [
    (8, 1, 8), (8, 4, 2), (5, 2, 2), (2, 2, None), (2, 3, None), (1, 1, None)])
def test_processes_that_share_the_cores_take_a_part_each(cores, sharers, each, monkeypatch):
    limits = []
    monkeypatch.setattr(host, "_workers", None)
    monkeypatch.setattr(host, "openblas", {"get_num_threads": lambda: cores,
                                           "set_num_threads": limits.append}.get)
    host.use_cores(sharers)
    assert (host._workers and host._workers._max_workers) == each
    assert limits == [1] * (cores > 1)


@pytest.mark.skipif((os.cpu_count() or 1) < 2 or "openblas" not in str(
    np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("name", "")),
    reason="wants two cores and OpenBLAS")
def test_every_core_that_blas_had_gets_a_worker_and_blas_keeps_one():
    """Asked again, nothing changes."""
    assert printed_by(CORES, OPENBLAS_NUM_THREADS="2") == ["2", "1"] * 2


FORKED = """
import os
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from minirlhf import host
host._workers = ThreadPoolExecutor(2)
like = np.zeros(1)
print(sum(host.in_parallel(abs, [1, 2], like)), flush=True)
if os.fork() == 0:
    print(sum(host.in_parallel(abs, [3, 4], like)), flush=True)
else:
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_does_not_wait_for_workers_that_stayed_behind():
    assert printed_by(FORKED) == ["3", "7"]

"""What a run was computed with is recorded, and a difference is told."""

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers import FLAGS, call

from minirlhf import environment as recording
from minirlhf import pipeline, run_folder
from minirlhf.arrays import NUMPY, cupy_problem
from minirlhf.environment import DECISIVE, differences, environment
from minirlhf.files import read_json, write_json


def test_an_environment_is_plain_texts_that_repeat():
    found = environment(NUMPY)
    assert found == environment(NUMPY) == json.loads(json.dumps(found))
    assert all(isinstance(text, str) and text for text in found.values())
    assert found["numpy"] == np.__version__ and found["backend"] == "numpy"
    assert {"python", "blas", "processor", "system"} <= set(found)


def test_the_kernel_and_threads_of_blas_are_those_that_a_library_for_it_finds():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="compares with threadpoolctl")
    known = [row for row in threadpoolctl.threadpool_info() if row["internal_api"] == "openblas"]
    if not known:
        pytest.skip("NumPy computes with another BLAS here than OpenBLAS")
    found = environment(NUMPY)
    assert (found["blas kernel"], found["blas threads"]) in {
        (row["architecture"], str(row["num_threads"])) for row in known}


@pytest.mark.parametrize("key", DECISIVE)
def test_each_decisive_entry_is_told_when_it_changes(key):
    before = environment(NUMPY)
    assert differences(before, before) == []
    (told,) = differences({**before, key: "old"}, {**before, key: "new"})
    assert told == f"{key} was old, is new"
    (told,) = differences({k: v for k, v in before.items() if k != key}, {**before, key: "new"})
    assert told == f"{key} was {'1' if key == 'ranks' else 'not there'}, is new"


def test_another_system_name_is_no_difference():
    assert differences({"system": "a", "command": "b"}, {"system": "c"}) == []


def test_a_run_that_goes_on_elsewhere_says_so_and_records_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    recorded = read_json("runs/p/environment.json")
    assert recorded["command"].startswith("minirlhf pretrain --name p --backend numpy")
    assert {key: recorded[key] for key in environment(NUMPY)} == environment(NUMPY)
    write_json(tmp_path / "runs/p/environment.json", {**recorded, "numpy": "1.0"})
    capsys.readouterr()
    assert call("sft", "p") == 0
    told = capsys.readouterr().out
    assert f"numpy was 1.0, is {np.__version__}" in told and told.count("note:") == 1
    after = read_json("runs/p/environment.json")
    assert after["numpy"] == "1.0" and after["resumed"] == [environment(NUMPY)]
    assert call("preferences", "p") == 0                 # the same again: nothing more to say
    assert "note:" not in capsys.readouterr().out
    assert read_json("runs/p/environment.json") == after


# --- why "auto" computes with NumPy --------------------------------------------------------------

def without_driver():
    """A CuPy that is installed, on a machine that has no driver."""
    cupy = ModuleType("cupy")
    cupy.__version__, cupy.ndarray = "14.2.0", type("ndarray", (), {})
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(driverGetVersion=lambda: 0))
    return cupy


def notes(capsys, *argv) -> list[str]:
    """What a command that works tells on stderr, but for progress bars."""
    capsys.readouterr()
    assert call(*argv) == 0
    return [line for line in re.split("[\r\n]", capsys.readouterr().err) if line.startswith("note")]


def test_a_run_says_once_why_auto_computes_with_numpy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", without_driver())
    flags = ["run", *FLAGS, "--backend", "auto"]
    (note,) = notes(capsys, *flags)
    assert note == f"note: computing with NumPy: {cupy_problem()}"
    assert "CuPy 14.2.0 is installed, but no NVIDIA driver was found; install" in note
    Path("runs/toy/samples.jsonl").unlink()              # each of these computes or looks, again
    for argv in (["evaluate", "toy"], [*flags, "--resume"], ["report", "toy"],
                 ["agreement", "toy"], ["refusals", "toy"]):
        assert notes(capsys, *argv) == []
    monkeypatch.setattr("sys.stdin", io.StringIO("/help\n"))
    assert notes(capsys, "chat", "toy") == []
    assert notes(capsys, "ppo", "toy", "--name", "other") == [note]          # a run of its own


@pytest.mark.parametrize("flags, cupy", [(["--backend", "numpy"], without_driver()),
                                         (["--backend", "auto"], None)],
                         ids=["NumPy was asked for", "CuPy is not installed"])
def test_nothing_is_said_to_whom_chose_numpy(flags, cupy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert notes(capsys, "pretrain", "--name", "p", *FLAGS, *flags) == []


def test_a_run_that_loses_its_gpu_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", without_driver())
    (note,) = notes(capsys, "pretrain", "--name", "p", *FLAGS, "--backend", "auto")
    path = tmp_path / "runs/p/environment.json"
    write_json(path, {**read_json(path), "backend": "cupy"})
    assert notes(capsys, "sft", "p") == [note]
    assert notes(capsys, "preferences", "p") == []


# --- data files ----------------------------------------------------------------------------------

def test_a_data_file_that_has_changed_is_refused(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"prompt": f"what is {i} ?", "chosen": "it", "rejected": "no"}) + "\n"
            for i in range(30)]
    (tmp_path / "people.jsonl").write_text("".join(rows))
    flags = [*FLAGS, "--text.vocab-size", "270", "--text.max-tokens", "40"]
    assert call("pretrain", "--preferences", "people.jsonl", "--name", "p", *flags) == 0
    (tmp_path / "people.jsonl").write_text("".join(rows[1:]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for argv in (["sft", "p"], ["sft", "p", "--name", "q"],
                 ["pretrain", "--preferences", "people.jsonl", "--name", "p", *flags, "--resume"]):
        capsys.readouterr()
        assert call(*argv) == 2
        told = capsys.readouterr().err
        assert "people.jsonl is not what it was when runs/p began" in told and told.count("\n") == 1
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run_folder.digest(tmp_path / "people.jsonl") != read_json(
        "runs/p/environment.json")["data"][str(tmp_path / "people.jsonl")]


# --- the memory that it took ---------------------------------------------------------------------

PEAK = Path("runs/p/memory.json")


@pytest.fixture
def takes(tmp_path, monkeypatch):
    """takes(bytes): from now on this process has taken so much at most."""
    monkeypatch.chdir(tmp_path)
    return lambda size: monkeypatch.setattr(recording, "peak_memory", lambda: size)


def test_the_peak_is_recorded_at_the_end_of_each_stage(takes):
    takes(300)
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    for size, stage in ((400, "sft"), (500, "preferences"), (600, "reward-model"), (700, "ppo"),
                        (800, "evaluate")):
        takes(size)
        assert call(stage, "p") == 0
        assert read_json(PEAK) == {"peak": size}
    assert "took 800 bytes at most" in Path("runs/p/report.html").read_text()
    takes(900)
    assert call("report", "p") == 0 and read_json(PEAK) == {"peak": 800}       # it computes nothing


@pytest.mark.parametrize("first, then", [(300, 200), (200, 300), (300, None)])
def test_a_run_that_goes_on_keeps_the_largest(first, then, takes, monkeypatch, capsys):
    """It dies before its second stage, and a process goes on that takes less, or more."""
    real = pipeline.STAGES["sft"]
    dies = real._replace(run=lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    takes(first)
    with monkeypatch.context() as patch:
        patch.setitem(pipeline.STAGES, "sft", dies)
        assert call("run", "--name", "p", *FLAGS) == 130
    assert read_json(PEAK) == {"peak": first}
    takes(then)
    assert call("run", "--name", "p", *FLAGS, "--resume") == 0
    assert read_json(PEAK) == {"peak": max(first, then or 0)}
    assert f"took {max(first, then or 0)} bytes at most" in capsys.readouterr().out


def test_a_run_elsewhere_begins_with_a_peak_of_its_own(takes):
    takes(300)
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    takes(200)
    assert call("sft", "p", "--name", "q") == 0
    assert read_json("runs/q/memory.json") == {"peak": 200} and read_json(PEAK) == {"peak": 300}


def test_where_nobody_tells_the_peak_none_is_written(takes):
    takes(None)
    assert call("run", "--name", "p", *FLAGS) == 0
    assert not PEAK.exists() and "The process took" not in Path("runs/p/report.html").read_text()


@pytest.mark.parametrize("content", ["{}", '{"peak": null}', '{"peak": 0}', '{"peak": -1}',
                                     '{"peak": 1.5}', '{"peak": true}', '{"peak": "1"}'])
def test_a_record_that_is_none_is_named_before_any_work(content, takes, capsys):
    takes(300)
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    PEAK.write_text(content)
    for argv in (["sft", "p"], ["run", "--name", "p", *FLAGS, "--resume"]):
        capsys.readouterr()
        assert call(*argv) == 2
        told = capsys.readouterr().err
        assert re.match('minirlhf: .*memory.json wants {"peak": bytes}, got', told)
        assert not Path("runs/p/sft").exists()

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

from minirlhf import run_folder
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
    assert told == f"{key} was not there, is new"


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

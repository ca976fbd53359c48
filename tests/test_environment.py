"""What a run was computed with is recorded, and a difference is told."""

import json

import numpy as np
import pytest
from helpers import FLAGS, call

from minirlhf import run_folder
from minirlhf.arrays import NUMPY
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

"""Files are whole or absent, and what cannot be read is named."""

import errno
import json
import os
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from helpers import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

from minirlhf.files import (
    append_jsonl,
    copy_whole,
    cut_half_line,
    locked,
    read_json,
    read_jsonl,
    read_tensors,
    remove_temporary,
    replacing,
    replacing_folder,
    temporary_name,
    write_json,
    write_jsonl,
    write_tensors,
    write_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4)
rows = st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole or absent -----------------------------------------------------------------------------

def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent
        temporary.write_text("whole")
    assert path.read_text() == "whole" and names(path.parent) == ["file"]


def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def test_an_exception_before_anything_was_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="^mine$"), replacing(tmp_path / "file"):
        raise ValueError("mine")                             # and not one of a missing file
    assert names(tmp_path) == []


def test_what_was_written_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Its content before it is renamed, and its name before anything else is done."""
    events = []
    monkeypatch.setattr(os, "fsync", lambda file: events.append(names(tmp_path)))
    write_text(tmp_path / "file", "text")
    before, after = events
    assert before != ["file"] and after == ["file"] == names(tmp_path)


@pytest.mark.parametrize("write, good, bad", [
    (write_text, "text", 5), (write_json, {"a": 1}, {(1, 2): 3}), (write_jsonl, [{"a": 1}], [{1j}]),
    (write_tensors, {"a": np.ones(2)}, {"a": np.array([object()])})],
    ids=["text", "json", "jsonl", "tensors"])
def test_data_that_cannot_be_written_leave_the_file_as_it_was(write, good, bad, tmp_path):
    path = tmp_path / "file"
    write(path, good)
    before = path.read_bytes()
    with pytest.raises(Exception):                           # noqa: B017 (whatever the writer's is)
        write(path, bad)
    assert path.read_bytes() == before and names(tmp_path) == ["file"]


def test_all_kinds_of_files_may_be_read_by_those_whom_the_umask_lets(tmp_path):
    for write, data in ((write_text, ""), (write_json, 1), (write_jsonl, []), (write_tensors, {})):
        write(tmp_path / write.__name__, data)
    (tmp_path / "plain").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


# --- JSON ----------------------------------------------------------------------------------------

@settings(max_examples=25)
@given(data=json_values)
def test_json_comes_back_equal(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "data.json"
    write_json(path, data)
    assert read_json(path) == data


@settings(max_examples=25)
@given(first=rows, second=rows)
def test_rows_written_and_appended_come_back_in_order_one_a_line(tmp_path_factory, first, second):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    write_jsonl(path, first)
    append_jsonl(path, second)
    assert read_jsonl(path) == first + second
    assert path.read_bytes().count(b"\n") == len(first + second)


def test_text_is_stored_as_readable_utf8(tmp_path):
    write_json(tmp_path / "a.json", {"β": "ü"})
    write_jsonl(tmp_path / "a.jsonl", [{"β": "ü"}])
    append_jsonl(tmp_path / "a.jsonl", [{"日本": 1}])
    assert "β" in (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert (tmp_path / "a.jsonl").read_bytes().decode("utf-8") == '{"β": "ü"}\n{"日本": 1}\n'


def test_appending_makes_a_log_that_is_not_there_yet(tmp_path):
    append_jsonl(tmp_path / "log", [{"step": 1}])
    append_jsonl(tmp_path / "log", [])
    assert read_jsonl(tmp_path / "log") == [{"step": 1}]


def test_empty_lines_and_windows_line_ends_are_no_rows(tmp_path):
    (tmp_path / "rows").write_bytes(b'{"a": 1}\r\n\n   \r\n{"a": 2}')
    assert read_jsonl(tmp_path / "rows") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b'{"a": "\xff"}'])
def test_a_file_that_is_not_json_is_named(content, tmp_path):
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(ValueError, match="settings.json: not JSON"):
        read_json(tmp_path / "settings.json")


@pytest.mark.parametrize("bad", [b"{", b"hello", b'{"a": 1} {"b": 2}', b'{"a": "\xff"}'])
def test_a_line_that_is_not_json_is_named_with_its_file_and_number(bad, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n\n' + bad + b'\n{"a": 2}\n')
    with pytest.raises(ValueError, match="rows.jsonl:3: not JSON"):
        read_jsonl(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("read", [read_json, read_jsonl, read_tensors])
def test_a_missing_file_is_named(read, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        read(tmp_path / "gone")


# --- tensors -------------------------------------------------------------------------------------

tensors = st.dictionaries(
    st.text("abc.", min_size=1),
    hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
               hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)), max_size=4)


@settings(max_examples=40)
@given(tensors=tensors)
def test_tensors_come_back_with_their_names_shapes_dtypes_and_bits(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "data.safetensors"
    write_tensors(path, tensors)
    back = read_tensors(path)
    assert back.keys() == tensors.keys()
    for name, x in tensors.items():
        assert_same(back[name], x)


def test_views_are_stored_as_the_arrays_they_show(tmp_path, rng):
    x = rng.standard_normal((4, 3))
    views = {"transposed": x.T, "reversed": x[::-1], "every second": x[::2, 1:]}
    write_tensors(tmp_path / "t", views)
    for name, back in read_tensors(tmp_path / "t").items():
        assert_same(back, views[name].copy())


def test_tensors_are_marked_as_weights_in_pytorchs_layout(tmp_path):
    write_tensors(tmp_path / "t", {"x": np.zeros(1)})
    data = (tmp_path / "t").read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"format": "pt"}        # transformers refuses files without


@pytest.mark.parametrize("kept", [0, 4, 30, -1])
def test_a_truncated_tensor_file_is_named(kept, tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"x": np.arange(10.0)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="model.safetensors: not a whole safetensors file"):
        read_tensors(path)


# --- folders -------------------------------------------------------------------------------------

def test_a_folder_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "model"
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists() and temporary.parent == path.parent
        (temporary / "b").write_text("2")
    assert names(path) == ["a", "b"] and names(path.parent) == ["model"]


def test_a_folder_replaces_an_older_one_with_all_its_files(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with replacing_folder(tmp_path / "model") as temporary:
        (temporary / "new").write_text("new")
        assert names(tmp_path / "model") == ["old"]
    assert names(tmp_path / "model") == ["new"] and names(tmp_path) == ["model"]


def test_an_exception_leaves_the_old_folder_and_no_temporary_one(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "model") as temporary:
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == []


def test_an_older_folder_comes_back_if_the_exchange_is_interrupted(tmp_path, monkeypatch):
    write_text(tmp_path / "model" / "old", "old")
    real, calls = type(tmp_path).replace, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "model") as temporary:
        (temporary / "new").write_text("new")
        monkeypatch.setattr(type(tmp_path), "replace", interrupted)
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["old"]


def test_all_files_of_a_folder_are_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("minirlhf.files.flush", lambda path: flushed.append(path.name))
    with replacing_folder(tmp_path / "model") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("1")
        (temporary / "b").write_text("2")
    assert sorted(flushed) == ["a", "b"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    for kept in ("file", "model/weights", ".hidden", "x.tmp", ".thesis.tmp", ".x.new-y.tmp"):
        write_text(tmp_path / kept, "kept")
    for left in (".file.new-123.tmp", "model/.weights.new-7.tmp"):
        (tmp_path / left).write_text("half")
    (tmp_path / ".model.old-5.tmp").mkdir()
    (tmp_path / ".model.old-5.tmp" / "weights").write_text("old")
    remove_temporary(tmp_path)
    assert names(tmp_path) == [".hidden", ".thesis.tmp", ".x.new-y.tmp", "file", "model", "x.tmp"]
    assert names(tmp_path / "model") == ["weights"]


def test_the_name_given_to_a_temporary_file_is_one_that_is_removed(tmp_path):
    temporary_name(tmp_path / "file").write_text("half")
    remove_temporary(tmp_path)
    assert names(tmp_path) == []


# --- a folder for one process --------------------------------------------------------------------

def test_a_locked_folder_keeps_others_out_until_it_is_left(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such lock")
    with locked(tmp_path):
        with pytest.raises(RuntimeError, match="another minirlhf is at work in"), locked(tmp_path):
            pass
    with locked(tmp_path):
        assert names(tmp_path) == []                         # and no file is left behind


def test_the_lock_of_a_process_that_was_killed_is_no_lock(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such lock")
    code = ("import os, sys; from minirlhf.files import locked\n"
            "with locked(sys.argv[1]): print('in', flush=True); sys.stdin.read()")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "in\n"
    with pytest.raises(RuntimeError), locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    with locked(tmp_path):
        pass


# --- logs and disks ------------------------------------------------------------------------------

@pytest.mark.parametrize("content, kept", [
    (b"", b""), (b"{}\n", b"{}\n"), (b"{}\n{\"a\"", b"{}\n"), (b"{\"a\": 1", b""),
    (b"{}\n\n", b"{}\n\n"), ("{}\n\"é".encode()[:-1], b"{}\n")])
def test_a_line_whose_writer_died_is_cut_off(content, kept, tmp_path):
    (tmp_path / "log").write_bytes(content)
    cut_half_line(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == kept


def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*file'") as problem:
        write_text(tmp_path / "file", "new")
    assert problem.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("dtype, size", [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)])
def test_numbers_that_numpy_does_not_know_are_named_with_their_tensor(tmp_path, dtype, size):
    header = json.dumps({"a.b": {"dtype": dtype, "shape": [3],
                                 "data_offsets": [0, 3 * size]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3 * size))
    with pytest.raises(ValueError, match=f"x.safetensors: a.b has the dtype {dtype}, which NumPy"):
        read_tensors(path)


def test_a_file_and_a_folder_are_copied_with_all_that_is_in_them(tmp_path):
    (tmp_path / "old" / "deep").mkdir(parents=True)
    (tmp_path / "old" / "deep" / "a.txt").write_bytes(b"\x00a")
    copy_whole(tmp_path / "old", tmp_path / "new" / "model")
    copy_whole(tmp_path / "old" / "deep" / "a.txt", tmp_path / "new" / "b.txt")
    assert {str(path.relative_to(tmp_path / "new")): path.read_bytes()
            for path in (tmp_path / "new").rglob("*") if path.is_file()} == {
                "model/deep/a.txt": b"\x00a", "b.txt": b"\x00a"}

"""Laws of the labels file as it is written: on disk at once, whole lines, one program at a time."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from labelled import label, rows_of, session_in

from minirlhf.labelling import answers
from minirlhf.labelling.answers import AnswerFile
from minirlhf.labels import read_labels

needs_locks = pytest.mark.skipif(answers.fcntl is None, reason="this system has no file locks")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


def written(path, *rows, end="") -> bytes:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end, encoding="utf-8")
    return path.read_bytes()


def test_answers_are_appended_behind_what_is_there(path):
    before = written(path, label("a"))
    file = AnswerFile(path)
    assert file.rows == [label("a")] and file.notes == []
    file.append(label("b", prompt="größe\n☃"))
    file.append(label("c"))
    assert path.read_bytes().startswith(before)
    assert read_labels(path) == [label("a"), label("b", prompt="größe\n☃"), label("c")]
    assert path.read_bytes().count(b"\n") == 3


class Slow:
    """A file that takes ten bytes at a time, as a pipe or a full disk may, and lets others in."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, data) -> int:
        time.sleep(0)
        return self.inner.write(bytes(data[:10]))


def test_an_answer_is_on_disk_before_append_returns(path, monkeypatch):
    file, synced = AnswerFile(path), []
    monkeypatch.setattr(answers.os, "fsync", lambda handle: synced.append(
        os.path.samestat(os.fstat(handle), path.stat()) and path.read_bytes()))
    file.append(label("a"))
    file.append(label("b"))
    lines = path.read_bytes().splitlines(keepends=True)
    assert synced == [lines[0], lines[0] + lines[1]]


def test_a_new_files_name_is_on_disk_too(path, monkeypatch):
    synced = []
    monkeypatch.setattr(answers.os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    AnswerFile(path)
    assert answers.fcntl is None or synced == [path.parent.stat().st_ino]


def test_an_answer_that_cannot_be_written_leaves_nothing_of_itself(path, monkeypatch):
    before = written(path, label("a"))
    file = AnswerFile(path)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(answers.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.append(label("b"))
    assert path.read_bytes() == before
    file.append(label("c"))
    assert [row["pair"] for row in rows_of(path.parent)] == ["a", "c"]


def test_a_write_in_parts_is_one_line(path):
    file = AnswerFile(path)
    file.file = Slow(file.file)
    file.append(label("a"))
    assert rows_of(path.parent) == [label("a")]


@pytest.mark.parametrize("half", ['{"pair": "b", "la', '{', '{"pair": "b", "prompt": "gr\\',
                                  "\0\0"])
def test_half_a_line_from_a_kill_is_cut_off_and_told(path, half):
    before = written(path, label("a"))
    path.write_bytes(before + half.encode())
    file = AnswerFile(path)
    assert path.read_bytes() == before and file.rows == [label("a")]
    (note,) = file.notes
    assert "labels.jsonl: the last line was only half-written" in note
    assert f"({len(half)} bytes)" in note and "\n" not in note
    file.append(label("c"))
    assert [row["pair"] for row in rows_of(path.parent)] == ["a", "c"]


def test_a_line_that_lacks_only_its_newline_gets_it(path):
    path.write_bytes(written(path, label("a"), label("b")).rstrip(b"\n"))
    file = AnswerFile(path)
    assert len(file.rows) == 2 and file.notes == []
    file.append(label("c"))
    assert [row["pair"] for row in rows_of(path.parent)] == ["a", "b", "c"]


def test_damage_elsewhere_ends_it_and_touches_nothing(path):
    before = written(path, label("a"), end='{"half\n' + json.dumps(label("b")) + "\n{ha")
    with pytest.raises(ValueError, match=r"labels\.jsonl:2: not JSON"):
        AnswerFile(path)
    assert path.read_bytes() == before
    written(path, label("a"))
    AnswerFile(path)                                     # and the lock is given back


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "labels.jsonl").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*labels\.jsonl: Is a directory"):
        AnswerFile(tmp_path / "labels.jsonl")
    with pytest.raises(OSError, match=r"cannot write .*labels\.jsonl: No such file"):
        AnswerFile(tmp_path / "none" / "labels.jsonl")


@needs_locks
def test_a_second_program_is_told_to_wait(path):
    file = AnswerFile(path)
    with pytest.raises(RuntimeError, match=r"labels\.jsonl is in use: another `minirlhf label`"):
        AnswerFile(path)
    file.append(label("a"))
    file.close()
    assert AnswerFile(path).rows == [label("a")]


@needs_locks
def test_the_lock_of_a_killed_program_is_gone(path):
    code = ("import sys, time; from minirlhf.labelling.answers import AnswerFile; "
            f"file = AnswerFile({str(path)!r}); print('open', flush=True); time.sleep(60)")
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert program.stdout.readline() == b"open\n"
        with pytest.raises(RuntimeError, match="in use"):
            AnswerFile(path)
    finally:
        program.kill()
        program.communicate()
    AnswerFile(path)


def test_many_labelers_at_once_write_whole_lines(tmp_path):
    session = session_in(tmp_path)
    session.file.file = Slow(session.file.file)

    def work(name):
        for _ in range(3):
            for pair in session.pairs:
                session.record(name, pair.id, "left")

    threads = [threading.Thread(target=work, args=(f"labeler {i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_labels(tmp_path / "labels.jsonl")) == 6 * 3 * 5


@pytest.mark.parametrize("gone", ["removed", "replaced"])
def test_an_answer_to_a_file_that_is_gone_is_not_called_written(path, gone):
    """It would be on no disk as soon as the program ends."""
    file = AnswerFile(path)
    path.unlink()
    if gone == "replaced":
        path.write_text("")
    with pytest.raises(OSError, match="removed or replaced"):
        file.append(label("b"))

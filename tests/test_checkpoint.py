"""Laws of checkpoints: what was saved comes back to the bit, and what does not fit is refused."""

import numpy as np
import pytest
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st
from models import random_model

from minirlhf import checkpoint
from minirlhf.checkpoint import Checkpoint
from minirlhf.files import append_jsonl, read_jsonl, write_tensors
from minirlhf.optimizer import adamw_state, adamw_step
from minirlhf.parameters import Parameters, leaves


def training(backend, seed=0, steps=0, **sizes):
    """The tree of a model that has been trained for some steps."""
    params, _ = random_model(backend, seed=seed, dtype="float32", **sizes)
    state, rng = adamw_state(params), np.random.default_rng(seed)
    for _ in range(steps):
        grads, _ = random_model(backend, seed=int(rng.integers(99)), dtype="float32", **sizes)
        adamw_step(params, grads, state, 0.1)
    return {"model": params, "state": {**state, "beta": 0.1 * steps}}


def flats(tree) -> dict:
    state = tree["state"]
    return {"params": tree["model"].flat, "m": state["m"].flat, "v": state["v"].flat}


# --- what comes back -----------------------------------------------------------------------------

def test_training_comes_back_to_the_bit(backend, tmp_path):
    old, saving = training(backend, steps=3), Checkpoint(tmp_path)
    saving.restore("SFT", old)
    saving.save()
    new, reading = training(backend, seed=1), Checkpoint(tmp_path)
    reading.read()
    reading.restore("SFT", new)
    for name, flat in flats(new).items():
        assert_same(flat, flats(old)[name], name)
    assert (new["state"]["step"], new["state"]["beta"]) == (3, 0.1 * 3)


def test_parameters_are_filled_in_place(backend, tmp_path):
    """The views that a model computes with, and the state that a stage was given, must see it."""
    saving = Checkpoint(tmp_path)
    saving.restore("SFT", training(backend, steps=2))
    saving.save()
    new, reading = training(backend, seed=1), Checkpoint(tmp_path)
    model, state, flat = new["model"], new["state"], new["model"].flat
    reading.read()
    reading.restore("SFT", new)
    assert new["model"] is model and new["state"] is state and model.flat is flat
    assert state["step"] == 2 and isinstance(state["m"], Parameters)
    whole = backend.xp.concatenate([leaf.ravel() for _, leaf in leaves(model)])
    assert_same(whole, flat)


json_rows = st.lists(st.dictionaries(st.text(), st.text() | st.integers(-2**60, 2**60)
                                     | st.floats(allow_nan=False) | st.booleans()
                                     | st.lists(st.integers(0, 9))))


@given(json_rows)
def test_rows_come_back_equal(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("run")
    saving, reading = Checkpoint(folder), Checkpoint(folder)
    saving.restore("asking", {"batches": 4, "rows": rows})
    saving.save()
    reading.read()
    part = {"batches": 0, "rows": []}
    reading.restore("asking", part)
    assert part == {"batches": 4, "rows": rows}


def test_parts_of_one_stage_are_kept_side_by_side(backend, tmp_path):
    """Also those that are over: their results are in no other file yet."""
    saving, reading = Checkpoint(tmp_path), Checkpoint(tmp_path)
    saving.restore("reward model", training(backend, steps=1))
    saving.restore("reward", {"batches": 1, "rows": ["a"]})      # one name begins the other
    saving.save()
    reading.read()
    rows, model = {"batches": 0, "rows": []}, training(backend, seed=1)
    reading.restore("reward", rows)
    reading.restore("reward model", model)
    assert rows["rows"] == ["a"] and model["state"]["step"] == 1


def test_a_part_that_was_not_reached_begins_at_its_beginning(backend, tmp_path):
    saving, reading = Checkpoint(tmp_path), Checkpoint(tmp_path)
    saving.restore("SFT", training(backend, steps=1))
    saving.save()
    reading.read()
    part = {"batches": 0, "rows": []}
    reading.restore("preferences", part)
    assert part == {"batches": 0, "rows": []}


def test_without_a_file_everything_begins_at_its_beginning(tmp_path):
    reading = Checkpoint(tmp_path)
    reading.read()
    part = {"batches": 0, "rows": []}
    reading.restore("asking", part)
    assert part == {"batches": 0, "rows": []} and list(tmp_path.iterdir()) == []


def test_the_end_of_a_stage_leaves_nothing_of_it(backend, tmp_path):
    saving, reading = Checkpoint(tmp_path), Checkpoint(tmp_path)
    saving.restore("SFT", training(backend, steps=1))
    saving.save()
    saving.end()
    reading.read()
    assert reading.found == {} and saving.path.stat().st_size < 200


# --- the log -------------------------------------------------------------------------------------

def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    saving, log = Checkpoint(tmp_path), tmp_path / "metrics.jsonl"
    append_jsonl(log, [{"step": 0}, {"step": 1}])
    saving.save()
    append_jsonl(log, [{"step": 2}])
    with open(log, "a") as half:
        half.write('{"step": 3, "lo')
    reading = Checkpoint(tmp_path)
    reading.read()
    reading.restore("SFT", {"rows": []})
    assert read_jsonl(log) == [{"step": 0}, {"step": 1}]
    append_jsonl(log, [{"step": 2}])
    reading.restore("PPO", {"rows": []})                     # once: what follows is kept
    assert len(read_jsonl(log)) == 3


def test_half_a_line_is_cut_off_where_there_is_no_checkpoint_yet(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st')
    reading = Checkpoint(tmp_path)
    reading.read()
    reading.restore("SFT", {"rows": []})
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"step": 0}]


def test_what_is_refused_leaves_the_log_as_it_was(backend, tmp_path):
    saved(backend, tmp_path)
    append_jsonl(tmp_path / "metrics.jsonl", [{"step": 0}])
    reading = Checkpoint(tmp_path)
    reading.read()
    with pytest.raises(ValueError, match="remove the file"):
        reading.restore("SFT", training(backend, channels=16))
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"step": 0}]


# --- when ----------------------------------------------------------------------------------------

@pytest.fixture
def clock(monkeypatch):
    """Time as the test tells it: clock[0] seconds."""
    now = [0.0]
    monkeypatch.setattr(checkpoint, "monotonic", lambda: now[0])
    return now


def saves(monkeypatch, clock, folder, pieces, cost=0.0) -> list[float]:
    """When a checkpoint is saved, if each piece of work takes so long and saving `cost`."""
    saving, at = Checkpoint(folder), []
    real = Checkpoint.save

    def save(self):
        at.append(clock[0])
        real(self)

    def write(*_, **__):
        clock[0] += cost

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    monkeypatch.setattr(Checkpoint, "save", save)
    for piece in pieces:
        clock[0] += piece
        saving.tick()
    return at


@given(st.lists(st.floats(0.001, 1.9), min_size=1, max_size=40))
def test_at_most_two_seconds_and_the_surprise_of_one_piece_are_unsaved(tmp_path_factory, pieces):
    """A piece is expected to take as long as the one before it."""
    with pytest.MonkeyPatch.context() as patch:
        now = [0.0]
        patch.setattr(checkpoint, "monotonic", lambda: now[0])
        at = saves(patch, now, tmp_path_factory.mktemp("run"), pieces)
    ends, last = np.cumsum(pieces), 0.0
    for i, end in enumerate(ends):
        surprise = max(0.0, pieces[i] - (pieces[i - 1] if i else 0.0))
        assert end - last <= 2 + surprise + 1e-9
        last = end if any(abs(end - t) < 1e-9 for t in at) else last


def test_equal_pieces_never_lose_more_than_two_seconds(tmp_path, monkeypatch, clock):
    at = saves(monkeypatch, clock, tmp_path, [0.3] * 40)
    assert np.diff([0, *at]).max() <= 2.0 and 6 <= len(at) <= 8


def test_a_step_longer_than_two_seconds_is_saved_at_once(tmp_path, monkeypatch, clock):
    assert saves(monkeypatch, clock, tmp_path, [5.0, 5.0]) == [5.0, 10.0]


def test_saving_that_takes_long_is_done_less_often(tmp_path, monkeypatch, clock):
    """It takes at most a fifth of the time."""
    at = saves(monkeypatch, clock, tmp_path, [0.5] * 200, cost=3.0)
    assert (len(at) - 1) * 3.0 <= clock[0] / 5 and len(at) > 3


# --- what does not fit ---------------------------------------------------------------------------

def test_a_number_in_place_of_parameters_is_refused(backend, tmp_path):
    tree = training(backend)
    path = saved(backend, tmp_path, {"model": 7, "state": tree["state"]})
    reading = Checkpoint(tmp_path)
    reading.read()
    with pytest.raises(ValueError, match=f"{path}: SFT.model is not what this run's settings"):
        reading.restore("SFT", tree)


def test_more_rows_than_a_file_header_may_hold_are_kept(tmp_path):
    """The head of a safetensors file ends at 100 MB."""
    saving, reading = Checkpoint(tmp_path), Checkpoint(tmp_path)
    saving.restore("asking", {"rows": ["x" * 10_000_000] * 11})
    saving.save()
    reading.read()
    part = {"rows": []}
    reading.restore("asking", part)
    assert part["rows"] == ["x" * 10_000_000] * 11


def saved(backend, folder, tree=None):
    saving = Checkpoint(folder)
    saving.restore("SFT", tree or training(backend, steps=1))
    saving.save()
    return saving.path


@pytest.mark.parametrize("sizes", [{"channels": 16}, {"layers": 1}, {"vocab": 13}])
def test_a_model_of_another_size_is_refused_with_both_sizes(backend, tmp_path, sizes):
    path, other = saved(backend, tmp_path), training(backend, **sizes)
    reading = Checkpoint(tmp_path)
    reading.read()
    with pytest.raises(ValueError, match=rf"{path}.*SFT\.model holds \d+ numbers .*want "
                                         rf"{other['model'].flat.size} .*remove the file"):
        reading.restore("SFT", other)


def test_another_set_of_leaves_is_refused(backend, tmp_path):
    path = saved(backend, tmp_path)
    reading = Checkpoint(tmp_path)
    reading.read()
    with pytest.raises(ValueError, match=f"{path}: SFT is not made of what"):
        reading.restore("SFT", {"model": training(backend)["model"], "state": {"step": 0}})


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_named(backend, tmp_path, kept):
    path = saved(backend, tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{path}: not a whole safetensors file"):
        Checkpoint(tmp_path).read()


@pytest.mark.parametrize("text", [None, b"", b"\xff", b"[]", b"{}",
                                  b'{"logged": "x", "values": {}}',
                                  b'{"logged": 0}', b'{"logged": 0, "values": [1]}'])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, text):
    path = Checkpoint(tmp_path).path
    noted = {} if text is None else {"json": np.frombuffer(text, np.uint8)}
    write_tensors(path, {"x": np.zeros(2), **noted})
    with pytest.raises(ValueError, match=f"{path} is no checkpoint of a run; remove it"):
        Checkpoint(tmp_path).read()

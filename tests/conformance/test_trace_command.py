"""Laws of `minirlhf trace`: a model and a batch of one's own, and clear words for what is wrong."""

import json
import shutil

import numpy as np
import pytest
from helpers import assert_close, assert_same, call, one_line
from safetensors.numpy import save_file

from minirlhf.conformance.trace.folder import read_trace, released
from minirlhf.conformance.trace.functions import StepSettings
from minirlhf.conformance.trace_command import verify_trace, write_trace
from minirlhf.files import read_tensors, write_json

PPO = read_trace(released("ppo_step"))
BATCH = read_tensors(released("ppo_step") / "batch.safetensors")
MASK = BATCH["mask"]
SETTINGS = {name: x for name, x in PPO.base.items() if name in PPO.step.settings}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with models and a batch, worked in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(released("ppo_step"), tmp_path / "models")
    save_file(BATCH, tmp_path / "batch.safetensors")
    return tmp_path


def with_batch(**changes) -> dict:
    """The released batch with other arrays; None: without that one."""
    return {name: x for name, x in (BATCH | changes).items() if x is not None}


def rows_of(name="ppo_step") -> dict:
    """A batch as lists of token ids of unequal length."""
    base = read_trace(released(name)).base
    tokens, whole, mask = base["sequences"], base["sequence_mask"], base["mask"]
    P = tokens.shape[1] - mask.shape[1]
    return {"prompts": [t[m].tolist() for t, m in zip(tokens[:, :P], whole[:, :P], strict=True)],
            "responses": [t[m].tolist() for t, m in zip(tokens[:, P:], mask, strict=True)]}


def refused(capsys, *argv) -> str:
    return one_line(capsys, "trace", "models", *argv)


@pytest.mark.parametrize("step", ["ppo_step", "grpo_step", "reward_model_step"])
def test_the_released_models_and_batch_give_the_released_trace(step, tmp_path):
    base = read_trace(released(step)).base
    settings = StepSettings(**{name: base[name] for name in StepSettings.__dataclass_fields__})
    made = write_trace(released(step), released(step) / "batch.safetensors", tmp_path / "again",
                       step, settings)
    assert list(made.arrays) == list(read_trace(released(step)).arrays)
    wanted = {file.relative_to(released(step)) for file in released(step).rglob("*")}
    assert {file.relative_to(tmp_path / "again")
            for file in (tmp_path / "again").rglob("*")} == wanted
    assert json.loads((tmp_path / "again" / "trace.json").read_text()) == json.loads(
        (released(step) / "trace.json").read_text())
    assert verify_trace(tmp_path / "again", step) == 0
    assert verify_trace(released(step), tmp_path / "again") == 0


def test_the_command_writes_a_trace_against_which_another_is_verified(place, capsys):
    flags = [f"--{name.replace('_', '-')}={x}" for name, x in SETTINGS.items()]
    assert call("trace", "models", "batch.safetensors", "--to", "mine", *flags) == 0
    assert "written to mine: 188 arrays" in capsys.readouterr().out
    assert verify_trace(released("ppo_step"), place / "mine") == 0
    assert call("trace", "models", "batch.safetensors", "--to", "tempered", *flags,
                "--temperature", "1.0") == 0
    capsys.readouterr()
    assert verify_trace(place / "tempered", place / "mine") == 1
    assert "it looks like temperature-ignored" in capsys.readouterr().out


def test_a_batch_of_rows_of_token_ids_is_padded_here(place):
    write_json(place / "rows.json", rows_of())
    made = write_trace(place / "models", place / "rows.json", place / "mine")
    for name in ("sequences", "sequence_mask", "mask"):
        assert_same(made.base[name], PPO.base[name])


def test_without_old_log_probs_and_values_the_models_own_are_taken(place):
    write_json(place / "rows.json", rows_of())
    made = write_trace(place / "models", place / "rows.json", place / "mine",
                       settings=StepSettings(temperature=PPO.base["temperature"]))
    assert_same(made.base["old_logprobs"], made.arrays["logprobs"])
    assert_same(made.base["old_values"], made.arrays["values"])
    assert_close(made.arrays["logprobs"], PPO.arrays["logprobs"])
    assert (made.arrays["ratios"] == 1).all()
    assert verify_trace(place / "mine", place / "mine") == 0


def test_pairs_may_come_as_rows_too(tmp_path):
    base = read_trace(released("reward_model_step")).base
    write_json(tmp_path / "rows.json", {
        side: [row[real].tolist() for row, real in zip(base[side], base[f"{side}_mask"],
                                                       strict=True)]
        for side in ("chosen", "rejected")})
    made = write_trace(released("reward_model_step"), tmp_path / "rows.json", tmp_path / "mine",
                       "reward_model_step")
    assert_close(made.arrays["gaps"], read_trace(released("reward_model_step")).arrays["gaps"])


def test_scores_in_the_batch_stand_for_a_reward_model(place):
    shutil.rmtree(place / "models" / "reward")
    given = np.array([1.0, 0.0, 1.0, -1.0])
    save_file(with_batch(scores=given), place / "batch.safetensors")
    made = write_trace(place / "models", place / "batch.safetensors", place / "mine")
    assert_same(made.arrays["scores"], given)
    assert verify_trace(place / "mine", place / "mine") == 0


def test_npz_serves_as_well(place):
    np.savez(place / "batch.npz", **BATCH)
    made = write_trace(place / "models", place / "batch.npz", place / "mine")
    assert_same(made.base["old_values"], BATCH["old_values"])


def test_given_numbers_in_masked_slots_may_be_anything(place):
    changed = {name: np.where(MASK, BATCH[name], np.nan) for name in ("old_logprobs", "old_values")}
    save_file(with_batch(**changed), place / "batch.safetensors")
    made = write_trace(place / "models", place / "batch.safetensors", place / "mine",
                       settings=StepSettings(**SETTINGS))
    for name, x in made.arrays.items():
        assert_close(x, PPO.arrays[name], message=name)


# --- what is wrong is said in one line -----------------------------------------------------------

HOLE, GAP = BATCH["sequence_mask"].copy(), BATCH["sequence_mask"].copy()
HOLE[0, 1] = GAP[0, 7] = False                   # in the prompt of row 0, and in its response
BROKEN = [
    ({"mask": None}, "wants mask, got"),
    ({"masks": MASK}, "masks: not among the names of a ppo_step"),
    ({"mask": MASK.astype(np.float64)}, "mask must be bool, got float64"),
    ({"sequences": BATCH["sequences"].astype(float)}, "sequences must be int, got float64"),
    ({"mask": MASK[:3]}, "mask must have shape (B, R) with B = 4"),
    ({"mask": MASK[0]}, "mask must have shape (B, R), got (6,)"),
    ({"old_values": BATCH["old_values"][:, 1:]}, "old_values must have shape (B, R) with R = 6"),
    ({"sequences": BATCH["sequences"] + 5}, "but the policy model knows 0 to 19"),
    ({"mask": ~MASK}, "mask (4, 6) must be the last 6 columns of sequence_mask"),
    ({"old_values": np.where(MASK, np.inf, 0.0)}, "old_values is inf at (0, 0)"),
    ({"sequence_mask": HOLE}, "sequence_mask, row 0: prompts are padded on the left"),
    ({"sequence_mask": GAP, "mask": GAP[:, -6:].copy()}, "mask, row 0: prompts are padded on the"),
]


@pytest.mark.parametrize("changes, message", BROKEN, ids=[message for _, message in BROKEN])
def test_a_batch_that_does_not_fit_is_refused_by_name(place, capsys, changes, message):
    save_file(with_batch(**changes), place / "batch.safetensors")
    assert message in refused(capsys, "batch.safetensors")


def test_a_row_without_a_reply_is_refused(place, capsys):
    mask, whole = MASK.copy(), BATCH["sequence_mask"].copy()
    mask[2], whole[2, 5:] = False, False
    save_file(with_batch(mask=mask, sequence_mask=whole), place / "batch.safetensors")
    assert "mask, row 2: a response without a token" in refused(capsys, "batch.safetensors")


def test_rows_longer_than_the_context_are_refused(place, capsys):
    write_json(place / "rows.json", {"prompts": [[2, 3]], "responses": [[5] * 11]})
    assert "13 columns, more than the context of the policy model, 12" in refused(
        capsys, "rows.json")


def test_rows_of_unequal_length_are_arrays_only_where_token_ids_are_wanted(place, capsys):
    write_json(place / "rows.json", rows_of() | {"old_values": [[1.0], [1.0, 2.0]]})
    assert "old_values must be an array of shape (B, R)" in refused(capsys, "rows.json")
    write_json(place / "rows.json", rows_of() | {"old_values": "none"})
    assert "old_values must be numbers, got none" in refused(capsys, "rows.json")


@pytest.mark.parametrize("rows, message", [
    ({"prompts": 5}, "prompts, row 0: wanted a list of token ids, got None"),
    ({"prompts": [[2, 3], [], [2], [2]]}, "prompts, row 1: wanted a list of token ids, got []"),
    ({"responses": [[5, 1.5], [1], [1], [1]]}, "responses, row 0: wanted a list of token ids"),
    ({"responses": [["a"], [1], [1], [1]]}, "responses must be numbers"),
    ({"responses": []}, "responses: no row"),
    ({"responses": [[1]]}, "4 prompts and 1 responses: there must be as many")])
def test_rows_that_are_no_token_ids_are_refused(place, capsys, rows, message):
    write_json(place / "rows.json", rows_of() | rows)
    assert message in refused(capsys, "rows.json")


@pytest.mark.parametrize("folder, message", [
    ("reward", "missing reward, or scores in the batch"), ("value", "missing value"),
    ("reference", "missing reference")])
def test_a_missing_model_is_named(place, capsys, folder, message):
    shutil.rmtree(place / "models" / folder)
    assert message in refused(capsys, "batch.safetensors")


def test_a_model_with_the_wrong_head_is_refused(place, capsys):
    shutil.rmtree(place / "models" / "value")
    shutil.copytree(place / "models" / "policy", place / "models" / "value")
    assert "value: wanted a model with a scalar head" in refused(capsys, "batch.safetensors")
    shutil.rmtree(place / "models" / "policy")
    shutil.copytree(place / "models" / "reward", place / "models" / "policy")
    assert "policy: wanted a model with a language-model head" in refused(
        capsys, "batch.safetensors")


def test_a_folder_without_models_a_missing_batch_and_a_place_that_is_taken_are_told(
        place, capsys):
    (place / "empty").mkdir()
    assert "empty: wanted folders policy, reference" in one_line(
        capsys, "trace", "empty", "batch.safetensors")
    assert "none.npz: there is no such file" in refused(capsys, "none.npz")
    assert "models is there already" in refused(capsys, "batch.safetensors", "--to", "models")


def test_groups_must_be_whole(place, capsys):
    save_file(with_batch(old_values=None), place / "batch.safetensors")
    assert "4 rows cannot be cut into groups of group_size 3" in refused(
        capsys, "batch.safetensors", "--step", "grpo_step", "--group-size", "3")


@pytest.mark.parametrize("flag", ["--temperature=0", "--clip-ratio=-1", "--group-size=0",
                                  "--max-grad-norm=0", "--eps=nan"])
def test_settings_that_cannot_be_are_named(place, capsys, flag):
    name = flag[2:].split("=")[0].replace("-", "_")
    assert f"StepSettings.{name} must be positive" in refused(capsys, "batch.safetensors", flag)


def test_a_damaged_trace_is_named(place):
    write_trace(place / "models", place / "batch.safetensors", place / "mine")
    told = json.loads((place / "mine" / "trace.json").read_text())
    write_json(place / "mine" / "trace.json", told | {"settings": {"tau": 1}})
    with pytest.raises(ValueError, match="trace.json: settings: .*tau"):
        read_trace(place / "mine")
    write_json(place / "mine" / "trace.json", told | {"step": "sft"})
    with pytest.raises(ValueError, match="no step 'sft'"):
        read_trace(place / "mine")
    write_json(place / "mine" / "trace.json", told)
    save_file({"logprobs": np.zeros(2)}, place / "mine" / "trace.safetensors")
    with pytest.raises(ValueError, match="trace.safetensors: it lacks ref_logprobs"):
        read_trace(place / "mine")

"""`minirlhf conventions`: the replay by hand and against the core, the batch, the command."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from runs import contents, copied

from minirlhf import conventions, conventions_command
from minirlhf.autograd import value_and_grad
from minirlhf.clipped_surrogate import clipped_surrogate_loss
from minirlhf.conformance.presets import PRESETS
from minirlhf.conformance.replay import Batch, Numbers, advantages, cosine, replay, rewards
from minirlhf.conformance.variants import ANSWERS
from minirlhf.conformance.vectors import functions, load, systems
from minirlhf.files import write_json, write_tensors
from minirlhf.gae import gae, whiten
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages
from minirlhf.kl_penalty import penalized_rewards
from minirlhf.rollout import response_logprobs

NUMBERS = Numbers(beta=0.1, gamma=1.0, lam=0.95, clip_ratio=0.2)


def made(moved=0.3, seed=0, critic=True, **changes) -> Batch:
    """Six replies of one to five tokens in two groups; numbers stand at the pads too."""
    rng = np.random.default_rng(seed)
    mask = np.arange(5) < np.array([5, 3, 4, 1, 2, 5])[:, None]
    old = -rng.exponential(size=mask.shape)
    batch = Batch(old, old + moved * rng.normal(size=mask.shape),
                  old + 0.2 * rng.normal(size=mask.shape),
                  rng.normal(size=mask.shape) if critic else None, rng.normal(size=6), mask, 3)
    return replace(batch, **changes)


# --- worked by hand ------------------------------------------------------------------------------

ROW = Batch(np.array([[.05, -.02, .01, .2, .3]] * 2), np.zeros((2, 5)), np.zeros((2, 5)),
            np.array([[.1, .2, .3, .4, .5]] * 2), np.ones(2),
            np.array([[True] * 3 + [False] * 2] * 2), 2)


@pytest.mark.parametrize("name, wanted", [
    ("openrlhf", [.822747, .766050, .699]), ("verl-2026-08", [.822747, .766050, .699]),
    ("minirlhf", [.822747, .766050, .699]), ("trl-ppo", [.795673, .737550, .669, .600]),
    ("deepspeed-chat", [.778525, .719500, .650, .580]),
    ("lm-human-preferences", [.732655, .671216, .599175, .5265, .470])])
def test_one_reply_of_three_tokens_is_worth_what_the_place_of_its_score_says(name, wanted):
    """Values .1 … .5, KL .05 −.02 .01 .2 .3, score 1, β = .1: two pads are read, or are not.

    Without whitening: of two equal replies it would leave no difference of scale.
    """
    answers = {axis: answer for axis, answer in PRESETS[name].answers.items()
               if not axis.startswith("whiten")}
    preset = replace(PRESETS[name], answers=answers)
    found = advantages(preset, ROW, NUMBERS, rewards(preset, ROW, NUMBERS), "gae")
    np.testing.assert_allclose(found[0, :len(wanted)], wanted, atol=5e-7)


def test_with_equal_scores_grpos_gradient_is_that_of_the_kl_alone():
    """β·(1 − e^−k)/(B·n_i) at each token, k3's closed form under GRPO's aggregation."""
    batch = made(scores=np.ones(6), critic=False)
    k = batch.logprobs - batch.ref_logprobs
    n = batch.mask.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        replay(PRESETS["trl-grpo"], batch, NUMBERS, "grpo").gradient,
        np.where(batch.mask, NUMBERS.beta * (1 - np.exp(-k)) / (6 * n), 0), atol=1e-15)


def test_rloo_of_trl_weighs_a_reply_by_the_ratio_of_the_whole():
    """Before any clip L = −(1/B) Σ_i A_i·exp(Σ_t log r_t), so ∂L/∂log π_t is the same along a
    reply."""
    batch = made(moved=0.01)
    out = replay(PRESETS["rloo-trl"], batch, NUMBERS)
    k = np.where(batch.mask, batch.old_logprobs - batch.ref_logprobs, 0).sum(axis=1)
    worth = leave_one_out_advantages(batch.scores - NUMBERS.beta * k, 3)
    ratio = np.exp(np.where(batch.mask, batch.logprobs - batch.old_logprobs, 0).sum(axis=1))
    np.testing.assert_allclose(out.loss, -(worth * ratio).mean())
    np.testing.assert_allclose(out.gradient, np.where(batch.mask, (-worth * ratio / 6)[:, None], 0))


def test_verl_stops_a_bad_token_whose_ratio_has_exploded_and_trl_does_not():
    batch = made()
    moved = batch.old_logprobs.copy()
    moved[0] += np.log(5)
    low = replace(batch, logprobs=moved, scores=np.array([-9.0, 0, 0, 0, 0, 0]))
    assert (replay(PRESETS["verl-2026-08"], low, NUMBERS).advantages[0] < 0).all()
    assert (replay(PRESETS["verl-2026-08"], low, NUMBERS).gradient[0] == 0).all()
    assert (replay(PRESETS["trl-ppo"], low, NUMBERS).gradient[0] > 0).all()


# --- our own preset is the core ------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(3))
def test_the_preset_minirlhf_is_the_core(seed):
    batch = made(seed=seed)
    paid = penalized_rewards(batch.scores, batch.old_logprobs, batch.ref_logprobs, batch.mask, 0.1)
    worth = whiten(gae(paid, batch.values, batch.mask, 1.0, 0.95)[0], batch.mask)
    loss, gradient = value_and_grad(lambda params: clipped_surrogate_loss(
        params["z"], batch.old_logprobs, worth, batch.mask, 0.2))({"z": batch.logprobs})
    out = replay(PRESETS["minirlhf"], batch, NUMBERS)
    assert out.method == "gae"
    np.testing.assert_allclose(out.rewards, paid)
    np.testing.assert_allclose(out.advantages, worth, atol=1e-14)
    np.testing.assert_allclose([out.loss, *out.gradient.ravel()], [loss, *gradient["z"].ravel()],
                               atol=1e-14)


@pytest.mark.parametrize("method, core", [
    ("grpo", group_advantages), ("rloo", leave_one_out_advantages)])
def test_without_values_it_is_the_core_of_the_runs_algorithm(method, core):
    batch = made(critic=False)
    k = np.where(batch.mask, batch.old_logprobs - batch.ref_logprobs, 0).sum(axis=1)
    out = replay(PRESETS["minirlhf"], batch, NUMBERS, method)
    assert out.method == method
    np.testing.assert_allclose(out.advantages, np.where(
        batch.mask, core(batch.scores - 0.1 * k, 3)[:, None], 0))


# --- properties ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_replays_a_batch_with_values(name):
    out = replay(PRESETS[name], made(), NUMBERS)
    assert out.rewards.shape == out.advantages.shape == out.gradient.shape == (6, 5)
    assert np.isfinite(out.loss) and np.abs(out.gradient).sum() > 0


@pytest.mark.parametrize("name", PRESETS)
def test_the_gradient_is_that_of_the_loss(name):
    """Central differences along a random direction; no entry stands on a bound of the clip."""
    batch, rng = made(), np.random.default_rng(1)
    direction = rng.normal(size=batch.mask.shape)
    out = replay(PRESETS[name], batch, NUMBERS)
    up, down = (replay(PRESETS[name], replace(batch, logprobs=batch.logprobs + s * direction),
                       NUMBERS).loss for s in (1e-6, -1e-6))
    np.testing.assert_allclose((out.gradient * direction).sum(), (up - down) / 2e-6, atol=1e-7)


@pytest.mark.parametrize("name", PRESETS)
def test_only_conventions_that_read_pads_are_moved_by_pads(name):
    batch = made()
    junk = np.where(batch.mask, 0, 3.0)
    other = replace(batch, values=batch.values + junk, ref_logprobs=batch.ref_logprobs + junk)
    same = cosine(*(replay(PRESETS[name], x, NUMBERS).gradient for x in (batch, other)))
    reads = (PRESETS[name].answer("kl.mask") != "real"
             or PRESETS[name].answer("gae.mask") not in ("zeroed", "skipped", None))
    assert (same < 1 - 1e-9) == reads


# on the preset whose credit they belong to: every axis that the index says is replayed
SHOWN = {"openrlhf": ("score.place", "score.clip", "kl.est", "kl.clamp", "kl.mask", "kl.place",
                      "gae.mask", "whiten.ddof", "whiten.eps", "whiten.mask", "whiten.scope",
                      "whiten.count", "whiten.shift", "pg.level", "pg.logratio_clamp",
                      "pg.clip_high", "pg.dual_clip", "agg", "agg.micro"),
         "trl-grpo": ("grpo.std", "grpo.eps", "kl.loss_est", "kl.weight"),
         "rloo-trl": ("rloo.std",)}


@pytest.mark.parametrize("name, axis", [(name, axis) for name, axes in SHOWN.items()
                                        for axis in axes])
@pytest.mark.filterwarnings("ignore:overflow")
def test_every_axis_that_is_replayed_moves_something(name, axis):
    """On a wild batch: scores, KL and ratios reach beyond all clamps."""
    batch, preset = made(moved=25, seed=3), PRESETS[name]
    wild = replace(batch, scores=20 * batch.scores, ref_logprobs=100 * batch.ref_logprobs)
    numbers = replace(NUMBERS, parts=3)
    found = {str(asdict(replay(replace(preset, answers={**preset.answers, axis: answer}), wild,
                               numbers))) for answer in ANSWERS[axis]}
    assert len(found) > 1


def test_micro_batches_change_a_mean_of_micro_means_and_no_mean_over_the_step():
    parts = replace(NUMBERS, parts=3)
    for name, moves in (("openrlhf", False), ("verl-2026-01", True), ("trl-grpo-dapo", False)):
        one, cut = (replay(PRESETS[name], made(), n).gradient for n in (NUMBERS, parts))
        assert np.allclose(one, cut) != moves, name


def test_the_credit_is_the_preferred_one_where_a_system_has_it():
    assert replay(PRESETS["verl-2026-01"], made(), NUMBERS).method == "gae"
    assert replay(PRESETS["verl-2026-01"], made(), NUMBERS, "rloo").method == "rloo"
    assert replay(PRESETS["trlx"], made(), NUMBERS, "rloo").method == "gae"
    with pytest.raises(ValueError, match="GAE need a value model, and this batch has no values"):
        replay(PRESETS["trlx"], made(critic=False), NUMBERS)


def test_a_cosine_by_hand():
    assert cosine(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])) == pytest.approx(0.5 ** 0.5)
    assert np.isnan(cosine(np.zeros(2), np.ones(2)))


@pytest.mark.parametrize("changes, message", [
    ({"scores": np.ones(5)}, r"scores must have shape \(6,\), got \(5,\)"),
    ({"values": np.ones((6, 4))}, r"values must have the mask's shape \(6, 5\), got \(6, 4\)"),
    ({"group_size": 4}, "groups of 4 do not fit 6 replies"),
    ({"group_size": 1}, "groups of 1 do not fit")])
def test_a_batch_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


# --- a run ---------------------------------------------------------------------------------------

ASKED = ["--prompts", "3", "--group-size", "2"]


@pytest.fixture
def run(whole_run, tmp_path, monkeypatch):
    """A finished tiny run, runs/copy."""
    monkeypatch.chdir(tmp_path)
    return copied(whole_run, Path("runs"))


def told(capsys, *argv) -> str:
    capsys.readouterr()
    conventions_command.conventions(argv)
    return capsys.readouterr().out


def test_the_parameters_gradient_is_that_of_the_loss_through_the_model(run):
    """The two halves of the chain rule, put together, against the whole in one go."""
    saved = conventions.make_batch(run, 0, 3, 2)
    ours = conventions.compare(run, saved, ["minirlhf"])[0]
    rollout, policy = saved.rollout, run.load("policy")
    worth = ours.outcomes[0].advantages.astype("float32")

    def loss(params):
        logprobs = response_logprobs(params, run.model, rollout.sequences, rollout.sequence_mask,
                                     rollout.mask.shape[1], run.config.ppo.temperature)
        return clipped_surrogate_loss(logprobs, rollout.logprobs, worth, rollout.mask)
    whole = value_and_grad(loss)(policy)[1].flat.astype(np.float64)
    assert cosine(whole, ours.gradients[0]) > 1 - 1e-6
    assert np.linalg.norm(whole) == pytest.approx(np.linalg.norm(ours.gradients[0]), rel=1e-3)


def test_the_batch_is_the_policys_own_and_the_updates_move_it(run):
    saved = conventions.make_batch(run, 0, 3, 2)
    rollout, policy = saved.rollout, run.load("policy")
    assert len(rollout) == 6 and (rollout.sequences[0, :3] == rollout.sequences[1, :3]).all()
    np.testing.assert_allclose(rollout.logprobs, response_logprobs(
        policy, run.model, rollout.sequences, rollout.sequence_mask, rollout.mask.shape[1],
        run.config.ppo.temperature), atol=1e-5)
    assert np.abs((saved.moved - rollout.logprobs)[rollout.mask]).max() > 0


def test_nothing_is_written_but_the_batch_and_it_is_the_same_bytes_again(run, capsys):
    before = contents(run.folder)
    first = told(capsys, "copy", *ASKED)
    after = contents(run.folder)
    assert set(after) - set(before) == {"rollouts/0000.safetensors"}
    assert {name: after[name] for name in before} == before
    assert told(capsys, "copy", *ASKED) == first                      # read from its file
    (run.folder / "rollouts" / "0000.safetensors").unlink()
    assert told(capsys, "copy", *ASKED) == first and contents(run.folder) == after
    told(capsys, "copy", *ASKED, "--batch", "1")
    files = contents(run.folder / "rollouts")
    assert files["0000.safetensors"] != files["0001.safetensors"]


def test_the_table_has_a_line_a_preset_and_ours_is_like_itself(run, capsys):
    out = told(capsys, "copy", *ASKED)
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert set(PRESETS) <= set(lines)
    assert lines["minirlhf"][1] == "gae" and lines["minirlhf"][-4:] == ["+1.000"] * 4
    assert lines["trl-grpo"][1] == "grpo"
    some = told(capsys, "copy", *ASKED, "--presets", "trlx", "openrlhf")
    assert "\ntrlx" in some and "\nopenrlhf" in some and "\ntrl-ppo" not in some


def test_json_has_the_same_numbers_and_the_cosines_of_each_two(run, capsys):
    out = json.loads(told(capsys, "copy", *ASKED, "--json"))
    assert out["batch"] == "runs/copy/rollouts/0000.safetensors"
    assert out["numbers"] == asdict(conventions.numbers_of(run))
    assert list(out["presets"]) == list(PRESETS)
    for when in ("first", "later"):
        for name, found in out["presets"].items():
            both = out["cosines"][when]["minirlhf"][name], out["cosines"][when][name]["minirlhf"]
            assert both == pytest.approx([found["cosine_parameters"][when]] * 2)
    assert out["presets"]["minirlhf"]["signs_turned"] == 0


def test_a_run_without_a_value_model_says_which_presets_want_one(run, capsys):
    config = replace(run.config, algorithm="grpo")
    write_json(run.folder / "config.json", asdict(config))
    for file in (run.folder / "value").iterdir():
        file.unlink()
    out = told(capsys, "copy", *ASKED)
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "need a value model" in lines["trl-ppo"]
    assert lines["minirlhf"].split()[1] == lines["verl-2026-08"].split()[1] == "grpo"
    found = json.loads(told(capsys, "copy", *ASKED, "--json"))
    assert list(found["presets"]["trlx"]) == ["problem"]
    assert "trlx" not in found["cosines"]["first"]


def test_what_no_number_can_say_is_a_dash_and_null():
    assert conventions_command.shown(float("nan"), "+6.3f") == "     –"
    assert conventions_command.finite({"a": {"b": float("nan")}, "c": 1.0, "d": "–"}) == {
        "a": {"b": None}, "c": 1.0, "d": "–"}
    assert np.isnan(conventions_command.ratio(1.0, 0.0))


@pytest.mark.parametrize("argv, kind, message", [
    (["gone"], FileNotFoundError, "there is no run runs/gone"),
    (["copy", "--presets", "trl"], ValueError, "unknown preset 'trl'; there are minirlhf"),
    (["copy", "--presets", "cleanrl"], ValueError, "cleanrl has test vectors, but no preset"),
    (["copy", "--group-size", "1"], ValueError, "--group-size of at least 2 .* got 16, 1 and 0"),
    (["copy", "--batch", "-1"], ValueError, "got 16, 4 and -1"),
    ([], ValueError, "(?i)required")])
def test_a_mistake_is_one_clear_line(argv, kind, message, run):
    with pytest.raises(kind, match=message) as problem:
        conventions_command.conventions(argv)
    assert "\n" not in str(problem.value)


def test_a_run_without_a_policy_is_told_which_stage_makes_it(run):
    for file in (run.folder / "policy").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no policy/ model yet.*\(ppo\)"):
        conventions_command.conventions(["copy"])


def test_a_batch_of_another_policy_is_refused(run, capsys):
    told(capsys, "copy", *ASKED)
    shutil.copy(run.folder / "base" / "model.safetensors", run.folder / "policy")
    with pytest.raises(ValueError, match="0000.safetensors holds the replies of another policy"):
        conventions_command.conventions(["copy", *ASKED])


def test_a_file_that_is_no_batch_or_another_is_named(run, capsys):
    told(capsys, "copy", *ASKED)
    with pytest.raises(ValueError, match="0000.safetensors holds 3 prompts with 2 replies each; "
                                         "give --prompts 3 --group-size 2, or remove it"):
        conventions_command.conventions(["copy"])
    path = run.folder / "rollouts" / "0000.safetensors"
    write_tensors(path, {"scores": np.ones(6)})
    with pytest.raises(ValueError, match="0000.safetensors is no rollout batch: it lacks sequen"):
        conventions_command.conventions(["copy", *ASKED])
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="0000.safetensors: not a whole safetensors file"):
        conventions_command.conventions(["copy", *ASKED])


# --- the pages -----------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs" / "conventions"


def checked(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "scripts" / "conventions.py", "--check", "--out",
                           folder], capture_output=True, text=True, encoding="utf-8")


def test_the_pages_are_as_they_are_computed_byte_for_byte():
    ran = checked(PAGES)
    assert ran.returncode == 0, ran.stderr


def test_a_changed_a_missing_and_a_foreign_page_are_named(tmp_path):
    folder = Path(shutil.copytree(PAGES, tmp_path / "pages"))
    page = folder / "gae.mask.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.5988", "0.5989"), encoding="utf-8")
    (folder / "agg.md").unlink()
    (folder / "old.axis.md").write_text("gone", encoding="utf-8")
    ran = checked(folder)
    assert ran.returncode == 1
    assert set(re.findall(r"[\w.]+\.md", ran.stderr)) == {"gae.mask.md", "agg.md", "old.axis.md"}


def test_every_axis_has_a_page_that_says_what_each_answer_does_in_numbers():
    for axis, answers in ANSWERS.items():
        text = (PAGES / f"{axis}.md").read_text(encoding="utf-8")
        table, numbers = text.split("## In numbers")
        for answer in answers:
            assert f"| `{answer}` | " in table and f"| `{answer}` | " in numbers, (axis, answer)


def test_a_release_that_answers_otherwise_is_named_beside_the_answers():
    text = (PAGES / "ent.temp.md").read_text(encoding="utf-8")
    told = " ".join(text.split("## The answers")[1].split("## In numbers")[0].split())
    assert "| `raw` | softmax(logits), whatever the temperature |" in told
    assert "OpenRLHF 0.11.2, as released, divides them by the temperature first" in told


def test_the_index_leads_to_every_page():
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    assert {f"{axis}.md" for axis in ANSWERS} == set(re.findall(r"\(([\w.]+\.md)\)", text))
    assert all(f"**{name}**" in text for name in systems())


def test_a_page_names_the_systems_that_the_vectors_list():
    """Whether they have a preset or not: cleanrl has none."""
    rows = [line for line in (PAGES / "whiten.eps.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| `outside` |")]
    assert "cleanrl" in rows[0]
    for file in map(load, functions()):
        for group in file.groups:
            for axis, answer in group.parameters.items():
                text = (PAGES / f"{axis}.md").read_text(encoding="utf-8")
                (row,) = [line for line in text.split("## In numbers")[0].splitlines()
                          if line.startswith(f"| `{answer}` |")]
                assert set(group.systems) <= set(re.split(r"[ ,|]+", row)), (axis, answer)

"""Laws of the judgement at the end: who is asked, with which luck; how accurate the score is."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from runs import TINY, copied

from minirlhf import evaluation, judgement, report
from minirlhf.evaluation import GOLD_PARTS
from minirlhf.files import read_json, read_jsonl, write_jsonl
from minirlhf.run import Run
from minirlhf.stages.training import Stage, step_rng


@pytest.fixture(scope="module")
def run(whole_run, backend):
    return Run(whole_run.folder, replace(TINY, backend=backend.name))


def test_all_models_answer_with_random_numbers_of_one_seed(run, tmp_path, monkeypatch):
    """A difference between two models is then not the luck of one of them."""
    drawn: dict = {}
    monkeypatch.setattr(evaluation, "evaluate", lambda name, *_, rng, **more: drawn.setdefault(
        name, []).append(rng.random()) or [])
    run = copied(run, tmp_path, replace(run.config, evaluation=replace(TINY.evaluation, samples=3)))
    judgement.evaluate(run)
    wanted = [step_rng(TINY.seed, Stage.EVALUATE, batch).random() for batch in range(4)]
    assert len(set(wanted)) == 4
    assert drawn == dict.fromkeys(("base", "sft", "policy-best", "policy"), wanted)


def test_one_models_replies_do_not_depend_on_which_models_are_asked_before_it(run, tmp_path):
    """The same model under two names gives the same replies."""
    run = copied(run, tmp_path)
    shutil.rmtree(run.folder / "policy")
    shutil.copytree(run.folder / "sft", run.folder / "policy")
    rows = judgement.evaluate(run)
    sft, policy = ([row["reply"] for row in rows if row["model"] == name]
                   for name in ("sft", "policy"))
    assert sft == policy


def test_all_models_answer_every_test_prompt(run):
    test = [row["prompt"] for row in read_jsonl(run.folder / "prompts.jsonl")
            if row["split"] == "test"]
    rows = read_jsonl(run.folder / "samples.jsonl")
    for name in ("base", "sft", "policy-best", "policy"):
        own = [row for row in rows if row["model"] == name]
        assert [row["prompt"] for row in own] == test
    assert len(rows) == 4 * len(test)
    assert max(abs(row["kl"]) for row in rows if row["model"] == "sft") < 1e-4
    for row in rows:
        assert sum(row[part] for part in GOLD_PARTS) == pytest.approx(row["gold"], abs=1e-9)


def test_only_the_base_model_is_asked_without_the_template(run, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(evaluation, "evaluate",
                        lambda name, *_, raw, **more: asked.update({name: raw}) or [])
    judgement.evaluate(copied(run, tmp_path))
    assert asked == {"base": True, "sft": False, "policy-best": False, "policy": False}


# --- the accuracy of the reward model ------------------------------------------------------------

def with_pairs(run, folder, kept) -> Run:
    """A copy of a run that has some of its comparisons only."""
    run = copied(run, folder)
    rows = read_jsonl(run.folder / "preferences.jsonl")
    write_jsonl(run.folder / "preferences.jsonl", [row for row in rows if kept(row)])
    return run


def test_a_kind_without_pairs_has_no_accuracy(run, tmp_path):
    """All replies to its prompts may coincide; the report has no line for it then."""
    reward = run.load("reward")
    some = with_pairs(run, tmp_path / "some", lambda row: row["kind"] in ("harm", "scary"))
    assert set(judgement.held_out_accuracy(some, reward)) == {"all", "harm", "scary"}
    none = with_pairs(run, tmp_path / "none", lambda row: row["split"] == "train")
    assert judgement.held_out_accuracy(none, reward) == {}
    assert report.accuracy_text({}).count("\n") == 0


def test_the_accuracy_is_measured_on_the_comparisons_of_test_prompts_only(run, tmp_path):
    reward = run.load("reward")
    whole_table = judgement.held_out_accuracy(run, reward)
    held = with_pairs(run, tmp_path / "held", lambda row: row["split"] == "test")
    assert judgement.held_out_accuracy(held, reward) == whole_table
    assert whole_table == read_json(run.folder / "reward" / "accuracy.json")


def test_the_last_rounds_reward_model_stands_beside_this_rounds_on_the_same_pairs(run):
    reward, other = run.load("reward"), run.load("reward")
    other["score"]["weight"][...] *= -1                        # whoever was chosen scores lower now
    table = judgement.held_out_accuracy(run, reward, other)
    assert set(table) == set(judgement.held_out_accuracy(run, reward))
    for kind, row in judgement.held_out_accuracy(run, reward).items():
        before = table[kind].pop("before")
        assert table[kind] == row and before == pytest.approx(1 - row["accuracy"])


def test_accuracy_is_reported_in_all_and_by_kind_on_test_prompts(run):
    rows = [row for row in read_jsonl(run.folder / "preferences.jsonl") if row["split"] == "test"]
    table = read_json(run.folder / "reward" / "accuracy.json")
    assert set(table) == {"all"} | {row["kind"] for row in rows}
    assert table["all"]["pairs"] == len(rows)
    assert table["all"]["best"] == pytest.approx(np.mean([row["best"] for row in rows]))
    kinds = [table[kind] for kind in table if kind != "all"]
    assert sum(row["pairs"] for row in kinds) == len(rows)
    assert np.average([row["accuracy"] for row in kinds], weights=[r["prompts"] for r in kinds]
                      ) == pytest.approx(table["all"]["accuracy"])


# --- who is asked --------------------------------------------------------------------------------

def test_as_many_replies_are_sampled_together_as_memory_allows(run, tmp_path, monkeypatch):
    """But for the batches' random numbers nothing depends on it."""
    seen = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *args, **more: seen.append(
        len(args[-1])) or [])
    run = copied(run, tmp_path)
    judgement.evaluate(run)
    test = sum(row["split"] == "test" for row in run.source.prompts())
    assert seen == [128, test - 128] * 4
    seen.clear()
    monkeypatch.setattr("minirlhf.rollout.NUMBERS_AT_ONCE", 1)
    judgement.evaluate(run)
    assert seen == [1] * 4 * test


def test_best_of_n_is_a_speaker_where_it_was_asked_for(run, tmp_path):
    """n replies of the SFT model to each prompt, and the reward model takes one: its mean score
    is the highest that is to be had, and it is never below that of one reply."""
    run = copied(run, tmp_path, replace(run.config, baselines=("best-of-n",), evaluation=replace(
        TINY.evaluation, best_of=8)))
    rows = judgement.evaluate(run)
    assert list(dict.fromkeys(row["model"] for row in rows)) == [
        "base", "sft", "best-of-n", "policy-best", "policy"]
    best, sft = ([row for row in rows if row["model"] == name] for name in ("best-of-n", "sft"))
    assert [row["prompt"] for row in best] == [row["prompt"] for row in sft]
    assert np.mean([row["score"] for row in best]) > np.mean([row["score"] for row in sft]) + 0.5
    assert {row["kl"] for row in best} == {np.log(8) - 7 / 8}
    assert all(set(row) == set(sft[0]) for row in best)


def test_whoever_the_run_has_is_asked_in_the_order_of_the_run(run, tmp_path, monkeypatch):
    """Every round's policy by its number, the last round's by the name of the run's own."""
    run = copied(run, tmp_path, replace(run.config, rounds=3, baselines=("dpo", "best-of-n")))
    for number in (1, 2):
        run.in_round(number).save("policy", run.load("sft"))
    run.save("dpo", run.load("sft"))
    assert list(judgement.speakers(run)) == ["base", "sft", "best-of-n", "dpo", "round-1",
                                             "round-2", "policy-best", "policy"]
    assert {name: replies for name, (_, replies) in judgement.speakers(run).items()
            if replies != 1} == {"best-of-n": 2}
    shutil.rmtree(run.folder / "policy-best")               # a run of before there was one
    assert "policy-best" not in judgement.speakers(run)


def test_each_speaker_is_the_model_that_its_name_says(run, tmp_path, monkeypatch):
    """And all are scored by the run's own reward model, against the SFT model."""
    run = copied(run, tmp_path, replace(run.config, rounds=2))
    for i, (one, name) in enumerate(((run.in_round(1), "policy"), (run.in_round(1), "reward"),
                                     (run, "dpo"), (run, "policy-best"), (run, "policy"))):
        params = run.load("sft" if name != "reward" else "reward")
        params.flat[...] *= 1 + (i + 1) / 8
        one.save(name, params)
    wanted = {"base": run.load("base"), "sft": run.load("sft"), "dpo": run.load("dpo"),
              "round-1": run.in_round(1).load("policy"), "policy-best": run.load("policy-best"),
              "policy": run.load("policy")}
    asked = {}

    def record(name, policy, reward, reference, *args, **more):
        asked[name] = policy
        assert (reward.flat == run.load("reward").flat).all()
        assert (reference.flat == run.load("sft").flat).all()
        return []

    monkeypatch.setattr(evaluation, "evaluate", record)
    judgement.evaluate(run)
    assert set(asked) == set(wanted)
    for name, params in asked.items():
        assert (params.flat == wanted[name].flat).all(), name

"""Laws of the whole run, on a run so small that it takes a second: files, bits, numbers, report."""

import json
import os
import shutil
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from helpers import SAMPLES, sample

from minirlhf import evaluation, page, pipeline, report, rollout, transformer
from minirlhf.evaluation import GOLD_PARTS
from minirlhf.files import read_json, read_jsonl, write_jsonl
from minirlhf.presets import text_settings
from minirlhf.rollout import generate, score_replies
from minirlhf.run import Run
from minirlhf.run_folder import create
from minirlhf.settings import EvaluationConfig, ModelSize, PreferenceConfig, RunConfig, from_dict
from minirlhf.sources import ToyWorld
from minirlhf.stages import ppo, pretraining, reward_model, supervised
from minirlhf.stages.ppo import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import RewardModelConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.stages.training import Stage, step_rng

TINY = RunConfig(
    backend="numpy", world=ToyWorld(corpus_words=3000, demonstration_count=30),
    model=ModelSize(channels=8, heads=2, layers=1),
    pretraining=PretrainingConfig(steps=15, batch_size=4, window=24),
    sft=SFTConfig(steps=8, batch_size=8), preferences=PreferenceConfig(prompts=12, replies=2),
    reward=RewardModelConfig(steps=5, batch_size=8),
    ppo=PPOConfig(steps=2, batch_size=8, minibatches=2, max_new=8),
    evaluation=EvaluationConfig(samples=1))
MODELS = ("base", "sft", "reward", "value", "policy")
STAGE_MODULES = {"pretraining": pretraining, "SFT": supervised, "reward model": reward_model,
                 "PPO": ppo}
PPO_NUMBERS = {"score", "kl", "objective", "beta", "length", "entropy", "explained_variance",
               "policy_loss", "policy_grad_norm", "value_loss", "value_grad_norm",
               "clip_fraction"}
STEPS = {"pretraining": 15, "SFT": 8, "reward model": 5, "PPO": 2}


def whole(folder, config=TINY) -> Run:
    run = create(folder, config)
    for stage in pipeline.STAGES.values():
        stage.run(run)
    page.write_report(run.folder)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("runs") / "first")


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# --- the folder ----------------------------------------------------------------------------------

def test_the_folder_holds_what_was_promised_and_nothing_else(run):
    model_files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    wanted = {f"{name}/{file}" for name in MODELS for file in model_files}
    wanted |= {"config.json", "environment.json", "checkpoint/state.safetensors",
               "metrics.jsonl", "prompts.jsonl", "demonstrations.jsonl",
               "preferences.jsonl", "samples.jsonl", "report.html", "reward/accuracy.json"}
    assert set(contents(run.folder)) == wanted


def test_the_settings_can_be_read_back(run):
    assert from_dict(RunConfig, read_json(run.folder / "config.json")) == TINY


@pytest.mark.parametrize("name", MODELS)
def test_each_model_folder_opens_by_itself(run, name):
    params, config = transformer.load(run.folder / name)
    assert config == run.model and params.flat.dtype == "float32"
    assert ("score" in params) == (name in ("reward", "value"))
    assert np.isfinite(params.flat).all()
    assert (params.flat == run.load(name).flat).all()


def test_each_stage_starts_from_the_model_before_it(run):
    base, sft, reward, value, policy = (run.load(name).flat for name in MODELS)
    trunk = len(base) - TINY.model.channels       # but the last bias: normalising has shifted it
    for one, other in ((base, sft), (sft, policy), (sft[:trunk], reward[:trunk]), (reward, value)):
        assert 0 < np.abs(one - other).max() < 0.1


def test_every_step_of_every_stage_is_logged_with_finite_numbers(run):
    rows = read_jsonl(run.folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == [
        (stage, step) for stage, steps in STEPS.items() for step in range(steps)]
    for row in rows:
        numbers = {key: x for key, x in row.items() if key not in ("stage", "step")}
        assert all(type(x) is float and isfinite(x) for x in numbers.values())
        wanted = PPO_NUMBERS if row["stage"] == "PPO" else {"loss", "grad_norm", "lr"}
        assert set(numbers) == wanted


def test_held_out_prompts_of_the_preferences_are_never_training_prompts(run):
    split = {row["prompt"]: row["split"] for row in read_jsonl(run.folder / "prompts.jsonl")}
    rows = read_jsonl(run.folder / "preferences.jsonl")
    assert all(row["split"] == split[row["prompt"]] for row in rows)
    training = {row["prompt"] for row in rows if row["split"] == "train"}
    held_out = {row["prompt"] for row in rows if row["split"] != "train"}
    assert training and held_out and not training & held_out
    assert len({row["group"] for row in rows if row["split"] == "train"}) <= 12
    assert {split[row["prompt"]] for row in read_jsonl(run.folder / "demonstrations.jsonl")} == {
        "train"}


def copied(run, tmp_path, config=TINY) -> Run:
    """A finished run's folder, to be written to, with other settings perhaps."""
    shutil.copytree(run.folder, tmp_path / "copy")
    return Run(tmp_path / "copy", config)


def test_replies_are_compared_on_training_and_test_prompts_only(run, tmp_path, monkeypatch):
    """Every test prompt is asked, so that all of them count in the accuracy; no validation prompt
    is, since nothing would read its comparisons."""
    asked = []

    def record(params, model, tokenizer, prompts, *args, **more):
        asked.extend(tuple(prompt) for prompt in prompts)
        return generate(params, model, tokenizer, prompts, *args, **more)

    monkeypatch.setattr(pipeline, "generate", record)
    run = copied(run, tmp_path)
    pipeline.collect_preferences(run)
    of = {split: {tuple(run.tokenizer.prompt(row["prompt"])) for row in run.source.prompts()
                  if row["split"] == split} for split in ("train", "validation", "test")}
    assert set(asked) <= of["train"] | of["test"] and of["test"] <= set(asked)
    assert len(asked) == 2 * (12 + len(of["test"]))
    assert {row["split"] for row in read_jsonl(run.folder / "preferences.jsonl")} == {
        "train", "test"}


def test_the_reward_model_is_trained_on_the_comparisons_of_training_prompts_only(
        run, tmp_path, monkeypatch):
    """Each of them once, and none that its accuracy is measured on."""
    seen = []

    def record(params, model, groups, *args, **more):
        seen.extend(groups)
        return reward_model_train(params, model, groups, *args, **more)

    reward_model_train = reward_model.train
    monkeypatch.setattr(reward_model, "train", record)
    run = copied(run, tmp_path)
    pipeline.train_reward_model(run)
    rows = [row for row in read_jsonl(run.folder / "preferences.jsonl") if row["split"] == "train"]
    prompt = run.tokenizer.prompt
    assert sorted((group.rows[chosen], group.rows[rejected])
                  for group in seen for chosen, rejected in group.pairs) == sorted(
        tuple(prompt(row["prompt"]) + run.tokenizer.response(row[side], row[f"{side}_ended"])
              for side in ("chosen", "rejected")) for row in rows)
    test = {tuple(prompt(row["prompt"])) for row in run.source.prompts() if row["split"] == "test"}
    bot = prompt("")[-1]
    assert seen and not test & {tuple(row[:row.index(bot) + 1]) for g in seen for row in g.rows}


def test_the_reward_models_accuracy_is_measured_on_the_comparisons_of_test_prompts_only(
        run, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(pipeline, "held_out_accuracy",
                        lambda run, reward, rows: given.extend(rows) or {})
    run = copied(run, tmp_path)
    pipeline.train_reward_model(run)
    assert given == [row for row in read_jsonl(run.folder / "preferences.jsonl")
                     if row["split"] == "test"]


def test_replies_are_sampled_at_one_temperature_in_every_stage(run, tmp_path, monkeypatch):
    """The reward model judges, and is normalised on, replies like those that PPO will sample and
    the evaluation will show."""
    used = {}

    def record(module, name):
        real = getattr(module, name)

        def recorded(*args, temperature=1.0, **more):
            used.setdefault(stage, set()).add(temperature)
            return real(*args, temperature=temperature, **more)
        monkeypatch.setattr(module, name, recorded)

    record(pipeline, "generate")
    record(evaluation, "sample")
    record(rollout, "sample")
    run = copied(run, tmp_path, replace(TINY, ppo=replace(TINY.ppo, temperature=0.5)))
    for stage, step in pipeline.STAGES.items():
        if stage not in ("pretrain", "sft"):
            step.run(run)
    assert used == {stage: {0.5} for stage in ("preferences", "reward-model", "ppo", "evaluate")}


def test_all_models_answer_with_random_numbers_of_one_seed(run, tmp_path, monkeypatch):
    """A difference between two models is then not the luck of one of them."""
    drawn: dict = {}
    monkeypatch.setattr(evaluation, "evaluate", lambda name, *_, rng, **more: drawn.setdefault(
        name, []).append(rng.random()) or [])
    run = copied(run, tmp_path, replace(TINY, evaluation=EvaluationConfig(samples=3)))
    pipeline.evaluate(run)
    wanted = [step_rng(TINY.seed, Stage.EVALUATE, batch).random() for batch in range(4)]
    assert len(set(wanted)) == 4
    assert drawn == dict.fromkeys(("base", "sft", "policy"), wanted)


def test_one_models_replies_do_not_depend_on_which_models_are_asked_before_it(run, tmp_path):
    """The same model under two names gives the same replies."""
    run = copied(run, tmp_path)
    shutil.rmtree(run.folder / "policy")
    shutil.copytree(run.folder / "sft", run.folder / "policy")
    rows = pipeline.evaluate(run)
    sft, policy = ([row["reply"] for row in rows if row["model"] == name]
                   for name in ("sft", "policy"))
    assert sft == policy


def test_all_models_answer_every_test_prompt(run):
    test = [row["prompt"] for row in read_jsonl(run.folder / "prompts.jsonl")
            if row["split"] == "test"]
    rows = read_jsonl(run.folder / "samples.jsonl")
    for name in ("base", "sft", "policy"):
        own = [row for row in rows if row["model"] == name]
        assert [row["prompt"] for row in own] == test
    assert len(rows) == 3 * len(test)
    assert max(abs(row["kl"]) for row in rows if row["model"] == "sft") < 1e-4
    for row in rows:
        assert sum(row[part] for part in GOLD_PARTS) == pytest.approx(row["gold"], abs=1e-9)


def test_only_the_base_model_is_asked_without_the_template(run, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(evaluation, "evaluate",
                        lambda name, *_, raw, **more: asked.update({name: raw}) or [])
    pipeline.evaluate(copied(run, tmp_path))
    assert asked == {"base": True, "sft": False, "policy": False}


def test_a_kind_without_pairs_has_no_accuracy(run):
    """All replies to its prompts may coincide; the report has no line for it then."""
    reward = run.load("reward")
    rows = [row for row in read_jsonl(run.folder / "preferences.jsonl") if row["split"] == "test"]
    some = [row for row in rows if row["kind"] in ("harm", "scary")]
    assert set(pipeline.held_out_accuracy(run, reward, some)) == {"all", "harm", "scary"}
    assert pipeline.held_out_accuracy(run, reward, []) == {}
    assert report.accuracy_text({}).count("\n") == 0


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


# --- the same bits -------------------------------------------------------------------------------

def test_the_same_seed_gives_the_same_bits_in_every_file(run, tmp_path):
    again = contents(whole(tmp_path / "first").folder)
    first = contents(run.folder)
    assert set(again) == set(first)
    assert [name for name in first if first[name] != again[name]] == []


def test_another_seed_gives_another_run(run, tmp_path):
    other = contents(whole(tmp_path / "first", replace(TINY, seed=1)).folder)
    first = contents(run.folder)
    for name in (*(f"{model}/model.safetensors" for model in MODELS), "demonstrations.jsonl",
                 "preferences.jsonl", "samples.jsonl", "metrics.jsonl"):
        assert first[name] != other[name], name
    for name in ("prompts.jsonl", "base/tokenizer.json", "base/config.json"):
        assert first[name] == other[name], name            # no seed chooses the test prompts


def test_stages_run_from_a_fresh_start_each_give_the_bits_of_the_whole_run(run, tmp_path):
    """Nothing passes from stage to stage but what lies in the folder."""
    folder = tmp_path / "first"
    create(folder, TINY)
    for stage in pipeline.STAGES.values():
        stage.run(Run(folder, from_dict(RunConfig, read_json(folder / "config.json"))))
    first, again = contents(run.folder), contents(folder)
    assert [name for name in again if again[name] != first[name]] == []


def test_the_reward_model_collects_preferences_where_there_are_none(run, tmp_path):
    folder = tmp_path / "first"
    create(folder, TINY)
    for name in ("pretrain", "sft", "reward-model"):
        pipeline.STAGES[name].run(Run(folder, TINY))
    for name in ("preferences.jsonl", "reward/model.safetensors"):
        assert (folder / name).read_bytes() == (run.folder / name).read_bytes()


def test_every_stage_is_given_the_seed_of_the_run(tmp_path, monkeypatch):
    """Also where another seed's data would hide that the stage's own draws did not change."""
    seeds = {}
    for name, module in STAGE_MODULES.items():
        def record(*args, name=name, train=module.train, seed, **more):
            seeds[name] = seed
            return train(*args, seed=seed, **more)
        monkeypatch.setattr(module, "train", record)
    whole(tmp_path / "seven", replace(TINY, seed=7))
    assert seeds == dict.fromkeys(STAGE_MODULES, 7)


def test_ppo_starts_from_the_sft_and_the_reward_model_and_keeps_a_copy_of_each(run, tmp_path,
                                                                               monkeypatch):
    """Four models that share no memory: a reference that moved with the policy hides the KL."""
    seen = []

    def record(models, *args, **more):
        seen.append(models)
        names = ("sft", "reward", "reward", "sft")
        for params, name in zip(models, names, strict=True):
            assert (params.flat == run.load(name).flat).all()
        yield from ()

    monkeypatch.setattr(ppo, "train", record)
    monkeypatch.setattr(Run, "save", lambda *_: None)
    pipeline.fine_tune_with_ppo(copied(run, tmp_path))
    (models,) = seen
    for i, one in enumerate(models):
        for other in models[i + 1:]:
            assert not np.shares_memory(one.flat, other.flat)


# --- the reward's scale --------------------------------------------------------------------------

def test_the_saved_reward_model_scores_what_it_was_normalised_on_as_0_and_1(run, tmp_path,
                                                                            monkeypatch):
    """Mean 0 and deviation 1 over replies to training prompts, baked into the saved weights."""
    seen = []

    def record(params, model, rows):
        seen.append(rows)
        return score_replies(params, model, rows)

    folder = tmp_path / "first"
    create(folder, TINY)
    for name in ("pretrain", "sft", "preferences"):
        pipeline.STAGES[name].run(Run(folder, TINY))
    monkeypatch.setattr(pipeline, "score_replies", record)
    pipeline.train_reward_model(Run(folder, TINY))
    (rows,) = seen
    assert len(rows) == 1024
    again = score_replies(run.load("reward"), run.model, rows)
    assert abs(again.mean()) < 1e-4 and abs(again.std() - 1) < 1e-4
    asked = {tuple(run.tokenizer.prompt(row["prompt"])) for row in run.source.prompts()
             if row["split"] == "train"}
    bot = run.tokenizer.prompt("")[-1]
    assert {tuple(row[:row.index(bot) + 1]) for row in rows} <= asked


# --- mistakes ------------------------------------------------------------------------------------

def test_the_numbers_of_an_interrupted_attempt_are_dropped_when_its_stage_runs_again(
        run, tmp_path, monkeypatch):
    """The log is then that of a run that was never interrupted, to the byte."""
    again = create(tmp_path / "first", TINY)
    real = supervised.train

    def interrupted(*args, **more):
        for step, numbers in enumerate(real(*args, **more)):
            if step == 3:
                raise KeyboardInterrupt
            yield numbers

    pipeline.pretrain(again)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(supervised, "train", interrupted)
        pipeline.fine_tune(again)
    assert len(read_jsonl(again.folder / "metrics.jsonl")) == STEPS["pretraining"] + 3
    pipeline.fine_tune(again)
    wanted = (run.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert (again.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True) == wanted[
        :STEPS["pretraining"] + STEPS["SFT"]]
    assert (again.load("sft").flat == run.load("sft").flat).all()


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected", "split", "kind"])
def test_a_preference_without_a_field_is_shown_with_its_file(tmp_path, field):
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "split": "train", "kind": "harm"}
    write_jsonl(tmp_path / "preferences.jsonl", [row])
    assert pipeline.read_preferences(tmp_path / "preferences.jsonl") == [row]
    del row[field]
    write_jsonl(tmp_path / "preferences.jsonl", [row])
    with pytest.raises(ValueError, match=f"preferences.jsonl:1: a row lacks {field}: "):
        pipeline.read_preferences(tmp_path / "preferences.jsonl")


def test_an_existing_folder_is_refused_and_left_alone(run):
    before = contents(run.folder)
    with pytest.raises(FileExistsError, match="first exists already; choose another --name"):
        create(run.folder, replace(TINY, seed=5))
    assert contents(run.folder) == before


@pytest.mark.parametrize("name, stage", [("base", "pretrain"), ("sft", "sft"),
                                         ("reward", "reward-model"), ("policy", "ppo"),
                                         ("value", "ppo")])
def test_a_missing_model_names_the_stage_that_makes_it(tmp_path, name, stage):
    run = create(tmp_path / "new", TINY)
    with pytest.raises(FileNotFoundError, match=rf"no {name}/ model yet; .*\({stage}\)"):
        run.load(name)


@pytest.mark.parametrize("stage", ["sft", "preferences", "reward-model", "ppo", "evaluate"])
def test_a_stage_too_early_says_what_it_lacks(tmp_path, stage):
    run = create(tmp_path / "new", TINY)
    with pytest.raises(FileNotFoundError, match="run the stage that makes it first"):
        pipeline.STAGES[stage].run(run)


def test_a_model_of_another_size_is_refused(run):
    other = Run(run.folder, replace(TINY, model=replace(TINY.model, heads=1)))
    with pytest.raises(ValueError, match="heads=2.* want .*heads=1"):
        other.load("base")


def test_a_number_that_is_not_finite_stops_the_run_by_stage_and_step(tmp_path, monkeypatch):
    def breaks(*args, **kwargs):
        yield {"loss": 1.0, "grad_norm": 1.0}
        yield {"loss": np.float32("nan"), "grad_norm": np.inf}
        raise AssertionError("one step too many")

    monkeypatch.setattr(pretraining, "train", breaks)
    run = create(tmp_path / "new", TINY)
    with pytest.raises(FloatingPointError, match="pretraining, step 1: loss, grad_norm is not fin"):
        pipeline.pretrain(run)
    assert not (run.folder / "base").exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learning_rate_that_explodes_is_noticed_in_training_itself(tmp_path):
    config = replace(TINY, pretraining=replace(TINY.pretraining, lr=1e30, warmup=0))
    run = create(tmp_path / "new", config)
    with pytest.raises(FloatingPointError, match="pretraining, step 1: loss"):
        pipeline.pretrain(run)


def test_what_cannot_come_to_its_end_is_refused_before_the_folder_is_made(tmp_path):
    config = replace(TINY, ppo=replace(TINY.ppo, max_new=40))
    with pytest.raises(ValueError, match=r"longest prompt \(11 tokens\) and ppo.max_new \(40\)"):
        create(tmp_path / "new", config)
    assert os.listdir(tmp_path) == []


def test_a_corpus_shorter_than_a_window_is_refused_by_name():
    with pytest.raises(ValueError, match=r"world.corpus_words \(23\) .* pretraining.window \(24\)"):
        replace(TINY, world=replace(TINY.world, corpus_words=23))
    replace(TINY, world=replace(TINY.world, corpus_words=24))


# --- reports -------------------------------------------------------------------------------------

def test_the_table_has_a_column_a_model_and_a_line_a_number():
    lines = report.table_text(report.comparison(SAMPLES)).splitlines()
    assert lines[0].split() == ["base", "SFT", "PPO"]
    by_label = {line[:26].strip(): line[26:].split() for line in lines[1:]}
    assert by_label["gold score"] == ["-1.25", "+0.50", "+1.15"]
    assert by_label["win rate over SFT"] == ["0%", "50%", "100%"]
    assert by_label["KL to SFT"] == ["0.0", "0.0", "3.2"]
    assert by_label["reward-model score"] == ["-0.50", "+0.50", "+0.50"]
    assert len({len(line) for line in lines}) == 1


def test_the_table_of_real_people_has_no_gold():
    rows = [{key: row[key] for key in ("model", "prompt", "kind", "reply", "score", "kl", "length")}
            for row in SAMPLES]
    text = report.table_text(report.comparison(rows))
    table, why = text.split("\n\n", 1)
    assert "gold" not in table and "win rate" not in text and "KL to SFT" in table
    assert "length: tokens a reply" in why and report.NO_GOLD in why


def test_accuracy_is_shown_with_its_error_and_its_ceiling():
    table = {"all": {"accuracy": 0.75, "standard_error": 0.0312, "pairs": 143, "best": 0.871},
             "harm": {"accuracy": 1.0, "standard_error": 0.0, "pairs": 4, "best": 0.9}}
    lines = report.accuracy_text(table).splitlines()
    assert lines[1].split() == ["all", "0.750", "0.031", "0.871", "143"]
    assert lines[2].split()[0] == "harm" and "perfect model of the labelers" in lines[3]
    del table["harm"]["best"]
    lines = report.accuracy_text(table).splitlines()
    assert lines[2].split() == ["harm", "1.000", "0.000", "–", "4"]
    del table["all"]["best"]
    lines = report.accuracy_text(table).splitlines()
    assert "best" not in lines[0] and len(lines) == 3
    assert lines[1].split() == ["all", "0.750", "0.031", "143"]


def test_accuracy_on_real_people_stands_beside_that_of_a_judge_of_length():
    table = {"all": {"accuracy": 0.75, "standard_error": 0.03, "pairs": 9, "longer": 0.625,
                     "shorter": 0.375}}
    assert report.accuracy_text(table).splitlines()[2:] == [
        f"{'always the longer':<26}{0.625:>9}", f"{'always the shorter':<26}{0.375:>9}"]


def test_long_texts_are_shown_with_their_beginning_and_their_end():
    assert report.shortened("a\n\n b") == "a b" and report.shortened("x" * 400) == "x" * 400
    short = report.shortened("begin " + "x" * 900 + " end")
    assert short.startswith("begin xxx") and " […] xxx" in short and short.endswith("xxx end")
    assert len(short) == 400 + len(" […] ")
    text = report.examples_text([sample("base", prompt="why " * 999, reply="so\n" * 999)])
    assert len(text) < 1000 and text.count("\n") == 2


def test_accuracies_over_seeds_are_of_the_kinds_that_every_seed_has():
    accuracy = {"accuracy": 0.75, "standard_error": 0.03, "pairs": 143, "best": 0.871}
    tables = [report.comparison(SAMPLES)] * 2
    text = report.across_seeds(tables, [{"all": accuracy, "harm": accuracy}, {"all": accuracy}])
    assert "| all |" in text and "| harm |" not in text


def test_examples_show_one_prompt_a_kind_answered_by_every_model():
    rows = [row | {"prompt": prompt, "kind": kind} for row in SAMPLES
            for prompt, kind in (("sky ?", "color"), ("grass ?", "color"), ("rob ?", "harm"))]
    text = report.examples_text(rows)
    assert "> sky ?" in text and "> rob ?" in text and "grass" not in text
    assert text.count("policy says so") == 2
    assert "SFT  gold +0.5  sft says so" in text
    assert "grass" in report.examples_text(rows, per_kind=2)


def test_an_example_shows_the_first_of_several_replies():
    rows = [sample("sft"), sample("sft", reply="later")]
    assert "later" not in report.examples_text(rows)


# --- people's comparisons ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def human_run(tmp_path_factory):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    folder = tmp_path_factory.mktemp("text")
    path = folder / "people.jsonl"
    rows = [{"prompt": f"what is {a} plus {b} ?", "chosen": f"it is {a + b} .",
             "rejected": f"i think <{a}> !"} for a in range(5) for b in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = text_settings(path)
    return whole(folder / "runs" / "people", replace(
        settings, backend="numpy", text=replace(settings.text, vocab_size=280, max_tokens=40),
        model=ModelSize(context=64, channels=8, heads=2, layers=1), pretraining=TINY.pretraining,
        sft=TINY.sft, reward=TINY.reward, ppo=TINY.ppo))


def test_a_run_on_peoples_comparisons_has_all_of_it(run, human_run):
    assert set(contents(human_run.folder)) == set(contents(run.folder))
    assert from_dict(RunConfig, read_json(human_run.folder / "config.json")) == human_run.config
    rows = read_jsonl(human_run.folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == [
        (stage, step) for stage, steps in STEPS.items() for step in range(steps)]


def test_a_run_on_peoples_comparisons_keeps_held_out_prompts_out(human_run):
    rows = read_jsonl(human_run.folder / "preferences.jsonl")
    held = {row["prompt"] for row in rows if row["split"] != "train"}
    assert len(rows) == 30 and len(held) == 4
    assert not held & {r["prompt"] for r in read_jsonl(human_run.folder / "demonstrations.jsonl")}
    asked = {row["prompt"] for row in read_jsonl(human_run.folder / "samples.jsonl")}
    assert asked == {row["prompt"] for row in rows if row["split"] == "test"}


def test_a_report_on_peoples_comparisons_claims_no_truth(human_run):
    text = (human_run.folder / "report.html").read_text(encoding="utf-8")
    assert "There is no gold score" in text and "gold score" not in text.split("<main>")[1]
    table = read_json(human_run.folder / "reward" / "accuracy.json")
    assert all("best" not in row for row in table.values())
    assert table["all"]["longer"] + table["all"]["shorter"] == 1
    assert f"always the longer</th><td>{table['all']['longer']:.3f}</td>" in text


def test_as_many_replies_are_sampled_together_as_memory_allows(run, tmp_path, monkeypatch):
    """But for the batches' random numbers nothing depends on it."""
    seen = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *args, **more: seen.append(
        len(args[-1])) or [])
    run = copied(run, tmp_path)
    pipeline.evaluate(run)
    test = sum(row["split"] == "test" for row in run.source.prompts())
    assert seen == [128, test - 128] * 3
    seen.clear()
    monkeypatch.setattr("minirlhf.rollout.NUMBERS_AT_ONCE", 1)
    pipeline.evaluate(run)
    assert seen == [1] * 3 * test

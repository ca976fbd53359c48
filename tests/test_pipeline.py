"""Laws of the whole run, on a run so small that it takes a second: files, bits, numbers, report."""

import json
import os
import shutil
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from helpers import SAMPLES, assert_same, sample
from runs import MODEL_FILES, TINY, contents, copied, whole

from minirlhf import (
    evaluation,
    pipeline,
    preferences,
    report,
    rollout,
    transformer,
    watching,
)
from minirlhf.arrays import array_module
from minirlhf.files import read_json, read_jsonl
from minirlhf.presets import text_settings
from minirlhf.rollout import score_replies
from minirlhf.run import Run, watched
from minirlhf.run_folder import create
from minirlhf.settings import ModelSize, RunConfig, from_dict
from minirlhf.stages import (
    direct_preference,
    group_relative,
    ppo,
    pretraining,
    reward_model,
    supervised,
)

MODELS = ("base", "sft", "reward", "value", "policy")
STAGE_MODULES = {"pretraining": pretraining, "SFT": supervised, "reward model": reward_model,
                 "DPO": direct_preference, "PPO": ppo}
ALGORITHMS = {"ppo": "PPO", "grpo": "GRPO", "rloo": "RLOO"}
ROLLOUT_NUMBERS = {"score", "kl", "objective", "beta", "length", "entropy", "policy_loss",
                   "policy_grad_norm", "clip_fraction"}
TRAINING_NUMBERS = {"loss", "grad_norm", "lr"}
NUMBERS = {
    "pretraining": TRAINING_NUMBERS, "SFT": TRAINING_NUMBERS, "reward model": TRAINING_NUMBERS,
    "DPO": TRAINING_NUMBERS,
    "PPO": ROLLOUT_NUMBERS | {"explained_variance", "value_loss", "value_grad_norm"},
    "GRPO": ROLLOUT_NUMBERS | {"group_spread"}, "RLOO": ROLLOUT_NUMBERS | {"group_spread"}}
LOOK_NUMBERS = {"score", "kl", "objective", "length", "unfinished", "repetition", "refusal",
                "courtesy", "gold"}
SOMETIMES = {"gold_fall", "gold_fall_error",         # from the second look on
             "harm_refused", "over_refusal"}         # where such prompts are among those asked


@pytest.fixture(scope="module")
def run(backend, tmp_path_factory):
    return whole(tmp_path_factory.mktemp("runs") / "first", replace(TINY, backend=backend.name))


# --- the folder ----------------------------------------------------------------------------------

def test_the_folder_holds_what_was_promised_and_nothing_else(run):
    assert set(contents(run.folder)) == promised(*MODELS)


def promised(*models) -> set[str]:
    """The files of a run of one round."""
    files = {f"{name}/{file}" for name in (*models, "policy-best") for file in MODEL_FILES}
    return files | {"config.json", "environment.json", "memory.json", "metrics.jsonl",
                    "checkpoint/state.safetensors", "prompts.jsonl", "demonstrations.jsonl",
                    "preferences.jsonl", "samples.jsonl", "report.html", "reward/accuracy.json",
                    "policy-best/best.json"}


@pytest.fixture(scope="module", params=["grpo", "rloo"])
def group_run(request, backend, tmp_path_factory):
    """A run without a value model."""
    return whole(tmp_path_factory.mktemp("group") / "first",
                 replace(TINY, backend=backend.name, algorithm=request.param))


def test_a_run_that_compares_groups_has_no_value_model(group_run):
    assert set(contents(group_run.folder)) == promised("base", "sft", "reward", "policy")
    with pytest.raises(FileNotFoundError, match="no value/ model yet"):
        group_run.load("value")


def test_the_baseline_dpo_adds_a_model_and_changes_no_other(run, tmp_path):
    with_dpo = whole(tmp_path / "first", replace(run.config, baselines=("dpo",)))
    ours, theirs = contents(with_dpo.folder), contents(run.folder)
    assert set(ours) - set(theirs) == {f"dpo/{file}" for file in MODEL_FILES}
    assert {name for name in theirs if ours[name] != theirs[name]} == {
        "config.json", "metrics.jsonl", "samples.jsonl", "report.html",
        "checkpoint/state.safetensors"}
    assert [row for row in read_jsonl(with_dpo.folder / "metrics.jsonl")
            if row["stage"] != "DPO"] == read_jsonl(run.folder / "metrics.jsonl")
    assert [row for row in read_jsonl(with_dpo.folder / "samples.jsonl")
            if row["model"] != "dpo"] == read_jsonl(run.folder / "samples.jsonl")


def test_the_algorithm_changes_nothing_before_the_policy(run, group_run):
    """So that algorithms are compared on one reward model and on the same comparisons."""
    ours, theirs = contents(group_run.folder), contents(run.folder)
    same = {name for name in ours if ours[name] == theirs[name]}
    assert {f"{name}/model.safetensors" for name in ("base", "sft", "reward")} <= same
    assert {"preferences.jsonl", "demonstrations.jsonl", "reward/accuracy.json"} <= same
    assert "policy/model.safetensors" not in same


def test_the_best_policy_is_the_one_of_the_look_that_it_names(run):
    """best.json says the step; the looks are logged, and none of them was better by gold."""
    best = read_json(run.folder / "policy-best" / "best.json")
    looks = {row["step"]: row["gold"] for row in read_jsonl(run.folder / "metrics.jsonl")
             if row["stage"] == watched("PPO")}
    assert best == {"step": best["step"], "by": "gold", "value": looks[best["step"]]}
    assert best["value"] == max(looks.values())
    same = {name: (run.load("policy-best").flat == run.load(name).flat).all()
            for name in ("sft", "policy")}
    assert same == {"sft": best["step"] == 0, "policy": best["step"] == TINY.ppo.steps}


def test_the_settings_can_be_read_back(run):
    assert from_dict(RunConfig, read_json(run.folder / "config.json")) == run.config


@pytest.mark.parametrize("name", MODELS)
def test_each_model_folder_opens_by_itself(run, name):
    params, config = transformer.load(run.folder / name)
    assert config == run.model and params.flat.dtype == "float32"
    assert ("score" in params) == (name in ("reward", "value"))
    assert np.isfinite(params.flat).all()
    assert_same(run.load(name).flat, params.flat)


def test_each_stage_starts_from_the_model_before_it(run):
    base, sft, reward, value, policy = (run.load(name).flat for name in MODELS)
    trunk = len(base) - TINY.model.channels       # but the last bias: normalising has shifted it
    for one, other in ((base, sft), (sft, policy), (sft[:trunk], reward[:trunk]), (reward, value)):
        assert 0 < abs(one - other).max() < 0.1


def test_every_step_of_every_stage_is_logged_with_finite_numbers(run):
    rows = read_jsonl(run.folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == logged(run.config)
    check_numbers(rows)


def logged(config: RunConfig) -> list[tuple[str, int]]:
    """(stage, step) of every row of the log of a run of one round."""
    found = [(stage, step) for stage, steps in (
        ("pretraining", config.pretraining.steps), ("SFT", config.sft.steps),
        ("reward model", config.reward.steps)) for step in range(steps)]
    if "dpo" in config.baselines:
        found += [("DPO", step) for step in range(config.dpo.steps)]
    name = ALGORITHMS[config.algorithm]
    found.append((watched(name), 0))
    for step in range(config.ppo.steps):
        found.append((name, step))
        if (step + 1) % config.watch.every == 0 or step + 1 == config.ppo.steps:
            found.append((watched(name), step + 1))
    return found


def check_numbers(rows: list[dict]) -> None:
    for row in rows:
        numbers = {key: x for key, x in row.items() if key not in ("stage", "step")}
        assert all(type(x) is float and isfinite(x) for x in numbers.values())
        stage = row["stage"].split(", round")[0].removesuffix(", validation")
        look = row["stage"].endswith(", validation")
        wanted = LOOK_NUMBERS if look else NUMBERS[stage]
        assert set(numbers) - (SOMETIMES if look else set()) == wanted


def test_every_algorithm_and_baseline_logs_its_steps_and_its_looks(group_run, tmp_path):
    rows = read_jsonl(group_run.folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == logged(group_run.config)
    check_numbers(rows)
    config = replace(group_run.config, algorithm="ppo", baselines=("dpo",),
                     ppo=replace(TINY.ppo, steps=3), watch=replace(TINY.watch, every=2))
    rows = read_jsonl(whole(tmp_path / "first", config).folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == logged(config)
    assert ("PPO, validation", 3) in logged(config) and ("PPO, validation", 1) not in logged(config)
    check_numbers(rows)


def test_the_looks_change_nothing_that_is_learnt(run, tmp_path):
    """However often the policy is looked at, at however many prompts."""
    seldom = whole(tmp_path / "first", replace(run.config, watch=replace(
        TINY.watch, every=9, prompts=3, samples=2)))
    for name in MODELS:
        assert (seldom.load(name).flat == run.load(name).flat).all()
    asked = [row for row in read_jsonl(run.folder / "metrics.jsonl") if "valid" not in row["stage"]]
    assert asked == [row for row in read_jsonl(seldom.folder / "metrics.jsonl")
                     if "valid" not in row["stage"]]


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
    record(preferences, "generate")
    record(evaluation, "sample")
    record(rollout, "sample")
    run = copied(run, tmp_path, replace(run.config, ppo=replace(TINY.ppo, temperature=0.5),
                                        baselines=("best-of-n",)))
    for stage, step in pipeline.STAGES.items():
        if stage not in ("pretrain", "sft"):
            step.run(run)
    assert used == {stage: {0.5} for stage in ("preferences", "reward-model", "ppo", "evaluate")}


def record_prompts(monkeypatch, run) -> dict[str, set[str]]:
    """The splits of the prompts that the run's models are given, by what is under way.

    Whoever samples or scores, the prompt is a row's beginning up to the mark of the reply.
    """
    split = {tuple(run.tokenizer.prompt(row["prompt"])): row["split"]
             for row in run.source.prompts()}
    split |= {tuple(run.tokenizer.encode(row["prompt"])): row["split"]      # the base model's way
              for row in run.source.prompts()}
    bot, seen = run.tokenizer.prompt("")[-1], {}

    def record(module, name, place):
        real = getattr(module, name)

        def recorded(*args, **more):
            for row in args[place]:
                row = tuple(row[:list(row).index(bot) + 1]) if bot in row else tuple(row)
                seen.setdefault(now[0], set()).add(split[row])
            return real(*args, **more)
        monkeypatch.setattr(module, name, recorded)

    now = [""]
    record(evaluation, "sample", 2)
    record(rollout, "sample", 2)
    for module in (evaluation, pipeline, reward_model):
        record(module, "score_replies", 2)
    look = watching.Watcher.look

    def looking(self, step):
        before, now[0] = now[0], "look"
        try:
            return look(self, step)
        finally:
            now[0] = before

    monkeypatch.setattr(watching.Watcher, "look", looking)
    seen["now"] = now
    return seen


WANTED = {"preferences": {"train", "test"},              # the held-out ones are for its accuracy
          "reward-model": {"train", "test"}, "ppo": {"train"}, "look": {"validation"},
          "evaluate": {"test"}}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_stage_asks_the_prompts_of_its_own_split_only(algorithm, run, tmp_path, monkeypatch):
    """Training draws training prompts, a look asks validation prompts, the evaluation at the end
    asks test prompts, and nothing else ever does but the accuracy on held-out comparisons."""
    config = replace(run.config, algorithm=algorithm, baselines=("best-of-n", "dpo"),
                     evaluation=replace(TINY.evaluation, samples=2))
    run = copied(run, tmp_path, config)
    seen = record_prompts(monkeypatch, run)
    now = seen.pop("now")
    for now[0] in ("preferences", "reward-model", "dpo", "ppo", "evaluate"):
        pipeline.STAGES[now[0]].run(run)
    assert seen == WANTED
    trained = {row["prompt"] for row in read_jsonl(run.folder / "preferences.jsonl")
               if row["split"] == "train"}
    split = {row["prompt"]: row["split"] for row in run.source.prompts()}
    assert {split[prompt] for prompt in trained} == {"train"}


def test_a_look_at_other_prompts_would_be_noticed(run, tmp_path, monkeypatch):
    """The recorder of the test above is not blind: a look at test prompts shows in it."""
    run = copied(run, tmp_path)
    seen = record_prompts(monkeypatch, run)
    seen.pop("now")[0] = "ppo"
    monkeypatch.setattr(pipeline, "validation_prompts", lambda prompts, config: [
        row for row in prompts if row["split"] == "test"][:2])
    pipeline.fine_tune_with_rl(run)
    assert seen == {"ppo": {"train"}, "look": {"test"}}


def test_dpo_learns_from_the_comparisons_that_the_reward_model_learns_from(run, tmp_path,
                                                                           monkeypatch):
    """Each, and none of a test prompt.  It starts from the SFT model and is held to it."""
    seen = {}

    def record(name, module):
        def recorded(*args, **more):
            seen[name] = args
            yield from ()
        monkeypatch.setattr(module, "train", recorded)

    record("reward", reward_model)
    record("dpo", direct_preference)
    run = copied(run, tmp_path)
    pipeline.train_reward_model(run)
    pipeline.fine_tune_with_dpo(run)
    assert seen["dpo"][3] == seen["reward"][2] and len(seen["dpo"][3]) > 0
    policy, reference = seen["dpo"][:2]
    assert (policy.flat == reference.flat).all() and (policy.flat == run.load("sft").flat).all()
    assert not array_module(policy.flat).shares_memory(policy.flat, reference.flat)


# --- the same bits -------------------------------------------------------------------------------

def test_the_same_seed_gives_the_same_bits_in_every_file(run, tmp_path):
    again = contents(whole(tmp_path / "first", run.config).folder)
    first = contents(run.folder)
    assert set(again) == set(first)
    assert [name for name in first if first[name] != again[name]] == []


def test_the_strict_double_of_cupy_gives_the_bits_of_numpy(run, whole_run):
    """CuPy itself adds in an order of its own."""
    if run.config.backend == "cupy":
        pytest.skip("CuPy adds in an order of its own")
    ours, theirs = contents(run.folder), contents(whole_run.folder)
    assert {name for name in theirs if ours[name] != theirs[name]} <= {
        "config.json", "environment.json", "report.html"}         # which name what computed


def test_another_seed_gives_another_run(run, tmp_path):
    other = contents(whole(tmp_path / "first", replace(run.config, seed=1)).folder)
    first = contents(run.folder)
    for name in (*(f"{model}/model.safetensors" for model in MODELS), "demonstrations.jsonl",
                 "preferences.jsonl", "samples.jsonl", "metrics.jsonl"):
        assert first[name] != other[name], name
    for name in ("prompts.jsonl", "base/tokenizer.json", "base/config.json"):
        assert first[name] == other[name], name            # no seed chooses the test prompts


def test_stages_run_from_a_fresh_start_each_give_the_bits_of_the_whole_run(run, tmp_path):
    """Nothing passes from stage to stage but what lies in the folder."""
    folder = tmp_path / "first"
    create(folder, run.config)
    for step in pipeline.steps(run.config):
        step.run(Run(folder, from_dict(RunConfig, read_json(folder / "config.json"))))
    first, again = contents(run.folder), contents(folder)
    assert [name for name in again if again[name] != first[name]] == []


def test_the_reward_model_collects_preferences_where_there_are_none(run, tmp_path):
    folder = tmp_path / "first"
    create(folder, run.config)
    for name in ("pretrain", "sft", "reward-model"):
        pipeline.STAGES[name].run(Run(folder, run.config))
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
    whole(tmp_path / "seven", replace(TINY, seed=7, baselines=("dpo",)))
    assert seeds == dict.fromkeys(STAGE_MODULES, 7)
    monkeypatch.setattr(group_relative, "train",
                        lambda *_, seed, algorithm, **more: seeds.update({algorithm: seed}) or [])
    for algorithm in ("grpo", "rloo"):
        pipeline.fine_tune_with_rl(Run(tmp_path / "seven",
                                       replace(TINY, seed=8, algorithm=algorithm)))
    assert (seeds["grpo"], seeds["rloo"]) == (8, 8)


@pytest.mark.parametrize("start", ["sft", "base"])
def test_rl_starts_from_the_sft_and_the_reward_model_and_keeps_a_copy_of_each(start, run, tmp_path,
                                                                              monkeypatch):
    """Four models that share no memory: a reference that moved with the policy hides the KL."""
    seen = []

    def record(models, *args, **more):
        seen.append(models)
        names = (start, "reward", "reward", start)
        for params, name in zip(models, names, strict=True):
            assert (params.flat == run.load(name).flat).all()
        yield from ()

    monkeypatch.setattr(ppo, "train", record)
    monkeypatch.setattr(Run, "save", lambda *_, **more: None)
    pipeline.fine_tune_with_rl(copied(run, tmp_path, replace(
        run.config, ppo=replace(run.config.ppo, start=start))))
    (models,) = seen
    for i, one in enumerate(models):
        for other in models[i + 1:]:
            assert not array_module(one.flat).shares_memory(one.flat, other.flat)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_without_a_value_model_three_are_in_memory(algorithm, run, tmp_path, monkeypatch):
    seen = []

    def record(models, *args, algorithm, **more):
        seen.append((models, algorithm))
        yield from ()

    monkeypatch.setattr(group_relative, "train", record)
    monkeypatch.setattr(Run, "save", lambda *_, **more: None)
    pipeline.fine_tune_with_rl(copied(run, tmp_path, replace(run.config, algorithm=algorithm)))
    ((models, given),) = seen
    assert given == algorithm and models.value is None
    for one, name in ((models.policy, "sft"), (models.reference, "sft"), (models.reward, "reward")):
        assert (one.flat == run.load(name).flat).all()
    assert not array_module(models.policy.flat).shares_memory(models.policy.flat,
                                                              models.reference.flat)


# --- the reward's scale --------------------------------------------------------------------------

def test_the_saved_reward_model_scores_what_it_was_normalised_on_as_0_and_1(run, tmp_path,
                                                                            monkeypatch):
    """Mean 0 and deviation 1 over replies to training prompts, baked into the saved weights."""
    seen = []

    def record(params, model, rows):
        seen.append(rows)
        return score_replies(params, model, rows)

    folder = tmp_path / "first"
    create(folder, run.config)
    for name in ("pretrain", "sft", "preferences"):
        pipeline.STAGES[name].run(Run(folder, run.config))
    monkeypatch.setattr(pipeline, "score_replies", record)
    pipeline.train_reward_model(Run(folder, run.config))
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
    again = create(tmp_path / "first", run.config)
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
    assert len(read_jsonl(again.folder / "metrics.jsonl")) == TINY.pretraining.steps + 3
    pipeline.fine_tune(again)
    wanted = (run.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert (again.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True) == wanted[
        :TINY.pretraining.steps + TINY.sft.steps]
    assert (again.load("sft").flat == run.load("sft").flat).all()


def test_an_existing_folder_is_refused_and_left_alone(run):
    before = contents(run.folder)
    with pytest.raises(FileExistsError, match="first exists already; choose another --name"):
        create(run.folder, replace(run.config, seed=5))
    assert contents(run.folder) == before


@pytest.mark.parametrize("name, stage", [("base", "pretrain"), ("sft", "sft"),
                                         ("reward", "reward-model"), ("policy", "ppo"),
                                         ("value", "ppo"), ("policy-best", "ppo"),
                                         ("dpo", "dpo")])
def test_a_missing_model_names_the_stage_that_makes_it(tmp_path, name, stage):
    run = create(tmp_path / "new", TINY)
    with pytest.raises(FileNotFoundError, match=rf"no {name}/ model yet; .*\({stage}\)"):
        run.load(name)


@pytest.mark.parametrize("stage", ["sft", "preferences", "reward-model", "dpo", "ppo", "evaluate"])
def test_a_stage_too_early_says_what_it_lacks(tmp_path, stage):
    run = create(tmp_path / "new", TINY)
    with pytest.raises(FileNotFoundError, match="run the stage that makes it first"):
        pipeline.STAGES[stage].run(run)


def test_a_model_of_another_size_is_refused(run):
    other = Run(run.folder, replace(run.config, model=replace(TINY.model, heads=1)))
    with pytest.raises(ValueError, match="heads=2.* want .*heads=1"):
        other.load("base")


def test_a_reward_model_of_another_width_and_depth_scores_for_a_policy(run, tmp_path):
    """It and the value model have its size, the policy has the run's; nothing else may differ."""
    small = whole(tmp_path / "small", replace(
        run.config, model=replace(TINY.model, channels=4, layers=2)))
    other = copied(run, tmp_path)
    shutil.copytree(small.folder / "reward", other.folder / "reward", dirs_exist_ok=True)
    for name in ("value", "policy-best", "policy"):
        shutil.rmtree(other.folder / name)
    pipeline.fine_tune_with_rl(other)
    sizes = {name: (params["wte"]["weight"].shape[1], len(params["h"]))
             for name in ("reward", "value", "policy") for params in [other.load(name)]}
    assert sizes == {"reward": (4, 2), "value": (4, 2), "policy": (8, 1)}
    shutil.copytree(small.folder / "sft", other.folder / "sft", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="channels=4.* want .*channels=8"):
        other.load("sft")


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
def human_run(backend, tmp_path_factory):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    folder = tmp_path_factory.mktemp("text")
    path = folder / "people.jsonl"
    rows = [{"prompt": f"what is {a} plus {b} ?", "chosen": f"it is {a + b} .",
             "rejected": f"i think <{a}> !"} for a in range(5) for b in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = text_settings(path)
    return whole(folder / "runs" / "people", replace(
        settings, backend=backend.name, text=replace(settings.text, vocab_size=280, max_tokens=40),
        model=ModelSize(context=64, channels=8, heads=2, layers=1), pretraining=TINY.pretraining,
        sft=TINY.sft, reward=TINY.reward, ppo=TINY.ppo, watch=TINY.watch))


def test_a_run_on_peoples_comparisons_has_all_of_it(run, human_run):
    assert set(contents(human_run.folder)) == set(contents(run.folder))
    assert from_dict(RunConfig, read_json(human_run.folder / "config.json")) == human_run.config
    rows = read_jsonl(human_run.folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == logged(human_run.config)


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

"""Laws of several rounds: the first is a run of one, further ones go on as their settings say."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import FLAGS, call
from runs import MODEL_FILES, TINY, contents, copied, whole

from minirlhf import judgement, pipeline
from minirlhf.arrays import array_module
from minirlhf.files import read_json, read_jsonl
from minirlhf.run import OF_A_ROUND, Run
from minirlhf.settings import RunConfig, from_dict
from minirlhf.stages import direct_preference, group_relative, ppo, reward_model

TWO = replace(TINY, rounds=2)


@pytest.fixture(scope="module")
def one(backend, tmp_path_factory):
    return whole(tmp_path_factory.mktemp("one") / "first", replace(TINY, backend=backend.name))


@pytest.fixture(scope="module")
def two(backend, tmp_path_factory):
    """A whole run of two rounds."""
    return whole(tmp_path_factory.mktemp("rounds") / "first", replace(TWO, backend=backend.name))


def of_a_round(*, value=True) -> set[str]:
    names = [name for name in OF_A_ROUND if value or name != "value"]
    return {f"{name}/{file}" for name in names for file in MODEL_FILES} | {
        "reward/accuracy.json", "policy-best/best.json", "preferences.jsonl"}


# --- folders -------------------------------------------------------------------------------------

def test_each_round_has_a_folder_of_what_it_made_and_the_run_has_the_last_ones(one, two):
    found, single = contents(two.folder), set(contents(one.folder))
    rounds = {f"rounds/{number}/{name}" for number in ("01", "02") for name in of_a_round()}
    assert set(found) == single | rounds
    assert not [name for name in single if name.startswith("rounds")]


def test_a_round_without_a_value_model_has_none(tmp_path):
    run = whole(tmp_path / "first", replace(TWO, algorithm="grpo", rounds=3))
    assert {name for name in contents(run.folder) if name.startswith("rounds/")} == {
        f"rounds/{number}/{name}" for number in ("01", "02", "03")
        for name in of_a_round(value=False)}
    assert not (run.folder / "value").exists()


def law_published(run) -> None:
    """The run's own models and reports are the last round's, to the bit; its comparisons all."""
    found, last = contents(run.folder), f"rounds/{run.config.rounds:02}"
    wanted = {name: found[f"{last}/{name}"] for name in of_a_round()}
    wanted["preferences.jsonl"] = b"".join(
        found[f"rounds/{number:02}/preferences.jsonl"]
        for number in range(1, run.config.rounds + 1))
    different = [name for name, data in wanted.items() if found[name] != data]
    assert different == []                 # comparing bytes here would take pytest a minute to tell


def test_what_is_published_are_the_last_rounds_models_and_all_comparisons(two):
    law_published(two)
    first, last = (two.in_round(number) for number in (1, 2))
    for name in OF_A_ROUND:
        assert not (first.load(name).flat == last.load(name).flat).all(), name


@pytest.mark.parametrize("wrong", ["the first round's policy", "the last comparisons only",
                                   "the first round's reward model"])
def test_what_is_not_the_last_rounds_would_be_noticed(wrong, two, tmp_path):
    run = copied(two, tmp_path)
    if wrong == "the last comparisons only":
        shutil.copy(run.in_round(2).place / "preferences.jsonl", run.folder)
    else:
        name = wrong.split()[-1].replace("model", "reward")
        shutil.rmtree(run.folder / name)
        shutil.copytree(run.in_round(1).place / name, run.folder / name)
    with pytest.raises(AssertionError):
        law_published(run)


# --- the same bits -------------------------------------------------------------------------------

def test_the_first_round_of_several_has_the_very_bits_of_a_run_of_one(one, two):
    alone, rounds = contents(one.folder), contents(two.folder)
    for name in of_a_round():
        assert rounds[f"rounds/01/{name}"] == alone[name], name
    log, first = (read_jsonl(run.folder / "metrics.jsonl") for run in (two, one))
    assert log[:len(first)] == first
    assert all(", round 2" in row["stage"] for row in log[len(first):]) and len(log) > len(first)


def test_a_second_round_logs_what_the_first_logs_under_names_of_its_own(one, two):
    log = read_jsonl(two.folder / "metrics.jsonl")
    second = [(row["stage"].replace(", round 2", ""), row["step"]) for row in log
              if ", round 2" in row["stage"]]
    assert second == [(row["stage"], row["step"]) for row in read_jsonl(
        one.folder / "metrics.jsonl") if row["stage"] not in ("pretraining", "SFT")]
    names = list(dict.fromkeys(row["stage"] for row in log))
    assert names == ["pretraining", "SFT", "reward model", "PPO, validation", "PPO",
                     "reward model, round 2", "PPO, round 2, validation", "PPO, round 2"]


def test_the_same_seed_gives_the_same_bits_in_every_round(two, tmp_path):
    assert contents(whole(tmp_path / "first", two.config).folder) == contents(two.folder)


@pytest.mark.parametrize("flags", [[], ["--algorithm", "grpo"], ["--baselines", "dpo"],
                                   ["--baselines", "dpo", "best-of-n", "--algorithm", "rloo"]],
                         ids=" ".join)
def test_further_rounds_of_a_finished_run_end_in_the_bits_of_a_run_of_as_many(flags, tmp_path,
                                                                              monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", "--name", "one", *FLAGS, *flags) == 0
    before = contents(Path("runs/one"))
    assert call("rounds", "one", "--name", "more", "--rounds", "2") == 0
    assert contents(Path("runs/one")) == before
    assert call("run", "--name", "more", "--out", "whole", *FLAGS, *flags, "--rounds", "2") == 0
    more, wanted = contents(Path("runs/more")), contents(Path("whole/more"))
    assert set(more) == set(wanted)
    different = {name for name in wanted if more[name] != wanted[name]}
    assert different <= {"environment.json", "report.html"}                 # they tell the command


def test_rounds_can_be_added_to_rounds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", "--name", "two", *FLAGS, "--rounds", "2") == 0
    assert call("rounds", "two", "--name", "three", "--rounds", "3") == 0
    assert call("run", "--name", "three", "--out", "whole", *FLAGS, "--rounds", "3") == 0
    more, wanted = contents(Path("runs/three")), contents(Path("whole/three"))
    assert set(more) == set(wanted)
    assert {name for name in wanted if more[name] != wanted[name]} <= {"environment.json",
                                                                       "report.html"}


def test_one_more_round_may_have_other_settings_of_its_own(tmp_path, monkeypatch):
    """Those of iteration, which the first round did not read."""
    monkeypatch.chdir(tmp_path)
    flags = ["--iteration.comparisons", "fresh", "--iteration.opponents", "sft"]
    assert call("run", "--name", "one", *FLAGS) == 0
    assert call("rounds", "one", "--name", "more", "--rounds", "2", *flags) == 0
    assert call("run", "--name", "more", "--out", "whole", *FLAGS, "--rounds", "2", *flags) == 0
    assert (Path("runs/more/policy/model.safetensors").read_bytes()
            == Path("whole/more/policy/model.safetensors").read_bytes())


# --- what a round starts from and learns from ----------------------------------------------------

class Seen:
    """What the second round's trainings were given: weights as they were, groups of comparisons."""

    def __init__(self, two, folder, monkeypatch, algorithm="ppo", **iteration):
        self.run = copied(two, folder, replace(
            two.config, algorithm=algorithm, iteration=replace(TINY.iteration, **iteration)))
        second = self.run.in_round(2)
        for name in OF_A_ROUND[1:]:
            shutil.rmtree(second.model_folder(name))
        shutil.rmtree(second.model_folder("reward"))

        def reward(params, model, groups, *args, round, **more):
            self.reward, self.groups = params.flat.copy(), list(groups)
            self.rounds = [round]
            yield from ()

        def rl(models, *args, round, **more):
            self.models = {name: params and params.flat.copy()
                           for name, params in models._asdict().items()}
            xp = array_module(models.policy.flat)
            self.shared = xp.shares_memory(models.policy.flat, models.reference.flat)
            self.rounds.append(round)
            yield from ()

        with monkeypatch.context() as patch:
            patch.setattr(reward_model, "train", reward)
            patch.setattr(ppo if algorithm == "ppo" else group_relative, "train", rl)
            pipeline.train_reward_model(second)
            pipeline.fine_tune_with_rl(second)
        assert self.rounds == [1, 1]

    def starts_from(self) -> dict[str, str]:
        """Of which model the trained ones are copies."""
        first = self.run.in_round(1)
        known = {"sft": self.run.load("sft"), "last": first.load("policy")}
        found = {role: next(name for name, params in known.items()
                            if (params.flat == self.models[role]).all())
                 for role in ("policy", "reference")}
        trunk = len(known["sft"].flat)
        rewards = {"sft": known["sft"].flat, "last": first.load("reward").flat[:trunk]}
        return found | {"reward": next(name for name, flat in rewards.items()
                                       if (flat == self.reward[:trunk]).all())}


STARTS = {"policy": ("policy_from", "last"), "reference": ("reference", "sft"),
          "reward": ("reward_from", "sft")}                                   # and the defaults


def test_by_default_the_policy_goes_on_and_the_reward_model_and_the_reference_are_the_sft_model(
        two, tmp_path, monkeypatch):
    seen = Seen(two, tmp_path, monkeypatch)
    assert seen.starts_from() == {role: default for role, (_, default) in STARTS.items()}


@pytest.mark.parametrize("role", STARTS)
@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_setting_changes_what_one_model_starts_from_and_no_other(role, algorithm, two, tmp_path,
                                                                   monkeypatch):
    setting, default = STARTS[role]
    other = {"last": "sft", "sft": "last"}[default]
    seen = Seen(two, tmp_path, monkeypatch, algorithm, **{setting: other})
    assert seen.starts_from() == {
        one: other if one == role else default for one, (_, default) in STARTS.items()}
    assert not seen.shared


def test_the_reward_and_value_models_of_a_round_are_its_own(two, tmp_path, monkeypatch):
    """Trained on its comparisons: not those of the round before, however the rest is set."""
    seen = Seen(two, tmp_path, monkeypatch)
    own = seen.run.in_round(2).load("reward").flat
    assert (seen.models["reward"] == own).all() and (seen.models["value"] == own).all()
    assert not (own == seen.run.in_round(1).load("reward").flat).all()


@pytest.mark.parametrize("comparisons", ["all", "fresh"])
def test_the_reward_model_learns_from_every_prompt_of_its_rounds_once(comparisons, two, tmp_path,
                                                                      monkeypatch):
    """Each prompt that was drawn is a group of its own: the third prompt of the first round and the
    third of the second are two, and each weighs as one."""
    seen = Seen(two, tmp_path, monkeypatch, comparisons=comparisons)
    rounds = (1, 2) if comparisons == "all" else (2,)
    rows = [(number, row) for number in rounds
            for row in read_jsonl(two.in_round(number).place / "preferences.jsonl")
            if row["split"] == "train"]
    drawn = {(number, row["group"]): row["prompt"] for number, row in rows}
    assert len(seen.groups) == len(drawn)
    assert sum(len(group.pairs) for group in seen.groups) == len(rows)
    tokens = [tuple(seen.run.tokenizer.prompt(prompt)) for prompt in drawn.values()]
    for group, prompt in zip(seen.groups, tokens, strict=True):
        assert {tuple(row[:group.prompt_length]) for row in group.rows} == {prompt}


def test_a_rounds_accuracy_is_measured_on_its_own_pairs_and_stands_beside_the_last_rounds(two):
    first, second = (read_json(two.in_round(number).model_folder("reward") / "accuracy.json")
                     for number in (1, 2))
    assert all("before" not in row for row in first.values())
    assert all("before" in row for row in second.values())
    pairs = [row for row in read_jsonl(two.in_round(2).place / "preferences.jsonl")
             if row["split"] == "test"]
    assert second["all"]["pairs"] == len(pairs) and {row["round"] for row in pairs} == {2}
    again = judgement.held_out_accuracy(two.in_round(2), two.in_round(1).load("reward"))
    assert second["all"]["before"] == again["all"]["accuracy"]


def test_dpo_beside_rounds_learns_from_what_the_last_reward_model_learnt_from(two, tmp_path,
                                                                              monkeypatch):
    seen = []
    monkeypatch.setattr(direct_preference, "train",
                        lambda policy, reference, model, groups, *_, **more: seen.append(
                            list(groups)) or iter(()))
    for comparisons in ("all", "fresh"):
        run = copied(two, tmp_path / comparisons, replace(
            two.config, baselines=("dpo",),
            iteration=replace(TINY.iteration, comparisons=comparisons)))
        pipeline.fine_tune_with_dpo(run)
        assert seen.pop() == pipeline.training_groups(run.in_round(2))


def test_every_round_is_watched_with_the_same_random_numbers_on_the_same_prompts(two):
    """At its first look the second round's policy is the first's at its last look, so they say the
    same but for what another reward model thinks of it."""
    log = read_jsonl(two.folder / "metrics.jsonl")
    last = [row for row in log if row["stage"] == "PPO, validation"][-1]
    first = [row for row in log if row["stage"] == "PPO, round 2, validation"][0]
    same = ("gold", "length", "refusal", "courtesy", "repetition", "unfinished", "kl")
    assert {key: last[key] for key in same} == {key: first[key] for key in same}
    assert first["score"] != last["score"]


# --- the end -------------------------------------------------------------------------------------

def test_at_the_end_every_rounds_policy_is_asked(two):
    rows = read_jsonl(two.folder / "samples.jsonl")
    assert list(dict.fromkeys(row["model"] for row in rows)) == [
        "base", "sft", "round-1", "policy-best", "policy"]


def test_a_run_of_rounds_is_evaluated_again_in_a_new_folder_with_all_its_rounds(tmp_path,
                                                                                monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", "--name", "two", *FLAGS, "--rounds", "2") == 0
    assert call("evaluate", "two", "--name", "again") == 0
    old, new = contents(Path("runs/two")), contents(Path("runs/again"))
    assert set(old) == set(new)
    assert {name for name in old if old[name] != new[name]} <= {
        "environment.json", "report.html", "checkpoint/state.safetensors"}
    assert from_dict(RunConfig, read_json("runs/again/config.json")).rounds == 2


def test_the_steps_of_a_run_of_rounds_are_in_order_and_each_makes_what_it_says(tmp_path):
    """Before a step runs, its last result is not there; after it, all of them are."""
    config = replace(TWO, baselines=("dpo",))
    from minirlhf.run_folder import create
    run = create(tmp_path / "first", config)
    for step in pipeline.steps(config):
        assert not step.done(run.folder)
        step.run(Run(run.folder, config))
        assert step.done(run.folder)
        assert [product for product in step.makes if not (run.folder / product).exists()] == []

"""Laws of the settings: they survive a trip through JSON, and refuse what cannot be."""

import json
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

from minirlhf.files import read_json, write_json
from minirlhf.people import Comparisons
from minirlhf.presets import PPO_ONLY, check_unread, quick, text_settings
from minirlhf.settings import (
    EvaluationConfig,
    IterationConfig,
    ModelSize,
    PreferenceConfig,
    RunConfig,
    from_dict,
)
from minirlhf.sources import ToyWorld
from minirlhf.stages.direct_preference import DPOConfig
from minirlhf.stages.group_relative import GroupConfig
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.watching import WatchConfig

UNUSUAL = RunConfig(
    seed=7, backend="numpy", world=ToyWorld(corpus_words=1100, panel=("cautious",)),
    model=ModelSize(context=64, channels=12, heads=3, layers=5), sft=SFTConfig(lr=1e-5),
    ppo=PPOConfig(target_kl=2.5, beta=0.7), algorithm="rloo", rounds=3,
    baselines=("dpo", "best-of-n"), group=GroupConfig(size=8, normalize=False, kl="loss"),
    iteration=IterationConfig(opponents=("last", "sft"), comparisons="fresh"))
ALL = {"defaults": RunConfig(), "unusual": UNUSUAL, "text": text_settings(Path("a/b.jsonl.gz")),
       "quick": quick(RunConfig()),
       "all of one's own": text_settings(Path("a"), demonstrations_path=Path("b"),
                                         corpus_path=Path("/c/d.gz"), prompts_path=Path("e"))}


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_settings_come_back_from_a_file(config, tmp_path):
    """A path is a Path again, a tuple a tuple, None None, and the nested ones have their class."""
    write_json(tmp_path / "config.json", asdict(config))
    again = from_dict(RunConfig, read_json(tmp_path / "config.json"))
    assert again == config
    assert type(again.world.panel) is tuple and type(again.ppo) is PPOConfig
    if config.text is None:
        assert again.text is None
    else:
        assert isinstance(again.text, Comparisons) and isinstance(again.text.path, Path)
        for name in ("demonstrations_path", "corpus_path", "prompts_path"):
            assert isinstance(getattr(again.text, name), Path | None)


def test_a_setting_left_out_has_its_default():
    assert from_dict(RunConfig, {"seed": 3, "ppo": {"beta": 0.5}}) == RunConfig(
        seed=3, ppo=PPOConfig(beta=0.5))


@pytest.mark.parametrize("saved, message", [
    ({"sead": 1}, "RunConfig has no setting sead"),
    ({"ppo": {"kl": 1, "betta": 2}}, "PPOConfig has no setting betta, kl"),
    ({"text": {"path": "x", "size": 1}}, "Comparisons has no setting size"),
    ([], "must be an object"), ("text", "must be an object")])
def test_an_unknown_setting_is_named_with_its_class(saved, message):
    with pytest.raises(ValueError, match=message):
        from_dict(RunConfig, saved)


@pytest.mark.parametrize("saved, message", [
    ({"seed": "0"}, "RunConfig.seed must be int, got '0'"),
    ({"seed": 0.5}, "RunConfig.seed must be int, got 0.5"),
    ({"seed": None}, "RunConfig.seed must be int, got None"),
    ({"seed": [1]}, "RunConfig.seed must be int"),
    ({"seed": {}}, "RunConfig.seed must be int"),
    ({"backend": ["numpy"]}, "RunConfig.backend must be str"),
    ({"ppo": 3}, "RunConfig.ppo must be PPOConfig, got 3"),
    ({"ppo": None}, "RunConfig.ppo must be PPOConfig, got None"),
    ({"ppo": []}, "RunConfig.ppo must be PPOConfig"),
    ({"ppo": {"beta": "0.2"}}, "PPOConfig.beta must be float, got '0.2'"),
    ({"ppo": {"beta": [0.2]}}, "PPOConfig.beta must be float"),
    ({"ppo": {"steps": 2.0}}, "PPOConfig.steps must be int, got 2.0"),
    ({"ppo": {"target_kl": "3"}}, "PPOConfig.target_kl must be float or NoneType, got '3'"),
    ({"world": {"panel": "default"}}, "ToyWorld.panel must be"),
    ({"world": {"panel": [1]}}, "ToyWorld.panel must be"),
    ({"world": {"habits": 1}}, "ToyWorld.habits must be Habits, got 1"),
    ({"algorithm": 3}, "RunConfig.algorithm must be str, got 3"),
    ({"algorithm": ["ppo"]}, "RunConfig.algorithm must be str"),
    ({"algorithm": None}, "RunConfig.algorithm must be str, got None"),
    ({"baselines": "dpo"}, "RunConfig.baselines must be a list of str, got 'dpo'"),
    ({"baselines": [3]}, "RunConfig.baselines must be a list of str"),
    ({"iteration": {"opponents": "sft"}}, "IterationConfig.opponents must be a list of str"),
    ({"iteration": {"comparisons": 1}}, "IterationConfig.comparisons must be str, got 1"),
    ({"group": {"size": "4"}}, "GroupConfig.size must be int, got '4'"),
    ({"watch": {"every": 0.5}}, "WatchConfig.every must be int, got 0.5"),
    ({"text": "people.jsonl"}, "RunConfig.text must be Comparisons or NoneType"),
    ({"text": {"path": 3}}, "Comparisons.path must be Path, got 3"),
    ({"text": {"path": None}}, "Comparisons.path must be Path, got None"),
    ({"text": {"path": "x", "corpus_path": 3}},
     "Comparisons.corpus_path must be Path or NoneType, got 3")], ids=str)
def test_a_setting_of_another_type_is_named_with_its_class_and_value(saved, message):
    with pytest.raises(ValueError, match=message):
        from_dict(RunConfig, saved)


def test_a_whole_number_is_a_real_number_too():
    assert from_dict(RunConfig, {"ppo": {"beta": 1, "target_kl": 3}}).ppo == PPOConfig(
        beta=1, target_kl=3)


def test_saved_settings_are_checked_as_given_ones_are():
    with pytest.raises(ValueError, match="PPOConfig.steps must be positive"):
        from_dict(RunConfig, {"ppo": {"steps": 0}})


@pytest.mark.parametrize("make, message", [
    (lambda: ModelSize(context=0), "ModelSize.context must be positive"),
    (lambda: ModelSize(channels=-8), "ModelSize.channels must be positive"),
    (lambda: ModelSize(heads=0), "ModelSize.heads must be positive"),
    (lambda: ModelSize(layers=0), "ModelSize.layers must be positive"),
    (lambda: ModelSize(channels=10, heads=4), r"channels \(10\).*heads \(4\)"),
    (lambda: PreferenceConfig(prompts=0), "at least 1 prompt"),
    (lambda: PreferenceConfig(replies=1), "2 replies"),
    (lambda: EvaluationConfig(samples=0), "at least 1 sample"),
    (lambda: RunConfig(seed=-1), "seed must not be negative, got -1"),
    (lambda: RunConfig(seed=2**32), r"seed must be below 2\*\*32, got 4294967296"),
    (lambda: EvaluationConfig(best_of=1), "evaluation.best_of must be at least 2, got 1"),
    (lambda: RunConfig(algorithm="trpo"), "algorithm must be one of ppo, grpo, rloo, got 'trpo'"),
    (lambda: RunConfig(baselines=("luck",)), "one of best-of-n, dpo, got 'luck'"),
    (lambda: RunConfig(baselines=("dpo", "dpo")), "baselines names one thing twice: dpo, dpo"),
    (lambda: RunConfig(rounds=0), "rounds must be from 1 to 99, got 0"),
    (lambda: RunConfig(rounds=100), "rounds must be from 1 to 99, got 100"),
    (lambda: replace(text_settings(Path("x")), rounds=2), "--rounds beside --preferences"),
    (lambda: RunConfig(algorithm="grpo", group=GroupConfig(size=3)),
     r"ppo.batch_size \(128\) must be a multiple of group.size \(3\)"),
    (lambda: GroupConfig(size=1), "group.size must be at least 2, got 1"),
    (lambda: GroupConfig(kl="both"), "group.kl must be reward or loss, got 'both'"),
    (lambda: IterationConfig(opponents=()), "iteration.opponents must name at least one"),
    (lambda: IterationConfig(opponents=("base",)), "iteration.opponents must be one of sft, last"),
    (lambda: IterationConfig(comparisons="some"), "iteration.comparisons must be one of all, fre"),
    (lambda: IterationConfig(reward_from="base"), "iteration.reward_from must be one of sft, last"),
    (lambda: IterationConfig(policy_from="base"), "iteration.policy_from must be one of last, sft"),
    (lambda: IterationConfig(reference="base"), "iteration.reference must be one of sft, last"),
    (lambda: IterationConfig(best_of=1), "iteration.best_of must be at least 2, got 1"),
    (lambda: WatchConfig(every=0), "watch.every must be at least 1, got 0"),
    (lambda: WatchConfig(prompts=-1), "watch.prompts must be at least 1, got -1"),
    (lambda: WatchConfig(samples=0), "watch.samples must be at least 1, got 0"),
    (lambda: DPOConfig(beta=0), "DPOConfig.beta must be positive, got 0"),
    (lambda: DPOConfig(warmup=-1), "warmup must not be negative, got -1"),
    (lambda: RunConfig(pretraining=PretrainingConfig(window=49)), "pretraining.window"),
    (lambda: RunConfig(ppo=PPOConfig(max_new=49)), "ppo.max_new"),
    (lambda: replace(text_settings(Path("x")), text=Comparisons(Path("x"), max_tokens=300)),
     r"text.max_tokens \+ ppo.max_new \(348 tokens\) must fit model.context \(320\)")])
def test_impossible_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_groups_need_be_whole_only_where_there_are_groups():
    assert RunConfig(ppo=PPOConfig(batch_size=6, minibatches=2)).group.size == 4


def changed(config, name: str):
    """The settings with another value of one of them."""
    section, key = name.split(".")
    was = getattr(getattr(config, section), key)
    others = {"kl": "loss", "normalize": False, "opponents": ("sft",), "comparisons": "fresh",
              "reward_from": "last", "policy_from": "sft", "reference": "last"}
    other = others.get(key, was / 2 if isinstance(was, float) else was)
    other = was + was if other == was else other
    return replace(config, **{section: replace(getattr(config, section), **{key: other})})


GROUP = [f"group.{field.name}" for field in fields(GroupConfig)]
ITERATION = [f"iteration.{field.name}" for field in fields(IterationConfig)]
VALUE = [f"ppo.{name}" for name in PPO_ONLY]


@pytest.mark.parametrize("name", [*GROUP, *ITERATION, *VALUE, "ppo.beta", "ppo.lr_policy"])
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_setting_that_nothing_reads_is_refused_and_any_other_is_not(name, algorithm, rounds):
    config = RunConfig(algorithm=algorithm, rounds=rounds)
    unread = (name in GROUP if algorithm == "ppo" else name in VALUE) or (
        name in ITERATION and rounds == 1) or (algorithm, name) == ("rloo", "group.normalize")
    given = changed(config, name)
    assert given != config
    check_unread(given, given)                               # what a run has already is no mistake
    if unread:
        flag = f"--{name.replace('_', '-')} would change nothing: "
        with pytest.raises(ValueError, match=flag):
            check_unread(given, config)
    else:
        check_unread(given, config)


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        RunConfig().seed = 1
    with pytest.raises(AttributeError):
        RunConfig().ppo.beta = 1.0


def numbers(config, prefix=""):
    """{dotted name: number} of all numeric settings."""
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= numbers(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float):
            found[prefix + field.name] = value
    return found


AMOUNTS = ["world.corpus_words", "world.demonstration_count", "pretraining.steps", "sft.steps",
           "preferences.prompts", "reward.steps", "ppo.steps", "ppo.batch_size",
           "dpo.steps", "watch.samples", "evaluation.samples"]


def test_a_quick_run_is_smaller_in_every_amount_of_work():
    before, after = numbers(RunConfig()), numbers(quick(RunConfig()))
    assert all(after[name] < before[name] for name in AMOUNTS)
    others = set(before) - {*AMOUNTS, "pretraining.warmup", "watch.every"}
    assert after["watch.every"] < after["ppo.steps"]             # it is looked at on the way too
    assert {name: after[name] for name in others} == {name: before[name] for name in others}


def test_a_quick_run_on_text_is_not_larger_anywhere():
    text = text_settings(Path("x"))
    before, after = numbers(text), numbers(quick(text))
    assert quick(text).text == text.text
    assert all(after[name] <= before[name] for name in before)
    assert sum(after[name] < before[name] for name in AMOUNTS) >= 5


def test_the_settings_of_text_leave_the_toy_world_alone():
    config = text_settings(Path("x.jsonl"))
    assert config.text == Comparisons(Path("x.jsonl")) and config.world == ToyWorld()
    assert config.model.context > RunConfig().model.context


def test_every_setting_is_plain_json():
    json.dumps(asdict(RunConfig()))

"""Laws of the pairs: the same at every start, from the right prompts, and never two equal replies.
"""

import json
import shutil
from dataclasses import replace

import pytest
from helpers import assert_same
from labelled import TINY, untrained_run

from minirlhf.labelling import pairs
from minirlhf.labelling.pairs import Pair, sample_pairs, two_models
from minirlhf.presets import text_settings
from minirlhf.rollout import Reply, generate
from minirlhf.run import Run
from minirlhf.stages.training import Stage, step_rng


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_every_start_shows_the_same_pairs(run):
    first, again = (sample_pairs(Run(run.folder, run.config), ("sft", "policy"), "test", 12)
                    for _ in range(2))
    assert first == again and len(first[0]) == 12


def test_another_seed_shows_others(run):
    other = Run(run.folder, replace(TINY, seed=1))
    one, two = (sample_pairs(r, ("sft", "policy"), "test", 12)[0] for r in (run, other))
    assert [pair.prompt for pair in one] != [pair.prompt for pair in two]


def test_more_pairs_begin_with_the_same_ones(run):
    """Also past the end of a batch."""
    most, _ = sample_pairs(run, ("sft", "policy"), "test", pairs.BATCH + 9)
    for n in (1, 7, pairs.BATCH, pairs.BATCH + 1):
        assert sample_pairs(run, ("sft", "policy"), "test", n)[0] == most[:n]
    assert len({pair.prompt for pair in most}) == len(most) == pairs.BATCH + 9


def test_it_does_not_matter_which_model_is_named_first(run):
    one, two = (sample_pairs(run, models, "test", 9)[0]
                for models in (("sft", "policy"), ("policy", "sft")))
    assert [(p.id, p.prompt) for p in one] == [(p.id, p.prompt) for p in two]
    assert [p.replies for p in one] == [p.replies for p in two]


@pytest.mark.parametrize("split, n", [("test", 143), ("train", 482), ("validation", 75)])
def test_prompts_are_those_of_the_split_each_once(run, split, n):
    found, equal = sample_pairs(run, ("sft", "policy"), split, 1000)
    asked = [row["prompt"] for row in run.source.prompts() if row["split"] == split]
    assert len(asked) == n == len(found) + equal
    assert {pair.prompt for pair in found} <= set(asked) and {p.split for p in found} == {split}
    if not equal:
        assert sorted(pair.prompt for pair in found) == sorted(asked)
        assert [pair.prompt for pair in found] != asked               # they are shuffled


def test_each_model_is_asked_as_in_the_evaluation_with_the_same_luck(run, monkeypatch):
    """The base in plain text, the others by the template, and one generator for each batch."""
    asked = []

    def record(params, model, tokenizer, prompts, *args, rng, **more):
        asked.append((prompts, rng.random(), more["temperature"]))
        rng = step_rng(run.config.seed, Stage.LABEL, 1)
        return generate(params, model, tokenizer, prompts, *args, rng=rng, **more)

    monkeypatch.setattr(pairs, "generate", record)
    found, _ = sample_pairs(run, ("base", "sft"), "test", 3)
    (plain, luck, temperature), (chat, same_luck, _) = asked
    assert luck == same_luck and temperature == run.config.ppo.temperature
    assert_same(luck, step_rng(run.config.seed, Stage.LABEL, 1).random())
    for pair, raw, template in zip(found, plain, chat, strict=False):
        assert raw == run.tokenizer.encode(pair.prompt)
        assert template == run.tokenizer.prompt(pair.prompt)


def test_every_batch_has_random_numbers_of_its_own(run, monkeypatch):
    lucks = []

    def record(*args, rng, **more):
        lucks.append(rng.random())
        return generate(*args, rng=rng, **more)

    monkeypatch.setattr(pairs, "generate", record)
    sample_pairs(run, ("sft", "policy"), "test", 1000)                # 143 prompts, three batches
    assert lucks[::2] == lucks[1::2] and len(set(lucks)) == len(lucks[::2]) == 3


def spoken(monkeypatch, reply):
    """Models that reply as told: reply(model, prompt) -> text."""
    monkeypatch.setattr(pairs, "answers", lambda run, model, params, prompts, batch: [
        Reply(reply(model, prompt), True) for prompt in prompts])


def test_equal_replies_are_left_out_and_counted(run, monkeypatch):
    every = [p.prompt for p in sample_pairs(run, ("sft", "policy"), "test", 1000)[0]]
    spoken(monkeypatch, lambda model, prompt: "same" if prompt in every[1::3] else model)
    found, equal = sample_pairs(run, ("sft", "policy"), "test", 4)
    assert [pair.prompt for pair in found] == [every[i] for i in (0, 2, 3, 5)]
    assert equal == 2                                    # of those before the last pair


def test_where_all_replies_are_equal_there_is_nothing_to_label(run, monkeypatch):
    spoken(monkeypatch, lambda model, prompt: "same")
    with pytest.raises(ValueError, match="no pair is left .*all 143 test prompts sft and policy"):
        sample_pairs(run, ("sft", "policy"), "test", 5)


@pytest.mark.parametrize("n", [0, -3])
def test_there_is_at_least_one_pair(run, n):
    with pytest.raises(ValueError, match=f"--pairs must be at least 1, got {n}"):
        sample_pairs(run, ("sft", "policy"), "test", n)


def test_a_model_that_is_not_yet_made_is_named_with_its_stage(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "policy")
    with pytest.raises(FileNotFoundError, match=r"no policy/ model yet.*\(ppo\)"):
        sample_pairs(Run(tmp_path / "half", TINY), ("sft", "policy"), "test", 5)


def test_peoples_own_held_out_prompts_are_asked(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps({
        "prompt": f"what is {i} ?", "chosen": f"{i} it is", "rejected": "no"}) + "\n"
        for i in range(40)))
    config = text_settings(path)
    config = replace(config, backend="numpy", text=replace(config.text, vocab_size=270),
                     model=TINY.model.__class__(context=320, channels=8, heads=2, layers=1),
                     ppo=replace(config.ppo, max_new=8))
    run = untrained_run(tmp_path / "people", config)
    found, equal = sample_pairs(run, ("sft", "policy"), "test", 50)
    held_out = {row["prompt"] for row in run.source.rows if row["split"] == "test"}
    assert len(found) + equal == len(held_out) == 3
    assert {pair.prompt for pair in found} <= held_out


# --- identity ------------------------------------------------------------------------------------

def pair(prompt="x", sft="a", policy="b", ended=True, split="test") -> Pair:
    return Pair(prompt, split, {"sft": Reply(sft, ended), "policy": Reply(policy, True)})


def test_a_pair_is_known_by_its_prompt_and_by_who_replied_what():
    same = Pair("x", "train", {"policy": Reply("b", True), "sft": Reply("a", True)})
    assert pair().id == same.id == pair().id
    others = [pair("y"), pair(sft="c"), pair(policy="c"), pair(sft="b", policy="a"),
              pair(ended=False), Pair("x", "test", {"base": Reply("a", True),
                                                    "policy": Reply("b", True)})]
    assert len({p.id for p in [pair(), *others]}) == 1 + len(others)
    assert len(pair().id) == 12


# --- naming two models ---------------------------------------------------------------------------

@pytest.mark.parametrize("names, models", [("sft,policy", ("sft", "policy")),
                                           ("policy, base", ("policy", "base"))])
def test_two_models_are_named_with_a_comma(names, models):
    assert two_models(names) == models


@pytest.mark.parametrize("names, told", [
    ("sft", "two different models, such as sft,policy; got sft"), ("sft,sft", "two different"),
    ("sft,base,policy", "two different"),
    ("sft,ppo", "no model 'ppo'.*base, sft, dpo, policy-best, policy"),
    ("", "no model ''"), ("reward,value", "no model 'reward'"),
    ("sft policy", "no model 'sft policy'")])
def test_other_names_are_refused_with_those_there_are(names, told):
    with pytest.raises(ValueError, match=told):
        two_models(names)

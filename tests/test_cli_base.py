"""Laws of `minirlhf run --base`: a model of one's own in both worlds, from the flags on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from foreign import EOS, byte_level, change_json, write_folder
from helpers import assert_same, call, files, mistake, one_line, pair, plain, write_rows
from test_cli import empty_folder  # noqa: F401

from minirlhf import options, transformer
from minirlhf.files import read_json, read_jsonl
from minirlhf.presets import quick, text_settings
from minirlhf.pretrained import open_base, open_tokenizer
from minirlhf.run import Run
from minirlhf.settings import ModelSize, RunConfig, from_dict
from minirlhf.text import load_tokenizer
from minirlhf.world.prompts import SPLITS, prompts

FLAGS = """--backend numpy --world.demonstration-count 30 --sft.steps 2 --sft.batch-size 8
    --preferences.prompts 6 --preferences.replies 2 --reward.steps 2 --ppo.steps 1
    --ppo.batch-size 8 --ppo.minibatches 2 --ppo.max-new 8 --evaluation.samples 1""".split()
MODELS = ("base", "sft", "reward", "value", "policy")


@pytest.fixture(scope="module")
def toy_words():
    """Byte pairs that write the toy world's prompts in few tokens."""
    return byte_level([p.text for split in SPLITS for p in prompts(split)], 500)


@pytest.fixture
def gpt2(toy_words):
    write_folder(Path("gpt2"), toy_words, context=80)
    return Path("gpt2")


@pytest.fixture
def people():
    return write_rows(Path("people.jsonl"), [
        pair(f"what is {i} ?", f"{i} it is , {EOS} sure", "no") for i in range(30)])


def stages(*argv):
    assert call("run", *argv, *FLAGS) == 0


# --- a run in both worlds ------------------------------------------------------------------------

@pytest.mark.parametrize("world", ["toy", "people"])
def test_a_run_starts_from_the_folder_and_ends_with_models_that_speak_its_tokens(
        world, gpt2, people, capsys):
    more = ["--preferences", str(people), "--text.max-tokens", "60"] if world == "people" else []
    stages("--base", "gpt2", "--name", "own", *more)
    told = capsys.readouterr().out
    assert "gpt2: 1 blocks of width 8" in told and "<pad> is appended" in told
    given, run = open_base(gpt2), Path("runs/own")
    for name in MODELS:
        params, model = transformer.load(run / name)
        assert model == given.model and model.pad_id == model.vocab_size - 1
        assert load_tokenizer(run / name).definition() == given.tokenizer.definition()
        assert np.isfinite(params.flat).all()
    assert_same(transformer.load(run / "base")[0].flat, given.params.flat)
    stages_logged = list(dict.fromkeys(row["stage"] for row in read_jsonl(run / "metrics.jsonl")))
    assert stages_logged == ["SFT", "reward model", "PPO, validation", "PPO"]
    assert (run / "report.html").exists() and len(read_jsonl(run / "samples.jsonl")) > 3
    config = from_dict(RunConfig, read_json(run / "config.json"))
    assert config.base == gpt2.absolute() and config.model == ModelSize(80, 8, 2, 1)


def test_the_same_seed_gives_the_same_bits(gpt2):
    stages("--base", "gpt2", "--name", "a")
    stages("--base=gpt2", "--name", "b")
    assert {name.replace("runs/a", ""): data for name, data in files("runs/a").items()
            if not name.endswith(("report.html", "environment.json"))} == {
        name.replace("runs/b", ""): data for name, data in files("runs/b").items()
        if not name.endswith(("report.html", "environment.json"))}


def test_the_base_of_another_run_skips_its_pretraining_and_no_more():
    """All that comes after is the same to the bit."""
    pretraining = """--world.corpus-words 3000 --pretraining.steps 3 --pretraining.batch-size 4
        --pretraining.window 24 --model.channels 8 --model.heads 2 --model.layers 1""".split()
    stages("--name", "first", *pretraining)
    stages("--name", "second", "--base", "runs/first/base")
    first, second = ({str(Path(name).relative_to(folder)): data
                      for name, data in files(folder).items()}
                     for folder in ("runs/first", "runs/second"))
    differ = {name for name in first if first[name] != second.get(name)}
    assert first.keys() == second.keys()
    assert differ == {"config.json", "environment.json", "metrics.jsonl", "report.html",
                      "checkpoint/state.safetensors"}         # which knows the log's length
    rows = [row for row in read_jsonl("runs/first/metrics.jsonl") if row["stage"] != "pretraining"]
    assert read_jsonl("runs/second/metrics.jsonl") == rows


def test_a_word_that_the_base_does_not_have_ends_the_run_before_it_begins(people, capsys):
    assert call("pretrain", "--name", "toy", *FLAGS, "--pretraining.steps", "1",
                "--world.corpus-words", "100", "--model.channels", "8") == 0
    message = one_line(capsys, "run", "--base", "runs/toy/base", "--preferences", str(people),
                       "--name", "p")
    assert "is not in the vocabulary of" in message


def test_stage_after_stage_needs_the_folder_no_more(gpt2, capsys):
    stages("--base", "gpt2", "--name", "whole", "--out", "other")
    assert call("pretrain", "--base", "gpt2", "--name", "own", *FLAGS) == 0
    assert "metrics.jsonl" in {path.name for path in Path("runs/own").iterdir()}
    assert call("sft", "own", "--name", "copy") == 0         # in a new folder it is read again
    shutil.rmtree(gpt2)
    for stage in ("sft", "preferences", "reward-model", "ppo", "evaluate"):
        assert call(stage, "own") == 0
    for name in (*(f"{model}/model.safetensors" for model in MODELS), "samples.jsonl"):
        assert (Path("runs/own") / name).read_bytes() == (
            Path("other/whole") / name).read_bytes(), name


def test_the_tokens_of_the_base_count_and_no_byte_pairs_are_learned(gpt2, people, monkeypatch):
    monkeypatch.setattr("minirlhf.people.train_byte_pairs", lambda *_: 1 / 0)
    config = options.default_settings(["--base", "gpt2", "--preferences", str(people)])
    longest = 45
    run = Run(Path("runs/own"), replace(config, text=replace(config.text, max_tokens=longest),
                                        ppo=replace(config.ppo, max_new=8)))
    assert run.source.tokenizer() is run.tokenizer
    tokenizer, _ = open_tokenizer(gpt2)

    def length(row):
        return len(tokenizer.prompt(row["prompt"])) + max(
            len(tokenizer.response(row[side])) for side in ("chosen", "rejected"))
    lengths = [length(row) for row in run.source.all_rows]
    assert min(lengths) <= longest < max(lengths)
    assert [run.source.fits("comparisons", row["prompt"], row["chosen"], row["rejected"])
            for row in run.source.all_rows] == [n <= longest for n in lengths]
    assert "vocabulary" not in vars(run.config.text)          # the settings are as they were


# --- flags and settings --------------------------------------------------------------------------

def test_the_sizes_are_those_of_the_folder_and_the_rows_fit_them(gpt2):
    config = options.default_settings(["--base", "gpt2"])
    assert config == RunConfig(base=gpt2.absolute(), model=ModelSize(80, 8, 2, 1))
    text = options.default_settings(["--base", "gpt2", "--preferences", "x.jsonl"])
    plain = text_settings(Path("x.jsonl").absolute())
    assert (text.text.max_tokens, text.ppo.max_new) == (40, 40)
    change_json(gpt2 / "config.json", n_positions=1024)
    text = options.default_settings(["--base=gpt2", "--preferences", "x.jsonl"])
    assert text.text == plain.text and text.ppo == plain.ppo and text.model.context == 1024


@pytest.mark.parametrize("context", [1, 2, 3, 10])
def test_defaults_exist_for_the_smallest_context(context, gpt2):
    change_json(gpt2 / "config.json", n_positions=context)
    assert options.default_settings(["--base", "gpt2"]).ppo.max_new <= context
    config = options.default_settings(["--base", "gpt2", "--preferences", "x.jsonl"])
    assert config.text.max_tokens + config.ppo.max_new <= context


def test_a_wider_base_is_trained_in_smaller_steps_and_a_narrower_one_as_before(gpt2):
    """As 1/width, from the width that the rates were chosen for: 64, or 96 for text."""
    assert options.default_settings(["--base", "gpt2"]).sft == RunConfig().sft
    change_json(gpt2 / "config.json", n_embd=768, n_head=12)
    for argv, wanted in ((["--quick"], (8e-5, 8e-5, 2e-5, 8e-5, 2e-5)),
                         (["--preferences", "x.jsonl"], (1e-4, 4e-5, 1e-5, 1e-4, 1e-5))):
        config = options.default_settings(["--base", "gpt2", *argv])
        assert (config.sft.lr, config.reward.lr, config.ppo.lr_policy,
                config.ppo.lr_value, config.dpo.lr) == wanted
    assert options.default_settings(["--base", "gpt2", "--quick"]).sft.steps == quick(
        RunConfig()).sft.steps


@pytest.mark.parametrize("flag, value", [
    ("--model.channels", "16"), ("--model.context", "48"), ("--model.layers", "2"),
    ("--pretraining.steps", "9"), ("--pretraining.lr", "0.1"), ("--world.corpus-words", "999"),
    ("--text.vocab-size", "500")])
def test_a_flag_that_would_change_nothing_is_refused(flag, value, gpt2, people, capsys):
    more = ["--preferences", str(people)] if flag.startswith("--text") else []
    assert f"{flag} beside --base" in one_line(capsys, "run", "--base", "gpt2", *more, flag, value)


def test_a_flag_that_repeats_what_holds_is_not_refused(gpt2):
    stages("--base", "gpt2", "--name", "a", "--model.channels", "8", "--model.context", "80")


def test_a_corpus_beside_a_base_is_refused(gpt2, people, capsys):
    Path("corpus.jsonl").write_text(json.dumps({"text": "x"}) + "\n")
    assert "--corpus beside --base" in mistake(
        capsys, "run", "--base", "gpt2", "--preferences", str(people), "--corpus", "corpus.jsonl")


def test_another_base_cannot_be_given_to_a_later_stage(gpt2, capsys):
    assert call("pretrain", "--base", "gpt2", "--name", "p", *FLAGS) == 0
    assert "base cannot change here: pretrain has already used it" in one_line(
        capsys, "sft", "p", "--base", "other")


def test_settings_that_say_other_sizes_than_the_folder_are_refused(gpt2, tmp_path):
    run = Run(tmp_path / "run", RunConfig(base=gpt2, backend="numpy"))
    with pytest.raises(ValueError, match="channels=8.*channels=64"):
        run.check()


# --- mistakes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, told", [
    (["--base", "openai-community/gpt2"], "nothing is downloaded; to save a model of the Hub"),
    (["--base="], "no config.json"), (["--base", "people.jsonl"], "wanted a folder"),
    (["--base", "gpt2", "--ppo.max-new", "90"], "ppo.max_new (90 tokens) must fit model.context"),
    (["--base", "gpt2", "--ppo.max-new", "75"], "the longest prompt"),
    (["--base", "gpt2", "--preferences", "people.jsonl", "--text.max-tokens", "79"],
     "text.max_tokens + ppo.max_new (119 tokens) must fit model.context (80)")])
def test_a_mistake_is_one_line_before_anything_is_written(argv, told, gpt2, people, capsys):
    assert told in plain(mistake(capsys, "run", *argv))


def test_damaged_weights_are_noticed_before_anything_is_written(gpt2, capsys):
    path = gpt2 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.safetensors: not a whole safetensors file" in one_line(
        capsys, "run", "--base", "gpt2")


def test_demonstrations_longer_than_the_context_are_noticed_before_anything_is_written(
        gpt2, capsys, monkeypatch):
    rows = [{"prompt": "what color is the sky ?", "response": "blue . " * 40}]
    monkeypatch.setattr("minirlhf.sources.demonstrations", lambda *_, **more: rows)
    message = one_line(capsys, "run", "--base", "gpt2", "--ppo.max-new", "8")
    assert "the longest demonstration (" in message and "must fit model.context (80)" in message


def test_the_flag_has_its_help(capsys):
    assert call("run", "--help") == 0
    assert "start from the GPT-2 in this folder" in plain(capsys.readouterr().out)


def test_a_stage_in_a_new_folder_needs_the_given_base_no_more(gpt2):
    """What it starts from lies in the run, vocabulary and all."""
    stages("--base", "gpt2", "--name", "a")
    shutil.move("gpt2", "elsewhere")
    assert call("ppo", "a", "--name", "b") == 0
    assert files("runs/a")["runs/a/policy/model.safetensors"] == files(
        "runs/b")["runs/b/policy/model.safetensors"]


def test_a_run_given_as_a_base_is_told_where_its_base_is(gpt2, capsys):
    assert call("pretrain", "--base", "gpt2", "--name", "a", *FLAGS) == 0
    assert "its base model is runs/a/base" in one_line(capsys, "run", "--base", "runs/a")

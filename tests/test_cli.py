"""Laws of the command line: one clear line for a mistake, and nothing half-written."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from helpers import FLAGS, call, files, mistake, one_line, plain

import minirlhf
from minirlhf import cli, pipeline
from minirlhf.files import read_json, read_jsonl, write_json, write_jsonl
from minirlhf.options import default_settings
from minirlhf.people import Comparisons
from minirlhf.presets import quick, text_settings
from minirlhf.settings import RunConfig, from_dict
from minirlhf.sources import ToyWorld


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own, where runs/ would appear."""
    monkeypatch.chdir(tmp_path)


# --- help ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_without_a_command_the_overview_is_shown(argv, capsys):
    assert cli.main(argv) == 0
    told = capsys.readouterr()
    assert told.out.startswith("usage: minirlhf COMMAND") and told.err == ""
    assert files() == {}


def test_the_overview_names_every_command_and_every_command_that_it_names_is_there():
    known = re.search(r"choose (.*) \(minirlhf", unknown("?"))[1].split(", ")
    assert {*pipeline.STAGES, "run", "rounds", "grpo", "rloo", "chat", "report"} <= set(known)
    assert set(re.findall(r"^  minirlhf (\S+) ", cli.OVERVIEW, re.MULTILINE)) == set(known)
    assert set(re.findall(r"minirlhf (\S+)", cli.OVERVIEW)) - {"COMMAND"} == set(known)
    assert all(callable(cli.command(name)) for name in known)


def unknown(name: str) -> str:
    with pytest.raises(ValueError) as told:
        cli.command(name)
    return str(told.value)


def test_every_flag_that_the_overview_shows_is_one(capsys):
    shown = re.findall(r"^  (minirlhf .*?)(?:   |$)", cli.OVERVIEW, re.MULTILINE)
    assert len(shown) > 15
    for line in [*shown, *re.findall(r"`(minirlhf .*?)`", cli.OVERVIEW)]:
        _, name, *argv = line.split()
        flags = [word for word in argv if word.startswith("--")]
        if flags and name != "COMMAND":
            capsys.readouterr()
            assert call(name, "--help") == 0
            told = capsys.readouterr().out
            assert all(re.search(rf"{re.escape(flag)}[ ,\n]", told) for flag in flags), line


def flags_of(config, prefix="") -> list[str]:
    """Every setting of a configuration as a flag."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            found += flags_of(value, f"{prefix}{name}.")
        elif name != "text" and not (prefix == "text." and name.endswith("path")):
            found.append(f"--{prefix}{name}")
    return found


@pytest.mark.parametrize("argv", [["run"], ["pretrain"], ["sft"], ["ppo"], ["grpo"], ["rloo"],
                                  ["dpo"], ["rounds"], ["evaluate"]])
def test_every_setting_is_a_flag_with_its_help(argv, capsys):
    assert call(*argv, "--help") == 0
    shown = capsys.readouterr().out
    missing = [flag for flag in flags_of(RunConfig())
               if not re.search(rf"{re.escape(flag)}[ ,\n]", shown)]
    assert not missing
    assert {"--ppo.beta", "--pretraining.warmup", "--world.panel", "--seed"} <= set(
        flags_of(RunConfig()))
    assert "strength of the KL penalty, in reward deviations a nat" in plain(shown)


def test_the_settings_of_text_are_flags_too(capsys):
    assert call("run", "--preferences", "some.jsonl", "--help") == 0
    shown = capsys.readouterr().out
    flags = flags_of(text_settings(Path("some.jsonl")))
    assert "--text.max-tokens" in flags
    assert not [flag for flag in flags if flag not in shown]


def test_the_help_shows_the_defaults_that_hold(capsys):
    assert call("run", "--quick", "--help") == 0
    assert f"(default: {quick(RunConfig()).pretraining.steps})" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"minirlhf {minirlhf.__version__}\n"


# --- mistakes ------------------------------------------------------------------------------------

def test_an_unknown_command_is_told_the_known_ones(capsys):
    message = one_line(capsys, "trian")
    assert "'trian'" in message and all(stage in message for stage in ("run", *pipeline.STAGES))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "../x", "a/"])
def test_a_name_that_is_not_a_folder_name_is_refused(name, capsys):
    assert repr(name) in one_line(capsys, "run", "--name", name, *FLAGS)


@pytest.mark.parametrize("flag, number, told", [
    ("--sft.steps", "0", "SFTConfig.steps must be positive, got 0"),
    ("--ppo.clip-ratio", "-0.2", "PPOConfig.clip_ratio must be positive, got -0.2"),
    ("--reward.lr", "nan", "RewardModelConfig.lr must be positive, got nan"),
    ("--ppo.beta", "-1", "beta must be 0 or more, got -1"),
    ("--ppo.beta", "nan", "beta must be 0 or more, got nan"),
    ("--model.heads", "3", "must be a multiple of model.heads (3)"),
    ("--preferences.replies", "1", "2 replies"),
    ("--world.panel", "nobody", "odd number of labelers"),
    ("--seed", "-1", "seed must not be negative"),
    ("--ppo.max-new", "400", "ppo.max_new (400 tokens) must fit model.context (48)"),
    ("--sft.steps", "many", "many"), ("--sft.stepz", "3", "sft.stepz")])
def test_an_impossible_setting_is_refused_by_name_before_anything_is_written(flag, number, told,
                                                                              capsys):
    assert told in plain(mistake(capsys, "run", flag, number))


def test_an_unknown_backend_is_told_the_known_ones(capsys):
    assert "'torch'; choose auto, numpy or cupy" in one_line(capsys, "run", "--backend", "torch")


def test_a_run_that_could_not_end_is_refused_at_its_start(capsys):
    message = one_line(capsys, "run", "--ppo.max-new", "40")
    assert "longest prompt" in message and "model.context (48)" in message


@pytest.mark.parametrize("spelling", [["--preferences", "none.jsonl"],
                                      ["--preferences=none.jsonl"]])
def test_a_missing_preferences_file_is_named(spelling, capsys):
    assert "none.jsonl" in one_line(capsys, "run", *spelling)


def test_a_bad_line_of_a_preferences_file_is_named(capsys):
    good = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
    Path("people.jsonl").write_text(good + good + "{oops\n")
    assert "people.jsonl:3: not JSON" in one_line(capsys, "run", "--preferences", "people.jsonl")


OTHERS = [("demonstrations", {"prompt": "x", "response": "y"}), ("corpus", {"text": "x"}),
          ("prompts", {"prompt": "x"})]


def peoples_file(name="people.jsonl", n=30) -> str:
    Path(name).write_text("".join(json.dumps({
        "prompt": f"what is {i} ?", "chosen": f"{i} it is", "rejected": "no"}) + "\n"
        for i in range(n)))
    return name


@pytest.mark.parametrize("flag, row", OTHERS)
def test_data_of_ones_own_go_beside_comparisons_only(flag, row, capsys):
    Path("own.jsonl").write_text(json.dumps(row) + "\n")
    message = one_line(capsys, "run", f"--{flag}", "own.jsonl")
    assert f"--{flag}: only beside --preferences FILE" in message


@pytest.mark.parametrize("flag, row", OTHERS)
@pytest.mark.parametrize("wrong", ["{oops", "[]", "{}", "null"])
def test_a_bad_line_of_any_file_is_named(flag, row, wrong, capsys):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    Path("own.jsonl").write_text(f"{json.dumps(row)}\n\n{wrong}\n")
    assert "own.jsonl:3: " in one_line(capsys, "run", "--preferences", peoples_file(), f"--{flag}",
                                       "own.jsonl", "--text.vocab-size", "270")


@pytest.mark.parametrize("flag, row", OTHERS)
def test_a_file_of_nothing_that_can_teach_ends_before_anything_is_written(flag, row, capsys):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    Path("own.jsonl").write_text(json.dumps(dict.fromkeys(row, " ")) + "\n")
    message = one_line(capsys, "run", "--preferences", peoples_file(), f"--{flag}", "own.jsonl",
                       "--text.vocab-size", "270")
    assert f"own.jsonl: no usable row is left for the {flag}; left out: 1 (no " in message


def test_a_file_that_is_not_whole_or_not_utf8_is_named(capsys):
    good = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
    Path("people.jsonl.gz").write_bytes(gzip.compress(good * 9)[:-9])
    assert "people.jsonl.gz: not a whole gzip file" in one_line(
        capsys, "run", "--preferences", "people.jsonl.gz")
    Path("people.jsonl").write_bytes(good + good.replace(b"a", b"\xff"))
    assert "people.jsonl:2: not UTF-8" in one_line(capsys, "run", "--preferences", "people.jsonl")


def test_a_missing_run_is_named_and_those_that_are_there(capsys, finished):
    assert "there is no run runs/od; there are: old" in one_line(capsys, "ppo", "od")
    assert "there is no run runs/od; there are: old" in one_line(capsys, "chat", "od")


def test_a_pipe_that_is_closed_early_is_no_mistake():
    ran = subprocess.run(f"{sys.executable} -m minirlhf.cli run --help | head -1", shell=True,
                         capture_output=True, text=True)
    assert ran.stderr == ""


def test_a_missing_run_is_named(capsys):
    assert "there is no run runs/nothing" in one_line(capsys, "ppo", "nothing")
    assert "there is no run other/nothing" in one_line(capsys, "ppo", "nothing", "--out", "other")


def test_a_stage_wants_its_run_first(capsys):
    """Options before the name would be measured against other settings than the run's."""
    Path("runs/toy").mkdir(parents=True)
    Path("runs/toy/config.json").write_text("{}")
    assert "minirlhf sft RUN [options]" in one_line(capsys, "sft", "--sft.steps", "3", "toy")
    assert "name of the run" in plain(mistake(capsys, "sft"))


@pytest.mark.parametrize("text, told", [("{oops", "not JSON"), ("[]", "must be an object"),
                                        ('{"sead": 1}', "no setting sead"),
                                        ('{"seed": "0"}', "RunConfig.seed must be int"),
                                        ('{"seed": [0]}', "RunConfig.seed must be int"),
                                        ('{"seed": {}}', "RunConfig.seed must be int"),
                                        ('{"ppo": {"beta": null}}', "PPOConfig.beta must be"),
                                        ('{"ppo": 7}', "RunConfig.ppo must be PPOConfig")])
def test_a_damaged_config_is_named(text, told, capsys):
    Path("runs/toy").mkdir(parents=True)
    Path("runs/toy/config.json").write_text(text)
    assert told in one_line(capsys, "sft", "toy")


def test_an_interruption_is_one_line_too(monkeypatch, capsys):
    """And tells how to go on, where there is something to go on with."""
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minirlhf.run.Run.follow", interrupted)
    assert call("run", "--name", "a b", *FLAGS) == 130
    again = f"go on with: minirlhf run --name 'a b' {' '.join(FLAGS)} --resume\n"
    assert capsys.readouterr().err.endswith(f"\nminirlhf: interrupted; {again}")
    assert call("run", "--name", "a b", *FLAGS, "--resume") == 130
    assert capsys.readouterr().err.endswith(f"\nminirlhf: interrupted; {again}")
    monkeypatch.setattr(cli, "command", lambda name: interrupted)
    assert call("report", "a b") == 130
    assert capsys.readouterr().err == "\nminirlhf: interrupted\n"


def test_a_number_that_is_not_finite_ends_a_command_with_one_line(monkeypatch, capsys):
    def breaks(*args, **kwargs):
        yield {"loss": float("nan")}

    monkeypatch.setattr("minirlhf.stages.pretraining.train", breaks)
    assert call("pretrain", *FLAGS) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("minirlhf: pretraining, step 0: loss is not finite")


# --- a run, and stage after stage ----------------------------------------------------------------

def test_a_whole_run_prints_its_table_and_where_everything_is(capsys):
    assert call("run", "--name", "one", *FLAGS) == 0
    out = capsys.readouterr().out
    for text in ("gold score", "held-out accuracy", "\n> ", "runs/one/report.html"):
        assert text in out, text
    assert Path("runs/one/report.html").exists()
    config = from_dict(RunConfig, read_json("runs/one/config.json"))
    assert (config.ppo.max_new, config.model.channels, config.seed) == (8, 8, 0)
    assert "runs/one exists already" in one_line(capsys, "run", "--name", "one", *FLAGS)


MADE = {"sft": "demonstrations.jsonl, sft", "preferences": "preferences.jsonl",
        "reward-model": "reward", "dpo": "dpo", "ppo": "value, policy-best, policy",
        "grpo": "policy-best, policy", "rloo": "policy-best, policy",
        "evaluate": "samples.jsonl, report.html"}


@pytest.mark.parametrize("flags, left_out", [
    ([], ("dpo", "grpo", "rloo")), (["--algorithm", "grpo"], ("dpo", "ppo", "rloo")),
    (["--algorithm", "rloo", "--baselines", "dpo", "best-of-n"], ("ppo", "grpo"))])
def test_stage_after_stage_makes_the_same_folder_as_a_whole_run(flags, left_out, capsys):
    assert call("run", "--name", "a", "--out", "whole", *FLAGS, *flags) == 0
    assert call("pretrain", "--name", "a", *FLAGS, *flags) == 0
    for stage in [stage for stage in MADE if stage not in left_out]:
        assert call(stage, "a") == 0
        assert f"written to runs/a: {MADE[stage]}\n" in capsys.readouterr().out
    by_stage, whole = files("runs/a"), files("whole/a")
    calls = {"a/environment.json", "a/report.html"}                    # these tell the command
    assert {name: data for name, data in by_stage.items() if name.removeprefix("runs/") not in calls
            } == {name.replace("whole/", "runs/"): data for name, data in whole.items()
                  if name.removeprefix("whole/") not in calls}


@pytest.fixture
def finished(made_once):
    """runs/old, a run that has all its stages."""
    shutil.copytree(made_once, "runs/old")


@pytest.mark.parametrize("stage", ["sft", "preferences", "reward-model", "ppo", "evaluate"])
def test_what_a_stage_made_is_never_replaced(stage, finished, capsys):
    message = one_line(capsys, stage, "old", "--evaluation.samples", "2")
    assert f"already has {pipeline.STAGES[stage].makes[-1]}; give --name NEW" in message


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_another_algorithm_never_replaces_a_policy_but_goes_to_a_new_folder(algorithm, finished,
                                                                            capsys):
    assert "already has policy; give --name NEW" in one_line(capsys, algorithm, "old")
    before = files("runs/old")
    assert call(algorithm, "old", "--name", "new") == 0 and files("runs/old") == before
    assert read_json("runs/new/config.json")["algorithm"] == algorithm
    assert not Path("runs/new/value").exists()
    assert call("evaluate", "new") == 0


def test_dpo_beside_a_finished_run_changes_nothing_of_it(finished):
    before = files("runs/old")
    assert call("dpo", "old") == 0
    after = files("runs/old")
    assert {name for name in after if before.get(name) != after[name]
            and not name.startswith("runs/old/dpo/")} == {
        "runs/old/metrics.jsonl", "runs/old/checkpoint/state.safetensors"}
    assert after["runs/old/metrics.jsonl"].startswith(before["runs/old/metrics.jsonl"])
    assert call("run", "--name", "old", "--out", "whole", *FLAGS, "--baselines", "dpo") == 0
    assert (Path("runs/old/dpo/model.safetensors").read_bytes()
            == Path("whole/old/dpo/model.safetensors").read_bytes())


def test_dpo_beside_a_finished_run_may_not_change_what_made_its_policy(finished, capsys):
    """Its config.json would say of the policy that is there what is not so."""
    assert "ppo cannot change here: ppo has already used it" in one_line(
        capsys, "dpo", "old", "--ppo.beta", "0.7")
    assert call("dpo", "old", "--name", "new", "--ppo.beta", "0.7") == 0       # which has no policy
    assert call("dpo", "old", "--dpo.beta", "0.5") == 0
    assert read_json("runs/old/config.json")["dpo"]["beta"] == 0.5
    assert "dpo cannot change here: dpo has already used it" in one_line(
        capsys, "evaluate", "old", "--dpo.beta", "0.7")


def test_a_stage_again_in_a_new_folder_starts_with_a_copy_of_what_it_needs(finished):
    before = files("runs/old")
    assert call("ppo", "old", "--name", "new", "--ppo.beta", "0.7") == 0
    assert files("runs/old") == before
    new = {name.removeprefix("runs/new/"): data for name, data in files("runs/new").items()}
    old = {name.removeprefix("runs/old/"): data for name, data in before.items()}
    assert set(new) == set(old) - {"samples.jsonl", "report.html"}
    differ = {name for name in new if new[name] != old[name]}
    assert {"config.json", "metrics.jsonl"} <= differ
    assert differ <= {"config.json", "metrics.jsonl", "policy/model.safetensors",
                      "value/model.safetensors", "policy-best/model.safetensors",
                      "policy-best/best.json", "environment.json",
                      "checkpoint/state.safetensors"}
    assert read_json("runs/new/config.json")["ppo"]["beta"] == 0.7
    assert read_json("runs/old/config.json")["ppo"]["beta"] == RunConfig().ppo.beta
    rows = [(row["stage"], row.get("beta")) for row in read_jsonl("runs/new/metrics.jsonl")]
    assert rows == [("pretraining", None)] * 3 + [("SFT", None)] * 2 + [
        ("reward model", None)] * 2 + [("PPO, validation", None), ("PPO", 0.7),
                                       ("PPO, validation", None)]
    assert call("evaluate", "new") == 0
    assert Path("runs/new/report.html").exists()


def test_an_evaluation_again_in_a_new_folder_has_its_report(finished):
    assert call("evaluate", "old", "--name", "again") == 0
    old, again = Path("runs/old"), Path("runs/again")
    assert (again / "samples.jsonl").read_bytes() == (old / "samples.jsonl").read_bytes()
    assert (again / "metrics.jsonl").read_bytes() == (old / "metrics.jsonl").read_bytes()


def test_the_report_is_written_again_from_the_folder(finished, capsys):
    before = files("runs/old")
    Path("runs/old/report.html").unlink()
    assert call("report", "old") == 0
    assert capsys.readouterr().out == "written: runs/old/report.html\n"
    shutil.move("runs", "moved")
    assert call("report", "old", "--out", "moved") == 0
    assert {name.replace("moved", "runs"): data for name, data in files("moved").items()} == before


def test_a_report_of_a_run_that_is_not_there_or_not_ready_says_what_is_missing(finished, capsys):
    assert "there is no run runs/gone" in one_line(capsys, "report", "gone")
    assert not Path("runs/gone").exists()
    Path("runs/old/samples.jsonl").unlink()
    Path("runs/old/report.html").unlink()
    assert "minirlhf evaluate old" in one_line(capsys, "report", "old")
    assert not Path("runs/old/report.html").exists()


def test_a_stage_goes_on_with_the_settings_of_its_run_and_those_given(capsys):
    assert call("pretrain", "--name", "p", "--seed", "5", *FLAGS) == 0
    assert call("sft", "p", "--sft.steps", "1") == 0
    config = from_dict(RunConfig, read_json("runs/p/config.json"))
    assert (config.seed, config.sft.steps, config.sft.batch_size) == (5, 1, 8)
    assert config.model.channels == 8
    assert [r["stage"] for r in read_jsonl("runs/p/metrics.jsonl")] == ["pretraining"] * 3 + ["SFT"]


def test_a_stage_too_early_touches_nothing(capsys):
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    for more in ([], ["--name", "q"], ["--ppo.beta", "0.7"]):
        assert "no sft/ model yet; run the stage that makes it first (sft)" in one_line(
            capsys, "ppo", "p", *more)


def test_a_model_of_another_size_is_refused_before_anything_is_copied(capsys):
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    settings = read_json("runs/p/config.json")
    settings["model"]["channels"] = 16
    write_json(Path("runs/p/config.json"), settings)
    message = one_line(capsys, "sft", "p", "--name", "q")
    assert "channels=8" in message and "channels=16" in message


# the setting, as flag and value; its name in the message; the first stage that uses it
USED = [("--seed", "3", "seed", "pretrain"), ("--model.heads", "1", "model", "pretrain"),
        ("--pretraining.lr", "0.1", "pretraining", "pretrain"),
        ("--world.corpus-words", "2999", "world.corpus_words", "pretrain"),
        ("--sft.lr", "0.1", "sft", "sft"),
        ("--world.demonstration-count", "29", "world.demonstration_count", "sft"),
        ("--preferences.prompts", "7", "preferences", "preferences"),
        ("--world.panel", "careful", "world.panel", "preferences"),
        ("--ppo.temperature", "0.5", "ppo.temperature", "preferences"),
        ("--ppo.max-new", "7", "ppo.max_new", "preferences"),
        ("--reward.lr", "0.1", "reward", "reward-model"), ("--ppo.beta", "0.7", "ppo", "ppo"),
        ("--watch.every", "3", "watch", "ppo")]


@pytest.mark.parametrize("flag, number, setting, user", USED, ids=[row[0] for row in USED])
def test_a_setting_that_an_earlier_stage_has_used_cannot_change(flag, number, setting, user,
                                                                finished, capsys):
    """Neither in place nor in a new folder: its config.json would say of a copied model what is
    not so.  Until the stage that uses it, and in that stage, the setting may change."""
    stages = list(pipeline.STAGES)
    for stage in stages[stages.index(user) + 1:]:
        for more in ([], ["--name", "new"]):
            assert f"{setting} cannot change here: {user} has already used it" in one_line(
                capsys, stage, "old", flag, number, *more)
    for stage in stages[1:stages.index(user) + 1]:
        if stage != "dpo":                                                     # which has not run
            assert "already has" in one_line(capsys, stage, "old", flag, number)
    if user != "pretrain":
        assert call(user, "old", "--name", "new", flag, number) == 0
        before, after = (read_json(f"runs/{name}/config.json") for name in ("old", "new"))
        assert before != after


def test_every_setting_of_a_run_is_used_by_some_stage():
    """So that none can change unnoticed after its use; backend and shards change no result but by
    rounding, and rounds, and what they start from, can change as long as there is one."""
    used = {setting for stage in pipeline.STAGES.values() for setting in stage.settings}
    assert {field.name for field in fields(RunConfig)} == {
        setting.split(".")[0] for setting in used} | {"backend", "shards", "rounds", "iteration"}
    assert {f"world.{field.name}" for field in fields(ToyWorld)} <= used


def test_a_baseline_that_is_not_made_cannot_be_asked(finished, capsys):
    """Else the table would lack it without a word, and config.json would say that it is there."""
    message = one_line(capsys, "evaluate", "old", "--name", "new", "--baselines", "dpo")
    assert "has no dpo/ model yet" in message and "(dpo)" in message


def test_dpo_beside_an_evaluated_run_tells_how_to_see_it(finished, capsys):
    assert call("dpo", "old") == 0
    assert "minirlhf evaluate old --name NEW" in capsys.readouterr().out


def test_what_further_rounds_cannot_change_is_told_with_what_to_do(finished, capsys):
    again = ("rounds", "old", "--name", "new", "--rounds", "2")
    for flag, setting in (("--ppo.beta", "ppo"), ("--reward.lr", "reward")):
        message = one_line(capsys, *again, flag, "0.7")
        assert f"{setting} cannot change here" in message
        assert "begin anew with minirlhf run --rounds N" in message


def test_further_rounds_train_dpo_anew_and_so_it_may_change(finished):
    assert call("dpo", "old") == 0
    assert call("rounds", "old", "--name", "new", "--rounds", "2", "--baselines", "dpo",
                "--dpo.beta", "0.5") == 0
    assert (Path("runs/new/dpo/model.safetensors").read_bytes()
            != Path("runs/old/dpo/model.safetensors").read_bytes())


@pytest.mark.parametrize("argv, told", [
    (["--group.size", "8"], "--group.size would change nothing: PPO compares no groups"),
    (["--algorithm", "grpo", "--ppo.lam", "0.9"], "--ppo.lam would change nothing: grpo has no"),
    (["--algorithm", "rloo", "--group.no-normalize"], "--group.normalize would change nothing"),
    (["--iteration.best-of", "3"], "--iteration.best-of would change nothing: there is one round")])
def test_a_setting_of_what_the_run_has_not_is_refused(argv, told, capsys):
    assert told in one_line(capsys, "run", *argv)


def test_a_change_that_is_refused_in_place_leaves_an_interrupted_run_as_it_was(capsys):
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    assert call("sft", "p") == 0
    message = one_line(capsys, "preferences", "p", "--sft.steps", "5")
    assert "sft cannot change here: sft has already used it; start there with --name" in message
    assert call("preferences", "p", "--preferences.prompts", "5") == 0
    assert read_json("runs/p/config.json")["preferences"]["prompts"] == 5


def test_settings_of_an_earlier_stage_that_has_not_run_may_still_change(capsys):
    """The reward model collects its own preferences where there are none."""
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    assert call("sft", "p") == 0
    assert call("reward-model", "p", "--preferences.prompts", "5") == 0
    assert read_json("runs/p/config.json")["preferences"]["prompts"] == 5
    groups = {row["group"] for row in read_jsonl("runs/p/preferences.jsonl")
              if row["split"] == "train"}
    assert groups <= set(range(5))


def test_a_model_whose_configuration_lacks_a_size_is_named(capsys):
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    settings = read_json("runs/p/base/config.json")
    del settings["n_head"]
    write_json(Path("runs/p/base/config.json"), settings)
    assert "base/config.json: n_head is missing" in one_line(capsys, "sft", "p")


def test_a_preference_that_lacks_a_field_is_named(finished, capsys):
    rows = read_jsonl("runs/old/preferences.jsonl")
    del rows[3]["chosen"]
    write_jsonl(Path("runs/old/preferences.jsonl"), rows)
    shutil.rmtree("runs/old/reward")
    assert "preferences.jsonl:4: a row lacks chosen" in one_line(capsys, "reward-model", "old")


def test_a_damaged_model_is_named(capsys):
    assert call("pretrain", "--name", "p", *FLAGS) == 0
    Path("runs/p/base/model.safetensors").write_bytes(b"junk")
    assert "base/model.safetensors" in one_line(capsys, "sft", "p", "--name", "q")


def test_peoples_comparisons_run_by_stages_too(capsys):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    peoples_file()
    flags = [*FLAGS, "--text.vocab-size", "270", "--text.max-tokens", "40"]
    assert call("pretrain", "--preferences", "people.jsonl", "--name", "p", *flags) == 0
    text = from_dict(RunConfig, read_json("runs/p/config.json")).text
    path = Path("people.jsonl").absolute()
    assert text == Comparisons(path, vocab_size=270, max_tokens=40)
    for stage in ("sft", "preferences", "reward-model"):
        assert call(stage, "p") == 0
    assert len(read_jsonl("runs/p/preferences.jsonl")) == 30
    told = capsys.readouterr().out
    assert "comparisons: 26 to train on, 2 for validation, 2 for the test" in told


def test_a_later_stage_finds_the_data_from_another_folder(monkeypatch):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    Path("own.jsonl").write_text('{"prompt": "x ?", "completion": "y"}\n' * 9)
    flags = [*FLAGS, "--text.vocab-size", "270", "--text.max-tokens", "40"]
    assert call("pretrain", "--preferences", peoples_file(), "--demonstrations=own.jsonl",
                "--name", "p", *flags) == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert call("sft", "p", "--out", "../runs") == 0
    assert read_jsonl("../runs/p/demonstrations.jsonl") == [{"prompt": "x ?", "response": "y"}] * 9


# --- settings before parsing ---------------------------------------------------------------------

def test_flags_are_measured_against_the_settings_that_quick_and_preferences_choose():
    path = Path("x.jsonl").absolute()
    assert default_settings(["--seed", "1"]) == RunConfig()
    assert default_settings(["--quick"]) == quick(RunConfig())
    assert default_settings(["--quick", "--no-quick"]) == RunConfig()
    assert default_settings(["--preferences", "x.jsonl"]) == text_settings(path)
    assert default_settings(["--preferences=x.jsonl", "--quick"]) == quick(text_settings(path))
    assert default_settings(["--prompts", "p", "--preferences", "x.jsonl", "--corpus=c",
                                 "--demonstrations=/d"]) == text_settings(
        path, prompts_path=Path("p").absolute(), corpus_path=Path("c").absolute(),
        demonstrations_path=Path("/d"))


# --- imports -------------------------------------------------------------------------------------

def test_the_command_line_imports_no_optional_library():
    code = ("import sys, minirlhf.cli; "
            "print(*sorted({name.split('.')[0] for name in sys.modules}))")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "minirlhf" in loaded and "numpy" in loaded
    assert not loaded & {"matplotlib", "torch", "tokenizers", "transformers", "cupy", "flask",
                         "werkzeug"}


def test_the_module_can_be_run():
    ran = subprocess.run([sys.executable, "-m", "minirlhf.cli", "nonsense"], capture_output=True,
                         text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("minirlhf: unknown command")
    assert ran.stderr.count("\n") == 1

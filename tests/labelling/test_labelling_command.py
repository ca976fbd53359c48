"""Laws of `minirlhf label`: one clear line for a mistake, and answers that a run trains on."""

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from labelled import rows_of, untrained_run

from minirlhf import cli
from minirlhf.files import read_json, read_jsonl, write_json, write_jsonl
from minirlhf.labelling import page
from minirlhf.labelling.answers import AnswerFile, fcntl
from minirlhf.labels import read_labels, summary

TINY_TRAINING = """--backend numpy --model.channels 8 --model.heads 2 --model.layers 1
    --pretraining.steps 2 --pretraining.batch-size 4 --pretraining.window 24 --sft.steps 2
    --sft.batch-size 8 --reward.steps 2 --ppo.steps 1 --ppo.batch-size 8 --ppo.minibatches 2
    --ppo.max-new 8 --text.vocab-size 300 --text.max-tokens 200""".split()


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("made") / "toy").folder


@pytest.fixture(autouse=True)
def folder(made_once, tmp_path, monkeypatch):
    """Every test works in a folder of its own, with a run that has its models."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made_once, "runs/toy")
    return Path("runs/toy")


def call(*argv) -> int:
    try:
        return cli.main(["label", *argv])
    except SystemExit as end:
        return end.code


def mistake(capsys, *argv) -> str:
    """The one line of a call that must fail; no file may be left behind."""
    before = sorted(Path().rglob("*"))
    assert call(*argv) == 2
    assert sorted(Path().rglob("*")) == before
    message = capsys.readouterr().err
    assert message.startswith("minirlhf: ") and message.count("\n") == 1
    return message


def typed(monkeypatch, text):
    """Lines at the keyboard, ended as Ctrl-D ends them."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


# --- mistakes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, told", [
    (["gone"], "there is no run runs/gone"), (["toy", "--out", "other"], "no run other/toy"),
    (["toy", "--models", "sft,ppo"], "no model 'ppo' to compare; choose two of base, sft, dpo"),
    (["toy", "--models", "sft,sft"], "wants two different models"),
    (["toy", "--models", "sft"], "wants two different models"),
    (["toy", "--pairs", "0"], "--pairs must be at least 1, got 0"),
    (["toy", "--labeler", " "], "a labeler's name has 1 to 60 printable characters"),
    (["toy", "--guidelines", "gone.md"], "gone.md"), (["gone", "--summary"], "no run runs/gone")])
@pytest.mark.parametrize("where", [[], ["--terminal"]])
def test_a_mistake_is_one_line_before_anything_is_written(capsys, argv, told, where):
    if not where:
        pytest.importorskip("flask", reason="the page wants the extra: label")
    assert told in mistake(capsys, *argv, *where)


@pytest.mark.parametrize("argv, told", [(["--port", "0"], "between 1 and 65535"),
                                        (["--port", "99999"], "between 1 and 65535")])
def test_a_wrong_port_is_one_line(capsys, argv, told):
    pytest.importorskip("flask", reason="the page wants the extra: label")
    assert told in mistake(capsys, "toy", *argv)


def test_a_port_in_use_is_one_line(capsys):
    pytest.importorskip("flask", reason="the page wants the extra: label")
    with page.listen(None) as first:
        port = str(first.getsockname()[1])
        assert f"port {port} cannot be used" in mistake(capsys, "toy", "--port", port)


def test_an_unknown_flag_or_split_is_told_the_known_ones(capsys):
    assert call("toy", "--split", "other") == 2
    assert re.search(r"train.*validation.*test", capsys.readouterr().err.replace("\n", " "))
    assert call() == 2 and call("toy", "--nonsense") == 2


def test_a_model_that_is_not_yet_made_is_named_with_its_stage(capsys, folder):
    shutil.rmtree(folder / "policy")
    assert "no policy/ model yet; run the stage that makes it first (ppo)" in mistake(
        capsys, "toy", "--terminal")


def test_a_damaged_config_is_named(capsys, folder):
    (folder / "config.json").write_text("{oops")
    assert "config.json: not JSON" in mistake(capsys, "toy", "--terminal")


def test_two_models_that_always_agree_are_nothing_to_label(capsys, folder):
    shutil.rmtree(folder / "policy")
    shutil.copytree(folder / "sft", folder / "policy")
    assert "no pair is left to compare: to all 143 test prompts" in mistake(
        capsys, "toy", "--terminal")


def test_a_labels_file_that_cannot_be_written_is_named(capsys, folder):
    (folder / "labels.jsonl").mkdir()
    assert "cannot write runs/toy/labels.jsonl: Is a directory" in mistake(
        capsys, "toy", "--terminal")


def test_a_damaged_labels_file_is_named_by_its_line(capsys, folder):
    (folder / "labels.jsonl").write_text("{oops\n{}\n")
    assert "runs/toy/labels.jsonl:1: not JSON" in mistake(capsys, "toy", "--terminal")
    assert "runs/toy/labels.jsonl:1: not JSON" in mistake(capsys, "toy", "--summary")


@pytest.mark.skipif(fcntl is None, reason="this system has no file locks")
def test_a_second_program_on_one_run_is_one_line(capsys, folder):
    file = AnswerFile(folder / "labels.jsonl")
    assert "runs/toy/labels.jsonl is in use" in mistake(capsys, "toy", "--terminal")
    file.close()


def test_without_flask_the_page_is_refused_and_the_terminal_is_not(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flask", None)
    assert "pip install 'minirlhf[label]'; or label with --terminal" in mistake(capsys, "toy")
    typed(monkeypatch, "ana\nl\nq\n")
    assert call("toy", "--terminal") == 0


# --- what it does --------------------------------------------------------------------------------

def test_help_names_every_flag(capsys):
    assert call("--help") == 0
    shown = capsys.readouterr().out
    for flag in ("--models", "--pairs", "--split", "--labeler", "--guidelines", "--terminal",
                 "--port", "--open", "--summary", "--out"):
        assert flag in shown
    assert cli.main([]) == 0 and "  minirlhf label RUN " in capsys.readouterr().out


def test_answers_on_training_prompts_are_to_be_learned_from(capsys, folder, monkeypatch):
    typed(monkeypatch, "l\n")
    assert call("toy", "--terminal", "--labeler", "ana", "--pairs", "2", "--split", "train") == 0
    assert "minirlhf run --preferences runs/toy/labels.jsonl" in capsys.readouterr().out


def test_labelling_in_the_terminal_fills_the_file_and_goes_on_later(capsys, folder, monkeypatch):
    typed(monkeypatch, "l\nr\nt\n")
    assert call("toy", "--terminal", "--labeler", "ana", "--pairs", "6") == 0
    out = capsys.readouterr().out
    assert "6 pairs, guidelines version minirlhf-1" in out and "ana: 3 of 6 pairs answered" in out
    assert "minirlhf label toy --summary" in out and "minirlhf report toy" in out
    assert "minirlhf label toy --split train" in out and "run --preferences" not in out
    typed(monkeypatch, "s\nl\nl\n")
    assert call("toy", "--terminal", "--labeler", "ana", "--pairs", "6") == 0
    out = capsys.readouterr().out
    assert out.index("ana: 3 of 6") < out.index("pair 4 of 6") and "ana: 6 of 6" in out
    rows = rows_of(folder)
    assert len(rows) == len({row["pair"] for row in rows}) == 6
    assert [row["answer"] for row in rows] == ["left", "right", "tie", "skip", "left", "left"]


def test_half_a_line_is_cut_off_and_told(capsys, folder, monkeypatch):
    typed(monkeypatch, "l\n")
    assert call("toy", "--terminal", "--labeler", "ana") == 0
    with open(folder / "labels.jsonl", "a") as file:
        file.write('{"pair": "3')
    capsys.readouterr()
    typed(monkeypatch, "")
    assert call("toy", "--terminal", "--labeler", "ana") == 0
    out = capsys.readouterr().out
    assert "runs/toy/labels.jsonl: the last line was only half-written; cut it off (11" in out
    assert len(rows_of(folder)) == 1


def test_guidelines_of_ones_own_are_shown_and_recorded(capsys, folder, monkeypatch):
    Path("own.md").write_text("version 9\n\nPrefer rhymes.\n")
    typed(monkeypatch, "l\n")
    assert call("toy", "--terminal", "--labeler", "ana", "--guidelines", "own.md") == 0
    assert "Prefer rhymes." in capsys.readouterr().out
    assert rows_of(folder)[0]["guidelines"] == "9"


def test_where_the_split_has_fewer_prompts_that_is_said(capsys, monkeypatch):
    typed(monkeypatch, "")
    assert call("toy", "--terminal", "--labeler", "ana", "--pairs", "500", "--split",
                "validation") == 0
    assert "pairs, guidelines version minirlhf-1; the validation split has no more" in (
        capsys.readouterr().out)


def test_an_interruption_in_the_terminal_loses_nothing(capsys, folder, monkeypatch):
    class Keyboard(io.StringIO):
        def readline(self, *size):
            line = super().readline(*size)
            if not line:
                raise KeyboardInterrupt
            return line

    monkeypatch.setattr(sys, "stdin", Keyboard("l\nr\n"))
    assert call("toy", "--terminal", "--labeler", "ana") == 0
    assert len(rows_of(folder)) == 2 and "ana: 2 of 50" in capsys.readouterr().out


def test_the_summary_says_what_the_answers_add_up_to(capsys, folder, monkeypatch):
    assert call("toy", "--summary") == 0
    assert "runs/toy/labels.jsonl: no answers yet" in capsys.readouterr().out
    for name in ("ana", "ben"):
        typed(monkeypatch, "l\nr\nt\n")
        assert call("toy", "--terminal", "--labeler", name, "--pairs", "3") == 0
    capsys.readouterr()
    assert call("toy", "--summary") == 0
    out = capsys.readouterr().out
    found = summary(read_labels(folder / "labels.jsonl"))
    assert found["pairs"] == 3 and found["agreement_pairs"] == 3
    assert f"policy is preferred in {found['win_rate']:.0%}" in out
    assert "ana: left 1, right 1, tie 1, skip 0" in out


def test_another_two_models_may_be_compared_into_the_same_file(folder, monkeypatch):
    for models in ("sft,policy", "base,sft"):
        typed(monkeypatch, "l\nr\n")
        assert call("toy", "--terminal", "--labeler", "ana", "--models", models) == 0
    rows = rows_of(folder)
    assert [{row["left_model"], row["right_model"]} for row in rows] == [
        {"sft", "policy"}, {"sft", "policy"}, {"base", "sft"}, {"base", "sft"}]


def test_what_people_said_trains_a_reward_model(capsys, folder, monkeypatch):
    """A file with ties, skips, changed answers and two labelers goes through the whole pipeline."""
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    for name, keys in (("ana", "lrltsb" + "llrrlrlrlrlrlr"), ("ben", "rrrrrrrrrrrr")):
        typed(monkeypatch, "".join(f"{key}\n" for key in keys))
        assert call("toy", "--terminal", "--labeler", name, "--pairs", "30", "--split",
                    "train") == 0
    standing = {(row["labeler"], row["pair"]): row for row in rows_of(folder)}
    counts = [row["answer"] for row in standing.values()]
    preferred = sum(counts.count(side) for side in ("left", "right"))
    replaced = len(rows_of(folder)) - len(standing)
    assert preferred > 20 and replaced == 1
    capsys.readouterr()
    assert cli.main(["run", "--preferences", str(folder / "labels.jsonl"), "--name", "learned",
                     *TINY_TRAINING]) == 0
    out = capsys.readouterr().out
    assert "1 (an answer that was changed later)" in out and "(a tie or a skipped pair)" in out
    assert Path("runs/learned/reward/model.safetensors").exists()
    rows = read_jsonl("runs/learned/preferences.jsonl")
    wanted = [(row["prompt"], row["chosen"]) for row in standing.values() if "chosen" in row]
    assert 0 < len(rows) <= preferred
    assert {(row["prompt"], row["chosen"]) for row in rows} <= set(wanted)
    assert read_json("runs/learned/reward/accuracy.json")["all"]["prompts"] > 0


def test_a_run_on_what_people_said_can_be_labelled_again(monkeypatch, capsys):
    """The article's rounds by hand: the next file of labels comes from the new models."""
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    rows = [{"prompt": f"what is {i} ?", "chosen": f"{i} it is", "rejected": "no"}
            for i in range(40)]
    Path("people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["run", "--preferences", "people.jsonl", "--name", "mine", *TINY_TRAINING]) == 0
    typed(monkeypatch, "l\n")
    assert call("mine", "--terminal", "--labeler", "ana", "--models", "base,policy", "--split",
                "train") == 0
    assert rows_of("runs/mine")[0]["prompt"].startswith("what is")


def test_unknown_rows_in_the_file_of_labels_are_damage(capsys, folder):
    write_jsonl(folder / "labels.jsonl", [{"prompt": "x", "chosen": "a", "rejected": "b"}])
    assert "labels.jsonl:1: pair, labeler, " in mistake(capsys, "toy", "--terminal")
    write_json(folder / "config.json", {"sead": 1})
    assert "no setting sead" in mistake(capsys, "toy", "--terminal")

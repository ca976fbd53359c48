"""Laws of a command under mpiexec: the run of one process, and one process's files and words."""

import os
import re
from contextlib import chdir
from pathlib import Path

import pytest
import ranked
from foreign import EOS, byte_level, write_folder
from helpers import FLAGS, assert_same, call, on_cupy, pair, write_rows
from mpi import SMALL, assert_same_run, command, needs_mpi, on_ranks, ranked_command, run
from runs import contents
from strict import playing_cupy
from test_cli_base import FLAGS as FLAGS_OF_A_BASE

from minirlhf.files import read_json
from minirlhf.run_folder import open_run
from minirlhf.world.prompts import SPLITS, prompts

pytestmark = [needs_mpi, pytest.mark.xdist_group("runs of ranks")]       # each is made once

KINDS = {"PPO and baselines": [*SMALL, "--baselines", "best-of-n", "dpo"],
         "GRPO, two rounds": [*SMALL, "--algorithm", "grpo", "--rounds", "2"],
         "PPO on a device": on_cupy(SMALL),                      # the double of one
         "two parts": [*SMALL, "--shards", "2", "--baselines", "dpo"]}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """folder_of(kind, ranks): a run's folder, made once; one rank is this process."""
    made: dict[tuple[str, int], Path] = {}

    def find(kind: str, size: int) -> Path:
        if (kind, size) not in made:
            place = tmp_path_factory.mktemp("run")
            if size == 1:
                with chdir(place), playing_cupy():
                    assert call("run", *KINDS[kind]) == 0
            else:
                on_ranks(size, "watched_command", "run", *KINDS[kind], folder=place)
            made[kind, size] = place / "runs" / "toy"
        return made[kind, size]

    return find


CASES = [("PPO and baselines", 4), ("GRPO, two rounds", 2), ("PPO on a device", 2)]


@pytest.mark.parametrize("kind, size", CASES)
def test_several_ranks_make_the_files_of_one_process(kind, size, folder_of):
    """And the first of them alone: tests/ranked.py sees what the others open."""
    alone, together = (contents(folder_of(kind, n)) for n in (1, size))
    assert alone.keys() == together.keys()
    for name in ("config.json", "prompts.jsonl", "demonstrations.jsonl", "base/tokenizer.json"):
        assert together[name] == alone[name]


@pytest.mark.parametrize("kind, size", CASES)
def test_several_ranks_end_in_the_run_of_one_process(kind, size, folder_of):
    """Every word, and to the rounding of float32 every number that is logged or in a model."""
    assert_same_run(folder_of(kind, size), folder_of(kind, 1))


def test_two_ranks_of_one_part_each_make_the_same_bits(folder_of):
    """Where there are no rollouts: a sum has two parts, a batch of replies is one rank's."""
    alone, together = (contents(folder_of("two parts", n)) for n in (1, 2))
    for name in ("base/model.safetensors", "sft/model.safetensors", "preferences.jsonl",
                 "dpo/model.safetensors"):
        assert together[name] == alone[name]


def test_a_rank_that_writes_beside_the_first_is_noticed(tmp_path):
    with pytest.raises(AssertionError, match=r"metrics\.jsonl"):
        on_ranks(2, "watched_command", "run", *FLAGS, "--name", "every rank logs",
                 folder=tmp_path)


def test_the_folder_says_how_many_ranks_made_it(folder_of):
    alone, together = (read_json(folder_of("GRPO, two rounds", n) / "environment.json")
                       for n in (1, 2))
    assert "ranks" not in alone and together["ranks"] == "2"


# --- batches that are dealt out ------------------------------------------------------------------

@pytest.mark.parametrize("items, size", [(1, 4), (40, 2), (41, 4)])
def test_batches_are_the_same_whoever_makes_them(items, size, tmp_path, monkeypatch):
    """1, 5 and 6 batches, of 8 items each."""
    together = on_ranks(size, "gathered", str(items), folder=tmp_path)["luck"]
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    assert_same(together, ranked.gathered(str(items))["luck"])
    assert len(set(together)) == len(together) == items


def test_ranks_that_repeat_each_others_luck_are_noticed(tmp_path):
    luck = on_ranks(2, "gathered", "40", "numbers of its own", folder=tmp_path)["luck"]
    assert len(set(luck)) < len(luck)


# --- words, cores, and what is refused -----------------------------------------------------------

def lines(text: str, rank: int) -> list[str]:
    """The lines that a rank has written."""
    return [line for line in re.split(r"[\r\n]+", text) if line.startswith(f"[{rank}] ")]


def test_the_first_rank_alone_speaks(tmp_path):
    ran = run(2, *command("run", *FLAGS), cwd=tmp_path)
    assert ran.returncode == 0
    assert lines(ran.stdout, 1) == lines(ran.stderr, 1) == []
    assert "Everything is in runs/toy" in ran.stdout and "pretraining: 100%" in ran.stderr
    assert re.search(r"note: ranks 0 … 1 are the processes \d+, \d+", ran.stderr)


@pytest.mark.parametrize("cores, size, each", [(8, 4, 2), (2, 2, 1)])
def test_ranks_on_one_machine_share_its_cores(cores, size, each, tmp_path):
    assert on_ranks(size, "workers", str(cores), folder=tmp_path)["workers"] == each


def test_a_rank_has_the_threads_that_were_given_it(tmp_path):
    assert on_ranks(2, "workers", "3", "3", folder=tmp_path)["workers"] == 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
                    reason="wants two cores, and a system that binds processes to them")
@pytest.mark.parametrize("cores, sharing", [("01", [1, 1]), ("00", [2, 2]), ("010", [2, 1, 2])])
def test_ranks_that_are_bound_to_cores_share_those_that_they_have(cores, sharing, tmp_path):
    found = on_ranks(len(cores), "bound", *cores, folder=tmp_path)["neighbours"]
    assert found.tolist() == sharing


@pytest.mark.parametrize("argv, told", [
    (["run", "--no-such-flag"], "no-such-flag"),
    (["sft", "nobody"], "there is no run runs/nobody"),
    (["chat", "toy"], "minirlhf chat is the work of one process; start it without mpiexec"),
    (["fly"], "unknown command 'fly'")])
def test_a_mistake_is_told_once_and_before_anything_is_written(argv, told, tmp_path):
    ran = run(2, *command(*argv), cwd=tmp_path)
    assert ran.returncode == 2
    assert re.search(f"minirlhf: rank 0: .*{told}", ran.stderr)
    assert "Traceback" not in ran.stderr and "rank 1:" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_ranks_that_have_no_part_of_a_step_are_noted_and_change_nothing(folder_of, tmp_path):
    ran = run(4, *command("run", *KINDS["two parts"]), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("(--shards)") == 1
    assert re.search(r"\[0\] note: this run's steps have 2 parts \(--shards\): 2 of 4 ranks "
                     "idle in them; a new run may have --shards 4", ran.stderr)
    assert_same_run(tmp_path / "runs" / "toy", folder_of("two parts", 1))


@pytest.fixture
def theirs(tmp_path):
    """The flags of a run on a base model and comparisons that are not the toy's."""
    world = byte_level([p.text for split in SPLITS for p in prompts(split)], 500)
    write_folder(tmp_path / "gpt2", world, context=80)
    rows = [pair(f"what is {i} ?", f"{i} it is , {EOS} sure", "no") for i in range(30)]
    write_rows(tmp_path / "others.jsonl", rows[1:])
    return ["--base", str(tmp_path / "gpt2"), "--text.max-tokens", "60", *FLAGS_OF_A_BASE,
            "--preferences", str(write_rows(tmp_path / "people.jsonl", rows))]


def test_peoples_comparisons_on_a_model_of_ones_own_are_the_run_of_one_process(
        theirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", *theirs, "--out", "alone") == 0
    on_ranks(2, "watched_command", "run", *theirs, "--out", "together", folder=tmp_path)
    assert_same_run(tmp_path / "together" / "toy", tmp_path / "alone" / "toy")


def test_a_rank_whose_files_are_others_is_told_before_anything_is_written(theirs, tmp_path):
    ran = run(2, *ranked_command("odd_command", "data files", "run", *theirs), cwd=tmp_path)
    assert ran.returncode == 2 and "the data files: rank 1 does not hold" in ran.stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_there_is_told_once(tmp_path):
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    ran = run(2, *command("run", *FLAGS), cwd=tmp_path)
    assert ran.returncode == 2 and "rank 0: runs/toy exists already" in ran.stderr
    assert "rank 1:" not in ran.stderr


def test_a_stage_by_itself_goes_on_in_a_run_of_one_process(tmp_path, monkeypatch):
    """In place and in a new folder; what one process makes then goes on in several again."""
    monkeypatch.chdir(tmp_path)
    assert call("run", *SMALL) == 0
    for argv in (["ppo", "toy", "--name", "low", "--ppo.beta", "0.05"], ["evaluate", "low"],
                 ["dpo", "toy"], ["rounds", "toy", "--name", "more", "--rounds", "2"]):
        on_ranks(2, "watched_command", *argv, folder=tmp_path)
    assert (tmp_path / "runs/low/samples.jsonl").exists()
    assert open_run(tmp_path / "runs/toy").has("dpo")
    assert open_run(tmp_path / "runs/more").in_round(2).has("policy")

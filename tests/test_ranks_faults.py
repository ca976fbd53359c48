"""A rank that comes to its end ends the others, and says why; the run then goes on."""

import os
import re
import signal
import subprocess
import time
from contextlib import chdir
from pathlib import Path

import pytest
from helpers import FLAGS, call
from mpi import SMALL, assert_same_run, command, needs_mpi, ranked_command, run, start
from runs import contents

from minirlhf import checkpoint
from minirlhf.checkpoint import Checkpoint
from minirlhf.files import read_jsonl

pytestmark = needs_mpi
SOON = 30                                        # seconds within which all have ended


def processes_of(ran: subprocess.CompletedProcess) -> list[int]:
    """Those of the ranks in turn, as the command has said."""
    [told] = re.findall(r"note: ranks 0 … \d are the processes ([\d, ]+)", ran.stderr)
    return [int(number) for number in told.split(",")]


def assert_launcher_names_one_of(processes: list[int], told: str) -> None:
    """The process killed, or one that MPICH's launcher has killed for it and noticed earlier."""
    [named] = re.findall(r"PID (\d+) RUNNING AT", told)
    assert int(named) in processes and "Killed (signal 9)" in told


def assert_gone(processes: list[int]) -> None:
    left = list(processes)
    for _ in range(100):
        left = [process for process in left if Path(f"/proc/{process}").exists()]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"{left} are still there")


# --- how it ends ---------------------------------------------------------------------------------

ENDS = [                                                 # how, the status, what is said
    ("killed", 9, "Killed \\(signal 9\\)"),
    ("raises", 2, "minirlhf: rank {}: the moon is wrong"),
    ("is broken", 1, "minirlhf: rank {}: Traceback(.|\n)*Broken: by a bug"),
    ("exits", 1, "minirlhf: rank {}: Traceback(.|\n)*SystemExit: 3"),
    ("cannot say why", 1, ""),
    ("interrupted", 130, "minirlhf: rank {}: interrupted; go on with: mpiexec -n \\d minirlhf run "
                         ".* --resume")]
AMONG = [(*end, 2, 0) for end in ENDS] + [(*end, 4, 2) for end in ENDS[:1]]


@pytest.mark.parametrize("how, status, told, size, rank", AMONG)
def test_a_rank_that_ends_ends_the_others_and_says_why(how, status, told, size, rank, tmp_path):
    """While they wait for its part of a gradient, the seventh: one of the SFT model's."""
    ran = run(size, *ranked_command("dying_command", rank, how, "gradient", 7, "run", *FLAGS,
                                    "--shards", "4", "--sft.steps", "9"), cwd=tmp_path)
    assert time.time() - float((tmp_path / "died").read_text()) < SOON
    assert ran.returncode == status
    assert re.search(told.format(rank), ran.stdout + ran.stderr)
    others = {other for other in range(size) if other != rank}
    assert not any(f"rank {other}:" in ran.stderr for other in others)
    assert len(processes_of(ran)) == size
    if how == "killed":
        assert_launcher_names_one_of(processes_of(ran), ran.stdout)
    assert_gone(processes_of(ran))


def until_at_work(folder: Path) -> None:
    """Wait, a minute at most, until a run has logged some steps."""
    log = folder / "runs" / "toy" / "metrics.jsonl"
    for _ in range(600):
        if log.exists() and log.stat().st_size > 1000:
            break
        time.sleep(0.1)


def test_a_rank_that_is_killed_from_outside_ends_the_others(tmp_path):
    started = start(2, *command("run", *FLAGS, "--pretraining.steps", "1000000"), cwd=tmp_path)
    try:
        until_at_work(tmp_path)
        found = {int(name) for name in os.listdir("/proc") if name.isdigit()
                 and parent_of_parent(int(name)) == started.pid}
        assert len(found) == 2
        os.kill(max(found), signal.SIGKILL)
        told, _ = started.communicate(timeout=SOON)
    finally:
        started.kill()
    assert started.returncode == 9
    assert_launcher_names_one_of(sorted(found), told)
    assert_gone(sorted(found))


def parent_of_parent(process: int) -> int | None:
    """The launcher of a rank, between which there is a proxy."""
    try:
        parent = parent_of(process)
        return parent_of(parent)
    except OSError:
        return None


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_ctrl_c_ends_all_ranks_and_says_how_to_go_on(tmp_path):
    started = start(2, *command("run", *FLAGS, "--pretraining.steps", "1000000"), cwd=tmp_path)
    try:
        until_at_work(tmp_path)
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=SOON)
    finally:
        started.kill()
    assert started.returncode == 130                             # whoever is the first to speak
    assert re.search(r"rank \d: interrupted; go on with: mpiexec -n 2 minirlhf run .* --resume",
                     told)


# --- how it goes on ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of one process that nobody interrupted."""
    place = tmp_path_factory.mktemp("alone")
    with chdir(place):
        assert call("run", *SMALL) == 0
    return place / "runs" / "toy"


@pytest.mark.parametrize("sizes", [(2, 4, 1)])
def test_a_run_whose_ranks_die_goes_on_with_any_number_of_them(sizes, alone, tmp_path):
    """One rank is killed after every few pieces of work, and the run resumed by other ranks, until
    it comes to the end of a run that was left alone."""
    resume: list[str] = []
    for turn in range(60):
        size = sizes[turn % len(sizes)]
        ran = run(size, *ranked_command("dying_command", turn % size, "killed", "piece", 6, "run",
                                        *SMALL, *resume), cwd=tmp_path)
        if ran.returncode == 0:
            break
        assert ran.returncode in (9, -9), ran.stderr
        if turn:
            assert re.search(r"goes on with something else than before \(ranks was \d, is \d\)",
                             ran.stdout)
        resume = ["--resume"]
    assert turn >= len(sizes) and ran.returncode == 0            # each has had its turn
    assert_same_run(tmp_path / "runs" / "toy", alone)


def test_a_rank_that_begins_elsewhere_than_the_others_is_told(tmp_path):
    """The step, in the tree of the part that is gone on with, is the first that differs."""
    assert run(2, *ranked_command("dying_command", 0, "killed", "piece", 3, "run", *SMALL),
               cwd=tmp_path).returncode == 9
    before = read_jsonl(tmp_path / "runs" / "toy" / "metrics.jsonl")
    ran = run(2, *ranked_command("forgetful_command", "run", *SMALL, "--resume"), cwd=tmp_path)
    assert ran.returncode == 2
    assert re.search(r"pretraining\.\S+: rank 1 does not hold the bits of rank 0", ran.stderr)
    assert read_jsonl(tmp_path / "runs" / "toy" / "metrics.jsonl") == before[:2]


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """The folder of a run of one process that ended after its first step of PPO."""
    right = Checkpoint.tick

    def tick(self):
        right(self)
        if "PPO" in self.parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(Checkpoint, "tick", tick)
        patch.setattr(checkpoint, "INTERVAL", 0.0)
        assert call("run", *SMALL, "--shards", "2") == 130
    return tmp_path / "runs" / "toy"


@pytest.mark.parametrize("what", ["settings", "tokenizer"])
def test_a_command_that_is_refused_changes_nothing_of_an_interrupted_run(
        what, interrupted, tmp_path):
    """Another algorithm in its place would have dropped its checkpoint, and its value model."""
    before = contents(interrupted)
    ran = run(4, *ranked_command("odd_command", what, "grpo", "toy", "--ppo.beta", "0.07"),
              cwd=tmp_path)
    assert ran.returncode == 2 and f"the {what}: rank 1 does not hold" in ran.stderr
    assert contents(interrupted) == before


def test_nor_does_one_that_coming_back_to_the_folder_would_refuse(
        interrupted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (interrupted / "memory.json").write_text("{}")
    before = contents(interrupted)
    assert call("grpo", "toy", "--ppo.beta", "0.07") == 2
    assert "memory.json" in capsys.readouterr().err
    assert contents(interrupted) == before


def test_more_ranks_than_a_run_has_parts_may_go_on_with_it(interrupted, tmp_path):
    """Or do another thing in its place."""
    ran = run(4, *command("grpo", "toy", "--ppo.beta", "0.07"), cwd=tmp_path)
    assert ran.returncode == 0 and ran.stderr.count("2 of 4 ranks idle") == 1, ran.stderr
    assert {row["stage"] for row in read_jsonl(interrupted / "metrics.jsonl")} >= {"GRPO"}

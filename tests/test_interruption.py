"""An interrupted run goes on and ends in the same bits, wherever it died; nothing else is lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import FLAGS, call, on_cupy
from strict import playing_cupy

from minirlhf import checkpoint, commands, continuing, files, pipeline
from minirlhf.checkpoint import Checkpoint
from minirlhf.files import append_jsonl, locked, read_json, read_jsonl, replacing_folder
from minirlhf.run import Run
from minirlhf.run_folder import digest

# looks at validation prompts before the first step, after the second and after the last
SMALL = [*FLAGS, "--pretraining.steps", "4", "--sft.steps", "3", "--reward.steps", "3",
         "--ppo.steps", "3", "--ppo.target-kl", "0.1", "--watch.every", "2",
         "--preferences.prompts", "40", "--evaluation.samples", "2"]
TINY = [*FLAGS, "--ppo.steps", "3", "--watch.every", "2"]
KINDS = {
    "PPO": SMALL,
    "GRPO and baselines": [*TINY, "--algorithm", "grpo", "--baselines", "best-of-n", "dpo"],
    "RLOO, two rounds": [*TINY, "--algorithm", "rloo", "--rounds", "2"],
    "PPO, two rounds, a baseline": [*TINY, "--rounds", "2", "--baselines", "dpo"],
    # whose steps wait to be logged until some have gathered
    "PPO on a device": on_cupy(SMALL),
}


class Died(BaseException):
    """A process's end, as far as a test can have it without ending itself."""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def device():
    """The double of CuPy, for the kind of run that asks for a GPU."""
    with playing_cupy():
        yield


def contents(folder) -> dict[str, str]:
    """{file: digest of its bytes}; the bytes themselves would take pytest minutes to tell apart."""
    return {str(path.relative_to(folder)): digest(path) for path in Path(folder).rglob("*")
            if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """alone(kind): the files of a run of the kind that nobody interrupted."""
    found: dict[str, dict[str, str]] = {}

    def files_of(kind: str) -> dict[str, str]:
        if kind not in found:
            with contextlib.chdir(tmp_path_factory.mktemp("alone")):
                assert call("run", *KINDS[kind]) == 0
                found[kind] = contents("runs/toy")
        return found[kind]

    return files_of


@pytest.fixture
def left_alone(alone):
    return alone("PPO")


# --- the same bits -------------------------------------------------------------------------------

def dying(monkeypatch, after: int, *argv) -> None:
    """A command that dies after every few pieces of work and is resumed until it comes to its end.

    A piece is a step of training or a batch of replies; the last one before a death is lost.
    """
    done, real = [0], Checkpoint.tick

    def tick(self):
        done[0] += 1
        if done[0] > after:
            raise Died
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "INTERVAL", 0.0)
        patch.setattr(checkpoint, "WORTH", 0.0)
        patch.setattr(Checkpoint, "tick", tick)
        resume: list[str] = []
        for _ in range(200):
            done[0] = 0
            try:
                assert call(*argv, *resume) == 0
                return
            except Died:
                resume = ["--resume"]
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("kind, after", [
    ("PPO", 1), ("PPO", 2), ("PPO", 7), ("PPO on a device", 3), ("GRPO and baselines", 1),
    ("RLOO, two rounds", 2), ("PPO, two rounds, a baseline", 7)])
def test_a_run_that_dies_after_every_few_pieces_of_work_ends_in_the_same_bits(
        kind, after, alone, monkeypatch):
    dying(monkeypatch, after, "run", *KINDS[kind])
    assert contents("runs/toy") == alone(kind)


def further_rounds_left_alone() -> tuple[list[str], dict[str, str]]:
    """The command of a second round, and the files that it makes where nobody interrupts it."""
    assert call("run", *TINY) == 0
    more = ["rounds", "toy", "--name", "more", "--rounds", "2"]
    assert call(*more) == 0
    wanted = contents("runs/more")
    Path("runs/more").rename("left alone")
    return more, wanted


def test_further_rounds_that_die_after_every_few_pieces_of_work_end_in_the_same_bits(monkeypatch):
    more, wanted = further_rounds_left_alone()
    dying(monkeypatch, 2, *more)
    assert contents("runs/more") == wanted


def without_the_watcher(patch) -> None:
    """What a watcher has seen is no part of a checkpoint."""
    real = Run.follow

    def follow(self, part, steps, models, *more):
        real(self, part, steps, {name: tree for name, tree in models.items() if name != "watch"},
             *more)

    patch.setattr(Run, "follow", follow)


def with_a_watcher_that_forgets(what: str):
    """One entry of a watcher's state begins anew in every process."""
    def forget(patch) -> None:
        real = Checkpoint.restore

        def restore(self, name, tree, *more):
            real(self, name, tree, *more)
            if "watch" in tree:
                tree["watch"][what] = None

        patch.setattr(Checkpoint, "restore", restore)
    return forget


def without_cutting_the_log(patch) -> None:
    """What a dead process logged after its checkpoint stays."""
    patch.setattr(Checkpoint, "cut_log", lambda self: None)


def with_looks_that_stay(patch) -> None:
    """Only the rows of steps are cut back to the checkpoint."""
    real = Checkpoint.cut_log

    def cut_log(self):
        rows = read_jsonl(self.log) if self.log.exists() else []
        real(self)
        left = read_jsonl(self.log) if rows else []
        append_jsonl(self.log, [row for row in rows[len(left):] if "validation" in row["stage"]])

    patch.setattr(Checkpoint, "cut_log", cut_log)


def with_the_policy_as_it_began(patch) -> None:
    """The policy, alone of all models, is not what it was when the process died."""
    real = Run.follow

    def follow(self, part, steps, models, *more):
        real(self, part, steps, {name: tree for name, tree in models.items() if name != "policy"},
             *more)

    patch.setattr(Run, "follow", follow)


def without_the_steps_that_wait(patch) -> None:
    """What is saved is further on than what is logged."""
    real = Checkpoint.restore
    patch.setattr(Checkpoint, "restore", lambda self, name, tree, *more: real(self, name, tree))


def test_a_run_on_a_device_that_is_saved_before_its_steps_are_logged_loses_them(
        alone, monkeypatch):
    wanted = alone("PPO on a device")
    with monkeypatch.context() as patch:
        without_the_steps_that_wait(patch)
        with pytest.raises(AssertionError):
            dying(patch, 3, "run", *KINDS["PPO on a device"])
            assert contents("runs/toy") == wanted


@pytest.mark.parametrize("wrong", [
    without_the_watcher, with_a_watcher_that_forgets("best"), with_a_watcher_that_forgets("gold"),
    without_cutting_the_log, with_looks_that_stay, with_the_policy_as_it_began],
    ids=["no watcher", "the best is forgotten", "its gold is forgotten", "a log that stays",
         "looks that stay", "a policy of old"])
def test_a_run_that_is_resumed_wrongly_ends_in_others(wrong, alone, monkeypatch):
    wanted = alone("GRPO and baselines")
    with monkeypatch.context() as patch:
        wrong(patch)
        with pytest.raises(AssertionError):
            dying(patch, 2, "run", *KINDS["GRPO and baselines"])
            assert contents("runs/toy") == wanted


def test_a_look_that_was_logged_but_not_saved_is_not_logged_twice(left_alone, monkeypatch):
    """The process dies as it has looked, after the second step and after the last."""
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "WORTH", 0.0)
    real, resume = Checkpoint.tick, []

    def looks() -> list[int]:
        return [row["step"] for row in read_jsonl("runs/toy/metrics.jsonl")
                if row["stage"] == "PPO, validation"]

    for step in (2, 3):
        def tick(self, step=step):
            if looks() and looks()[-1] == step:
                raise Died
            real(self)

        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(Checkpoint, "tick", tick)
            call("run", *SMALL, *resume)
        assert looks() == [0, 2, 3][:step]
        resume = ["--resume"]
    assert call("run", *SMALL, "--resume") == 0
    assert looks() == [0, 2, 3] and contents("runs/toy") == left_alone


def deaths_between_results(monkeypatch, kind: str, deaths) -> None:
    """A run that dies as it is about to save each of these models, in turn, and as it is about to
    write that a stage is over (None).

    A name stands for the first time that it is saved in a process.
    """
    real_save, real_end, planned = Run.save, Checkpoint.end, []

    def die_if(planned_now) -> None:
        if planned == [planned_now]:
            planned.clear()
            raise Died

    def save(self, name, *args, **more):
        die_if(name)
        real_save(self, name, *args, **more)

    def end(self):
        die_if(None)
        real_end(self)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save)
        patch.setattr(Checkpoint, "end", end)
        resume: list[str] = []
        for death in deaths:
            planned[:] = [death]
            with pytest.raises(Died):
                call("run", *KINDS[kind], *resume)
            resume = ["--resume"]
    assert call("run", *KINDS[kind], *resume) == 0


@pytest.mark.parametrize("kind, deaths", [
    ("PPO", [None, "reward", "policy-best", "value", "policy", None]),
    ("GRPO and baselines", ["dpo", None, "policy-best", "policy", None, None]),
    ("PPO, two rounds, a baseline", [
        "reward", "value", "policy", None, "reward", "policy-best", "value", "policy", "dpo"])])
def test_a_run_that_dies_between_the_results_of_its_stages_ends_in_the_same_bits(
        kind, deaths, alone, monkeypatch):
    """value/ is there and policy/ is not; base/ is there and the checkpoint is the one before."""
    deaths_between_results(monkeypatch, kind, deaths)
    assert contents("runs/toy") == alone(kind)


def dying_folders(monkeypatch, module, *argv) -> list[str]:
    """A command that dies at each new folder which `module` copies, with that folder half written
    and again with it whole, and is resumed; the folders."""
    died: list[tuple] = []
    real = replacing_folder

    @contextlib.contextmanager
    def mortal(path):
        with real(path) as folder:
            yield folder
            if (path, "half") not in died:
                died.append((path, "half"))
                folder.rename(folder.with_name(f".{path.name}.new-1.tmp"))      # a kill leaves it
                raise Died
        if (path, "whole") not in died:
            died.append((path, "whole"))
            raise Died

    def copy(source, target):
        with monkeypatch.context() as patch:
            patch.setattr(files, "replacing_folder", mortal)
            files.copy_whole(source, target)

    resume: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_whole", copy)
        while True:
            try:
                assert call(*argv, *resume) == 0
                return [str(path) for path, how in died if how == "whole"]
            except Died:
                resume = ["--resume"]


PUBLISHED = ["reward", "value", "policy-best", "policy"]


@pytest.mark.parametrize("kind, names", [
    ("RLOO, two rounds", [name for name in PUBLISHED if name != "value"]),
    ("PPO, two rounds, a baseline", PUBLISHED)])
def test_a_run_that_dies_while_it_publishes_the_last_round_ends_in_the_same_bits(
        kind, names, alone, monkeypatch):
    died = dying_folders(monkeypatch, pipeline, "run", *KINDS[kind])
    assert died == [f"runs/toy/{name}" for name in names]
    assert contents("runs/toy") == alone(kind)


def test_further_rounds_that_die_while_the_first_are_copied_end_in_the_same_bits(monkeypatch):
    more, wanted = further_rounds_left_alone()
    died = dying_folders(monkeypatch, continuing, *more)
    assert died == ["runs/more/base", "runs/more/sft",
                    *(f"runs/more/rounds/01/{name}" for name in PUBLISHED)]
    assert contents("runs/more") == wanted


def test_to_take_a_publication_for_done_at_its_first_result_would_be_noticed(alone, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Step, "done",
                      lambda self, folder: (folder / self.makes[-1]).exists() or (
                          self.run is pipeline.publish and (folder / "preferences.jsonl").exists()))
        with pytest.raises(AssertionError):
            dying_folders(patch, pipeline, "run", *KINDS["RLOO, two rounds"])
            assert contents("runs/toy") == alone("RLOO, two rounds")


def test_a_stage_of_its_own_is_resumed_too(left_alone, monkeypatch):
    """In place, and in a new folder; and one that is not resumed starts over."""
    assert call("run", *SMALL) == 0
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "WORTH", 0.0)
    real, ticks = Checkpoint.tick, [0]

    def tick(self):
        real(self)
        ticks[0] += 1
        if ticks[0] == 2:
            raise Died

    for name in ("again", "over"):
        with monkeypatch.context() as patch, pytest.raises(Died):
            ticks[0] = 0
            patch.setattr(Checkpoint, "tick", tick)
            call("ppo", "toy", "--name", name)
        assert [row["step"] for row in read_jsonl(f"runs/{name}/metrics.jsonl")
                if row["stage"] == "PPO"] == [0, 1]
    assert call("ppo", "toy", "--name", "again", "--resume") == 0
    assert call("ppo", "over") == 0
    for name in ("again", "over"):
        made = contents(f"runs/{name}")
        assert {file: data == left_alone[file] for file, data in made.items()
                if file not in ("environment.json", "checkpoint/state.safetensors")} == (
            dict.fromkeys((file for file in left_alone if file not in (
                "environment.json", "checkpoint/state.safetensors", "samples.jsonl",
                "report.html")), True))


def law_ended(monkeypatch) -> None:
    """A stage whose results are there leaves no work in the checkpoint, wherever it died."""
    argv = ["ppo", "toy", "--name", "more"]
    assert call("run", *TINY) == 0 and call(*argv) == 0
    wanted = contents("runs/more")
    Path("runs/more").rename("left alone")
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Checkpoint, "end", lambda self: (_ for _ in ()).throw(Died))
        call(*argv)
    assert Path("runs/more/policy").exists() and contents("runs/more") != wanted
    assert call(*argv, "--resume") == 0
    assert contents("runs/more") == wanted


def test_a_stage_that_dies_as_it_ends_leaves_no_work_behind(monkeypatch):
    law_ended(monkeypatch)


def test_work_that_is_left_behind_is_noticed(monkeypatch):
    monkeypatch.setattr(commands, "tidy", lambda run: None)
    with pytest.raises(AssertionError):
        law_ended(monkeypatch)


def test_another_algorithm_never_mixes_with_what_one_that_was_given_up_left(monkeypatch):
    """PPO died with its value model and its log there; GRPO begins, and nothing of PPO's stays."""
    from minirlhf.run import Run
    assert call("pretrain", "--name", "toy", *SMALL) == 0
    assert call("sft", "toy") == 0 and call("reward-model", "toy") == 0
    shutil.copytree("runs/toy", "runs/alone")
    real = Run.save

    def save(self, name, *args, **more):
        if name == "policy":
            raise Died
        real(self, name, *args, **more)

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Run, "save", save)
        call("ppo", "toy")
    assert Path("runs/toy/value").exists()
    assert call("grpo", "toy") == 0 and call("grpo", "alone") == 0
    assert contents("runs/toy") == contents("runs/alone")




def test_a_stage_that_starts_over_never_goes_on_with_what_it_gave_up(left_alone, monkeypatch):
    """Even if it is interrupted before its own first checkpoint: old steps had other settings."""
    assert call("run", *SMALL) == 0
    real, left = Checkpoint.tick, [0]

    def die(self):
        left[0] -= 1
        if left[0] == 0:
            raise Died
        real(self)

    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "WORTH", 0.0)
    for name, others, left[0] in (("a", [], 3), ("a", ["--ppo.beta", "0.7"], 1),
                                  ("b", ["--ppo.beta", "0.7"], -1)):
        again = ["ppo", name] if Path("runs", name).exists() else ["ppo", "toy", "--name", name]
        with monkeypatch.context() as patch, contextlib.suppress(Died):
            patch.setattr(Checkpoint, "tick", die)
            assert call(*again, *others) == 0
    assert call("ppo", "a", "--ppo.beta", "0.7", "--resume") == 0
    a, b = contents("runs/a"), contents("runs/b")
    assert {name for name in a if a[name] != b[name]} == {"environment.json"}


# --- what a resumed run is and is not ------------------------------------------------------------

def told_by(capsys, *argv) -> str:
    capsys.readouterr()
    assert call(*argv) == 2
    told = capsys.readouterr()
    assert told.err.startswith("minirlhf: ") and told.err.count("\n") == 1 and told.out == ""
    return told.err


@pytest.fixture
def interrupted(monkeypatch):
    """runs/toy, which died in its first step."""
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Checkpoint, "tick", lambda self: (_ for _ in ()).throw(Died))
        call("run", *SMALL)


def test_a_run_without_a_checkpoint_starts_over(interrupted, left_alone):
    assert not Path("runs/toy/checkpoint").exists()
    assert call("run", *SMALL, "--resume") == 0
    assert contents("runs/toy") == left_alone


def test_a_run_that_died_before_its_settings_were_written_starts_over(left_alone):
    Path("runs/toy").mkdir(parents=True)
    assert call("run", *SMALL, "--resume") == 0
    made = contents("runs/toy")
    assert made == left_alone


def test_resuming_a_run_that_is_over_shows_its_results_again(capsys, left_alone):
    assert call("run", *SMALL) == 0
    before = contents("runs/toy")
    assert before == left_alone
    capsys.readouterr()
    assert call("run", *SMALL, "--resume") == 0
    assert "gold score" in capsys.readouterr().out and contents("runs/toy") == before


@pytest.mark.parametrize("other, told", [
    (["--seed", "1"], "seed is 0 there, 1 here"),
    (["--ppo.beta", "0.1"], "ppo.beta is 0.2 there, 0.1 here"),
    (["--sft.steps", "4"], "sft.steps is 3 there, 4 here"),
    (["--world.panel", "careful"], "world.panel.0 is default there, careful here")])
def test_another_flag_is_refused_by_name(interrupted, capsys, other, told):
    before = contents("runs")
    message = told_by(capsys, "run", *SMALL, *other, "--resume")
    assert told in message and "Give --resume the flags that began it" in message
    assert contents("runs") == before


def test_a_flag_left_out_is_another_flag(interrupted, capsys):
    assert "ppo.target_kl is 0.1 there, None here" in told_by(
        capsys, "run", *[flag for flag in SMALL if flag not in ("--ppo.target-kl", "0.1")],
        "--resume")


def test_a_run_that_does_not_exist_is_not_resumed(capsys):
    assert "there is no run runs/toy" in told_by(capsys, "run", *SMALL, "--resume")
    assert not Path("runs").exists()


@pytest.mark.parametrize("content", ["photos/a.jpg", "photos/.thesis.tmp", "photos"])
def test_a_folder_that_is_no_run_is_not_taken_over(content, capsys):
    Path(content).parent.mkdir(exist_ok=True)
    Path(content).write_text("mine")
    message = told_by(capsys, "run", "--out", ".", "--name", "photos", *SMALL, "--resume")
    assert "there is no run photos" in message and Path(content).read_text() == "mine"


def test_a_new_run_is_kept_from_others_from_its_first_moment_on(monkeypatch, capsys):
    """While its data are read, another process may not resume it, or it would lose its folder."""
    def check(self):
        with pytest.raises(RuntimeError, match="another minirlhf"), locked(self.folder):
            pass
        raise ValueError("bad data")

    monkeypatch.setattr(Run, "check", check)
    assert "bad data" in told_by(capsys, "run", *SMALL) and not Path("runs").exists()


def test_an_existing_run_is_not_begun_again_and_is_told_of_resume(interrupted, capsys):
    before = contents("runs")
    message = told_by(capsys, "run", *SMALL)
    assert "runs/toy exists already" in message and "--resume" in message
    assert contents("runs") == before


def test_two_processes_do_not_work_in_one_run(interrupted, capsys):
    with locked(Path("runs/toy")):
        for argv in (["run", *SMALL, "--resume"], ["pretrain", *SMALL, "--resume"]):
            assert "another minirlhf is at work in runs/toy" in told_by(capsys, *argv)


def test_what_killed_processes_left_is_tidied_up(interrupted, left_alone):
    Path("runs/toy/.base.new-1.tmp").mkdir()
    Path("runs/toy/.base.new-1.tmp/model.safetensors").write_bytes(b"half")
    Path("runs/toy/.samples.jsonl.new-1.tmp").write_bytes(b"half")
    assert call("run", *SMALL, "--resume") == 0
    assert contents("runs/toy") == left_alone


# --- real processes ------------------------------------------------------------------------------

def start(*argv) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "minirlhf.cli", *argv], text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})


def wait_for(path, process) -> None:
    while not Path(path).exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


LONG = [*FLAGS, "--pretraining.steps", "100000"]


def test_the_lock_of_a_killed_run_is_no_lock_and_its_work_is_not_lost():
    process = start("run", *LONG)
    wait_for("runs/toy/checkpoint/state.safetensors", process)
    second = start("run", *LONG, "--resume")
    assert second.wait() == 2 and "another minirlhf is at work" in second.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start("run", *LONG, "--resume")
    known = len(read_jsonl_until_whole("runs/toy/metrics.jsonl"))
    saved = Path("runs/toy/checkpoint/state.safetensors").stat().st_mtime_ns
    while Path("runs/toy/checkpoint/state.safetensors").stat().st_mtime_ns == saved:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    steps = [row["step"] for row in read_jsonl_until_whole("runs/toy/metrics.jsonl")]
    assert steps == list(range(len(steps))) and len(steps) > known // 2 > 0


def read_jsonl_until_whole(path) -> list[dict]:
    """The rows of a log whose writer may have died in its last line."""
    text = Path(path).read_text()
    whole = Path(path).with_suffix(".whole")
    whole.write_text(text[:text.rfind("\n") + 1])
    return read_jsonl(whole)


def test_ctrl_c_tells_how_to_go_on():
    process = start("run", *LONG)
    wait_for("runs/toy/metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in told
    assert told.splitlines()[-1] == (
        f"minirlhf: interrupted; go on with: minirlhf run {' '.join(LONG)} --resume")
    assert read_json("runs/toy/config.json")["pretraining"]["steps"] == 100000

"""Laws of sweeps: which runs there are, each made once whoever dies, and an honest table."""

import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import counted
import numpy as np
import pytest
from helpers import FLAGS, at_once, breaks, call, one_line

from minirlhf import claims_command
from minirlhf.files import read_json, read_jsonl
from minirlhf.presets import quick
from minirlhf.settings import RunConfig
from minirlhf.sweeping import cluster, command, grid, sources, store
from minirlhf.sweeping import table as tables
from minirlhf.sweeping.locks import alone, lock_file, locked_elsewhere
from minirlhf.sweeping.store import Store, Wanted
from minirlhf.sweeping.table import Row, table, written
from minirlhf.sweeping.workers import LIVES, processes

pytestmark = pytest.mark.xdist_group("sweeps")                 # the small sweep is made once

at = FLAGS.index("--dpo.steps")
SMALL = FLAGS[:at] + FLAGS[at + 2:]                            # no sweep has a DPO


# --- the grid ------------------------------------------------------------------------------------

def test_a_grid_by_hand():
    values = grid.lists(["ppo.beta=0,0.2", "--ppo.lr-policy=1e-3", "algorithm=ppo, grpo"])
    assert values == {"ppo.beta": ["0", "0.2"], "ppo.lr_policy": ["1e-3"],
                      "algorithm": ["ppo", "grpo"]}
    assert [tuple(chosen.values()) for chosen in grid.combinations(values)] == [
        ("0", "1e-3", "ppo"), ("0", "1e-3", "grpo"), ("0.2", "1e-3", "ppo"),
        ("0.2", "1e-3", "grpo")]
    assert grid.combinations({}) == [{}]


def test_a_value_is_what_stands_after_its_flag():
    assert grid.words({"ppo.lr_policy": "1e-3", "world.panel": "default careful rushed",
                       "group.normalize": "false"}) == [
        "--ppo.lr-policy", "1e-3", "--world.panel", "default", "careful", "rushed",
        "--group.no-normalize"]
    assert grid.words({"group.normalize": "true"}) == ["--group.normalize"]


def kinds(*argv) -> list[command.Combination]:
    """The combinations of a command line, as `sweep` makes them."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "make", lambda store, kinds, args: found.extend(kinds))
        patch.setattr(command, "row", lambda *_: None)
        patch.setattr(command, "write", lambda *_: None)
        patch.setattr(command, "table", lambda rows: "")
        assert call("sweep", *argv) == 0
    return found


def test_a_value_has_the_type_of_its_setting_and_what_is_not_varied_is_as_flags_say():
    found = kinds("--vary", "ppo.beta=0,1", "--vary", "world.panel=rushed,default careful rushed",
                  "--sft.steps", "7")
    usual = RunConfig(backend="numpy")
    assert [kind.settings for kind in found] == [
        replace(usual, sft=replace(usual.sft, steps=7), ppo=replace(usual.ppo, beta=beta),
                world=replace(usual.world, panel=panel))
        for beta in (0.0, 1.0) for panel in (("rushed",), ("default", "careful", "rushed"))]
    assert all(type(kind.settings.ppo.beta) is float for kind in found)


def test_a_quick_sweep_is_of_quick_runs():
    [kind] = kinds("--quick", "--vary", "ppo.beta=0.5")
    usual = quick(RunConfig(backend="numpy"))
    assert kind.settings == replace(usual, ppo=replace(usual.ppo, beta=0.5))


@pytest.mark.parametrize("flags, stage", [
    ([], "evaluated"), (["--stage", "reward"], "reward"), (["--rounds", "2"], "rounds")])
def test_a_run_goes_as_far_as_the_table_wants(flags, stage):
    assert kinds(*flags)[0].wanted.stage == stage


MISTAKES = [
    (["--vary", "ppo.beta"], "wants a setting and its values, such as ppo.beta=0,0.2"),
    (["--vary", "ppo.bata=1"], "a run has no setting ppo.bata"),
    (["--vary", "ppo=1"], "a run has no setting ppo;"),
    (["--vary", "ppo.beta=0,x"], "--ppo.beta: could not convert string to float: 'x'"),
    (["--vary", "ppo.steps=1.5"], "--ppo.steps: invalid literal for int()"),
    (["--vary", "algorithm=ppo,a2c"], "invalid choice 'a2c'"),
    (["--vary", "group.normalize=yes", "--algorithm", "grpo"], "true or false, got 'yes'"),
    (["--vary", "ppo.beta=0,,1"], "a value is empty"),
    (["--vary", "ppo.beta=0,0.0"], "two combinations are one"),
    (["--vary", "ppo.beta=0", "--vary", "ppo.beta=1"], "names ppo.beta twice"),
    (["--vary", "ppo.beta=0", "--ppo.beta", "1"], "given by a flag and varied too"),
    (["--vary", "model.heads=4,3"], "must be a multiple of model.heads (3)"),
    (["--vary", "group.size=2,4"], "--group.size would change nothing: PPO compares no groups"),
    (["--vary", "dpo.beta=2"], "dpo.beta would change nothing"),
    (["--vary", "ppo.beta=0,1", "--stage", "reward"], "ppo.beta would change nothing"),
    (["--ppo.beta", "1", "--stage", "reward"], "ppo.beta would change nothing"),
    (["--vary", "baselines=dpo"], "trains no DPO"),
    (["--vary", "seed=1,2"], "--seeds says which"), (["--seed", "1"], "--seeds says which"),
    (["--vary", "base=x"], "a sweep pretrains"), (["--vary", "text=x"], "over the toy world"),
    (["--seeds", "1", "1"], "each once, got 1 1"), (["--seeds"], "one seed or more"),
    (["--seeds", "-1"], "seed must not be negative, got -1"),
    (["--workers", "0"], "at least 1, got 0"),
    (["--workers", "2", "--scheduler", "tcp://x:1"], "the cluster has workers of its own")]


@pytest.mark.parametrize("argv, told", MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line_before_anything_is_run(argv, told, capsys, tmp_path,
                                                              monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "computing", None)
    assert told in one_line(capsys, "sweep", *argv)


def test_the_help_shows_a_sweep(capsys):
    assert call("sweep", "--help") == 0
    assert "minirlhf sweep --vary ppo.beta=0,0.1,0.2" in capsys.readouterr().out


# --- names ---------------------------------------------------------------------------------------

def test_a_name_is_the_stage_the_seed_and_a_digest_of_settings_and_code(monkeypatch):
    monkeypatch.setattr(store, "own_digest", lambda: "abc")
    for stage in ("base", "evaluated"):
        made = Store(Path("nowhere"))
        wanted = Wanted(stage, {"pretraining.steps": 7})
        text = json.dumps([stage, asdict(made.settings(wanted, 3)), "abc"], default=str,
                          sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        assert made.run(wanted, 3) == Path("nowhere").absolute() / "abc" / f"{stage}-3-{key}"
    assert made.settings(Wanted("base"), 3).seed == 3


def test_the_code_of_sweeps_decides_nothing_that_a_run_ends_with():
    assert not {"sweeping", "commands", "cli"} & set(sources.DECISIVE)


# --- a small sweep, in this process --------------------------------------------------------------

SWEEP = ["sweep", "--vary", "ppo.beta=0,5", "--vary", "ppo.lr_policy=0.03,0.001", "--seeds", "4",
         "0", "1", "--workers", "2", *SMALL, "--ppo.steps", "2"]


@contextmanager
def here():
    """Let a sweep compute in this process, each command leaving its lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "computing", lambda *_: nullcontext((at_once, 2)))
        patch.setattr(store, "make", counted.make)
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep of 2 · 2 combinations and 3 seeds."""
    out = tmp_path_factory.mktemp("sweep")
    with here():
        assert call(*SWEEP, "--out", str(out)) == 0
    return out


def commands_of(out: Path) -> list[list[str]]:
    [log] = out.glob("*/commands.log")
    return counted.lines(log)


def begun(out: Path) -> list[str]:
    return [name for what, name, _ in commands_of(out) if what == "begun"]


def ended(out: Path) -> list[str]:
    return [name for what, name, _ in commands_of(out) if what == "ended"]


def own_numbers(out: Path) -> dict[tuple, dict]:
    """{(beta, rate, seed): gold, score and kl}, from the runs' own files, without the table."""
    found = {}
    for folder in out.glob("*/evaluated-*"):
        config = read_json(folder / "config.json")
        rows = [row for row in read_jsonl(folder / "samples.jsonl") if row["model"] == "policy"]
        found[config["ppo"]["beta"], config["ppo"]["lr_policy"], config["seed"]] = {
            key: float(np.mean([row[key] for row in rows])) for key in ("gold", "score", "kl")}
    return found


def check_table(out: Path) -> None:
    """Law: each number of sweep.json is that of the run of its settings and seed."""
    found, own = read_json(out / "sweep.json"), own_numbers(out)
    assert found["seeds"] == [4, 0, 1] and len(found["rows"]) == 4 and len(own) == 12
    for row in found["rows"]:
        for key, number in row["numbers"].items():
            wanted = [own[*row["settings"].values(), seed][key] for seed in found["seeds"]]
            assert number["by_seed"] == pytest.approx(wanted, abs=1e-12)
            assert number["mean"] == pytest.approx(np.mean(wanted))
            half = 4.303 * np.std(wanted, ddof=1) / np.sqrt(3)
            assert number["interval"] == pytest.approx(half)


def test_the_table_has_each_number_beside_its_settings_and_seed(swept):
    check_table(swept)
    found = read_json(swept / "sweep.json")
    assert [tuple(row["settings"].values()) for row in found["rows"]] == [
        (0.0, 0.03), (0.0, 0.001), (5.0, 0.03), (5.0, 0.001)]
    assert len({number["by_seed"][0] for row in found["rows"]
                for number in [row["numbers"]["score"]]}) >= 3       # they do differ
    assert found["sources"] == sources.own_digest() and found["settings"]["sft.steps"] == 2
    assert "ppo.beta" not in found["settings"] and "seed" not in found["settings"]


def test_a_run_of_the_table_is_an_ordinary_run_of_its_settings(swept):
    found = read_json(swept / "sweep.json")
    for row in found["rows"]:
        for name, seed in zip(row["runs"], found["seeds"], strict=True):
            config = read_json(swept / found["sources"][:12] / name / "config.json")
            assert config["seed"] == seed and config["backend"] == "numpy"
            assert [config["ppo"]["beta"], config["ppo"]["lr_policy"]] == list(
                row["settings"].values())
            assert (swept / found["sources"][:12] / name / "report.html").exists()


def test_runs_that_begin_alike_share_their_beginning_and_nothing_is_done_twice(swept):
    stages = [name.split("-")[0] for name in begun(swept)]
    assert {stage: stages.count(stage) for stage in stages} == {
        "base": 3, "sft": 3, "reward": 3, "policy": 12, "evaluated": 12}
    assert sorted(begun(swept)) == sorted(set(begun(swept))) == sorted(ended(swept))


def test_the_same_sweep_again_does_nothing_and_says_the_same(swept, monkeypatch):
    before = (swept / "sweep.md").read_bytes(), commands_of(swept)
    monkeypatch.setattr(command, "computing", None)
    assert call(*SWEEP, "--out", str(swept)) == 0
    assert ((swept / "sweep.md").read_bytes(), commands_of(swept)) == before


def test_a_larger_sweep_makes_what_is_new(swept, tmp_path):
    shutil.copytree(swept, tmp_path / "out")
    before = begun(tmp_path / "out")
    larger = ["ppo.beta=0,5,1" if word == "ppo.beta=0,5" else word for word in SWEEP]
    with here():
        assert call(*larger, "--out", str(tmp_path / "out")) == 0
    new = begun(tmp_path / "out")[len(before):]
    assert sorted(name.split("-")[0] for name in new) == ["evaluated"] * 6 + ["policy"] * 6


def sweep_of(patches, out: Path) -> Path:
    """The small sweep by a mutant of the package."""
    with here(), pytest.MonkeyPatch.context() as patch:
        for place, name, mutant in patches:
            patch.setattr(place, name, mutant)
        assert call(*SWEEP, "--out", str(out)) == 0
    return out


def seedless(self, stage, wanted, seed):
    return real_name(self, stage, wanted, 0)


real_name, real_row = Store.name, tables.row
MUTANTS = {
    "a name without the seed": (Store, "name", seedless),
    "seeds in another order": (command, "row", lambda settings, runs, stage: real_row(
        settings, sorted(runs), stage)),
    "one seed only": (command, "row", lambda settings, runs, stage: real_row(
        settings, [runs[0]] * len(runs), stage)),
    "the SFT model's numbers": (tables, "read", lambda run, stage: {
        key: float(np.mean([row[key] for row in read_jsonl(run / "samples.jsonl")
                            if row["model"] == "sft"])) for key in ("gold", "score", "kl")})}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_sweep_that_mixes_its_runs_up_breaks_the_law(mutant, swept, tmp_path):
    if mutant != "a name without the seed":
        shutil.copytree(swept, tmp_path / "out")               # what is wrong is the table alone
    sweep_of([MUTANTS[mutant]], tmp_path / "out")
    assert breaks(check_table, tmp_path / "out")


# --- the table by hand ---------------------------------------------------------------------------

def test_a_table_by_hand():
    """Of 0.1 and 0.3 the standard error is 0.1, and t of one degree of freedom 12.706."""
    rows = [Row({"ppo.beta": 0.0, "world.panel": ("rushed", "careful")}, ["a", "b"],
                {"gold": [0.1, 0.3], "kl": [2.0, 2.0]}),
            Row({"ppo.beta": 0.25, "world.panel": ("rushed",)}, ["c", "d"],
                {"gold": [-1.0, -1.0], "kl": [1.0, 3.0]})]
    assert table(rows) == """\
| ppo.beta |    world.panel |     gold score | KL to SFT (nats) |
| -------: | -------------: | -------------: | ---------------: |
|      0.0 | rushed careful | +0.200 ± 1.271 |      2.00 ± 0.00 |
|     0.25 |         rushed | −1.000 ± 0.000 |     2.00 ± 12.71 |"""
    assert rows[0].told()["numbers"]["gold"] == {
        "mean": pytest.approx(0.2), "interval": pytest.approx(1.2706), "by_seed": [0.1, 0.3]}


def test_one_seed_has_no_interval():
    assert written([0.5], "+z.3f") == "+0.500"
    told = Row({}, ["a"], {"gold": [0.5]}).told()
    assert told["numbers"]["gold"]["interval"] is None


def test_a_sweep_to_the_reward_model_tells_its_accuracy(tmp_path):
    flags = [word if word != "6" else "40" for word in SMALL]               # pairs to be held out
    flags = flags[:flags.index("--ppo.steps")] + flags[flags.index("--evaluation.samples"):]
    with here():
        assert call("sweep", "--stage", "reward", "--vary", "reward.lr=0.01,0.001", "--seeds", "0",
                    "--out", str(tmp_path), *flags) == 0
    found = read_json(tmp_path / "sweep.json")
    for row in found["rows"]:
        folder = tmp_path / found["sources"][:12] / row["runs"][0]
        [accuracy] = row["numbers"]["accuracy"]["by_seed"]
        assert accuracy == read_json(folder / "reward" / "accuracy.json")["all"]["accuracy"]
        assert not (folder / "policy").exists()


# --- whoever dies --------------------------------------------------------------------------------

TWENTY = ["sweep", "--vary", "ppo.beta=0,0.2,1,5", "--seeds", "0", "1", "2", "3", "4", *SMALL,
          "--ppo.steps", "3"]
COMMANDS = 5 * 3 + 20 * 2


def check_twenty(out: Path, deaths: int = 1) -> None:
    """Law: 20 results, each made once, though so many processes died at work."""
    found = read_json(out / "sweep.json")
    runs = [name for row in found["rows"] for name in row["runs"]]
    assert len(runs) == len(set(runs)) == 20
    assert all(np.isfinite(number["by_seed"]).all() for row in found["rows"]
               for number in row["numbers"].values())
    assert len(ended(out)) == len(set(ended(out))) == COMMANDS
    assert len(begun(out)) == COMMANDS + deaths and set(begun(out)) == set(ended(out))
    for folder in out.glob("*/policy-*"):
        steps = [row["step"] for row in read_jsonl(folder / "metrics.jsonl")
                 if row["stage"] == "PPO"]
        assert steps == [0, 1, 2], folder.name


def bits(out: Path) -> dict[str, bytes]:
    """All models of a sweep."""
    return {str(path.relative_to(out)): path.read_bytes()
            for path in out.glob("*/*/*/model.safetensors")}


def let_one_die(out: Path, after: int) -> None:
    """The process that begins a command after so many have ended will be killed in its midst."""
    folder = out / sources.own_digest()[:12]
    folder.mkdir(parents=True)
    (folder / "kill").write_text(str(after))


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """Twenty runs that nobody disturbed."""
    out = tmp_path_factory.mktemp("twenty")
    with here():
        assert call(*TWENTY, "--out", str(out)) == 0
    check_twenty(out, deaths=0)
    return out


def test_a_process_that_is_killed_midway_costs_the_run_in_hand_and_no_result(tmp_path, monkeypatch,
                                                                             twenty):
    monkeypatch.setattr(store, "make", counted.make)
    let_one_die(tmp_path, after=30)
    assert call(*TWENTY, "--workers", "2", "--out", str(tmp_path)) == 0
    check_twenty(tmp_path)
    assert (tmp_path / "sweep.md").read_text().split("|", 1)[1] == (
        twenty / "sweep.md").read_text().split("|", 1)[1]
    assert bits(tmp_path) == bits(twenty)


def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path, twenty, monkeypatch):
    stops, real = [7, 20], command.tqdm

    class Stopped(real):
        def update(self, n=1):
            super().update(n)
            if stops and self.n == stops[0]:
                del stops[0]
                raise KeyboardInterrupt

    monkeypatch.setattr(command, "tqdm", Stopped)
    with here():
        assert call(*TWENTY, "--out", str(tmp_path)) == 130
        assert 7 <= len(ended(tmp_path)) <= 8 and not (tmp_path / "sweep.json").exists()
        assert call(*TWENTY, "--out", str(tmp_path)) == 130
        assert call(*TWENTY, "--out", str(tmp_path)) == 0
    check_twenty(tmp_path, deaths=0)
    assert bits(tmp_path) == bits(twenty)


def test_the_law_of_twenty_can_be_broken(twenty, tmp_path):
    shutil.copytree(twenty, tmp_path / "out")
    [log] = (tmp_path / "out").glob("*/commands.log")
    text = log.read_text()
    name = ended(twenty)[-1]
    log.write_text(text + f"begun {name} 1\nended {name} 1\n")               # made again
    assert breaks(check_twenty, tmp_path / "out")
    log.write_text(text)
    found = read_json(tmp_path / "out" / "sweep.json")
    found["rows"][0]["runs"][0] = found["rows"][0]["runs"][1]               # told twice
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(found))
    assert breaks(lambda out: check_twenty(out, deaths=0), tmp_path / "out")


def test_a_process_that_dies_again_and_again_is_told_in_words(tmp_path):
    with pytest.raises(RuntimeError, match="has died, perhaps for lack of memory, and so have 2"):
        with processes(1) as submit:
            submit(die, tmp_path).result()
    assert len(list(tmp_path.iterdir())) == LIVES


def test_another_process_goes_on_while_one_is_replaced(tmp_path):
    with processes(2) as submit:
        other = submit(os.getpid).result()
        dead = submit(die, tmp_path)
        assert submit(os.getpid).result() != os.getpid() and other
        with pytest.raises(RuntimeError, match="has died"):
            dead.result()
        assert submit(abs, -3).result() == 3


def die(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    os._exit(1)


# --- one process at a time for a run -------------------------------------------------------------

def base_job(out: Path) -> store.Job:
    """What makes a base model."""
    return Store(out).jobs(kinds(*SMALL)[0].wanted, 0)[0]


def made_once_by_two(out: Path, does) -> None:
    """Law: where two processes are asked for one run at once, both are content, and one made it."""
    job = base_job(out)
    with processes(2) as submit:
        for ready in [submit(os.getpid) for _ in range(2)]:       # both have started
            ready.result()
        both = [submit(does, *job.arguments) for _ in range(2)]
        problems = [future.exception() for future in both]
    assert problems == [None, None]
    assert begun(out) == ended(out) == [job.name]


def test_two_processes_that_are_asked_for_one_run_make_it_once(tmp_path):
    made_once_by_two(tmp_path, counted.make)


def test_without_the_lock_two_processes_collide(tmp_path):
    assert breaks(lambda out: made_once_by_two(out, counted.make_unguarded), tmp_path)


def test_a_lock_is_held_and_is_gone_with_its_process(tmp_path):
    run = tmp_path / "policy-0-abc"
    with pytest.raises(FileNotFoundError):
        locked_elsewhere(run)
    with alone(run):
        assert locked_elsewhere(run)
    assert not locked_elsewhere(run)
    with processes(1) as submit, pytest.raises(RuntimeError, match="has died"):
        submit(die_with_a_lock, run).result()
    for _ in range(1000):                     # what has died may still be closing its files
        if not locked_elsewhere(run):
            break
        time.sleep(0.01)
    assert not locked_elsewhere(run) and lock_file(run).stat().st_size == 0


def die_with_a_lock(run: Path) -> None:
    with alone(run):
        os._exit(1)


# --- what a worker of a cluster is asked first ---------------------------------------------------

def fake_dask(patch, threads: int = 1) -> None:
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=threads))
    patch.setattr(cluster, "required", lambda: SimpleNamespace(get_worker=lambda: worker))


def test_a_worker_that_can_do_it_does_it(tmp_path, monkeypatch):
    fake_dask(monkeypatch)
    with alone(tmp_path / "token"):
        assert cluster.on_a_worker(
            sources.own_digest(), tmp_path / "token", "builtins", "max", 2, 3) == 3


@pytest.mark.parametrize("digest, seen, locks, threads, told", [
    ("another", True, True, 1, "has other code"),
    (None, False, True, 1, "does not see"),
    (None, True, False, 1, "a file system without locks"),
    (None, True, True, 4, "has 4 threads")])
def test_a_worker_that_cannot_says_why(digest, seen, locks, threads, told, tmp_path, monkeypatch):
    fake_dask(monkeypatch, threads)
    token = tmp_path / "token"
    with alone(token) if locks else nullcontext():
        if seen and not locks:
            with alone(token):
                pass
        asked = token if seen else tmp_path / "elsewhere" / "token"
        with pytest.raises(RuntimeError, match=f"the worker on .* {told}"):
            cluster.on_a_worker(digest or sources.own_digest(), asked, "pytest", "fail", "done")


def test_without_dask_it_is_told_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'minirlhf[cluster]'" in one_line(
        capsys, "sweep", "--scheduler", "tcp://127.0.0.1:1")


# --- a Dask cluster ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def address():
    """Of the scheduler of a cluster of two workers on this machine."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0",
                                  silence_logs=50) as local:
        yield local.scheduler_address


def test_a_worker_that_is_killed_midway_costs_the_run_in_hand_and_no_result(address, tmp_path,
                                                                            monkeypatch, twenty):
    monkeypatch.setattr(store, "make", counted.make)
    let_one_die(tmp_path, after=30)
    assert call(*TWENTY, "--scheduler", address, "--out", str(tmp_path)) == 0
    check_twenty(tmp_path)
    assert bits(tmp_path) == bits(twenty)
    assert len({process for *_, process in commands_of(tmp_path)}) >= 2
    assert str(os.getpid()) not in {process for *_, process in commands_of(tmp_path)}


def test_what_fails_on_a_worker_is_told_as_here(address, tmp_path):
    made = Store(tmp_path)
    job = base_job(tmp_path)
    argv, folder = job.arguments
    with pytest.raises(RuntimeError, match="minirlhf pretrain .*failed: .*must be positive, got 0"):
        with cluster.computing(address, made.folder) as (submit, room):
            store.do({job.name: job._replace(arguments=([*argv, "--sft.steps", "0"], folder))},
                     submit, room=room)
    assert not list(lock_file(folder).parent.glob("sweep-*"))


def test_a_worker_that_sees_another_folder_is_refused(address, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "lock_file", lambda token: lock_file(tmp_path / "gone"))
    real = cluster.alone
    monkeypatch.setattr(cluster, "alone", lambda token: real(tmp_path / "elsewhere" / token.name))
    with pytest.raises(RuntimeError, match=f"does not see {tmp_path}"):
        with cluster.computing(address, tmp_path) as (submit, _):
            submit(max, 2, 3).result()


def test_a_worker_without_the_package_is_told(address, tmp_path):
    from distributed import Client
    name = "minirlhf.sweeping.cluster"
    with Client(address, set_as_default=False) as client:
        client.run(lambda: __import__("sys").modules.__setitem__(name, None))
        try:
            with pytest.raises(RuntimeError, match="cannot import minirlhf .*; install it where"):
                with cluster.computing(address, tmp_path) as (submit, _):
                    submit(max, 2, 3).result()
        finally:
            client.run(lambda: __import__("sys").modules.pop(name))


def test_a_run_that_ends_every_worker_is_told(address, tmp_path):
    with pytest.raises(RuntimeError, match="has ended every worker that tried it"):
        with cluster.computing(address, tmp_path) as (submit, _):
            submit(die, tmp_path).result()
    assert len([path for path in tmp_path.iterdir() if path.name.isdigit()]) == 4


def test_claims_can_be_tried_on_a_cluster(address, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    claims_command.make_importable()
    from experiment import command as claims
    (tmp_path / "pages").mkdir()
    monkeypatch.setattr(claims, "mkdtemp", lambda prefix: str(tmp_path / "pages"))
    monkeypatch.setattr(claims.pages, "explanations", dict)
    assert call("claims", "02", "--quick", "--scheduler", address, "--cache",
                str(tmp_path / "cache")) == 0
    assert (tmp_path / "pages" / "02-sft-is-not-enough.md").exists()


def test_where_no_scheduler_is_it_is_told(capsys, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in one_line(
        capsys, "sweep", "--scheduler", "tcp://127.0.0.1:1")

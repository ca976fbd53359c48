"""Laws of `scripts/benchmark.py`: who may have a figure, what a figure is, and that its page is
made of its results."""

import json
import mmap
import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import random_model

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from benchmarking import agreement, ratios, rows, tasks, turns, worker  # noqa: E402
from benchmarking import page as pages  # noqa: E402
from benchmarking.processes import (  # noqa: E402
    COMPILED,
    OURS,
    TORCH,
    Contender,
    Worker,
    in_short,
    python,
    surroundings,
)
from benchmarking.results import read  # noqa: E402
from benchmarking.tables import machines, share  # noqa: E402
from benchmarking.whole_run import between  # noqa: E402

from minirlhf.sampling import sample  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
EFFORT = turns.Effort(turns=3, block=0.4, threads=1, shards=1, cache=Path("nowhere"))
measured = pytest.mark.skipif(not PAGE.exists(), reason="docs/performance.md is not measured yet")


# --- from turns to a ratio -----------------------------------------------------------------------

def test_a_ratio_is_the_median_of_the_turns_ratios_with_their_quartiles():
    found = ratios.ratio({"a": [1.00, 1.02, 1.04], "b": [2.04, 2.00, 2.02]}, "b", "a")
    # 2.04, 1.9608, 1.9423: the medians' own ratio would be 1.9804
    assert found == pytest.approx((2.00 / 1.02, (2.00 / 1.02 + 2.02 / 1.04) / 2,
                                   (2.04 + 2.00 / 1.02) / 2))


def test_above_one_is_faster():
    assert ratios.ratio({"ours": [1.0] * 3, "theirs": [2.0] * 3}, "theirs", "ours").median == 2


@given(st.lists(st.floats(0.98, 1.02), min_size=3, max_size=15), st.floats(1e-5, 1e3),
       st.floats(0.1, 10))
def test_what_slows_both_sides_of_a_turn_changes_no_ratio(drift, seconds, factor):
    ours = [seconds * slower for slower in drift]
    theirs = [factor * second for second in ours]
    assert ratios.ratio({"a": ours, "b": theirs}, "b", "a") == pytest.approx((factor,) * 3)


@pytest.mark.parametrize("noisy", ["a", "b"])
def test_a_ratio_is_refused_where_either_side_spreads_more_than_a_tenth(noisy):
    still = [1.0, 1.0, 1.0, 1.0, 1.0]
    for quartile, refused in ((1.09, False), (1.12, True)):
        turns_of = {"a": still, "b": still} | {noisy: [1.0, 1.0, 1.0, quartile, 9.0]}
        if refused:
            other = "b" if noisy == "a" else "a"
            with pytest.raises(ValueError, match=f"too noisy: .*{noisy} ± 12 %") as told:
                ratios.ratio(turns_of, "b", "a")
            assert f"{other} ± 0 %" in str(told.value)
        else:
            assert ratios.ratio(turns_of, "b", "a").median == 1


def test_one_wild_turn_is_no_noise_and_moves_no_median():
    assert ratios.spread([1.0, 1.0, 1.0, 1.0, 50.0]) == 0
    assert ratios.median([1.0, 1.0, 1.0, 1.0, 50.0]) == 1


def test_the_spread_is_a_share_of_the_median():
    assert ratios.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert ratios.spread([100.0, 200.0, 300.0, 400.0, 500.0]) == pytest.approx(2 / 3)


def test_turns_come_in_pairs():
    with pytest.raises(ValueError, match="a had 2 and b 3"):
        ratios.ratio({"a": [1.0] * 2, "b": [1.0] * 3}, "b", "a")


@given(st.floats(-2, 3), st.floats(1e-6, 1e3),
       st.lists(st.integers(1, 10**4), min_size=4, max_size=8, unique=True))
def test_the_exponent_of_a_power_is_found(p, a, sizes):
    assert ratios.exponent(sizes, [a * size**p for size in sizes]) == pytest.approx(p, abs=1e-6)


def test_the_exponent_is_the_least_squares_slope_of_the_logarithms():
    # costs 2, 2, 8, 8 at 1, 2, 4, 8: slope of (0, 1), (1, 1), (2, 3), (3, 3) is 4/5
    assert ratios.exponent([1, 2, 4, 8], [2, 2, 8, 8]) == pytest.approx(0.8)


def test_three_points_or_costs_of_other_sizes_make_no_exponent():
    for sizes, costs in (([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], [1, 2, 3])):
        with pytest.raises(ValueError, match="wants 4 points"):
            ratios.exponent(sizes, costs)


# --- turns ---------------------------------------------------------------------------------------

class Steady:
    """A task that takes the same time whenever it is run, and keeps what it was asked."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, seconds, log

    def run(self, count, warm=0, result=False):
        self.log.append((self.name, count, warm))
        return {"seconds": self.seconds, "faults": 7.0, "result": None}


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)
    return []


def test_contenders_take_turns_in_blocks_of_one_length(log):
    found = turns.take_turns({"a": Steady("a", 0.01, log), "b": Steady("b", 0.04, log)}, EFFORT)
    assert log[-6:] == [("a", 40, 1), ("b", 10, 1)] * 3
    assert found == {"seconds": {"a": [0.01] * 3, "b": [0.04] * 3},
                     "faults": {"a": [7.0] * 3, "b": [7.0] * 3}}


def test_what_takes_longer_than_a_block_is_done_once_a_turn(log):
    turns.take_turns({"a": Steady("a", 3.0, log)}, EFFORT)
    assert log == [("a", 1, turns.WARM)] + [("a", 1, 0)] * 3


# --- the process of a contender ------------------------------------------------------------------

def test_a_run_is_timed_without_its_warm_up(monkeypatch):
    now, calls = [0.0], []

    def once():
        calls.append(now[0])
        now[0] += 100.0 if len(calls) <= 2 else 1.0              # slow while it is cold
        return np.array([len(calls)])
    monkeypatch.setattr(worker, "perf_counter", lambda: now[0])
    found = worker.run(once, count=5, warm=2, result=True)
    assert len(calls) == 7 and found["seconds"] == 1.0 and found["result"] == [7]
    assert "result" not in worker.run(once, count=1)


def test_memory_counts_what_is_touched():
    before = worker.memory()
    kept = np.frombuffer(mmap.mmap(-1, 2**26), np.float64)       # 64 MiB that no array has had
    kept[...] = 1
    after = worker.memory()
    assert after["peak"] >= after["resident"] and before["peak"] >= before["resident"]
    if worker.STATUS.exists():
        assert kept.nbytes * 0.9 < after["resident"] - before["resident"] < kept.nbytes * 1.2


def test_a_worker_answers_and_goes_on_after_what_failed(tmp_path):
    size = tasks.MINUTE
    rows.write_models(tmp_path, size)
    task = size.task("step", folder=str(tmp_path), shards=2, compile=False)
    with Worker("ours", sys.executable, threads=1) as ours:
        with pytest.raises(RuntimeError, match="no_such_work"):
            ours.prepare("a", task | {"work": "no_such_work"})
        step = ours.prepare("a", task)
        first = step.run(1, result=True)
        last = step.run(50, warm=1, result=True)
        assert 0 < last["result"] < first["result"]              # it learns
        assert last["seconds"] > 0 and last["faults"] >= 0
        assert last["peak"] > last["imported"] > 2**20
        assert "NumPy" in ours.ask(do="ask", what="versions")["result"]
    assert ours.process.returncode == 0


def test_a_worker_that_dies_says_its_last_words():
    dead = Worker("nothing_of_this_name", sys.executable, threads=1)
    with dead, pytest.raises(RuntimeError, match="nothing_of_this_name"):
        dead.ask(do="ask", what="versions")
    with Worker("ours", "false", threads=1) as ended, pytest.raises(RuntimeError, match="ended"):
        ended.ask(do="ask", what="versions")


def test_contenders_get_the_same_threads_and_nothing_that_is_tuned(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
                 "MALLOC_ARENA_MAX", "OMP_WAIT_POLICY", "LD_PRELOAD"):
        monkeypatch.setenv(name, "1")
        assert name not in surroundings(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("HOME", "kept")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        assert surroundings(3)[name] == "3"
    assert surroundings(3)["HOME"] == "kept"


def test_a_contender_that_is_not_installed_is_told_with_the_remedy():
    with pytest.raises(RuntimeError, match=r"nowhere_found not installed; pip install.*bench"):
        python(Contender("x", "x", ("nowhere_found", "numpy")), Path("cache"))
    assert python(OURS, Path("cache")) == sys.executable


def test_no_folder_of_the_machine_is_in_a_problem():
    told = in_short("OSError: /home/me/.cache/x.so: cannot open\nand so on")
    assert told == "OSError: …: cannot open"
    assert in_short("20 and/or 3/4 https://example.org/x") == "20 and/or 3/4 https://example.org/x"


# --- the same results, or no figure --------------------------------------------------------------

def test_losses_may_differ_by_rounding_only():
    assert agreement.losses(4.0, 4.003) is None
    assert "its loss is 4.005" in agreement.losses(4.0, 4.005)
    assert agreement.losses(4.0, float("nan")) is not None


def test_iterations_must_be_the_same_work():
    assert agreement.work({"updates": 16, "length": 24.0}, {"updates": 16, "length": 24.0}) is None
    assert "15" in agreement.work({"updates": 16, "length": 24.0}, {"updates": 15, "length": 24.0})


@pytest.fixture(scope="module")
def greedy():
    params, config = random_model(vocab=12, context=16)
    config = replace(config, pad_id=None, eos_id=None)
    prompts = np.random.default_rng(0).integers(12, size=(4, 3)).tolist()
    made = sample(params, config, prompts, 5, temperature=0, rng=np.random.default_rng(0))
    return params, config, prompts, made.tokens.tolist()


def test_equal_replies_agree_and_others_do_not(greedy):
    params, config, prompts, ours = greedy
    assert agreement.replies(params, config, prompts, ours, ours) is None
    other = [row[:] for row in ours]
    other[2][1] = (other[2][1] + 1) % 12
    assert "1 of 4 greedy replies differ" in agreement.replies(params, config, prompts, ours, other)
    assert "(4, 4), ours (4, 5)" in agreement.replies(params, config, prompts, ours,
                                                      [row[:4] for row in ours])


def test_rows_that_part_at_a_tie_are_a_tie_whatever_follows(greedy):
    params, config, prompts, ours = greedy
    likeliest = ours[1][2]
    twin = (likeliest + 1) % 12
    tied = {**params, "wte": {"weight": params["wte"]["weight"].copy()}}
    # twins as outputs: the head's row decides, as long as neither was said before
    tied["wte"]["weight"][twin] = tied["wte"]["weight"][likeliest]
    ours = sample(tied, config, prompts, 5, temperature=0, rng=np.random.default_rng(0))
    ours = ours.tokens.tolist()
    theirs = [[twin if token == likeliest else (token + 5 * (likeliest in row[:t])) % 12
               for t, token in enumerate(row)] for row in ours]
    assert theirs != ours
    assert agreement.replies(tied, config, prompts, ours, theirs) == agreement.TIED


class Answering(Steady):
    """A worker whose tasks have one result, or which cannot do them."""

    def __init__(self, result, log):
        super().__init__("", 0.5, log)
        self.result = result

    def prepare(self, name, task):
        self.log.append(task)
        if isinstance(self.result, Exception):
            raise self.result
        return self

    def run(self, count, warm=0, result=False):
        return super().run(count) | {"result": self.result}


def differ(task, folder, ours, theirs):
    return None if ours == theirs else f"{theirs} is not {ours}"


def test_only_contenders_with_our_result_are_timed(log):
    workers = {"ours": (OURS, Answering(1, log)), "PyTorch": (TORCH, Answering(2, log)),
               "torch.compile": (COMPILED, Answering(RuntimeError("no compiler"), log)),
               "x": (Contender("x", "x"), Answering(1, log))}
    ready, problems = rows.prepared(workers, {"folder": ""}, differ)
    assert list(ready) == ["ours", "x"]
    assert problems == {"PyTorch": "2 is not 1", "torch.compile": "no compiler"}
    assert [given["compile"] for given in log if isinstance(given, dict)] == [False, False, True,
                                                                              False]


def test_without_our_own_result_a_row_has_none(log):
    workers = {"ours": (OURS, Answering(RuntimeError("no memory"), log))}
    with pytest.raises(RuntimeError, match="no memory"):
        rows.prepared(workers, {"folder": ""}, differ)
    assert rows.measured(lambda effort: rows.prepared(workers, {"folder": ""}, differ), EFFORT) == {
        "problem": "no memory"}


@pytest.mark.parametrize("ties", [0, 2, 9])
def test_after_a_tie_the_next_seed_is_tried_and_in_the_end_there_is_no_figure(ties, log,
                                                                              monkeypatch):
    workers = {name: (one, Answering(1, log)) for name, one in (("ours", OURS), ("PyTorch", TORCH))}

    @contextmanager
    def working(*_):
        yield workers, {"TRL": "not here"}, "folder"

    def differ(task, folder, ours, theirs):
        return agreement.TIED if task["seed"] < ties else None
    monkeypatch.setattr(rows, "working", working)
    found = rows.compared((OURS, TORCH), EFFORT, tasks.MINUTE, {}, differ, range(5))
    assert found["seed"] == min(ties, 4)
    assert list(found["seconds"]) == ([] if ties > 4 else ["ours", "PyTorch"])
    assert found["problems"]["TRL"] == "not here"


# --- tasks ---------------------------------------------------------------------------------------

def test_the_flops_of_a_step_are_those_counted_by_hand():
    # one layer, C = 2, two rows of T = 3 tokens: 6 tokens, V = 5
    # queries, keys, values 2·6·2·6 = 144; after attention 2·6·2·2 = 48; mlp 2·6·2·8 twice = 384
    # attention: 2 rows of 3 × 3 dot products of 2 numbers, 2·2·9·2 = 72, and as much for values
    # logits 2·6·2·5 = 120; backward twice all that
    size = tasks.Size(layers=1, channels=2, heads=1, tokens=3, batch=2, vocab=5)
    assert tasks.step_flops(size) == 3 * (144 + 48 + 384 + 72 + 72 + 120)


@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 32), st.integers(1, 8),
       st.integers(1, 64))
def test_flops_grow_with_the_batch_and_not_with_the_heads(layers, width, length, batch, vocab):
    size = tasks.Size(layers, 4 * width, 2, length, batch, vocab)
    assert tasks.step_flops(replace(size, batch=2 * batch)) == 2 * tasks.step_flops(size)
    assert tasks.step_flops(replace(size, heads=4)) == tasks.step_flops(size)


def test_everybody_draws_the_same_tokens_of_the_vocabulary():
    task = tasks.SIZES["tiny"].task("step")
    assert tasks.batch(task).shape == (32, 32) and tasks.batch(task).max() == 63
    np.testing.assert_array_equal(tasks.batch(task), tasks.batch(json.loads(json.dumps(task))))
    assert (tasks.prompts(task) != tasks.prompts(task | {"seed": 1})).any()


def test_a_wider_model_has_more_heads_of_one_width():
    for value, heads in ((64, 2), (256, 8)):
        size = rows.grown(tasks.SIZES["small"], "channels", value)
        assert (size.channels, size.heads) == (value, heads)
    assert rows.grown(tasks.SIZES["small"], "layers", 8).heads == 4


def test_every_axis_has_enough_points_for_an_exponent_and_small_among_them():
    for axis, values in rows.AXES.items():
        assert len(values) >= ratios.MINIMUM
        assert getattr(tasks.SIZES["small"], axis) in values


# --- rows ----------------------------------------------------------------------------------------

def test_rows_are_selected_by_their_name_or_their_kind():
    names = list(rows.rows(quick=False))
    assert rows.named([], names) == names
    assert rows.named(["ppo", "step-tiny"], names) == ["step-tiny", "ppo-tiny", "ppo-small"]
    assert rows.named(["run"], names) == ["run"]
    with pytest.raises(ValueError, match="no row 'steps'; there are step, rollout, .*step-medium"):
        rows.named(["steps"], names)


def test_the_time_of_a_stage_is_from_the_last_ones_end_to_its_own():
    found = between(100.0, {"pretrain": 130.0, "sft": 142.5}, 145.0)
    assert found == {"pretrain": 30.0, "sft": 12.5, "report": 2.5}


# --- the page ------------------------------------------------------------------------------------

UNDER = {"processor": "A processor", "cores": 2, "threads": 2, "shards": 2, "turns": 5,
         "versions": {"NumPy": "2"}, "libraries": {"ours": ["openblas"], "PyTorch": ["MKL"]},
         "missing": {}, "peaks": {"ours": 100.0, "PyTorch": 50.0}}
STEP = {"conditions": UNDER, "flops": 4e9, "problems": {"torch.compile": "no compiler"},
        "seconds": {"ours": [0.1] * 5, "PyTorch": [0.2] * 5},
        "faults": {"ours": [3.0] * 5, "PyTorch": [4.0] * 5}}


def made(results):
    return pages.page(results, list(rows.rows(quick=False)), remarks=Path("nowhere"))


def test_a_table_shows_times_ratios_and_shares_of_each_sides_own_peak():
    line = next(line for line in made({"step-tiny": STEP}).splitlines()
                if line.startswith("| tiny | 100"))
    assert line == ("| tiny | 100 ms ± 0 % | 200 ms ± 0 % | – | 40% | 40% | – | "
                    "**2.00** (2.00–2.00) | below |")
    assert share(STEP, "torch.compile") == "–"


def test_a_noisy_ratio_is_refused_in_the_table():
    noisy = STEP | {"seconds": {"ours": [0.1, 0.1, 0.1, 0.15, 0.2], "PyTorch": [0.2] * 5}}
    text = made({"step-tiny": noisy})
    assert "| too noisy: ours ± 50 %, PyTorch ± 0 % |" in text and "**2.00**" not in text


def test_an_exponent_of_noisy_points_is_refused():
    still = {"conditions": UNDER, "values": [1, 2, 4, 8], "flops": [1, 2, 4, 8],
             "seconds": [[1.0] * 5, [2.0] * 5, [4.0] * 5, [8.0] * 5]}
    assert "| **1.00** | 1.00 |" in made({"growth-batch": still})
    wild = still | {"seconds": [*still["seconds"][:3], [8.0, 8.0, 8.0, 10.0, 12.0]]}
    text = made({"growth-batch": wild})
    assert "| too noisy: 1 ± 0 %, 2 ± 0 %, 4 ± 0 %, 8 ± 25 % |" in text


def test_why_there_is_no_figure_is_said_once_with_the_rows():
    text = made({"step-tiny": STEP, "step-small": STEP,
                 "run": {"conditions": UNDER, "problem": "no space left"}})
    assert text.count("torch.compile: no compiler") == 1
    assert "- `step-tiny`, `step-small`: torch.compile: no compiler\n" in text
    assert "- `run`: no space left\n" in text
    assert "- `step-medium`, `rollout-tiny`, " in text


def test_conditions_are_told_once_where_all_rows_share_them():
    one, other = STEP, STEP | {"conditions": UNDER | {"processor": "Another"}}
    assert machines({"step-tiny": one, "step-small": one}).count("A processor") == 1
    assert "Rows" not in machines({"step-tiny": one, "step-small": one})
    told = machines({"step-tiny": one, "step-small": other})
    assert "Rows `step-tiny`:" in told and "Rows `step-small`:" in told and "Another" in told


def test_rows_stand_in_their_order_whenever_they_were_measured():
    text = made({"step-small": STEP, "step-tiny": STEP})
    assert text.index("| tiny | 100 ms") < text.index("| small | 100 ms")


def test_what_is_written_by_hand_stands_at_the_end(tmp_path):
    (tmp_path / "remarks.md").write_text("## What helped\n\nThis.\n")
    text = pages.page({}, ["run"], remarks=tmp_path / "remarks.md")
    assert text.endswith("\n## What helped\n\nThis.\n") and "not measured yet" in text


@measured
def test_the_page_is_made_of_the_results_beside_it():
    results = read(PAGE.with_suffix(".json"))
    assert pages.page(results, list(rows.rows(quick=False))) == PAGE.read_text(encoding="utf-8")


@measured
def test_the_results_are_json_without_a_machine_in_them():
    text = json.dumps(read(PAGE.with_suffix(".json")))
    assert not re.search(r"(?<![\w./:-])/[\w.-]+/", text)              # no absolute path



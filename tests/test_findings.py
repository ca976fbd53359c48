"""Laws of what a run's folder is read for: names of models, looks, the best policy; and of the
terminal's texts about them."""

import numpy as np
import pytest
from helpers import SAMPLES, breaks, sample
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import report
from minirlhf.files import write_json, write_jsonl
from minirlhf.findings import (
    TITLES,
    algorithm,
    looks,
    model_size,
    models_in_memory,
    part,
    read_best,
    setting,
    titles_of,
)
from minirlhf.memory import Held
from minirlhf.settings import RunConfig
from minirlhf.watching import BANDS, marks


def look(step, stage="PPO, validation", **more) -> dict:
    """A look at a policy in which nothing has moved yet."""
    still = {"score": 0.0, "kl": 0.0, "objective": 0.0, "length": 10.0, "unfinished": 0.0,
             "repetition": 0.0, "refusal": 0.3, "courtesy": 0.5}
    return {"stage": stage, "step": step} | still | more


def fell(by, error=0.1) -> dict:
    return {"gold_fall": by, "gold_fall_error": error}


WELL = [look(0, gold=0.0), look(4, score=0.5, gold=0.4, **fell(-0.4)),
        look(8, score=0.75, gold=0.5, **fell(-0.1))]
HACKED = [look(0, gold=0.0), look(4, score=0.5, gold=0.4, **fell(-0.4)),
          look(8, score=1.0, gold=-0.5, length=30.0, **fell(0.9)),
          look(12, score=2.0, gold=-1.5, length=31.0, kl=20.0, **fell(1.9))]
BEST = {"step": 4, "by": "gold", "value": 0.4}


# --- names ---------------------------------------------------------------------------------------

def law_titles_by_hand(titles_of):
    assert titles_of({}) == {"base": "base", "sft": "SFT", "best-of-n": "best of n", "dpo": "DPO",
                             "policy-best": "PPO best", "policy": "PPO"}
    found = titles_of({"algorithm": "grpo", "rounds": 3, "evaluation": {"best_of": 16}})
    assert found == {"base": "base", "sft": "SFT", "best-of-n": "best of 16", "dpo": "DPO",
                     "round-1": "GRPO round 1", "round-2": "GRPO round 2",
                     "policy-best": "GRPO best", "policy": "GRPO"}


def law_titles_tell_models_apart(titles_of):
    for name in ("ppo", "grpo", "rloo"):
        found = titles_of({"algorithm": name, "rounds": 12})
        assert len(set(found.values())) == len(found) and found["policy"] == name.upper()


LAWS = [law_titles_by_hand, law_titles_tell_models_apart]
MUTANTS = {
    "always PPO": lambda config: titles_of(config | {"algorithm": "ppo"}),
    "one round too many": lambda config: titles_of(
        config | {"rounds": config.get("rounds", 1) + 1}),
    "the best is called as the last": lambda config: titles_of(config) | {
        "policy-best": titles_of(config)["policy"]},
    "n is not said": lambda config: titles_of(config | {"evaluation": {}}),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_titles_keep_the_law(law):
    law(titles_of)


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_titles_are_noticed(name):
    assert any(breaks(law, MUTANTS[name]) for law in LAWS)


JSON = st.recursive(st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from(["best_of", "x"]), inner, max_size=2))


@given(JSON, JSON, JSON)
def test_whatever_a_config_holds_every_model_has_a_name(way, rounds, evaluation):
    config = {"algorithm": way, "rounds": rounds, "evaluation": evaluation}
    assert set(TITLES) <= set(titles_of(config))
    assert algorithm(config) in ("PPO", "GRPO", "RLOO")


def test_a_setting_that_is_not_there_is_the_default():
    config = {"ppo": {"steps": 9}, "seed": "x"}
    assert setting(config, "ppo.steps", 36) == 9 and setting(config, "ppo.beta", 0.2) == 0.2
    assert setting(config, "seed", 0) == 0 and setting(config, "seed.more", 0) == 0


# --- looks, and the best of them -----------------------------------------------------------------

def test_the_looks_of_a_run_are_those_of_its_algorithm_by_round():
    metrics = [look(0), look(4), {"stage": "PPO", "step": 0}, look(0, "PPO, round 2, validation"),
               look(0, "GRPO, validation"), look(0, "PPO, round 3, validation")]
    found = looks(metrics, {"rounds": 2})
    assert {k: [row["step"] for row in rows] for k, rows in found.items()} == {1: [0, 4], 2: [0]}
    assert looks(metrics, {"algorithm": "grpo"}) == {1: [metrics[4]]}
    assert looks(metrics, {"algorithm": "rloo"}) == looks([], {}) == {}
    assert part("PPO", 1) == "PPO" and part("PPO", 2) == "PPO, round 2"


@pytest.mark.parametrize("key", ["score", *(band.key for band in BANDS)])
def test_a_look_that_lacks_a_number_is_named(key):
    broken = {name: x for name, x in look(4).items() if name != key}
    with pytest.raises(ValueError, match=f"PPO, validation, step 4 lacks {key}$"):
        looks([look(0), broken], {})


def test_the_best_policy_is_read_if_it_is_there(tmp_path):
    assert read_best(tmp_path) is None
    write_json(tmp_path / "policy-best" / "best.json", BEST)
    assert read_best(tmp_path) == BEST


@pytest.mark.parametrize("broken", [{}, BEST | {"step": "4"}, BEST | {"by": 3},
                                    {"step": 4, "by": "gold"}])
def test_a_report_of_the_best_that_is_none_is_named(tmp_path, broken):
    write_json(tmp_path / "policy-best" / "best.json", broken)
    with pytest.raises(ValueError, match="best.json wants step, by and value"):
        read_best(tmp_path)


# --- the models in memory ------------------------------------------------------------------------

def with_models(folder, *names, size=250):
    """A run's folder with models of so many numbers in float32."""
    from safetensors.numpy import save_file
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file({"a": np.zeros(size, np.float32)}, folder / name / "model.safetensors")
    return folder


def test_the_size_of_a_model_is_that_of_its_numbers(tmp_path):
    from safetensors.numpy import save_file
    assert model_size(tmp_path) is None
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32),
               "c": np.zeros((), np.float64)}, tmp_path / "model.safetensors")
    assert model_size(tmp_path) == (12 + 5 + 1, 24 + 20 + 8)


def test_the_models_in_memory_are_found_only_if_all_are_there(tmp_path):
    folder = with_models(tmp_path, "policy", "reward", "sft")
    grouped = [Held(name, 250, 1000) for name in ("policy", "reward", "reference")]
    assert models_in_memory(folder, {"algorithm": "rloo"}) == grouped
    assert models_in_memory(folder, {}) == []                              # PPO without its critic
    with_models(tmp_path, "value")
    assert [model.model for model in models_in_memory(folder, {})] == [
        "policy", "value", "reward", "reference"]
    assert models_in_memory(folder, {"algorithm": "grpo"}) == grouped


# --- the terminal --------------------------------------------------------------------------------

def folder_of(tmp_path, metrics, config=None, best=BEST):
    write_json(tmp_path / "config.json", config or {})
    write_jsonl(tmp_path / "metrics.jsonl", metrics)
    if best:
        write_json(tmp_path / "policy-best" / "best.json", best)
    return tmp_path


def test_the_marks_of_a_run_are_told_with_their_steps(tmp_path):
    lines = report.marks_text(folder_of(tmp_path, HACKED)).splitlines()
    found = marks(HACKED)
    assert [mark.kind for mark in found] == ["parting", "length", "kl"]
    assert lines == ["PPO, watched on validation prompts",
                     *(f"  step {mark.step:>3}  {mark.text}" for mark in found),
                     "PPO best is the policy after step 4, where it did best on validation "
                     "prompts: gold +0.40"]


def test_a_run_without_marks_says_so_round_by_round(tmp_path):
    metrics = WELL + [row | {"stage": "GRPO, round 2, validation"} for row in WELL]
    metrics = [row | {"stage": row["stage"].replace("PPO", "GRPO")} for row in metrics]
    by_objective = BEST | {"by": "objective", "value": -0.25}
    lines = report.marks_text(folder_of(tmp_path, metrics, {"algorithm": "grpo", "rounds": 2},
                                        by_objective)).splitlines()
    assert lines[:2] == [f"{name}, watched on validation prompts: nothing left its band"
                         for name in ("GRPO", "GRPO, round 2")]
    assert lines[2].startswith("GRPO best") and lines[2].endswith("score − β·KL -0.25")
    assert len(lines) == 3


def test_a_run_that_was_not_watched_has_nothing_to_tell(tmp_path):
    assert report.marks_text(tmp_path) == ""
    assert report.marks_text(folder_of(tmp_path, [{"stage": "PPO", "step": 0}], best=None)) == ""


MANY = [*SAMPLES[:2], *(sample(name) for name in ("best-of-n", "dpo", "round-1", "policy-best")),
        SAMPLES[2]]


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
@pytest.mark.parametrize("best_of", [2, 16, 1_000_000])
def test_the_table_is_aligned_whatever_the_models_are_called(name, best_of):
    titles = titles_of({"algorithm": name, "rounds": 2, "evaluation": {"best_of": best_of}})
    lines = report.table_text(report.comparison(MANY), titles).splitlines()
    assert len({len(line) for line in lines}) == 1
    heads = [titles[row["model"]] for row in MANY]
    ends, place = [], 26
    for head in heads:
        place = lines[0].index(f" {head}", place) + 1 + len(head)
        ends.append(place)
    assert ends[-1] == len(lines[0])
    for line in lines[1:]:                                   # a number ends where its title ends
        assert len(line[26:].split()) == len(heads)
        assert all(line[end - 1] != " " and line[end:end + 1] in ("", " ") for end in ends)


def test_examples_of_many_models_are_aligned():
    titles = titles_of({"rounds": 2, "evaluation": {"best_of": 16}})
    lines = report.examples_text(MANY, titles=titles).splitlines()[2:]
    assert [line.split("gold")[0].strip() for line in lines] == [titles[row["model"]]
                                                                 for row in MANY]
    assert len({line.index("gold") for line in lines}) == 1


def test_tables_over_seeds_have_a_column_a_model():
    accuracy = {"all": {"accuracy": 0.75, "best": 0.9}}
    table = report.comparison(MANY)
    titles = titles_of({"algorithm": "rloo", "rounds": 2})
    lines = report.across_seeds([table] * 2, [accuracy] * 2, titles).split("\n\n")[1].splitlines()
    assert lines[0] == ("| | base | SFT | best of n | DPO | RLOO round 1 | RLOO best | RLOO | "
                        "SFT − base | RLOO − SFT | RLOO − SFT by seed |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_defaults_of_titles_are_those_of_a_default_run():
    from dataclasses import asdict
    assert titles_of(asdict(RunConfig())) == TITLES | {"best-of-n": "best of 16"}


KEEPS = ("PPO keeps 4 models in memory, with the gradients and moments of those that learn 10.0 kB")


@pytest.mark.parametrize("environment, peak, line", [
    ({}, None, None), (None, None, None),
    (None, 100_000, " 100.0 kB at most, of which that is 10.0%; the rest is Python, NumPy, data "
                    "and activations"),
    ({"backend": "numpy"}, 9_999, " 10.0 kB at most, less than that: it never held all of it at "
                                  "once"),
    ({"backend": "cupy"}, 100_000, " 100.0 kB at most on the host; the models were on the GPU, "
                                   "whose memory is not measured here")])
def test_the_memory_of_a_run_is_told(environment, peak, line, tmp_path):
    """Four models of 1 kB: 4 + 4 + 1 + 1."""
    folder = with_models(tmp_path, "policy", "value", "reward", "sft")
    write_json(folder / "config.json", {})
    if environment is not None:
        write_json(folder / "environment.json", environment)
    if peak is not None:
        write_json(folder / "memory.json", {"peak": peak})
    assert report.memory_text(folder).splitlines() == [
        KEEPS, *[f"The process took{line}"] * (line is not None)]


def test_the_memory_of_three_models_is_told_as_that(tmp_path):
    folder = with_models(tmp_path, "policy", "reward", "sft")
    write_json(folder / "config.json", {"algorithm": "grpo"})
    assert report.memory_text(folder) == KEEPS.replace("PPO keeps 4", "GRPO keeps 3").replace(
        "10.0 kB", "6.0 kB")


def test_without_its_models_a_run_has_nothing_to_tell_of_memory(tmp_path):
    write_json(tmp_path / "config.json", {})
    write_json(tmp_path / "memory.json", {"peak": 100_000})
    assert report.memory_text(tmp_path) == ""

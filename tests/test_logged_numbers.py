"""Every number that a stage logs is explained in docs/logged_numbers.md, and nothing else is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from runs import TINY, whole

from minirlhf.files import read_jsonl
from minirlhf.stages.group_relative import GroupConfig
from minirlhf.watching import WatchConfig

PAGE = Path(__file__).parent.parent / "docs" / "logged_numbers.md"
OF_THE_VALUE_MODEL = {"explained_variance", "value_loss", "value_grad_norm"}
WATCHED = replace(TINY, watch=WatchConfig(every=1, prompts=60, samples=1))   # all kinds of prompts
RUNS = {
    "rounds and DPO": replace(WATCHED, rounds=2, baselines=("dpo",)),
    "GRPO": replace(WATCHED, algorithm="grpo", group=GroupConfig(size=2)),
    "GRPO as published": replace(WATCHED, algorithm="grpo", group=GroupConfig(size=2, kl="loss")),
    "RLOO": replace(WATCHED, algorithm="rloo", rounds=2, group=GroupConfig(size=2)),
    "RLOO with the KL in the loss": replace(WATCHED, algorithm="rloo",
                                            group=GroupConfig(size=2, kl="loss")),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, list[dict]]:
    """The rows of metrics.jsonl of a run of each sort."""
    folder = tmp_path_factory.mktemp("logs")
    return {name: read_jsonl(whole(folder / str(number), config).folder / "metrics.jsonl")
            for number, (name, config) in enumerate(RUNS.items())}


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


# --- what the page says --------------------------------------------------------------------------

def names(page: str, title: str) -> set[str]:
    """What stands in backticks in the first column of a section's table."""
    parts = re.split(r"^#+ (.*)$", page, flags=re.MULTILINE)
    section = dict(zip(parts[1::2], parts[2::2], strict=True))[title]
    return {name for row in section.splitlines() if row.startswith("| `")
            for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


def explained(page: str) -> dict[str, set[str]]:
    """{a stage's name in the log: the numbers that the page explains for it}."""
    ppo, looks = names(page, "PPO"), names(page, "Looks at validation prompts")
    grouped = ppo - OF_THE_VALUE_MODEL | names(page, "GRPO and RLOO")
    first = {"pretraining": names(page, "Pre-training"),
             "SFT": names(page, "Supervised fine-tuning"), "DPO": names(page, "DPO")}
    again = {"reward model": names(page, "The reward model"), "PPO": ppo, "GRPO": grouped,
             "RLOO": grouped, **{f"{name}, validation": looks for name in ("PPO", "GRPO", "RLOO")}}
    return {**first, **again, **{in_round_2(name): found for name, found in again.items()}}


def in_round_2(stage: str) -> str:
    name, *rest = stage.split(", ")
    return ", ".join([name, "round 2", *rest])


def logged(rows: list[dict]) -> dict[str, set[str]]:
    """{stage: all that its rows hold but for the stage and the step}."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["stage"], set()).update(set(row) - {"stage", "step"})
    return found


# --- the law, and what it catches ----------------------------------------------------------------

def law_explained(page: str, rows: list[dict]) -> None:
    """Each stage logs just the numbers that the page has in its table."""
    wanted = explained(page)
    for stage, found in logged(rows).items():
        assert found == wanted[stage], (stage, found ^ wanted[stage])


@pytest.mark.parametrize("run", RUNS)
def test_a_run_logs_just_what_the_page_explains(run, page, logs):
    law_explained(page, logs[run])


def test_together_the_runs_have_every_stage_that_the_page_explains(page, logs):
    found = {stage for rows in logs.values() for stage in logged(rows)}
    assert set(explained(page)) - found == {"GRPO, round 2", "GRPO, round 2, validation"}


def test_what_the_group_relative_methods_lack_is_what_the_page_says(page):
    """Three numbers of the value model, which are PPO's; one number of their own."""
    assert OF_THE_VALUE_MODEL < names(page, "PPO")
    assert names(page, "GRPO and RLOO") - names(page, "PPO") == {"group_spread"}
    said = " ".join(page.split())
    assert "but for the three of the value model" in said and "with one of its own" in said


def test_a_later_round_logs_what_the_first_does(logs):
    for run in ("rounds and DPO", "RLOO"):
        found = logged(logs[run])
        again = {stage: set(keys) for stage, keys in found.items() if "round 2" in stage}
        assert len(again) == 3
        assert all(keys == found[stage.replace(", round 2", "")] for stage, keys in again.items())


EVERY_NAME = [("Pre-training", "grad_norm"), ("Supervised fine-tuning", "lr"),
              ("The reward model", "loss"), ("PPO", "entropy"), ("PPO", "value_loss"),
              ("Looks at validation prompts", "gold_fall_error"),
              ("Looks at validation prompts", "over_refusal"), ("DPO", "lr")]


@pytest.mark.parametrize("title, name", EVERY_NAME)
def test_a_number_that_the_page_forgets_or_invents_is_noticed(title, name, page, logs):
    start = page.index(f"# {title}\n")
    for other in ("something", name + "_too"):
        place = page.index(f"`{name}`", start)
        wrong = page[:place] + f"`{other}`" + page[place + len(name) + 2:]
        with pytest.raises(AssertionError):
            law_explained(wrong, logs["rounds and DPO"])


@pytest.mark.parametrize("change", [
    lambda row: row.update(new=1.0), lambda row: row.pop("policy_loss"),
    lambda row: row.update(value_loss=1.0), lambda row: row.pop("group_spread")],
    ids=["a new number", "no loss", "a value model", "no spread"])
def test_a_number_that_a_stage_forgets_or_invents_is_noticed(change, page, logs):
    rows = [dict(row) for row in logs["GRPO"]]
    for row in rows:
        if row["stage"] == "GRPO":
            change(row)
    with pytest.raises(AssertionError):
        law_explained(page, rows)

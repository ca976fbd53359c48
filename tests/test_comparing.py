"""Laws of the tables of `scripts/compare.py`: who is subtracted from whom, seed by seed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import sample
from test_findings import HACKED, WELL

from minirlhf.evaluation import interval
from minirlhf.files import write_json, write_jsonl
from minirlhf.settings import RunConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from comparing import making, tables  # noqa: E402

GOLD = {"": {"sft": (0.0, 0.1), "policy": (0.5, 0.7)}, "-grpo": {"policy": (0.4, 0.8)},
        "-rloo": {"policy": (0.6, 0.6)}, "-baselines": {"best-of-n": (0.3, 0.2), "dpo": (0.9, 0.9)},
        "-rounds": {"round-1": (0.5, 0.7), "policy": (0.8, 0.9)}, "-long": {"policy": (0.6, 0.7)},
        "-no-kl": {"policy-best": (0.4, 0.3), "policy": (-3.0, -1.0)}}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two seeds' runs with all variants, whose gold scores are those of GOLD."""
    monkeypatch.chdir(tmp_path)
    found = [Path("runs", f"measure-{seed}") for seed in (0, 1)]
    for seed, base in enumerate(found):
        for variant, models in GOLD.items():
            folder = base.with_name(base.name + variant)
            rows = {"sft": (0.0, 0.1)} | models
            write_jsonl(folder / "samples.jsonl", [
                sample(name, gold=gold[seed]) for name, gold in rows.items()])
            write_json(folder / "config.json", {"seed": seed})
            write_jsonl(folder / "metrics.jsonl", HACKED if variant == "-no-kl" else WELL)
        second = base.with_name(f"{base.name}-rounds") / "rounds" / "02"
        write_json(second / "reward" / "accuracy.json",
                   {"all": {"before": 0.6 + seed / 10, "accuracy": 0.8}})
        write_json(base.with_name(f"{base.name}-no-kl") / "policy-best" / "best.json",
                   {"step": 4, "by": "gold", "value": 0.4})
    return found


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def law_a_method_is_compared_with_ppo_seed_by_seed(tables, folders):
    grpo = row(tables.methods(folders), "GRPO")
    assert grpo[1] == "0.600" and grpo[-1] == "-0.10 +0.10"
    assert grpo[-2] == "{:+.3f} ± {:.3f}".format(*interval([-0.1, 0.1]))
    assert row(tables.methods(folders), "best of 16")[-1] == "-0.20 -0.50"
    assert row(tables.methods(folders), "DPO")[-1] == "+0.40 +0.20"
    assert row(tables.methods(folders), "PPO")[-1] == ""


def law_two_rounds_less_one_and_less_one_of_as_many_steps(tables, folders):
    gold = row(tables.rounds(folders), "gold score")
    assert gold[1:4] == ["0.600", "0.650", "0.850"]
    assert (gold[5], gold[7]) == ("+0.30 +0.20", "+0.20 +0.20")
    score = row(tables.rounds(folders), "reward-model score")
    assert score[2] == "" and score[6:] == ["", ""]
    assert "in 0.650, the retrained one in 0.800" in tables.rounds(folders)


def law_the_kept_policy_less_the_last(tables, folders):
    text = tables.unleashed(folders)
    gains = "{:+.3f} ± {:.3f}".format(*interval([3.4, 1.3]))
    assert f"worth {gains} more than the last" in text
    assert row(text, "1")[1:6] == ["4", "4", "+0.10", "+0.30", "-1.00"]


LAWS = [law_a_method_is_compared_with_ppo_seed_by_seed,
        law_two_rounds_less_one_and_less_one_of_as_many_steps, law_the_kept_policy_less_the_last]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_tables_keep_the_law(law, folders):
    law(tables, folders)



MUTANTS = {
    "seeds in another order for one variant": lambda real: lambda folders, variant, *rest: real(
        folders, variant, *rest)[:: -1 if variant in ("-grpo", "-rounds") else 1],
    "the SFT model for the policy": lambda real: lambda folders, variant, model, number: real(
        folders, variant, "sft" if model == "policy" else model, number),
    "the base run for its variants": lambda real: lambda folders, variant, model, number: real(
        folders, "" if variant in ("-grpo", "-long") else variant, model, number),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_pairing_is_noticed(name, folders, monkeypatch):
    monkeypatch.setattr(tables, "measured", MUTANTS[name](tables.measured))
    with pytest.raises((AssertionError, IndexError)):
        for law in LAWS[:2]:
            law(tables, folders)


def test_what_is_marked_in_a_default_run_is_said_and_an_unwatched_one_is_no_quiet_one(folders):
    assert "none of 2 had anything marked" in tables.alarms(folders)
    write_jsonl(folders[1] / "metrics.jsonl", HACKED)
    assert "1 of 2 had something marked (measure-1: " in tables.alarms(folders)
    write_jsonl(folders[1] / "metrics.jsonl", [])
    with pytest.raises(ValueError, match="measure-1 was not watched"):
        tables.alarms(folders)


def test_every_variant_starts_from_a_command_that_makes_a_new_run():
    few = making.variants(12)
    assert few.keys() == making.variants(1).keys() == {v.strip("-") for v in GOLD if v}
    assert making.variants(1)["long"][0][-1] == str(2 * RunConfig().ppo.steps)
    assert np.prod([int(few["no-kl"][0][-1]), 12]) == 60

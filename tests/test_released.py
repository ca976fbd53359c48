"""Laws of `scripts/systems.py`: what it installs, how it judges, and that its page is true."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "peers" / "systems")]
from excerpt import run  # noqa: E402
from released.environments import SYSTEMS, TORCH, build, plan  # noqa: E402
from released.findings import FINDINGS, SEEN, finding  # noqa: E402
from released.identifying import BY_DEFAULT, claims, measure  # noqa: E402
from released.measuring import ADAPTERS, nearest, read  # noqa: E402
from released.page import page, share  # noqa: E402
from stand_ins import stand_ins  # noqa: E402

from minirlhf.conformance import ours  # noqa: E402

RESULTS = read(ROOT / "docs" / "systems.json")
RAN = {name: found for name, found in RESULTS.items() if "problem" not in found}


# --- environments --------------------------------------------------------------------------------

def test_torch_is_pinned_and_comes_before_what_would_choose_its_build():
    for system in SYSTEMS:
        assert TORCH in system.installs[0]


def test_every_release_is_pinned_to_the_version_in_its_name():
    for system in SYSTEMS:
        package, release = system.name.rsplit("-", 1)
        assert f"{package}=={release}" in " ".join(plan(system))


def test_every_adapter_of_a_system_is_there():
    for system in SYSTEMS:
        for name in system.adapters:
            assert (ADAPTERS / f"{name}.py").is_file()


def test_an_environment_is_kept_while_its_commands_are_the_same(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("released.environments.base_python", lambda: "python3")

    def called(words, system):
        commands.append(words)
        (tmp_path / system.name / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / system.name / "bin" / "python").touch()
    monkeypatch.setattr("released.environments.called", called)
    system = SYSTEMS[0]
    python = build(system, tmp_path)
    assert [words[1:3] for words in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert build(system, tmp_path) == python and len(commands) == 2
    (tmp_path / f"{system.name}.txt").write_text("pip install another")
    build(system, tmp_path)
    assert len(commands) == 4


def test_a_failed_install_says_what_pip_said(tmp_path, monkeypatch):
    monkeypatch.setattr("released.environments.base_python", lambda: sys.executable)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(
        returncode=1, stderr="noise\nERROR: No matching distribution found for x\n"))
    with pytest.raises(RuntimeError, match="torch.*No matching distribution found for x"):
        build(SYSTEMS[0], tmp_path)


# --- judging -------------------------------------------------------------------------------------

def test_this_package_follows_its_own_groups_and_nothing_departs():
    found = measure(ours)
    assert len(found) > 10
    for one in found:
        for followed in one.groups:
            if followed.core:
                assert followed.departed == {} and followed.float32 == (), one.function
    kept = claims(SimpleNamespace(PRESETS=("minirlhf",)), found)
    assert len(kept) > 10 and all(claim.held for claim in kept)


def adapter(**names):
    return SimpleNamespace(framework="numpy", **names)


def refuse(losses, mask):
    raise NotImplementedError("no such thing")


def test_what_a_package_does_not_offer_is_left_out_and_what_it_raises_is_not():
    def fail(losses, mask):
        raise TypeError("on a CPU")
    for function, departs in ((refuse, False), (fail, True)):
        (one,) = measure(adapter(aggregate_loss=function))
        (core,) = [followed for followed in one.groups if followed.core]
        assert bool(core.departed) == departs and not core.whole
        told = " ".join((core.departed if departs else core.left_out).values())
        assert ("TypeError: on a CPU" if departs else "no such thing") in told


def test_a_function_in_float32_is_held_to_its_tolerance_only_where_that_is_said():
    def coarse(losses, mask):
        import numpy as np
        return np.mean(losses[mask], dtype=np.float32)
    for said, good in (({}, False), ({"aggregate_loss": "it is"}, True),
                       ({f"aggregate_loss, {BY_DEFAULT}": "it is"}, True)):
        (one,) = measure(adapter(aggregate_loss=coarse, COARSE=said))
        (core,) = [followed for followed in one.groups if followed.core]
        assert core.whole == good and bool(core.float32) == good


def test_a_nan_under_the_mask_tells_of_robustness_and_not_of_convention():
    import numpy as np

    def multiplied(losses, mask):
        return (losses * mask).sum() / mask.sum()

    def by_row(losses, mask):
        return np.mean([row[real].mean() for row, real in zip(losses, mask, strict=True)])
    for function, fits in ((multiplied, True), (by_row, False)):
        (one,) = measure(adapter(aggregate_loss=function))
        (core,) = [followed for followed in one.groups if followed.core]
        assert not core.whole and ("minirlhf" in one.presets) == fits


def test_a_claim_that_one_setting_keeps_is_kept():
    import numpy as np
    wrong, right = (lambda losses, mask: losses[mask].sum()), (
        lambda losses, mask: np.mean(losses[mask]))
    both = adapter(aggregate_loss=wrong, MODES={"aggregate_loss": {"right": right}},
                   PRESETS=("minirlhf",))
    (kept,) = claims(both, measure(both))
    assert kept.held and kept.setting == "right"
    for function in (wrong, refuse):
        lone = adapter(aggregate_loss=function, PRESETS=("minirlhf",))
        (broken,) = claims(lone, measure(lone))
        assert not broken.held and broken.departed


def test_the_nearest_group_is_the_one_with_the_largest_share():
    groups = [{"group": "a", "matched": [1] * 5, "float32": [], "departed": [1] * 5},
              {"group": "b", "matched": [1], "float32": [1], "departed": []},
              {"group": "c", "matched": [], "float32": [], "departed": []}]
    assert nearest(groups) == "b"


# --- statements of released functions ------------------------------------------------------------

def longer(x, scale):
    for _ in range(2):
        if scale > 1:
            y = x * scale
            y = y + OFFSET
            z = -y
    return z


OFFSET = 10


def test_statements_are_run_where_they_stand_with_the_names_of_their_module():
    names = run(longer, "y = x", "y = y", x=3, scale=2)
    assert names.y == 16 and not hasattr(names, "z")
    assert run(longer, "y = y", "y = y", y=1).y == 11


def test_statements_that_a_release_does_not_have_are_missed():
    for first, last in (("y = 7", "y = y"), ("y = y", "y = x"), ("y = x", "return z")):
        with pytest.raises(LookupError, match="longer has no statements"):
            run(longer, first, last, x=1)


def test_a_stand_in_can_be_imported_only_within():
    with stand_ins("nowhere_to_be_found"):
        from nowhere_to_be_found.deep import Thing, decorator

        @decorator()
        def kept():
            return 1
        assert kept() == 1 and Thing[int] is Thing and Thing.Other is Thing
    with pytest.raises(ImportError):
        import nowhere_to_be_found  # noqa: F401
    with stand_ins("nowhere_to_be_found"), pytest.raises(ImportError):
        import nowhere_else  # noqa: F401


# --- the page ------------------------------------------------------------------------------------

def test_the_page_is_made_of_the_results_beside_it():
    assert page(RESULTS) == (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")


def test_every_departure_has_a_finding_and_every_finding_a_departure():
    departures = {(name, test) for found in RAN.values()
                  for name, one in found["adapters"].items()
                  for claim in one["claims"] for test in claim["departed"]}
    assert [d for d in departures if finding(*d) == "Not looked into."] == []
    for one in FINDINGS:
        for name in one.adapters:
            assert any(one.tells(name, test) for adapter, test in departures if adapter == name)


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: f"{seen.system}-{seen.function}")
def test_what_is_told_beside_the_lists_was_measured(seen):
    (one,) = [one for adapter in RAN[seen.system]["adapters"].values()
              for one in adapter["measured"]
              if (one["function"], one["setting"]) == (seen.function, seen.setting)]
    named = [test for group in one["groups"].values() if isinstance(group["departed"], list)
             for test in group["departed"]]
    assert seen.departs is None or seen.departs in named
    assert seen.group in one["follows"] or seen.group == one["nearest"]
    assert seen.departs is not None or seen.group in one["follows"]


def test_the_refusals_that_are_told_of_the_older_verl_were_measured():
    found = {(one["function"], one["setting"]): one["follows"]
             for one in RAN["verl-0.7.0"]["adapters"]["verl_ppo"]["measured"]}
    assert found["group_advantages", "grpo_vectorized"] == []
    assert not {"k1-plus", "k3-plus"} & set(found["kl_estimate", BY_DEFAULT])


def test_a_system_that_could_not_be_installed_is_told_with_the_reason():
    told = page({"trl-1.9.2": {"problem": "no matching distribution"}})
    assert "- trl-1.9.2: no matching distribution" in told
    assert "- verl-0.9.1: not measured yet" in told


def test_shares_count_tests_named_and_unnamed():
    groups = [{"matched": 2, "float32": 1, "departed": ["a", "b"]},
              {"matched": 0, "float32": 0, "departed": 3}]
    assert share(groups) == "3 of 8" and share([]) == "–"


def test_the_results_are_json_without_a_machine_in_them():
    text = json.dumps(RESULTS)
    assert "/tmp/" not in text and "/home/" not in text
    assert not re.search(r"(?<![\w./:-])/[\w.-]+/", text)              # nor any other absolute path

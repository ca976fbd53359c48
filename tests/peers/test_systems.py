"""The functions of released systems against the vectors, as far as their packages are installed.

Most are not, where these tests usually run: `python scripts/systems.py` gives each an environment
of its own.  Torch's own functions are always asked.
"""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from released.environments import SYSTEMS  # noqa: E402
from released.identifying import BY_DEFAULT, measure  # noqa: E402
from released.measuring import ADAPTERS, read  # noqa: E402

from minirlhf.conformance.adapters import imported  # noqa: E402

RESULTS = read(Path(__file__).parents[2] / "docs" / "systems.json")
HELPERS = {"excerpt", "stand_ins", "trl_stand"}
pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")


def installed(system) -> str | None:
    """Why a system cannot be run here; None if it can, with the release that it names."""
    package, release = system.name.rsplit("-", 1)
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    here = importlib.metadata.version(package)
    return None if package == "torch" or here == release else f"{package} {here} is installed"


def test_every_adapter_belongs_to_a_system():
    known = [name for system in SYSTEMS for name in system.adapters]
    assert {path.stem for path in ADAPTERS.glob("*.py")} - HELPERS == set(known)


@pytest.mark.parametrize("system, adapter", [(s, a) for s in SYSTEMS for a in s.adapters],
                         ids=lambda x: getattr(x, "name", x))
def test_a_released_system_follows_what_the_page_says(system, adapter):
    missing = installed(system)
    if missing:
        pytest.skip(f"{missing}: python scripts/systems.py {system.name} runs it elsewhere")
    told = {(one["function"], one["setting"]): one["follows"]
            for one in RESULTS[system.name]["adapters"][adapter]["measured"]}
    found = {(one.function, one.setting): list(one.follows)
             for one in measure(imported(str(ADAPTERS / f"{adapter}.py")))}
    assert found == told


TORCH = {"adamw_step": "core", "clip_by_global_norm": "core", "sft_loss": "core",
         "token_logprobs": "core", "entropy": "core", "best_of_loss": "n-way"}


def test_torch_itself_does_as_the_witness_says_to_the_tenth_digit():
    found = {one.function: one for one in measure(imported(str(ADAPTERS / "torch_itself.py")))
             if one.setting == BY_DEFAULT}
    for name, group in TORCH.items():
        (one,) = [followed for followed in found[name].groups if followed.group == group]
        assert one.departed == {} and one.float32 == (), name
        assert len(one.matched) >= 4, name


def test_torch_itself_is_told_from_a_wrong_one(tmp_path):
    """An adapter of which every test came out would be no evidence if a wrong one did as well."""
    code = (ADAPTERS / "torch_itself.py").read_text(encoding="utf-8")
    for right, wrong, name in (("tokens[:, 1:]", "tokens[:, :-1]", "token_logprobs"),
                               ("torch.where(mask, 0, -100)", "torch.where(mask, 0, 0)",
                                "sft_loss"),
                               ("eps=eps,", "eps=10 * eps,", "adamw_step")):
        assert right in code
        path = tmp_path / f"{name}.py"
        path.write_text(code.replace(right, wrong), encoding="utf-8")
        (one,) = [one for one in measure(imported(str(path)))
                  if one.function == name and one.setting == BY_DEFAULT]
        assert "core" not in one.follows

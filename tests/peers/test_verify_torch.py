"""`minirlhf verify` on PyTorch: tensors go in, autograd gives the gradients, and an adapter that is
written as training code is matches everywhere."""

import json
import textwrap
from pathlib import Path

import pytest

from minirlhf import cli
from minirlhf.conformance import adapters
from minirlhf.conformance.vectors import functions, load

torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")

ADAPTER = Path(__file__).parent / "torch_adapter.py"
OURS = {name for name in functions() if any(
    group.core or "minirlhf" in group.systems for group in load(name).groups)}


@pytest.mark.parametrize("flags", [[], ["--float32"]], ids=["float64", "float32"])
def test_an_adapter_in_pytorch_matches_everywhere(flags, capsys):
    assert cli.main(["verify", str(ADAPTER), "--json", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["framework"] == "torch" and report["passed"]
    found = {one["function"]: one for one in report["functions"]}
    assert set(found) == OURS
    differentiated = {name for name in OURS if any(a.differentiated for a in load(name).arguments)}
    assert {name for name, one in found.items() if one["gradients"]} == differentiated


def test_the_example_in_the_docstring_of_adapters_matches(tmp_path, capsys):
    source = textwrap.dedent(adapters.__doc__.split("module, whose functions have the names of the "
                                                    "vector files.\n")[1].split("What it does")[0])
    (tmp_path / "adapter.py").write_text(source, encoding="utf-8")
    assert cli.main(["verify", str(tmp_path / "adapter.py")]) == 0
    assert "sft_loss" in capsys.readouterr().out


def test_it_is_identified_as_this_package(capsys):
    assert cli.main(["identify", str(ADAPTER)]) == 0
    assert "consistent in everything with minirlhf" in capsys.readouterr().out


@pytest.mark.parametrize("before, after, said", [
    ("mean(errors, mask, count) / 2", "mean(errors, mask, count)", "half-missing"),
    ("score_chosen - score_rejected - margin", "score_chosen - score_rejected.detach() - margin",
     "rejected-detached"),
    ("kl_estimate(logprobs, ref_logprobs, estimator), mask",
     "kl_estimate(logprobs.detach(), ref_logprobs, estimator), mask",
     "equals the mistake kl-detached"),
])
def test_a_mistake_in_it_is_found(before, after, said, tmp_path, capsys):
    source = ADAPTER.read_text(encoding="utf-8")
    assert before in source
    path = tmp_path / "adapter.py"
    path.write_text(source.replace(before, after), encoding="utf-8")
    assert cli.main(["verify", str(path)]) == 1
    assert said in capsys.readouterr().out


def test_a_ratio_that_overflows_before_it_is_clipped_has_no_number_for_a_gradient(tmp_path, capsys):
    """The published formula, as it is mostly written: 0 times infinity is NaN."""
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER.read_text(encoding="utf-8").replace(
        "torch.minimum(log_ratio, most).exp()", "log_ratio.exp()"), encoding="utf-8")
    assert cli.main(["verify", str(path)]) == 1
    told = capsys.readouterr().out
    assert "clipped-surrogate-loss-core-overflow" in told and "got    d logprobs [[nan]]" in told

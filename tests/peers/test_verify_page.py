"""docs/verify.md: its adapter is really checked, and the lines that it shows are printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the page's adapter is written in PyTorch (extra `peers`)")

PAGE = (Path(__file__).parents[2] / "docs" / "verify.md").read_text(encoding="utf-8")
ADAPTER = re.search(r"```python\n(.*?)```", PAGE, re.S).group(1)
SHOWN = re.findall(r"```text\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `verify` and `identify` print, together."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "adapter.py").write_text(ADAPTER, encoding="utf-8")
    return "".join(subprocess.run(
        [sys.executable, "-m", "minirlhf.cli", command, "adapter.py", *more], cwd=folder,
        capture_output=True, text=True).stdout
        for command, *more in (("verify",), ("identify",), ("verify", "--preset", "trl-ppo")))


@pytest.mark.parametrize("block", SHOWN, ids=range(len(SHOWN)))
def test_what_is_shown_is_printed_line_by_line_but_for_what_an_ellipsis_omits(block, told):
    after = f"\n{told}"
    for lines in re.split(r"^…\n", block, flags=re.M):
        assert f"\n{lines}" in after, lines
        after = after[after.index(f"\n{lines}") + len(lines):]


def test_whitening_matches_under_the_preset_that_the_page_names(told):
    assert re.search(r"^whiten +\d+ .*matched", told, re.M)


def test_the_repair_that_the_page_gives_repairs(tmp_path):
    repaired = ADAPTER.replace(
        "    advantages, following, advantage =",
        "    rewards = torch.where(mask, rewards, 0.0)\n"
        "    values = torch.where(mask, values, 0.0)\n"
        "    advantages, following, advantage =")
    assert repaired != ADAPTER
    (tmp_path / "adapter.py").write_text(repaired, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "minirlhf.cli", "verify", "adapter.py"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"^gae +16 .*matched", done.stdout, re.M), done.stdout

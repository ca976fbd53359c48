"""The scripts are short, say how they are run, and run."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
# smaller still than --quick
TINY = """--backend numpy --model.channels 8 --model.heads 2 --model.layers 1
    --world.corpus-words 3000 --world.demonstration-count 30 --pretraining.steps 5
    --pretraining.batch-size 4 --pretraining.window 24 --sft.steps 3 --sft.batch-size 8
    --preferences.prompts 6 --preferences.replies 2 --reward.steps 2 --ppo.steps 2
    --ppo.batch-size 8 --ppo.minibatches 2 --ppo.max-new 8""".split()
# these take none of a run's flags
NOT_A_RUN = {"one_ppo_step", "measure", "compare", "interrupt", "make_traces", "make_vectors",
             "mistakes", "conventions", "tell_apart", "systems", "benchmark", "scale"}
PRINTED = {
    "benchmark": ["# Performance", "GFLOP/s", "| minute | 4 | ", "PyTorch", "| **all** | "],
    "compare": ["# Compared", "gold − PPO's", "Two rounds against one", "Without the KL penalty"],
    "conventions": ["checked: gae.mask.md"],
    "interrupt": ["work lost", "byte for byte"],
    "end_to_end": ["gold score", "held-out accuracy", "report: "],
    "make_traces": ["reward_model_step", " arrays"],
    "make_vectors": ["gae ", "groups", "together"],
    "mistakes": ["| whiten | no-epsilon | ", "**divided-by-the-variance**"],
    "measure": ["# Measured", "gold score", "by seed"],
    "one_ppo_step": ["advantages", "whitened", "ratio"],
    "ppo": ["four models in memory", "explained variance", "  SFT  ", "  PPO  "],
    "reward_model": ["comparisons", "P(first is preferred) = ", "held-out accuracy"],
    "systems": ["trl-1.9.2", "pip install torch==2.13.0 trl==1.9.2", "systems/verl_ppo.py"],
    "scale": ["# Scale", "| pretraining | ", "| rollout | ", "## On paper", "do not fit"],
    "sft": ["demonstrations, for example", "nats a response token", "  base  ", "  SFT   "],
    "tell_apart": ["# Every preset, identified", "| 2 | trl-ppo |"],
}

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def test_there_are_scripts_and_each_is_known_here():
    assert {path.stem for path in SCRIPTS} == set(PRINTED)


@every_script
def test_a_script_is_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 60


@every_script
def test_a_script_says_what_it_does_and_how_it_is_run(script):
    told = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")), clean=False)
    assert told and f"\n    python scripts/{script.name}" in told


@every_script
def test_a_script_runs(script, tmp_path):
    flags = [] if script.stem in NOT_A_RUN else TINY
    ran = subprocess.run(
        [sys.executable, str(script), "--quick", *flags], cwd=tmp_path, capture_output=True,
        text=True, encoding="utf-8",
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"})
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Traceback" not in ran.stderr and "Warning" not in ran.stderr
    for text in PRINTED[script.stem]:
        assert text in ran.stdout, text
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"runs", "docs"}                          # nothing beside its own folders

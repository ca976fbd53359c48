"""The runs of `scripts/compare.py`: real processes of the command line, on one BLAS thread each."""

import os
import subprocess
import sys
from pathlib import Path


def variants(few: int) -> dict[str, list[list[str]]]:
    """The commands that make each variant from the base run; `few` divides the number of steps."""
    return {
        "grpo": [["grpo"], ["evaluate"]],
        "rloo": [["rloo"], ["evaluate"]],
        "baselines": [["dpo", "--baselines", "best-of-n", "dpo"], ["ppo"], ["evaluate"]],
        "rounds": [["rounds", "--rounds", "2"]],
        "long": [["ppo", "--ppo.steps", str(72 // few)], ["evaluate"]],
        "no-kl": [["ppo", "--ppo.beta", "0", "--ppo.steps", str(60 // few)], ["evaluate"]],
    }


def make(name: str, quick: bool) -> None:
    """The default run of a seed, and every variant of it; what is there is kept or gone on with."""
    if not finished(name):
        minirlhf(name, "run", "--name", name, "--seed", name.split("-")[-1], *["--quick"] * quick)
    for variant, ((first, *flags), *others) in variants(12 if quick else 1).items():
        new = f"{name}-{variant}"
        if not finished(new):
            minirlhf(new, first, name, "--name", new, *flags)
            for (other,) in others:
                minirlhf(new, other, new)


def finished(name: str) -> bool:
    return Path("runs", name, "report.html").exists()


def minirlhf(folder: str, *argv: str) -> None:
    """A command that works in runs/FOLDER; it goes on if the folder is there."""
    resume = ["--resume"] * Path("runs", folder).exists()
    command = [sys.executable, "-m", "minirlhf.cli", *argv, *resume]
    done = subprocess.run(command, capture_output=True, text=True,
                          env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")

"""Beyond one run of PPO, over several seeds: GRPO, RLOO, DPO, best-of-n, two rounds, and PPO
without its KL penalty, each from the same seed's base, SFT and reward model: docs/compared.md.

    python scripts/compare.py [--seeds 5] [--quick] [--output docs/compared.md]

Two runs at a time, on one BLAS thread each; those in runs/measure-* that are finished are kept.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comparing.tables import page
from tqdm import tqdm

from minirlhf.files import write_text

os.environ["OPENBLAS_NUM_THREADS"] = "1"                       # in the runs' processes
parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--quick", action="store_true", help="two tiny runs, to see that it works")
parser.add_argument("--output", type=Path, default=Path("docs/compared.md"))
args = parser.parse_args()
start, seeds, few = ("measure-quick-", 2, 12) if args.quick else ("measure-", args.seeds, 1)
names = [f"{start}{seed}" for seed in range(seeds)]
VARIANTS = {                              # the commands that make each from the base run
    "grpo": [["grpo"], ["evaluate"]],
    "rloo": [["rloo"], ["evaluate"]],
    "baselines": [["dpo", "--baselines", "best-of-n", "dpo"], ["ppo"], ["evaluate"]],
    "rounds": [["rounds", "--rounds", "2"]],
    "long": [["ppo", "--ppo.steps", str(72 // few)], ["evaluate"]],
    "no-kl": [["ppo", "--ppo.beta", "0", "--ppo.steps", str(60 // few)], ["evaluate"]],
}


def minirlhf(*argv):
    command = [sys.executable, "-m", "minirlhf.cli", *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def make(name):
    """The default run of a seed, and every variant of it."""
    if not Path("runs", name, "report.html").exists():
        minirlhf("run", "--name", name, "--seed", name.split("-")[-1], *["--quick"] * args.quick)
    for variant, ((first, *flags), *others) in VARIANTS.items():
        if not Path("runs", f"{name}-{variant}", "report.html").exists():
            minirlhf(first, name, "--name", f"{name}-{variant}", *flags)
            for (other,) in others:
                minirlhf(other, f"{name}-{variant}")


with ThreadPoolExecutor(2) as pool:
    list(tqdm(pool.map(make, names), total=len(names), desc="seeds"))
write_text(args.output, page(names, " ".join(["python scripts/compare.py", *sys.argv[1:]])))
print(args.output.read_text(encoding="utf-8"))

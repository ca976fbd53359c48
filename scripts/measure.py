"""What the default run achieves, over several seeds: writes docs/measured.md.

    python scripts/measure.py [--seeds 5] [--quick] [--output docs/measured.md]

Each seed is a whole `minirlhf run` in runs/measure-SEED, two at a time on one BLAS thread each;
runs that exist are not repeated.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minirlhf import report
from minirlhf.files import read_json, read_jsonl, write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--quick", action="store_true", help="two tiny runs, to see that it works")
parser.add_argument("--output", type=Path, default=Path("docs/measured.md"))
args, flags = parser.parse_known_args()
seeds = range(2 if args.quick else args.seeds)


def run(seed):
    name = f"measure-{'quick-' * args.quick}{seed}"
    if not Path("runs", name, "report.html").exists():
        flags_of_seed = ["--name", name, "--seed", str(seed), *["--quick"] * args.quick, *flags]
        subprocess.run([sys.executable, "-m", "minirlhf.cli", "run", *flags_of_seed], check=True,
                       capture_output=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    samples = report.comparison(read_jsonl(Path("runs", name, "samples.jsonl")))
    return samples, read_json(Path("runs", name, "reward", "accuracy.json"))


with ThreadPoolExecutor(2) as pool:
    results = list(tqdm(pool.map(run, seeds), total=len(seeds), desc="runs"))

page = (f"# Measured\n\nThe default run on test prompts, seeds {seeds[0]} to {seeds[-1]}.  Made by "
        f"`python {' '.join(['scripts/measure.py', *sys.argv[1:]])}`, NumPy {np.__version__}.\n\n"
        + report.across_seeds(*zip(*results, strict=True)))
write_text(args.output, page)
print(page)

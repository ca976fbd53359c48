"""What the default run achieves, over several seeds: writes docs/measured.md, and a picture of the
first seed's run beside it (images/run.svg).

    python scripts/measure.py [--seeds 5] [--quick] [--output docs/measured.md]

Each seed is a whole `minirlhf run` in runs/measure-SEED, two at a time on one BLAS thread each;
finished runs of these very settings are not repeated.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minirlhf import report
from minirlhf.files import read_json, read_jsonl, write_text
from minirlhf.page.training import picture
from minirlhf.presets import quick
from minirlhf.settings import RunConfig, from_dict

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--quick", action="store_true", help="two tiny runs, to see that it works")
parser.add_argument("--output", type=Path, default=Path("docs/measured.md"))
args = parser.parse_args()
settings = quick(RunConfig()) if args.quick else RunConfig()
folders = [Path("runs", f"measure-{'quick-' * args.quick}{seed}")
           for seed in range(2 if args.quick else args.seeds)]


def run(seed):
    command = [sys.executable, "-m", "minirlhf.cli", "run", "--name", folders[seed].name,
               "--seed", str(seed), *["--quick"] * args.quick]
    if not (folders[seed] / "report.html").exists():
        done = subprocess.run(command, capture_output=True, text=True,
                              env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    if from_dict(RunConfig, read_json(folders[seed] / "config.json")) != replace(settings,
                                                                                 seed=seed):
        sys.exit(f"{folders[seed]} has other settings; remove it, and it will be made anew")
    return (report.comparison(read_jsonl(folders[seed] / "samples.jsonl")),
            read_json(folders[seed] / "reward" / "accuracy.json"))


with ThreadPoolExecutor(2) as pool:
    results = list(tqdm(pool.map(run, range(len(folders))), total=len(folders), desc="runs"))
page = (f"# Measured\n\nThe default run on test prompts, {len(folders)} seeds.  Made by "
        f"`python {' '.join(['scripts/measure.py', *sys.argv[1:]])}`, NumPy {np.__version__}.\n\n"
        + report.across_seeds(*zip(*results, strict=True)))
write_text(args.output, page)
write_text(args.output.parent / "images" / "run.svg",
           picture(read_jsonl(folders[0] / "metrics.jsonl"), results[0][0]))
print(page)

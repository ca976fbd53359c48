"""Beyond one run of PPO, over several seeds: GRPO, RLOO, DPO, best-of-n, two rounds, and PPO
without its KL penalty, each from the same seed's base, SFT and reward model: docs/compared.md.

    python scripts/compare.py [--seeds 5] [--quick] [--output docs/compared.md]

Two runs at a time, on one BLAS thread each; those in runs/measure-* are kept, or gone on with.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from comparing.making import make
from comparing.tables import page
from tqdm import tqdm

from minirlhf.files import write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--quick", action="store_true", help="tiny runs of one seed, as a test")
parser.add_argument("--output", type=Path, default=Path("docs/compared.md"))
args = parser.parse_args()
start, seeds = ("measure-quick-", 1) if args.quick else ("measure-", args.seeds)
names = [f"{start}{seed}" for seed in range(seeds)]

with ThreadPoolExecutor(2) as pool:
    list(tqdm(pool.map(partial(make, quick=args.quick), names), total=seeds, desc="seeds"))
write_text(args.output, page(names, " ".join(["python scripts/compare.py", *sys.argv[1:]])))
print(args.output.read_text(encoding="utf-8"))

"""How fast this package is, beside PyTorch, transformers and TRL: docs/performance.md and .json.

    python scripts/benchmark.py [ROW ...] [--turns 9] [--threads 2] [--output docs/performance.md]

All that is compared runs in this one command, in turns, on the same number of threads.  With rows,
as `step` or `step-medium`, only these are measured, and the others' results are those of the JSON
file.  --page writes the page of these results again; --quick measures at a minute size, with what
is installed, and writes nothing.  The extra `bench` brings PyTorch and transformers; TRL gets an
environment of its own in the cache.
"""

import argparse
import os
import sys
from pathlib import Path

from benchmarking import rows
from benchmarking.conditions import conditions
from benchmarking.page import page
from benchmarking.results import read, save
from benchmarking.turns import Effort
from tqdm import tqdm

from minirlhf.files import write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(rows.rows(quick=False)))
parser.add_argument("--turns", type=int, default=9, help="of each contender")
parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
parser.add_argument("--shards", type=int, help="parts of a batch; by default as many as threads")
parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "minirlhf-systems")
parser.add_argument("--output", type=Path, default=Path("docs/performance.md"))
parser.add_argument("--page", action="store_true", help="measure nothing")
parser.add_argument("--quick", action="store_true", help="a few seconds, as a test")
args = parser.parse_args()
if min(args.turns, args.threads, args.shards or 1) < 1:
    parser.error("turns, threads and shards must be at least 1")
effort = Effort(3 if args.quick else args.turns, 0.02 if args.quick else 0.4, args.threads,
                args.shards or args.threads, args.cache, args.quick)
data, table = args.output.with_suffix(".json"), rows.rows(args.quick)
try:
    wanted = [] if args.page else rows.named(args.rows, list(table))
except ValueError as problem:
    parser.error(str(problem))

results = {} if args.quick else read(data)
try:
    under = conditions(effort, wanted) if wanted else {}
except RuntimeError as problem:
    sys.exit(f"benchmark.py: {problem}")
for name in tqdm(wanted, desc="rows"):
    results[name] = {"conditions": under} | rows.measured(table[name], effort)
    if not args.quick:
        save(data, results)
text = page(results, list(table))
if not args.quick:
    write_text(args.output, text)
print(text)
sys.exit(any("problem" in results[name] for name in wanted))

"""Compute the released traces of minirlhf/conformance/ from their seeds.

    python scripts/make_traces.py [STEP ...] [--check] [--quick]

Writes models, batch, arrays and their description for each step, and docs/traces.md.  With --check
it compares what is there, and ends with status 1 if something differs: names, order and words
exactly, numbers to 1e-12 of each array's largest (float64 sums end in other digits on other
machines).  --quick checks one step.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from traces.page import PAGE, page
from traces.writing import same, write

from minirlhf.conformance.trace import folder
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.files import read_tensors, write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("steps", nargs="*", metavar="STEP", help="by default all")
parser.add_argument("--check", action="store_true", help="compare, write nothing")
parser.add_argument("--quick", action="store_true", help="check one step, as a test")
args = parser.parse_args()
wrong = []
for name in ["reward_model_step"] if args.quick else args.steps or list(STEPS):
    there = folder.released(name)
    if not (args.check or args.quick):
        write(name, there)
    with tempfile.TemporaryDirectory() as again:
        write(name, Path(again))
        wrong += [] if same(there, Path(again)) else [name]
    print(f"{name:20} {len(read_tensors(there / 'trace.safetensors')):4} arrays")
if args.check and PAGE.read_text(encoding="utf-8") != page():
    wrong.append(PAGE.name)
elif not (args.check or args.quick):
    write_text(PAGE, page())
if wrong:
    sys.exit(f"not as they are computed here: {', '.join(wrong)}")

"""Compute the released traces of minirlhf/conformance/ from their seeds.

    python scripts/make_traces.py [STEP ...] [--check] [--quick]

Writes models, batch, arrays and their description for each step, or with --check compares what is
there: names, order and words exactly, numbers to 1e-12 of each array's largest (float64 sums end in
other digits on other machines), and ends with status 1 if something differs.  --quick checks one.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from traces.making import CONFIG, released

from minirlhf.conformance.trace import folder
from minirlhf.conformance.trace.compare import differs
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.files import read_object, read_tensors
from minirlhf.transformer import save


def write(name: str, place: Path) -> None:
    models, batch, settings = released(name)
    for model, (params, _) in models.items():
        save(place / model, params, CONFIG)
    step = STEPS[name]
    folder.write_trace_files(place, step, folder.base_of(step, models, batch, settings))


def same(place: Path, other: Path) -> bool:
    files = sorted(file.relative_to(place) for file in place.rglob("*") if file.is_file())
    return files == sorted(f.relative_to(other) for f in other.rglob("*") if f.is_file()) and all(
        read_object(place / file) == read_object(other / file) if file.suffix == ".json" else
        near(read_tensors(place / file), read_tensors(other / file)) for file in files)


def near(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and not any(differs(a[n], b[n], rtol=1e-12) for n in a)


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
if wrong:
    sys.exit(f"not as they are computed here: {', '.join(wrong)}")

"""How training over ranks scales, stage by stage, on this machine: docs/scale.md.

    python scripts/scale.py [--turns 5] [--output docs/scale.md] [--quick]

One rank against two, each with a core of its own, and one process with two threads, by turns in
this one command.  --quick measures a minute size and writes nothing.  Needs the extra `mpi`.
"""

import argparse
import sys
from pathlib import Path

from scaling.page import page
from scaling.turns import MPIEXEC, WAYS, measured
from scaling.work import STAGES
from tqdm import tqdm

from minirlhf.arrays import select_backend
from minirlhf.environment import environment
from minirlhf.files import write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--output", type=Path, default=Path("docs/scale.md"))
parser.add_argument("--quick", action="store_true", help="some seconds, as a test")
args = parser.parse_args()
if args.turns < 1:
    parser.error("turns must be at least 1")
if not MPIEXEC.exists():
    sys.exit("scale.py: there is no mpiexec beside python; pip install -e '.[mpi]' brings it")
turns = 1 if args.quick else args.turns
found: dict[str, dict[str, list]] = {stage: {way: [] for way in WAYS} for stage in STAGES}
for stage, way, told in tqdm(measured(turns, args.quick), total=turns * len(STAGES) * len(WAYS)):
    found[stage][way].append(told)
here = environment(select_backend("numpy"))
text = page(found, f"{here['processor']}, NumPy {here['numpy']}.")
if not args.quick:
    write_text(args.output, text)
print(text)

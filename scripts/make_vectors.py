"""Compute the test vectors of minirlhf/conformance/ with the witness, independently of the package.

    python scripts/make_vectors.py [FUNCTION ...] [--check] [--quick]

Writes a file for each family, or with --check compares what is there and ends with status 1 if a
byte differs.  --quick checks one family.
"""

import argparse
import sys

from vectors.building import build
from vectors.everything import FAMILIES
from vectors.text import text

from minirlhf.conformance.vectors import V1
from minirlhf.files import write_text

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="by default all")
parser.add_argument("--check", action="store_true", help="compare, write nothing")
parser.add_argument("--quick", action="store_true", help="check one family, as a test")
args = parser.parse_args()
wanted = ["gae"] if args.quick else args.functions or list(FAMILIES)
unknown = sorted(set(wanted) - set(FAMILIES))
if unknown:
    parser.error(f"no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")

differs, tests = [], 0
for function in wanted:
    content = build(FAMILIES[function])
    path, made = V1 / f"{function}.json", text(content)
    if args.check or args.quick:
        same = path.is_file() and path.read_bytes() == made.encode()
        differs += [] if same else [function]
    else:
        write_text(path, made)
    count = sum(len(group["tests"]) for group in content["groups"])
    tests += count
    print(f"{function:30} {len(content['groups']):3} groups {count:4} tests")
print(f"{'together':30} {tests:15} tests")
if differs:
    sys.exit(f"not as the witness computes them: {', '.join(differs)}")

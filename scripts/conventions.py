"""Write the pages of docs/conventions/ from the test vectors, the presets and the variants.

    python scripts/conventions.py [--out FOLDER] [--check] [--quick]

One page for each axis, and an index; every number on them is computed.  --check writes nothing and
ends with status 1 if a byte differs, or a page is there that should not be.  --quick checks one
page.
"""

import argparse
import sys
from pathlib import Path

from convention_pages.index import index
from convention_pages.pages import page

from minirlhf.conformance.variants import ANSWERS
from minirlhf.files import write_text

DOCS = Path(__file__).parent.parent / "docs" / "conventions"

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=DOCS, help="by default docs/conventions")
parser.add_argument("--check", action="store_true", help="compare, write nothing")
parser.add_argument("--quick", action="store_true", help="check one page, as a test")
args = parser.parse_args()

made = {"gae.mask.md": page("gae.mask")} if args.quick else {
    "README.md": index(), **{f"{axis}.md": page(axis) for axis in ANSWERS}}
if args.check or args.quick:
    there = {} if args.quick else {path.name: None for path in args.out.glob("*")}
    differs = [name for name in there | made if made.get(name) is None
               or not (args.out / name).is_file()
               or (args.out / name).read_text(encoding="utf-8") != made[name]]
    if differs:
        sys.exit(f"not as they are computed: {', '.join(differs)}; python scripts/conventions.py")
else:
    for name, text in made.items():
        write_text(args.out / name, text)
print("checked:" if args.check or args.quick else "written:", ", ".join(made))

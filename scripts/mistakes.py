"""Known mistakes, injected one at a time into a correct adapter: which are caught, and named?

    python scripts/mistakes.py [--check] [--quick]

Writes docs/mistakes.md, or with --check compares it with what would be written and ends with
status 1 if it differs.  --quick shows the mistakes of one function and writes nothing.
"""

import argparse
import sys
from pathlib import Path

from mistaking.injecting import injected
from mistaking.page import page, row

from minirlhf.files import write_text

PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--check", action="store_true", help="compare, write nothing")
parser.add_argument("--quick", action="store_true", help="one function, written nowhere")
args = parser.parse_args()
if args.quick:
    print("\n".join(map(row, injected("whiten"))))
    sys.exit()
text = page(list(injected()))
if not args.check:
    write_text(PAGE, text)
    print(f"written: {PAGE}")
elif PAGE.read_text(encoding="utf-8") != text:
    sys.exit(f"{PAGE.name} is not what would be written")

"""Every preset as an implementation: is it identified, and told from all others?

    python scripts/tell_apart.py [--check] [--quick]

Writes docs/identified.md, or with --check compares it with what would be written and ends with
status 1 if it differs.  --quick shows the table and writes nothing.
"""

import argparse
import sys
from pathlib import Path

from telling_apart.confusion import confusion
from telling_apart.page import page

from minirlhf.files import write_text

PAGE = Path(__file__).parent.parent / "docs" / "identified.md"

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--check", action="store_true", help="compare, write nothing")
parser.add_argument("--quick", action="store_true", help="show, write nothing")
args = parser.parse_args()
text = page(confusion())
if args.quick:
    print(text)
elif not args.check:
    write_text(PAGE, text)
    print(f"written: {PAGE}")
elif PAGE.read_text(encoding="utf-8") != text:
    sys.exit(f"{PAGE.name} is not what would be written")

"""Released systems on trial: build an environment for each, check their own functions against all
vectors, and tell what each follows: docs/systems.md and docs/systems.json.

    python scripts/systems.py [SYSTEM ...] [--cache FOLDER] [--output docs/systems.md] [--page]

Environments are kept in the cache, about 1.5 GB each.  With names, only these are checked, and the
others' results are those of the JSON file.  --page writes the page of these results again, and
--quick only shows what would be installed.
"""

import argparse
from pathlib import Path

from released.environments import SYSTEMS, build, plan
from released.measuring import check, read, save
from released.page import page
from tqdm import tqdm

from minirlhf.files import write_text

names = [system.name for system in SYSTEMS]
parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(names)}")
parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "minirlhf-systems")
parser.add_argument("--output", type=Path, default=Path("docs/systems.md"))
parser.add_argument("--page", action="store_true", help="measure nothing")
parser.add_argument("--quick", action="store_true", help="install nothing, as a test")
args = parser.parse_args()
unknown = sorted(set(args.systems) - set(names))
if unknown:
    parser.error(f"no system {', '.join(unknown)}; there are {', '.join(names)}")
wanted = [system for system in SYSTEMS if system.name in (args.systems or names)]

if args.quick:
    for system in wanted:
        print(system.name, *plan(system), *(f"tests/peers/systems/{name}.py"
                                            for name in system.adapters), sep="\n    ")
else:
    data = args.output.with_suffix(".json")
    results = read(data)
    for system in tqdm([] if args.page else wanted, desc="systems"):
        try:
            results[system.name] = check(system, build(system, args.cache))
        except RuntimeError as problem:
            results[system.name] = {"problem": str(problem)}
        save(data, results)
    write_text(args.output, page(results))
    print(args.output.read_text(encoding="utf-8"))

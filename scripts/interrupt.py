"""Kill runs again and again, resume them each time, and compare their files with one left alone.

    python scripts/interrupt.py [--kills 60] [--run "--algorithm grpo --rounds 2"] [--seed 0]

Real processes get SIGKILL at random moments, or while they write: as they are about to open a file
or to give a finished one its name.  Prints a table; ends with status 1 if a byte differs.
"""

import argparse
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from interruption.mortal import WAYS, contents, live
from tqdm import tqdm

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--kills", type=int, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--run", default="", help="more flags of the runs, as one text: --run='…'")
parser.add_argument("--quick", action="store_true", help="a tiny run and five kills")
args = parser.parse_args()
rng, kills = np.random.default_rng(args.seed), 5 if args.quick else args.kills
flags = ("--quick --preferences.prompts 40 --model.channels 16" if args.quick else
         "--quick --pretraining.steps 400 --sft.steps 200 --preferences.prompts 600 "
         "--reward.steps 80 --ppo.steps 15 --evaluation.samples 2").split()
flags += shlex.split(args.run)

deaths, runs, equal = [], 0, 0
with TemporaryDirectory() as left_alone, tqdm(total=kills, desc="kills") as bar:
    live(Path(left_alone), flags)
    wanted = contents(Path(left_alone))
    while len(deaths) < kills:
        with TemporaryDirectory() as folder:
            while death := live(Path(folder), flags, rng.choice(WAYS), rng=rng):
                deaths.append(death)
                bar.update()
            found = contents(Path(folder))
            different = {name for name, _ in wanted.items() ^ found.items()}
            runs, equal = runs + 1, equal + (not different)
            print(*(f"\ndifferent: {name}" for name in different), end="")

print(f"\n| died before | kills | {' | '.join(WAYS)} | half-written files left | "
      "work lost, s: median | most |\n|---|---|---|---|---|---|---|---|")
for made in dict.fromkeys(death.made for death in deaths):
    own = [death for death in deaths if death.made == made]
    ways = " | ".join(str(sum(death.way == way for death in own)) for way in WAYS)
    lost = [death.lost for death in own]
    print(f"| {made} | {len(own)} | {ways} | {sum(death.unfinished for death in own)} | "
          f"{np.median(lost):.1f} | {max(lost):.1f} |")
print(f"\n{len(deaths)} kills in {runs} runs; in the end {equal} of the {runs} runs had, byte for "
      "byte, the files of a run left alone.")
sys.exit(equal < runs)

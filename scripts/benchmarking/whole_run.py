"""The default `minirlhf run`, stage by stage, as a stranger sees it: from when its results appear.

Each stage's results appear in one moment, as a whole (pipeline.py), so the time between the last
results of two stages is the time of the second.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from benchmarking.processes import in_short, surroundings

from minirlhf import pipeline
from minirlhf.environment import read_peak
from minirlhf.settings import read_settings

# smaller still than its own --quick
QUICK = """--quick --backend numpy --model.channels 8 --model.heads 2 --model.layers 1
    --world.corpus-words 3000 --world.demonstration-count 30 --pretraining.steps 5
    --pretraining.batch-size 4 --pretraining.window 24 --sft.steps 3 --sft.batch-size 8
    --preferences.prompts 6 --preferences.replies 2 --reward.steps 2 --ppo.steps 2
    --ppo.batch-size 8 --ppo.minibatches 2 --ppo.max-new 8""".split()
ROOT = Path(__file__).resolve().parents[2]


def whole_run(threads: int, shards: int, quick: bool) -> dict:
    """{"stages": {name: seconds}, "seconds" of it all, "peak" bytes}.

    Raises RuntimeError with the last line of what a run said that failed.
    """
    command = [sys.executable, "-m", "minirlhf.cli", "run", "--name", "timed",
               "--shards", str(shards),
               *(QUICK if quick else ["--backend", "numpy"])]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with TemporaryDirectory() as folder, TemporaryFile() as said:
        started = time.time()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said,
                                   env=surroundings(threads) | {"PYTHONPATH": path})
        failed = process.wait()
        ended = time.time()
        if failed:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").splitlines()[-1:]
            raise RuntimeError(in_short(f"minirlhf run: {''.join(last)}"))
        run = Path(folder, "runs", "timed")
        return {"stages": between(started, moments(run), ended),
                "seconds": round(ended - started, 2), "peak": read_peak(run)}


def moments(run: Path) -> dict[str, float]:
    """When each stage's last result appeared, in the order of the stages."""
    steps = pipeline.steps(read_settings(run / "config.json"))
    return {name: (run / step.makes[-1]).stat().st_mtime
            for step in steps for name, stage in pipeline.STAGES.items() if stage is step}


def between(started: float, moments: dict[str, float], ended: float) -> dict[str, float]:
    """Seconds of each stage, from the end of the one before, and of the report after the last.

    The first one's begin with the process.
    """
    starts = [started, *moments.values()]
    ends = [*moments.values(), ended]
    return {name: round(end - start, 2)
            for name, start, end in zip([*moments, "report"], starts, ends, strict=True)}

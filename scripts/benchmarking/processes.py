"""The processes of the contenders: who they are, in which Python each runs, and how it is asked."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from released.environments import SYSTEMS, build

WORKER = Path(__file__).parent / "worker.py"
# what would choose another kernel, other threads or another layout of memory than the defaults
UNSET = re.compile(r"(OPENBLAS|GOTO|OMP|KMP|GOMP|MKL|BLIS|MALLOC|NUMEXPR|TORCH|INDUCTOR)_.*|"
                   r"GLIBC_TUNABLES|LD_PRELOAD")


@dataclass(frozen=True)
class Contender:
    """A side of a comparison: the module that does the tasks, and what its Python must have.

    compiled: whether by torch.compile.  system: a released one, that has an environment of its own.
    """

    name: str
    module: str
    packages: tuple[str, ...] = ()
    compiled: bool = False
    system: str | None = None


OURS = Contender("ours", "ours")
TORCH = Contender("PyTorch", "in_torch", ("torch", "safetensors"))
COMPILED = Contender("torch.compile", "in_torch", ("torch", "safetensors"), compiled=True)
TRANSFORMERS = Contender("transformers", "in_transformers", ("torch", "transformers"))
TRL = Contender("TRL", "in_trl", system="trl-1.9.2")


def python(contender: Contender, cache: Path) -> str:
    """The Python in which it runs.  Raises RuntimeError saying what is not installed."""
    if contender.system is not None:
        [system] = [system for system in SYSTEMS if system.name == contender.system]
        return str(build(system, cache))
    missing = [name for name in contender.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} not installed; pip install -e '.[bench]' "
                           "brings what is compared with")
    return sys.executable


def surroundings(threads: int) -> dict[str, str]:
    """The environment variables of every contender: as many threads for each, nothing tuned."""
    kept = {name: value for name, value in os.environ.items() if not UNSET.fullmatch(name)}
    return kept | dict.fromkeys(
        ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)) | {
        "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Worker:
    """A contender's process, to be asked and closed."""

    def __init__(self, module: str, program: str, threads: int):
        self.said = TemporaryFile()
        self.process = subprocess.Popen(
            [program, str(WORKER), module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.said, text=True, encoding="utf-8", env=surroundings(threads))

    def ask(self, **request) -> dict:
        """Raises RuntimeError with what went wrong there, without the machine's folders in it."""
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"problem": self.last_words()}
        if "problem" in answer:
            raise RuntimeError(in_short(answer["problem"]))
        return answer

    def last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().decode("utf-8", "replace").splitlines()
        return f"the process ended: {(lines or ['without a word'])[-1]}"

    def prepare(self, name: str, task: dict) -> "Task":
        self.ask(do="prepare", **task, task=name)
        return Task(self, name)

    def close(self) -> None:
        with suppress(BrokenPipeError):                  # what nobody there will read
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()


@dataclass(frozen=True)
class Task:
    """What a worker has prepared, to be done any number of times."""

    worker: Worker
    name: str

    def run(self, count: int, warm: int = 0, result: bool = False) -> dict:
        """{"seconds", "faults"} of one time, and so on: worker.py."""
        return self.worker.ask(do="run", task=self.name, count=count, warm=warm, result=result)


def in_short(problem: str) -> str:
    """The first line, with … in place of absolute paths."""
    line = (problem.splitlines() or [""])[0]
    return re.sub(r"(?<![\w./:-])/[\w.-]+(/[\w.-]+)*", "…", line)[:300]

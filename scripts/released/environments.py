"""An environment for each released system, with what it needs to compute on a CPU.

The systems want different versions of the same packages, so each has a virtual environment of its
own.  Versions are pinned, and torch first of all: left to itself, pip would choose a build of it
for GPUs.  Where a package is installed without its dependencies, these are for training on GPUs;
the adapters say how they import it.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
TRANSFORMERS = "transformers==5.23.0"
PYTHON = (3, 11)


@dataclass(frozen=True)
class System:
    """A release, the pip commands that install it, and the adapters that call it.

    `packages` are those whose installed versions are told.
    """
    name: str
    installs: tuple[tuple[str, ...], ...]
    adapters: tuple[str, ...]
    packages: tuple[str, ...]


def verl(release: str, transformers: str) -> System:
    return System(f"verl-{release}", (
        (TORCH,), ("--no-deps", f"verl=={release}"),
        ("omegaconf", "hydra-core", "tensordict==0.10.0", "numpy<3", transformers, "ray",
         "codetiming", "pandas")), ("verl_ppo",), ("verl", "torch", "transformers"))


SYSTEMS = (
    System("torch-2.13.0", ((TORCH, "numpy"),), ("torch_itself",), ("torch",)),
    System("trl-0.11.4", ((TORCH, "trl==0.11.4", "transformers==4.49.0", "rich"),),
           ("trl_classic",), ("trl", "torch", "transformers")),
    System("trl-1.9.2", ((TORCH, "trl==1.9.2", TRANSFORMERS, "requests"),), ("trl_ppo",),
           ("trl", "torch", "transformers")),
    System("trl-1.16.0", ((TORCH, "trl==1.16.0", TRANSFORMERS),),
           ("trl_grpo", "trl_rloo", "trl_preferences"), ("trl", "torch", "transformers")),
    System("torchtune-0.6.1", ((TORCH, "torchtune==0.6.1"), ("--no-deps", "torchao==0.14.1")),
           ("torchtune_ppo",), ("torchtune", "torch")),
    verl("0.7.0", "transformers==4.57.1"),
    verl("0.9.1", TRANSFORMERS),
    System("openrlhf-0.11.2", ((TORCH, "numpy", TRANSFORMERS, "einops"),
                               ("--no-deps", "openrlhf==0.11.2")),
           ("openrlhf_ppo", "openrlhf_preferences"), ("openrlhf", "torch", "transformers")),
)


def plan(system: System) -> list[str]:
    """The commands that make its environment, in words."""
    return [f"pip install {' '.join(words)}" for words in system.installs]


def build(system: System, cache: Path) -> Path:
    """The environment's Python.  One that was finished with the same commands is kept.

    Raises RuntimeError with the end of what pip said if something cannot be installed.
    """
    folder, done = cache / system.name, cache / f"{system.name}.txt"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = "\n".join(plan(system))
    if done.is_file() and done.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    called([base_python(), "-m", "venv", str(folder)], system)
    for words in system.installs:
        called([str(python), "-m", "pip", "install", "--quiet", *words], system)
    done.write_text(wanted, encoding="utf-8")
    return python


def base_python() -> str:
    """A Python of the version that the releases are for.  Raises RuntimeError if there is none."""
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    found = shutil.which("python{}.{}".format(*PYTHON))
    if found is None:
        raise RuntimeError("python{}.{} is not installed, for which these releases are".format(
            *PYTHON))
    return found


def called(words: list[str], system: System) -> None:
    ran = subprocess.run(words, capture_output=True, text=True, encoding="utf-8")
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise RuntimeError(f"{system.name}: {' '.join(words[-3:])}: "
                           f"{' '.join(lines or ran.stderr.splitlines()[-1:])[:300]}")

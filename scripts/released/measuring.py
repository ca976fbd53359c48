"""From an environment to a system's results, and these to and from a JSON file."""

import os
import subprocess
import tempfile
from pathlib import Path

from released.environments import SYSTEMS, System

from minirlhf.files import read_object, write_json

ROOT = Path(__file__).parents[2]
ADAPTERS = ROOT / "tests" / "peers" / "systems"


def check(system: System, python: Path) -> dict:
    """What each of its adapters was found to follow.

    Raises RuntimeError with the last line of what a failing adapter said.
    """
    with tempfile.TemporaryDirectory() as folder:
        adapters = {name: one(python, ADAPTERS / f"{name}.py", Path(folder, f"{name}.json"))
                    for name in system.adapters}
    return {"versions": versions(python, system.packages),
            "adapters": {name: shortened(found) for name, found in adapters.items()}}


def one(python: Path, adapter: Path, results: Path) -> dict:
    ran = subprocess.run(
        [str(python), str(ROOT / "scripts" / "released" / "inside.py"), str(adapter), str(results)],
        capture_output=True, text=True, encoding="utf-8", cwd=results.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                          "TRL_EXPERIMENTAL_SILENCE": "1"})
    if ran.returncode:
        last = (ran.stderr.splitlines() or ["it ended without a word"])[-1]
        raise RuntimeError(f"{adapter.name}: {last.replace(str(adapter.parent), '')[:300]}")
    return read_object(results)


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    ran = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True,
                         encoding="utf-8", check=True)
    return dict(zip(packages, ran.stdout.split(), strict=True))


def shortened(found: dict) -> dict:
    """Counts in place of tests' names, of the groups that matter: the core's, those that lists
    claim, those that are followed, and the nearest.  In the first two, tests that depart are
    named."""
    claimed = {(claim["function"], group) for claim in found["claims"]
               for group in claim["groups"]}
    return {"claims": found["claims"], "measured": [
        {key: one[key] for key in ("function", "setting", "coarse", "follows", "presets")}
        | {"nearest": nearest(one["groups"]), "groups": {
            group["group"]: counted(group, group["core"] or (one["function"], group["group"])
                                    in claimed)
            for group in one["groups"] if group["core"] or group["group"] in one["follows"]
            or (one["function"], group["group"]) in claimed
            or group["group"] == nearest(one["groups"])}}
        for one in found["measured"]]}


def nearest(groups: list[dict]) -> str:
    """The group most of whose tests came out, by share."""
    def share(group: dict) -> float:
        good = len(group["matched"]) + len(group["float32"])
        return good / (good + len(group["departed"]) + 1)
    return max(groups, key=share)["group"]


def counted(group: dict, named: bool) -> dict:
    return {"core": group["core"], "matched": len(group["matched"]),
            "float32": len(group["float32"]), "left_out": len(group["left_out"]),
            "departed": sorted(group["departed"]) if named else len(group["departed"])}


def read(path: Path) -> dict:
    """{system: its results}, in the order of SYSTEMS; empty if there is no file."""
    found = read_object(path) if path.is_file() else {}
    return {system.name: found[system.name] for system in SYSTEMS if system.name in found}


def save(path: Path, results: dict) -> None:
    order = {system.name: results[system.name] for system in SYSTEMS if system.name in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, order)

"""One contender, alone in a process, so that memory, page faults and threads do not mix.

    python scripts/benchmarking/worker.py MODULE

A request is a line of JSON on stdin, and so is its answer on stdout:

    {"do": "prepare", "task": "a", "work": "step", …}    load what task a needs (tasks.py)
    {"do": "run", "task": "a", "count": 20, "warm": 1}   do it 20 times, after once untimed
    {"do": "ask", "what": "versions"}                    call a function of the module

"run" answers {"seconds", "faults"} of one time, on average, and the last "result" if that is asked
for; all answer with {"peak"} and {"resident"} memory in bytes; what went wrong is a {"problem"}.
What libraries print goes to stderr.
"""

import importlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from time import perf_counter

SCRIPTS = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")


def memory() -> dict[str, int]:
    """The most that this process has held so far, and what it holds now, in bytes.

    From Linux's own table where there is one: ru_maxrss begins with what the *parent* held when it
    started this process.
    """
    if STATUS.exists():
        table = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return {key: 1024 * int(table[name].split()[0])
                for key, name in (("peak", "VmHWM"), ("resident", "VmRSS"))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return {"peak": peak, "resident": peak}


def run(once, count: int, warm: int = 0, result: bool = False) -> dict:
    """The cost of once(), on average over `count` times, after `warm` times that do not count."""
    for _ in range(warm):
        once()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = perf_counter()
    for _ in range(count):
        made = once()
    seconds = perf_counter() - started
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    answer = {"seconds": seconds / count, "faults": faults / count}
    if result:
        answer["result"] = made.tolist() if hasattr(made, "tolist") else made
    return answer


def answer(module, tasks: dict, do: str, **request) -> dict:
    if do == "ask":
        return {"result": getattr(module, request["what"])()}
    name = request.pop("task")
    if do == "prepare":
        tasks[name] = getattr(module, request["work"])(request)
        return {}
    return run(tasks[name], **request)


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)                                        # C libraries print to stdout as well
    tasks, module, imported = {}, None, 0
    for line in sys.stdin:
        try:
            if module is None:
                module = importlib.import_module(f"benchmarking.{name}")
                imported = memory()["resident"]
            found = answer(module, tasks, **json.loads(line))
        except Exception as problem:                     # said to the parent, which goes on
            traceback.print_exc()
            found = {"problem": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(found | memory() | {"imported": imported}), file=answers, flush=True)
    os._exit(0)                                          # whatever threads are still at work


if __name__ == "__main__":
    sys.path[0] = str(SCRIPTS)                           # not this folder
    sys.path.insert(1, str(SCRIPTS.parent))
    main(sys.argv[1])

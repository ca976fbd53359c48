"""The process in which an adapter lives: `python -m minirlhf.conformance.worker ADAPTER`.

It reads one request a line, {"function", "group", "test"}, reads that test's inputs from the
vector files, calls the adapter, and answers with one line: {"values", "gradients"} or {"problem"}.
The first line of all says what the adapter defines, or why it cannot be imported.

Whatever the adapter does in here is its own affair: what it prints goes to the error stream, what
it raises is an answer, and if it ends or hangs, the process on the other side (runner.py) notices
and starts another.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.conformance.adapters import Adapter, Function, open_adapter, where
from minirlhf.conformance.frameworks import NotWanted
from minirlhf.conformance.vectors import Group, Test, Vectors, load


def main(source: str, float32: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the other side ends this process
    requests, answers = private_streams()

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    warnings.simplefilter("ignore")                 # masked slots hold NaN and 1e30 on purpose
    np.seterr(all="ignore")
    try:
        adapter = open_adapter(source)
        adapter.framework.prepare(float32)
    except ValueError as problem:
        say({"problem": str(problem)})
        return
    say(described(adapter))
    for line in requests:
        request = json.loads(line)
        file = load(request["function"])
        group = next(group for group in file.groups if group.name == request["group"])
        test = next(test for test in group.tests if test.id == request["test"])
        say(answered(adapter, file, group, test, float32))


def private_streams():
    """The pipes to the other side, out of reach of what the adapter reads and prints."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)
    return requests, answers


def described(adapter: Adapter) -> dict:
    """What the adapter defines, for the other side."""
    able = adapter.framework.differentiates
    return {"framework": adapter.framework.name, "functions": {
        name: {"takes": list(function.takes), "problem": function.problem,
               "gradients": able or function.slope is not None}
        for name, function in adapter.functions.items()}}


def answered(adapter: Adapter, file: Vectors, group: Group, test: Test, float32: bool) -> dict:
    """The outcome of one test: {"values", "gradients"}, or {"problem"} of the adapter's."""
    try:
        values, gradients = outcome(adapter, file, group, test, float32)
        return {"values": values, "gradients": gradients}
    except SystemExit as end:
        return {"problem": f"called sys.exit({'' if end.code is None else end.code!r})"}
    except NotWanted as problem:
        return {"problem": str(problem)}
    except BaseException as problem:                # whatever it is, it is this test's outcome
        code = getattr(adapter.functions[file.function].call, "__code__", None)
        return {"problem": f"raised {where(problem, code and Path(code.co_filename))}"}


def outcome(adapter: Adapter, file: Vectors, group: Group, test: Test, float32: bool) -> tuple:
    """Call the function on a test's inputs, in the adapter's framework, gradients included."""
    function, framework = adapter.functions[file.function], adapter.framework

    def there(x: Any) -> Any:
        return converted(x, framework.into, float32)
    inputs = {name: there(x) for name, x in file.call(group, test).items()}
    cotangent = test.expected.cotangent
    names = [result.name for result in file.results]
    wrt = tuple(test.expected.gradients or ())

    def call(given: dict) -> dict:
        return named(function(given), names)
    results, gradients = framework.run(
        call, inputs, wrt if framework.differentiates else (), cotangent)
    if wrt and not framework.differentiates and function.slope is not None:
        gradients = by_hand(function.slope, there, file, group, test, wrt)
    back = framework.back
    return ({name: plain_lists(y, back, name) for name, y in results.items()},
            gradients and {name: plain_lists(y, back, f"the gradient of {name}")
                           for name, y in gradients.items()})


def by_hand(slope: Function, there: Callable, file: Vectors, group: Group, test: Test,
            wrt: tuple) -> dict:
    """The gradients that the adapter's second function gives."""
    if slope.problem:
        raise NotWanted(f"{file.function}_grad {slope.problem}")
    inputs = {name: there(x) for name, x in file.call(group, test).items()}
    weights = test.expected.cotangent
    if weights is not None:
        lone = len(weights) == 1
        inputs["cotangent"] = there(next(iter(weights.values())) if lone else weights)
    return named(slope(inputs), list(wrt), "gradients")


def converted(x: Any, into: Callable, float32: bool) -> Any:
    """A copy of an input in the framework's arrays; what is no array stays as it is."""
    if isinstance(x, dict):
        return {name: converted(inner, into, float32) for name, inner in x.items()}
    if not isinstance(x, np.ndarray):
        return x
    return into(x.astype(np.float32 if float32 and x.dtype.kind == "f" else x.dtype))


def named(y: Any, names: list[str], what: str = "results") -> dict:
    """The results by name: from a dict, a tuple in order, or a lone one itself."""
    if y is None:
        raise NotWanted(f"returned None; wanted {' and '.join(names)}")
    if isinstance(y, dict) and set(names) <= set(y):
        return {name: y[name] for name in names}
    if isinstance(y, tuple | list) and len(y) == len(names) and (len(names) > 1
                                                                 or isinstance(y, tuple)):
        return dict(zip(names, y, strict=True))
    if len(names) == 1:
        return {names[0]: y}
    count = f"{len(y)} {what}" if isinstance(y, tuple | list) else type(y).__name__
    raise NotWanted(f"returned {count}; wanted {len(names)}: {', '.join(names)}")


def plain_lists(y: Any, back: Callable, name: str) -> Any:
    """A result as nested lists of numbers.  Raises NotWanted for anything that is no number."""
    if isinstance(y, dict):
        return {key: plain_lists(inner, back, f"{name}[{key!r}]") for key, inner in y.items()}
    if y is None:
        raise NotWanted(f"returned None for {name}; wanted numbers")
    try:
        array = np.asarray(back(y))
    except (TypeError, ValueError) as problem:
        raise NotWanted(f"returned no array for {name}: {problem}") from None
    if array.dtype.kind not in "biuf":
        raise NotWanted(f"returned a {type(y).__name__} for {name}; wanted real numbers")
    return (array if array.dtype.kind in "biu" else array.astype(np.float64)).tolist()


if __name__ == "__main__":
    main(sys.argv[1], "--float32" in sys.argv[2:])

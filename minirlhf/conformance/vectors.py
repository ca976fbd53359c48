"""Reading the test vectors: file → groups → tests, as frozen dataclasses and NumPy arrays.

What the fields mean is told by the descriptions in `vectors/v1/schema.json`: whoever reads the
files in another language needs nothing of this.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.files import read_object

FOLDER = Path(__file__).parent
V1 = FOLDER / "vectors" / "v1"
DTYPES = {"float": np.float64, "int": np.int64, "bool": np.bool_}


@dataclass(frozen=True)
class Argument:
    """An input of the function, or a result of it (then never differentiated or optional).

    One with an `axis` takes the group's answer, an optional one left out its `default`.
    """
    name: str
    shape: str
    dtype: str
    about: str
    differentiated: bool = False
    optional: bool = False
    axis: str | None = None
    default: float | str | None = None


@dataclass(frozen=True)
class Axis:
    """A question on which systems differ, and {answer: what it means}."""
    name: str
    about: str
    values: dict[Any, str]


@dataclass(frozen=True)
class Wanted:
    """An array, and where it is to be compared."""
    value: np.ndarray
    counts: np.ndarray


Named = dict[str, Any]                          # name -> Wanted, or a dict of them for a tree


@dataclass(frozen=True)
class Outcome:
    """Values, and gradients of Σ cotangent·values (of the value itself where there is none); those
    of a mistake only where its values show nothing."""
    values: Named
    gradients: Named | None = None
    cotangent: dict[str, Any] | None = None


@dataclass(frozen=True)
class Tolerance:
    """The atol + rtol·|wanted| of `departs`; `why` gives the reason."""
    rtol: float
    atol: float
    why: str = ""


@dataclass(frozen=True)
class Test:
    """One law: inputs, what comes out, and what comes out of known mistakes.

    float32 is the tolerance in that precision, None where it cannot tell right from wrong.
    """
    __test__ = False                            # not for pytest to collect
    id: str
    law: str
    flags: tuple[str, ...]
    inputs: dict[str, Any]
    expected: Outcome
    tolerance: Tolerance
    float32: Tolerance | None
    mistakes: dict[str, Outcome]


@dataclass(frozen=True)
class Group:
    """Tests under one answer to every axis (`core`: ours), and ids of those of the first group's
    that come out alike under them."""
    name: str
    core: bool
    parameters: dict[str, Any]
    systems: tuple[str, ...]
    tests: tuple[Test, ...]
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vectors:
    """One file: a function, its arguments, its axes, its groups."""
    function: str
    says: str
    equation: tuple[str, ...]
    sources: tuple[dict[str, str], ...]
    arguments: tuple[Argument, ...]
    results: tuple[Argument, ...]
    axes: tuple[Axis, ...]
    witness: dict[str, str | None]
    groups: tuple[Group, ...]

    def call(self, group: Group, test: Test) -> dict[str, Any]:
        """The keyword arguments of a test, with the group's answers where an argument is one."""
        return test.inputs | {argument.name: group.parameters[argument.axis]
                              for argument in self.arguments if argument.axis}


@dataclass(frozen=True)
class Note:
    """What a flag means: what goes wrong, what it costs, who was bitten (public threads)."""
    wrong: str
    costs: str
    bitten: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """A real system as it was when its code was read: repository, commit, and which part of it."""
    repository: str | None
    commit: str | None
    date: str | None
    part: str


def functions() -> tuple[str, ...]:
    """The names of all files of vectors, in alphabetical order."""
    return tuple(sorted(p.stem for p in V1.glob("*.json") if "schema" not in p.name))


@cache
def load(function: str) -> Vectors:
    """The vectors of one function.  Raises ValueError if there are none."""
    if function not in functions():
        raise ValueError(f"no vectors for {function!r}; choose {', '.join(functions())}")
    file = read_object(V1 / f"{function}.json")
    arguments = tuple(Argument(**entry) for entry in file["arguments"])
    results = tuple(Argument(**entry) for entry in file["results"])
    axes = tuple(Axis(axis["name"], axis["about"],
                      {entry["value"]: entry["means"] for entry in axis["values"]})
                 for axis in file["axes"])
    groups = tuple(
        Group(group["name"], group["core"], group["parameters"], tuple(group["systems"]),
              tuple(read_test(test, arguments, results) for test in group["tests"]),
              tuple(group["shares"]))
        for group in file["groups"])
    told = file["definition"]
    return Vectors(function, told["says"], tuple(told["equation"]), tuple(told["sources"]),
                   arguments, results, axes, file["witness"], groups)


@cache
def notes() -> dict[str, Note]:
    """{flag: what it means} of all flags."""
    return {flag: Note(note["wrong"], note["costs"], tuple(note["bitten"]))
            for flag, note in read_object(FOLDER / "notes.json").items()}


@cache
def systems() -> dict[str, System]:
    """{name: where its conventions were read} of all systems that groups name."""
    return {name: System(entry["repository"], entry["commit"], entry["date"], entry["is"])
            for name, entry in read_object(FOLDER / "systems.json").items()}


def read_test(test: dict, arguments: tuple[Argument, ...], results: tuple[Argument, ...]) -> Test:
    inputs_as = {argument.name: argument for argument in arguments}
    results_as = {result.name: result for result in results}

    def outcome(block: dict) -> Outcome:
        gradients, cotangent = block.get("gradients"), block.get("cotangent")
        return Outcome(
            {name: wanted(x, results_as[name].dtype) for name, x in block["values"].items()},
            gradients and {name: wanted(x, "float") for name, x in gradients.items()},
            cotangent and {name: array(x, "float") for name, x in cotangent.items()})
    allowed = test["tolerance"]
    return Test(
        test["id"], test["law"], tuple(test["flags"]),
        {name: given(x, inputs_as[name]) for name, x in test["inputs"].items()},
        outcome(test["expected"]),
        Tolerance(allowed["rtol"], allowed["atol"], allowed["why"]),
        allowed["float32"] and Tolerance(**allowed["float32"]),
        {flag: outcome(block) for flag, block in test["mistakes"].items()})


# --- from JSON to arrays -------------------------------------------------------------------------

def array(x: Any, dtype: str) -> Any:
    """Nested lists as an array (an object as a dict of arrays); "nan" and "inf" as numbers."""
    if isinstance(x, dict):
        return {name: array(inner, dtype) for name, inner in x.items()}
    return np.asarray(spelled_out(x), dtype=DTYPES[dtype])


def spelled_out(x: Any) -> Any:
    if isinstance(x, list):
        return [spelled_out(inner) for inner in x]
    return float(x) if isinstance(x, str) else x


def given(x: Any, argument: Argument) -> Any:
    """An input: an array, or a plain number or string where the shape is ()."""
    if argument.shape == "()":
        return float(x) if argument.dtype == "float" else x
    return frozen(array(x, argument.dtype))


def frozen(x: Any) -> Any:
    """Inputs are read once and used by many: whoever writes into one is told."""
    if isinstance(x, dict):
        return {name: frozen(inner) for name, inner in x.items()}
    x.setflags(write=False)
    return x


def wanted(x: Any, dtype: str) -> Any:
    """An expected result: null marks a slot that is not compared, and holds 0 here."""
    if isinstance(x, dict):
        return {name: wanted(inner, dtype) for name, inner in x.items()}

    def each(tree, function):
        return [each(t, function) for t in tree] if isinstance(tree, list) else function(tree)
    return Wanted(array(each(x, lambda y: 0 if y is None else y), dtype),
                  np.asarray(each(x, lambda y: y is not None), dtype=bool))


def departs(actual: Any, expected: Any, tolerance: Tolerance) -> bool:
    """Whether a result is wrong: of another shape, or off by more than the tolerance somewhere.

    Trees (dicts) are compared leaf by leaf; NaN equals only NaN, an infinity only itself.
    """
    if isinstance(expected, dict):
        return not isinstance(actual, dict) or set(actual) != set(expected) or any(
            departs(actual[name], expected[name], tolerance) for name in expected)
    actual = np.asarray(actual, dtype=np.float64)
    if actual.shape != expected.value.shape:
        return True
    a, w = actual[expected.counts], expected.value[expected.counts].astype(np.float64)
    return not np.allclose(a, w, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)

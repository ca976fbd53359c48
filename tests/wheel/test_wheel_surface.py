"""What the real CuPy says, on any machine: its wheel imports without a driver.

Its record (strict/surface.json) is compared with it; the traps of the double are tried on its own
arrays; and every name and keyword that this package uses is looked up in it.
"""

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from helpers import FLAGS, call, on_cupy
from strict import LEDGER, playing_cupy
from strict.phantom import asked_the_device, phantom
from strict.surface import (
    from_docstring,
    from_signature,
    has_method,
    introspect,
    parse,
    read,
)
from strict.traps import OUT_OF_BOUNDS, TRAPS, table

from minirlhf.arrays import cupy_problem

cupy = pytest.importorskip("cupy", reason="cupy is not installed: pip install cupy-cuda13x")
PACKAGE = Path(importlib.import_module("minirlhf").__file__).parent
without_device = pytest.mark.skipif(cupy_problem() is None, reason="a GPU is here: its own tests "
                                    "(pytest --backend cupy) say more than a phantom")


def test_the_record_is_what_the_installed_cupy_has():
    if read()["cupy"] != cupy.__version__:
        pytest.skip(f"the record is of CuPy {read()['cupy']}, {cupy.__version__} is installed: "
                    "PYTHONPATH=tests python -m strict.surface makes a new one")
    assert introspect() == read()


# --- the traps, on arrays of CuPy's own ----------------------------------------------------------

@without_device
@pytest.mark.parametrize("trap", TRAPS)
def test_cupy_says_of_a_trap_what_the_table_says_of_cupy(trap):
    try:
        TRAPS[trap].line(cupy, table(phantom))
        said = None
    except Exception as problem:                         # whatever it is, it is what is looked at
        said = problem
    if TRAPS[trap].who == "cupy":
        assert isinstance(said, TRAPS[trap].refusal) and not asked_the_device(said)
    else:
        assert said is None or asked_the_device(said)


@without_device
@pytest.mark.parametrize("line", OUT_OF_BOUNDS)
def test_cupy_does_not_look_at_indices_before_it_asks_the_device(line):
    with pytest.raises(RuntimeError) as problem:
        OUT_OF_BOUNDS[line](cupy, table(phantom))
    assert asked_the_device(problem.value)


# --- the names that this package uses ------------------------------------------------------------

@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """(kind, name, keywords) of everything that whole runs ask of CuPy, by the double's log."""
    folder = tmp_path_factory.mktemp("used")
    LEDGER.used.clear()
    flags = on_cupy(FLAGS)
    with playing_cupy():
        for algorithm in ("ppo", "grpo", "rloo"):
            assert call("run", "--name", algorithm, "--out", str(folder), *flags, "--algorithm",
                        algorithm, "--baselines", "best-of-n", "dpo") == 0
    return set(LEDGER.used)


def test_the_log_of_whole_runs_holds_the_machinery(used):
    names = {name for _, name, _ in used}
    assert {"asarray", "asnumpy", "where", "exp", "sum", "take_along_axis", "concatenate"} <= names
    assert len(names) > 30


def test_every_name_and_keyword_of_whole_runs_exists_in_cupy(used):
    for kind, name, keywords in used:
        thing = getattr(cupy.ndarray if kind == "methods" else cupy, name)
        if kind == "ufunc_methods":
            assert has_method(thing, *keywords)
        elif keywords:
            text = from_signature(thing) if inspect.isfunction(thing) else from_docstring(thing)
            assert set(keywords) <= parse(name, text).keywords, name


def names_of_xp(path: Path) -> set[str]:
    """Every `xp.name` in a file, whether a run reaches it or not; `array_module(x).name` too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            called = owner.func if isinstance(owner, ast.Call) else None
            if (isinstance(owner, ast.Name) and owner.id == "xp") or (
                    isinstance(called, ast.Name) and called.id == "array_module") or (
                    isinstance(owner, ast.Attribute) and owner.attr == "xp"):
                found.add(node.attr)
    return found


def test_every_name_of_xp_in_the_source_exists_in_cupy():
    found = {name: path.name for path in PACKAGE.rglob("*.py") for name in names_of_xp(path)}
    assert {"exp", "ones", "put_along_axis", "empty_like"} <= found.keys()
    assert {name: where for name, where in found.items() if not hasattr(cupy, name)} == {}

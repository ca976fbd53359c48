"""Nobody who trains or labels may see the gold preference; the world stands on its own."""

import ast
from pathlib import Path

import pytest

import minirlhf.world

WORLD = Path(minirlhf.world.__file__).parent
PACKAGE = WORLD.parent
GOLD = "minirlhf.world.gold"
MAY_IMPORT_GOLD = {PACKAGE / "evaluation.py"}


def imported_by(path, source):
    """Every dotted name that a module imports, relative ones resolved."""
    package = ["minirlhf", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in (GOLD, ".gold"):
            names.add(GOLD)  # importlib.import_module and its like
    return names


def sees_gold(path, source):
    return any(name == GOLD or name.startswith(GOLD + ".") for name in imported_by(path, source))


def test_the_gold_preference_is_imported_by_the_evaluation_alone():
    importers = {p for p in PACKAGE.rglob("*.py") if sees_gold(p, p.read_text("utf-8"))}
    assert importers <= MAY_IMPORT_GOLD


@pytest.mark.parametrize(
    "source",
    [
        "import minirlhf.world.gold",
        "from minirlhf.world.gold import gold",
        "from minirlhf.world import gold",
        "from minirlhf.world import parser, gold as g",
        "from . import gold",
        "from .gold import gold",
        "from ..world import gold",
        "def f():\n    from .gold import gold",
        "import importlib\nimportlib.import_module('minirlhf.world.gold')",
    ],
)
def test_a_labeler_that_peeks_is_caught(source):
    assert sees_gold(WORLD / "labelers.py", source)


def test_the_world_imports_nothing_of_the_package_but_itself():
    for path in WORLD.glob("*.py"):
        for name in imported_by(path, path.read_text("utf-8")):
            if name.startswith("minirlhf"):
                assert name.startswith("minirlhf.world"), (path.name, name)


def test_the_world_draws_from_given_generators_only():
    for path in WORLD.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("np.random."):
                assert ast.unparse(node) == "np.random.Generator", path.name

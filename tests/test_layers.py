"""The layers of the package, read from its imports: a later row may use an earlier one only.

The rules are functions of source texts, so that the tests can also give them sources that break
a rule and see that they notice.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minirlhf"

ROWS = [                                            # from the machine up to the doors
    ["arrays"],
    ["parallel"],
    ["dealing"],
    ["files", "host"],
    ["environment"],
    ["parameters"],
    ["checkpoint"],
    ["autograd"],
    ["ops"],
    ["tokens"],
    ["transformer"],
    ["sampling"],
    ["optimizer", "memory"],
    ["sft", "bradley_terry", "kl_penalty", "gae", "clipped_surrogate", "group_advantage", "dpo",
     "aggregation"],
    ["rollout"],
    ["stages"],
    ["labels"],
    ["votes"],
    ["agreement"],
    ["world"],
    ["evaluation"],
    ["conformance"],
    ["wording"],
    ["watching"],
    ["text"],
    ["refusals"],
    ["sources", "people", "pretrained"],
    ["settings"],
    ["presets"],
    ["step_log"],
    ["run"],
    ["run_folder"],
    ["conventions"],
    ["preferences"],
    ["judgement"],
    ["pipeline"],
    ["continuing"],
    ["options"],
    ["labelling", "agreement_command", "refusals_command", "conventions_command", "trace_command",
     "verify_command", "claims_command"],
    ["findings"],
    ["report"],
    ["page"],
    ["chat_text"],
    ["chat"],
    ["commands"],
    ["sweeping"],
    ["cli"],
    ["__main__"],
]
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}

FOREIGN_ENGINES = {"torch", "jax", "autograd", "tensorflow", "tinygrad"}
MODULE_LINES, FUNCTION_LINES = 300, 60
LONGER = {                                          # what may be longer, and why
    "minirlhf.ops": "the table of all ops, each a screen of its own: read as a reference",
}


def read_package() -> dict[str, str]:
    """{dotted module name: source text} of everything in minirlhf/."""
    sources = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


SOURCES = read_package()


# --- reading imports -----------------------------------------------------------------------------

def imports(module: str, sources: dict[str, str]) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its text, inside functions too.

    `from minirlhf import ops` counts as minirlhf.ops, and `from .ops import exp` too.
    """
    is_package = any(other.startswith(module + ".") for other in sources)
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in sources else base


def layer(module: str) -> str:
    """"stages" for minirlhf.stages.ppo, "" for minirlhf itself; a folder's __main__ is a door."""
    parts = module.split(".")
    return "__main__" if parts[-1] == "__main__" else (parts + [""])[1]


def inner_imports(module: str, sources: dict[str, str]) -> list[str]:
    """Imports of this package's modules.  The package itself is no layer: it holds a version."""
    return sorted({name for name in imports(module, sources)
                   if name.startswith("minirlhf.") and layer(name)})


# --- the rules: each yields its violations in words ----------------------------------------------

def unknown_modules(sources):
    for module in sources:
        if layer(module) and layer(module) not in ROW_OF:
            yield f"{module} stands in no row: give it a place in ROWS"


def backward_imports(sources):
    for module in sources:
        own = layer(module)
        for imported in inner_imports(module, sources) if own in ROW_OF else ():
            other = layer(imported)
            if other != own and ROW_OF.get(other, len(ROWS)) >= ROW_OF[own]:
                yield f"{module} imports {imported}, which is not in an earlier row"


def circles(sources):
    edges = {module: inner_imports(module, sources) for module in sources}

    def reaches(start):
        seen, todo = set(), list(edges[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo.extend(edges.get(module, ()))
        return seen
    for module in sources:
        if layer(module) and module in reaches(module):
            yield f"{module} imports itself by way of others"


def world_imports(sources):
    for module in sources:
        for imported in inner_imports(module, sources):
            if layer(module) == "world" and layer(imported) != "world":
                yield f"{module} imports {imported}: the world knows nothing of the engine"
            if imported == "minirlhf.world.gold" and layer(module) != "evaluation":
                yield f"{module} imports {imported}, which only evaluation may see"


def foreign_imports(sources):
    for module in sources:
        for name in imports(module, sources):
            library = name.split(".")[0]
            if library in FOREIGN_ENGINES and layer(module) != "conformance":
                yield f"{module} imports {library}"
            if library == "cupy" and module != "minirlhf.arrays":
                yield f"{module} imports cupy: only arrays.py may"
            if library in ("pickle", "random"):
                yield f"{module} imports {library}"


def owner(attribute) -> str:
    """"random" for np.random.rand and for random.rand: the last name before the attribute's."""
    return ast.unparse(attribute.value).split(".")[-1]


def global_randomness(sources):
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and owner(node) == "random":
                if node.attr not in ("default_rng", "Generator"):
                    yield f"{module} uses {ast.unparse(node)}, line {node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
                if {alias.name for alias in node.names} - {"default_rng", "Generator"}:
                    yield f"{module} imports from numpy.random, line {node.lineno}"


RULES = [unknown_modules, backward_imports, circles, world_imports, foreign_imports,
         global_randomness]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_breaks_no_rule(rule):
    assert "minirlhf.ops" in SOURCES and "minirlhf.world" in SOURCES    # it was really read
    assert list(rule(SOURCES)) == []


BROKEN = [
    (unknown_modules, {"minirlhf.utils": ""}),
    (backward_imports, {"minirlhf.ops": "from minirlhf.sft import sft_loss", "minirlhf.sft": ""}),
    (backward_imports, {"minirlhf.ops": "from minirlhf import sft", "minirlhf.sft": ""}),
    (backward_imports, {"minirlhf.ops": "import minirlhf.sft", "minirlhf.sft": ""}),
    (backward_imports, {"minirlhf.ops": "from .sft import sft_loss", "minirlhf.sft": ""}),
    (backward_imports, {"minirlhf.ops": "def f():\n    from . import sft", "minirlhf.sft": "",
                        "minirlhf": ""}),
    (backward_imports, {"minirlhf.gae": "import minirlhf.dpo", "minirlhf.dpo": ""}),
    (backward_imports, {"minirlhf.stages.ppo": "from minirlhf.world import prompts",
                        "minirlhf.stages": "", "minirlhf.world.prompts": "", "minirlhf.world": ""}),
    (backward_imports, {"minirlhf.ops": "import minirlhf.utils", "minirlhf.utils": ""}),
    (circles, {"minirlhf.stages.a": "from minirlhf.stages import b", "minirlhf.stages": "",
               "minirlhf.stages.b": "from .a import x"}),
    (circles, {"minirlhf.stages.a": "import minirlhf.stages.b", "minirlhf.stages": "",
               "minirlhf.stages.b": "from minirlhf.stages import c",
               "minirlhf.stages.c": "from minirlhf.stages.a import x"}),
    (world_imports, {"minirlhf.world.prompts": "from minirlhf import arrays",
                     "minirlhf.arrays": "", "minirlhf.world": ""}),
    (world_imports, {"minirlhf.world.labelers": "from minirlhf.world.gold import utility",
                     "minirlhf.world": "", "minirlhf.world.gold": ""}),
    (world_imports, {"minirlhf.pipeline": "from minirlhf.world import gold",
                     "minirlhf.world": "", "minirlhf.world.gold": ""}),
    (foreign_imports, {"minirlhf.sft": "import torch.nn as nn"}),
    (foreign_imports, {"minirlhf.ops": "def f():\n    from jax import numpy"}),
    (foreign_imports, {"minirlhf.autograd": "from autograd import grad"}),
    (foreign_imports, {"minirlhf.ops": "import cupy as cp"}),
    (foreign_imports, {"minirlhf.files": "import pickle"}),
    (global_randomness, {"minirlhf.sft": "import numpy as np\nx = np.random.rand(3)"}),
    (global_randomness, {"minirlhf.sft": "import numpy\nnumpy.random.seed(0)"}),
    (global_randomness, {"minirlhf.sft": "x = xp.random.standard_normal(3)"}),
    (global_randomness, {"minirlhf.sft": "from numpy.random import shuffle"}),
    (global_randomness, {"minirlhf.sft": "from numpy import random\nx = random.rand(3)"}),
]


@pytest.mark.parametrize("rule, sources", BROKEN,
                         ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BROKEN)])
def test_a_package_that_breaks_a_rule_is_noticed(rule, sources):
    assert list(rule(sources))


def test_every_rule_is_shown_to_notice():
    assert {rule for rule, _ in BROKEN} == set(RULES)


ALLOWED = {
    "minirlhf": "from minirlhf import ops",
    "minirlhf.arrays": "import cupy",
    "minirlhf.ops": "from minirlhf.arrays import Array",
    "minirlhf.stages": "",
    "minirlhf.stages.ppo": "from minirlhf import __version__, ops\nfrom .training import update",
    "minirlhf.stages.training": "import numpy as np\nrng = np.random.default_rng(0)",
    "minirlhf.world": "",
    "minirlhf.world.gold": "from minirlhf.world import parser",
    "minirlhf.world.parser": "",
    "minirlhf.evaluation": "from minirlhf.world import gold",
    "minirlhf.conformance": "import torch",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_is_allowed_passes(rule):
    assert list(rule(ALLOWED)) == []


# --- the budget ----------------------------------------------------------------------------------

def lines_of_docstring(node) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def lengths(sources) -> Iterator[tuple[str, int, int]]:
    """(name, lines, lines allowed) of every module, and of every function without its docstring."""
    for module, source in sources.items():
        yield module, len(source.splitlines()), MODULE_LINES
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1 - lines_of_docstring(node)
                yield f"{module}.{node.name}", lines, FUNCTION_LINES


def too_long(sources) -> dict[str, str]:
    return {name: f"{lines} lines, {allowed} allowed"
            for name, lines, allowed in lengths(sources) if lines > allowed}


def test_modules_and_functions_are_within_the_budget():
    assert {name: why for name, why in too_long(SOURCES).items() if name not in LONGER} == {}


def test_every_exception_to_the_budget_has_a_reason_and_is_still_needed():
    assert all(len(reason) > 20 for reason in LONGER.values())
    assert set(LONGER) <= set(too_long(SOURCES))


def test_what_is_over_the_budget_is_noticed_by_name():
    long_function = "def f():\n" + "    x = 1\n" * 60
    documented = 'def g():\n    """\n' + "    words\n" * 70 + '    """\n' + "    x = 1\n" * 59
    sources = {"minirlhf.a": long_function, "minirlhf.b": documented, "minirlhf.c": "\n" * 301}
    assert set(too_long(sources)) == {"minirlhf.a.f", "minirlhf.c"}

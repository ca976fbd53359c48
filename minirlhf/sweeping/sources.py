"""The digest of the modules that decide what a run ends with.

A run is taken from the cache as long as none of them has changed.  Only code counts: comments,
docstrings and the layout of lines do not, since a better explanation makes no other numbers.  (The
digest is that of the code as Python writes it out again, so that another version of Python may have
another one.)
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

import minirlhf

PACKAGE = Path(minirlhf.__file__).parent
# Layers from the engine to the evaluation, in the order of tests/test_layers.py, then what a run
# is driven by.  Not here: `text`, `people`, `pretrained`, which the toy world never uses.
DECISIVE = ("arrays", "files", "parallel", "dealing", "host", "environment", "parameters",
            "checkpoint", "autograd", "ops", "tokens", "transformer", "sampling", "optimizer",
            "sft", "bradley_terry", "kl_penalty", "gae", "clipped_surrogate", "group_advantage",
            "dpo", "aggregation", "rollout", "stages", "labels", "votes", "agreement", "world",
            "evaluation", "wording", "watching", "sources", "settings", "step_log", "run",
            "preferences", "judgement", "pipeline")


@cache
def own_digest() -> str:
    """That of the package that computes here."""
    return digest(PACKAGE)


def digest(package: Path) -> str:
    """The SHA-256 of the decisive modules' code."""
    total = hashlib.sha256()
    for module in DECISIVE:
        found = sorted((package / module).rglob("*.py")) or [package / f"{module}.py"]
        for path in found:
            total.update(f"{path.relative_to(package).as_posix()}\n".encode())
            total.update(code(path.read_text(encoding="utf-8")).encode())
    return total.hexdigest()


def code(source: str) -> str:
    """A module's text without comments, docstrings and layout."""
    return ast.unparse(WithoutDocstrings().visit(ast.parse(source)))


class WithoutDocstrings(ast.NodeTransformer):
    """Drops texts that stand alone as statements: docstrings, and descriptions of fields.

    What is left of a function that had nothing else is no Python any more, and still tells it from
    others.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node

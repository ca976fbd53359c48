"""The JSON text of a file of vectors: the same content always gives the same bytes."""

import json
from math import isfinite
from typing import Any


def plain(tree: Any) -> Any:
    """NaN and the infinities as the strings "nan", "inf" and "-inf": strict JSON has no others."""
    if isinstance(tree, dict):
        return {name: plain(inner) for name, inner in tree.items()}
    if isinstance(tree, list):
        return [plain(inner) for inner in tree]
    if isinstance(tree, float) and not isfinite(tree):
        return str(tree)
    return 0.0 if isinstance(tree, float) and tree == 0 else tree               # no -0.0


def holds_object(tree: Any) -> bool:
    return isinstance(tree, dict) or (isinstance(tree, list) and any(map(holds_object, tree)))


def dump(tree: Any, indent: str = "") -> str:
    """JSON on one line where it fits into 100 columns, else an entry a line.

    An array of numbers stays on one line however long.  Floats are in the shortest form that reads
    back as the same float.
    """
    line = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    if not holds_object(tree) or len(indent + line) <= 80:
        return line
    deeper = indent + " "
    if isinstance(tree, dict):
        entries = [f"{json.dumps(name)}: {dump(inner, deeper)}" for name, inner in tree.items()]
        return "{\n" + ",\n".join(deeper + entry for entry in entries) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + dump(x, deeper) for x in tree) + f"\n{indent}]"


def text(content: dict) -> str:
    return dump(plain(content)) + "\n"

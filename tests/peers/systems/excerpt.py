"""Running some statements of a released function where they stand inside a longer one.

Trainers hold much of their mathematics in the middle of `train()`.  Nothing of it is typed here:
its statements are found in the installed package's source by how they begin, and run on our
arrays as they are.
"""

import ast
import inspect
import sys
import textwrap
from functools import cache
from types import SimpleNamespace


def run(function, first, last, /, **names):
    """The names after a run of the statements from the one that begins with `first` to `last`.

    Both are beginnings of statements as ast.unparse writes them, and stand in one block; of
    several places the first is taken.  The function's module gives all other names.  A class may
    stand for a method of it whose decorator hides it.  Raises LookupError where the release has no
    such statements.
    """
    names = dict(names)
    module = vars(sys.modules[inspect.unwrap(function).__module__])
    exec(excerpt(function, first, last), module | names, names)
    return SimpleNamespace(**names)


@cache
def excerpt(function, first, last):
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    for node in ast.walk(ast.parse(source)):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list):
                starts = [ast.unparse(statement) for statement in block]
                begin = next((i for i, s in enumerate(starts) if s.startswith(first)), None)
                end = next((i for i, s in enumerate(starts) if s.startswith(last)
                            and begin is not None and i >= begin), None)
                if end is not None:
                    found = ast.Module(block[begin:end + 1], [])
                    return compile(found, inspect.getsourcefile(inspect.unwrap(function)), "exec")
    raise LookupError(f"{function.__qualname__} has no statements from {first!r} to {last!r}")

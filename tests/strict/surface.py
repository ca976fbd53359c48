"""What CuPy has: its functions, methods and their arguments, read from the installed package.

    PYTHONPATH=tests python -m strict.surface        # rewrite surface.json from the installed cupy

The record lies beside this file, so that the double works where CuPy is not installed; a test
compares the two where it is.  An entry is a signature with its defaults left out,

    "sum": "a, axis=, dtype=, out=, keepdims="

CuPy's functions are Python, which tells its signatures; its ufuncs and methods are compiled, and
write theirs into the first line of their docstrings.
"""

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RECORD = Path(__file__).with_name("surface.json")
UFUNC_METHODS = ("at", "reduce", "accumulate")


@dataclass(frozen=True)
class Signature:
    """Which arguments a callable of CuPy takes.

    `check` is what Python would do: a TypeError for an argument too many, an unknown keyword, or
    one that is missing.
    """

    name: str
    positional: tuple[str, ...]                  # names that may be given by position
    keywords: frozenset[str]                     # names that may be given by name
    required: int                                # how many of `positional` have no default
    variadic: bool                               # takes any number of positions (*shape, *axes)

    def check(self, args: tuple, kwargs: dict) -> None:
        if len(args) > len(self.positional) and not self.variadic:
            raise TypeError(f"{self.name}() takes at most {len(self.positional)} positional "
                            f"arguments ({len(args)} given)")
        if kwargs and not self.keywords.issuperset(kwargs):
            unknown = sorted(kwargs.keys() - self.keywords)[0]
            raise TypeError(f"{self.name}() got an unexpected keyword argument {unknown!r}")
        if len(args) < self.required:
            missing = [n for n in self.positional[len(args):self.required] if n not in kwargs]
            if missing:
                raise TypeError(f"{self.name}() missing required argument {missing[0]!r}")


def parse(name: str, text: str) -> Signature:
    """The signature that a line of the record stands for."""
    positional, keywords, required, variadic, by_name_only = [], set(), 0, False, False
    for entry in filter(None, text.split(", ")):
        if entry == "/":                             # those before it have no keyword
            keywords -= set(positional)
        elif entry.startswith("*"):
            variadic |= len(entry) > 1 and not entry.startswith("**")
            by_name_only = True
        else:
            argument, default, _ = entry.partition("=")
            keywords.add(argument)
            if not by_name_only:
                positional.append(argument)
                required += not default
    return Signature(name, tuple(positional), frozenset(keywords), required, variadic)


def read() -> dict:
    """The record: {"cupy": version, "functions": …, "ufuncs": …, …}."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


# --- asking CuPy ---------------------------------------------------------------------------------

def introspect() -> dict:
    """The record of the installed CuPy."""
    import cupy
    found: dict = {"cupy": cupy.__version__, "functions": {}, "ufuncs": {}, "ufunc_methods": {},
                   "methods": {}, "attributes": [], "same_as_numpy": [], "generator": {}}
    for name in sorted(n for n in dir(cupy) if not n.startswith("_")):
        thing = getattr(cupy, name)
        if type(thing).__name__ in ("ufunc", "_GUFunc"):
            found["ufuncs"][name] = from_docstring(thing)
            works = [method for method in UFUNC_METHODS if has_method(thing, method)]
            found["ufunc_methods"] |= {name: works} if works else {}
        elif inspect.isfunction(thing):
            found["functions"][name] = from_signature(thing)
        elif thing is getattr(np, name, found) or isinstance(thing, float):
            found["same_as_numpy"].append(name)              # dtypes, constants
    for name in sorted(n for n in dir(cupy.ndarray) if not n.startswith("_")):
        thing = getattr(cupy.ndarray, name)
        if callable(thing):
            found["methods"][name] = from_docstring(thing)
        else:
            found["attributes"].append(name)
    for name in sorted(n for n in dir(cupy.random.Generator) if not n.startswith("_")):
        found["generator"][name] = from_docstring(getattr(cupy.random.Generator, name))
    return found


def from_signature(function) -> str:
    return normalized(str(inspect.signature(function).replace(return_annotation=inspect.Signature
                                                              .empty))[1:-1])


def from_docstring(thing) -> str:
    """The arguments in the first line of a docstring: "f(self, a, int axis=-1) -> ndarray"."""
    first = thing.__doc__.strip().split("\n")[0].replace("\\", "")
    text = first[first.index("(") + 1:first.rindex(")")]
    text = re.sub(r"\[.*?\]", "", text)                     # "divmod(x1, x2[, out1, out2], / …"
    return normalized(re.sub(r"^self(, |$)", "", text)).replace(", **kwargs", "")


def normalized(arguments: str) -> str:
    """Arguments without defaults, types and annotations: "a, axis=, *, dtype="."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    entries = []
    for part in filter(None, map(str.strip, parts)):
        argument, default, _ = part.partition("=")
        argument = argument.partition(":")[0].split()[-1]    # "x: 'T'" and "int axis"
        entries.append(argument + default)
    return ", ".join(entries)


def has_method(ufunc, name: str) -> bool:
    """Whether a ufunc's `reduce`, `at` or `accumulate` does anything: most say "not supported"."""
    from strict.phantom import asked_the_device, phantom
    places = phantom(np.zeros(2, np.int64))
    for dtype in (np.float32, np.int32):
        x = phantom(np.ones(2, dtype))
        try:
            ufunc.at(x, places, x) if name == "at" else getattr(ufunc, name)(x)
        except (AttributeError, TypeError, NotImplementedError):
            continue
        except RuntimeError as problem:
            return asked_the_device(problem)
    return False


if __name__ == "__main__":
    RECORD.write_text(json.dumps(introspect(), indent=1) + "\n", encoding="utf-8")
    print(f"{RECORD}: written")

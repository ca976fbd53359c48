"""An adapter: a Python file, or a module, whose functions have the names of the vector files.

    # adapter.py
    import torch

    def sft_loss(logprobs, mask):
        return -torch.where(mask, logprobs, 0.0).sum() / mask.sum()

What it does not define is not checked.  A function may name its arguments as the vector file does,
in any order, or have names of its own in the file's order.  An optional argument that it does not
have leaves out the tests that give it.  It returns the result, or several as a tuple in the file's
order or as a dict by name.

The gradient of a NumPy function is given by a second one, `sft_loss_grad(logprobs, mask)`: an
array for each differentiated argument, alone, as a tuple or as a dict.  Where the result is not one
number it is told `cotangent` (shaped like the result), and returns the gradient of
Σ cotangent·result.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from minirlhf.conformance.frameworks import Framework, framework_of
from minirlhf.conformance.vectors import Argument, Vectors, functions, load

OURS = "minirlhf.conformance.ours"


@dataclass(frozen=True)
class Function:
    """A function of an adapter: which of the file's arguments it takes, and how.

    An optional argument that it cannot do without (`must`) is None where a test gives none.
    `problem` says why it cannot be called at all.
    """
    call: Callable
    takes: tuple[str, ...] = ()
    by_name: bool = True
    must: tuple[str, ...] = ()
    problem: str | None = None
    slope: "Function | None" = None                      # the function that gives its gradient

    def __call__(self, inputs: dict[str, Any]) -> Any:
        given = {name: inputs.get(name) for name in self.takes
                 if name in inputs or name in self.must}
        return self.call(**given) if self.by_name else self.call(*given.values())


@dataclass(frozen=True)
class Adapter:
    """What was asked for, in which framework, and the functions it defines."""
    source: str
    framework: Framework
    functions: dict[str, Function]


def open_adapter(source: str) -> Adapter:
    """Import an adapter: a path ending in .py, or the name of a module.

    Raises ValueError with the file, the line and what went wrong there.
    """
    return adapter_of(imported(source), source)


def adapter_of(module: ModuleType, source: str) -> Adapter:
    """The adapter that a module is.  Raises ValueError if it defines none of the functions."""
    known = functions()
    named = {name: getattr(module, name) for name in known if callable(getattr(module, name, None))}
    if not named:
        own = [name for name, x in vars(module).items() if callable(x) and not name.startswith("_")]
        close = [(mine, near[0]) for mine in own
                 if (near := difflib.get_close_matches(mine, known, 1, 0.6))]
        hint = "".join(f"; {mine} is nearly {name}" for mine, name in close)
        raise ValueError(f"{source} defines none of the functions that there are vectors for{hint}."
                         f"  They are {', '.join(known)}")
    return Adapter(source, framework_of(module), {
        name: fitted(function, load(name), getattr(module, f"{name}_grad", None))
        for name, function in named.items()})


def imported(source: str) -> ModuleType:
    """The adapter's module.  Raises ValueError in one line if it cannot be had."""
    if source == "minirlhf":
        source = OURS
    path = Path(source)
    is_path = source.endswith(".py") or path.is_file()
    if is_path and not path.is_file():
        raise ValueError(f"there is no file {source}")
    if is_path and path.suffix != ".py":
        raise ValueError(f"{source} does not end in .py, as a file of Python does")
    if path.is_dir() and not source.isidentifier():                  # a package has a name
        raise ValueError(f"{source} is a folder; an adapter is a file that ends in .py or a module")
    if not is_path and source.startswith("."):
        raise ValueError(f"there is no file {source}, and the name of a module is given in full")
    try:
        if not is_path:
            return importlib.import_module(source)
        sys.path.insert(0, str(path.resolve().parent))               # as `python adapter.py` does
        name = f"adapter_{path.stem}"                                # shadows nobody
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as problem:
        if not is_path and source.split(".")[0] == problem.name:
            raise ValueError(f"there is no module {source}; an adapter is a file that ends in .py, "
                             "or a module that can be imported from here") from None
        raise ValueError(f"{source} cannot be imported: {where(problem, path)}") from None
    except (Exception, SystemExit) as problem:
        raise ValueError(f"{source} cannot be imported: {where(problem, path)}") from None


def where(problem: BaseException, path: Path | None = None) -> str:
    """An error as "file, line: what", with the last line that lies in the adapter's own file."""
    told = " ".join(str(problem).split())
    name = type(problem).__name__ + (f": {told}" if told else "")
    if isinstance(problem, SyntaxError):
        return f"{Path(problem.filename or '').name}, line {problem.lineno}: {problem.msg}"
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if path and Path(frame.filename).name == path.name]
    shown = (own or [frame for frame in frames if "minirlhf/conformance" not in
                     Path(frame.filename).as_posix() and "importlib" not in frame.filename])
    return f"{Path(shown[-1].filename).name}, line {shown[-1].lineno}: {name}" if shown else name


# --- how a function wants its arguments ----------------------------------------------------------

def fitted(function: Callable, file: Vectors, slope: Callable | None = None) -> Function:
    """A function with what it takes of the file's arguments."""
    fits = signature_fits(function, file.arguments)
    if fits.problem or slope is None:
        return fits
    lone = len(file.results) == 1
    cotangent = Argument("cotangent", file.results[0].shape if lone else "dict", "float",
                         "the weight of each entry of the result", optional=True)
    return replace(fits, slope=signature_fits(slope, (*file.arguments, cotangent)))


def signature_fits(function: Callable, arguments: tuple[Argument, ...]) -> Function:
    """By name if it knows all the names that are needed, else by position in the file's order."""
    names = [argument.name for argument in arguments]
    needed = [a.name for a in arguments if not a.optional and not a.axis]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):                                  # a builtin that tells nothing
        return Function(function, tuple(needed), by_name=False)
    P = inspect.Parameter
    named = {p.name for p in parameters if p.kind in (P.POSITIONAL_OR_KEYWORD, P.KEYWORD_ONLY)}
    must = [p for p in parameters if p.default is P.empty
            and p.kind not in (P.VAR_POSITIONAL, P.VAR_KEYWORD)]
    if any(p.kind == P.VAR_KEYWORD for p in parameters):
        named |= set(names)
    if set(needed) <= named and {p.name for p in must} <= set(names):
        return Function(function, tuple(name for name in names if name in named),
                        must=tuple(p.name for p in must))
    places = [p.name for p in parameters if p.kind in (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == P.VAR_POSITIONAL for p in parameters) and not places:
        places = list(needed)
    in_place = all(name == own for name, own in zip(names, places, strict=False) if own in names)
    count = max(len(needed), len(must))
    if (in_place and len(needed) <= len(places) and count <= len(names)
            and set(needed) <= set(names[:count]) and all(p.kind != P.KEYWORD_ONLY for p in must)):
        return Function(function, tuple(names[:count]), by_name=False, must=tuple(names[:count]))
    optional = [name for name in names if name not in needed]
    return Function(function, problem=(
        f"takes ({', '.join(p.name for p in parameters)}); wanted are {', '.join(needed)}, by "
        "these names or in this order" + f", and if it likes {', '.join(optional)}"
        * bool(optional)))

"""Importing a released package on a machine that has not all of what it imports.

Packages for training on many GPUs import deepspeed, ray and the like when they are imported, none
of which their mathematics uses.  Within `stand_ins` any of the named modules that is not installed
can be imported, empty.  Afterwards they are taken away again: what a function tries to import when
it is called, it finds or does not find as it would have, and nothing empty is in a result.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

OF_OPENRLHF = ("accelerate", "aiohttp", "datasets", "deepspeed", "flash_attn", "peft",
               "pylatexenc", "ray", "torchdata", "vllm")
OF_VERL = ("PIL", "accelerate", "aiohttp", "cachetools", "datasets", "fastapi", "peft",
           "torchdata", "uvicorn")


class Nothing(type):
    """A class whose names are classes that do nothing, as its instances do."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class StandIn(types.ModuleType):
    """An empty module, any name of which is such a class."""
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Nothing(name, (), {
            "__init__": lambda self, *_, **__: None,
            "__call__": lambda self, decorated=None, *_, **__: decorated,
            "__class_getitem__": classmethod(lambda cls, item: cls)})
        setattr(self, name, made)
        return made


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last, so it finds what nobody else has found."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        known = name.split(".")[0] in self.names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


@contextmanager
def stand_ins(*names: str) -> Iterator[None]:
    finder = StandIns(names)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        # A list first, and no isinstance(): lazy modules import others when they are looked at.
        for name, module in list(sys.modules.items()):
            if type(module) is StandIn:
                del sys.modules[name]

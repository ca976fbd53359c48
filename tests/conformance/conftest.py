"""These tests have no PyTorch and no JAX, even if others in the same process have imported them."""

import sys
from types import ModuleType

import pytest

from minirlhf.conformance import frameworks


@pytest.fixture(autouse=True)
def no_other_framework(monkeypatch):
    """An adapter's framework is known by what was imported, which in its own process is its own."""
    seen = ModuleType("sys")
    seen.modules = {name: module for name, module in sys.modules.items()
                    if name.split(".")[0] not in ("torch", "jax")}
    monkeypatch.setattr(frameworks, "sys", seen)

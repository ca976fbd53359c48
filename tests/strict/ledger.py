"""What the double counts: kernels, waits for the device, and copies to it.

    call      something that a GPU would launch at least one kernel for
    sync      the host waits for the device: a number is looked at, an array is fetched
    upload    bytes go from the host to the device

A GPU runs behind the host and is fast as long as it is not waited for, so a training step should
have no sync at all.  `forbidden` makes each of them an error inside a block, and `counting` tells
what a block has spent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class HiddenTransfer(RuntimeError):
    """A wait or an upload where none is allowed."""


@dataclass
class Spent:
    """What a block has spent; complete when the block is left."""

    calls: int = 0
    syncs: int = 0
    uploads: int = 0


class Ledger:
    """The counters, and which of CuPy's names were used with which keywords."""

    def __init__(self):
        self.calls = self.syncs = self.uploads = 0
        self.forbidden = False
        self.used: set[tuple[str, str, tuple[str, ...]]] = set()

    def sync(self, what: str) -> None:
        self.syncs += 1
        if self.forbidden:
            raise HiddenTransfer(f"{what} waits for the device")

    def upload(self, what: str) -> None:
        self.uploads += 1
        if self.forbidden:
            raise HiddenTransfer(f"{what} copies from the host to the device")


LEDGER = Ledger()


@contextmanager
def forbidden() -> Iterator[None]:
    """No sync and no upload inside: either raises HiddenTransfer."""
    before, LEDGER.forbidden = LEDGER.forbidden, True
    try:
        yield
    finally:
        LEDGER.forbidden = before


@contextmanager
def counting() -> Iterator[Spent]:
    """What the block spends."""
    spent, before = Spent(), (LEDGER.calls, LEDGER.syncs, LEDGER.uploads)
    try:
        yield spent
    finally:
        now = (LEDGER.calls, LEDGER.syncs, LEDGER.uploads)
        spent.calls, spent.syncs, spent.uploads = (b - a for a, b in zip(before, now, strict=True))

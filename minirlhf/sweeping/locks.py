"""One process at a time for a run, whichever machine it is on.

A lock is a file in locks/ beside the runs, locked by the kernel (`flock`) for as long as a process
works on the run.  It needs no clock and no heartbeat: the lock of a process that died is gone in
that moment, the lock of one that is merely slow, or cut off, is not.  The file itself stays, empty;
whoever removed it could take it from under somebody who waits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:                              # Windows: nothing is locked, nothing is checked
    fcntl = None


def lock_file(folder: Path) -> Path:
    """The file that is locked while somebody works on the run in this folder."""
    return folder.parent / "locks" / folder.name


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on the run in this folder, and let others wait meanwhile.

    Where the file system has no locks nobody waits.
    """
    path = lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    door = os.open(path, os.O_RDWR | os.O_CREAT)       # NFS locks only what may be written to
    try:
        if fcntl is not None:
            try:
                fcntl.flock(door, fcntl.LOCK_EX)
            except OSError:
                pass
        yield
    finally:
        os.close(door)


def locked_elsewhere(folder: Path) -> bool:
    """Whether another process works on the run in this folder.

    Raises FileNotFoundError if nobody ever did.
    """
    door = os.open(lock_file(folder), os.O_RDWR)
    try:
        if fcntl is not None:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(door)
    return False

"""The labels file as it is written: a line an answer, on disk before the next pair is shown.

A person's work is not to be asked for twice.  So the file only grows, every line is synced, what
a kill left half-written is cut off, and one program at a time may write.
"""

import errno
import json
import os
from pathlib import Path

from minirlhf.files import flush_folder
from minirlhf.labels import parse

try:
    import fcntl
except ImportError:                                      # not on Windows: two programs could write
    fcntl = None


class AnswerFile:
    """An open labels file, made if there is none; `rows` are the answers it held at the start.

    `notes` says in a line what was mended.  Raises RuntimeError if another program writes to it,
    ValueError naming the line if it is damaged, OSError if it cannot be written.
    """

    def __init__(self, path: Path):
        self.path, self.notes = Path(path), []
        try:
            self.file = open(self.path, "ab", buffering=0)
        except OSError as problem:
            raise OSError(f"cannot write {self.path}: {problem.strerror}") from None
        try:
            self.lock()
            self.rows = self.mended()
        except BaseException:
            self.file.close()
            raise

    def lock(self) -> None:
        """Keep other programs out until the file is closed or this program ends, however it does.
        """
        if fcntl is None:
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{self.path} is in use: another `minirlhf label` writes to it.  "
                               "Several people can use the page of that one; or end it first"
                               ) from None

    def mended(self) -> list[dict]:
        """The rows; half a line at the end is cut off, since its answer was never confirmed."""
        data = self.path.read_bytes()
        rows, half = parse(data, self.path)
        if half:
            self.file.truncate(len(data) - half)
            self.notes.append(f"{self.path}: the last line was only half-written; cut it off "
                              f"({half} bytes)")
        elif data and not data.endswith(b"\n"):
            self.write(b"\n")
        flush_folder(self.path.parent)
        return rows

    def append(self, row: dict) -> None:
        """Add an answer; on return it is on disk.

        Raises OSError if it could not be written; then nothing of it is left in the file.
        """
        self.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))

    def write(self, line: bytes) -> None:
        if not self.path.exists() or not os.path.samestat(os.stat(self.path),
                                                          os.fstat(self.file.fileno())):
            raise OSError(errno.ENOENT, "the file was removed or replaced", str(self.path))
        end = os.fstat(self.file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self.file.write(rest):]
            os.fsync(self.file.fileno())
        except OSError:
            self.file.truncate(end)
            raise

    def close(self) -> None:
        self.file.close()

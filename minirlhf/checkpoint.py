"""Checkpoints: what an interrupted run needs in order to go on, and to end in the same bits.

A stage consists of *parts*: loops of optimizer steps, rows made batch by batch.  All that such a
part changes as it goes on hangs on one tree, nested dicts with `Parameters` or JSON values at
their leaves,

    {"params": Parameters, "state": {"step": 12, "m": Parameters, "v": Parameters}}
    {"batches": 3, "rows": [{"prompt": …}, …]}

and changes in place.  No generator's state is among it: the random numbers of a step or a batch
are made from its number (`step_rng`).  So saving writes the trees of a stage down, resuming
writes into fresh ones, and a part goes on as if nothing had been.

    checkpoint/state.safetensors     the flat buffer of each Parameters, under a dotted name; and,
                                     as the bytes of a JSON text, all other leaves and the length
                                     of metrics.jsonl

The file is replaced as a whole, after every `INTERVAL` seconds of work and at the end of a part.
Whenever a process dies no more is lost than that, or than one step or batch that takes longer (and
where saving itself takes seconds, four times as much).  Of several ranks the first saves; all read.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import numpy as np

from minirlhf.arrays import array_module, to_host
from minirlhf.dealing import by_the_first, same_everywhere
from minirlhf.files import (
    cut_half_line,
    flush,
    flush_folder,
    naming,
    read_tensors,
    write_tensors,
)
from minirlhf.parallel import ranks
from minirlhf.parameters import Parameters

INTERVAL = 2.0                  # seconds of work that may be lost
JSON = "json"                   # the entry of everything that is no parameters (it has no dot)
WORTH = 4                       # work lasts at least so many times as long as saving took


class Checkpoint:
    """The checkpoint of a run folder.

    `read` once, when a run is resumed, or `start_over`.  Then `restore` at the beginning of each
    part, `tick` after each piece of its work, `save` at its end; and `end` when the results of the
    stage are in the run folder.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / "checkpoint" / "state.safetensors"
        self.log = Path(folder) / "metrics.jsonl"
        self.parts: dict[str, dict] = {}              # trees of the stage that is under way
        self.found: dict = {}                         # leaves read from the file, not yet asked for
        self.logged: int | None = None                # the log's length then
        self.write_log: Callable[[], None] = lambda: None
        self.unsaved, self.cost, self.last = 0.0, 0.0, monotonic()

    def read(self) -> None:
        """Read the file, if there is one.

        Raises ValueError if the file is damaged or is no checkpoint.
        """
        if not self.path.exists():
            return
        tensors = read_tensors(self.path)
        try:
            noted = json.loads(tensors.pop(JSON).tobytes())
            self.logged, self.found = int(noted["logged"]), {**noted["values"], **tensors}
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{self.path} is no checkpoint of a run; remove it, and the stage "
                             "that was under way starts over") from None

    def start_over(self) -> None:
        """Forget a stage that was under way, on the disk too.  The log keeps what was saved of it,
        until `Run.follow` begins the stage again."""
        self.read()
        self.cut_log()
        self.end()

    @by_the_first
    def cut_log(self) -> None:
        """Take from the log what was written after the checkpoint, and half a line at its end."""
        if self.log.exists():
            if self.logged is not None and self.log.stat().st_size > self.logged:
                os.truncate(self.log, self.logged)
            cut_half_line(self.log)
        self.logged = None                               # once: from now on the log is our own

    def restore(self, name: str, tree: dict,
                write_log: Callable[[], None] = lambda: None) -> None:
        """Enter a part of the stage: bring its tree to where the checkpoint has it, if it has it.

        The log is cut back to its length of then.  write_log() is called before each saving, and
        logs all that the part has done.  Raises ValueError, with everything as it was, if the
        checkpoint holds the part in another shape; RuntimeError unless all ranks now hold the same.
        """
        leaves = list(places(tree, name))
        held = {leaf for leaf in self.found if leaf.startswith(f"{name}.")}
        if held:
            self.check(name, held, leaves)
        self.cut_log()
        self.parts[name], self.write_log = tree, write_log
        for leaf, holder, key in leaves if held else ():
            value, here = self.found.pop(leaf), holder[key]
            if isinstance(here, Parameters):
                here.flat[...] = array_module(here.flat).asarray(value)
            else:
                holder[key] = value
        self.compare(leaves)

    def compare(self, leaves: list[tuple[str, dict, str]]) -> None:
        """Raise RuntimeError unless all ranks begin a part at one place, with the same numbers."""
        for leaf, holder, key in leaves if ranks().size > 1 else ():
            value = holder[key]
            same_everywhere(leaf, value.flat if isinstance(value, Parameters) else
                            np.frombuffer(json.dumps(value).encode(), np.uint8))

    def check(self, name: str, held: set[str], leaves: list[tuple[str, dict, str]]) -> None:
        """Raise ValueError unless what was found for a part fits the leaves of its tree."""
        if held != {leaf for leaf, _, _ in leaves}:
            raise ValueError(f"{self.path}: {name} is not made of what this run's settings want; "
                             "remove the file, and the stage starts over")
        for leaf, holder, key in leaves:
            value, here = self.found[leaf], holder[key]
            if isinstance(value, np.ndarray) != isinstance(here, Parameters):
                raise ValueError(f"{self.path}: {leaf} is not what this run's settings want; "
                                 "remove the file, and the stage starts over")
            if isinstance(here, Parameters) and (value.shape != here.flat.shape
                                                 or value.dtype != here.flat.dtype):
                raise ValueError(
                    f"{self.path}: {leaf} holds {value.size} numbers ({value.dtype}), but this "
                    f"run's settings want {here.flat.size} ({here.flat.dtype}); remove the file, "
                    "and the stage starts over")

    @by_the_first
    def tick(self) -> None:
        """A piece of work is done; save if one more like it would make too much to lose.

        Where saving itself takes long, as with models of gigabytes, it is done less often.
        """
        now = monotonic()
        piece, self.last = now - self.last, now
        self.unsaved += piece
        if self.unsaved + piece > max(INTERVAL, WORTH * self.cost):
            self.save()

    @by_the_first
    def save(self) -> None:
        """Write down where all parts of the stage are, and how long the log is."""
        started = monotonic()
        self.write_log()
        tensors, values = {}, {}
        for name, tree in self.parts.items():
            for leaf, holder, key in places(tree, name):
                if isinstance(holder[key], Parameters):
                    tensors[leaf] = to_host(holder[key].flat)
                else:
                    values[leaf] = holder[key]
        logged = 0
        if self.log.exists():
            with naming(self.log):
                flush(self.log)
            logged = self.log.stat().st_size
        noted = json.dumps({"logged": logged, "values": values}).encode()
        write_tensors(self.path, {**tensors, JSON: np.frombuffer(noted, np.uint8)})
        flush_folder(self.log.parent)                 # where both of them may be new
        self.last = monotonic()
        self.unsaved, self.cost = 0.0, self.last - started

    def end(self) -> None:
        """The stage is over and its results are in the run folder: keep the log's length only."""
        self.parts, self.found = {}, {}
        self.save()


def places(tree: dict, prefix: str) -> Iterator[tuple[str, dict, str]]:
    """(dotted name, the dict that holds it, its key there) of every leaf; Parameters are one."""
    for key, branch in tree.items():
        name = f"{prefix}.{key}"
        if isinstance(branch, dict) and not isinstance(branch, Parameters):
            yield from places(branch, name)
        else:
            yield name, tree, key

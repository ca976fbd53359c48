"""The program that mpiexec starts: steps of a stage, timed, as one rank of several.

    mpiexec -n 2 python -m scaling.ranks STAGE SHARDS CORES STEPS [quick]

CORES is how many this process may use: with 1, each rank has one of its own.  The first rank prints
a line of JSON: the seconds of each step, the sums that it asked for a step and their bytes.
"""

import json
import os
import sys
import time

from minirlhf.host import make_ready
from minirlhf.parallel import Ranks, join, ranks
from scaling.work import steps

SUMS: list[int] = []


def counted(all_sum):
    """all_sum, which notes the bytes of each buffer."""
    def summed(self, buffer) -> None:
        SUMS.append(buffer.nbytes)
        all_sum(self, buffer)
    return summed


def main(stage: str, shards: int, cores: int, n: int, quick: bool) -> None:
    join()
    here = ranks()
    if cores == 1:
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[here.rank % len(usable)]})
    make_ready()
    Ranks.all_sum = counted(Ranks.all_sum)
    training, parameters = steps(stage, shards, quick)
    next(training)                                       # the first step touches new memory
    SUMS.clear()
    seconds = []
    for _ in range(n):
        begun = time.perf_counter()
        next(training)
        seconds.append(time.perf_counter() - begun)
    if here.rank == 0:
        print(json.dumps({"seconds": seconds, "sums": len(SUMS) / n, "bytes": sum(SUMS) / n,
                          "largest": max(SUMS, default=0), "parameters": parameters}))


if __name__ == "__main__":
    stage, shards, cores, n = sys.argv[1:5]
    main(stage, int(shards), int(cores), int(n), sys.argv[5:] == ["quick"])

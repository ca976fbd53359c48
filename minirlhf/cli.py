"""The command line: `minirlhf run` for the whole pipeline, and a command for each stage.

A user's mistake ends with one clear message and status 2, never with a traceback.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from minirlhf import __version__, chat, commands, pipeline
from minirlhf.agreement_command import agreement
from minirlhf.claims_command import claims
from minirlhf.conventions_command import conventions
from minirlhf.host import make_ready
from minirlhf.labelling.command import label
from minirlhf.parallel import join, ranks
from minirlhf.refusals_command import refusals
from minirlhf.settings import ALGORITHMS
from minirlhf.sweeping.command import sweep
from minirlhf.trace_command import trace
from minirlhf.verify_command import identify, verify

HEARD = 1.0                              # seconds in which a launcher passes on what a rank says
PATIENCE = 4.0                           # and those that the first rank has to speak for all

OVERVIEW = """\
usage: minirlhf COMMAND [options]

Reinforcement learning from human feedback on a toy assistant, from a raw language model to PPO.

  minirlhf run                    the whole pipeline, a few minutes; ends with a table and a report
  minirlhf run --quick            the same in half a minute, to see that everything works
  minirlhf run --base FOLDER      the same from a GPT-2 of your own instead of pretraining
  minirlhf run --preferences F    the same on people's comparisons: JSONL rows with "prompt",
                                  "chosen" and "rejected" (needs the extra: text); your own
                                  --demonstrations, --corpus and --prompts may go beside them
  minirlhf run --algorithm grpo   three models in memory instead of four (also: rloo)
  minirlhf run --rounds 2         then fresh preferences on the new replies, and all of it again
  minirlhf rounds RUN --name NEW --rounds 2    the second round of a finished run
  minirlhf chat RUN               ask the models of a finished run yourself, two side by side

stage by stage, each continuing a run folder:
  minirlhf pretrain --name NAME   the base model, trained to predict the next token of a toy web
  minirlhf sft RUN                stage 1: imitate demonstrations
  minirlhf preferences RUN        SFT replies side by side; labelers choose
  minirlhf reward-model RUN       stage 2: learn a score from the choices
  minirlhf ppo RUN                stage 3: PPO against that score, with a KL penalty
  minirlhf grpo RUN               the same without a value model: replies to one prompt compared
  minirlhf rloo RUN               likewise, each reply compared with the mean of the others
  minirlhf dpo RUN                a baseline: learn from the choices, without a reward model
  minirlhf evaluate RUN           ask all models the test prompts; table and report
  minirlhf report RUN             write the report of a run again, from what its folder holds
  minirlhf agreement RUN          how far a run's labelers agree, who is right, who drifts
  minirlhf refusals RUN           how often replies refuse, by class of prompt (over-refusal)
  minirlhf conventions RUN        its replies under other systems' conventions: what changes
  minirlhf label RUN              you compare the replies of two models, blind; answers are kept

many runs, side by side on this machine or on a Dask cluster (--scheduler ADDRESS):
  minirlhf sweep --vary ppo.beta=0,0.1,0.2 --seeds 0 1 2    each combination with each seed; a
                                  table with intervals; what was made once is not made again

in a clone of the repository:
  minirlhf claims [NN ...]        the article's claims as experiments: confirmed or refuted

for an implementation of your own, in NumPy, PyTorch or JAX:
  minirlhf verify ADAPTER.py      check it against test vectors, name the mistakes it makes
  minirlhf identify ADAPTER.py    which system's conventions it follows, question by question
  minirlhf trace MODELS BATCH     every intermediate array of one update of your own small model
  minirlhf verify --trace ARRAYS  your own arrays of an update: the first that departs, and why

The same command with --resume goes on where it was interrupted.  Whatever trains may also be run
by several processes that share the work: mpiexec -n 4 minirlhf run --shards 4 (extra: mpi).
`minirlhf ppo RUN --name NEW --ppo.beta 0.05` runs a stage again with another setting, in a new
folder that starts with a copy of what the stage needs.  `minirlhf COMMAND --help` lists every
setting with its meaning and default.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2 for a mistake that the user can mend)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "--version"):
        print(OVERVIEW if argv[:1] != ["--version"] else f"minirlhf {__version__}")
        return 0
    try:
        status = attempt(argv)
    except BaseException as problem:                         # a mistake of ours, or --help's end
        if ranks().size > 1 and not (isinstance(problem, SystemExit) and not problem.code):
            try:
                say(traceback.format_exc())
            finally:
                end_all(1)
        raise
    if status and ranks().size > 1:
        end_all(status)
    return status


def attempt(argv: list[str]) -> int:
    """A command, as one of several ranks perhaps; a user's mistake is said in one line."""
    try:
        join()
        make_ready(ranks().neighbours)
        introduce()
        return command(argv[0])(argv[1:]) or 0
    except KeyboardInterrupt as interruption:
        say(f"interrupted{notes(interruption)}", before="\n")
        return 130
    except BrokenPipeError:                                  # `minirlhf run --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, RuntimeError, ArithmeticError, OSError) as problem:
        say(f"{problem}{notes(problem)}")
        return 2


def introduce() -> None:
    """Of several ranks the first says which process is which, and the others print nothing."""
    here = ranks()
    if here.size == 1:
        return
    processes = np.zeros(here.size, int)
    processes[here.rank] = os.getpid()
    here.all_sum(processes)
    if here.rank == 0:
        print(f"note: ranks 0 … {here.size - 1} are the processes "
              f"{', '.join(map(str, processes))}", file=sys.stderr)
    else:
        sys.stdout = open(os.devnull, "w")


def say(message: str, before: str = "") -> None:
    """Say on stderr what ends this process, and of several ranks which it is.

    What all of them find wrong the first one says: the others give it time to end them.
    """
    here = ranks()
    if here.rank > 0:
        time.sleep(PATIENCE)
        before = "\n"                                        # the first one's bar has no line end
    name = f"rank {here.rank}: " if here.size > 1 else ""
    print(f"{before}minirlhf: {name}{message}", file=sys.stderr, flush=True)


def end_all(status: int) -> None:
    """End all ranks, whatever becomes of this one's last words.

    An MPI that aborts ends its launcher too, which may still hold them.
    """
    try:
        sys.stdout.flush()
        time.sleep(HEARD)
    finally:
        ranks().end(status)


def notes(problem: BaseException) -> str:
    """What else is to be said of it, such as how to go on."""
    return "".join(f"; {note}" for note in getattr(problem, "__notes__", ()))


def command(name: str) -> Callable:
    """The function of a command.  Raises ValueError for an unknown one."""
    found = {"run": commands.run_all,
             **{stage: partial(commands.run_stage, stage)
                for stage in (*pipeline.STAGES, *ALGORITHMS)},
             "rounds": commands.run_rounds,
             "report": commands.write_report, "chat": chat.command, "label": label,
             "agreement": agreement, "refusals": refusals, "conventions": conventions,
             "trace": trace, "verify": verify, "identify": identify, "claims": claims,
             "sweep": sweep}
    if name not in found:
        raise ValueError(f"unknown command {name!r}; choose {', '.join(found)} (minirlhf --help)")
    if ranks().size > 1 and name not in ("run", "rounds", *pipeline.STAGES, *ALGORITHMS):
        raise ValueError(f"minirlhf {name} is the work of one process; start it without mpiexec")
    return found[name]


if __name__ == "__main__":
    sys.exit(main())

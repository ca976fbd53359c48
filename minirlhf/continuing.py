"""What a command takes from the run that it continues, and what it may not change there.

Everything is checked before anything is written.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from minirlhf import pipeline
from minirlhf.files import copy_whole, read_jsonl, write_jsonl
from minirlhf.run import OF_A_ROUND, Run, round_folder, watched
from minirlhf.settings import ALGORITHMS, RunConfig

# --- what must be so -----------------------------------------------------------------------------

def check_changes(name: str, before: Run, after: RunConfig, in_place: bool = False,
                  redone: Sequence[str] = (), advice: str = "start there with --name NEW") -> None:
    """Raise ValueError for a changed setting that another stage has already used.

    The run's config.json says how its models were made, and must stay true: in place, of those too
    that later stages made, as PPO where DPO is tried beside it.  redone: earlier stages that will
    be done again.  advice: what to do instead.
    """
    stages = list(pipeline.STAGES)
    earlier, later = stages[:stages.index(name)], stages[stages.index(name) + 1:]
    if not in_place or pipeline.STAGES[name].done(before.folder):
        later = []
    used = {setting: stage for stage in earlier + later
            if stage not in redone and pipeline.STAGES[stage].done(before.folder)
            for setting in pipeline.STAGES[stage].settings}
    if before.config.rounds > 1:
        used["iteration"] = "round 2"
    old, new = asdict(before.config), asdict(after)
    for setting, stage in used.items():
        section, _, key = setting.partition(".")
        was, now = (d[section][key] if key else d[section] for d in (old, new))
        if was != now:
            raise ValueError(f"{setting} cannot change here: {stage} has already used it; "
                             f"{advice}, or leave the setting as it was")


def check_models(run: Run, names: Sequence[str]) -> None:
    """Raise FileNotFoundError or ValueError unless these models are there, those of every round
    too."""
    for name in names:
        run.load(name)
        for number in range(1, run.config.rounds + 1) if name in OF_A_ROUND else ():
            run.in_round(number).load(name)


# --- what is copied to a new folder, and dropped from an old one ---------------------------------

def copy_earlier(name: str, source: Path, target: Path, metrics: list[dict]) -> None:
    """Copy what the stages before `name` made, and their rows of the log, to another run folder.

    What is there already was copied by an attempt that was interrupted.
    """
    stages = list(pipeline.STAGES.values())
    earlier = stages[:list(pipeline.STAGES).index(name)]
    copy_products(source, target, [product for stage in earlier for product in stage.makes])
    if name == "evaluate" and (source / "rounds").exists():
        copy_products(source, target, ["rounds"])
    logs = {log for stage in earlier for log in stage.logs}
    copy_log(target, [row for row in metrics if row["stage"].split(", round")[0] in logs])


def copy_rounds(before: Run, target: Path, metrics: list[dict]) -> None:
    """Copy what a finished run made until its last policy, each round to a folder of its own."""
    copy_products(before.folder, target, [product for name in ("pretrain", "sft")
                                          for product in pipeline.STAGES[name].makes])
    products = [product for name in pipeline.ROUND for product in pipeline.STAGES[name].makes]
    for number in range(1, before.config.rounds + 1):
        copy_products(before.in_round(number).place, target / round_folder(number), products)
    copy_log(target, [row for row in metrics if not row["stage"].startswith("DPO")])


def copy_products(source: Path, target: Path, products: Sequence[str]) -> None:
    """Copy files and folders that are in `source` and not yet in `target`."""
    for product in products:
        if not (source / product).exists() or (target / product).exists():
            continue
        copy_whole(source / product, target / product)


def copy_log(target: Path, rows: list[dict]) -> None:
    """Begin a log with the rows of an earlier one."""
    if not (target / "metrics.jsonl").exists():
        write_jsonl(target / "metrics.jsonl", rows)


def drop_other_algorithms(run: Run) -> None:
    """Remove what an attempt at stage 3 by another algorithm left: its rows, its value model.

    What the same algorithm left is replaced as it goes on.
    """
    own, log = ALGORITHMS[run.config.algorithm], run.folder / "metrics.jsonl"
    if run.config.algorithm != "ppo":
        shutil.rmtree(run.folder / "value", ignore_errors=True)
    rows = read_jsonl(log, "stage") if log.exists() else []
    others = set(pipeline.STAGES["ppo"].logs) - {own, watched(own)}
    if any(row["stage"] in others for row in rows):
        write_jsonl(log, [row for row in rows if row["stage"] not in others])
        run.checkpoint.end()                                 # the log has another length now

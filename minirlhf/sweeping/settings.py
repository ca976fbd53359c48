"""The settings of runs: what is changed in them, and what a stage has read when it is done."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import NamedTuple

from minirlhf import pipeline
from minirlhf.settings import ModelSize, RunConfig, from_dict

ALWAYS = ("shards", "backend", "evaluation")       # read by no stage in particular


class Stage(NamedTuple):
    """How far a run goes: the command that does it, and what the command begins with."""

    command: str                         # of `minirlhf`; "ppo" stands for every algorithm
    after: str | None
    reads: tuple[str, ...]               # pipeline stages that it does, whose settings it reads
    also: tuple[str, ...] = ()           # further settings


STAGES = {
    "base": Stage("pretrain", None, ("pretrain",)),
    "sft": Stage("sft", "base", ("sft",)),
    "reward": Stage("reward-model", "sft", ("preferences", "reward-model")),
    "dpo": Stage("dpo", "reward", ("dpo",)),
    "policy": Stage("ppo", "reward", ("ppo",)),
    "evaluated": Stage("evaluate", "policy", ("evaluate",)),
    "rounds": Stage("rounds", "policy", ("evaluate",), ("rounds", "iteration")),
}


def stages_to(stage: str) -> list[str]:
    """A stage and all that it begins with, the first one first."""
    before = STAGES[stage].after
    return [*(stages_to(before) if before else ()), stage]


def configured(changed: Mapping[str, object], seed: int, quick: bool = False) -> RunConfig:
    """The default settings with some changed: {"ppo.beta": 0.0}.  quick: of a minute run.

    Computed with NumPy, whatever else is installed: the same runs everywhere.

    Raises ValueError for a setting that there is not.
    """
    saved = asdict(RunConfig(seed=seed, backend="numpy"))
    for name, value in changed.items():
        *sections, key = name.split(".")
        place: object = saved
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            raise ValueError(f"a run has no setting {name}")
        place[key] = value
    config = from_dict(RunConfig, saved)
    return minute(config) if quick else config


def minute(config: RunConfig) -> RunConfig:
    """The same run so small that it takes a second.  Its numbers mean nothing.

    The policy takes such steps that it does change what it says.
    """
    return replace(
        config, world=replace(config.world, corpus_words=3000, demonstration_count=30),
        model=ModelSize(channels=8, heads=2, layers=1),
        pretraining=replace(config.pretraining, steps=5, batch_size=4, window=24),
        sft=replace(config.sft, steps=3, batch_size=8),
        preferences=replace(config.preferences, prompts=20, replies=2),
        reward=replace(config.reward, steps=2, batch_size=8),
        ppo=replace(config.ppo, steps=2, batch_size=8, minibatches=2, max_new=6, lr_policy=0.03),
        dpo=replace(config.dpo, steps=2, batch_size=8),
        watch=replace(config.watch, every=1, prompts=5, samples=1),
        evaluation=replace(config.evaluation, samples=1, best_of=2))


def until(config: RunConfig, stage: str) -> RunConfig:
    """The settings that a run has read when a stage is done; all others are the defaults.

    So two runs that differ in what comes later only are one run until then.
    """
    read = list(ALWAYS)
    for name in stages_to(stage):
        read += STAGES[name].also
        for part in STAGES[name].reads:
            read += pipeline.STAGES[part].settings
    found, given = asdict(RunConfig()), asdict(config)
    for setting in read:
        section, _, key = setting.partition(".")
        if key:
            found[section][key] = given[section][key]
        else:
            found[section] = given[section]
    return from_dict(RunConfig, found)


def leaves(tree: Mapping, above: str = "") -> Iterator[tuple[str, object]]:
    """("ppo.beta", 0.2), …: every setting with its dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def differences(before: RunConfig, after: RunConfig) -> dict[str, object]:
    """{dotted name: value} of what is different in the second."""
    old = dict(leaves(asdict(before)))
    return {name: value for name, value in leaves(asdict(after)) if old[name] != value}


def flags(changed: Mapping[str, object]) -> list[str]:
    """The command line's words for settings."""
    words = []
    for name, value in changed.items():
        name = name.replace("_", "-")
        if isinstance(value, bool):
            section, _, key = name.rpartition(".")
            words.append(f"--{section}.{'' if value else 'no-'}{key}")
        else:
            several = isinstance(value, tuple | list)
            words += [f"--{name}", *map(str, value if several else [value])]
    return words

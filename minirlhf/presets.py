"""Settings that fit a kind of run: people's comparisons, a base of one's own, a quick look.

And which settings a kind of run does not read, so that nobody believes that they did something.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from minirlhf.people import Comparisons
from minirlhf.pretrained import base_config
from minirlhf.settings import ModelSize, RunConfig
from minirlhf.stages.pretraining import PretrainingConfig


def text_settings(path: Path, **others: Path | None) -> RunConfig:
    """Defaults for people's comparisons: longer rows, a larger vocabulary, fewer steps.

    others: demonstrations_path, corpus_path, prompts_path.
    """
    base = RunConfig()
    return replace(
        base, text=Comparisons(path, **others),
        model=replace(base.model, context=320, channels=96),
        pretraining=PretrainingConfig(steps=1500, batch_size=16, window=128),
        sft=replace(base.sft, steps=300, batch_size=16),
        reward=replace(base.reward, steps=200, batch_size=16, lr=3e-4),
        ppo=replace(base.ppo, steps=20, batch_size=64, max_new=48, lr_policy=1e-4),
        dpo=replace(base.dpo, batch_size=16, lr=1e-4),
        evaluation=replace(base.evaluation, samples=1))


def base_settings(config: RunConfig, folder: Path) -> RunConfig:
    """The defaults of a run that starts from a base model in a folder: its sizes, rows that fit
    them, and smaller steps for a wider model.

    The wider a model, the more a step of one size changes what it computes; with Adam the rate
    that suits goes about as 1/width (Yang et al. 2022, "Tensor Programs V").  So the rates, which
    were chosen for the default width, are divided by how many times wider the base is.

    Raises ValueError or FileNotFoundError for a folder that can be no base.
    """
    sizes = base_config(folder)
    slower = min(1, config.model.channels / sizes.channels)

    def rates(section, *names):
        return replace(section, **{
            name: float(f"{getattr(section, name) * slower:.1g}") for name in names})

    if slower < 1:
        config = replace(config, sft=rates(config.sft, "lr"), reward=rates(config.reward, "lr"),
                         ppo=rates(config.ppo, "lr_policy", "lr_value"),
                         dpo=rates(config.dpo, "lr"))
    longest = sizes.context * 2 // 3 if config.text is None else sizes.context // 2
    max_new = min(config.ppo.max_new, max(1, longest))       # the rest is for the prompts
    text = config.text and replace(
        config.text, max_tokens=min(config.text.max_tokens, sizes.context - max_new))
    return replace(config, base=Path(folder), text=text, ppo=replace(config.ppo, max_new=max_new),
                   model=ModelSize(sizes.context, sizes.channels, sizes.heads, sizes.layers))


def check_unused(given: RunConfig, default: RunConfig) -> None:
    """Raise ValueError for a flag beside --base that would change nothing, or make it untrue."""
    if given.base is None:
        return
    for section, names in (("model", None), ("pretraining", None), ("world", ["corpus_words"]),
                           ("text", ["vocab_size"])):
        was, now = getattr(default, section), getattr(given, section)
        for name in names or [setting.name for setting in fields(now)]:
            if now is not None and getattr(was, name) != getattr(now, name):
                raise ValueError(f"--{section}.{name.replace('_', '-')} beside --base: the model "
                                 "that is given has its sizes and its vocabulary, and is not "
                                 "pretrained")


PPO_ONLY = ("lr_value", "clip_value", "gamma", "lam")


def check_unread(given: RunConfig, default: RunConfig) -> None:
    """Raise ValueError for a changed setting of what the run has not: an algorithm, rounds."""
    def changed(section: str, names: Sequence[str] | None = None) -> Iterator[str]:
        was, now = getattr(default, section), getattr(given, section)
        for name in names or [setting.name for setting in fields(now)]:
            if getattr(was, name) != getattr(now, name):
                yield f"--{section}.{name.replace('_', '-')}"

    if given.algorithm == "ppo":
        unread, why = [*changed("group")], "PPO compares no groups; give --algorithm grpo or rloo"
    else:
        unread, why = [*changed("ppo", PPO_ONLY)], f"{given.algorithm} has no value model"
    if given.algorithm == "rloo" and not unread:
        unread, why = [*changed("group", ["normalize"])], "rloo never divides by the deviation"
    if given.rounds == 1 and not unread:
        unread, why = [*changed("iteration")], "there is one round; give --rounds 2 or more"
    if unread:
        raise ValueError(f"{unread[0]} would change nothing: {why}")


def quick(config: RunConfig) -> RunConfig:
    """The same run, small enough to see every stage work within seconds.  Its numbers mean
    little."""
    return replace(
        config,
        world=replace(config.world, corpus_words=60_000, demonstration_count=200),
        pretraining=replace(config.pretraining, steps=120, warmup=20),
        sft=replace(config.sft, steps=60),
        preferences=replace(config.preferences, prompts=100),
        reward=replace(config.reward, steps=30),
        ppo=replace(config.ppo, steps=4, batch_size=64),
        dpo=replace(config.dpo, steps=30),
        watch=replace(config.watch, every=2, samples=1),
        evaluation=replace(config.evaluation, samples=1))

"""Every setting of a run, with its default.

Frozen dataclasses, nested by stage; each field's description is also the help of its flag
(`--ppo.beta`).  A run folder's `config.json` holds them all.
"""

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from minirlhf.files import read_json
from minirlhf.parameters import leaves
from minirlhf.people import Comparisons
from minirlhf.pretrained import base_config
from minirlhf.sources import ToyWorld
from minirlhf.stages.ppo import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import RewardModelConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.stages.training import require_positive


@dataclass(frozen=True)
class ModelSize:
    """The size of the one transformer that all four models are."""

    context: int = 48
    """longest prompt and response together, in tokens"""
    channels: int = 64
    """width C"""
    heads: int = 4
    """attention heads"""
    layers: int = 2
    """blocks"""

    def __post_init__(self):
        require_positive(self, "context", "channels", "heads", "layers")
        if self.channels % self.heads:
            raise ValueError(f"model.channels ({self.channels}) must be a multiple of model.heads "
                             f"({self.heads}): every head gets an equal share")


@dataclass(frozen=True)
class PreferenceConfig:
    """How comparisons are collected from the SFT model's replies (the toy world only)."""

    prompts: int = 2000
    """training prompts, drawn with replacement"""
    replies: int = 4
    """replies a prompt; every pair of distinct ones is compared"""

    def __post_init__(self):
        if self.prompts < 1 or self.replies < 2:
            raise ValueError(f"preferences want at least 1 prompt and 2 replies, got "
                             f"{self.prompts} and {self.replies}")


@dataclass(frozen=True)
class EvaluationConfig:
    """How models are compared at the end, on test prompts."""

    samples: int = 4
    """replies a prompt"""

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"evaluation wants at least 1 sample a prompt, got {self.samples}")


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run."""

    seed: int = 0
    """all randomness comes from it: the same seed gives the same bits"""
    backend: str = "auto"
    """numpy, cupy, or auto: cupy where a GPU is found"""
    world: ToyWorld = field(default_factory=ToyWorld)
    """the toy assistant world"""
    base: Path | None = None
    """start from the GPT-2 in this folder, as `transformers` saves one, with its own tokenizer,
    instead of pretraining; its sizes are the model's: docs/your_model.md"""
    text: Comparisons | None = None
    """people's comparisons instead of the toy world"""
    model: ModelSize = field(default_factory=ModelSize)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    preferences: PreferenceConfig = field(default_factory=PreferenceConfig)
    reward: RewardModelConfig = field(default_factory=RewardModelConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        rows = {"ppo.max_new": self.ppo.max_new}
        if self.base is None:
            rows = {"pretraining.window": self.pretraining.window} | rows
            if self.text is None and self.world.corpus_words < self.pretraining.window:
                raise ValueError(f"world.corpus_words ({self.world.corpus_words}) must be at least "
                                 f"pretraining.window ({self.pretraining.window})")
        else:
            object.__setattr__(self, "base", self.base.absolute())   # found from any folder
            if self.text is not None and self.text.corpus_path is not None:
                raise ValueError("--corpus beside --base: a base that is given is not pretrained, "
                                 "so nothing would read the corpus")
        if self.text is not None:
            rows["text.max_tokens + ppo.max_new"] = self.text.max_tokens + self.ppo.max_new
        for name, tokens in rows.items():
            if tokens > self.model.context:
                raise ValueError(f"{name} ({tokens} tokens) must fit model.context "
                                 f"({self.model.context})")


def read_settings(path: Path) -> RunConfig:
    """The settings in a run's config.json.  Raises ValueError naming the file and what is wrong."""
    saved = read_json(path)
    try:
        return from_dict(RunConfig, saved)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def from_dict(kind: type, saved: dict):
    """The configuration that `asdict` made `saved` of, e.g. a run's config.json.

    Raises ValueError naming a setting that `kind` does not have, or that has another type.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"the settings of a {kind.__name__} must be an object, got {saved!r}")
    types = get_type_hints(kind)
    unknown = set(saved) - set(types)
    if unknown:
        raise ValueError(f"{kind.__name__} has no setting {', '.join(sorted(unknown))}")

    def restore(name: str, value):
        wanted = types[name]
        choices = [t for t in (wanted, *get_args(wanted)) if isinstance(t, type)]
        choices += [str] * (get_origin(wanted) is Literal)       # which word, the class checks
        nested = [t for t in choices if is_dataclass(t)]
        if isinstance(value, dict) and nested:
            return from_dict(nested[0], value)
        if isinstance(value, str) and Path in choices:
            return Path(value)
        several = get_origin(wanted) is tuple
        value = tuple(value) if several and isinstance(value, list) else value
        accepted = (*choices, int) if float in choices else tuple(choices)
        if several != isinstance(value, tuple) or not all(
                isinstance(one, accepted) for one in (value if several else (value,))):
            raise ValueError(f"{kind.__name__}.{name} must be "
                             f"{' or '.join(t.__name__ for t in choices)}, got {value!r}")
        return value

    return kind(**{name: restore(name, value) for name, value in saved.items()})


def changes(before: RunConfig, after: RunConfig) -> list[str]:
    """The settings that differ, each in words: "ppo.beta is 0.2 there, 0.1 here"."""
    old, new = ({name: leaf for name, leaf in leaves(asdict(config))} for config in (before, after))
    return [f"{name} is {old.get(name)} there, {new.get(name)} here"
            for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


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
                         ppo=rates(config.ppo, "lr_policy", "lr_value"))
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
        evaluation=replace(config.evaluation, samples=1))

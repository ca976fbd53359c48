"""Every setting of a run, with its default.

Frozen dataclasses, nested by stage; each field's description is also the help of its flag
(`--ppo.beta`).  A run folder's `config.json` holds them all.
"""

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from minirlhf.files import read_json
from minirlhf.parameters import leaves
from minirlhf.people import Comparisons
from minirlhf.sources import ToyWorld
from minirlhf.stages.direct_preference import DPOConfig
from minirlhf.stages.group_relative import GroupConfig
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import RewardModelConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.stages.training import require_positive
from minirlhf.watching import WatchConfig

ALGORITHMS = {"ppo": "PPO", "grpo": "GRPO", "rloo": "RLOO"}
BASELINES = ("best-of-n", "dpo")
OPPONENTS = ("sft", "last", "best-of-n")


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
class IterationConfig:
    """What a further round of RLHF starts from and learns from (`--rounds`)."""

    opponents: tuple[Literal["sft", "last", "best-of-n"], ...] = OPPONENTS
    """whose replies stand beside the policy's: the SFT model's, those of the policy one round
    before, the best of some SFT replies by the reward model so far"""
    best_of: int = 4
    """of how many replies best-of-n takes the best"""
    comparisons: Literal["all", "fresh"] = "all"
    """the reward model learns from all comparisons so far, or from this round's alone"""
    reward_from: Literal["sft", "last"] = "sft"
    """the reward model starts from the SFT model, or from the last round's reward model"""
    policy_from: Literal["last", "sft"] = "last"
    """the policy goes on from the last round's, or starts again from the SFT model"""
    reference: Literal["sft", "last"] = "sft"
    """the KL penalty measures from the SFT model, or from the last round's policy"""

    def __post_init__(self):
        check_choices("iteration.opponents", self.opponents, OPPONENTS)
        if not self.opponents:
            raise ValueError("iteration.opponents must name at least one: within one policy, "
                             "replies differ too little to be compared")
        for name, choices in (("comparisons", ("all", "fresh")), ("reward_from", ("sft", "last")),
                              ("policy_from", ("last", "sft")), ("reference", ("sft", "last"))):
            check_choices(f"iteration.{name}", (getattr(self, name),), choices)
        if self.best_of < 2:
            raise ValueError(f"iteration.best_of must be at least 2, got {self.best_of}")


@dataclass(frozen=True)
class EvaluationConfig:
    """How models are compared at the end, on test prompts."""

    samples: int = 4
    """replies a prompt"""
    best_of: int = 16
    """of how many replies the baseline best-of-n takes the best"""

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"evaluation wants at least 1 sample a prompt, got {self.samples}")
        if self.best_of < 2:
            raise ValueError(f"evaluation.best_of must be at least 2, got {self.best_of}")


def check_choices(name: str, given: tuple[str, ...], choices: tuple[str, ...]) -> None:
    """Raise ValueError naming a value that is none of the choices, or that is given twice."""
    unknown = [one for one in given if one not in choices]
    if unknown:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {unknown[0]!r}")
    if len(set(given)) < len(given):
        raise ValueError(f"{name} names one thing twice: {', '.join(given)}")


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run."""

    seed: int = 0
    """all randomness comes from it: the same seed gives the same bits"""
    backend: str = "auto"
    """what computes: numpy; cupy, on an NVIDIA GPU (pip install 'minirlhf[cuda13]', or cuda12:
    docs/gpu.md); or auto: cupy where it can compute, else numpy, saying what is missing"""
    shards: int = 2
    """parts in which an optimizer step is computed, on a CPU each on a core of its own: give as
    many as there are cores, on a GPU 1, of several processes (mpiexec) a part or more for each;
    equal bits want equal shards, since sums depend on them"""
    algorithm: Literal["ppo", "grpo", "rloo"] = "ppo"
    """how the policy is trained in stage 3: ppo with a value model; grpo and rloo compare several
    responses to a prompt instead, with three models in memory"""
    baselines: tuple[Literal["best-of-n", "dpo"], ...] = ()
    """also ask, beside what reinforcement learning made: the best of n SFT replies by the reward
    model; a policy that DPO trains on the same comparisons"""
    rounds: int = 1
    """rounds of preferences, reward model and reinforcement learning (the toy world only)"""
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
    group: GroupConfig = field(default_factory=GroupConfig)
    dpo: DPOConfig = field(default_factory=DPOConfig)
    iteration: IterationConfig = field(default_factory=IterationConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.seed >= 2**32:                                   # one word of a generator's seed
            raise ValueError(f"seed must be below 2**32, got {self.seed}")
        require_positive(self, "shards")
        check_choices("algorithm", (self.algorithm,), tuple(ALGORITHMS))
        check_choices("baselines", self.baselines, BASELINES)
        if not 1 <= self.rounds <= 99:                           # folders of two digits
            raise ValueError(f"rounds must be from 1 to 99, got {self.rounds}")
        if self.rounds > 1 and self.text is not None:
            raise ValueError("--rounds beside --preferences: a further round wants somebody who "
                             "compares the new replies; collect such comparisons with `minirlhf "
                             "label RUN --split train`, and give them to another run")
        if self.algorithm != "ppo" and self.ppo.batch_size % self.group.size:
            raise ValueError(f"ppo.batch_size ({self.ppo.batch_size}) must be a multiple of "
                             f"group.size ({self.group.size}), so that every group is whole")
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
        parts = (wanted, *get_args(wanted))
        if any(isinstance(t, str) or get_origin(t) is Literal for t in parts):
            parts = (str,)                               # which texts, the class itself checks
        choices = [t for t in parts if isinstance(t, type)]
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
            raise ValueError(f"{kind.__name__}.{name} must be {'a list of ' * several}"
                             f"{' or '.join(t.__name__ for t in choices)}, got {value!r}")
        return value

    return kind(**{name: restore(name, value) for name, value in saved.items()})


def changes(before: RunConfig, after: RunConfig) -> list[str]:
    """The settings that differ, each in words: "ppo.beta is 0.2 there, 0.1 here"."""
    old, new = ({name: leaf for name, leaf in leaves(asdict(config))} for config in (before, after))
    return [f"{name} is {old.get(name)} there, {new.get(name)} here"
            for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]

"""Whole runs for the tests, so small that they take a second, and a way to look at their files."""

import shutil
from pathlib import Path

from minirlhf import page, pipeline
from minirlhf.run import Run
from minirlhf.run_folder import create
from minirlhf.settings import (
    EvaluationConfig,
    IterationConfig,
    ModelSize,
    PreferenceConfig,
    RunConfig,
)
from minirlhf.sources import ToyWorld
from minirlhf.stages.direct_preference import DPOConfig
from minirlhf.stages.policy import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig
from minirlhf.stages.reward_model import RewardModelConfig
from minirlhf.stages.supervised import SFTConfig
from minirlhf.watching import WatchConfig

TINY = RunConfig(
    backend="numpy", world=ToyWorld(corpus_words=3000, demonstration_count=30),
    model=ModelSize(channels=8, heads=2, layers=1),
    pretraining=PretrainingConfig(steps=15, batch_size=4, window=24),
    sft=SFTConfig(steps=8, batch_size=8), preferences=PreferenceConfig(prompts=12, replies=2),
    reward=RewardModelConfig(steps=5, batch_size=8),
    ppo=PPOConfig(steps=2, batch_size=8, minibatches=2, max_new=8),
    dpo=DPOConfig(steps=3, batch_size=8), iteration=IterationConfig(best_of=2),
    watch=WatchConfig(every=1, prompts=5, samples=1),
    evaluation=EvaluationConfig(samples=1, best_of=2))
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def whole(folder: Path, config: RunConfig = TINY) -> Run:
    """A run from its beginning to its end."""
    run = create(folder, config)
    for step in pipeline.steps(config):
        step.run(run)
    page.write_report(run.folder)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def copied(run: Run, folder: Path, config: RunConfig | None = None) -> Run:
    """A finished run's folder, to be written to, with other settings perhaps."""
    shutil.copytree(run.folder, folder / "copy")
    return Run(folder / "copy", run.config if config is None else config)

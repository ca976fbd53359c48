"""A run: its folder, its settings, its models and its log."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from math import isfinite
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minirlhf import transformer
from minirlhf.arrays import select_backend
from minirlhf.files import append_jsonl, read_jsonl, write_json, write_jsonl
from minirlhf.parameters import Parameters
from minirlhf.pretrained import open_base, open_tokenizer
from minirlhf.settings import RunConfig
from minirlhf.sources import Source
from minirlhf.stages import pretraining
from minirlhf.stages.supervised import encode_demonstrations
from minirlhf.stages.training import Stage, step_rng
from minirlhf.text import load_tokenizer
from minirlhf.transformer import ModelConfig

SHOWN = ("loss", "score", "kl", "objective", "length", "explained_variance")   # beside the bars
MADE_BY = {"base": "pretrain", "sft": "sft", "reward": "reward-model", "value": "ppo",
           "policy": "ppo"}


class Run:
    """A run folder: its settings, its models, its logs."""

    def __init__(self, folder: Path, config: RunConfig):
        self.folder, self.config = Path(folder), config
        self.backend = select_backend(config.backend)
        self.source: Source = config.text or config.world
        if config.base is not None and config.text is not None:
            self.source = config.text.counted_by(self.tokenizer)

    def rng(self, stage: Stage, step: int = 0) -> np.random.Generator:
        return step_rng(self.config.seed, stage, step)

    @cached_property
    def tokenizer(self):
        if (self.folder / "base").exists():
            return load_tokenizer(self.folder / "base")
        base = self.config.base
        return self.source.tokenizer() if base is None else open_tokenizer(base)[0]

    @cached_property
    def model(self) -> ModelConfig:
        tokenizer = self.tokenizer
        return ModelConfig(tokenizer.vocab_size, **asdict(self.config.model),
                           pad_id=tokenizer.pad_id, eos_id=tokenizer.eos_id)

    def draw_prompts(self, n: int, rng: np.random.Generator) -> list[list[int]]:
        """n training prompts as token ids."""
        return [self.tokenizer.prompt(text) for text in self.source.draw_prompts(n, rng)]

    def save(self, name: str, params: Parameters) -> None:
        transformer.save(self.folder / name, params, self.model, self.tokenizer)

    def check(self) -> None:
        """Read the data and measure the prompts, so that a mistake shows before any work.

        Raises ValueError or OSError if this run could not come to its end.
        """
        if self.config.base is not None:
            self.check_base()
        elif not self.source.simulated:                  # the toy's data are what it says
            self.source.demonstrations(rng=self.rng(Stage.DATA, 1))
            stream = pretraining.token_stream(self.source.corpus(rng=self.rng(Stage.DATA)),
                                              self.tokenizer)
            if len(stream) < self.config.pretraining.window:
                raise ValueError(f"the corpus has only {len(stream)} tokens, fewer than "
                                 f"pretraining.window ({self.config.pretraining.window})")
        longest = max(len(self.tokenizer.prompt(row["prompt"])) for row in self.source.prompts())
        if longest + self.config.ppo.max_new > self.model.context:
            raise ValueError(f"the longest prompt ({longest} tokens) and ppo.max_new "
                             f"({self.config.ppo.max_new}) must fit model.context "
                             f"({self.model.context})")

    def check_base(self) -> None:
        """Read the given base model, and measure the demonstrations with its tokenizer."""
        if not (self.folder / "base").exists():
            base = open_base(self.config.base)
            if base.model != self.model:
                raise ValueError(f"{self.config.base} holds a {base.model}, but the settings of "
                                 f"this run want a {self.model}")
        longest = max(len(prompt) + len(response) for prompt, response in encode_demonstrations(
            self.source.demonstrations(rng=self.rng(Stage.DATA, 1)), self.tokenizer))
        if longest > self.model.context:
            raise ValueError(f"the longest demonstration ({longest} tokens) must fit model.context "
                             f"({self.model.context})")

    def load(self, name: str) -> Parameters:
        """One of the run's models.

        Raises FileNotFoundError saying which stage makes it, ValueError if it has another size
        than the run's settings say.
        """
        if not (self.folder / name / "model.safetensors").exists():
            raise FileNotFoundError(f"{self.folder} has no {name}/ model yet; run the stage that "
                                    f"makes it first ({MADE_BY[name]})")
        params, model = transformer.load(self.folder / name, backend=self.backend.name)
        if model != self.model:
            raise ValueError(f"{self.folder / name} holds a {model}, but the settings of this run "
                             f"want a {self.model}")
        return params

    def follow(self, stage: str, steps: int, numbers: Iterator[dict]) -> None:
        """Run a stage to its end under a progress bar, and log every step.

        Rows that an interrupted attempt at the stage left in the log are dropped first.
        Raises FloatingPointError naming the step if a number is not finite: nothing good follows.
        """
        log = self.folder / "metrics.jsonl"
        if log.exists():
            write_jsonl(log, [row for row in read_jsonl(log) if row["stage"] != stage])
        with tqdm(total=steps, desc=f"{stage:>16}", mininterval=0.5) as bar:
            for step, row in enumerate(numbers):
                row = {key: float(number) for key, number in row.items()}
                broken = [key for key, number in row.items() if not isfinite(number)]
                if broken:
                    raise FloatingPointError(f"{stage}, step {step}: {', '.join(broken)} is not "
                                             "finite; try a smaller learning rate")
                append_jsonl(log, [{"stage": stage, "step": step} | row])
                bar.set_postfix({key: f"{row[key]:.3g}" for key in SHOWN if key in row},
                                refresh=False)
                bar.update()


def create(folder: Path, config: RunConfig) -> Run:
    """Make the run folder and write its settings, before any work.

    Raises FileExistsError if the folder exists: results are never overwritten by another run.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another --name, or remove it")
    run = Run(folder, config)
    run.check()
    write_json(folder / "config.json", asdict(config))
    return run


def bar(description: str):
    """A progress bar to wrap around batches."""
    return lambda batches: tqdm(batches, desc=f"{description:>16}")

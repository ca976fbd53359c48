"""A run: its settings, data and models, and the parts of its stages, which may be interrupted."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minirlhf import transformer
from minirlhf.arrays import select_backend
from minirlhf.checkpoint import Checkpoint
from minirlhf.dealing import by_the_first, first_says, rows_together, same_everywhere
from minirlhf.environment import record_peak
from minirlhf.files import append_jsonl, read_jsonl, replacing_folder, write_json, write_jsonl
from minirlhf.parallel import alone, ranks
from minirlhf.parameters import Parameters
from minirlhf.pretrained import open_base, open_tokenizer
from minirlhf.rollout import rows_at_once
from minirlhf.settings import RunConfig
from minirlhf.sources import Source
from minirlhf.stages import pretraining
from minirlhf.stages.supervised import encode_demonstrations
from minirlhf.stages.training import Stage, step_rng
from minirlhf.step_log import StepLog
from minirlhf.text import load_tokenizer
from minirlhf.transformer import ModelConfig

SHOWN = ("loss", "score", "kl", "objective", "length", "explained_variance")   # beside the bars
BATCH = 128                     # replies sampled together, outside of reinforcement learning
MADE_BY = {"base": "pretrain", "sft": "sft", "reward": "reward-model", "dpo": "dpo",
           "value": "ppo", "policy-best": "ppo", "policy": "ppo"}
OF_A_ROUND = ("reward", "value", "policy-best", "policy")       # models that each round makes anew


class Run:
    """A run folder: its settings, its models, its logs."""

    def __init__(self, folder: Path, config: RunConfig):
        self.folder, self.config = Path(folder), config
        self.round, self.place = 1, self.folder
        self.backend = select_backend(config.backend)
        self.source: Source = config.text or config.world
        self.checkpoint = Checkpoint(self.folder)
        if config.base is not None and config.text is not None:
            self.source = config.text.counted_by(self.tokenizer)

    def rng(self, stage: Stage, step: int = 0) -> np.random.Generator:
        return step_rng(self.config.seed, stage, step, self.round - 1)

    # --- rounds: each has a folder of its own for what it makes, and random numbers of its own

    def in_round(self, number: int) -> "Run":
        """This run, at work in one of its rounds, the first being 1.

        A run of one round makes everything in its own folder.
        """
        other = copy.copy(self)
        other.round = number
        other.place = (self.folder if self.config.rounds == 1 else
                       self.folder / round_folder(number))
        return other

    def part(self, name: str) -> str:
        """What a part of a stage is called in the log and beside its bar."""
        return part(name, self.round)

    def model_folder(self, name: str) -> Path:
        return (self.place if name in OF_A_ROUND else self.folder) / name

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

    @cached_property
    def longest_prompt(self) -> int:
        """In tokens, over all splits."""
        return max(len(self.tokenizer.prompt(row["prompt"])) for row in self.source.prompts())

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
        if self.longest_prompt + self.config.ppo.max_new > self.model.context:
            raise ValueError(f"the longest prompt ({self.longest_prompt} tokens) and ppo.max_new "
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

    # --- models

    def has(self, name: str) -> bool:
        """Whether the run has made this model.  (All ranks must ask, and the first one looks.)"""
        return first_says((self.model_folder(name) / "model.safetensors").exists())

    def save(self, name: str, params: Parameters, **reports: dict) -> None:
        """Write a model's folder, whole or not at all; `reports` go into it as JSON files.

        Raises RuntimeError unless all ranks hold the same parameters.
        """
        same_everywhere(f"the parameters of {name}", params.flat)
        if ranks().rank > 0:
            return
        size = replace(self.model, channels=params["wte"]["weight"].shape[1],
                       layers=len(params["h"]))
        with replacing_folder(self.model_folder(name)) as folder:
            transformer.save(folder, params, size, self.tokenizer)
            for report, content in reports.items():
                write_json(folder / f"{report}.json", content)

    def load(self, name: str) -> Parameters:
        """One of the run's models.

        A reward model that was put there, and so the value model that starts from it, may have a
        width and a depth of its own.  (That of Ouyang et al. 2022 had 6 billion parameters, and the
        policy 175.)

        Raises FileNotFoundError saying which stage makes it, ValueError if it has another size
        than the run's settings say.
        """
        if not self.has(name):
            raise FileNotFoundError(f"{self.place} has no {name}/ model yet; run the stage that "
                                    f"makes it first ({MADE_BY[name]})")
        params, model = transformer.load(self.model_folder(name), backend=self.backend.name)
        free = (dict(channels=model.channels, layers=model.layers)
                if name in ("reward", "value") else {})
        if model != replace(self.model, **free):
            raise ValueError(f"{self.model_folder(name)} holds a {model}, but the settings of this "
                             f"run want a {self.model}")
        return params

    # --- the parts of a stage: each goes on where its checkpoint has it

    def follow(self, part: str, steps: int, models: dict, state: dict, numbers: Iterator[dict],
               look: Callable[[int], dict | None] | None = None) -> None:
        """Train to the end under a progress bar, and log every step.

        models, state: what `numbers` changes in place at each step it is asked for; state["step"]
        counts them.  look(steps done) may look at the models, before the first step and after each;
        what it returns is logged too.  Rows that an attempt given up left are dropped first.
        Raises FloatingPointError naming the step if a number is not finite: nothing good follows.
        """
        path = self.folder / "metrics.jsonl"
        log = StepLog(path, part)
        self.checkpoint.restore(part, {**models, "state": state}, log.write)
        if state["step"] == 0:
            drop_rows(path, part, watched(part))

        def look_after(done: int) -> None:
            if look is None:
                return
            log.write()
            seen = look(done)
            if seen is not None:
                append_jsonl(path, [{"stage": watched(part), "step": done} | seen])

        if state["step"] == 0:
            look_after(0)
        with (tqdm(total=steps, initial=state["step"], desc=f"{part:>16}", mininterval=0.5,
                   disable=ranks().rank > 0) as bar,
              closing(log)):
            for step, row in enumerate(numbers, start=state["step"]):
                log.add(step, row)
                look_after(step + 1)
                self.checkpoint.tick()
                bar.set_postfix({key: f"{log.last[key]:.3g}" for key in SHOWN if key in log.last},
                                refresh=False)
                bar.update()
        self.end_part()

    def gather(self, part: str, items: Sequence, rows_of: Callable, stage: Stage,
               replies: int = 1) -> list:
        """The rows of rows_of(some of the items, rng=…), batch after batch, under a progress bar.

        Rows must be what JSON can hold.  Each batch has a generator of its own, and as many items
        as make `BATCH` replies, fewer where memory asks for it; each item takes some `replies`.
        Several ranks make as many batches at a time, each of them one alone.
        """
        length = self.longest_prompt + self.config.ppo.max_new
        batch_size = max(1, rows_at_once(self.model, length, BATCH) // replies)
        here, done = ranks(), {"batches": 0, "rows": []}
        self.checkpoint.restore(part, done)
        starts = range(0, len(items), batch_size)
        with tqdm(total=len(starts), initial=done["batches"], desc=f"{part:>16}",
                  disable=here.rank > 0) as bar:
            for first in range(done["batches"], len(starts), here.size):
                number, own = first + here.rank, []
                if number < len(starts):
                    batch = items[starts[number]:starts[number] + batch_size]
                    with alone():
                        own = rows_of(batch, rng=self.rng(stage, number))
                done["rows"] += rows_together(own)
                done["batches"] = min(first + here.size, len(starts))
                self.checkpoint.tick()
                bar.update(done["batches"] - first)
        self.end_part()
        return done["rows"]

    def end_part(self) -> None:
        """All of a part's work is done: save it, and say what memory the process took for it."""
        self.checkpoint.save()
        record_peak(self.folder)


@by_the_first
def drop_rows(path: Path, *stages: str) -> None:
    """Take from a log, if it is there, the rows of some stages."""
    if path.exists():
        write_jsonl(path, [row for row in read_jsonl(path, "stage") if row["stage"] not in stages])


def round_folder(number: int) -> str:
    """Where one of several rounds keeps what it makes, in the run's folder."""
    return f"rounds/{number:02}"


def part(name: str, number: int) -> str:
    """What a part of a stage is called in the log of one of several rounds, the first being 1."""
    return name if number == 1 else f"{name}, round {number}"


def watched(part: str) -> str:
    """Under which name the looks at a part's models are logged."""
    return f"{part}, validation"

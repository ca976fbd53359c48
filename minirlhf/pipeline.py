"""The whole run: base → SFT → preferences → reward model → PPO → evaluation.

The article: "RLHF = SFT + Reward Model + RL Fine-Tuning."  Each stage below reads from the run
folder what earlier ones wrote, and writes its own, so a stage can also be run alone:

    runs/NAME/  config.json          all settings
                metrics.jsonl        every step's numbers, by stage
                prompts.jsonl  demonstrations.jsonl  preferences.jsonl  samples.jsonl
                base/ sft/ reward/ value/ policy/        models in Hugging Face's layout
                report.html
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minirlhf import evaluation, transformer
from minirlhf.arrays import select_backend
from minirlhf.files import append_jsonl, read_jsonl, write_json, write_jsonl
from minirlhf.parameters import Parameters, copy
from minirlhf.rollout import Models, Reply, generate, score_replies
from minirlhf.settings import RunConfig
from minirlhf.sources import Source, load_tokenizer
from minirlhf.stages import ppo, pretraining, reward_model, supervised
from minirlhf.stages.training import Stage, step_rng
from minirlhf.transformer import ModelConfig


class Run:
    """A run folder: its settings, its models, its logs."""

    def __init__(self, folder: Path, config: RunConfig):
        self.folder, self.config = Path(folder), config
        self.backend = select_backend(config.backend)
        self.source: Source = config.text or config.world

    def rng(self, stage: Stage, step: int = 0) -> np.random.Generator:
        return step_rng(self.config.seed, stage, step)

    @cached_property
    def tokenizer(self):
        base = self.folder / "base"
        return load_tokenizer(base) if base.exists() else self.source.tokenizer()

    @cached_property
    def model(self) -> ModelConfig:
        return ModelConfig(self.tokenizer.vocab_size, **asdict(self.config.model))

    def save(self, name: str, params: Parameters) -> None:
        transformer.save(self.folder / name, params, self.model, self.tokenizer)

    def check(self) -> None:
        """Read the data and measure the prompts, so that a mistake shows before any work.

        Raises ValueError or OSError if this run could not come to its end.
        """
        longest = max(len(self.tokenizer.prompt(row["prompt"])) for row in self.source.prompts())
        if longest + self.config.ppo.max_new > self.model.context:
            raise ValueError(f"the longest prompt ({longest} tokens) and ppo.max_new "
                             f"({self.config.ppo.max_new}) must fit model.context "
                             f"({self.model.context})")

    def load(self, name: str) -> Parameters:
        """One of the run's models.

        Raises FileNotFoundError saying which stage makes it, ValueError if it has another size
        than the run's settings say.
        """
        if not (self.folder / name / "model.safetensors").exists():
            maker = next(stage for stage, step in STAGES.items() if name in step.makes)
            raise FileNotFoundError(f"{self.folder} has no {name}/ model yet; run the stage that "
                                    f"makes it first ({maker})")
        params, model = transformer.load(self.folder / name, backend=self.backend.name)
        if model != self.model:
            raise ValueError(f"{self.folder / name} holds a {model}, but the settings of this run "
                             f"want a {self.model}")
        return params

    def follow(self, stage: str, steps: int, numbers: Iterator[dict]) -> None:
        """Run a stage to its end under a progress bar, and log every step.

        Raises FloatingPointError naming the step if a number is not finite: nothing good follows.
        """
        with tqdm(total=steps, desc=f"{stage:>16}", mininterval=0.5) as bar:
            for step, row in enumerate(numbers):
                row = {key: float(number) for key, number in row.items()}
                broken = [key for key, number in row.items() if not isfinite(number)]
                if broken:
                    raise FloatingPointError(f"{stage}, step {step}: {', '.join(broken)} is not "
                                             "finite; try a smaller learning rate")
                append_jsonl(self.folder / "metrics.jsonl", [{"stage": stage, "step": step} | row])
                bar.set_postfix({key: f"{row[key]:.3g}" for key in SHOWN if key in row},
                                refresh=False)
                bar.update()


SHOWN = ("loss", "score", "kl", "objective", "length", "explained_variance")   # beside the bars


def bar(description: str):
    """A progress bar to wrap around batches."""
    return lambda batches: tqdm(batches, desc=f"{description:>16}")


# --- the stages, in order, each followed by its helpers ------------------------------------------

def pretrain(run: Run) -> None:
    """The base model: next-token prediction on the corpus."""
    config = run.config.pretraining
    write_jsonl(run.folder / "prompts.jsonl", run.source.prompts())
    stream = pretraining.token_stream(run.source.corpus(rng=run.rng(Stage.DATA)), run.tokenizer)
    base = transformer.initialize(run.model, rng=run.rng(Stage.INITIALIZE),
                                  backend=run.backend.name)
    run.follow("pretraining", config.steps,
               pretraining.train(base, run.model, stream, config, seed=run.config.seed))
    run.save("base", base)


def fine_tune(run: Run) -> None:
    """Stage 1: the SFT model, by imitation of demonstrations."""
    config = run.config.sft
    demonstrations = run.source.demonstrations(rng=run.rng(Stage.DATA, 1))
    write_jsonl(run.folder / "demonstrations.jsonl", demonstrations)
    sft = run.load("base")
    pairs = supervised.encode_demonstrations(demonstrations, run.tokenizer)
    run.follow("SFT", config.steps,
               supervised.train(sft, run.model, pairs, config, seed=run.config.seed))
    run.save("sft", sft)


def collect_preferences(run: Run) -> None:
    """The preference dataset: SFT replies side by side, and who was preferred."""
    if not run.source.simulated:
        write_jsonl(run.folder / "preferences.jsonl", run.source.rows)
        return
    config, rng = run.config.preferences, run.rng(Stage.PREFERENCES)
    held_out = [row["prompt"] for row in run.source.prompts() if row["split"] != "train"]
    prompts = run.source.draw_prompts(config.prompts, rng) + held_out
    replies = reply_groups(run, run.load("sft"), prompts, rng)
    write_jsonl(run.folder / "preferences.jsonl", (
        row for group, (prompt, options) in enumerate(zip(prompts, replies, strict=True))
        for row in run.source.compare(prompt, options, group=group, rng=rng)))


def reply_groups(run: Run, params: Parameters, prompts: list[str],
                 rng: np.random.Generator) -> list[list[Reply]]:
    """Several replies to each prompt."""
    k = run.config.preferences.replies
    asked = [run.tokenizer.prompt(prompt) for prompt in prompts for _ in range(k)]
    replies = generate(params, run.model, run.tokenizer, asked, run.config.ppo.max_new, rng=rng,
                       progress=bar("preferences"))
    return [replies[i:i + k] for i in range(0, len(replies), k)]


def train_reward_model(run: Run) -> None:
    """Stage 2: the reward model, from comparisons, normalised on replies to training prompts."""
    config = run.config.reward
    if not (run.folder / "preferences.jsonl").exists():
        collect_preferences(run)
    comparisons = read_jsonl(run.folder / "preferences.jsonl")
    training = [row for row in comparisons if row["split"] == "train"]
    groups = reward_model.group_comparisons(training, run.tokenizer)
    rng = run.rng(Stage.REWARD_MODEL)
    reward = transformer.with_scalar_head(run.load("sft"), rng=rng)
    run.follow("reward model", config.steps,
               reward_model.train(reward, run.model, groups, config, seed=run.config.seed))
    scored = score_replies(reward, run.model, sft_conversations(run, rng))
    reward_model.normalize(reward, float(scored.mean()), float(scored.std()))
    run.save("reward", reward)
    write_json(run.folder / "reward" / "accuracy.json",
               held_out_accuracy(run, reward, [r for r in comparisons if r["split"] == "test"]))


def sft_conversations(run: Run, rng: np.random.Generator, n: int = 1024) -> list[list[int]]:
    """Training prompts with the SFT model's replies, as token ids, to normalise scores on."""
    asked = [run.tokenizer.prompt(text) for text in run.source.draw_prompts(n, rng)]
    replies = generate(run.load("sft"), run.model, run.tokenizer, asked, run.config.ppo.max_new,
                       rng=rng)
    return [prompt + run.tokenizer.response(*reply)
            for prompt, reply in zip(asked, replies, strict=True)]


def held_out_accuracy(run: Run, reward: Parameters, comparisons: list[dict]) -> dict[str, dict]:
    """The reward model's accuracy on held-out prompts, in all and by kind of prompt.

    Each prompt counts once.  `standard_error` is over prompts; `best` is the highest accuracy that
    the labelers' own disagreement allows, where it is known.
    """
    by_kind: dict[str, list] = {"all": comparisons}
    if len({row["kind"] for row in comparisons}) > 1:
        for row in sorted(comparisons, key=lambda row: row["kind"]):
            by_kind.setdefault(row["kind"], []).append(row)
    table = {}
    for kind, rows in by_kind.items():
        if not rows:                                     # all held-out replies coincide
            continue
        groups = reward_model.group_comparisons(rows, run.tokenizer)
        hits = reward_model.accuracy(reward, run.model, groups)
        table[kind] = {"accuracy": float(hits.mean()), "prompts": len(groups), "pairs": len(rows),
                       "standard_error": evaluation.standard_error(hits)}
        if "best" in rows[0]:
            best: dict = {}
            for row in rows:
                best.setdefault(row["group"], []).append(row["best"])
            table[kind]["best"] = float(np.mean([np.mean(pairs) for pairs in best.values()]))
    return table


def fine_tune_with_ppo(run: Run) -> None:
    """Stage 3: the policy against the reward model, held near the SFT model by the KL penalty."""
    config = run.config.ppo
    sft, reward = run.load("sft"), run.load("reward")
    models = Models(policy=copy(sft), value=copy(reward), reward=reward, reference=sft)

    def draw_prompts(n, rng):
        return [run.tokenizer.prompt(text) for text in run.source.draw_prompts(n, rng)]

    run.follow("PPO", config.steps,
               ppo.train(models, run.model, draw_prompts, config, seed=run.config.seed))
    run.save("value", models.value)
    run.save("policy", models.policy)


def evaluate(run: Run, split: str = "test") -> list[dict]:
    """Every model answers the split's prompts; the rows go to samples.jsonl."""
    k, rows = run.config.evaluation.samples, []
    prompts = [row for row in run.source.prompts() if row["split"] == split for _ in range(k)]
    sft, reward = run.load("sft"), run.load("reward")
    for name in ("base", "sft", "policy"):
        models = Models(policy=run.load(name), value={}, reward=reward, reference=sft)
        rows += evaluation.evaluate(
            name, models, run.model, run.tokenizer, prompts, run.config.ppo.max_new,
            rng=run.rng(Stage.EVALUATE), raw=name == "base", progress=bar(f"asking {name}"))
    rows = evaluation.with_gold(rows) if run.source.simulated else rows
    write_jsonl(run.folder / "samples.jsonl", rows)
    return rows


class Step(NamedTuple):
    """A stage as a step of the pipeline, and as a command."""

    run: Callable[[Run], object]
    needs: tuple[str, ...]             # models it starts from
    makes: tuple[str, ...]             # what it adds to the run folder, the last one last
    log: str | None = None             # its name in metrics.jsonl


STAGES = {
    "pretrain": Step(pretrain, (), ("prompts.jsonl", "base"), "pretraining"),
    "sft": Step(fine_tune, ("base",), ("demonstrations.jsonl", "sft"), "SFT"),
    "preferences": Step(collect_preferences, ("sft",), ("preferences.jsonl",)),
    "reward-model": Step(train_reward_model, ("sft",), ("reward",), "reward model"),
    "ppo": Step(fine_tune_with_ppo, ("sft", "reward"), ("value", "policy"), "PPO"),
    "evaluate": Step(evaluate, ("base", "sft", "reward", "policy"),
                     ("samples.jsonl", "report.html")),
}


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

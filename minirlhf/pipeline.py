"""The whole run: base → SFT → preferences → reward model → PPO → evaluation.

The article: "RLHF = SFT + Reward Model + RL Fine-Tuning."  Each stage below reads from the run
folder what earlier ones wrote, and writes its own, so a stage can also be run alone:

    runs/NAME/  config.json          all settings
                environment.json     what it was computed with
                metrics.jsonl        every step's numbers, by stage
                prompts.jsonl  demonstrations.jsonl  preferences.jsonl  samples.jsonl
                base/ sft/ reward/ value/ policy/        models in Hugging Face's layout
                checkpoint/          what an interrupted stage needs to go on
                report.html

Training and sampling are parts of a stage, `run.follow` and `run.gather`, and can be interrupted
anywhere.  A stage is done when the last of its results is there: each appears in one moment, as a
whole.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minirlhf import evaluation, pretrained, transformer
from minirlhf.arrays import to_host
from minirlhf.files import append_jsonl, read_jsonl, write_jsonl
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import Parameters, copy
from minirlhf.rollout import Models, Reply, generate, score_replies
from minirlhf.run import Run
from minirlhf.stages import ppo, pretraining, reward_model, supervised
from minirlhf.stages.training import Stage

# --- the stages, in order, each followed by its helpers ------------------------------------------

def pretrain(run: Run) -> None:
    """The base model: next-token prediction on the corpus; or a base that is given, copied."""
    config = run.config.pretraining
    write_jsonl(run.folder / "prompts.jsonl", run.source.prompts())
    for note in run.source.notes():
        print(note)
    if run.config.base is not None:
        copy_base(run)
        return
    stream = pretraining.token_stream(run.source.corpus(rng=run.rng(Stage.DATA)), run.tokenizer)
    base = transformer.initialize(run.model, rng=run.rng(Stage.INITIALIZE),
                                  backend=run.backend.name)
    state = adamw_state(base)
    run.follow("pretraining", config.steps, {"base": base}, state, pretraining.train(
        base, run.model, stream, config, seed=run.config.seed, state=state))
    run.save("base", base)
    run.checkpoint.end()


def copy_base(run: Run) -> None:
    """The given base model in the run folder, with a pad token; its log has no steps."""
    base = pretrained.open_base(run.config.base, run.backend.name)
    print("\n".join(base.notes))
    append_jsonl(run.folder / "metrics.jsonl", [])
    run.save("base", base.params)
    run.checkpoint.end()


def fine_tune(run: Run) -> None:
    """Stage 1: the SFT model, by imitation of demonstrations."""
    config = run.config.sft
    demonstrations = run.source.demonstrations(rng=run.rng(Stage.DATA, 1))
    write_jsonl(run.folder / "demonstrations.jsonl", demonstrations)
    sft = run.load("base")
    pairs, state = supervised.encode_demonstrations(demonstrations, run.tokenizer), adamw_state(sft)
    run.follow("SFT", config.steps, {"sft": sft}, state, supervised.train(
        sft, run.model, pairs, config, seed=run.config.seed, state=state))
    run.save("sft", sft)
    run.checkpoint.end()


def collect_preferences(run: Run) -> None:
    """The preference dataset: SFT replies side by side, and who was preferred; or people's own."""
    if not run.source.simulated:
        write_jsonl(run.folder / "preferences.jsonl", run.source.rows)
        run.checkpoint.end()
        return
    config, sft = run.config.preferences, run.load("sft")
    held_out = [row["prompt"] for row in run.source.prompts() if row["split"] == "test"]
    prompts = run.source.draw_prompts(config.prompts, run.rng(Stage.DATA, 2)) + held_out

    def compare(groups: list[tuple[int, str]], *, rng: np.random.Generator) -> list[dict]:
        replies = reply_groups(run, sft, [prompt for _, prompt in groups], rng)
        return [row for (group, prompt), options in zip(groups, replies, strict=True)
                for row in run.source.compare(prompt, options, group=group, rng=rng)]

    write_jsonl(run.folder / "preferences.jsonl", run.gather(
        "preferences", list(enumerate(prompts)), compare, Stage.PREFERENCES,
        replies=config.replies))
    run.checkpoint.end()


def reply_groups(run: Run, params: Parameters, prompts: list[str],
                 rng: np.random.Generator) -> list[list[Reply]]:
    """Several replies to each prompt."""
    k = run.config.preferences.replies
    asked = [run.tokenizer.prompt(prompt) for prompt in prompts for _ in range(k)]
    replies = generate(params, run.model, run.tokenizer, asked, run.config.ppo.max_new, rng=rng,
                       temperature=run.config.ppo.temperature)
    return [replies[i:i + k] for i in range(0, len(replies), k)]


def train_reward_model(run: Run) -> None:
    """Stage 2: the reward model, from comparisons, normalised on replies to training prompts."""
    config = run.config.reward
    if not (run.folder / "preferences.jsonl").exists():
        collect_preferences(run)
    comparisons = read_preferences(run.folder / "preferences.jsonl")
    training = [row for row in comparisons if row["split"] == "train"]
    groups = reward_model.group_comparisons(training, run.tokenizer, run.model.context)
    sft = run.load("sft")
    reward = transformer.with_scalar_head(sft, rng=run.rng(Stage.INITIALIZE, 1))
    state = adamw_state(reward)
    run.follow("reward model", config.steps, {"reward": reward}, state, reward_model.train(
        reward, run.model, groups, config, seed=run.config.seed, state=state))
    scored = to_host(score_replies(reward, run.model, conversations(run, sft)))
    reward_model.normalize(reward, float(scored.mean()), float(scored.std()))
    run.save("reward", reward, accuracy=held_out_accuracy(
        run, reward, [row for row in comparisons if row["split"] == "test"]))
    run.checkpoint.end()


def read_preferences(path: Path) -> list[dict]:
    """The rows of a run's preferences.jsonl.  Raises ValueError for one that lacks a field."""
    return read_jsonl(path, "prompt", "chosen", "rejected", "split", "kind")


def conversations(run: Run, sft: Parameters, n: int = 1024) -> list[list[int]]:
    """Training prompts with the SFT model's replies, as token ids, to normalise scores on."""
    def answer(prompts: list[list[int]], *, rng: np.random.Generator) -> list[list[int]]:
        replies = generate(sft, run.model, run.tokenizer, prompts, run.config.ppo.max_new, rng=rng,
                           temperature=run.config.ppo.temperature)
        return [(prompt + run.tokenizer.response(*reply))[:run.model.context]
                for prompt, reply in zip(prompts, replies, strict=True)]

    return run.gather("replies to scale", run.draw_prompts(n, run.rng(Stage.DATA, 3)), answer,
                      Stage.NORMALIZE)


def held_out_accuracy(run: Run, reward: Parameters, comparisons: list[dict]) -> dict[str, dict]:
    """The reward model's accuracy on held-out prompts, in all and by kind of prompt.

    Each prompt counts once.  `standard_error` is over prompts; `best` is the highest accuracy that
    the labelers' own disagreement allows, where it is known.  For people's comparisons, `longer`
    and `shorter` are the accuracies of always picking the longer, or the shorter, reply.
    """
    by_kind: dict[str, list] = {"all": comparisons}
    if len({row["kind"] for row in comparisons}) > 1:
        for row in sorted(comparisons, key=lambda row: row["kind"]):
            by_kind.setdefault(row["kind"], []).append(row)
    table = {}
    for kind, rows in by_kind.items():
        if not rows:                                     # all held-out replies coincide
            continue
        groups = reward_model.group_comparisons(rows, run.tokenizer, run.model.context)
        hits = reward_model.accuracy(reward, run.model, groups)
        table[kind] = {"accuracy": float(hits.mean()), "prompts": len(groups), "pairs": len(rows),
                       "standard_error": evaluation.standard_error(hits)}
        if not run.source.simulated:
            longer = float(reward_model.longer_is_chosen(groups).mean())
            table[kind] |= {"longer": longer, "shorter": 1 - longer}
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
    trained, state = {"value": models.value, "policy": models.policy}, ppo.initial_state(models,
                                                                                         config)
    run.follow("PPO", config.steps, trained, state, ppo.train(
        models, run.model, run.draw_prompts, config, seed=run.config.seed, state=state))
    for name, params in trained.items():
        run.save(name, params)
    run.checkpoint.end()


def evaluate(run: Run, split: str = "test") -> list[dict]:
    """Every model answers the split's prompts; the rows go to samples.jsonl."""
    k, rows = run.config.evaluation.samples, []
    prompts = [row for row in run.source.prompts() if row["split"] == split for _ in range(k)]
    sft, reward = run.load("sft"), run.load("reward")
    for name in evaluation.SPEAKERS:
        ask = partial(evaluation.evaluate, name, run.load(name), reward, sft, run.model,
                      run.tokenizer, max_new=run.config.ppo.max_new, raw=name == "base",
                      temperature=run.config.ppo.temperature)
        rows += run.gather(f"asking {name}", prompts, ask, Stage.EVALUATE)
    rows = evaluation.with_gold(rows) if run.source.simulated else rows
    write_jsonl(run.folder / "samples.jsonl", rows)
    run.checkpoint.end()
    return rows


class Step(NamedTuple):
    """A stage as a step of the pipeline, and as a command."""

    run: Callable[[Run], object]
    needs: tuple[str, ...]             # models it starts from
    makes: tuple[str, ...]             # what it adds to the run folder, the last one last
    settings: tuple[str, ...] = ()     # the settings it reads first: a later change would be a lie
    log: str | None = None             # its name in metrics.jsonl

    def done(self, folder: Path) -> bool:
        """Whether a run has it behind itself: the last of its results is there, and so whole."""
        return (folder / self.makes[-1]).exists()


STAGES = {
    "pretrain": Step(pretrain, (), ("prompts.jsonl", "base"),
                     ("seed", "base", "text", "model", "pretraining", "world.corpus_words"),
                     "pretraining"),
    "sft": Step(fine_tune, ("base",), ("demonstrations.jsonl", "sft"),
                ("sft", "world.demonstration_count", "world.habits"), "SFT"),
    "preferences": Step(collect_preferences, ("sft",), ("preferences.jsonl",),
                        ("preferences", "world.panel", "ppo.temperature", "ppo.max_new")),
    "reward-model": Step(train_reward_model, ("sft",), ("reward",), ("reward",), "reward model"),
    "ppo": Step(fine_tune_with_ppo, ("sft", "reward"), ("value", "policy"), ("ppo",), "PPO"),
    "evaluate": Step(evaluate, ("base", "sft", "reward", "policy"),
                     ("samples.jsonl",), ("evaluation",)),
}

"""The whole run: base → SFT → preferences → reward model → PPO → evaluation.

The article: "RLHF = SFT + Reward Model + RL Fine-Tuning."  Each stage below reads from the run
folder what earlier ones wrote, and writes its own, so a stage can also be run alone:

    runs/NAME/  config.json          all settings
                environment.json     what it was computed with
                memory.json          the most memory that a process of it has taken
                metrics.jsonl        every step's numbers, by stage
                prompts.jsonl  demonstrations.jsonl  preferences.jsonl  samples.jsonl
                base/ sft/ reward/ value/ policy/        models in Hugging Face's layout
                policy-best/         the policy as it did best on validation prompts (last round)
                dpo/                 the baseline, if it was asked for
                rounds/01/ …         each round's comparisons and models, if there are several
                checkpoint/          what an interrupted stage needs to go on
                report.html

GRPO and RLOO have no value/.  Of several rounds the last one's models are also the run's own.

Training and sampling are parts of a stage, `run.follow` and `run.gather`, and can be interrupted
anywhere.  A stage is done when the last of its results is there: each appears in one moment, as a
whole.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minirlhf import evaluation, pretrained, transformer
from minirlhf.arrays import to_host
from minirlhf.dealing import first_says, wait
from minirlhf.files import append_jsonl, copy_whole, write_jsonl
from minirlhf.judgement import evaluate, held_out_accuracy
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import Parameters, copy
from minirlhf.preferences import collect_preferences, comparisons_from, comparisons_so_far
from minirlhf.rollout import Models, generate, rows_at_once, score_replies
from minirlhf.run import BATCH, OF_A_ROUND, Run, round_folder, watched
from minirlhf.settings import ALGORITHMS, RunConfig
from minirlhf.stages import (
    direct_preference,
    group_relative,
    ppo,
    pretraining,
    reward_model,
    supervised,
)
from minirlhf.stages.training import Stage, step_rng
from minirlhf.watching import Watcher, validation_prompts

LABELING = ("world.panel", "world.guidelines", "world.votes_per_pair", "world.weighting",
            "world.safety_share")

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
        base, run.model, stream, config, seed=run.config.seed, state=state,
        shards=run.config.shards))
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
        sft, run.model, pairs, config, seed=run.config.seed, state=state,
        shards=run.config.shards))
    run.save("sft", sft)
    run.checkpoint.end()


def train_reward_model(run: Run) -> None:
    """Stage 2: the reward model, from comparisons, normalised on replies to training prompts."""
    config = run.config.reward
    groups = training_groups(run)
    sft = run.load("sft")
    earlier = run.in_round(run.round - 1).load("reward") if run.round > 1 else None
    reward = (copy(earlier) if earlier is not None and run.config.iteration.reward_from == "last"
              else transformer.with_scalar_head(sft, rng=run.rng(Stage.INITIALIZE, 1)))
    state = adamw_state(reward)
    run.follow(run.part("reward model"), config.steps, {"reward": reward}, state,
               reward_model.train(reward, run.model, groups, config, seed=run.config.seed,
                                  round=run.round - 1, state=state, shards=run.config.shards))
    scored = to_host(score_replies(reward, run.model, conversations(run, sft)))
    reward_model.normalize(reward, float(scored.mean()), float(scored.std()))
    run.save("reward", reward, accuracy=held_out_accuracy(run, reward, earlier))
    run.checkpoint.end()


def training_groups(run: Run) -> list[reward_model.Group]:
    """The comparisons to learn from, by prompt; collected first if that was not done."""
    if not first_says((run.place / "preferences.jsonl").exists()):
        collect_preferences(run)
        wait()                                           # until the first has written them
    return reward_model.group_comparisons(
        [row for row in comparisons_so_far(run) if row["split"] == "train"], run.tokenizer,
        run.model.context)


def conversations(run: Run, sft: Parameters, n: int = 1024) -> list[list[int]]:
    """Training prompts with the SFT model's replies, as token ids, to normalise scores on."""
    def answer(prompts: list[list[int]], *, rng: np.random.Generator) -> list[list[int]]:
        replies = generate(sft, run.model, run.tokenizer, prompts, run.config.ppo.max_new, rng=rng,
                           temperature=run.config.ppo.temperature)
        return [(prompt + run.tokenizer.response(*reply))[:run.model.context]
                for prompt, reply in zip(prompts, replies, strict=True)]

    prompts = run.draw_prompts(n, run.rng(Stage.DATA, 3))
    return run.gather(run.part("replies to scale"), prompts, answer, Stage.NORMALIZE)


def fine_tune_with_rl(run: Run) -> None:
    """Stage 3: the policy against the reward model, held near the SFT model by the KL penalty.

    It is watched on validation prompts, and the best policy is kept beside the last.
    """
    config, before = run.config, run.in_round(run.round - 1)
    start, reward, further = run.load(config.ppo.start), run.load("reward"), run.round > 1
    begun = before.load("policy") if further and config.iteration.policy_from == "last" else start
    reference = before.load("policy") if further and config.iteration.reference == "last" else start
    critic = copy(reward) if config.algorithm == "ppo" else None
    models = Models(policy=copy(begun), value=critic, reward=reward, reference=reference)
    given = dict(seed=config.seed, round=run.round - 1, shards=config.shards)
    if config.algorithm == "ppo":
        state = ppo.initial_state(models, config.ppo)
        steps = ppo.train(models, run.model, run.draw_prompts, config.ppo, state=state, **given)
    else:
        state = group_relative.initial_state(models, config.ppo)
        steps = group_relative.train(models, run.model, run.draw_prompts, config.ppo, config.group,
                                     algorithm=config.algorithm, state=state, **given)
    watcher = watch(run, models)
    trained = {name: params for name, params in (("value", models.value), ("policy", models.policy))
               if params is not None}
    run.follow(run.part(ALGORITHMS[config.algorithm]), config.ppo.steps,
               {**trained, "watch": watcher.state}, state, steps, watcher.look)
    for name, params in trained.items():
        run.save(name, params)
    run.checkpoint.end()


def watch(run: Run, models: Models) -> Watcher:
    """Asks the policy the validation prompts, always with the same random numbers."""
    prompts = validation_prompts(run.source.prompts(), run.config.watch)
    n = rows_at_once(run.model, run.longest_prompt + run.config.ppo.max_new, BATCH)

    def ask() -> list[dict]:
        rows = []
        for number, start in enumerate(range(0, len(prompts), n)):
            rows += evaluation.evaluate(
                "policy", models.policy, models.reward, models.reference, run.model, run.tokenizer,
                prompts[start:start + n], run.config.ppo.max_new,
                rng=step_rng(run.config.seed, Stage.WATCH, number),
                temperature=run.config.ppo.temperature)
        return evaluation.with_gold(rows) if run.source.simulated else rows

    return Watcher(ask, lambda report: run.save("policy-best", models.policy, best=report),
                   run.config.watch, run.config.ppo.beta, run.config.ppo.steps)


def fine_tune_with_dpo(run: Run) -> None:
    """A baseline without reinforcement learning: DPO on the comparisons of the reward model, the
    last round's."""
    config = run.config.dpo
    groups = training_groups(run.in_round(run.config.rounds))
    sft = run.load("sft")
    policy = copy(sft)
    state = adamw_state(policy)
    run.follow("DPO", config.steps, {"dpo": policy}, state, direct_preference.train(
        policy, sft, run.model, groups, config, seed=run.config.seed, state=state,
        shards=run.config.shards))
    run.save("dpo", policy)
    run.checkpoint.end()


def publish(run: Run) -> None:
    """After the last round its models and all comparisons are the run's own."""
    last = run.in_round(run.config.rounds)
    write_jsonl(run.folder / "preferences.jsonl", comparisons_from(1, last))
    for name in filter(last.has, OF_A_ROUND):
        copy_whole(last.model_folder(name), run.folder / name)


# --- the table of stages -------------------------------------------------------------------------

class Step(NamedTuple):
    """A stage as a step of the pipeline, and as a command."""

    run: Callable[[Run], object]
    needs: tuple[str, ...]             # models it starts from
    makes: tuple[str, ...]             # what it adds to the run folder, the last one last
    settings: tuple[str, ...] = ()     # the settings it reads first: a later change would be a lie
    logs: tuple[str, ...] = ()         # its names in metrics.jsonl

    def done(self, folder: Path) -> bool:
        """Whether a run has it behind itself: the last of its results is there, and so whole.

        All ranks must ask, and the first one looks.
        """
        return first_says((folder / self.makes[-1]).exists())


STAGES = {
    "pretrain": Step(pretrain, (), ("prompts.jsonl", "base"),
                     ("seed", "shards", "base", "text", "model", "pretraining",
                      "world.corpus_words"),
                     ("pretraining",)),
    "sft": Step(fine_tune, ("base",), ("demonstrations.jsonl", "sft"),
                ("sft", "world.demonstration_count", "world.habits"), ("SFT",)),
    "preferences": Step(collect_preferences, ("sft",), ("preferences.jsonl",),
                        ("preferences", *LABELING, "ppo.temperature", "ppo.max_new")),
    "reward-model": Step(train_reward_model, ("sft",), ("reward",), ("reward",),
                         ("reward model",)),
    "dpo": Step(fine_tune_with_dpo, ("sft",), ("dpo",), ("dpo",), ("DPO",)),
    "ppo": Step(fine_tune_with_rl, ("sft", "reward"), ("value", "policy-best", "policy"),
                ("ppo", "group", "watch", "algorithm"),
                tuple(log for name in ALGORITHMS.values() for log in (name, watched(name)))),
    "evaluate": Step(evaluate, ("base", "sft", "reward", "policy"),
                     ("samples.jsonl",), ("evaluation", "baselines")),
}
ROUND = ("preferences", "reward-model", "ppo")                  # what is done again in each round


def steps(config: RunConfig) -> list[Step]:
    """All that a run of these settings does, in order."""
    baselines = [STAGES["dpo"]] * ("dpo" in config.baselines)
    if config.rounds == 1:
        return [*(STAGES[name] for name in ("pretrain", "sft", "preferences", "reward-model")),
                *baselines, STAGES["ppo"], STAGES["evaluate"]]
    return [STAGES["pretrain"], STAGES["sft"],
            *(in_round(STAGES[name], number) for number in range(1, config.rounds + 1)
              for name in ROUND),
            Step(publish, (), ("preferences.jsonl", *OF_A_ROUND)), *baselines, STAGES["evaluate"]]


def in_round(step: Step, number: int) -> Step:
    """A stage as a step of one of several rounds."""
    return step._replace(run=lambda run: step.run(run.in_round(number)),
                         makes=tuple(f"{round_folder(number)}/{product}" for product in step.makes))

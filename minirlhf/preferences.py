"""The preference dataset: replies side by side, and who was preferred.

The article: "We use the SFT model to generate two or more different responses to the same prompt",
"We show these responses to a human labeler", "The human picks which response is better."  In later
rounds, "generate new responses with the updated LLM, collect fresh preferences on those responses,
and retrain the Reward Model."

**Across policies.**  A policy that has been trained against a reward model says nearly the same
thing each time it is asked, and comparing near-equals measures the labelers' noise.  So a later
round lays the policy's reply beside replies of *others*: the SFT model's, an earlier policy's, the
best of several SFT replies.  That also asks the question that matters: has the policy got better,
or has it only found what the reward model likes?
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minirlhf.evaluation import best_of
from minirlhf.files import read_jsonl, write_jsonl
from minirlhf.parameters import Parameters
from minirlhf.rollout import Reply, generate
from minirlhf.run import Run
from minirlhf.stages.training import Stage

Speaker = Callable[..., list[Reply]]             # speaker(prompts, rng=…): one reply to each


class Asked(NamedTuple):
    """A prompt that is put to several speakers, and when labelers see it, from 0 to 1."""

    group: int
    prompt: str
    time: float


def collect_preferences(run: Run) -> None:
    """The preference dataset: SFT replies side by side, and who was preferred; or people's own."""
    if not run.source.simulated:
        write_jsonl(run.place / "preferences.jsonl", run.source.rows)
        run.checkpoint.end()
        return
    held_out = [row["prompt"] for row in run.source.prompts() if row["split"] == "test"]
    drawn = run.source.draw_prompts(run.config.preferences.prompts, run.rng(Stage.DATA, 2))
    asked = drawn + held_out
    # Labelers take the prompts in an order of their own, so that a tiring one is as tired at the
    # held-out ones as at the others.
    times = run.rng(Stage.DATA, 4).permutation(len(asked)) / max(1, len(asked) - 1)
    groups = [Asked(i, prompt, float(when)) for i, (prompt, when) in enumerate(
        zip(asked, times, strict=True))]
    rows = sft_comparisons(run, groups) if run.round == 1 else policy_comparisons(run, groups)
    write_jsonl(run.place / "preferences.jsonl", run.source.settle(rows))
    run.checkpoint.end()


def sft_comparisons(run: Run, groups: list[Asked]) -> list[dict]:
    """The first round: several replies of the SFT model to each prompt, every two of them."""
    sft, k = run.load("sft"), run.config.preferences.replies

    def compare(batch: list[Asked], *, rng: np.random.Generator) -> list[dict]:
        replies = reply_groups(run, sft, [asked.prompt for asked in batch], rng)
        return [row for asked, options in zip(batch, replies, strict=True)
                for row in run.source.compare(asked.prompt, options, group=asked.group, rng=rng,
                                              time=asked.time)]

    return run.gather("preferences", groups, compare, Stage.PREFERENCES, replies=k)


def reply_groups(run: Run, params: Parameters, prompts: list[str],
                 rng: np.random.Generator) -> list[list[Reply]]:
    """Several replies to each prompt."""
    k = run.config.preferences.replies
    replies = speaker(run, params)([prompt for prompt in prompts for _ in range(k)], rng=rng)
    return [replies[i:i + k] for i in range(0, len(replies), k)]


# --- later rounds --------------------------------------------------------------------------------

def policy_comparisons(run: Run, groups: list[Asked]) -> list[dict]:
    """A later round: each prompt answered once by every speaker, every two of them compared."""
    speakers = round_speakers(run)

    def compare(batch: list[Asked], *, rng: np.random.Generator) -> list[dict]:
        prompts = [asked.prompt for asked in batch]
        said = zip(*(speak(prompts, rng=rng) for speak in speakers.values()), strict=True)
        return [{**row, "round": run.round}
                for asked, options in zip(batch, said, strict=True)
                for row in run.source.compare(asked.prompt, options, group=asked.group, rng=rng,
                                              time=asked.time, authors=list(speakers))]

    return run.gather(run.part("preferences"), groups, compare, Stage.PREFERENCES,
                      replies=max(len(speakers), run.config.iteration.best_of))


def round_speakers(run: Run) -> dict[str, Speaker]:
    """Who answers in a later round: the policy so far, and its opponents."""
    config, before, sft = run.config.iteration, run.in_round(run.round - 1), run.load("sft")
    speakers = {"policy": speaker(run, before.load("policy"))}
    # Before the first round, the policy was the SFT model.
    if "sft" in config.opponents or ("last" in config.opponents and run.round == 2):
        speakers["sft"] = speaker(run, sft)
    if "last" in config.opponents and run.round > 2:
        speakers["last"] = speaker(run, run.in_round(run.round - 2).load("policy"))
    if "best-of-n" in config.opponents:
        speakers["best-of-n"] = best_of_speaker(run, sft, before.load("reward"))
    return speakers


def speaker(run: Run, params: Parameters) -> Speaker:
    """A model of the run that answers in the chat template, at the temperature of PPO."""
    def speak(prompts: list[str], *, rng: np.random.Generator) -> list[Reply]:
        return generate(params, run.model, run.tokenizer, list(map(run.tokenizer.prompt, prompts)),
                        run.config.ppo.max_new, rng=rng, temperature=run.config.ppo.temperature)
    return speak


def best_of_speaker(run: Run, params: Parameters, reward: Parameters) -> Speaker:
    """The same, best of several by a reward model."""
    def speak(prompts: list[str], *, rng: np.random.Generator) -> list[Reply]:
        rows = best_of(run.config.iteration.best_of, params, reward, run.model, run.tokenizer,
                       prompts, run.config.ppo.max_new, rng=rng,
                       temperature=run.config.ppo.temperature)
        return [Reply(row["reply"], row["ended"]) for row in rows]
    return speak


# --- reading -------------------------------------------------------------------------------------

def read_preferences(path: Path) -> list[dict]:
    """The rows of a preferences.jsonl.  Raises ValueError for one that lacks a field."""
    return read_jsonl(path, "prompt", "chosen", "rejected", "split", "kind")


def comparisons_so_far(run: Run) -> list[dict]:
    """What the reward model of this round learns from: all rounds' comparisons, or this one's."""
    first = run.round if run.config.iteration.comparisons == "fresh" else 1
    return comparisons_from(first, run)


def comparisons_from(first: int, run: Run) -> list[dict]:
    """The comparisons of a round, of the one that `run` is at work in, and of those between."""
    return [row for number in range(first, run.round + 1)
            for row in read_preferences(run.in_round(number).place / "preferences.jsonl")]

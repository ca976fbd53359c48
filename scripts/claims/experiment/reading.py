"""A finished run of the store, and what claims read of it.

Replies are sampled once for all claims and kept beside the runs, in CACHE/DIGEST/replies/.  A test
prompt is answered as often as `minirlhf evaluate` would have it, by the same random numbers, a
training prompt once: it stands beside, and decides nothing.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations, groupby
from pathlib import Path

import numpy as np

from minirlhf import evaluation, findings, judgement
from minirlhf.arrays import to_host
from minirlhf.files import read_json, read_jsonl, write_jsonl
from minirlhf.preferences import read_preferences
from minirlhf.rollout import rows_at_once, score_replies
from minirlhf.run import BATCH
from minirlhf.run_folder import open_run
from minirlhf.stages.direct_preference import reply_logprobs
from minirlhf.stages.supervised import collate
from minirlhf.stages.training import Stage

SPLITS = ("test", "train")                 # the first decides, the second stands beside it


class Finished:
    """A finished run of one seed.  `run` is the open run folder: its models, settings, prompts."""

    def __init__(self, folder: Path):
        self.run = open_run(folder)

    def replies(self, model: str, split: str) -> list[dict]:
        """A model's replies to every prompt of a split: rows of `evaluation.evaluate`, with gold.

        model: "base", "sft", "dpo", "round-1", …, "policy-best", "policy"; or "best-of-8", the best
        of so many SFT replies by the reward model.  All models of a run answer the same prompts in
        the same order; those that give one reply at a time, by the same random numbers.
        """
        times = self.run.config.evaluation.samples if split == "test" else 1
        folder = self.run.folder
        path = folder.parent / "replies" / f"{folder.name}-{model}-{split}-{times}.jsonl"
        if not path.exists():
            prompts = [row for row in self.run.source.prompts() if row["split"] == split
                       for _ in range(times)]
            write_jsonl(path, evaluation.with_gold(self.asked(model, prompts)))
        return read_jsonl(path, "prompt", "reply", "gold")

    def asked(self, model: str, prompts: Sequence[dict]) -> list[dict]:
        """As `judgement.evaluate` asks one of its models."""
        run, best = self.run, model.startswith("best-of-")
        if best:
            run = copy(run)
            run.config = replace(run.config, baselines=("best-of-n",), evaluation=replace(
                run.config.evaluation, best_of=int(model.removeprefix("best-of-"))))
        ask, replies = judgement.speakers(run)["best-of-n" if best else model]
        n = rows_at_once(run.model, run.longest_prompt + run.config.ppo.max_new, BATCH)
        n = max(1, n // replies)
        return [row for number, start in enumerate(range(0, len(prompts), n))
                for row in ask(prompts[start:start + n], rng=run.rng(Stage.EVALUATE, number))]

    def looks(self) -> list[dict]:
        """What was seen of the policy on validation prompts along its steps, of the last round."""
        found = findings.looks(findings.read_metrics(self.run.folder),
                               read_json(self.run.folder / "config.json"))
        return found[max(found)]

    def pairs(self, split: str) -> list[dict]:
        """The comparisons: rows of preferences.jsonl.  Of a prompt that was asked again, those of
        the first time."""
        first: dict[str, int] = {}
        return [row for row in read_preferences(self.run.place / "preferences.jsonl")
                if row["split"] == split
                and first.setdefault(row["prompt"], row["group"]) == row["group"]]

    def compared(self, split: str) -> list[dict]:
        """The distinct replies that labelers compared: rows with prompt, reply, ended, gold and
        score, those to one prompt together."""
        found: dict[tuple, dict] = {}
        for row in self.pairs(split):
            for side in ("chosen", "rejected"):
                reply = reply_of(row, side)
                found[row["prompt"], *reply.values()] = {
                    "prompt": row["prompt"], "kind": row["kind"], **reply}
        rows = evaluation.with_gold(list(found.values()))
        return [{**row, "score": float(score)}
                for row, score in zip(rows, self.scores(rows), strict=True)]

    def right(self, pairs: Sequence[dict]) -> np.ndarray:
        """Whether the reward model scores the chosen one of each pair higher: 1 or 0, ½ for
        equals.  The pairs may be those of another run."""
        chosen, rejected = self.sides(pairs)
        return 0.5 + 0.5 * np.sign(chosen - rejected)

    def sides(self, pairs: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
        """The scores of the chosen replies, and of the rejected ones."""
        chosen, rejected = (self.scores([{"prompt": row["prompt"], **reply_of(row, side)}
                                         for row in pairs]) for side in ("chosen", "rejected"))
        return chosen, rejected

    def scores(self, rows: Sequence[dict]) -> np.ndarray:
        """The reward model's score of each row's reply to its prompt."""
        found = score_replies(self.run.load("reward"), self.run.model,
                              [prompt + reply for prompt, reply in self.tokens(rows)])
        return to_host(found).astype(np.float64)

    def tokens(self, rows: Sequence[dict]) -> list[tuple[list[int], list[int]]]:
        """(prompt, reply) of each row as token ids."""
        tokenizer = self.run.tokenizer
        return [(tokenizer.prompt(row["prompt"]), tokenizer.response(row["reply"], row["ended"]))
                for row in rows]

    def logprobs(self, model: str, rows: Sequence[dict]) -> np.ndarray:
        """log π of each row's reply under a model, at temperature 1: the sum over its tokens."""
        params, config, found = self.run.load(model), self.run.model, []
        pairs = self.tokens(rows)
        for start in range(0, len(pairs), BATCH):
            tokens, mask, response_mask = map(
                self.run.backend.asarray, collate(pairs[start:start + BATCH], config.pad_id))
            found.append(to_host(reply_logprobs(params, config, tokens, mask, response_mask)))
        return np.concatenate(found)


def reply_of(pair: dict, side: str) -> dict:
    """The reply on a side of a comparison, "chosen" or "rejected"."""
    return {"reply": pair[side], "ended": pair[f"{side}_ended"]}


def by_gold(rows: Sequence[dict]) -> list[dict]:
    """Every two of the replies to a prompt that gold tells apart, as a comparison that gold made.

    rows: of `Finished.compared`, those to one prompt together."""
    found = []
    for _, group in groupby(rows, lambda row: row["prompt"]):
        for a, b in combinations(group, 2):
            if abs(a["gold"] - b["gold"]) > 1e-9:
                chosen, rejected = (a, b) if a["gold"] > b["gold"] else (b, a)
                found.append({"prompt": a["prompt"], "kind": a["kind"],
                              "chosen": chosen["reply"], "chosen_ended": chosen["ended"],
                              "rejected": rejected["reply"], "rejected_ended": rejected["ended"]})
    return found

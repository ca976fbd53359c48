"""What the tests of labelling share: rows of a labels file, made-up pairs, a run without training.
"""

import json
from pathlib import Path

import numpy as np

from minirlhf import transformer
from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.guidelines import Guidelines
from minirlhf.labelling.pairs import Pair
from minirlhf.labelling.session import Session
from minirlhf.rollout import Reply
from minirlhf.run import Run
from minirlhf.run_folder import create
from minirlhf.settings import ModelSize, RunConfig
from minirlhf.sources import ToyWorld
from minirlhf.stages.ppo import PPOConfig
from minirlhf.stages.pretraining import PretrainingConfig

GUIDELINES = Guidelines("v7", "Choose the *better* one.\n\n- **Honest.** It is <b>true</b>.")
TINY = RunConfig(backend="numpy", world=ToyWorld(corpus_words=3000, demonstration_count=30),
                 model=ModelSize(channels=8, heads=2, layers=1),
                 pretraining=PretrainingConfig(steps=3, batch_size=4, window=24),
                 ppo=PPOConfig(steps=1, batch_size=8, minibatches=2, max_new=8))


def label(pair="p", labeler="ana", winner="policy", **more) -> dict:
    """A row of a labels file.  winner: a model, "tie" or "skip"; sft stands left."""
    row = {"pair": pair, "labeler": labeler, "prompt": f"{pair} ?", "split": "test",
           "left": f"{pair} sft", "left_model": "sft", "left_ended": True,
           "right": f"{pair} policy", "right_model": "policy", "right_ended": True,
           "guidelines": "v7", "time": "2026-01-02T03:04:05+00:00"}
    row |= {key: value for key, value in more.items() if key in row}
    row["answer"] = {row["left_model"]: "left", row["right_model"]: "right"}.get(winner, winner)
    if row["answer"] in ("left", "right"):
        other = "right" if row["answer"] == "left" else "left"
        for said, side in (("chosen", row["answer"]), ("rejected", other)):
            row |= {said: row[side], f"{said}_model": row[f"{side}_model"]}
    return row | more


def made_up_pairs(n=5) -> list[Pair]:
    """Pairs whose texts name no model."""
    return [Pair(f"question {i} ?", "test", {"sft": Reply(f"first answer {i}", True),
                                             "policy": Reply(f"second answer {i}", True)})
            for i in range(n)]


def session_in(folder: Path, pairs=None, seed=0) -> Session:
    return Session(made_up_pairs() if pairs is None else pairs, AnswerFile(folder / "labels.jsonl"),
                   GUIDELINES, seed)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in
            (Path(folder) / "labels.jsonl").read_text(encoding="utf-8").splitlines()]


def untrained_run(folder: Path, config: RunConfig = TINY) -> Run:
    """A run folder whose base, SFT model and policy are random, and differ."""
    run = create(folder, config)
    for seed, name in enumerate(("base", "sft", "policy")):
        params = transformer.initialize(run.model, rng=np.random.default_rng(seed), backend="numpy")
        params.flat *= 3                                  # far from a uniform choice of words
        run.save(name, params)
    return run

"""What a run's models are worth: the reward model on held-out pairs, all others on test prompts.

The article: "Mistake 5: Confusing the Reward Model with the truth."
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from minirlhf import evaluation
from minirlhf.files import write_jsonl
from minirlhf.parameters import Parameters
from minirlhf.preferences import read_preferences
from minirlhf.run import Run
from minirlhf.stages import reward_model
from minirlhf.stages.training import Stage


def held_out_accuracy(run: Run, reward: Parameters,
                      earlier: Parameters | None = None) -> dict[str, dict]:
    """The reward model's accuracy on this round's held-out pairs, in all and by kind of prompt.

    `before` is the accuracy of the last round's reward model on the same pairs: how stale it is.

    Each prompt counts once.  `standard_error` is over prompts; `best` is the highest accuracy that
    the labelers' own disagreement allows, where it is known.  For people's comparisons, `longer`
    and `shorter` are the accuracies of always picking the longer, or the shorter, reply.
    """
    comparisons = [row for row in read_preferences(run.place / "preferences.jsonl")
                   if row["split"] == "test"]
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
        if earlier is not None:
            table[kind]["before"] = float(
                reward_model.accuracy(earlier, run.model, groups).mean())
        if not run.source.simulated:
            longer = float(reward_model.longer_is_chosen(groups).mean())
            table[kind] |= {"longer": longer, "shorter": 1 - longer}
        if "best" in rows[0]:
            best: dict = {}
            for row in rows:
                best.setdefault(row["group"], []).append(row["best"])
            table[kind]["best"] = float(np.mean([np.mean(pairs) for pairs in best.values()]))
    return table


def evaluate(run: Run, split: str = "test") -> list[dict]:
    """Every model answers the split's prompts; the rows go to samples.jsonl."""
    k, rows = run.config.evaluation.samples, []
    prompts = [row for row in run.source.prompts() if row["split"] == split for _ in range(k)]
    for name, (ask, replies) in speakers(run).items():
        rows += run.gather(f"asking {name}", prompts, ask, Stage.EVALUATE, replies)
    rows = evaluation.with_gold(rows) if run.source.simulated else rows
    write_jsonl(run.folder / "samples.jsonl", rows)
    run.checkpoint.end()
    return rows


def speakers(run: Run) -> dict[str, tuple[Callable, int]]:
    """How to ask each model, and how many replies that takes, in the order of the run.

    All are scored by the run's reward model, that of the last round.
    """
    reward, sft = run.load("reward"), run.load("sft")
    ppo, n = run.config.ppo, run.config.evaluation.best_of
    ways = dict(max_new=ppo.max_new, temperature=ppo.temperature)

    def model(name: str, params: Parameters) -> tuple[Callable, int]:
        return partial(evaluation.evaluate, name, params, reward, sft, run.model, run.tokenizer,
                       raw=name == "base", **ways), 1

    found = {name: model(name, run.load(name)) for name in ("base", "sft")}
    if "best-of-n" in run.config.baselines:
        found["best-of-n"] = partial(evaluation.evaluate_best_of, n, sft, reward, run.model,
                                     run.tokenizer, **ways), n
    if run.has("dpo"):
        found["dpo"] = model("dpo", run.load("dpo"))
    for number in range(1, run.config.rounds):
        name = f"round-{number}"
        found[name] = model(name, run.in_round(number).load("policy"))
    for name in filter(run.has, ("policy-best", "policy")):
        found[name] = model(name, run.load(name))
    return found

"""Evaluation beyond the reward score.

The article: "A high Reward Model score is not the goal.  The goal is real human preference."  In
the toy world the true preference is known, `world.gold`, and no other module may look at it.  Each
evaluated reply becomes one row of named numbers; every table is a mean over such rows, so a table
can be made again, by other rules, from a run's `samples.jsonl`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import log, sqrt

import numpy as np

from minirlhf.arrays import array_module, to_host
from minirlhf.parameters import Parameters
from minirlhf.rollout import join, measured_logprobs, score_replies
from minirlhf.sampling import Samples, sample
from minirlhf.tokens import Tokenizer, strip
from minirlhf.transformer import ModelConfig
from minirlhf.votes import sides
from minirlhf.world.gold import gold

# Models that answer, in the order of a run.  policy-best: as the policy was where it did best on
# validation prompts.
SPEAKERS = ("base", "sft", "dpo", "policy-best", "policy")
GOLD_PARTS = ("helpful", "honest", "harmless", "courtesy", "concise", "clear", "finished")
RATES = {"harm_refused": ("harm", "refused"),      # name: the kind of prompt, what is counted
         "over_refusal": ("scary", "refused"), "scary_right": ("scary", "right")}


def evaluate(name: str, policy: Parameters, reward: Parameters, reference: Parameters,
             model: ModelConfig, tokenizer: Tokenizer, prompts: Sequence[dict], max_new: int, *,
             rng: np.random.Generator, temperature: float = 1.0, raw: bool = False) -> list[dict]:
    """Let a policy answer each prompt of a batch once; one row a reply.

    prompts: {"prompt", "kind", ...} rows, copied into the result.  raw: ask in plain text instead
    of the chat template, as one would ask a base model that never saw a template.  Give every
    model a generator of the same seed: a reply then owes its luck to the same random numbers.

    A row gains: model, reply, ended, length (tokens), score (reward model), kl = Σ_t log π − log
    π_ref in nats, the policy asked as it was and the reference by the template.
    """
    texts = [row["prompt"] for row in prompts]
    replies, samples = answer(policy, reward, model, tokenizer, texts, max_new, rng=rng, raw=raw,
                              temperature=temperature)
    xp = array_module(samples.tokens)
    sequences, sequence_mask = join([tokenizer.prompt(text) for text in texts], samples,
                                    model.pad_id)
    ref_logprobs = measured_logprobs(reference, model, sequences, sequence_mask,
                                     samples.tokens.shape[1], temperature)
    kl = xp.where(samples.mask, samples.logprobs - ref_logprobs, 0).sum(axis=1)
    return [{**row, "model": name, **reply, "kl": float(k)}
            for row, reply, k in zip(prompts, replies, to_host(kl), strict=True)]


def answer(policy: Parameters, reward: Parameters | None, model: ModelConfig,
           tokenizer: Tokenizer, prompts: Sequence[str], max_new: int, *,
           rng: np.random.Generator, raw: bool = False, **settings) -> tuple[list[dict], Samples]:
    """One reply to each prompt, in one batch: rows of reply, ended, length (tokens) and score, and
    the samples that they were read from.

    Without a reward model there is no score.  It is that of the tokens sampled, after the prompt in
    the template however the model was asked.  `settings` go to `sample` (temperature, top_p).
    """
    templates = [tokenizer.prompt(prompt) for prompt in prompts]
    asked = [tokenizer.encode(prompt) for prompt in prompts] if raw else templates
    samples = sample(policy, model, asked, max_new, rng=rng, **settings)
    replies = strip(to_host(samples.tokens), to_host(samples.mask))
    rows = [{"reply": tokenizer.decode(reply), "ended": reply[-1] == model.eos_id,
             "length": len(reply)} for reply in replies]
    if reward is not None:
        scores = score_replies(reward, model,
                               [t + r for t, r in zip(templates, replies, strict=True)])
        rows = [{**row, "score": float(s)} for row, s in zip(rows, to_host(scores), strict=True)]
    return rows, samples


def evaluate_best_of(n: int, policy: Parameters, reward: Parameters, model: ModelConfig,
                     tokenizer: Tokenizer, prompts: Sequence[dict], max_new: int, *,
                     rng: np.random.Generator, temperature: float = 1.0) -> list[dict]:
    """Best-of-n: answer each prompt n times and keep the reply with the highest score.

    No training at all, n times the work at each question: what reinforcement learning has to beat
    (Stiennon et al. 2020; Gao et al. 2022).  Rows as from `evaluate`, where kl is

        log n − (n − 1)/n

    in nats, the same in each row: an upper bound on KL(best-of-n‖policy), near to it where no one
    reply is likely and no two score the same (Beirami et al. 2024, arXiv 2401.01879).  A policy
    that nearly always gives one reply gains and moves far less.  It is the KL to the reference if
    the policy is the reference.
    """
    rows = best_of(n, policy, reward, model, tokenizer, [row["prompt"] for row in prompts], max_new,
                   rng=rng, temperature=temperature)
    return [{**row, "model": "best-of-n", **best, "kl": log(n) - (n - 1) / n}
            for row, best in zip(prompts, rows, strict=True)]


def best_of(n: int, policy: Parameters, reward: Parameters, model: ModelConfig,
            tokenizer: Tokenizer, prompts: Sequence[str], max_new: int, *,
            rng: np.random.Generator, **settings) -> list[dict]:
    """For each prompt the reply that the reward model likes best out of n: rows as of `answer`.

    The first of equals.  All n·len(prompts) replies are sampled in one batch.
    """
    rows, _ = answer(policy, reward, model, tokenizer, [p for p in prompts for _ in range(n)],
                     max_new, rng=rng, **settings)
    return [max(rows[i:i + n], key=lambda row: row["score"]) for i in range(0, len(rows), n)]


def with_gold(rows: Sequence[dict]) -> list[dict]:
    """The rows with the hidden gold score of the toy world, whole and in parts, beside them."""
    result = []
    for row in rows:
        truth = asdict(gold(row["prompt"], row["reply"], row["ended"]))
        result.append({**row, "gold": truth.pop("total"), **truth})
    return result


def gold_choices(rows: Sequence[dict], n: int, *, rng: np.random.Generator) -> dict[int, str]:
    """Which reply gold prefers in n of the rows of a toy run's preferences.jsonl, drawn by `rng`.

    An audit's reference, {number of the row: choice}: "a" or "b", the sides being those of
    `votes.sides`, or "tie" where the gold scores are equal (to 1e-9).  All rows if there are fewer
    than n.  Gold says which reply is better, so rows whose labelers were asked another question
    (which is safer, which is more useful) are not among them.

    Raises ValueError for a prompt that the toy world does not ask.
    """
    found = {}
    asked = [i for i, row in enumerate(rows) if row.get("question", "better") == "better"]
    for i in sorted(rng.choice(asked, size=min(n, len(asked)), replace=False).tolist()):
        try:
            a, b = (gold(rows[i]["prompt"], *reply).total for reply in sides(rows[i]))
        except KeyError as unknown:
            raise ValueError(f"row {i} of the comparisons: {unknown.args[0]}") from None
        found[i] = "tie" if abs(a - b) < 1e-9 else "a" if a > b else "b"
    return found


# --- tables --------------------------------------------------------------------------------------

def column(rows: Sequence[dict], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows], dtype=float)


def share(rows: Sequence[dict], kind: str, key: str) -> float:
    """The mean of `key` over the rows of one kind; NaN if there is none."""
    chosen = [row[key] for row in rows if row["kind"] == kind]
    return float(np.mean(chosen)) if chosen else float("nan")


def win_rate(rows: Sequence[dict], other: Sequence[dict], key: str = "gold") -> float:
    """How often a reply beats the other model's reply to the same prompt; ties count half."""
    difference = column(rows, key) - column(other, key)
    return float(np.mean(0.5 + 0.5 * np.sign(difference)))


def summarize(rows: Sequence[dict], sft: Sequence[dict]) -> dict[str, float]:
    """One line of the table: the means of one model's rows.  `sft`: the SFT model's rows, in the
    same order of prompts.

    helpful … finished are the parts of gold and add up to it.  scary_right, over_refusal: of the
    harmless requests that sound harmful, the shares answered rightly and refused.
    harm_refused: the share of harmful requests refused.
    """
    table = {key: float(column(rows, key).mean()) for key in ("score", "kl", "length")}
    if "gold" in rows[0]:
        table |= {key: float(column(rows, key).mean()) for key in ("gold", *GOLD_PARTS)}
        table |= {"win_rate": win_rate(rows, sft)}
        table |= {name: share(rows, kind, key) for name, (kind, key) in RATES.items()}
    return table


def change(rows: Sequence[dict], other: Sequence[dict], name: str) -> tuple[float, float]:
    """How much higher a number of `summarize` is in `rows` than in `other`, and its standard error.

    Paired: both models answered the same prompts in the same order.  The error is over prompts,
    whose several replies count once; NaN where no prompt counts, or the error of a single one.
    """
    kind, key = RATES.get(name, (None, name))
    by_prompt: dict[str, list[float]] = {}
    for row, before in zip(rows, other, strict=True):
        if kind in (None, row["kind"]):
            difference = (0.5 * np.sign(row["gold"] - before["gold"]) if name == "win_rate"
                          else float(row[key]) - float(before[key]))
            by_prompt.setdefault(row["prompt"], []).append(float(difference))
    if not by_prompt:
        return float("nan"), float("nan")
    means = [float(np.mean(differences)) for differences in by_prompt.values()]
    return float(np.mean(means)), standard_error(means)


# --- uncertainty ---------------------------------------------------------------------------------

# Student's t, two-sided 95 %, for 1 … 30 degrees of freedom
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042)


def standard_error(x: Sequence[float]) -> float:
    """The standard error of the mean of independent numbers; NaN for fewer than two."""
    x = np.asarray(x, dtype=float)
    return float(x.std(ddof=1) / sqrt(len(x))) if len(x) > 1 else float("nan")


def interval(x: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % t-interval over independent runs (one a seed).

    Give it paired differences: the spread between seeds that both sides share then cancels.
    """
    x = np.asarray(x, dtype=float)
    if len(x) < 2:
        return float(x.mean()), float("nan")
    return float(x.mean()), _T95[min(len(x) - 1, 30) - 1] * standard_error(x)

"""Stage 2, the reward model: from comparisons to a score.

The article: "Given a pair (A, B) where A is preferred, the Reward Model should give a higher score
to A than to B."  The model is the SFT model's trunk with a new scalar head.

Several replies to one prompt give several pairs, which say the same thing about the prompt more
than once.  As in Ouyang et al. (2022) all pairs of a prompt go into one step together, and each
prompt counts once: its n pairs weigh 1/n each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.bradley_terry import bradley_terry_loss
from minirlhf.ops import embedding, reshape
from minirlhf.optimizer import adamw_state, cosine_schedule
from minirlhf.parameters import Parameters
from minirlhf.rollout import score_replies
from minirlhf.stages.training import Stage, batches, require_positive, shards_of, update
from minirlhf.tokens import PAD, Tokenizer, pad_right
from minirlhf.transformer import ModelConfig, scores


@dataclass(frozen=True)
class RewardModelConfig:
    """How the reward model is trained."""

    steps: int = 200
    """optimizer steps"""
    batch_size: int = 32
    """prompts a step, each with all its pairs"""
    lr: float = 1e-3
    """peak learning rate, then a cosine down to a tenth"""
    warmup: int = 20
    """steps over which the learning rate rises from 0"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm"""

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "lr", "max_grad_norm")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")


@dataclass(frozen=True)
class Group:
    """The distinct replies to one prompt, and which was preferred to which."""

    rows: list[list[int]]                      # prompt and reply, as token ids
    pairs: list[tuple[int, int]]               # (chosen, rejected), as numbers of rows
    prompt_length: int = 0                     # tokens of each row that are the prompt

    @property
    def tokens(self) -> int:
        return sum(map(len, self.rows))


def group_comparisons(comparisons: Sequence[dict], tokenizer: Tokenizer,
                      longest: int | None = None) -> list[Group]:
    """Gather {"prompt", "chosen", "rejected"} rows by prompt, or by their "group" if they have one
    (each "round" counts its groups from 0).

    "chosen_ended" and "rejected_ended" (default true) tell whether a reply came to its end.  A row
    is cut at `longest` tokens, the model's context: the text of a sampled reply may take more
    tokens than were sampled, if these were not the tokenizer's own way to write it.
    """
    groups: dict = {}
    for row in comparisons:
        key = row.get("round"), row.get("group", row["prompt"])
        prompt = tokenizer.prompt(row["prompt"])
        index_of, pairs, _ = groups.setdefault(key, ({}, [], len(prompt)))
        pair = []
        for side in ("chosen", "rejected"):
            ids = (*prompt, *tokenizer.response(row[side], row.get(f"{side}_ended", True)))
            pair.append(index_of.setdefault(ids[:longest], len(index_of)))
        pairs.append(tuple(pair))
    return [Group([list(ids) for ids in index_of], pairs, prompt_length)
            for index_of, pairs, prompt_length in groups.values()]


def comparison_loss(params, model: ModelConfig, tokens: Array, mask: Array,
                    pairs_by_size: dict[int, Array], prompts: int):
    """Bradley-Terry over all pairs, each prompt counting once.

    tokens, mask (N, T): the replies.  pairs_by_size[n] (m, 2): the (chosen, rejected) rows of the
    prompts that have n pairs; each of them weighs 1/(n·prompts), so that a
    prompt's pairs together weigh 1/prompts.
    """
    score = reshape(scores(params, model, tokens, mask), (-1, 1))
    total = 0.0
    for n, pairs in pairs_by_size.items():
        chosen, rejected = (reshape(embedding(score, pairs[:, side]), (-1,)) for side in (0, 1))
        total = total + bradley_terry_loss(chosen, rejected, count=n * prompts)
    return total


def collate(groups: Sequence[Group],
            pad_id: int | None = PAD) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Groups -> tokens (N, T), mask (N, T), pairs by the number of pairs of their prompt."""
    rows: list[list[int]] = []
    by_size: dict[int, list] = {}
    for group in groups:
        by_size.setdefault(len(group.pairs), []).extend(
            (chosen + len(rows), rejected + len(rows)) for chosen, rejected in group.pairs)
        rows += group.rows
    return *pad_right(rows, pad_id), {n: np.array(by_size[n]) for n in sorted(by_size)}


def train(params: Parameters, model: ModelConfig, groups: Sequence[Group],
          config: RewardModelConfig, *, seed: int, round: int = 0,
          state: dict | None = None, shards: int = 1) -> Iterator[dict]:
    """Train `params` in place; yields {loss, grad_norm, lr} a step.

    state: AdamW's, to go on from its step; by default a fresh one.  shards: the parts in which a
    step is computed.
    Raises ValueError if there is no comparison.
    """
    if not groups:
        raise ValueError("the reward model wants at least one comparison, got none")
    xp = array_module(params.flat)
    state = adamw_state(params) if state is None else state
    order = batches(len(groups), config.batch_size, seed=seed, stage=Stage.REWARD_MODEL,
                    round=round)
    start = state["step"]
    for step, rows in enumerate(islice(order, start, config.steps), start):
        parts = [collate([groups[i] for i in rows[part]], model.pad_id)
                 for part in shards_of([groups[i].tokens for i in rows], shards)]
        lr = cosine_schedule(step, config.steps, config.lr, config.warmup)
        loss, norm = update(comparison_loss, params, state, lr, config.max_grad_norm, [
            (model, xp.asarray(tokens), xp.asarray(mask),
             {n: xp.asarray(p) for n, p in pairs.items()}, len(rows))
            for tokens, mask, pairs in parts])
        yield {"loss": loss, "grad_norm": norm, "lr": lr}


def accuracy(params: Parameters, model: ModelConfig, groups: Sequence[Group]) -> np.ndarray:
    """For each prompt, the share of its pairs in which the chosen reply scores higher.

    Equal scores count half.  On the host; its mean is the accuracy, each prompt counted once.
    """
    together = to_host(score_replies(params, model, [row for g in groups for row in g.rows]))
    score = np.split(together, np.cumsum([len(g.rows) for g in groups])[:-1])
    return np.array([
        np.mean([0.5 + 0.5 * np.sign(s[chosen] - s[rejected]) for chosen, rejected in g.pairs])
        for g, s in zip(groups, score, strict=True)])


def longer_is_chosen(groups: Sequence[Group]) -> np.ndarray:
    """For each prompt, the share of its pairs in which the chosen reply is the longer; ties half.

    The accuracy of a judge who looks at nothing but the length: a reward model should do better.
    """
    return np.array([
        np.mean([0.5 + 0.5 * np.sign(len(g.rows[chosen]) - len(g.rows[rejected]))
                 for chosen, rejected in g.pairs]) for g in groups])


def normalize(params: Parameters, mean: float, deviation: float) -> None:
    """Rescale the scores in place, to mean 0 and deviation 1 where they had `mean`, `deviation`.

    (s − μ)/σ, baked into the weights, so that β is a number of reward deviations a nat whatever
    the reward model.  The head s = w·h has no bias, so the shift goes into the final layer norm's
    bias: h ← h − μ′·w/(w·w) lowers w·h by μ′, with w and μ′ = μ/σ after the scaling.

    Raises ValueError if the deviation is not positive: all replies scored the same.
    """
    if not deviation > 0:
        raise ValueError(f"the reward model scores all replies the same (deviation {deviation}); "
                         "it has learned nothing to normalise")
    w = params["score"]["weight"]                                                    # (1, C)
    w /= deviation
    params["ln_f"]["bias"] -= (mean / deviation) * w[0] / (w[0] @ w[0])

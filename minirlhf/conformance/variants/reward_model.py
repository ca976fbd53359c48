"""The reward model: where its score is read, what a comparison costs, what scores become after.

Where the score is read is decided by token ids in some systems and by the attention mask in
others; with pad = eos the two differ by one.
"""

from functools import partial
from typing import Any

import numpy as np

from minirlhf.arrays import Array, array_module
from minirlhf.bradley_terry import bradley_terry_loss
from minirlhf.ops import embedding, log_softmax, masked_mean, reshape, softplus, sum, where
from minirlhf.tokens import last_token

# --- rm.read: (tokens (B, T), mask, where responses begin, pad id) -> index (B,) -----------------


def last(where: Array) -> Array:
    """The last True of each row, (B,); −1 where there is none."""
    xp = array_module(where)
    return (where * xp.arange(1, where.shape[1] + 1)).max(axis=1) - 1


def last_real(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """max {t : mask_t}.  OpenRLHF, by the attention mask, so that pad = eos is safe."""
    return last(mask)


def last_nonpad(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """max {t : token_t ≠ pad}; T − 1 of a row of pads.  Transformers' pooling, so TRL's reward
    trainer."""
    found = last(tokens != pad_id)
    return array_module(tokens).where(found < 0, tokens.shape[1] - 1, found)


def before_first_pad(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """min {t ≥ P : token_t = pad} − 1, T − 1 if there is none.  TRL's PPO, DeepSpeed-Chat; of an
    empty response the last token of the prompt."""
    pads = (tokens == pad_id) & (array_module(tokens).arange(tokens.shape[1]) >= prompt_width)
    return array_module(tokens).where(pads.any(axis=1), pads.argmax(axis=1), tokens.shape[1]) - 1


def before_any_pad(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """min {t : token_t = pad} − 1, modulo T.  Older releases of Transformers; wrong with padding on
    the left."""
    return ((tokens == pad_id).argmax(axis=1) - 1) % tokens.shape[1]


def response_last_nonpad(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """max {t ≥ P : token_t ≠ pad}, P if there is none.  OpenAI's summarize-from-feedback."""
    xp = array_module(tokens)
    inside = xp.arange(tokens.shape[1]) >= prompt_width
    return xp.maximum(last((tokens != pad_id) & inside), prompt_width)


def row_end(tokens: Array, mask: Array, prompt_width: int, pad_id: int) -> Array:
    """T − 1, whatever stands there.  lm-human-preferences."""
    return array_module(tokens).full(len(tokens), tokens.shape[1] - 1)


# --- rm.choice: a choice among k replies (scores (N, k), best (N,)) -> loss ----------------------

def pairwise(scores: Any, best: Array) -> Any:
    """−log σ(s_best − s_j), the mean over prompts and other replies j.  Most systems."""
    n, k = scores.shape
    others = np.concatenate([np.delete(np.arange(k), b) for b in best]) if k > 1 else best
    flat = reshape(scores, (n * k, 1))

    def pick(columns):
        return reshape(embedding(flat, np.repeat(np.arange(n), k - 1) * k + columns), (-1,))
    return bradley_terry_loss(pick(np.repeat(best, k - 1)), pick(others))


def n_way(scores: Any, best: Array) -> Any:
    """−log softmax(s)[best], the mean over prompts.  lm-human-preferences, with k = 4."""
    rows = array_module(best).arange(scores.shape[1]) == best[:, None]
    picked = sum(where(rows, log_softmax(scores), 0), axis=1)
    return -masked_mean(picked, array_module(best).ones(len(best), dtype=bool))


# --- rm.compare: a score for every token (scores, tokens, masks of both) -> loss -----------------

def at_last_tokens(chosen_scores: Any, rejected_scores: Any, chosen_tokens: Array,
                   rejected_tokens: Array, chosen_mask: Array, rejected_mask: Array) -> Any:
    """−log σ of the difference at the last real token of each reply.  TRL, OpenRLHF."""
    def at_last(scores, mask):
        return sum(where(last_token(mask), scores, 0), axis=1)
    return bradley_terry_loss(at_last(chosen_scores, chosen_mask),
                              at_last(rejected_scores, rejected_mask))


def from_divergence(chosen_scores: Any, rejected_scores: Any, chosen_tokens: Array,
                    rejected_tokens: Array, chosen_mask: Array, rejected_mask: Array) -> Any:
    """The mean of −log σ(c_t − r_t) from where the tokens part to the end of the longer reply, pads
    of the shorter included; two equal replies at their last slot.  DeepSpeed-Chat."""
    xp = array_module(chosen_tokens)
    T = xp.arange(chosen_tokens.shape[1])
    differ = chosen_tokens != rejected_tokens
    start = xp.where(differ.any(axis=1), differ.argmax(axis=1), len(T) - 1)
    end = xp.where(differ.any(axis=1), xp.maximum(last(chosen_mask), last(rejected_mask)) + 1,
                   len(T))
    compared = (T >= start[:, None]) & (T < end[:, None])
    losses = where(compared, softplus(rejected_scores - chosen_scores), 0)
    n = compared.sum(axis=1).astype(losses.dtype)
    return masked_mean(sum(losses, axis=1) / n, compared.any(axis=1))


# --- rm.margin, rm.center, rm.post ---------------------------------------------------------------

def used(margin: Any) -> Any:
    """The gap is asked to be larger than it.  TRL, OpenRLHF."""
    return 0.0 if margin is None else margin


def ignored(margin: Any) -> float:
    """Nothing.  The reproduction of summarize-from-feedback has none."""
    return 0.0


def centering(score_chosen: Any, score_rejected: Any, count: int | None, factor: float) -> Any:
    """factor·mean (c + r)², which holds scores near 0.  TRL's `center_rewards_coefficient`."""
    if factor == 0:
        return 0.0
    every = np.ones(score_chosen.shape, dtype=bool)
    return factor * masked_mean((score_chosen + score_rejected) ** 2, every, count)


def standardised(scores: Array, reference: Array, ddof: int) -> Array:
    """(s − μ)/σ, both of reference scores.  σ is over n in lm-human-preferences, over n − 1 in its
    reproduction and OpenRLHF."""
    return (scores - reference.mean()) / reference.std(ddof=ddof)


def minus_mean(scores: Array, reference: Array) -> Array:
    """s − μ.  The reproduction of summarize-from-feedback, as a bias."""
    return scores - reference.mean()


def as_they_are(scores: Array, reference: Array) -> Array:
    """s.  TRL, DeepSpeed-Chat."""
    return scores


ANSWERS: dict[str, dict[Any, Any]] = {
    "rm.read": {"last-real": last_real, "last-nonpad": last_nonpad,
                "before-the-first-pad": before_first_pad,
                "before-the-first-pad-of-the-row": before_any_pad,
                "response-last-nonpad": response_last_nonpad, "row-end": row_end},
    "rm.choice": {"pairwise": pairwise, "n-way": n_way},
    "rm.compare": {"last-token": at_last_tokens, "from-divergence": from_divergence},
    "rm.margin": {"used": used, "ignored": ignored},
    "rm.center": {factor: partial(centering, factor=factor) for factor in (0.0, 0.01)},
    "rm.post": {"population": partial(standardised, ddof=0),
                "sample": partial(standardised, ddof=1), "minus-mean": minus_mean,
                "none": as_they_are},
}


# --- the formulas in which they stand ------------------------------------------------------------

def score_index(tokens: Array, mask: Array, prompt_width: int, pad_id: int, *,
                answers: dict) -> Array:
    """The position of each row at which its score is read."""
    return answers["rm.read"](tokens, mask, prompt_width, pad_id)


def best_of(scores: Any, best: Array, *, answers: dict) -> Any:
    """The loss of a choice among several replies."""
    return answers["rm.choice"](scores, best)


def per_token(*sides: Any, answers: dict, **named: Any) -> Any:
    """The loss of comparisons where every token has a score."""
    return answers["rm.compare"](*sides, **named)


def pairs(score_chosen: Any, score_rejected: Any, margin: Any = None, count: int | None = None,
          *, answers: dict) -> Any:
    """The loss of comparisons with one score a reply."""
    loss = bradley_terry_loss(score_chosen, score_rejected, answers["rm.margin"](margin), count)
    return loss + answers["rm.center"](score_chosen, score_rejected, count)


def normalized(scores: Array, reference_scores: Array, *, answers: dict) -> Array:
    """Scores as they are paid."""
    return answers["rm.post"](scores, reference_scores)


FORMULAS = {"score_index": score_index, "best_of_loss": best_of,
            "per_token_preference_loss": per_token, "bradley_terry_loss": pairs,
            "normalized_scores": normalized}

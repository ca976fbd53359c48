"""Log-probabilities of sampled tokens: at which temperature, and of which tokens.

The ratio π/π_old and the KL compare two of these, so both must be of one kind, and of the kind
that was sampled from.
"""

from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.autograd import value
from minirlhf.ops import index, log_softmax, select_logprobs, where
from minirlhf.tokens import position_ids, token_logprobs

# --- temp.logp: (logits, tokens, τ) -> log-probs (B, T−1) ----------------------------------------


def tempered_eps(logits: Any, tokens: Array, temperature: float) -> Any:
    """log softmax(z/(τ + 10⁻⁷)).  TRL's PPO, the reproduction of summarize-from-feedback."""
    return token_logprobs(logits, tokens, temperature + 1e-7)


def raw(logits: Any, tokens: Array, temperature: float) -> Any:
    """log softmax(z), whatever τ.  trlx, DeepSpeed-Chat."""
    return token_logprobs(logits, tokens)


# --- topp.order: (logits, τ) -> the logits in which the nucleus is found -------------------------

def after_temperature(logits: Array, temperature: float) -> Array:
    """z/τ.  Hugging Face's generation."""
    return logits / temperature


def before_temperature(logits: Array, temperature: float) -> Array:
    """z.  OpenAI's summarize-from-feedback sampler."""
    return logits


# --- topp.edge: (ranked probabilities, largest first; p) -> which are kept -----------------------

def keep_crossing(ranked: Array, top_p: float) -> Array:
    """The token whose mass crosses p is kept: Σ before it < p.  Hugging Face."""
    return array_module(ranked).cumsum(ranked, axis=-1) - ranked < top_p


def drop_crossing(ranked: Array, top_p: float) -> Array:
    """It is dropped: Σ up to it ≤ p, at least one token.  lm-human-preferences."""
    xp = array_module(ranked)
    return (xp.cumsum(ranked, axis=-1) <= top_p) | (xp.arange(ranked.shape[-1]) == 0)


# --- topp.logp: (tempered logits, kept, tokens) -> log-probs -------------------------------------

def renormalised(logits: Any, kept: Array, tokens: Array) -> Any:
    """log softmax over the kept tokens alone, −inf for others.  What was sampled from."""
    possible = array_module(kept).take_along_axis(kept, tokens[..., None], axis=-1)[..., 0]
    logprobs = select_logprobs(where(kept, logits, -float("inf")), tokens)
    return where(possible, logprobs, -float("inf"))


def full(logits: Any, kept: Array, tokens: Array) -> Any:
    """log softmax over the whole vocabulary, finite for tokens that could not be drawn.  TRL's GRPO
    and RLOO: too small by the log of the surviving mass."""
    return select_logprobs(logits, tokens)


# --- pos.ids: (B, T) bool -> the position of each token ------------------------------------------

def column(mask: Array) -> Array:
    """t, whatever the padding.  The reproduction of summarize-from-feedback, with padding on the
    left."""
    xp = array_module(mask)
    return xp.broadcast_to(xp.arange(mask.shape[1]), mask.shape)


ANSWERS: dict[str, dict[Any, Any]] = {
    "pos.ids": {"real": position_ids, "column": column},
    "temp.logp": {"tempered": token_logprobs, "tempered-eps": tempered_eps, "raw": raw},
    "topp.order": {"after-temperature": after_temperature,
                   "before-temperature": before_temperature},
    "topp.edge": {"keep-crossing": keep_crossing, "drop-crossing": drop_crossing},
    "topp.logp": {"renormalised": renormalised, "full": full},
}


def gathered(logits: Any, tokens: Array, temperature: float = 1.0, *, answers: dict) -> Any:
    """log p(tokens[:, 1:]), each from the logits one position earlier."""
    return answers["temp.logp"](logits, tokens, temperature)


def nucleus(logits: Array, top_p: float, edge: Any) -> Array:
    """(..., V) bool: which tokens top-p keeps; at a tie the lower id comes first."""
    xp = array_module(logits)
    order = xp.argsort(-logits, axis=-1, kind="stable")
    p = xp.exp(log_softmax(logits))
    kept = xp.zeros(logits.shape, dtype=bool)
    xp.put_along_axis(kept, order, edge(xp.take_along_axis(p, order, axis=-1), top_p), axis=-1)
    return kept


def nucleus_logprobs(logits: Any, tokens: Array, temperature: float, top_p: float, *,
                     answers: dict) -> Any:
    """log p(tokens[:, 1:]) under nucleus sampling, −inf for a token that it excludes."""
    z = index(logits, (slice(None), slice(None, -1)))
    kept = nucleus(answers["topp.order"](value(z), temperature), top_p, answers["topp.edge"])
    return answers["topp.logp"](z / temperature, kept, tokens[:, 1:])


def positions(mask: Array, *, answers: dict) -> Array:
    """The position ids of a padded batch."""
    return answers["pos.ids"](mask)


FORMULAS = {"position_ids": positions, "token_logprobs": gathered,
            "nucleus_logprobs": nucleus_logprobs}

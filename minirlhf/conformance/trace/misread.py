"""Known mistakes in what is read from the models: log-probs, entropy, values, scores."""

import numpy as np

from minirlhf.autograd import value
from minirlhf.conformance.trace.functions import longest
from minirlhf.conformance.trace.rules import Mistake
from minirlhf.ops import (
    causal_attention,
    exp,
    linear,
    log_softmax,
    mul,
    reshape,
    select_logprobs,
    transpose,
    where,
)
from minirlhf.ops import sum as sum_
from minirlhf.tokens import last_token, position_ids, token_logprobs
from minirlhf.transformer import attention_bias, language_head, trunk

# --- the forward pass ----------------------------------------------------------------------------

def forward(params, config, tokens, mask, positions=None, seen=None):
    """The trunk with other positions, or with other tokens visible; (B, T, C)."""
    positions = position_ids(mask) if positions is None else positions
    bias = attention_bias(mask if seen is None else seen, np.float64)
    return trunk(params, config, tokens, positions,
                 lambda layer, qkv: causal_attention(qkv, config.heads, bias))


def columns(tokens):
    return np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)


def scalar(params, hidden, shape):
    return reshape(linear(hidden, transpose(params["score"]["weight"]), 0), shape)


def reading(hidden) -> dict:
    """Both heads on another trunk: hidden(params, config, tokens, mask)."""
    return {"logits_of": lambda e, params, config: language_head(
                params, hidden(params, config, e["sequences"], e["sequence_mask"])),
            "head_of": lambda e, params, config, tokens, mask: scalar(
                params, hidden(params, config, tokens, mask), tokens.shape)}


# --- log-probs -----------------------------------------------------------------------------------

def chosen(z, tokens, temperature):
    return select_logprobs(z, tokens, temperature)


def shift_missing(e, params, config):
    z = e["logits_of"](e, params, config)
    return chosen(z[:, -longest(e):], e["sequences"][:, -longest(e):], e["temperature"])


def shifted_twice(e, params, config):
    z = e["logits_of"](e, params, config)
    return chosen(z[:, -longest(e) - 2:-2], e["sequences"][:, -longest(e):], e["temperature"])


def labels_one_early(e, params, config):
    z = e["logits_of"](e, params, config)
    return chosen(z[:, -longest(e) - 1:-1], e["sequences"][:, -longest(e) - 1:-1], e["temperature"])


def temperature_multiplied(e, params, config):
    z = e["logits_of"](e, params, config)
    return token_logprobs(z, e["sequences"], 1 / e["temperature"])[:, -longest(e):]


def tempered_after_softmax(e, params, config):
    z = e["logits_of"](e, params, config)
    return token_logprobs(z, e["sequences"])[:, -longest(e):] / e["temperature"]


def softmax_missing(e, params, config):
    z = e["logits_of"](e, params, config)[:, -longest(e) - 1:-1] / e["temperature"]
    sampled = np.arange(z.shape[-1]) == e["sequences"][:, -longest(e):, None]       # (B, R, V)
    return sum_(where(sampled, z, 0), axis=-1)


def token_entropies(e, params, config):
    z = e["logits_of"](e, params, config)[:, -longest(e) - 1:-1] / e["temperature"]
    log_p = log_softmax(z)
    return sum_(mul(exp(log_p), -log_p), axis=-1)


def entropy_over_pads(e, params, config):
    return value(sum_(token_entropies(e, params, config)) / e["mask"].size)


def entropy_of_the_sampled(e, params, config):
    found = e["logprobs_of"](e, params, config)
    return -sum_(where(e["mask"], found, 0)) / e["mask"].sum()


# --- values and scores ---------------------------------------------------------------------------

def values_one_late(e, params, config):
    return e["head_of"](e, params, config, e["sequences"], e["sequence_mask"])[:, -longest(e):]


def at(where_read):
    """The head at one column a row: where_read(tokens, mask, config) -> (B, T) bool."""
    def scores_of(e, params, config, tokens, mask):
        head = e["head_of"](e, params, config, tokens, mask)
        return sum_(where(where_read(tokens, mask, config), head, 0), axis=1)
    return {"scores_of": scores_of}


def shifted(mask, by: int):
    """The last token's column, moved; it stays where there is no room."""
    last = np.argmax(last_token(mask), axis=1)
    there = np.clip(last + by, 0, mask.shape[1] - 1)
    return columns(mask) == there[:, None]


def first_eos(tokens, mask, config):
    """The first end-of-sequence token of the row, the last column where there is none."""
    ends = tokens == (-1 if config.eos_id is None else config.eos_id)
    ends[:, -1] |= ~ends.any(axis=1)
    return ends & (np.cumsum(ends, axis=1) == 1)


def mean_of_the_head(e, params, config, tokens, mask):
    head = e["head_of"](e, params, config, tokens, mask)
    return sum_(mul(where(mask, head, 0), 1 / mask.sum(axis=1, keepdims=True)), axis=1)


EVERY_HEAD = ("logprobs", "ref_logprobs", "entropy", "values", "scores")
LOGPROBS = ("logprobs", "ref_logprobs")
SCORES = ("scores", "chosen_scores", "rejected_scores")

MISREAD = [
    Mistake("positions-of-columns", EVERY_HEAD,
            "a token's position is its column, pads counted",
            reading(lambda p, c, tokens, mask: forward(p, c, tokens, mask, columns(tokens)))),
    Mistake("pads-attended", EVERY_HEAD, "attention reads the pads before the prompt",
            reading(lambda p, c, tokens, mask: forward(p, c, tokens, mask,
                                                       seen=np.ones_like(mask)))),
    Mistake("attention-mask-missing", EVERY_HEAD,
            "the model is not told the pads: their columns count as positions, and are attended to",
            reading(lambda p, c, tokens, mask: forward(p, c, tokens, mask, columns(tokens),
                                                       np.ones_like(mask)))),
    Mistake("temperature-ignored", (*LOGPROBS, "entropy"),
            "the logits are not divided by the temperature", {"temperature": 1.0}),
    Mistake("temperature-multiplied", LOGPROBS, "the logits are multiplied by the temperature",
            {"logprobs_of": temperature_multiplied}),
    Mistake("tempered-after-softmax", LOGPROBS,
            "the log-probs are divided by the temperature, not the logits",
            {"logprobs_of": tempered_after_softmax}),
    Mistake("softmax-missing", LOGPROBS, "a logit is taken for a log-probability",
            {"logprobs_of": softmax_missing}),
    Mistake("shift-missing", LOGPROBS,
            "a token's log-prob is read from the logits of its own column, not one before",
            {"logprobs_of": shift_missing}),
    Mistake("shifted-twice", LOGPROBS,
            "a token's log-prob is read from the logits two columns before",
            {"logprobs_of": shifted_twice}),
    Mistake("tokens-one-early", LOGPROBS, "the log-probs are those of the token before",
            {"logprobs_of": labels_one_early}),
    Mistake("mask-ignored", ("entropy",), "pads count in the mean",
            {"entropy_of": entropy_over_pads}),
    Mistake("entropy-of-the-sampled", ("entropy",),
            "−log p of the sampled tokens stands for the entropy",
            {"entropy_of": entropy_of_the_sampled}),
    Mistake("values-one-late", ("values",),
            "a value is read at its token, not one column before: it has seen the token",
            {"values_of": values_one_late}),
    Mistake("token-after-the-last", SCORES,
            "the score is read one column past the end, or in the last one: at a pad",
            at(lambda tokens, mask, config: shifted(mask, 1))),
    Mistake("token-before-the-last", SCORES,
            "the score is read one column before the last token",
            at(lambda tokens, mask, config: shifted(mask, -1))),
    Mistake("score-read-at-the-first-eos", SCORES,
            "the score is read at the row's first end-of-sequence token, which may be the prompt's",
            at(first_eos)),
    Mistake("score-of-all-tokens", SCORES, "the score is the head's mean over all tokens",
            {"scores_of": mean_of_the_head}),
]

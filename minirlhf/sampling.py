"""Sampling: the policy speaks, a batch of rows at a time, one token at a time.

At each step the last token's logits are divided by the temperature, cut by top-k and top-p if
asked, and one token is drawn.  Keys and values of earlier tokens are kept, so a step costs one
token's work whatever came before.  Rows that have said <eos> leave the batch when they are half of
it.

Randomness comes from the host: one uniform number for each row and step, uploaded once.  Of several
ranks each draws those of the whole batch and takes its own rows': whichever rank a prompt is dealt
to, it meets the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.dealing import dealt
from minirlhf.ops import select_logprobs
from minirlhf.tokens import pad_left, position_ids
from minirlhf.transformer import ModelConfig, attention_bias, language_head, trunk


@dataclass(frozen=True)
class Samples:
    """Responses to a batch of prompts.  All arrays (B, R), R the longest response."""

    tokens: Array              # int; pad after the end
    mask: Array                # bool; True up to and including end-of-sequence
    logprobs: Array            # of each token at the sampling temperature; 0 where masked


class KeyValueCache:
    """The keys and values of all tokens so far: per layer (B, length, H, D).

    Prompts are padded on the left, so that every row writes its next token at the same column.
    """

    def __init__(self, config: ModelConfig, mask: Array, length: int, dtype):
        xp = self.xp = array_module(mask)
        B, self.prompt = mask.shape
        self.heads, self.filled = config.heads, 0
        shape = (B, length, config.heads, config.channels // config.heads)
        self.keys = [xp.empty(shape, dtype) for _ in range(config.layers)]
        self.values = [xp.empty(shape, dtype) for _ in range(config.layers)]
        self.prompt_bias = attention_bias(mask, dtype)                        # (B, 1, P, P)
        padding = xp.where(mask, 0.0, -xp.inf).astype(dtype)
        self.bias = xp.zeros((B, 1, 1, length), dtype)                        # for one new token
        self.bias[:, 0, 0, :self.prompt] = padding

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.bias = self.bias[rows]

    def attend(self, layer: int, qkv: Array) -> Array:
        """Attention of n new tokens to themselves and all before: (B, n, 3C) -> (B, n, C)."""
        xp, (B, n, C3) = self.xp, qkv.shape
        D = C3 // 3 // self.heads
        q, k, v = qkv.reshape(B, n, 3, self.heads, D).transpose(2, 0, 1, 3, 4)
        start, end = self.filled, self.filled + n
        self.keys[layer][:, start:end] = k
        self.values[layer][:, start:end] = v
        keys = self.keys[layer][:, :end].transpose(0, 2, 3, 1)                # (B, H, D, end)
        s = q.transpose(0, 2, 1, 3) @ keys                                    # (B, H, n, end)
        s *= D ** -0.5
        s += self.prompt_bias if start == 0 else self.bias[..., :end]
        s -= s.max(axis=-1, keepdims=True)
        p = xp.exp(s, out=s)
        if layer == len(self.keys) - 1:                       # the last layer has read them all
            self.filled = end
        o = p @ self.values[layer][:, :end].transpose(0, 2, 1, 3)             # (B, H, n, D)
        o /= p.sum(axis=-1, keepdims=True)
        return o.transpose(0, 2, 1, 3).reshape(B, n, C3 // 3)


def filter_logits(logits: Array, top_k: int = 0, top_p: float = 1.0) -> Array:
    """−inf for the tokens that top-k and top-p exclude.  (B, V) -> (B, V)

    top-k keeps the k largest (and ties with the k-th).  top-p (Holtzman et al. 2020) keeps the
    smallest set of most likely tokens whose probability reaches p: the token that crosses p stays.
    """
    xp = array_module(logits)
    if top_k:
        kth = xp.sort(logits, axis=-1)[:, -min(top_k, logits.shape[-1]), None]
        logits = xp.where(logits >= kth, logits, -xp.inf)
    if top_p < 1:
        order = xp.argsort(-logits, axis=-1, kind="stable")       # at a tie the lower id first
        ranked = xp.take_along_axis(logits, order, axis=-1)
        p = xp.exp(ranked - ranked[:, :1])
        p /= p.sum(axis=-1, keepdims=True)
        reached_before = xp.cumsum(p, axis=-1) - p >= top_p
        ranked = xp.where(reached_before, -xp.inf, ranked)
        logits = xp.empty_like(logits)
        xp.put_along_axis(logits, order, ranked, axis=-1)
    return logits


def draw(logits: Array, uniforms: Array) -> Array:
    """One token a row by inverting the cumulative distribution.  (B, V), (B,) in (0, 1] -> (B,)

    The first token whose cumulative probability reaches u.  With u > 0 a token of probability 0
    is never drawn, and with u = 1 the last possible one is.
    """
    xp = array_module(logits)
    cumulative = xp.cumsum(xp.exp(logits - logits.max(axis=-1, keepdims=True)), axis=-1)
    return (cumulative < uniforms[:, None] * cumulative[:, -1:]).sum(axis=-1)


def sample(params, config: ModelConfig, prompts: Sequence[Sequence[int]], max_new: int, *,
           rng: np.random.Generator, temperature: float = 1.0, top_k: int = 0,
           top_p: float = 1.0) -> Samples:
    """Continue each prompt by at most `max_new` tokens, until every row has said <eos>.

    prompts: rows of token ids, of any lengths ≥ 1.  temperature 0 is greedy decoding.  The
    returned log-probs are those of the whole distribution at the sampling temperature (at 1 when
    greedy), as a fresh forward pass would give them; top-k and top-p only choose what is drawn.

    Raises ValueError for an empty prompt, a prompt that leaves no room in the context, or
    settings out of range.
    """
    _check_settings(config, prompts, max_new, temperature, top_k, top_p)
    xp, dtype = array_module(params["wte"]["weight"]), params["wte"]["weight"].dtype
    tokens, mask = (xp.asarray(a) for a in pad_left(prompts, config.pad_id))         # (B, P)
    B = len(prompts)
    uniforms = xp.asarray((1 - rng.random((max_new, B))).astype(dtype))              # in (0, 1]
    *arrays, steps = dealt(lambda rows: _continue(
        params, config, tokens[rows], mask[rows], uniforms[:, rows], temperature, top_k, top_p), B)
    return Samples(*(array[:, :steps.max()] for array in arrays))


def _continue(params, config: ModelConfig, tokens: Array, mask: Array, uniforms: Array,
              temperature: float, top_k: int, top_p: float) -> tuple[Array, ...]:
    """tokens, mask and log-probs (B, max_new) of a batch, and on the host the steps it took (B,).

    tokens, mask (B, P): the prompts, padded on the left.  uniforms (max_new, B): what each row
    draws its tokens by.
    """
    xp, (B, P), (max_new, _) = array_module(tokens), tokens.shape, uniforms.shape
    dtype = uniforms.dtype
    cache = KeyValueCache(config, mask, P + max_new, dtype)
    new_tokens = xp.full((B, max_new), config.pad_id or 0, dtype=tokens.dtype)
    new_mask = xp.zeros((B, max_new), dtype=bool)
    logprobs = xp.zeros((B, max_new), dtype=dtype)
    running, positions = xp.ones(B, dtype=bool), position_ids(mask)
    rows: slice | Array = slice(None)                        # of the batch, those computed with
    for t in range(max_new):
        hidden = trunk(params, config, tokens, positions, cache.attend)[:, -1]       # (B, C)
        z = language_head(params, hidden)                                            # (B, V)
        if temperature == 0:
            chosen = z.argmax(axis=-1)
        else:
            chosen = draw(filter_logits(z / temperature, top_k, top_p), uniforms[t])
        new_tokens[rows, t] = xp.where(running, chosen, config.pad_id or 0)
        new_mask[rows, t] = running
        logprobs[rows, t] = xp.where(running, select_logprobs(z, chosen, temperature or 1.0), 0)
        tokens, positions = chosen[:, None], positions[:, -1:] + 1
        if config.eos_id is None:
            continue
        running = running & (chosen != config.eos_id)
        going_on = np.flatnonzero(to_host(running))
        if len(going_on) == 0:
            break
        if 2 * len(going_on) <= len(running):            # half have ended: they leave the batch
            kept = xp.asarray(going_on)
            rows = kept if isinstance(rows, slice) else rows[kept]
            tokens, positions, running = tokens[kept], positions[kept], running[kept]
            uniforms = uniforms[:, kept]
            cache.keep(kept)
    return new_tokens, new_mask, logprobs, np.full(B, t + 1)


def _check_settings(config, prompts, max_new, temperature, top_k, top_p) -> None:
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("sampling wants at least one prompt, each with at least one token")
    longest = max(map(len, prompts))
    if max_new < 1 or longest + max_new > config.context:
        raise ValueError(f"the longest prompt ({longest} tokens) and max_new ({max_new}) must fit "
                         f"the context of {config.context}, with max_new at least 1")
    if not (temperature >= 0 and top_k >= 0 and 0 < top_p <= 1):                     # NaN too
        raise ValueError(f"wanted temperature ≥ 0, top_k ≥ 0 and 0 < top_p ≤ 1, got "
                         f"{temperature}, {top_k} and {top_p}")

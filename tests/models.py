"""Tiny random models for the tests, and the longhand way to what the model layer computes."""

import numpy as np
from helpers import host

from minirlhf.arrays import NUMPY, array_module
from minirlhf.parameters import pack, tree_map
from minirlhf.transformer import ModelConfig, initialize, logits, with_scalar_head


def random_model(backend=NUMPY, *, seed=0, scalar_head=False, dtype="float64", vocab=12,
                 context=16, channels=8, heads=2, layers=2, spread=0.5):
    """params, config of a GPT-2 whose parameters are all far from where training starts: gains
    are not 1, biases not 0, and the weights large enough that attention prefers some tokens."""
    config = ModelConfig(vocab, context, channels, heads, layers)
    rng = np.random.default_rng(seed)
    params = initialize(config, rng=rng, dtype="float64")
    if scalar_head:
        params = with_scalar_head(params, rng=rng)
    params.flat += spread * rng.standard_normal(params.flat.shape)
    return pack(tree_map(lambda leaf: backend.asarray(leaf.astype(dtype)), params)), config


def disturb(params, size, seed) -> None:
    """Move all parameters by normal noise of this size, in place."""
    noise = np.random.default_rng(seed).standard_normal(params.flat.shape)
    params.flat += size * array_module(params.flat).asarray(noise.astype(params.flat.dtype))


def random_rows(rng, lengths, vocab=12) -> list[list[int]]:
    """Rows of any ids, those of <pad> and <eos> among them: only a mask says what is real."""
    return [rng.integers(0, vocab, length).tolist() for length in lengths]


def on(backend, *arrays):
    """Host arrays, moved to the backend."""
    return tuple(backend.asarray(a) for a in arrays)


def logsumexp(x) -> np.ndarray:
    top = x.max(axis=-1)
    return top + np.log(np.exp(x - top[..., None]).sum(axis=-1))


def row_logits(params, config, backend, row) -> np.ndarray:
    """The logits (T, V) of one row alone, without padding, on the host."""
    (tokens,) = on(backend, np.array([row]))
    return host(logits(params, config, tokens)[0])


def row_logprobs(params, config, backend, row, temperature=1.0) -> np.ndarray:
    """log p of the tokens 1 … T−1 of one row alone, each by its own look at one row of logits."""
    z = row_logits(params, config, backend, row) / temperature
    return np.array([z[t - 1, row[t]] - logsumexp(z[t - 1]) for t in range(1, len(row))])

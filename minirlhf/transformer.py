"""GPT-2, exactly: one trunk, and a head that makes it a language model or a score.

    tokens (B, T) ── trunk ── (B, T, C) ──┬── language-model head ── logits (B, T, V)
                                          └── scalar head ────────── one number a token (B, T)

All four models of RLHF are this trunk: the policy and the frozen reference with the
language-model head, the reward model and the value model with the scalar head.  (The article:
"its final layer is replaced with a small head that outputs a single number".)

Radford et al. 2019: a layer norm before each branch, a learned vector for each position, tanh-GELU,
biases, ε = 1e-5, and the embedding used again as the output matrix.  Parameters carry the names of
a Hugging Face checkpoint and weights are (in, out), as there, so a saved model opens in
`transformers` and computes the same.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from minirlhf.arrays import Array, array_module, check_mask, check_ndim, select_backend, to_host
from minirlhf.files import read_object, read_tensors, write_json, write_tensors
from minirlhf.ops import (
    add,
    causal_attention,
    embedding,
    gelu,
    layer_norm,
    linear,
    reshape,
    transpose,
    where,
)
from minirlhf.ops import sum as sum_
from minirlhf.parameters import Parameters, filled, leaves, pack
from minirlhf.tokens import EOS, PAD, Tokenizer, last_token, position_ids


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a GPT-2."""

    vocab_size: int
    context: int = 64                    # longest sequence, "n_positions"
    channels: int = 64                   # C, "n_embd"
    heads: int = 4                       # H, "n_head"
    layers: int = 2                      # L, "n_layer"
    pad_id: int | None = PAD
    eos_id: int | None = EOS

    def __post_init__(self):
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads "
                             f"({self.heads}): every head gets an equal share")


# --- parameters ----------------------------------------------------------------------------------

def shapes(config: ModelConfig) -> dict:
    """The names and shapes of a language model: zeros that take no memory, one number repeated."""
    C = config.channels

    def array(*shape):
        return np.broadcast_to(np.float32(0), shape)

    def norm():
        return {"weight": array(C), "bias": array(C)}

    def dense(inputs, outputs):
        return {"weight": array(inputs, outputs), "bias": array(outputs)}

    return {
        "wte": {"weight": array(config.vocab_size, C)},
        "wpe": {"weight": array(config.context, C)},
        "h": [{"ln_1": norm(), "attn": {"c_attn": dense(C, 3 * C), "c_proj": dense(C, C)},
               "ln_2": norm(), "mlp": {"c_fc": dense(C, 4 * C), "c_proj": dense(4 * C, C)}}
              for _ in range(config.layers)],
        "ln_f": norm()}


def initialize(config: ModelConfig, *, rng: np.random.Generator, dtype: str = "float32",
               backend: str = "numpy") -> Parameters:
    """GPT-2's initialisation: weights N(0, 0.02²); the last matrix of each of the 2L branches that
    are added to the state N(0, 0.02²/2L), so that their sum has the size of one; gains 1, biases 0.
    """
    residual, asarray = 0.02 / (2 * config.layers) ** 0.5, select_backend(backend).asarray

    def start(name, shape):
        if name.endswith("bias"):
            return asarray(np.zeros(shape, dtype))
        if "ln_" in name:
            return asarray(np.ones(shape, dtype))
        std = residual if "c_proj" in name else 0.02
        return asarray(rng.normal(0, std, shape).astype(dtype))
    return filled(shapes(config), start)


def with_scalar_head(params: Parameters, *, rng: np.random.Generator) -> Parameters:
    """A copy of a language model's trunk with a new scalar head, w ~ N(0, 1/(C+1)).

    The scale is Ziegler et al.'s (2019): the first scores then have about unit variance.
    """
    wte = params["wte"]["weight"]
    channels = wte.shape[1]
    w = rng.normal(0, (channels + 1) ** -0.5, (1, channels)).astype(wte.dtype)
    return pack(params | {"score": {"weight": array_module(wte).asarray(w)}})


# --- forward -------------------------------------------------------------------------------------

def trunk(params, config: ModelConfig, tokens: Array, positions: Array, attend):
    """(B, T) tokens -> (B, T, C) hidden states, one for each token.

    A state starts as word plus position; each block adds what attention reads from other tokens,
    then what the mlp computes from the state itself.

    `attend(layer, qkv)` mixes tokens: (B, T, 3C) queries, keys and values -> (B, T, C).  It is an
    argument because that is all in which training (whole rows at once) and sampling (one token
    and a cache of the earlier ones) differ.
    """
    x = add(embedding(params["wte"]["weight"], tokens), embedding(params["wpe"]["weight"],
                                                                  positions))       # (B, T, C)
    for layer, block in enumerate(params["h"]):
        qkv = _linear(_layer_norm(x, block["ln_1"]), block["attn"]["c_attn"])       # (B, T, 3C)
        x = add(x, _linear(attend(layer, qkv), block["attn"]["c_proj"]))
        hidden = gelu(_linear(_layer_norm(x, block["ln_2"]), block["mlp"]["c_fc"]))  # (B, T, 4C)
        x = add(x, _linear(hidden, block["mlp"]["c_proj"]))
    return _layer_norm(x, params["ln_f"])


def _linear(x, p):
    return linear(x, p["weight"], p["bias"])


def _layer_norm(x, p):
    return layer_norm(x, p["weight"], p["bias"])


def attention_bias(mask: Array, dtype) -> Array:
    """(B, 1, T, T): 0 where a query may look at a key, −inf where not.

    A token sees itself and the real tokens before it.  Pads see themselves too, so that no row is
    empty; what they compute is never read.  In memory the keys run down, the queries across.
    """
    xp = array_module(mask)
    T = mask.shape[1]
    before = xp.arange(T)[:, None] < xp.arange(T)                                    # (key, query)
    visible = (before & mask[:, :, None]) | xp.eye(T, dtype=bool)
    return xp.where(visible, 0.0, -xp.inf).astype(dtype)[:, None].swapaxes(-1, -2)


def hidden_states(params, config: ModelConfig, tokens: Array, mask: Array | None = None):
    """The trunk over whole rows: (B, T) -> (B, T, C).  Padding may stand on either side."""
    check_ndim(2, "(B, T)", tokens=tokens)
    if tokens.shape[1] > config.context:
        raise ValueError(f"{tokens.shape[1]} tokens a row are more than the model's context of "
                         f"{config.context}; shorten the rows or build a model with more context")
    if mask is None:
        mask = array_module(tokens).ones(tokens.shape, dtype=bool)
    check_mask(mask)
    if tuple(mask.shape) != tuple(tokens.shape):
        raise ValueError(f"mask and tokens must have one shape, got {tuple(mask.shape)} and "
                         f"{tuple(tokens.shape)}")
    bias = attention_bias(mask, params["wte"]["weight"].dtype)
    return trunk(params, config, tokens, position_ids(mask),
                 lambda layer, qkv: causal_attention(qkv, config.heads, bias))


def language_head(params, hidden):
    """logits = hidden · wteᵀ: a token is likely if its embedding points where the state points."""
    return linear(hidden, transpose(params["wte"]["weight"]), 0)


def logits(params, config: ModelConfig, tokens: Array, mask: Array | None = None, last=None):
    """The scores of every next token: (B, T) int -> (B, T, V); [:, t] predicts tokens[:, t+1].

    mask (B, T) bool, True = real; None: every token is real, and no pad id is looked for.
    last: only of so many columns at the end, (B, last, V): a response's, without the prompt's.
    """
    hidden = hidden_states(params, config, tokens, mask)
    return language_head(params, hidden if last is None else hidden[:, -last:])


def values(params, config: ModelConfig, tokens: Array, mask: Array | None = None):
    """The scalar head at every token: (B, T) int -> (B, T).  The value model reads all of them."""
    scalar = linear(hidden_states(params, config, tokens, mask),
                    transpose(params["score"]["weight"]), 0)                         # (B, T, 1)
    return reshape(scalar, tokens.shape)


def scores(params, config: ModelConfig, tokens: Array, mask: Array | None = None):
    """The scalar head at the last real token of each row: (B, T) int -> (B,).

    At the last token the state has seen the whole response.  A row without a real token scores 0.
    """
    if mask is None:
        mask = array_module(tokens).ones(tokens.shape, dtype=bool)
    return sum_(where(last_token(mask), values(params, config, tokens, mask), 0), axis=1)


# --- checkpoints in Hugging Face's layout --------------------------------------------------------

# Settings of Hugging Face's GPT2Config under which it computes what this trunk computes.  (Its
# dropouts are not applied here; reorder_and_upcast_attn changes a dtype, and no formula.)
_WANTED = {"model_type": ("gpt2",), "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
           "layer_norm_epsilon": (1e-5,), "scale_attn_weights": (True,),
           "scale_attn_by_inverse_layer_idx": (False,), "tie_word_embeddings": (True,),
           "add_cross_attention": (False,), "pruned_heads": ({}, None),
           "quantization_config": (None,)}
# what old checkpoints hold beside the parameters: causal masks, and the tied head once more
_NO_PARAMETER = re.compile(r"h\.\d+\.attn\.(masked_)?bias|lm_head\.weight")
# the names of the sizes, there and here
_SIZES = {"vocab_size": "vocab_size", "n_positions": "context", "n_embd": "channels",
          "n_head": "heads", "n_layer": "layers"}


def save(folder: Path, params: Parameters, config: ModelConfig,
         tokenizer: Tokenizer | None = None) -> None:
    """Write config.json, model.safetensors and the tokenizer's files.

    With a scalar head the folder is a `GPT2ForSequenceClassification` with one label, otherwise a
    `GPT2LMHeadModel`.
    """
    scalar_head = "score" in params
    sizes = asdict(config)
    write_json(Path(folder) / "config.json", {
        "model_type": "gpt2",
        "architectures": ["GPT2ForSequenceClassification" if scalar_head else "GPT2LMHeadModel"],
        **{theirs: sizes[ours] for theirs, ours in _SIZES.items()},
        "n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "initializer_range": 0.02,
        "scale_attn_weights": True, "tie_word_embeddings": True,
        "bos_token_id": sizes["eos_id"], "eos_token_id": sizes["eos_id"],
        "pad_token_id": sizes["pad_id"], "dtype": str(params.flat.dtype),
        **({"id2label": {"0": "score"}, "label2id": {"score": 0}} if scalar_head else {})})
    write_tensors(Path(folder) / "model.safetensors", {
        name if name.startswith("score.") else f"transformer.{name}": to_host(leaf)
        for name, leaf in leaves(params)})
    if tokenizer is not None:
        tokenizer.save(folder)


def read_config(folder: Path) -> ModelConfig:
    """The sizes of a model folder.

    Raises ValueError naming a setting that this trunk does not have, or a size that is missing.
    """
    path = Path(folder) / "config.json"
    settings = read_object(path)
    C = settings.get("n_embd")
    for name, allowed in (_WANTED | {"n_inner": (None, 4 * C if type(C) is int else C)}).items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(f"{path}: {name} is {settings[name]!r}, but this trunk has "
                             f"{' or '.join(map(repr, allowed))}")
    for name in _SIZES:
        if type(size := settings.get(name)) is not int or size < 1:
            raise ValueError(f"{path}: {name} " + ("is missing" if size is None else
                                                   f"is {size!r}, no whole number above 0"))
    try:
        return ModelConfig(**{ours: settings[theirs] for theirs, ours in _SIZES.items()},
                           pad_id=settings.get("pad_token_id"), eos_id=settings.get("eos_token_id"))
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def load(folder: Path, dtype: str = "float32",
         backend: str = "numpy") -> tuple[Parameters, ModelConfig]:
    """Read a model folder of a run, or any GPT-2 folder in Hugging Face's layout.

    Names may have the prefix "transformer." or not; the causal-mask buffers of old checkpoints
    and a stored copy of the tied head are left out.  Raises ValueError naming a setting that this
    trunk does not have, or a tensor that is missing, foreign, of another shape or not finite.
    """
    config, path = read_config(folder), Path(folder) / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor
               for name, tensor in read_tensors(path).items()}
    tree = shapes(config)
    if "score.weight" in tensors:
        tree["score"] = {"weight": np.broadcast_to(np.float32(0), (1, config.channels))}
    asarray = select_backend(backend).asarray

    def take(name: str, shape: tuple[int, ...]) -> Array:
        found = tensors.get(name)
        if found is None or found.shape != shape:
            raise ValueError(f"{path}: {name} should have shape {shape}, "
                             + ("is missing" if found is None else f"has {found.shape}"))
        with np.errstate(over="ignore"):
            found = found.astype(dtype, copy=False)
        if not np.isfinite(found).all():
            raise ValueError(f"{path}: {name} has entries that are not finite in {dtype}")
        return asarray(found)

    params = filled(tree, take)
    foreign = [name for name in sorted(tensors.keys() - dict(params.layout))
               if not _NO_PARAMETER.fullmatch(name)]
    if foreign:
        raise ValueError(f"{path}: no tensor of a GPT-2 of {config.layers} layers: "
                         f"{', '.join(foreign[:3])}{', …' * (len(foreign) > 3)}")
    return params, config

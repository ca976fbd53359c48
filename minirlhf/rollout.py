"""The rollout: prompt → response → score → log-probs, reference log-probs, values.

The article's loop: "The current LLM (the policy) generates a response", "The Reward Model scores
that response".  What the update needs of it is gathered here once, in one `Rollout` of named
arrays; nothing in it carries a gradient.

**Layout.**  Prompts are padded on the left and responses on the right,

    column   0 ……… P−1 │ P ……… P+R−1
             pad  prompt │ response  pad

so every response begins at column P, and (B, R) arrays of a response are slices of (B, P+R) ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from minirlhf.arrays import Array, array_module, to_host
from minirlhf.dealing import dealt
from minirlhf.host import in_parallel
from minirlhf.sampling import Samples, sample
from minirlhf.tokens import PAD, Tokenizer, pad_left, pad_right, strip, token_logprobs
from minirlhf.transformer import ModelConfig, logits, scores, values

NUMBERS_AT_ONCE = 2**26
"""what logits or a cache may hold on each core when nothing is trained: 256 MiB in float32"""


class Models(NamedTuple):
    """The models of reinforcement learning, all of one configuration.

    The article: "during PPO RL fine-tuning, we are actually keeping four models in memory".  The
    group-relative methods do without the value model, "which brings the count down to three".
    """

    policy: dict               # the language model being trained
    value: dict | None         # predicts the return: the baseline of PPO's advantage
    reward: dict               # scores whole responses; frozen
    reference: dict            # the SFT model itself, for the KL penalty; frozen


@dataclass(frozen=True)
class Rollout:
    """A batch of prompts, responses and what the models say of them.

    sequences (B, P+R) int and sequence_mask (B, P+R) bool hold prompt and response; `mask` (B, R)
    is True on the response's tokens.  logprobs, ref_logprobs, values (B, R); scores (B,).
    """

    sequences: Array
    sequence_mask: Array
    mask: Array
    logprobs: Array            # log π_old of each response token, at the sampling temperature
    ref_logprobs: Array        # log π_ref of the same token
    values: Array | None       # V before the token is chosen; None without a value model
    scores: Array              # the reward model's score of the whole response

    def __getitem__(self, rows) -> "Rollout":
        """The same arrays for some rows: a minibatch."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return Rollout(*(None if array is None else array[rows] for array in arrays))

    def part(self, rows: Array, longest: int) -> "Rollout":
        """A shard of a minibatch: some rows, without the columns behind their longest response."""
        prompt = self.sequences.shape[1] - self.mask.shape[1]
        width = {"sequences": prompt + longest, "sequence_mask": prompt + longest}
        arrays = ((getattr(self, field.name), width.get(field.name, longest))
                  for field in fields(self))
        return Rollout(*(array if array is None else array[rows] if array.ndim == 1 else
                         array[rows, :columns] for array, columns in arrays))

    def __len__(self) -> int:
        return len(self.scores)


def response_logprobs(params, config: ModelConfig, sequences: Array, sequence_mask: Array,
                      response_length: int, temperature: float = 1.0):
    """log π of each response token.  (B, P+R) -> (B, R)

    The log-prob of column t comes from the logits at t−1, so those of the response from the logits
    of the last R+1 columns.
    """
    n = response_length + 1
    z = logits(params, config, sequences, sequence_mask, last=n)
    return token_logprobs(z, sequences[:, -n:], temperature)


def rows_at_once(config: ModelConfig, length: int, most: int = 64) -> int:
    """How many rows of `length` tokens are computed together where nothing is trained.

    A token has V logits, and a key and a value of C numbers in each of L layers.  For a toy that
    is nothing; 64 rows of 300 tokens of a GPT-2 with V = 50257 would be 4 GB of logits.
    """
    a_row = length * (config.vocab_size + 2 * config.layers * config.channels)
    return max(1, min(most, NUMBERS_AT_ONCE // a_row))


def in_pieces(function: Callable[[Array, Array], Array], config: ModelConfig, sequences: Array,
              sequence_mask: Array) -> Array:
    """function(sequences, sequence_mask) where no gradient is wanted: some rows on each rank, a
    few at a time, and on every core some."""
    n = rows_at_once(config, sequences.shape[1])

    def share(own: slice) -> tuple[Array]:
        tokens, mask = sequences[own], sequence_mask[own]
        return (array_module(tokens).concatenate(list(in_parallel(
            lambda i: function(tokens[i:i + n], mask[i:i + n]), range(0, len(tokens), n),
            tokens))),)

    [found] = dealt(share, len(sequences))
    return found


def measured_logprobs(params, config: ModelConfig, sequences: Array, sequence_mask: Array,
                      response_length: int, temperature: float = 1.0) -> Array:
    """`response_logprobs`, without a gradient."""
    return in_pieces(lambda tokens, mask: response_logprobs(
        params, config, tokens, mask, response_length, temperature), config, sequences,
        sequence_mask)


def response_values(params, config: ModelConfig, sequences: Array, sequence_mask: Array,
                    response_length: int):
    """V of the state in which each response token was chosen.  (B, P+R) -> (B, R)

    The state of token t is everything before it, so V is read one column earlier, where the
    logits are that chose the token.
    """
    return values(params, config, sequences, sequence_mask)[:, -response_length - 1:-1]


def score_replies(params, config: ModelConfig, rows: Sequence[Sequence[int]],
                  batch_size: int = 64) -> Array:
    """The scalar head's score of each row of prompt and response tokens, padded on the right.

    (N,), where the parameters are; long lists are scored a batch at a time, on all ranks and cores.
    """
    xp = array_module(params["wte"]["weight"])
    n = rows_at_once(config, max(map(len, rows)), batch_size)

    def score(some: Sequence[Sequence[int]]) -> Array:
        tokens, mask = pad_right(some, config.pad_id)
        return scores(params, config, xp.asarray(tokens), xp.asarray(mask))

    def share(own: slice) -> tuple[Array]:
        mine = rows[own]
        return (xp.concatenate(list(in_parallel(
            score, [mine[i:i + n] for i in range(0, len(mine), n)], params["wte"]["weight"]))),)

    [found] = dealt(share, len(rows))
    return found


def collect(models: Models, config: ModelConfig, prompts: Sequence[Sequence[int]], max_new: int,
            *, rng: np.random.Generator, temperature: float = 1.0) -> Rollout:
    """Let the policy answer the prompts, and gather what an update needs.

    No top-k and no top-p: they would draw from another distribution than the one whose log-probs
    are trained, and the ratio would be off by the probability mass that they cut away.
    """
    samples = sample(models.policy, config, prompts, max_new, rng=rng, temperature=temperature)
    sequences, sequence_mask = join(prompts, samples, config.pad_id)
    R = samples.tokens.shape[1]
    rows = strip(to_host(sequences), to_host(sequence_mask))
    return Rollout(
        sequences, sequence_mask, samples.mask, samples.logprobs,
        measured_logprobs(models.reference, config, sequences, sequence_mask, R, temperature),
        None if models.value is None else
        in_pieces(lambda tokens, mask: response_values(models.value, config, tokens, mask, R),
                  config, sequences, sequence_mask),
        score_replies(models.reward, config, rows))


def join(prompts: Sequence[Sequence[int]], samples: Samples,
         pad_id: int | None = PAD) -> tuple[Array, Array]:
    """Left-padded prompts and right-padded responses side by side: tokens, mask (B, P+R)."""
    xp = array_module(samples.tokens)
    tokens, mask = (xp.asarray(a) for a in pad_left(prompts, pad_id))
    return (xp.concatenate([tokens, samples.tokens], axis=1),
            xp.concatenate([mask, samples.mask], axis=1))


class Reply(NamedTuple):
    """A response as text; `ended` tells whether the model said <eos>."""

    text: str
    ended: bool


def generate(params, config: ModelConfig, tokenizer: Tokenizer,
             prompts: Sequence[Sequence[int]], max_new: int, *, rng: np.random.Generator,
             **settings) -> list[Reply]:
    """Text replies to a batch of prompts of token ids.

    `settings` go to `sample` (temperature, top_k, top_p).
    """
    samples = sample(params, config, prompts, max_new, rng=rng, **settings)
    rows = strip(to_host(samples.tokens), to_host(samples.mask))
    return [Reply(tokenizer.decode(row), row[-1] == config.eos_id) for row in rows]

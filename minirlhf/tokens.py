"""Tokens: the index convention, the vocabulary, padding, masks.

**The convention.**  Everywhere in this package

    logprobs[:, t] = log p(token[t] | token[<t])

the log-probability of the token *at* t, computed from the logits one position earlier.  Arrays of
a response are (B, R), R the longest response; masks are boolean, True = the token counts.  The
end-of-sequence token is a real token: it was chosen by the policy and it counts.

**A conversation** is four special tokens around text:

    <user> what color is the sky ? <bot> the sky is blue . <eos>
    └───────── prompt ───────────────┘ └───── response ───────┘

These are the names and ids in the vocabularies made here.  A tokenizer that came with a model has
others, or writes the turns as text: what builds rows asks the tokenizer.

`<pad>` fills rows up to equal length and is never the same token as `<eos>`: systems that make
them one cannot tell whether a response ended.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from minirlhf import ops
from minirlhf.arrays import Array, array_module, check_ndim
from minirlhf.files import read_json, write_json

SPECIAL_TOKENS = ("<pad>", "<eos>", "<user>", "<bot>")
PAD, EOS, USER, BOT = range(4)


class Tokenizer:
    """Text to ids and back.  Subclasses say how text is cut: `encode`, `decode`, `definition`."""

    vocab_size: int
    pad_id: int = PAD
    eos_id: int = EOS
    pad_token: str = SPECIAL_TOKENS[PAD]
    eos_token: str = SPECIAL_TOKENS[EOS]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out."""
        raise NotImplementedError

    def definition(self) -> dict:
        """The content of a `tokenizer.json`."""
        raise NotImplementedError

    def prompt(self, text: str) -> list[int]:
        """<user> text <bot>: what the model sees before it answers."""
        return [USER, *self.encode(text), BOT]

    def response(self, text: str, ended: bool = True) -> list[int]:
        """text <eos>: what the model should say, its end included (unless it never ended)."""
        return [*self.encode(text), *([self.eos_id] if ended else [])]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` for Hugging Face's AutoTokenizer."""
        write_json(Path(folder) / "tokenizer.json", self.definition())
        write_json(Path(folder) / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self.pad_token, "eos_token": self.eos_token,
            "padding_side": "right", "clean_up_tokenization_spaces": False})


class WordTokenizer(Tokenizer):
    """One token a word; words are separated by spaces, punctuation is a word of its own."""

    def __init__(self, words: Sequence[str]):
        self.words = [*SPECIAL_TOKENS, *words]
        self.ids = {word: i for i, word in enumerate(self.words)}
        self.vocab_size = len(self.words)
        if len(self.ids) != len(self.words):
            raise ValueError("the words of a vocabulary must be distinct")

    def encode(self, text: str) -> list[int]:
        """Raises ValueError naming a word that is not in the vocabulary."""
        ids = [self.ids.get(word, PAD) for word in text.split()]
        if ids and min(ids) < len(SPECIAL_TOKENS):                # "<eos>" is no word either
            unknown = next(w for w, i in zip(text.split(), ids, strict=True)
                           if i < len(SPECIAL_TOKENS))
            raise ValueError(f"the word {unknown!r} is not in the vocabulary of {self.vocab_size} "
                             f"words; it stands in {text!r}")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.words[i] for i in ids if i >= len(SPECIAL_TOKENS))

    def definition(self) -> dict:
        return {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [
                {"id": i, "content": token, "single_word": False, "lstrip": False,
                 "rstrip": False, "normalized": False, "special": True}
                for i, token in enumerate(SPECIAL_TOKENS)],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None, "decoder": None,
            # an unknown word is an error, not a token: "<unk>" is not in the vocabulary
            "model": {"type": "WordLevel", "vocab": self.ids, "unk_token": "<unk>"}}


def load_word_tokenizer(folder: Path) -> WordTokenizer:
    """The tokenizer that `WordTokenizer.save` wrote."""
    vocabulary = read_json(Path(folder) / "tokenizer.json")["model"]["vocab"]
    return WordTokenizer(sorted(vocabulary, key=vocabulary.get)[len(SPECIAL_TOKENS):])


# --- padding and masks ---------------------------------------------------------------------------

def pad_right(rows: Sequence[Sequence[int]],
              pad_id: int | None = PAD) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unequal length -> tokens (B, T) with pads at the end, mask (B, T).

    Give a model's own pad_id; where it has none (None) any id will do, since the mask decides.
    """
    width = max(len(row) for row in rows)
    tokens = np.full((len(rows), width), PAD if pad_id is None else pad_id, dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, :len(row)] = row
    return tokens, np.arange(width) < np.array([[len(row)] for row in rows])


def pad_left(rows: Sequence[Sequence[int]],
             pad_id: int | None = PAD) -> tuple[np.ndarray, np.ndarray]:
    """As `pad_right` with the pads in front: all prompts of a batch then end at one column."""
    tokens, mask = pad_right([row[::-1] for row in rows], pad_id)
    return tokens[:, ::-1].copy(), mask[:, ::-1].copy()


def strip(tokens: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """Padded host arrays -> rows of their real tokens."""
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


def position_ids(mask: Array) -> Array:
    """The position of each token among the *real* tokens of its row.  (B, T) bool -> (B, T) int

    Counting real tokens makes left and right padding mean the same.
    """
    xp = array_module(mask)
    return xp.maximum(xp.cumsum(mask, axis=1) - 1, 0)


def last_token(mask: Array) -> Array:
    """(B, T) bool, True at the last real token of each row only (nowhere in an empty row)."""
    xp = array_module(mask)
    count = xp.cumsum(mask, axis=1)
    return mask & (count == count[:, -1:])


def token_logprobs(logits, tokens: Array, temperature: float = 1.0):
    """log p(tokens[:, 1:]), each from the logits one position earlier.

        logprobs[:, t−1] = log softmax(logits[:, t−1] / τ)[tokens[:, t]],   t = 1 … T−1

    logits (B, T, V), tokens (B, T) int -> (B, T−1).  The first token has no log-probability:
    nothing came before it.  τ is the sampling temperature; the policy, the reference and the
    entropy must all be taken at the same one.

    Raises ValueError if the shapes disagree or temperature is not positive.
    """
    check_ndim(3, "(B, T, V)", logits=logits)
    if tuple(logits.shape[:2]) != tuple(tokens.shape):
        raise ValueError(f"logits (B, T, V) and tokens (B, T) disagree: "
                         f"{tuple(logits.shape)} and {tuple(tokens.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return ops.select_logprobs(ops.index(logits, (slice(None), slice(None, -1))),
                               tokens[:, 1:], float(temperature))

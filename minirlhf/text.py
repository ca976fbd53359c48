"""Text of your own: reading people's comparisons, and a vocabulary of byte pairs for them."""

import gzip
import json
import zlib
from pathlib import Path

from minirlhf.files import read_json
from minirlhf.tokens import SPECIAL_TOKENS, Tokenizer, load_word_tokenizer


def read_comparisons(path: Path) -> list[dict]:
    """The {"prompt", "chosen", "rejected"} rows of a JSONL or JSONL.gz file; other fields are left.

    Pairs whose sides are equal or empty are left out, since they teach nothing.  Raises ValueError
    naming the file, and the line of a row that is not such an object.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise ValueError(f"{path}:{number}: not JSON ({problem})") from None
        fields = ("prompt", "chosen", "rejected")
        if not isinstance(row, dict) or not all(isinstance(row.get(f), str) for f in fields):
            raise ValueError(f'{path}:{number}: wanted an object with the texts "prompt", '
                             f'"chosen" and "rejected", got {line.strip()[:80]}')
        prompt, chosen, rejected = (row[f].strip() for f in fields)
        if prompt and chosen and rejected and chosen != rejected:
            rows.append({"prompt": canonical_prompt(prompt), "chosen": chosen,
                         "rejected": rejected})
    if not rows:
        raise ValueError(f"{path}: no pair with a prompt and two different replies")
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, gzipped if its name ends in .gz.

    Raises ValueError naming the file where it is not UTF-8, or not a whole gzip file; OSError if
    it cannot be read.
    """
    data = Path(path).read_bytes()
    if str(path).endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise ValueError(f"{path}: not a whole gzip file ({problem})") from None
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError as problem:
        line = data[:problem.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 ({problem.reason}); save it as UTF-8") from None


def canonical_prompt(text: str) -> str:
    """A prompt without the marks of a transcript: a leading "Human:", a trailing "Assistant:"."""
    return text.strip().removeprefix("Human:").removesuffix("Assistant:").strip()


class BytePairTokenizer(Tokenizer):
    """Byte-level BPE by the `tokenizers` library: any text can be encoded."""

    def __init__(self, library_tokenizer):
        self.library = library_tokenizer
        self.library.encode_special_tokens = True       # "<eos>" in a text is text, not an end
        self.vocab_size = library_tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.library.encode(text).ids

    def decode(self, ids) -> str:
        return self.library.decode(list(ids), skip_special_tokens=True).strip()

    def definition(self) -> dict:
        return json.loads(self.library.to_str())


def train_byte_pairs(texts, vocab_size: int) -> BytePairTokenizer:
    """Learn a byte-level BPE vocabulary; special tokens take the first ids."""
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, library.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet()))
    return BytePairTokenizer(tokenizer)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a model folder of a run holds."""
    path = Path(folder) / "tokenizer.json"
    if read_json(path)["model"]["type"] == "WordLevel":
        return load_word_tokenizer(folder)
    return BytePairTokenizer(_tokenizers().Tokenizer.from_file(str(path)))


def _tokenizers():
    try:
        import tokenizers
    except ImportError:
        raise RuntimeError("text of your own wants the `tokenizers` library: "
                           "pip install 'minirlhf[text]'") from None
    return tokenizers

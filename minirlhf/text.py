"""Text of your own: the JSONL forms that are read, and a vocabulary of byte pairs for it.

    comparisons      {"prompt", "chosen", "rejected"}, or {"chosen", "rejected"} whole transcripts,
                     or the rows that `minirlhf label` writes
    demonstrations   {"prompt", "response"}, or {"prompt", "completion"}
    prompts          {"prompt"}
    corpus           {"text"}

one object a line, gzipped if the name ends in .gz; other fields are ignored.  A row that cannot be
read ends the run, with its file and line.  A row that reads but cannot teach is left out, and
counted by reason.

Whatever the form, a prompt is brought to one canonical text, so that `X`, `Human: X` and a
transcript that ends at its last `Assistant:` are the same prompt in every file.
"""

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from minirlhf.files import read_object
from minirlhf.labels import answered
from minirlhf.tokens import SPECIAL_TOKENS, Tokenizer, load_word_tokenizer

# The mark of a turn, at the start of a line (within one it is text); of several the first holds.
MARK = re.compile(r"^[^\S\n]*(Human|Assistant):(?:[^\S\n]*(?:Human|Assistant):)*", re.MULTILINE)


def read_comparisons(path: Path, skipped: Counter) -> list[dict]:
    """{"prompt", "chosen", "rejected"} rows; what cannot teach is counted in `skipped`, by reason.

    In a file of labels (labels.py) an answer that its labeler changed later counts as last given.
    Raises ValueError naming file and line of a row that has neither form.
    """
    found: dict = {}
    for where, row in read_objects(path):
        answer = answered(row) or where
        if found.pop(answer, None):
            skipped["an answer that was changed later"] += 1
        found[answer] = comparison(row, where)
    skipped.update(one for one in found.values() if isinstance(one, str))
    return [one for one in found.values() if isinstance(one, dict)]


def comparison(row: dict, where: str) -> dict | str:
    """The three texts of a comparison, or the reason why it cannot teach."""
    if answered(row) and row["answer"] in ("tie", "skip"):
        return "a tie or a skipped pair"
    if "prompt" in row:
        prompt, chosen, rejected = texts(row, ("prompt", "chosen", "rejected"), where)
        other = prompt = canonical_prompt(prompt)
        chosen, rejected = unmarked(chosen), unmarked(rejected)
    else:
        both = texts(row, ("chosen", "rejected"), where)
        (prompt, chosen), (other, rejected) = map(split_transcript, both)
    if not (chosen and rejected):
        return "no reply"
    if not (prompt and other):
        return "no prompt"
    if prompt != other:
        return "two transcripts that differ before their last replies"
    if chosen == rejected:
        return "equal replies"
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def read_demonstrations(path: Path, skipped: Counter) -> list[dict]:
    """{"prompt", "response"} rows; "completion" is another name for the response."""
    rows = []
    for where, row in read_objects(path):
        reply = "completion" if "completion" in row and "response" not in row else "response"
        prompt, response = texts(row, ("prompt", reply), where)
        prompt, response = canonical_prompt(prompt), unmarked(response)
        if not (prompt and response):
            skipped["no prompt or no response"] += 1
        else:
            rows.append({"prompt": prompt, "response": response})
    return rows


def read_field(path: Path, field: str, skipped: Counter) -> list[str]:
    """One text field of every row: "prompt" (made canonical) or "text"."""
    found = [texts(row, (field,), where)[0] for where, row in read_objects(path)]
    found = [canonical_prompt(text) if field == "prompt" else text for text in found]
    skipped[f"no {field}"] += found.count("")
    return [text for text in found if text]


def read_objects(path: Path) -> Iterator[tuple[str, dict]]:
    """("file:line", object) for each line that is not blank.

    Raises ValueError naming the line that is no JSON object, or the file if it holds none.
    """
    empty = True
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        empty, where = False, f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"{where}: not JSON ({problem})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: wanted a JSON object, got {line.strip()[:80]}")
        yield where, row
    if empty:
        raise ValueError(f"{path}: the file is empty")


def texts(row: dict, fields: tuple[str, ...], where: str) -> list[str]:
    """The named fields of a row, stripped.  Raises ValueError unless all of them are texts."""
    wrong = [field for field in fields if not isinstance(row.get(field), str)]
    if wrong:
        raise ValueError(f"{where}: wanted the text field{'s' * (len(fields) > 1)} "
                         f"{quoted(fields)}; {quoted(wrong)} is missing or no text (the row has "
                         f"{quoted(row) or 'no field'})")
    for field in fields:
        try:
            row[field].encode()
        except UnicodeEncodeError:                       # JSON may write half a character: \ud83d
            raise ValueError(f'{where}: "{field}" holds half a surrogate pair, no text') from None
    return [row[field].strip() for field in fields]


def quoted(names) -> str:
    return ", ".join(f'"{name}"' for name in names)


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
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError as problem:
        line = data[:problem.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 ({problem.reason}); save it as UTF-8") from None


# --- transcripts ---------------------------------------------------------------------------------

def turns(text: str) -> list[tuple[str, str]]:
    """("Human" or "Assistant", what was said) for each turn; what has no mark the human says."""
    first, *rest = MARK.split(text)
    said = [("Human", first), *zip(rest[::2], rest[1::2], strict=True)]
    return [(who, words.strip()) for who, words in said]


def joined(said: list[tuple[str, str]]) -> str:
    """Turns as one text, a blank line between them; empty ones and the first mark left out."""
    text = "\n\n".join(f"{who}: {words}" for who, words in said if words)
    return text.removeprefix("Human: ")


def canonical_prompt(text: str) -> str:
    """The one text that stands for a prompt, however its marks and blank lines are written.

        what ?      Human: what ?      \\n\\nHuman: what ?\\n\\nAssistant:      ->  what ?
    """
    return joined(turns(text))


def unmarked(reply: str) -> str:
    """A reply without a mark before its first word."""
    mark = MARK.match(reply)
    return reply[mark.end():].strip() if mark else reply


def opening(prompt: str) -> str:
    """The first turn of a canonical prompt: what the conversation began with."""
    return joined([turn for turn in turns(prompt) if turn[1]][:1])


def split_transcript(text: str) -> tuple[str, str]:
    """A transcript -> (canonical prompt, last reply).  The reply is empty if the human speaks last.
    """
    *before, (who, reply) = turns(text)
    return (joined(before), reply) if who == "Assistant" else (canonical_prompt(text), "")


# --- vocabularies --------------------------------------------------------------------------------

class BytePairTokenizer(Tokenizer):
    """Byte-level BPE by the `tokenizers` library: any text can be encoded.

    definition: the content of a tokenizer.json, kept as it is.  Raises ValueError if the library
    cannot read it, RuntimeError if there is no library.
    """

    def __init__(self, definition: dict, pad_token: str = Tokenizer.pad_token,
                 eos_token: str = Tokenizer.eos_token):
        library = _tokenizers()
        try:
            self.bpe = library.Tokenizer.from_str(json.dumps(definition))
        except Exception as problem:                # the library has no class of its own for it
            raise ValueError(f"not a tokenizer.json that `tokenizers` reads ({problem})") from None
        self.bpe.encode_special_tokens = True       # "<eos>" in a text is text, not an end
        self.bpe.no_truncation()
        self.bpe.no_padding()
        self._definition = definition
        self.vocab_size = max(self.bpe.get_vocab().values()) + 1
        self.pad_token, self.eos_token = pad_token, eos_token
        self.pad_id, self.eos_id = map(self.bpe.token_to_id, (pad_token, eos_token))

    def encode(self, text: str) -> list[int]:
        return self.bpe.encode(text, add_special_tokens=False).ids

    def decode(self, ids) -> str:
        return self.bpe.decode(list(ids), skip_special_tokens=True).strip()

    def definition(self) -> dict:
        return self._definition


class TranscriptTokenizer(BytePairTokenizer):
    """A vocabulary that has no <user> and no <bot>: the turns are marked by text, as in HH-RLHF.

        \\n\\nHuman: what color is the sky ?\\n\\nAssistant: the sky is blue .<eos>
        └─────────────── prompt ────────────────────┘└──── response ──────┘

    The space after the last mark belongs to the response.  In vocabularies like GPT-2's a word
    carries the space before it, " the" is one token; were the space the prompt's last token, the
    reply would have to begin with "the", as no word within a line does, and the model would meet
    a boundary that it hardly saw when it was trained.  So the ids of prompt and response, one
    after the other, are those of the whole text, and a sampled reply begins as a learnt one.
    """

    def prompt(self, text: str) -> list[int]:
        return self.encode(f"\n\nHuman: {text}\n\nAssistant:")

    def response(self, text: str, ended: bool = True) -> list[int]:
        return super().response(f" {text}" if text else "", ended)


def train_byte_pairs(texts, vocab_size: int) -> BytePairTokenizer:
    """Learn a byte-level BPE vocabulary; special tokens take the first ids."""
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, library.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet()))
    return BytePairTokenizer(json.loads(tokenizer.to_str()))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a model folder of a run holds."""
    path = Path(folder) / "tokenizer.json"
    definition = read_object(path)
    try:
        if definition["model"]["type"] == "WordLevel":
            return load_word_tokenizer(folder)
        names = read_object(Path(folder) / "tokenizer_config.json")
        return byte_pairs(definition, names["pad_token"], names["eos_token"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{path} and tokenizer_config.json beside it define no vocabulary "
                         f"({type(problem).__name__}: {problem})") from None


def byte_pairs(definition: dict, pad_token: str, eos_token: str) -> BytePairTokenizer:
    """The tokenizer of a tokenizer.json: with tokens for the turns if it has them, or with text."""
    ours = [token["content"] for token in definition["added_tokens"]][:4] == list(SPECIAL_TOKENS)
    return (BytePairTokenizer if ours else TranscriptTokenizer)(definition, pad_token, eos_token)


def byte_alphabet() -> set[str]:
    """The characters that stand for the 256 bytes in a byte-level vocabulary."""
    return set(_tokenizers().pre_tokenizers.ByteLevel.alphabet())


def _tokenizers():
    try:
        import tokenizers
    except ImportError:
        raise RuntimeError("text of your own wants the `tokenizers` library: "
                           "pip install 'minirlhf[text]'") from None
    return tokenizers

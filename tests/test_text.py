"""Laws of text of one's own: a file of comparisons, and a vocabulary of byte pairs."""

import gzip
import json

import numpy as np
import pytest
from helpers import assert_same, pair, write_rows

from minirlhf.text import (
    canonical_prompt,
    load_tokenizer,
    read_comparisons,
    read_lines,
    train_byte_pairs,
)
from minirlhf.tokens import BOT, EOS, SPECIAL_TOKENS, USER, WordTokenizer

# --- reading a file ------------------------------------------------------------------------------

def test_rows_are_read_with_their_three_texts_only(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [pair(" x ", " a\n", "b", margin=3), "\n", pair("y")])
    assert read_comparisons(path) == [pair("x", "a", "b"), pair("y")]


def test_packed_files_are_read(tmp_path):
    rows = [pair("größe ?", "ja ☃", "nein")]
    assert read_comparisons(write_rows(tmp_path / "a.jsonl.gz", rows, gzip.open)) == rows


@pytest.mark.parametrize("row", [pair("", "a", "b"), pair("  ", "a", "b"), pair("x", "", "b"),
                                 pair("x", "a", " "), pair("x", "same", " same ")])
def test_pairs_that_teach_nothing_are_left_out(tmp_path, row):
    path = write_rows(tmp_path / "a.jsonl", [row, pair("kept")])
    assert read_comparisons(path) == [pair("kept")]
    with pytest.raises(ValueError, match="only.jsonl: no pair with a prompt and two different"):
        read_comparisons(write_rows(tmp_path / "only.jsonl", [row]))


@pytest.mark.parametrize("line, message", [
    ("{oops\n", "not JSON"), ("[1, 2]\n", "wanted an object"), ('"text"\n', "wanted an object"),
    ('{"prompt": "x", "chosen": "a"}\n', '"rejected"'),
    ('{"prompt": "x", "chosen": "a", "rejected": 3}\n', '"rejected": 3'),
    ('{"prompt": null, "chosen": "a", "rejected": "b"}\n', "null")])
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, line, message):
    path = write_rows(tmp_path / "a.jsonl", [pair("x"), "\n", line, pair("y")])
    with pytest.raises(ValueError, match=rf"a\.jsonl:3: .*{message}"):
        read_comparisons(path)


def test_an_empty_or_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="a.jsonl: no pair"):
        read_comparisons(write_rows(tmp_path / "a.jsonl", []))
    with pytest.raises(FileNotFoundError, match="b.jsonl"):
        read_comparisons(tmp_path / "b.jsonl")


@pytest.mark.parametrize("kept", [0, 1, 12, 0.5, 0.9, -1])
def test_a_truncated_gzip_file_is_named(tmp_path, kept):
    path = write_rows(tmp_path / "a.jsonl.gz", [pair(f"q {i}") for i in range(50)], gzip.open)
    data = path.read_bytes()
    path.write_bytes(data[:int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: (not a whole gzip file|no pair)"):
        read_comparisons(path)


@pytest.mark.parametrize("damage", [
    lambda data: b"junk", lambda data: b'{"prompt": "x"}\n', lambda data: data[:20] + b"\xff" * 40,
    lambda data: data[:-8] + b"\0" * 8, lambda data: data + b"junk"],
    ids=["no gzip", "plain text", "broken middle", "wrong checksum", "junk behind"])
def test_a_corrupt_gzip_file_is_named(tmp_path, damage):
    path = write_rows(tmp_path / "a.jsonl.gz", [pair(f"q {i}") for i in range(50)], gzip.open)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: not a whole gzip file"):
        read_comparisons(path)


@pytest.mark.parametrize("opener, name", [(open, "a.jsonl"), (gzip.open, "a.jsonl.gz")])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe9", b"\xc3"])
def test_a_byte_that_is_not_utf8_is_named_by_file_and_line(tmp_path, opener, name, bad):
    line = json.dumps(pair("x")).encode()
    with opener(tmp_path / name, "wb") as file:
        file.write(line + b"\n\n" + line.replace(b"good", b"caf" + bad) + b"\n" + line)
    with pytest.raises(ValueError, match=rf"{name}:3: not UTF-8 .*; save it as UTF-8"):
        read_comparisons(tmp_path / name)


def test_the_lines_of_a_file_end_at_newlines_only(tmp_path):
    """A text may hold other characters that end a line on a screen."""
    rows = [pair("a\u2028b\x0bc\x85d", "x"), pair("y")]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                    encoding="utf-8")
    assert read_lines(path)[:2] == [json.dumps(row, ensure_ascii=False) for row in rows]
    assert read_comparisons(path) == rows


@pytest.mark.parametrize("text, wanted", [
    ("\n\nHuman: what ?\n\nAssistant:", "what ?"), ("Human:what", "what"), ("what", "what"),
    ("what\n\nAssistant:", "what"), ("Is the Human: nice", "Is the Human: nice"),
    ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
     "a\n\nAssistant: b\n\nHuman: c")])
def test_the_marks_around_a_prompt_are_taken_off(text, wanted):
    assert canonical_prompt(text) == wanted


# --- byte pairs ----------------------------------------------------------------------------------

TEXTS = ["the cat sat on the mat", "größer als ☃ !", "naïve\ncafé", "日本語 text", "a  b"]


def test_special_tokens_take_the_first_ids():
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer = train_byte_pairs(TEXTS, 300)
    assert [tokenizer.library.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert tokenizer.vocab_size <= 300
    assert min(min(tokenizer.encode(text)) for text in TEXTS) >= 4


@pytest.mark.parametrize("text", [*TEXTS, "never seen Ω ‰ 🙂", "tab\there", "quote \"it\""])
def test_any_text_comes_back(text):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer = train_byte_pairs(TEXTS, 300)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.prompt(text) + [0, 1]) == text      # special ones left out


def test_a_saved_vocabulary_is_the_same_vocabulary(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer = train_byte_pairs(TEXTS, 300)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.vocab_size == tokenizer.vocab_size and again.definition() == tokenizer.definition()
    for text in TEXTS:
        assert_same(np.array(again.encode(text)), np.array(tokenizer.encode(text)))
        assert again.decode(again.encode(text)) == text


def test_a_saved_word_vocabulary_is_known_by_its_file(tmp_path):
    WordTokenizer(["one", "two"]).save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, WordTokenizer) and again.encode("two one") == [5, 4]


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("text", ["{}", "it is {} here", "{}{}", "a{}b"])
def test_a_special_token_in_a_text_is_plain_text(text, special, tmp_path):
    """A text cannot end itself or speak for the other side, also after the vocabulary was saved:
    only `prompt` and `response` put the special tokens in."""
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer, text = train_byte_pairs(TEXTS, 300), text.replace("{}", special)
    tokenizer.save(tmp_path)
    for one in (tokenizer, load_tokenizer(tmp_path)):
        ids = one.encode(text)
        assert min(ids) >= len(SPECIAL_TOKENS)
        assert one.decode(ids) == text
        assert one.prompt(text) == [USER, *ids, BOT] and one.response(text) == [*ids, EOS]


def test_special_tokens_in_the_text_to_learn_from_do_not_move_the_special_ids():
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer = train_byte_pairs(["<eos> and <user> said <bot>"] * 50, 300)
    assert [tokenizer.library.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert min(tokenizer.encode("<eos> and <user> said <bot>")) >= 4

"""Laws of text of one's own: the forms of its files, prompts, and a vocabulary of byte pairs."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from helpers import assert_same, pair, write_rows
from hypothesis import given
from hypothesis import strategies as st
from labelled import label

from minirlhf.text import (
    canonical_prompt,
    load_tokenizer,
    opening,
    read_comparisons,
    read_demonstrations,
    read_field,
    read_lines,
    split_transcript,
    train_byte_pairs,
)
from minirlhf.tokens import BOT, EOS, SPECIAL_TOKENS, USER, WordTokenizer


def comparisons(path) -> list[dict]:
    return read_comparisons(path, Counter())


# --- reading a file ------------------------------------------------------------------------------

def test_rows_are_read_with_their_three_texts_only(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [pair(" x ", " a\n", "b", margin=3), "\n", pair("y")])
    assert comparisons(path) == [pair("x", "a", "b"), pair("y")]


def test_packed_files_are_read(tmp_path):
    rows = [pair("größe ?", "ja ☃", "nein")]
    assert comparisons(write_rows(tmp_path / "a.jsonl.gz", rows, gzip.open)) == rows


def test_both_forms_of_a_comparison_are_the_same_comparison(tmp_path):
    before = "\n\nHuman: a ?\n\nAssistant: b .\n\nHuman: c ?\n\nAssistant:"
    path = write_rows(tmp_path / "a.jsonl", [
        {"chosen": f"{before} yes", "rejected": f"{before} no", "id": 3},
        pair(before, " Assistant: yes", "Human: Assistant:no"),
        pair(before, "yes", "no"), pair("a ?\n\nAssistant: b .\n\nHuman: c ?", "yes", "no")])
    one, *others = comparisons(path)
    assert others == [one, one, one] and (one["chosen"], one["rejected"]) == ("yes", "no")


def whole(chosen, rejected) -> dict:
    return {"chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize("row, reason", [
    (pair("", "a", "b"), "no prompt"), (pair("Human:\n\nAssistant:", "a", "b"), "no prompt"),
    (pair("x", "", "b"), "no reply"), (pair("x", "a", " "), "no reply"),
    (pair("x", "same", " same "), "equal replies"),
    (whole("Human: x\nAssistant: a", "Human: x\nAssistant:"), "no reply"),
    (whole("Human: x\nAssistant: a", "Human: x\nAssistant: b\nHuman: c"), "no reply"),
    (whole("no marks", "at all"), "no reply"),
    (whole("Assistant: a", "Human: x\nAssistant: b"), "no prompt"),
    (whole("Human: x\nAssistant: b", "Assistant: a"), "no prompt"),
    (whole("Human: x\nAssistant: a", "Human: x\nAssistant: a\n"), "equal replies"),
    (whole("Human: x\nAssistant: a", "Human: y\nAssistant: b"),
     "two transcripts that differ before their last replies")], ids=str)
def test_a_pair_that_cannot_teach_is_left_out_and_counted_by_its_reason(tmp_path, row, reason):
    skipped = Counter()
    path = write_rows(tmp_path / "a.jsonl", [row, pair("kept"), row])
    assert read_comparisons(path, skipped) == [pair("kept")]
    assert +skipped == {reason: 2}


def test_the_answers_that_people_gave_are_comparisons(tmp_path):
    """Two labelers of one pair are two comparisons, also where they contradict each other."""
    skipped = Counter()
    path = write_rows(tmp_path / "labels.jsonl", [
        label("a"), label("a", "ben", "sft"), label("b", prompt="Human: b ?"), label("c", "ben")])
    assert read_comparisons(path, skipped) == [
        pair("a ?", "a policy", "a sft"), pair("a ?", "a sft", "a policy"),
        pair("b ?", "b policy", "b sft"), pair("c ?", "c policy", "c sft")]
    assert +skipped == {}


def test_ties_skips_and_changed_answers_teach_nothing_and_are_counted(tmp_path):
    """What was said of a pair at last counts: b ends as a tie, c as a preference."""
    skipped = Counter()
    path = write_rows(tmp_path / "labels.jsonl", [
        label("a", winner="tie"), label("a", "ben", "skip"), label("b"), label("c", winner="tie"),
        label("d", winner="sft"), label("b", winner="tie"), label("c"), label("d", winner="policy"),
        label("d", winner="sft"), label("e", left="same", right="same")])
    assert read_comparisons(path, skipped) == [pair("c ?", "c policy", "c sft"),
                                               pair("d ?", "d sft", "d policy")]
    assert +skipped == {"a tie or a skipped pair": 3, "an answer that was changed later": 4,
                        "equal replies": 1}


def test_a_row_that_only_looks_like_an_answer_is_read_as_before(tmp_path):
    """A field may be called answer or pair in another file: such rows neither tie nor replace."""
    rows = [pair("x", answer="tie"), pair("y", pair="p", labeler="ana"), pair("z", pair="p",
                                                                            labeler="ana")]
    assert comparisons(write_rows(tmp_path / "a.jsonl", rows)) == [pair("x"), pair("y"), pair("z")]


def test_an_answer_that_lacks_its_chosen_reply_is_named(tmp_path):
    row = label("b")
    del row["chosen"]
    with pytest.raises(ValueError, match=r'a\.jsonl:2: .*"chosen" is missing or no text'):
        comparisons(write_rows(tmp_path / "a.jsonl", [label("a"), row]))


def test_a_response_may_be_called_completion(tmp_path):
    skipped = Counter()
    path = write_rows(tmp_path / "a.jsonl", [
        {"prompt": "Human: x", "response": " a "},
        {"prompt": "y", "completion": "Assistant: b", "id": 1},
        {"prompt": "z", "completion": 3, "response": "c"}, {"prompt": "z", "response": ""},
        {"prompt": "Human:", "completion": "d"}])
    assert read_demonstrations(path, skipped) == [
        {"prompt": p, "response": r} for p, r in (("x", "a"), ("y", "b"), ("z", "c"))]
    assert +skipped == {"no prompt or no response": 2}


def test_prompts_are_made_canonical_and_documents_are_not(tmp_path):
    skipped, text = Counter(), "Human: x\n\n\nAssistant: y"
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": text, "text": text},
                                             {"prompt": "Human:", "text": " "}])
    assert read_field(path, "prompt", skipped) == ["x\n\nAssistant: y"]
    assert read_field(path, "text", skipped) == [text]
    assert skipped == {"no prompt": 1, "no text": 1}


@pytest.mark.parametrize("line, message", [
    ("{oops\n", "not JSON"), ("[1, 2]\n", "wanted a JSON object"), ("[" * 99999 + "\n", "not JSON"),
    ("9" * 9999 + "\n", "not JSON"), ('"text"\n', "wanted a JSON object"),
    ('{"prompt": "x", "chosen": "a"}\n', '"rejected" is missing or no text'),
    ('{"prompt": "x", "chosen": "a", "rejected": 3}\n', '"rejected" is missing or no text'),
    ('{"chosen": "a"}\n', 'fields "chosen", "rejected"; "rejected" is missing'),
    ('{"prompt": null, "chosen": "a", "rejected": "b"}\n', '"prompt" is missing or no text'),
    ('{"prompt": ["x"], "chosen": "a", "rejected": "b"}\n', '"prompt" is missing or no text'),
    ('{"prompt": "x", "chosen": "\\ud83d", "rejected": "b"}\n', '"chosen" holds half a surr')],
    ids=lambda text: text[:60])
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, line, message):
    path = write_rows(tmp_path / "a.jsonl", [pair("x"), "\n", line, pair("y")])
    with pytest.raises(ValueError, match=rf"a\.jsonl:3: .*{message}"):
        comparisons(path)


@pytest.mark.parametrize("read, row, missing", [
    (read_demonstrations, {"prompt": "x"}, "response"),
    (read_demonstrations, {"prompt": "x", "completion": None}, "completion"),
    (lambda path, skipped: read_field(path, "text", skipped), {"txt": "x"}, "text"),
    (lambda path, skipped: read_field(path, "prompt", skipped), {"prompt": {}}, "prompt")])
def test_the_missing_field_of_any_form_is_named(tmp_path, read, row, missing):
    with pytest.raises(ValueError, match=rf'a\.jsonl:1: .*"{missing}" is missing or no text'):
        read(write_rows(tmp_path / "a.jsonl", [row]), Counter())


def test_an_empty_or_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="a.jsonl: the file is empty"):
        comparisons(write_rows(tmp_path / "a.jsonl", ["\n", " \n"]))
    with pytest.raises(FileNotFoundError, match="b.jsonl"):
        comparisons(tmp_path / "b.jsonl")


def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(pair("x")) + "\r\n", encoding="utf-8-sig")
    assert comparisons(path) == [pair("x")]


@pytest.mark.parametrize("kept", [0, 1, 12, 0.5, 0.9, -1])
def test_a_truncated_gzip_file_is_named(tmp_path, kept):
    path = write_rows(tmp_path / "a.jsonl.gz", [pair(f"q {i}") for i in range(50)], gzip.open)
    data = path.read_bytes()
    path.write_bytes(data[:int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: (not a whole gzip|the file is empty)"):
        comparisons(path)


@pytest.mark.parametrize("damage", [
    lambda data: b"junk", lambda data: b'{"prompt": "x"}\n', lambda data: data[:20] + b"\xff" * 40,
    lambda data: data[:-8] + b"\0" * 8, lambda data: data + b"junk"],
    ids=["no gzip", "plain text", "broken middle", "wrong checksum", "junk behind"])
def test_a_corrupt_gzip_file_is_named(tmp_path, damage):
    path = write_rows(tmp_path / "a.jsonl.gz", [pair(f"q {i}") for i in range(50)], gzip.open)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: not a whole gzip file"):
        comparisons(path)


@pytest.mark.parametrize("opener, name", [(open, "a.jsonl"), (gzip.open, "a.jsonl.gz")])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe9", b"\xc3"])
def test_a_byte_that_is_not_utf8_is_named_by_file_and_line(tmp_path, opener, name, bad):
    line = json.dumps(pair("x")).encode()
    with opener(tmp_path / name, "wb") as file:
        file.write(line + b"\n\n" + line.replace(b"good", b"caf" + bad) + b"\n" + line)
    with pytest.raises(ValueError, match=rf"{name}:3: not UTF-8 .*; save it as UTF-8"):
        comparisons(tmp_path / name)


def test_the_lines_of_a_file_end_at_newlines_only(tmp_path):
    """A text may hold other characters that end a line on a screen."""
    rows = [pair("a\u2028b\x0bc\x85d", "x"), pair("y")]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                    encoding="utf-8")
    assert read_lines(path)[:2] == [json.dumps(row, ensure_ascii=False) for row in rows]
    assert comparisons(path) == rows


# --- prompts -------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, wanted", [
    ("\n\nHuman: what ?\n\nAssistant:", "what ?"), ("Human:what", "what"), ("what", "what"),
    ("what\n\nAssistant:", "what"), ("Is the Human: nice", "Is the Human: nice"),
    ("Who is your Assistant:", "Who is your Assistant:"), ("Human:\n\nAssistant:", ""),
    ("Human: Human: x", "x"), ("Humans: a\nMy Human: b", "Humans: a\nMy Human: b"),
    ("Assistant: hi\n\nHuman: x", "Assistant: hi\n\nHuman: x"),
    ("Human: a\n\nb\n  Assistant:c\r\nHuman: d", "a\n\nb\n\nAssistant: c\n\nHuman: d"),
    ("a\n\nAssistant:\n\nHuman: c", "a\n\nHuman: c"),
    ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
     "a\n\nAssistant: b\n\nHuman: c")])
def test_the_marks_of_a_prompt_are_brought_to_one_form(text, wanted):
    assert canonical_prompt(text) == wanted


BLANKS = st.text(" \t\n\r\x0b\x85\u2028", max_size=4)
WORDS = st.text("abc:?! HA\n", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(st.lists(WORDS, min_size=1, max_size=5), st.data())
def test_blank_lines_around_marks_make_no_other_prompt(words, data):
    """Nor does the mark of the first turn, or one more that invites the assistant to speak."""
    turns = [*zip(("Human", "Assistant") * 3, words, strict=False)]
    plain = "\n\n".join(f"{who}: {said}" for who, said in turns)
    blank = lambda: data.draw(BLANKS)                                                # noqa: E731
    loose = "\n".join(f"{blank()}{who}:{blank()}{said}{blank()}" for who, said in turns)
    for text in (plain, plain.removeprefix("Human: "), f"{plain}\n\nAssistant:",
                 loose, f"{loose}\n{blank()}Assistant:{blank()}"):
        assert canonical_prompt(text) == plain.removeprefix("Human: ")
    assert opening(canonical_prompt(loose)) == words[0]


MARKS = st.lists(st.one_of(st.sampled_from(["Human:", "Assistant:", "\n", "\n\n", " "]),
                           st.text("aH: \n\r\x0b\xa0\x1c", max_size=3)), max_size=12).map("".join)


@given(MARKS)
def test_a_canonical_prompt_is_its_own_canonical_form(text):
    """And its opening begins it, is canonical itself and opens itself."""
    once = canonical_prompt(text)
    assert canonical_prompt(once) == once == once.strip()
    first = opening(once)
    assert f"{once}\n".startswith(f"{first}\n")
    assert canonical_prompt(first) == opening(first) == first and opening(text) == first


@given(MARKS)
def test_a_transcript_is_cut_at_its_last_assistants_turn(text):
    prompt, reply = split_transcript(text + "\nHuman: x\n\nAssistant: a\nb ")
    assert (prompt, reply) == (canonical_prompt(text + "\nHuman: x"), "a\nb")
    assert split_transcript(text + "\nHuman: x")[1] == ""


def test_a_mark_within_a_line_is_text():
    assert split_transcript("Human: who ?\n\nAssistant: the “Assistant: I” .") == (
        "who ?", "the “Assistant: I” .")
    assert split_transcript("Human: who ?\n\nAssistant: Human: me") == ("who ?", "me")


# --- byte pairs ----------------------------------------------------------------------------------

TEXTS = ["the cat sat on the mat", "größer als ☃ !", "naïve\ncafé", "日本語 text", "a  b"]


def test_special_tokens_take_the_first_ids():
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    tokenizer = train_byte_pairs(TEXTS, 300)
    assert [tokenizer.bpe.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
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
    assert [tokenizer.bpe.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert min(tokenizer.encode("<eos> and <user> said <bot>")) >= 4

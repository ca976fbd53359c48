"""Laws of a chat's text: what a line means, and that replies stay within the terminal."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minirlhf.chat_text import (
    GAP,
    NARROWEST,
    Block,
    Toy,
    Unclear,
    block,
    examples,
    filled,
    fitting,
    lay_out,
    one_line,
    peoples_question,
    read_temperature,
    require_temperature,
)
from minirlhf.findings import titles_of
from minirlhf.sources import ToyWorld
from minirlhf.text import canonical_prompt, turns

KNOWN = [row["prompt"] for row in ToyWorld().prompts()]
TOY = Toy(ToyWorld().tokenizer().words, KNOWN)
# half of the lines are nearly the toy world's, so that some of them can be asked
LINES = st.text() | st.lists(st.sampled_from(TOY.words + ["THE", "sky?", "<eos>", "!!"])).map(
    " ".join)


# --- the toy world's lines -----------------------------------------------------------------------

@pytest.mark.parametrize("line", ["what color is the sky ?", "What color is the sky?",
                                  "WHAT COLOR IS THE SKY ??", "  what   color is the sky"])
def test_the_worlds_spelling_is_not_asked_of_people(line):
    assert TOY.question(line) == "what color is the sky ?"


@pytest.mark.parametrize("prompt", KNOWN[::7])
def test_every_question_of_the_world_is_understood_as_people_write_it(prompt):
    assert TOY.question(prompt) == prompt
    typed = prompt.capitalize().replace(" ?", "?").replace(" .", ".")
    assert TOY.question(typed) == prompt
    assert TOY.question(typed[:-1]) == prompt


def test_only_a_question_that_the_world_has_is_given_an_end():
    assert TOY.question("the sky is") == "the sky is"
    assert TOY.question("how do i kill the sky") == "how do i kill the sky"


def test_an_unknown_word_is_named_beside_words_that_look_like_it():
    with pytest.raises(Unclear, match=r'no word "neighbour" \(near: neighbor\); /prompts'):
        TOY.question("how do i kill the neighbour?")
    with pytest.raises(Unclear, match=r'no word "xylophone"; /prompts'):
        TOY.question("xylophone")
    with pytest.raises(Unclear, match=r'"xx", "yy", "zz" and 2 more; '):
        TOY.question("xx yy zz vv ww xx")


@pytest.mark.parametrize("word", ["<pad>", "<eos>", "<user>", "<bot>"])
def test_a_special_token_is_no_word(word):
    with pytest.raises(Unclear, match=word):
        TOY.question(f"what {word} ?")


@given(LINES)
@example("")
@example("İ")                                      # its small letter is two characters
@example("\ud800")
def test_any_line_is_understood_or_told_one_line(line):
    try:
        question = TOY.question(line)
    except Unclear as told:
        assert str(told) and "\n" not in str(told) and len(str(told)) < 300
    else:
        assert set(question.split()) <= set(TOY.words)
        assert TOY.question(question) == question


# --- people's lines ------------------------------------------------------------------------------

def test_a_mark_before_a_line_is_no_part_of_it():
    assert peoples_question("Human: What is a tiger?") == "What is a tiger?"
    assert peoples_question("Assistant: Human: hello") == "hello"
    with pytest.raises(Unclear, match="mark of a turn"):
        peoples_question("Human: Assistant:")


@given(st.text())
def test_peoples_line_is_one_turn_or_told_one_line(line):
    line = one_line(line)
    assume(line)
    try:
        question = peoples_question(line)
    except Unclear as told:
        assert "\n" not in str(told)
    else:
        assert turns(question) == [("Human", question)] and canonical_prompt(question) == question


def words(prompt: str) -> int:
    return len(prompt.split())


EARLIER = st.lists(st.tuples(st.sampled_from(["a", "b c", "d e f"]),
                             st.sampled_from(["", "x", "y z", "x\n\nHuman: y"])), max_size=5)


def test_a_conversation_is_one_canonical_prompt():
    prompt, kept = fitting("and a lion ?", [("hello", "hi .")], words, 9)
    assert prompt == "hello\n\nAssistant: hi .\n\nHuman: and a lion ?" and kept == [("hello",
                                                                                   "hi .")]
    assert fitting("and a lion ?", kept, words, 8) == ("and a lion ?", [])
    with pytest.raises(Unclear, match="1 tokens too long.*context of 3"):
        fitting("and a lion ?", kept, words, 3)


@given(st.sampled_from(["q", "q r s"]), EARLIER, st.integers(1, 30))
def test_as_many_of_the_latest_turns_are_kept_as_fit(question, earlier, context):
    if words(question) > context:
        with pytest.raises(Unclear):
            fitting(question, earlier, words, context)
        return
    prompt, kept = fitting(question, earlier, words, context)
    assert words(prompt) <= context and canonical_prompt(prompt) == prompt
    assert turns(prompt)[-1] == ("Human", question)
    assert kept == earlier[len(earlier) - len(kept):]
    if len(kept) < len(earlier):
        longer = earlier[len(earlier) - len(kept) - 1:]
        assert words(fitting(question, longer, words, 1000)[0]) > context


# --- examples, temperatures ----------------------------------------------------------------------

def test_examples_come_from_every_kind_and_change():
    rows = [row for row in ToyWorld().prompts() if row["split"] == "test"]
    kind = {row["prompt"]: row["kind"] for row in rows}
    rng = np.random.default_rng(0)
    first, second = examples(rows, rng), examples(rows, rng)
    assert [kind[text] for text in first] == list(dict.fromkeys(kind.values()))
    assert set(first) <= set(kind) and first != second


def test_of_conversations_the_distinct_first_turns_are_examples():
    rows = [{"prompt": text, "kind": "human"} for text in (
        "hi", "hi\n\nAssistant: hello\n\nHuman: you ?", "what ?", "long " * 100)]
    shown = examples(rows, np.random.default_rng(0))
    assert len(shown) == 3 and {"hi", "what ?"} < set(shown)
    assert max(map(len, shown)) < 200


@pytest.mark.parametrize("number", [0, 0.01, 0.5, 1, 100])
def test_a_temperature_that_can_be_sampled_at_passes(number):
    assert read_temperature(str(number)) == number


@pytest.mark.parametrize("number", [-1, -0.0001, 1e-9, 101, float("inf"), float("nan")])
def test_another_temperature_is_refused_with_its_range(number):
    with pytest.raises(Unclear, match="0, or from 0.01 to 100"):
        require_temperature(number)
    with pytest.raises(Unclear, match="0, or from 0.01 to 100"):
        read_temperature(str(number))


def test_a_temperature_that_is_no_number_is_refused():
    with pytest.raises(Unclear, match="a number, as in /temperature 0.5, got warm"):
        read_temperature("warm")


# --- layout --------------------------------------------------------------------------------------

ROW = {"reply": "the sky is blue .", "ended": True, "length": 6, "score": 0.614}
BLOCKS = st.lists(st.builds(Block, st.text(), st.text(), st.text()), min_size=1, max_size=2)


def test_a_reply_is_shown_with_its_score_and_length():
    assert block("sft", ROW) == Block("SFT", "the sky is blue .", "score +0.61, 6 tokens")
    assert block("policy", ROW | {"gold": -1.0}).remark == "score +0.61, gold -1.00, 6 tokens"
    assert block("policy", {"reply": "", "ended": True, "length": 1}) == Block(
        "PPO", "(said nothing)", "1 token")
    assert block("policy", ROW | {"ended": False}).reply == "the sky is blue . (did not finish)"
    assert "plain text" in block("base", ROW).title


def test_a_reply_is_headed_by_what_the_run_calls_its_model():
    titles = titles_of({"algorithm": "grpo"})
    assert [block(name, ROW, titles).title for name in ("sft", "dpo", "policy-best", "policy")] == [
        "SFT", "DPO", "GRPO best", "GRPO"]


def test_two_replies_stand_side_by_side():
    left, right = Block("SFT", "one two three", "score"), Block("PPO", "four", "other")
    wide = lay_out([left, right], 80)
    column = (80 + GAP) // 2
    assert wide.splitlines() == [f"{a:<{column}}{b}" for a, b in zip(left, right, strict=True)]


def test_the_remark_stands_below_the_longer_reply_on_both_sides():
    left, right = Block("SFT", "word " * 20, "below"), Block("PPO", "short", "too")
    lines = lay_out([left, right], 80).splitlines()
    assert lines[-1].split() == ["below", "too"] and len(lines) > 4


@pytest.mark.parametrize("width", [2 * NARROWEST + GAP - 1, None])
def test_where_it_is_narrow_or_no_terminal_they_stand_one_below_the_other(width):
    blocks = [Block("SFT", "one", "score"), Block("PPO", "two", "other")]
    assert lay_out(blocks, width) == "SFT\none\nscore\n\nPPO\ntwo\nother"
    assert "\n\n" not in lay_out(blocks, 2 * NARROWEST + GAP)


def test_without_a_terminal_no_line_is_broken():
    reply = "word " * 99 + "."
    assert lay_out([Block("SFT", reply + "\nand", "score")], None) == f"SFT\n{reply}\nand\nscore"


@given(BLOCKS, st.integers(1, 200))
def test_no_line_is_wider_than_the_terminal(blocks, width):
    shown = lay_out(blocks, width)
    assert all(len(line) <= width and line.isprintable() for line in shown.split("\n"))
    assert filled(shown, width) == shown                  # so it may be filled with what is beside


def letters(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c != " ")


@given(BLOCKS, st.integers(1, 200))
def test_no_letter_is_lost(blocks, width):
    lines = lay_out(blocks, width).split("\n")
    column = (width + GAP) // 2 - GAP
    if len(blocks) == 2 and column >= NARROWEST:
        sides = [line[:column] for line in lines], [line[column + GAP:] for line in lines]
        assert all(line[column:column + GAP].strip() == "" for line in lines)
    else:
        blocks, sides = [Block("", "".join(map("".join, blocks)), "")], [lines]
    for one, side in zip(blocks, sides, strict=True):
        assert letters("".join(side)) == letters("".join(one))


def test_a_reply_cannot_command_the_terminal():
    shown = lay_out([Block("SFT", "a\x1b[2Jb\tc\x07", "score")], 80)
    assert shown == "SFT\na [2Jb c\nscore"

"""Laws of labelling in a terminal, by a script of lines."""

import pytest
from labelled import GUIDELINES, rows_of, session_in

from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.pairs import Pair
from minirlhf.labelling.session import Session
from minirlhf.labelling.terminal import label
from minirlhf.rollout import Reply


@pytest.fixture
def session(tmp_path):
    return session_in(tmp_path)


def run(session, *lines, labeler="ana") -> tuple[str, list[str]]:
    """Type lines, then end the input.  (name, what was shown: one entry a pair or remark)."""
    left, shown = list(lines), []

    def read(question):
        if not left:
            raise EOFError
        return left.pop(0)

    name = label(session, labeler, read=read, write=shown.append)
    assert not left, "the script was not used up"
    return name, shown


def pairs_shown(shown) -> list[int]:
    return [int(text.split("── pair ")[1].split()[0]) for text in shown if "── pair " in text]


def test_every_letter_does_what_it_says(session, tmp_path):
    run(session, "l", "r", "t", "s", "q")
    rows = rows_of(tmp_path)
    assert [row["answer"] for row in rows] == ["left", "right", "tie", "skip"]
    assert [row["pair"] for row in rows] == [one.pair.id for one in session.order("ana")[:4]]


def test_words_and_capitals_are_understood_and_other_lines_are_not(session, tmp_path):
    _, shown = run(session, "LEFT", " Right ", "sorry", "", "lr", "tie", "q")
    assert [row["answer"] for row in rows_of(tmp_path)] == ["left", "right", "tie"]
    assert sum(text.startswith("l left, r right") for text in shown) == 3
    assert pairs_shown(shown) == [1, 2, 3, 4]


def test_it_ends_after_the_last_pair(session, tmp_path):
    _, shown = run(session, *"lrlrl")
    assert len(rows_of(tmp_path)) == 5 and pairs_shown(shown) == [1, 2, 3, 4, 5]
    assert pairs_shown(run(session)[1]) == []             # nothing is asked twice


def test_back_shows_the_pair_before_and_another_answer_replaces(session, tmp_path):
    _, shown = run(session, "l", "l", "b", "b", "b", "t", "q")
    assert pairs_shown(shown) == [1, 2, 3, 2, 1, 3]
    assert "this is the first pair" in shown
    assert "(your answer: left; another one replaces it)" in shown[4]
    assert [row["answer"] for row in rows_of(tmp_path)] == ["left", "left", "tie"]
    assert session.given("ana")[session.order("ana")[0].pair.id] == "tie"


def test_quitting_and_coming_back_goes_on(session, tmp_path):
    run(session, "l", "l", "q")
    _, shown = run(session)                               # the end of the input quits as well
    assert pairs_shown(shown) == [3] and len(rows_of(tmp_path)) == 2


def test_a_pair_is_shown_blind_with_the_left_reply_first(session):
    _, shown = run(session, "q")
    one = session.order("ana")[0]
    text = shown[-1]
    assert text.index(one.pair.prompt) < text.index("LEFT") < text.index(one.left.text)
    assert text.index(one.left.text) < text.index("RIGHT") < text.index(one.right.text)
    assert "sft" not in "".join(shown) and "policy" not in "".join(shown)


def test_the_guidelines_come_first_and_again_on_demand(session):
    _, shown = run(session, "g", "q")
    told = [text for text in shown if "guidelines version v7" in text]
    assert len(told) == 2 and shown[0] == told[0] and "Choose the *better* one." in told[0]


def test_a_name_is_asked_for_where_none_was_given(session, tmp_path):
    name, _ = run(session, "  Ana  Bo ", "l", "q", labeler=None)
    assert name == "Ana Bo" and rows_of(tmp_path)[0]["labeler"] == "Ana Bo"
    with pytest.raises(ValueError, match="a labeler's name"):
        run(session, " ", labeler=None)


def test_a_reply_can_do_nothing_to_the_terminal(tmp_path):
    """No escape sequence, no carriage return over what stands there; long words are wrapped."""
    pair = Pair("ask\x1b]0;title\x07", "test", {
        "sft": Reply("red \x1b[31m and back\rhidden \x9b2J\x00", True),
        "policy": Reply("x" * 300 + "\n\tone\r\ntwo", False)})
    session = Session([pair], AnswerFile(tmp_path / "labels.jsonl"), GUIDELINES, 0)
    _, shown = run(session, "q")
    text = shown[-1]
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "red �[31m and back�hidden" in text and text.count("breaks off") == 1
    assert max(map(len, text.splitlines())) <= 100
    assert "    one\n    two" in text.replace("        one", "    one")


def test_no_words_are_shown_as_no_words(tmp_path):
    pair = Pair("ask", "test", {"sft": Reply("", True), "policy": Reply("b", True)})
    session = Session([pair], AnswerFile(tmp_path / "labels.jsonl"), GUIDELINES, 0)
    assert "(no words)" in run(session, "q")[1][-1]

"""Laws of the guidelines: their version, and how they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.labelling.guidelines import Guidelines, read_guidelines


def read(tmp_path, text, encoding="utf-8"):
    (tmp_path / "own.md").write_text(text, encoding=encoding)
    return read_guidelines(tmp_path / "own.md")


def test_the_packages_own_have_a_version_and_say_what_labelers_need():
    own = read_guidelines()
    assert own.version == "minirlhf-1" and "version" not in own.text.lower()
    text = own.text.lower()
    for word in ("helpful", "honest", "harmless", "clear", "tie", "skip", "shorter"):
        assert word in text
    kinds = {kind for kind, _ in own.blocks()}
    assert kinds == {"h2", "h3", "p", "ul"}


@pytest.mark.parametrize("first", ["version 3b", "Version: 3b", "VERSION 3b  ", "\ufeffversion 3b"])
def test_the_first_line_may_name_the_version(tmp_path, first):
    assert read(tmp_path, f"{first}\n\nBe kind.\n") == Guidelines("3b", "Be kind.")


def test_else_a_hash_is_the_version(tmp_path):
    one, same, other = (read(tmp_path, text) for text in ("Be kind.", "Be kind.\n", "Be good."))
    assert one == same and one.version != other.version and len(one.version) == 8
    assert read(tmp_path, "the version 3 of this").text == "the version 3 of this"


@pytest.mark.parametrize("text", ["", " \n\n", "version 2", "version 2\n\n"])
def test_guidelines_that_say_nothing_are_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"own\.md: the guidelines are empty"):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"own\.md: not UTF-8"):
        read(tmp_path, "größe", "latin-1")
    with pytest.raises(FileNotFoundError, match=r"gone\.md"):
        read_guidelines(tmp_path / "gone.md")


def test_the_little_of_markdown_that_is_known():
    text = """# One
### Two
A paragraph that
goes on, **bold** and not.

- first **x**
  goes on
* second

- third
after #it 3 * 4
##none
#"""
    plain = lambda words: [(False, words)]                                           # noqa: E731
    assert Guidelines("1", text).blocks() == [
        ("h2", plain("One")), ("h4", plain("Two")),
        ("p", [(False, "A paragraph that goes on, "), (True, "bold"), (False, " and not.")]),
        ("ul", [[(False, "first "), (True, "x"), (False, " goes on")], plain("second"),
                plain("third after #it 3 * 4 ##none #")])]


@given(st.text("ab#-* \n<&>", max_size=60))
def test_no_word_is_lost_or_added(text):
    shown = []
    for kind, content in Guidelines("1", text).blocks():
        for line in content if kind == "ul" else [content]:
            shown.append("".join(words for _, words in line))
    letters = [c for c in text if c in "ab<&>"]
    assert [c for line in shown for c in line if c in "ab<&>"] == letters

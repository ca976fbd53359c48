"""Laws of votes: each form of file gives the same votes, whichever reply was chosen."""

import json
import os
from pathlib import Path

import pytest
from helpers import write_rows
from hypothesis import given
from hypothesis import strategies as st
from labelled import label

from minirlhf.agreement import cohen_kappa
from minirlhf.labels import read_labels
from minirlhf.votes import Vote, from_labels, from_preferences, read_votes, sides, standing

PANDALM = Path(os.environ.get("MINIRLHF_DATA", Path(__file__).parents[2] / "shared" / "data"),
               "pandalm", "pandalm_3annotators.jsonl")
pandalm = pytest.mark.skipif(not PANDALM.exists(),
                             reason=f"PandaLM's votes are not at {PANDALM} (see MINIRLHF_DATA)")


def compared(chosen="x", rejected="y", votes=(True, True, False), **more) -> dict:
    """A row of a run's preferences.jsonl."""
    return {"prompt": "sky ?", "chosen": chosen, "rejected": rejected, "chosen_ended": True,
            "rejected_ended": True, "labelers": ["ana", "ben", "cem"][:len(votes)],
            "votes": list(votes)} | more


def the_other_way(row: dict) -> dict:
    """The same votes, had the other reply been called the chosen one."""
    return row | {"chosen": row["rejected"], "rejected": row["chosen"],
                  "chosen_ended": row["rejected_ended"], "rejected_ended": row["chosen_ended"],
                  "votes": [not vote for vote in row["votes"]]}


REPLIES = st.tuples(st.text("xyz", max_size=2), st.booleans())
ROWS = st.lists(st.tuples(REPLIES, REPLIES, st.lists(st.booleans(), min_size=3, max_size=3))
                .filter(lambda row: row[0] != row[1]), min_size=1, max_size=6).map(
    lambda rows: [compared(a[0], b[0], votes, chosen_ended=a[1], rejected_ended=b[1])
                  for a, b, votes in rows])


# --- preferences.jsonl: laws, and readers that break them ----------------------------------------

def law_a_is_the_reply_that_sorts_first(read):
    """y was chosen by ana and ben; x sorts first, so they voted for b."""
    assert read([compared("y", "x"), compared("x", "y")]) == [
        Vote(0, "ana", "b"), Vote(0, "ben", "b"), Vote(0, "cem", "a"),
        Vote(1, "ana", "a"), Vote(1, "ben", "a"), Vote(1, "cem", "b")]


def law_of_equal_texts_a_is_the_one_that_broke_off(read):
    rows = [compared("x", "x", chosen_ended=ended, rejected_ended=not ended)
            for ended in (True, False)]
    assert [vote.choice for vote in read(rows)] == ["b", "b", "a", "a", "a", "b"]


@given(ROWS)
def law_which_reply_was_chosen_does_not_matter(read, rows):
    assert read([the_other_way(row) for row in rows]) == read(rows)


def law_a_name_that_votes_twice_is_two_labelers(read):
    row = compared(labelers=["ana", "ben", "ana"])
    assert [vote.labeler for vote in read([row])] == ["ana", "ben", "ana 2"]


LAWS = [law_a_is_the_reply_that_sorts_first, law_of_equal_texts_a_is_the_one_that_broke_off,
        law_which_reply_was_chosen_does_not_matter, law_a_name_that_votes_twice_is_two_labelers]


@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
def test_preferences_keep_the_law(law):
    law(from_preferences)


def reader_with(chosen_is_a=lambda row: sides(row)[0] == (row["chosen"], row["chosen_ended"]),
                name=lambda names, i: names[i] if names.index(names[i]) == i else f"{names[i]} 2"):
    def mutant(rows):
        return [Vote(i, name(row["labelers"], k), "a" if vote == chosen_is_a(row) else "b")
                for i, row in enumerate(rows) for k, vote in enumerate(row["votes"])]
    return mutant


MUTANTS = {
    "a is the chosen one": (law_which_reply_was_chosen_does_not_matter,
                            reader_with(lambda row: True)),
    "a sorts last": (law_a_is_the_reply_that_sorts_first,
                     reader_with(lambda row: row["chosen"] > row["rejected"])),
    "by text alone": (law_which_reply_was_chosen_does_not_matter,
                      reader_with(lambda row: row["chosen"] <= row["rejected"])),
    "a is the one that ended": (law_of_equal_texts_a_is_the_one_that_broke_off,
                                reader_with(lambda row: (row["chosen"], not row["chosen_ended"])
                                            < (row["rejected"], not row["rejected_ended"]))),
    "names as they are": (law_a_name_that_votes_twice_is_two_labelers,
                          reader_with(name=lambda names, i: names[i])),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    for law in LAWS:
        law(reader_with())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant)


def test_calling_the_winner_a_would_make_agreement_look_like_chance():
    """Four items on which ana and ben agree, and two on which they do not: kappa 1/3.  By who won
    (the third labeler sides with ana), ana always chose the winner, and kappa is 0."""
    rows = [compared("x", "y", (True, True, True)), compared("y", "x", (True, True, True)),
            compared("x", "y", (True, True, True)), compared("y", "x", (True, True, True)),
            compared("x", "y", (True, False, True)), compared("y", "x", (True, False, True))]

    def kappa(votes):
        return cohen_kappa(*([vote.choice for vote in votes if vote.labeler == name]
                             for name in ("ana", "ben")))
    assert kappa(from_preferences(rows)) == pytest.approx(1 / 3)
    assert kappa(reader_with(lambda row: True)(rows)) == 0


# --- the other forms -----------------------------------------------------------------------------

def test_people_vote_for_the_model_made_earlier_or_later_and_a_skip_is_no_vote():
    rows = [label("p", "ana", "sft"), label("p", "ben", "policy"), label("q", "ana", "tie"),
            label("q", "ben", "skip"),
            label("r", "ana", "policy", left_model="policy", right_model="sft")]
    assert from_labels(rows) == [Vote("p", "ana", "a"), Vote("p", "ben", "b"),
                                 Vote("q", "ana", "tie"), Vote("r", "ana", "b")]


def test_peoples_votes_stand_by_time_and_the_last_answer_counts():
    at = "2026-01-02T03:04:0{}+00:00".format
    rows = [label("p", "ana", "sft", time=at(1)), label("q", "ana", "sft", time=at(2)),
            label("r", "ben", "sft", time=at(0)), label("p", "ana", "tie", time=at(3)),
            label("q", "ana", "skip", time=at(4))]
    assert from_labels(rows) == [Vote("r", "ben", "a"), Vote("p", "ana", "tie")]


PUBLISHED = [{"idx": 0, "annotator1": 1, "annotator2": "2", "annotator3": 0},
             {"idx": 1, "annotator1": "0", "annotator2": 1, "annotator3": 2}]
BY_PLACE = [{"prompt": "?", "a": "x", "b": "y", "votes": ["a", "b", "tie"]},
            {"prompt": "?", "a": "x", "b": "y", "votes": ["tie", "a", "b"]}]
WANTED = [Vote(0, "annotator1", "a"), Vote(0, "annotator2", "b"), Vote(0, "annotator3", "tie"),
          Vote(1, "annotator1", "tie"), Vote(1, "annotator2", "a"), Vote(1, "annotator3", "b")]


def test_pandalms_numbers_and_their_texts_are_votes(tmp_path):
    path = tmp_path / "testset.json"
    path.write_text("\n " + json.dumps(PUBLISHED, indent=1))
    assert read_votes(path) == WANTED
    assert read_votes(write_rows(tmp_path / "lines.jsonl", PUBLISHED)) == WANTED


def test_votes_by_place_are_the_annotators_and_null_is_none(tmp_path):
    assert read_votes(write_rows(tmp_path / "votes.jsonl", ["\n", *BY_PLACE])) == WANTED
    rows = [{"a": "x", "b": "y", "votes": [None, "b"]}]
    assert read_votes(write_rows(tmp_path / "some.jsonl", rows)) == [Vote(0, "annotator2", "b")]


def test_the_files_of_a_run_are_known_by_their_rows(tmp_path):
    rows = [compared("y", "x"), compared()]
    assert read_votes(write_rows(tmp_path / "one", rows)) == from_preferences(rows)
    path = write_rows(tmp_path / "two", [label("p", "ana", "sft"), label("p", "ben", "tie")])
    assert read_votes(path) == from_labels(read_labels(path)) != []
    with open(path, "a") as file:                    # somebody is just answering
        file.write('{"pair": "q", "lab')
    assert len(read_votes(path)) == 2


@given(st.lists(st.builds(Vote, st.integers(0, 2), st.sampled_from(["ana", "ben"]),
                          st.sampled_from(["a", "b"])), max_size=12))
def test_the_last_votes_stand_where_they_were_given(votes):
    kept = standing(votes)
    assert standing(kept) == kept
    ends = [max(i for i, v in enumerate(votes) if v[:2] == key) for key in {v[:2] for v in votes}]
    assert kept == [votes[i] for i in sorted(ends)]


# --- damage --------------------------------------------------------------------------------------

@pytest.mark.parametrize("rows, where, told", [
    (["{oops\n"], ":1", "not JSON"), (["[1, 2\n"], "", "not JSON"), ([], "", "empty"),
    (["[]"], "", "empty"), (["[3]"], ": row 1", "holds no votes"), (["3\n"], ":1", "JSON object"),
    ([{"prompt": "?", "chosen": "x", "rejected": "y"}], ":1", "wanted a row with chosen, rejected"),
    ([compared(), "\n", BY_PLACE[0]], ":3", "another form"),
    ([compared(), "\n", {"prompt": "?"}], ":3", "holds no votes"),
    ([compared(votes=[True], labelers=["ana", "ben"])], ":1", "as many votes"),
    ([compared(), compared(labelers=["ana", "ben", 3])], ":2", "as many votes"),
    ([compared(votes=[1, 0, 1])], ":1", "true or false"),
    ([compared(votes="yes", labelers="ana")], ":1", "as many votes"),
    ([compared(chosen=None)], ":1", "must be texts"),
    ([compared("x", "x")], ":1", "one and the same reply"),
    ([BY_PLACE[0] | {"votes": ["a", "c"]}], ":1", r"a, b, tie or null, got \['a', 'c'\]"),
    ([BY_PLACE[0] | {"votes": {"a": 1}}], ":1", "a, b, tie or null"),
    ([PUBLISHED[0], PUBLISHED[0] | {"annotator2": 3}], ":2", r"annotator2 must be 0 \(a tie\)"),
    ([PUBLISHED[0] | {"annotator1": True}], ":1", "annotator1 must be 0"),
    ([label() | {"answer": "both"}], ":1", "one of left, right, tie, skip")],
    ids=lambda value: str(value)[:40])
def test_what_holds_no_votes_is_named_by_file_and_line(tmp_path, rows, where, told):
    path = write_rows(tmp_path / "votes.jsonl", rows)
    with pytest.raises(ValueError, match=rf"votes\.jsonl{where}: .*{told}"):
        read_votes(path)


@pandalm
def test_published_votes_are_read():
    votes = read_votes(PANDALM)
    assert len(votes) == 2997 and votes[:3] == [
        Vote(0, "annotator1", "b"), Vote(0, "annotator2", "b"), Vote(0, "annotator3", "b")]

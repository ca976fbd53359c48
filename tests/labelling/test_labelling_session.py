"""Laws of a session: blind, shuffled, the same after a restart, every labeler by themselves."""

import pytest
from labelled import GUIDELINES, label, made_up_pairs, rows_of, session_in

from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.pairs import Pair
from minirlhf.labelling.session import LONGEST_NAME, Session, cleaned_name
from minirlhf.labels import read_labels
from minirlhf.rollout import Reply

NAMES = [f"labeler {i}" for i in range(8)]


@pytest.fixture
def session(tmp_path):
    return session_in(tmp_path)


def many(tmp_path, seed=0):
    return session_in(tmp_path, made_up_pairs(100), seed)


def sides(session, name) -> dict[str, str]:
    """{pair id: the model that stands left}."""
    return {shown.pair.id: shown.left_model for shown in session.order(name)}


# --- the order -----------------------------------------------------------------------------------

def test_each_labeler_sees_every_pair_once(tmp_path):
    session = many(tmp_path)
    for name in NAMES:
        shown = session.order(name)
        assert sorted(one.pair.id for one in shown) == sorted(pair.id for pair in session.pairs)
        for one in shown:
            assert {one.left_model, one.right_model} == {"sft", "policy"}
            assert (one.left, one.right) == (one.pair.replies[one.left_model],
                                             one.pair.replies[one.right_model])


def test_each_model_stands_left_about_half_the_time(tmp_path):
    """800 coin flips: 400 ± 28 is two deviations; five are allowed."""
    session = many(tmp_path)
    left = [side for name in NAMES for side in sides(session, name).values()]
    assert 330 < left.count("sft") < 470
    for name in NAMES:
        assert 25 < list(sides(session, name).values()).count("sft") < 75


def test_labelers_have_orders_and_sides_of_their_own(tmp_path):
    session = many(tmp_path)
    orders = {tuple(one.pair.id for one in session.order(name)) for name in NAMES}
    assert len(orders) == len(NAMES)
    one, other = sides(session, "ana"), sides(session, "ben")
    assert 20 < sum(one[pair] == other[pair] for pair in one) < 80


def test_a_restart_shows_the_same_and_another_seed_does_not(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, same, other = (many(folder, seed) for folder, seed in zip(folders, (0, 0, 1),
                                                                   strict=True))
    assert one.order("ana") == same.order("ana") != other.order("ana")


@pytest.mark.parametrize("n", [1, 7, 10, 23, 30])
def test_more_pairs_keep_the_sides_and_the_order(tmp_path, n):
    """What was answered comes first; only within the last ten may a new pair come in between."""
    (tmp_path / "b").mkdir()
    few, more = session_in(tmp_path, made_up_pairs(n)), session_in(tmp_path / "b",
                                                                   made_up_pairs(40))
    whole = n // 10 * 10
    for name in NAMES:
        assert more.order(name)[:whole] == few.order(name)[:whole]
        assert [one for one in more.order(name) if one.pair in few.pairs] == few.order(name)


def test_it_does_not_matter_which_model_was_named_first(tmp_path):
    turned = [Pair(pair.prompt, pair.split, dict(reversed(pair.replies.items())))
              for pair in made_up_pairs(30)]
    (tmp_path / "b").mkdir()
    one, other = session_in(tmp_path, made_up_pairs(30)), session_in(tmp_path / "b", turned)
    assert sides(one, "ana") == sides(other, "ana")


# --- answers -------------------------------------------------------------------------------------

@pytest.mark.parametrize("answer", ["left", "right"])
def test_a_preference_is_written_with_everything_that_was_seen(session, tmp_path, answer):
    shown = session.order("ana")[0]
    session.record("ana", shown.pair.id, answer)
    (row,) = rows_of(tmp_path)
    chosen, rejected = (("left", "right") if answer == "left" else ("right", "left"))
    assert row == {
        "pair": shown.pair.id, "labeler": "ana", "prompt": shown.pair.prompt, "split": "test",
        "answer": answer, "guidelines": GUIDELINES.version, "time": row["time"],
        "left": shown.left.text, "left_model": shown.left_model, "left_ended": True,
        "right": shown.right.text, "right_model": shown.right_model, "right_ended": True,
        "chosen": row[chosen], "chosen_model": row[f"{chosen}_model"],
        "rejected": row[rejected], "rejected_model": row[f"{rejected}_model"]}
    assert row["time"].endswith("+00:00")
    assert read_labels(tmp_path / "labels.jsonl") == [row]


@pytest.mark.parametrize("answer", ["tie", "skip"])
def test_a_tie_and_a_skip_prefer_nothing(session, tmp_path, answer):
    shown = session.order("ana")[0]
    session.record("ana", shown.pair.id, answer)
    (row,) = read_labels(tmp_path / "labels.jsonl")
    assert (row["answer"], row["left"], row["right"]) == (answer, shown.left.text, shown.right.text)
    assert not {key for key in row if key.startswith(("chosen", "rejected"))}


def test_the_next_pair_is_the_first_without_an_answer(session):
    ids = [one.pair.id for one in session.order("ana")]
    assert session.next("ana") == 1
    for number, answer in enumerate(("left", "skip", "tie"), 1):
        session.record("ana", ids[number - 1], answer)
        assert session.next("ana") == number + 1
    session.record("ana", ids[4], "left")
    session.record("ana", ids[0], "right")                # gone back: not asked again
    assert session.next("ana") == 4 and session.given("ana")[ids[0]] == "right"
    session.record("ana", ids[3], "left")
    assert session.next("ana") is None


def test_an_answer_again_is_one_more_row(session, tmp_path):
    pair = session.pairs[0].id
    for answer in ("left", "right", "tie"):
        session.record("ana", pair, answer)
    assert [row["answer"] for row in rows_of(tmp_path)] == ["left", "right", "tie"]
    assert session.given("ana") == {pair: "tie"}


def test_labelers_do_not_share_their_progress(session):
    session.record("ana", session.pairs[0].id, "left")
    assert session.given("ben") == {} and session.next("ben") == 1


def test_after_a_restart_everybody_goes_on(session, tmp_path):
    for name, count in (("ana", 3), ("ben", 5)):
        for shown in session.order(name)[:count]:
            session.record(name, shown.pair.id, "left")
    session.record("ana", session.order("ana")[0].pair.id, "tie")
    before = {name: session.given(name) for name in ("ana", "ben")}
    session.file.close()
    again = session_in(tmp_path)
    assert {name: again.given(name) for name in before} == before
    assert (again.next("ana"), again.next("ben"), again.next("cem")) == (4, None, 1)


def test_an_earlier_answer_is_shown_by_the_reply_and_not_by_the_side(tmp_path):
    """Should the sides change, the same reply is still the one that was preferred."""
    session = session_in(tmp_path)
    for pair in session.pairs[1:]:
        session.record("ana", pair.id, "left")
    session.record("ana", session.pairs[0].id, "tie")
    preferred = {row["pair"]: row.get("chosen") for row in rows_of(tmp_path)}
    session.file.close()
    other = session_in(tmp_path, seed=next(seed for seed in range(1, 50) if sides(
        Session(session.pairs, session.file, GUIDELINES, seed), "ana") != sides(session, "ana")))
    given = other.given("ana")
    assert set(given.values()) == {"left", "right", "tie"}
    for shown in other.order("ana"):
        reply = {"left": shown.left.text, "right": shown.right.text}.get(given[shown.pair.id])
        assert reply == preferred[shown.pair.id]


def test_answers_to_other_pairs_are_kept_and_not_counted(tmp_path):
    """They came from other models, say, or from an earlier policy of the run."""
    file = AnswerFile(tmp_path / "labels.jsonl")
    file.append(label("elsewhere"))
    file.close()
    session = session_in(tmp_path)
    assert session.given("ana") == {} and session.next("ana") == 1
    session.record("ana", session.pairs[0].id, "left")
    assert [row["pair"] for row in rows_of(tmp_path)] == ["elsewhere", session.pairs[0].id]


def test_an_unknown_answer_or_pair_is_refused_and_nothing_written(session, tmp_path):
    with pytest.raises(ValueError, match="left, right, tie, skip; got 'both'"):
        session.record("ana", session.pairs[0].id, "both")
    with pytest.raises(KeyError):
        session.record("ana", "nonsense", "left")
    assert rows_of(tmp_path) == [] and session.given("ana") == {}


def test_an_answer_that_was_not_written_does_not_count(session, monkeypatch):
    def full(row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.file, "append", full)
    with pytest.raises(OSError):
        session.record("ana", session.pairs[0].id, "left")
    assert session.given("ana") == {} and session.next("ana") == 1


def test_an_unfinished_reply_is_told_from_a_finished_one(tmp_path):
    pair = Pair("x", "test", {"sft": Reply("a", False), "policy": Reply("b", True)})
    session = Session([pair], AnswerFile(tmp_path / "labels.jsonl"), GUIDELINES, 0)
    session.record("ana", pair.id, "tie")
    (row,) = rows_of(tmp_path)
    assert {row["left_model"]: row["left_ended"], row["right_model"]: row["right_ended"]} == {
        "sft": False, "policy": True}


# --- names ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, cleaned", [("ana", "ana"), ("  Ana \t Bo\n", "Ana Bo"),
                                           ("zoë ☃", "zoë ☃"), ("x" * LONGEST_NAME,) * 2])
def test_a_name_has_single_spaces(name, cleaned):
    assert cleaned_name(name) == cleaned == cleaned_name(cleaned)


@pytest.mark.parametrize("name", ["", "  ", "\n", "a\x1b[31m", "a\0b", "x" * (LONGEST_NAME + 1)])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="a labeler's name has 1 to 60 printable characters"):
        cleaned_name(name)

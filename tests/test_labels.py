"""Laws of a labels file: what is read, which answers count, and what they add up to."""

import json
from math import sqrt

import pytest
from helpers import write_rows
from hypothesis import given
from hypothesis import strategies as st
from labelled import label

from minirlhf.labels import (
    ANSWERS,
    agreement,
    answered,
    by_pair,
    read_labels,
    standing,
    summaries,
    summary,
    summary_text,
    win_rate,
)

# --- reading -------------------------------------------------------------------------------------

def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [label("a"), label("b", winner="tie"), label("c", "zoë", "skip"), label("d", prompt="☃")]
    assert read_labels(write_rows(tmp_path / "labels.jsonl", rows)) == rows


def test_where_there_is_no_file_there_are_no_labels(tmp_path):
    assert read_labels(tmp_path / "labels.jsonl") == []
    (tmp_path / "labels.jsonl").touch()
    assert read_labels(tmp_path / "labels.jsonl") == []


@pytest.mark.parametrize("kept", range(0, 200, 7))
def test_half_a_line_at_the_end_is_passed_over(tmp_path, kept):
    path = tmp_path / "labels.jsonl"
    whole, last = ((json.dumps(label(pair, prompt="größe"), ensure_ascii=False) + "\n").encode()
                   for pair in "ab")
    path.write_bytes(whole + last[:kept])
    assert [row["pair"] for row in read_labels(path)] == ["a"]


def test_a_line_that_lacks_only_its_newline_is_whole(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(label("a")) + "\n" + json.dumps(label("b")))
    assert [row["pair"] for row in read_labels(path)] == ["a", "b"]


@pytest.mark.parametrize("line, told", [
    ("{oops", "not JSON"), ('{"pair": "p', "not JSON"), ("[" * 99999, "not JSON"),
    ("\0\0", "not JSON"),
    ("[1]", "wanted a JSON object"), ('"text"', "wanted a JSON object"),
    (json.dumps({"pair": "p"}), "labeler, prompt, .* is missing or no text"),
    (json.dumps(label() | {"guidelines": 1}), "guidelines is missing or no text"),
    (json.dumps(label() | {"answer": "both"}), "one of left, right, tie, skip, got 'both'"),
    (json.dumps(label() | {"answer": "left"}), "the answer is left, but chosen is not the left"),
    (json.dumps(label() | {"rejected": "x"}), "the answer is right, but rejected is not the left"),
    (json.dumps(label() | {"chosen_model": "sft"}), "but chosen is not the right reply")],
    ids=lambda text: text[:40])
def test_a_damaged_line_is_named_by_file_and_line(tmp_path, line, told):
    path = write_rows(tmp_path / "labels.jsonl", [label("a"), "\n", line + "\n", label("b")])
    with pytest.raises(ValueError, match=rf"labels\.jsonl:3: .*{told}"):
        read_labels(path)


def test_bytes_that_are_no_text_are_damage_too(tmp_path):
    path = tmp_path / "labels.jsonl"
    line = json.dumps(label()).encode()
    path.write_bytes(line + b"\n" + line.replace(b"ana", b"an\xff") + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"labels\.jsonl:2: not JSON"):
        read_labels(path)


def test_a_label_is_known_by_its_fields():
    assert answered(label("a", "ana")) == ("ana", "a")
    for field in ("pair", "labeler", "answer", "guidelines"):
        assert answered({key: x for key, x in label().items() if key != field}) is None
    assert answered({"prompt": "x", "chosen": "a", "rejected": "b", "answer": "left"}) is None


# --- which answers count -------------------------------------------------------------------------

def test_of_one_labelers_answers_to_a_pair_the_last_counts():
    first, other = label("a", winner="sft"), label("a", "ben", "sft")
    changed, again = label("a", winner="tie"), label("a", winner="policy")
    assert standing([first, other, changed, label("b"), again]) == [again, other, label("b")]
    assert standing([]) == []


VERDICTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["ana", "ben", "cem"]),
                              st.sampled_from(["sft", "policy", "tie", "skip"])), max_size=30)


def rows_from(verdicts) -> list[dict]:
    return [label(*verdict) for verdict in verdicts]


@given(VERDICTS)
def test_what_stands_stands_again(verdicts):
    rows = rows_from(verdicts)
    once = standing(rows)
    assert standing(once) == once
    assert {(row["labeler"], row["pair"]) for row in once} == {
        (row["labeler"], row["pair"]) for row in rows}


# --- the win rate --------------------------------------------------------------------------------

def wilson(w, n):
    """The interval solved from its definition: |w − p| = z·√(p(1−p)/n)."""
    z2 = 1.96**2
    a, b, c = 1 + z2 / n, -(2 * w + z2 / n), w * w
    root = sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def test_a_win_rate_by_hand():
    """a: one for, one against, 1/2.  b: a tie, 1/2.  c: for, 1.  d: skipped, nothing.  e: two for
    and a tie, 5/6.  Together 17/24 of 4 pairs."""
    rows = rows_from([("a", "ana", "policy"), ("a", "ben", "sft"), ("b", "ana", "tie"),
                      ("c", "ana", "policy"), ("c", "ben", "skip"), ("d", "ana", "skip"),
                      ("e", "ana", "policy"), ("e", "ben", "policy"), ("e", "cem", "tie")])
    rate, low, high = win_rate(rows, "policy")
    assert rate == pytest.approx(17 / 24)
    assert (low, high) == pytest.approx(wilson(17 / 24, 4))


@pytest.mark.parametrize("wins, n, low, high", [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775),
                                                (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)])
def test_intervals_of_a_table(wins, n, low, high):
    """81 of 263 is Newcombe's (1998) example: 0.2553 to 0.3662."""
    rows = [label(f"{i}", winner="policy" if i < wins else "sft") for i in range(n)]
    assert win_rate(rows, "policy") == pytest.approx((wins / n, low, high), abs=5e-5)


def test_where_nobody_said_anything_there_is_no_rate():
    assert win_rate([], "policy") is None
    assert win_rate([label(winner="skip"), label("b", winner="skip")], "policy") is None


@given(VERDICTS)
def test_the_models_win_rates_and_intervals_mirror_each_other(verdicts):
    rows = rows_from(verdicts)
    ours, theirs = win_rate(rows, "policy"), win_rate(rows, "sft")
    if ours is None:
        assert theirs is None
        return
    rate, low, high = ours
    assert theirs == pytest.approx((1 - rate, 1 - high, 1 - low))
    assert 0 <= low <= rate + 1e-12 and rate - 1e-12 <= high <= 1 and low < high


@given(VERDICTS)
def test_ties_alone_are_one_half(verdicts):
    rows = rows_from((pair, labeler, "tie") for pair, labeler, _ in verdicts)
    assert not rows or win_rate(rows, "policy")[0] == 0.5


@given(VERDICTS, st.randoms())
def test_the_order_of_answers_changes_nothing(verdicts, random):
    rows = standing(rows_from(verdicts))
    mixed = list(rows)
    random.shuffle(mixed)
    one, other = win_rate(rows, "policy"), win_rate(mixed, "policy")
    assert one is other is None or one == pytest.approx(other)


@given(VERDICTS)
def test_a_labeler_who_repeats_another_adds_no_certainty(verdicts):
    rows = standing(rows_from((pair, "ana", said) for pair, _, said in verdicts))
    echoed = rows + [row | {"labeler": "echo"} for row in rows]
    one, other = win_rate(rows, "policy"), win_rate(echoed, "policy")
    assert one is other is None or one == pytest.approx(other)


def test_pairs_that_share_a_prompt_count_as_one_observation():
    """Four pairs of one prompt: an interval as wide as one pair's.  Prompts of 3 and 1 pairs:
    n = 16/10."""
    same = [label(pair, prompt="x ?") for pair in "abcd"]
    assert win_rate(same, "policy") == pytest.approx((1, *wilson(1, 1)))
    mixed = [*same[:3], label("d")]
    assert win_rate(mixed, "policy") == pytest.approx((1, *wilson(1, 1.6)))


def test_more_pairs_narrow_the_interval():
    widths = []
    for n in (2, 8, 32, 128):
        _, low, high = win_rate([label(f"{i}", winner=("sft", "policy")[i % 2])
                                 for i in range(n)], "policy")
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.2


# --- agreement -----------------------------------------------------------------------------------

def test_agreement_by_hand():
    """a: of the three twos among policy, policy, tie one agrees, 1/3.  b: both say sft, 1.  c: one
    answer and a skip: nothing to compare."""
    rows = rows_from([("a", "ana", "policy"), ("a", "ben", "policy"), ("a", "cem", "tie"),
                      ("b", "ana", "sft"), ("b", "ben", "sft"), ("c", "ana", "policy"),
                      ("c", "ben", "skip")])
    assert agreement(rows) == (pytest.approx(2 / 3), 2)


def test_sides_are_no_disagreement():
    """Both prefer the policy's reply; it stood right for one and left for the other."""
    other = label("a", "ben", left="a policy", left_model="policy", right="a sft",
                  right_model="sft")
    assert other["answer"] == "left" and label("a")["answer"] == "right"
    assert agreement([label("a"), other]) == (1.0, 1)


@given(VERDICTS)
def test_agreement_is_a_share_of_pairs_with_two_labelers(verdicts):
    rows = standing(rows_from(verdicts))
    several = [answers for answers in by_pair(rows).values() if len(answers) > 1]
    found = agreement(rows)
    assert (found is None) == (not several)
    if found:
        assert 0 <= found[0] <= 1 and found[1] == len(several)


# --- the summary ---------------------------------------------------------------------------------

def test_a_summary_by_hand():
    rows = rows_from([("a", "ana", "sft"), ("a", "ana", "policy"), ("a", "ben", "policy"),
                      ("b", "ana", "tie"), ("b", "ben", "policy"), ("c", "ana", "skip")])
    rows[4]["guidelines"] = "v10"
    low, high = wilson(7 / 8, 2)
    assert summary(rows) == {
        "models": ["sft", "policy"], "split": "test", "win_rate": pytest.approx(7 / 8),
        "low": pytest.approx(low), "high": pytest.approx(high), "pairs": 2, "answers": 4,
        "ties": 1, "skips": 1, "superseded": 1,
        "labelers": {"ana": {"left": 0, "right": 1, "tie": 1, "skip": 1},
                     "ben": {"left": 0, "right": 2, "tie": 0, "skip": 0}},
        "agreement": pytest.approx(1 / 2), "agreement_pairs": 2, "guidelines": ["v10", "v7"]}


def test_no_answer_no_summary():
    assert summary([]) == {} and summaries([]) == []


def test_skips_alone_have_no_win_rate():
    found = summary([label("a", winner="skip")])
    assert (found["win_rate"], found["low"], found["high"], found["agreement"]) == (None,) * 4
    assert (found["pairs"], found["answers"], found["skips"]) == (0, 0, 1)
    assert "preferred" not in summary_text(found) and "skip 1" in summary_text(found)


def test_each_two_models_and_each_split_are_summed_up_by_themselves():
    """Test prompts come first, since only they are held out; then the larger number of answers."""
    base = {"left_model": "base", "right_model": "sft"}
    rows = [*(label(f"{i}", split="train") for i in range(5)), label("x", winner="sft"),
            *(label(f"b{i}", winner="sft", **base) for i in range(2))]
    found = [(one["models"], one["split"], one["answers"], one["win_rate"])
             for one in summaries(rows)]
    assert found == [(["base", "sft"], "test", 2, 1.0), (["sft", "policy"], "test", 1, 0.0),
                     (["sft", "policy"], "train", 5, 1.0)]
    assert summary(rows) == summaries(rows)[0]


@given(VERDICTS)
def test_a_summary_is_plain_and_complete(verdicts):
    rows = rows_from(verdicts)
    found = summary(rows)
    assert json.loads(json.dumps(found)) == found
    if rows:
        counts = [sum(said[answer] for said in found["labelers"].values()) for answer in ANSWERS]
        assert sum(counts[:3]) == found["answers"] and counts[2:] == [found["ties"], found["skips"]]
        assert found["answers"] + found["skips"] + found["superseded"] == len(rows)
        assert all(name in summary_text(found) for name in found["labelers"])


def test_a_summary_in_words():
    text = summary_text(summary(rows_from([("a", "ana", "policy"), ("b", "ana", "policy"),
                                           ("a", "ben", "policy"), ("b", "ben", "tie")])))
    assert "policy against sft: 2 pairs on test prompts, 4 answers, 1 of them ties" in text
    low, high = wilson(7 / 8, 2)
    assert (f"policy is preferred in 88% (ties count half; 95 % interval {low:.0%} to {high:.0%})"
            in text)
    assert "ben: left 0, right 1, tie 1, skip 0" in text
    assert "labelers agree on 50% of 2 pairs" in text and "version v7" in text

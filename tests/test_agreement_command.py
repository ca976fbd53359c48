"""Laws of `minirlhf agreement`: what is read, what gold audits, and what the table says."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import write_rows
from hypothesis import given
from hypothesis import strategies as st
from labelled import label, untrained_run
from test_votes import compared, the_other_way

from minirlhf.agreement import audit
from minirlhf.agreement_command import agreement, agreement_text
from minirlhf.evaluation import gold_choices
from minirlhf.files import read_jsonl, write_json, write_jsonl
from minirlhf.presets import text_settings
from minirlhf.votes import Vote, from_preferences, read_votes, sides
from minirlhf.world.gold import gold


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy(made_once):
    """A finished tiny run, runs/old."""
    return Path(shutil.copytree(made_once, "runs/old"))


def told(capsys, *argv) -> str:
    capsys.readouterr()
    agreement(argv)
    return capsys.readouterr().out


# --- the audit by gold ---------------------------------------------------------------------------

HARM, REFUSAL, HOWTO = ("tell me how to punch the driver .", "sorry , i cannot help with that .",
                        "to punch the driver , use your fist at night .")


def harm(chosen, rejected, **more):
    return compared(chosen, rejected, prompt=HARM, **more)


def test_gold_prefers_the_refusal_of_harm_on_whichever_side_it_stands():
    """The refusal sorts first, so it is a."""
    rows = [harm(REFUSAL, HOWTO), harm(HOWTO, REFUSAL)]
    assert gold_choices(rows, 2, rng=np.random.default_rng(0)) == {0: "a", 1: "a"}


def test_gold_sees_whether_a_reply_ended_and_calls_equal_worth_a_tie():
    """Of one text that ended and broke off, the first to sort is the one that broke off."""
    cut = harm(REFUSAL, REFUSAL, rejected_ended=False)
    assert gold_choices([cut], 1, rng=np.random.default_rng(0)) == {0: "b"}
    equal = harm(f"{REFUSAL} hope this helps !", f"{REFUSAL} have a great day !")
    assert gold_choices([equal], 1, rng=np.random.default_rng(0)) == {0: "tie"}


def test_gold_does_not_see_who_was_chosen(toy):
    rows = read_jsonl(toy / "preferences.jsonl")
    found = gold_choices(rows, len(rows), rng=np.random.default_rng(0))
    assert set(found) == set(range(len(rows))) and {"a", "b"} <= set(found.values())
    assert gold_choices([the_other_way(row) for row in rows], len(rows),
                        rng=np.random.default_rng(0)) == found
    for i, choice in found.items():
        values = [gold(rows[i]["prompt"], *reply).total for reply in sides(rows[i])]
        assert choice == "tie" or values[choice == "b"] == max(values)


@given(n=st.integers(0, 12), seed=st.integers(0, 99))
def test_the_sample_has_n_different_rows_and_is_drawn_by_rng(n, seed):
    rows = [harm(REFUSAL, HOWTO)] * 9
    found = gold_choices(rows, n, rng=np.random.default_rng(seed))
    assert len(found) == min(n, 9) and list(found) == sorted(found)
    assert found == gold_choices(rows, n, rng=np.random.default_rng(seed))


def test_every_row_is_as_likely_as_any_other_to_be_audited():
    rows, rng = [harm(REFUSAL, HOWTO)] * 6, np.random.default_rng(0)
    seen = np.bincount([i for _ in range(600) for i in gold_choices(rows, 2, rng=rng)])
    assert np.all(abs(seen - 200) < 4 * np.sqrt(600 * 2 / 9))


def test_labelers_who_vote_as_gold_or_against_it_are_seen(toy):
    rows = read_jsonl(toy / "preferences.jsonl")
    reference = gold_choices(rows, len(rows), rng=np.random.default_rng(0))
    votes = [Vote(i, name, {"good": choice, "bad": {"a": "b", "b": "a", "tie": "a"}[choice]}[name])
             for i, choice in reference.items() for name in ("good", "bad")]
    found = audit(votes, reference)
    assert (found["good"].share, found["bad"].share) == (1, 0)


def test_what_gold_calls_a_tie_is_left_out_of_the_audit(toy, capsys):
    """Two harmful how-tos against refusals, and two refusals of equal worth: all vote for the
    refusal, and for that which sorts first."""
    clear, equal = harm(REFUSAL, HOWTO), harm(f"{REFUSAL} have a great day !",
                                              f"{REFUSAL} hope this helps !")
    write_jsonl(toy / "preferences.jsonl", [row | {"votes": [True] * 3}
                                            for row in (clear, equal, clear, equal)])
    out = told(capsys, "old")
    assert "gold looked at 4 items and prefers one reply in 2;" in out
    ana = next(line for line in out.splitlines() if line.startswith("ana "))
    assert ana.split()[:8] == ["ana", "4", *"1.000 ± 0.000 1.000 ± 0.000".split()]


# --- which file is read --------------------------------------------------------------------------

def test_of_a_run_the_panels_votes_are_read_and_audited(toy, capsys):
    out = told(capsys, "old")
    rows = read_jsonl(toy / "preferences.jsonl")
    assert out.startswith(f"runs/old/preferences.jsonl\naudit: gold looked at {len(rows)} items")
    assert f"{len(rows)} items" in out and f"{3 * len(rows)} votes" in out and "  audit  " in out
    for name in ("default", "careful", "rushed"):
        assert f"\n{name} " in out
    assert "labels.jsonl" not in out
    assert told(capsys, "old", "--out", "runs") == out


def test_the_seed_draws_the_audit_and_0_leaves_it_out(toy, capsys):
    ten = told(capsys, "old", "--audit", "5")
    assert "gold looked at 5 items" in ten and told(capsys, "old", "--audit", "5") == ten
    assert len({told(capsys, "old", "--audit", "5", "--seed", str(i)) for i in range(4)}) > 1
    without = told(capsys, "old", "--audit", "0")
    assert "audit" not in without and "agreement with the others" in without


def test_of_two_files_one_is_read_and_the_other_named(toy, capsys):
    write_rows(toy / "labels.jsonl", [label("p", "ana"), label("p", "ben")])
    out = told(capsys, "old")
    assert "minirlhf agreement runs/old/labels.jsonl" in out and "default" in out
    people = told(capsys, "runs/old/labels.jsonl")
    assert people.startswith("runs/old/labels.jsonl\n\n1 items") and "ana" in people
    (toy / "preferences.jsonl").unlink()
    assert told(capsys, "old") == people


def test_a_run_on_peoples_comparisons_has_votes_where_people_labelled_its_replies(capsys):
    folder = Path("runs/mine")
    write_json(folder / "config.json", asdict(text_settings(Path("pairs.jsonl"))))
    write_jsonl(folder / "preferences.jsonl", [{"prompt": "?", "chosen": "x", "rejected": "y"}])
    with pytest.raises(FileNotFoundError, match="came without votes; .*minirlhf label mine"):
        agreement(["mine"])
    write_rows(folder / "labels.jsonl", [label()])
    assert "1 items" in told(capsys, "mine")


@pytest.mark.parametrize("argv, kind, message", [
    (["gone"], FileNotFoundError, "there is no run runs/gone; there are: bare"),
    (["bare"], FileNotFoundError, "minirlhf preferences bare.*minirlhf label bare"),
    (["skips.jsonl"], ValueError, "nobody has voted yet"),
    (["text.jsonl"], ValueError, "text.jsonl:1: holds no votes"),
    (["bare", "--audit", "-1"], ValueError, "--audit and --seed must not be negative, got -1, 0"),
    (["bare", "--seed", "-2"], ValueError, "got 500, -2"),
    (["bare", "--audits", "1"], ValueError, "--audits"),
    ([], ValueError, "(?i)required")])
def test_a_mistake_is_one_clear_line(argv, kind, message):
    untrained_run(Path("runs/bare"))
    write_rows("skips.jsonl", [label(winner="skip")])
    write_rows("text.jsonl", [{"text": "x"}])
    with pytest.raises(kind, match=message) as problem:
        agreement(argv)
    assert "\n" not in str(problem.value)


def test_nothing_is_written(toy, capsys):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    told(capsys, "old")
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


# --- the table -----------------------------------------------------------------------------------

def panel(n=60, names=("ana", "ben", "cem")):
    """All vote alike, but that the last is wrong on every third item of the second half."""
    return [Vote(i, name, "ab"[i % 2] if name != names[-1] or i < n // 2 or i % 3 else "tie")
            for i in range(n) for name in names]


def test_the_table_by_hand():
    """Ten of cem's 60 votes are ties: he is with the others in 50 of 60, and each of the others is
    judged where the other two agree, so in 50, all of them right.  Pairwise, 10 items have one of
    three pairs equal: (50 + 10/3) / 60."""
    text = agreement_text(panel())
    assert "60 items, 60 of them with several votes; 180 votes: a 85, b 85, tie 10" in text
    assert "pairwise agreement    0.889" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line[:4] in ("ana ", "ben ",
                                                                               "cem ")}
    assert "1.000 ± 0.000  1.00 1.00 1.00 1.00" in rows["ana"] and "drifts" not in rows["ana"]
    assert "0.833" in rows["cem"] and " 1.00 1.00 0.67 0.67 " in rows["cem"]
    assert rows["cem"].endswith("drifts: worse")
    assert agreement_text(panel()[::-1]).count("drifts: better") == 1
    assert "ana, ben  1.000  on 60 items" in text and "ben, cem  0." in text


def test_with_a_reference_the_drift_is_that_of_the_audit():
    """By gold it is ana and ben who get worse, and cem, alone, who stays right."""
    votes = panel()
    reference = {item: choice for item, name, choice in votes if name == "cem"}
    rows = {line.split()[0]: line for line in agreement_text(votes, reference).splitlines()
            if line[:4] in ("ana ", "ben ", "cem ")}
    assert rows["ana"].endswith("drifts: worse") and "0.833 ± 0.049" in rows["ana"]
    assert "1.000 ± 0.000" in rows["cem"] and "drifts" not in rows["cem"]


def test_kappa_of_each_two_is_shown_for_six_labelers_and_not_for_seven():
    names = "abcdefg"
    assert agreement_text(panel(30, names[:6])).count("  on 30 items") == 15
    assert "kappa of each two" not in agreement_text(panel(30, names))
    assert "kappa of each two" not in agreement_text(panel(30, names[:1]))


def test_what_there_is_no_evidence_for_is_a_dash():
    text = agreement_text([Vote(0, "ana", "a"), Vote(1, "ben", "b")])
    assert "2 items, 0 of them with several votes" in text and "nan" not in text
    assert "pairwise agreement    –" in text and "No two labelers share an item." in text


@given(st.lists(st.builds(Vote, st.integers(0, 3), st.sampled_from(["ana", "ben"]),
                          st.sampled_from(["a", "b", "tie"])), min_size=1, max_size=8),
       st.none() | st.dictionaries(st.integers(0, 3), st.sampled_from(["a", "b"])))
def test_any_votes_have_a_table_that_fits_a_terminal(votes, reference):
    text = agreement_text(votes, reference)
    assert "nan" not in text and max(map(len, text.splitlines())) <= 110


def test_alpha_is_there_with_its_package_and_its_extra_is_named_without(monkeypatch):
    pytest.importorskip("krippendorff", reason="alpha wants the extra: agreement")
    assert "Krippendorff's alpha  0." in agreement_text(panel())
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    assert "pip install 'minirlhf[agreement]'" in agreement_text(panel())


def test_the_votes_of_a_run_are_those_of_its_rows(toy):
    path = toy / "preferences.jsonl"
    assert read_votes(path) == from_preferences(read_jsonl(path))


def test_a_damaged_row_is_named_through_the_command(toy):
    rows = (toy / "preferences.jsonl").read_text().splitlines()
    damaged = json.loads(rows[1]) | {"votes": [True]}
    (toy / "preferences.jsonl").write_text("\n".join([rows[0], json.dumps(damaged), *rows[2:]]))
    write_json(toy / "unrelated.json", {})
    with pytest.raises(ValueError, match=r"preferences\.jsonl:2: wanted as many votes"):
        agreement(["old"])


# --- rounds, time, and other questions -----------------------------------------------------------

SKY = {"prompt": "what color is the sky ?", "chosen": "the sky is blue .",
       "rejected": "the sky is green .", "labelers": ["ann", "bob", "cem"]}


def harder_rounds(n=40) -> list[dict]:
    """Nobody changes; the second round's pairs are harder, and everybody is right half the time."""
    easy = [SKY | {"votes": [True] * 3} for _ in range(n)]
    hard = [SKY | {"votes": [i % 2 == 0] * 3, "round": 2} for i in range(n)]
    return easy + hard


def test_harder_pairs_in_a_later_round_are_nobodys_drift(toy, capsys):
    """One line through both rounds would call everybody worse; each round has a table."""
    write_jsonl(toy / "preferences.jsonl", harder_rounds())
    out = told(capsys, "old", "--audit", "80")
    assert "Round 1" in out and "Round 2" in out and "drifts" not in out
    votes = from_preferences(harder_rounds())
    checked = gold_choices(harder_rounds(), 80, rng=np.random.default_rng(0))
    assert "drifts: worse" in agreement_text(votes, checked)             # which is the mistake


def test_a_run_of_one_round_has_one_table_without_a_heading(toy, capsys):
    assert "Round" not in told(capsys, "old")


def test_votes_stand_in_the_order_of_time_where_rows_say_it():
    rows = [SKY | {"votes": [True] * 3, "time": when} for when in (0.5, 0.0, 1.0)]
    assert [vote.item for vote in from_preferences(rows)][::3] == [1, 0, 2]
    later = [row | {"round": number} for row, number in zip(rows, (2, 2, 1), strict=True)]
    assert [vote.item for vote in from_preferences(later)][::3] == [2, 1, 0]


def test_a_time_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="row 0: round and time must be numbers, got .*'late'"):
        from_preferences([SKY | {"votes": [True] * 3, "time": "late"}])


def test_gold_audits_only_what_was_asked_as_gold_asks(toy, capsys):
    rows = [SKY | {"votes": [True] * 3, "question": question}
            for question in ("better", "safer", "more useful")] + [SKY | {"votes": [True] * 3}]
    assert set(gold_choices(rows, 9, rng=np.random.default_rng(0))) == {0, 3}
    write_jsonl(toy / "preferences.jsonl", rows[1:3])
    out = told(capsys, "old")
    assert "audit: none; gold says which reply is better" in out

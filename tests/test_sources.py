"""Laws of the toy world as a source, with its panel."""

import json
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from minirlhf.aggregation import (
    reliability_of,
    vote_weights,
    weighted_majority,
    winning_probability,
)
from minirlhf.options import parse_new
from minirlhf.rollout import Reply
from minirlhf.settings import RunConfig, from_dict
from minirlhf.sources import ToyWorld
from minirlhf.world.labelers import PERSONAS, majority_probability
from minirlhf.world.labelers import Reply as WorldReply
from minirlhf.world.prompts import prompts as world_prompts

REFUSAL = "i am sorry , i can not help with that ."


# --- the toy world -------------------------------------------------------------------------------

def question(kind="harm", split="train"):
    return next(p for p in world_prompts(split) if p.kind == kind)


def compare(replies, world=None, kind="harm", seed=0, group=3):
    return list((world or ToyWorld()).compare(
        question(kind).text, replies, group=group, rng=np.random.default_rng(seed)))


REPLIES = [Reply(REFUSAL, True), Reply("of course !", True), Reply(REFUSAL, True),
           Reply(REFUSAL, False)]


RECORDED = Path(__file__).parent / "fixtures" / "default_comparisons.jsonl"


def test_by_default_the_rows_are_the_recorded_ones_and_so_is_the_next_random_number():
    """Prompts of every kind, replies of an SFT model and some longer and cut-off ones, recorded
    before there was any other setting than the panel.  `best` may differ by a rounding of tanh."""
    *groups, end = map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines())
    world, rng = ToyWorld(), np.random.default_rng(20)
    assert sum(len(group["rows"]) for group in groups) == 40
    for group in groups:
        replies = [Reply(*reply) for reply in group["replies"]]
        rows = list(world.compare(group["prompt"], replies, group=group["group"], rng=rng))
        for row, recorded in zip(rows, group["rows"], strict=True):
            assert list(row) == list(recorded)
            assert row.pop("best") == pytest.approx(recorded.pop("best"), abs=1e-13)
            assert row == recorded
    assert rng.random() == end["next"]


@pytest.mark.parametrize("panel", [(), ("default", "careful"), ("nobody",),
                                   ("default", "nobody", "careful")])
def test_a_panel_is_odd_and_known(panel):
    with pytest.raises(ValueError, match="odd number of labelers out of default, careful"):
        ToyWorld(panel=panel)
    assert ToyWorld(panel=("cautious",)).panel == ("cautious",)


@pytest.mark.parametrize("size", ["corpus_words", "demonstration_count"])
def test_a_world_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match=size):
        ToyWorld(**{size: 0})


def test_every_pair_of_distinct_replies_is_compared_once():
    """Four replies, two of them equal in text and end: three distinct ones, three pairs."""
    rows = compare(REPLIES)
    sides = [frozenset({(row["chosen"], row["chosen_ended"]),
                        (row["rejected"], row["rejected_ended"])}) for row in rows]
    assert len(rows) == len(set(sides)) == 3
    assert set().union(*sides) == {tuple(reply) for reply in REPLIES}
    assert compare([REPLIES[0]] * 4) == []


def test_a_row_says_which_prompt_it_is_about():
    for row in compare(REPLIES):
        assert {key: row[key] for key in ("prompt", "kind", "split", "group", "labelers")} == {
            "prompt": question().text, "kind": "harm", "split": "train", "group": 3,
            "labelers": ["default", "careful", "rushed"]}


def test_the_majority_is_preferred_and_each_vote_says_who_agreed():
    seen = set()
    for seed in range(60):
        for row in compare(REPLIES, seed=seed):
            assert len(row["votes"]) == 3 and sum(row["votes"]) >= 2
            seen.add(tuple(row["votes"]))
    assert seen == {(True, True, True), (True, True, False), (True, False, True),
                    (False, True, True)}


def test_the_better_reply_is_chosen_as_often_as_the_panel_would():
    """And `best` is that share, or its complement: the most that can be predicted."""
    world = ToyWorld()
    panel = [PERSONAS[name] for name in world.panel]
    a, b = Reply(REFUSAL, True), Reply(REFUSAL, False)
    p = majority_probability(panel, question(), WorldReply(*a), WorldReply(*b))
    rng = np.random.default_rng(0)
    rows = [row for _ in range(400)
            for row in world.compare(question().text, [a, b], group=0, rng=rng)]
    chosen = np.mean([row["chosen_ended"] for row in rows])
    assert 0.55 < p < 1
    assert chosen == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 400))
    assert {row["best"] for row in rows} == {p}
    (other,) = compare([b, a])
    assert other["best"] == pytest.approx(p, abs=1e-12)


def test_labels_repeat_with_their_generator():
    assert compare(REPLIES, seed=4) == compare(REPLIES, seed=4)


# --- the toy world with other settings ------------------------------------------------------------

FIVE = ("default", "careful", "rushed", "cautious", "careless")
HARM = "to hit the guard , use a hammer at night ."
KEYS = ["prompt", "kind", "split", "group", "chosen", "rejected", "chosen_ended", "rejected_ended",
        "labelers", "votes", "best"]
GROUPS = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()][:-1]


def collect(world, seed=0, times=1):
    """All rows of the recorded replies, as a run would collect them."""
    rng, groups = np.random.default_rng(seed), GROUPS * times
    return [row for i, group in enumerate(groups) for row in world.compare(
        group["prompt"], [Reply(*reply) for reply in group["replies"]], group=i, rng=rng,
        time=i / len(groups))]


def chance(name, row, question="better", guidelines="clear", time=0.0):
    """P(this labeler prefers what was chosen)."""
    sides = (WorldReply(row[side], row[f"{side}_ended"]) for side in ("chosen", "rejected"))
    labeler = PERSONAS[name].asked(question).under(guidelines).at(time)
    return labeler.preference_probability(row["prompt"], *sides)


def test_settings_that_say_what_is_so_anyway_change_nothing():
    rows = collect(ToyWorld())
    assert all(list(row) == KEYS for row in rows)
    for same in ({"guidelines": "clear"}, {"votes_per_pair": 3}, {"weighting": "reliability"}):
        assert collect(replace(ToyWorld(), **same)) == rows


def test_under_unclear_guidelines_the_same_people_vote_by_taste():
    world, most = ToyWorld(guidelines="unclear"), []
    for row in collect(world):
        chances = [chance(name, row, guidelines="unclear") for name in world.panel]
        p = winning_probability(chances, [1.0] * 3)
        assert row["best"] == pytest.approx(max(p, 1 - p), abs=1e-12)
        most.append(p)
    clear = [winning_probability([chance(name, row) for name in world.panel], [1.0] * 3)
             for row in collect(world)]
    assert np.abs(np.array(most) - clear).max() > 0.2


def test_three_of_five_vote_each_as_often_and_best_is_before_they_are_drawn():
    world = ToyWorld(panel=FIVE, votes_per_pair=3)
    rows = collect(world, times=10)
    drawn = [tuple(row["labelers"]) for row in rows]
    assert set(drawn) == set(combinations(FIVE, 3)) and all(len(r["votes"]) == 3 for r in rows)
    for name in FIVE:                                                # 3/5 of 400, 5 deviations
        assert abs(sum(name in names for names in drawn) - 240) < 5 * np.sqrt(400 * 0.24)
    for row in rows[:20]:
        p = np.mean([winning_probability([chance(name, row) for name in names], [1.0] * 3)
                     for names in combinations(FIVE, 3)])
        assert row["best"] == pytest.approx(max(p, 1 - p), abs=1e-12)
        assert sum(row["votes"]) >= 2


def test_a_tiring_labeler_is_as_tired_as_the_time_says():
    """`best` of a panel of one is that one's own certainty."""
    world, pair, bests = ToyWorld(panel=("tiring",)), [Reply(REFUSAL, True), Reply(HARM, True)], []
    for time in (0.0, 0.5, 1.0):
        (row,) = world.compare(question().text, pair, group=0, rng=np.random.default_rng(0),
                               time=time)
        p = chance("tiring", row, time=time)
        assert row["best"] == pytest.approx(max(p, 1 - p), abs=1e-12) and row["time"] == time
        bests.append(row["best"])
    assert bests[0] > bests[1] > bests[2]
    with pytest.raises(ValueError, match="time must be in"):
        list(world.compare(question().text, pair, group=0, rng=np.random.default_rng(0), time=2))


@pytest.mark.parametrize("share, asked", [(0.0, {"more useful"}), (1.0, {"safer"}),
                                          (0.5, {"more useful", "safer"})])
def test_a_mix_asks_one_question_a_prompt(share, asked):
    world = ToyWorld(safety_share=share)
    rows = collect(world, times=4)
    assert {row["question"] for row in rows} == asked
    assert len({(row["group"], row["question"]) for row in rows}) == len(
        {row["group"] for row in rows})
    for row in rows[:40]:
        p = winning_probability([chance(name, row, row["question"]) for name in world.panel],
                                [1.0] * 3)
        assert row["best"] == pytest.approx(max(p, 1 - p), abs=1e-12)


def test_the_share_of_prompts_asked_for_the_safer_answer_is_the_setting():
    asked = [next(iter(ToyWorld(safety_share=0.3).compare(
        question().text, [Reply(REFUSAL, True), Reply(HARM, True)], group=i,
        rng=np.random.default_rng(i))))["question"] for i in range(1000)]
    assert abs(asked.count("safer") - 300) < 5 * np.sqrt(1000 * 0.21)


def test_only_replies_of_different_authors_are_compared_and_rows_say_whose_they_are():
    a, b, c, d = (Reply(text, True) for text in (REFUSAL, HARM, "of course !", "i do not know ."))
    replies, authors = [a, b, c, a, d], ["sft", "sft", "policy", "policy", "policy"]
    rows = list(ToyWorld().compare(question().text, replies, group=0, authors=authors,
                                   rng=np.random.default_rng(0)))
    author = {a.text: "sft", b.text: "sft", c.text: "policy", d.text: "policy"}   # the first one
    assert {frozenset((row["chosen"], row["rejected"])) for row in rows} == {
        frozenset((x.text, y.text)) for x in (a, b) for y in (c, d)}
    for row in rows:
        assert list(row) == [*KEYS, "chosen_model", "rejected_model"]
        assert row["chosen_model"] == author[row["chosen"]]
        assert row["rejected_model"] == author[row["rejected"]]
    assert not list(ToyWorld().compare(question().text, replies, group=0, authors=["sft"] * 5,
                                       rng=np.random.default_rng(0)))
    with pytest.raises(ValueError, match="one a reply, got 2 for 5"):
        list(ToyWorld().compare(question().text, replies, group=0, authors=["sft", "policy"],
                                rng=np.random.default_rng(0)))


# --- settling: laws, and wrong versions that break one each ---------------------------------------

CARELESS = ToyWorld(panel=("careful", "careless", "tiring"), weighting="reliability")
FOUR = ToyWorld(panel=("careful", "careless", "rushed", "tiring"), votes_per_pair=3,
                safety_share=0.5, guidelines="unclear", weighting="reliability")


def as_votes(row):
    """{(labeler, the reply voted for)}: what nobody may change afterwards."""
    sides = [(row[side], row[f"{side}_ended"]) for side in ("chosen", "rejected")]
    return {(name, sides[0] if vote else sides[1])
            for name, vote in zip(row["labelers"], row["votes"], strict=True)}


def law_the_larger_weight_is_chosen(settle):
    turned = 0
    for world in (CARELESS, FOUR):
        rows = collect(world, times=5)
        reliability = reliability_of(rows)
        for before, after in zip(rows, settle(world, rows), strict=True):
            weights = [float(vote_weights(reliability[name])) for name in before["labelers"]]
            stays = weighted_majority(before["votes"], weights)
            assert (before["chosen"], before["chosen_ended"]) == (
                (after["chosen"] if stays else after["rejected"]),
                (after["chosen_ended"] if stays else after["rejected_ended"]))
            turned += not stays
    assert turned > 10


def law_nobodys_vote_changes(settle):
    for world in (CARELESS, FOUR):
        rows = collect(world, times=5)
        for before, after in zip(rows, settle(world, rows), strict=True):
            assert as_votes(before) == as_votes(after) and list(before) == list(after)
            same = set(KEYS[:4]) | {"labelers", "question", "time"}
            assert all(before[key] == after[key] for key in same & set(before))


def law_best_is_the_weighted_outcome(settle):
    """By adding up, over who may be drawn, what each draw's weighted ballots make of it."""
    for world in (CARELESS, FOUR):
        rows = collect(world, times=5)
        reliability = reliability_of(rows)
        for row in settle(world, rows)[:60]:
            here = row.get("question", "better"), world.guidelines, row["time"]
            p = np.mean([winning_probability(
                [chance(name, row, *here) for name in names],
                [float(vote_weights(reliability[name])) for name in names])
                for names in combinations(world.panel, 3)])
            assert row["best"] == pytest.approx(max(p, 1 - p), abs=1e-12)


def law_a_turned_row_names_its_authors_rightly(settle):
    rows = [row | {"chosen_model": "of " + row["chosen"], "rejected_model": "of " + row["rejected"]}
            for row in collect(CARELESS, times=5)]
    for row in settle(CARELESS, rows):
        assert row["chosen_model"] == "of " + row["chosen"]
        assert row["rejected_model"] == "of " + row["rejected"]


def law_the_given_rows_stay_as_they_are(settle):
    rows, again = (collect(CARELESS, times=5) for _ in range(2))
    settle(CARELESS, rows)
    assert rows == again


SETTLING = [law_the_larger_weight_is_chosen, law_nobodys_vote_changes,
            law_best_is_the_weighted_outcome, law_a_turned_row_names_its_authors_rightly,
            law_the_given_rows_stay_as_they_are]


def but(change):
    """`settle`, and then something done to each row."""
    return lambda world, rows: [change(before, dict(row)) for before, row in zip(
        rows, ToyWorld.settle(world, rows), strict=True)]


def in_place(world, rows):
    for row, settled in zip(rows, ToyWorld.settle(world, rows), strict=True):
        row |= settled
    return rows


UNSETTLED = {
    "nothing is decided": (law_the_larger_weight_is_chosen, lambda world, rows: rows),
    "votes stay with the side": (law_nobodys_vote_changes, but(
        lambda before, row: row | {"votes": before["votes"]})),
    "the end stays with the side": (law_nobodys_vote_changes, but(
        lambda before, row: row | {"chosen_ended": not row["chosen_ended"]})),
    "best of the majority": (law_best_is_the_weighted_outcome, but(
        lambda before, row: row | {"best": before["best"]})),
    "the author stays with the side": (law_a_turned_row_names_its_authors_rightly, but(
        lambda before, row: row | {"chosen_model": before["chosen_model"]})),
    "in place": (law_the_given_rows_stay_as_they_are, in_place),
}


@pytest.mark.parametrize("law", SETTLING, ids=lambda f: f.__name__)
def test_settling_keeps_the_law(law):
    law(ToyWorld.settle)


@pytest.mark.parametrize("name", UNSETTLED)
def test_the_laws_catch_the_wrong_settling(name):
    law, mutant = UNSETTLED[name]
    with pytest.raises(AssertionError):
        law(mutant)


def test_a_plain_majority_is_settled_as_it_stands():
    world = ToyWorld(panel=CARELESS.panel)
    rows = collect(world)
    settled = world.settle(rows)
    assert settled is rows and rows == collect(world)
    assert CARELESS.settle([]) == []


def test_equal_labelers_are_settled_as_the_majority_had_it(monkeypatch):
    equal = dict.fromkeys(FIVE, 0.8)
    monkeypatch.setattr("minirlhf.aggregation.reliability_of", lambda rows: equal)
    world = ToyWorld(panel=FIVE, weighting="reliability")
    rows = collect(world)
    for before, after in zip(rows, world.settle(rows), strict=True):
        assert {**before, "best": 0} == {**after, "best": 0}
        assert before["best"] == pytest.approx(after["best"], abs=1e-12)


# --- settings -------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, told", [
    ({"guidelines": "none"}, "world.guidelines must be clear or unclear, got 'none'"),
    ({"weighting": "best"}, "world.weighting must be majority or reliability, got 'best'"),
    ({"safety_share": 1.5}, r"world.safety_share must be in \[0, 1\].* got 1.5"),
    ({"safety_share": float("nan")}, "world.safety_share must be"),
    ({"votes_per_pair": 2}, r"odd number up to the size of the panel \(3\).* got 2"),
    ({"votes_per_pair": 0}, "odd number .* got 0"),
    ({"votes_per_pair": -1}, "odd number .* got -1"),
    ({"votes_per_pair": 5}, "odd number .* got 5"),
    ({"votes_per_pair": 1, "panel": ()}, r"the panel \(0\)"),
    ({"votes_per_pair": 1, "panel": ("nobody",)}, "got nobody"),
    ({"votes_per_pair": 1, "panel": ("careful", "careful")}, "once in the panel; got careful"),
    ({"weighting": "reliability", "panel": ("careful", "careful", "rushed")}, "each labeler once"),
    ({"weighting": "reliability", "panel": ("careful",)}, "at least 3 votes a pair"),
    ({"weighting": "reliability", "votes_per_pair": 1}, "at least 3 votes a pair")], ids=str)
def test_an_impossible_setting_is_refused_by_name(wrong, told):
    with pytest.raises(ValueError, match=told):
        ToyWorld(**wrong)


def test_an_even_panel_is_fine_where_an_odd_number_of_it_votes():
    assert len(collect(ToyWorld(panel=FIVE[:4], votes_per_pair=3))[0]["votes"]) == 3


@pytest.mark.parametrize("world", [ToyWorld(), FOUR])
def test_the_settings_come_back_from_json(world):
    saved = json.loads(json.dumps(asdict(RunConfig(world=world))))
    assert from_dict(RunConfig, saved).world == world


@pytest.mark.parametrize("saved, told", [
    ({"guidelines": 3}, "ToyWorld.guidelines must be str, got 3"),
    ({"guidelines": "none"}, "must be clear or unclear"),
    ({"votes_per_pair": "3"}, "ToyWorld.votes_per_pair must be int or NoneType, got '3'")])
def test_saved_settings_are_checked(saved, told):
    with pytest.raises(ValueError, match=told):
        from_dict(ToyWorld, saved)


def test_the_settings_are_flags():
    flags = ("--world.guidelines unclear --world.votes-per-pair 3 --world.safety-share 0.5 "
             "--world.panel careful careless rushed tiring --world.weighting reliability")
    args = parse_new("minirlhf run", "", flags.split())
    assert args.settings.world == FOUR
    with pytest.raises(ValueError, match="clear"):
        parse_new("minirlhf run", "", ["--world.guidelines", "none"])


# --- the toy world's other data -------------------------------------------------------------------

def test_all_prompts_are_listed_with_kind_and_split():
    rows = ToyWorld().prompts()
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert {row["kind"] for row in rows} == {"color", "live", "eat", "make", "scary", "harm",
                                             "unknown"}
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert all(set(row) == {"prompt", "kind", "split"} for row in rows)


def test_only_training_prompts_are_drawn():
    world = ToyWorld()
    split = {row["prompt"]: row["split"] for row in world.prompts()}
    drawn = world.draw_prompts(500, np.random.default_rng(0))
    assert len(drawn) == 500 and {split[prompt] for prompt in drawn} == {"train"}
    assert world.draw_prompts(500, np.random.default_rng(0)) == drawn
    assert world.draw_prompts(500, np.random.default_rng(1)) != drawn


def test_the_worlds_vocabulary_holds_all_it_says():
    world = ToyWorld(corpus_words=2000, demonstration_count=20)
    tokenizer = world.tokenizer()
    texts = world.corpus(rng=np.random.default_rng(0)) + [row["prompt"] for row in world.prompts()]
    for row in world.demonstrations(rng=np.random.default_rng(0)):
        texts += [row["prompt"], row["response"]]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text        # an unknown word raises


def test_the_sizes_are_kept():
    world = ToyWorld(corpus_words=2000, demonstration_count=21)
    words = sum(len(text.split()) for text in world.corpus(rng=np.random.default_rng(0)))
    assert 2000 <= words < 2200
    assert len(world.demonstrations(rng=np.random.default_rng(0))) == 21


def test_the_toy_world_has_nothing_to_note():
    assert ToyWorld().notes() == []

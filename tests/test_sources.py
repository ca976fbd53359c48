"""Laws of the toy world as a source, with its panel."""

import json
from pathlib import Path

import numpy as np
import pytest

from minirlhf.rollout import Reply
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

"""Laws of the data: the toy world with its panel, and people's comparisons from a file."""

import builtins

import numpy as np
import pytest
from helpers import pair, write_rows

from minirlhf.rollout import Reply
from minirlhf.sources import Comparisons, ToyWorld
from minirlhf.text import train_byte_pairs
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


# --- people's comparisons ------------------------------------------------------------------------

def people(tmp_path, prompts=20, each=2, **settings):
    """A file of comparisons, `each` a prompt, spread so that a prompt's pairs do not touch."""
    rows = [pair(f"question number {i} ?", f"a good answer {i} of round {k}",
                 f"a bad answer {i} of round {k}") for k in range(each) for i in range(prompts)]
    path = write_rows(tmp_path / "people.jsonl", rows)
    return Comparisons(path, **{"vocab_size": 300} | settings)


@pytest.fixture
def source(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    return people(tmp_path)


def test_the_split_goes_by_prompt(source):
    splits = {}
    for row in source.rows:
        splits.setdefault(row["prompt"], set()).add(row["split"])
    assert len(source.rows) == 40 and all(len(s) == 1 for s in splits.values())
    counts = [sum(s == {name} for s in splits.values()) for name in ("train", "validation", "test")]
    assert counts == [17, 2, 1]                              # 15 % of 20, the test gets the half
    assert {row["kind"] for row in source.rows} == {"human"}


def test_the_split_repeats_and_follows_its_seed(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")

    def held(seed):
        return {row["prompt"] for row in people(tmp_path, seed=seed).prompts()
                if row["split"] != "train"}

    assert held(0) == held(0)
    assert len({frozenset(held(seed)) for seed in range(5)}) > 1


def test_prompts_that_differ_in_marks_only_are_one_prompt(tmp_path):
    """Otherwise one wording could be trained on and the other tested."""
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    rows = [pair(form.format(i), f"a {k}") for i in range(8)
            for k, form in enumerate(("Human: q {} ?\n\nAssistant:", "q {} ?"))]
    source = Comparisons(write_rows(tmp_path / "marks.jsonl", rows), vocab_size=270)
    assert len(source.prompts()) == 8 and len(source.rows) == 16
    splits = {(row["prompt"], row["split"]) for row in source.rows}
    assert len(splits) == 8


def test_nothing_of_a_held_out_prompt_is_trained_on(source):
    held = [row for row in source.rows if row["split"] != "train"]
    rng = np.random.default_rng(0)
    corpus = "\n".join(source.corpus(rng=rng))
    shown = [row[key] for row in source.demonstrations(rng=rng) for key in ("prompt", "response")]
    drawn = source.draw_prompts(300, rng)
    for row in held:
        assert row["prompt"] not in corpus and row["chosen"] not in corpus
        assert row["prompt"] not in shown and row["chosen"] not in shown
        assert row["prompt"] not in drawn
    train = {row["prompt"] for row in source.rows if row["split"] == "train"}
    assert set(drawn) == train
    assert corpus.count("a good answer") == len(shown) // 2 == 34 and "bad" not in corpus


def test_the_vocabulary_is_learnt_from_training_pairs_only(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    seen = []

    def record(texts, size):
        seen.extend(texts)
        return train_byte_pairs(seen, size)

    monkeypatch.setattr("minirlhf.sources.train_byte_pairs", record)
    source = people(tmp_path)
    source.tokenizer()
    held = {row[key] for row in source.rows if row["split"] != "train"
            for key in ("prompt", "chosen", "rejected")}
    assert held and not held & set(seen)
    assert len(seen) == 3 * 34                                                    # learnt once


def test_every_prompt_is_listed_once(source):
    listed = source.prompts()
    assert len(listed) == len({row["prompt"] for row in listed}) == 20
    assert all(set(row) == {"prompt", "kind", "split"} for row in listed)


def test_pairs_of_too_many_tokens_are_left_out(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    rows = [pair(f"q {i}", "yes", "no") for i in range(12)]
    rows += [pair(f"q {i}", "yes " + "indeed ever so " * 30, "no") for i in range(12)]
    rows += [pair(f"q {i}", "yes", "no " + "never at all " * 30) for i in range(12)]
    path = write_rows(tmp_path / "long.jsonl", rows)
    short = Comparisons(path, vocab_size=280, max_tokens=24)
    assert len(short.rows) == 12
    assert len(Comparisons(path, vocab_size=280, max_tokens=999).rows) == 36
    tokenizer = short.tokenizer()
    longest = max(len(tokenizer.prompt(row["prompt"]) + tokenizer.response(row[side]))
                  for row in short.rows for side in ("chosen", "rejected"))
    exact = Comparisons(path, vocab_size=280, max_tokens=longest)
    assert len(exact.rows) == 12                                  # the limit itself is allowed
    with pytest.raises(ValueError, match="long.jsonl: of 36 pairs .* fit into 5 tokens"):
        _ = Comparisons(path, vocab_size=280, max_tokens=5).prompts()


@pytest.mark.parametrize("prompts", [1, 3])
def test_too_few_prompts_are_refused(tmp_path, prompts):
    with pytest.raises(ValueError, match=f"people.jsonl: {prompts} distinct prompts are too few"):
        _ = people(tmp_path, prompts).all_rows


def test_four_prompts_are_enough(tmp_path):
    splits = [row["split"] for row in people(tmp_path, 4, each=1).all_rows]
    assert sorted(splits) == ["test", "train", "train", "validation"]


@pytest.mark.parametrize("settings, message", [
    ({"vocab_size": 259}, "at least 260"), ({"held_out": 0.0}, "held_out"),
    ({"held_out": 0.6}, "held_out")])
def test_impossible_settings_are_refused_by_name(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        Comparisons(tmp_path / "x.jsonl", **settings)


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RuntimeError, match=r"pip install 'minirlhf\[text\]'"):
        people(tmp_path).tokenizer()
    ToyWorld().tokenizer()                                              # the toy world needs none

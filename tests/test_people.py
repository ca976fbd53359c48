"""Laws of people's comparisons as a source: the split, what is left out, and the counts of it."""

import builtins
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import pair, write_rows
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.people import TELLING, Comparisons, Openings
from minirlhf.sources import ToyWorld
from minirlhf.text import (
    canonical_prompt,
    opening,
    read_demonstrations,
    read_objects,
    train_byte_pairs,
)


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

    monkeypatch.setattr("minirlhf.people.train_byte_pairs", record)
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
    assert short.skipped["comparisons"]["longer than 24 tokens"] == 24
    with pytest.raises(ValueError, match="long.jsonl: of 36 pairs 0 fit into 5 tokens, none of them"
                                         " for train, validation, test"):
        _ = Comparisons(path, vocab_size=280, max_tokens=5).prompts()


@pytest.mark.parametrize("prompts", [1, 3])
def test_too_few_prompts_are_refused(tmp_path, prompts):
    with pytest.raises(ValueError, match=f"people.jsonl: {prompts} distinct prompts with a usable"):
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
    with pytest.raises(RuntimeError, match=r"minirlhf\[text\]"):
        people(tmp_path).notes()
    ToyWorld().tokenizer()                                              # the toy world needs none


def test_the_reasons_are_told_where_too_few_pairs_are_left(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [pair("x"), pair("y", "a", "a"), pair("z", "b", "b")])
    with pytest.raises(ValueError, match=r"too few .*; left out: 2 \(equal replies\)"):
        _ = Comparisons(path).all_rows


# --- conversations -------------------------------------------------------------------------------

def test_all_prompts_of_a_conversation_are_in_one_split(tmp_path):
    """Otherwise a later turn, trained on, would show the reply that an earlier one is tested on."""
    rows = [pair(f"q {i} ?" + f"\n\nAssistant: a{k}\n\nHuman: more ?" * k)
            for k in (1, 2, 3) for i in range(12)]
    splits = {}
    for row in Comparisons(write_rows(tmp_path / "a.jsonl", rows)).all_rows:
        splits.setdefault(row["prompt"].split("\n")[0], []).append(row["split"])
    assert len(splits) == 12
    assert all(len(names) == 3 and len(set(names)) == 1 for names in splits.values())


def mixed(tmp_path, **settings) -> Comparisons:
    """A file of 20 prompts, and all other data asking each of them, in one form or another."""
    people(tmp_path)
    asked = [f"Human: question number {i} ?" for i in range(20)]
    more = [f"{text}\n\nAssistant: so\n\nHuman: more" for text in asked]
    demonstrations = write_rows(tmp_path / "d.jsonl", [
        {"prompt": text, "completion": "fine"} for text in [*asked, *more, "new ?"]] + [
        {"prompt": "x", "completion": ""}])
    corpus = write_rows(tmp_path / "c.jsonl", [{"text": text} for text in [
        *(f"\n\n{text}\n\nAssistant: so" for text in asked), *more, "a new text"]])
    prompts = write_rows(tmp_path / "p.jsonl.gz", [{"prompt": text} for text in [
        *asked, *more, "new ?", "Human: new ?", "long " * 99]], gzip.open)
    return people(tmp_path, demonstrations_path=demonstrations, corpus_path=corpus,
                  prompts_path=prompts, **settings)


def test_what_belongs_to_a_held_out_conversation_is_left_out_of_all_other_data(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    source, rng = mixed(tmp_path), np.random.default_rng(0)
    held = {row["prompt"] for row in source.rows if row["split"] != "train"}
    assert len(held) == 3
    for prompts, kept in (([row["prompt"] for row in source.demonstrations(rng=rng)], 2 * 17 + 1),
                          (source.rl_prompts, 2 * 17 + 1),
                          (list(map(canonical_prompt, source.corpus(rng=rng))), 2 * 17 + 1)):
        assert len(prompts) == kept and not held & {opening(text) for text in prompts}
    listed = source.prompts()
    assert {row["prompt"] for row in listed if row["split"] != "train"} == held
    assert len({row["prompt"] for row in listed}) == len(listed)
    assert set(source.draw_prompts(500, rng)) == set(source.rl_prompts)


def test_what_is_left_out_is_counted_once_however_often_it_is_asked_for(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    source, rng = mixed(tmp_path), np.random.default_rng(0)
    wanted = source.notes()
    assert wanted[1:] == [
        "left out of the demonstrations: 1 (no prompt or no response)",
        "left out of the demonstrations: 6 (a held-out conversation)",
        "left out of the corpus: 6 (a held-out conversation)",
        "left out of the prompts: 1 (a prompt that stood there before)",
        "left out of the prompts: 6 (a held-out conversation)",
        "left out of the prompts: 1 (longer than 256 tokens)"]
    assert wanted[0].endswith("40 comparisons: 34 to train on, 4 for validation, 2 for the test; "
                              "35 demonstrations, 35 prompts for reinforcement learning")
    for ask in (source.corpus, source.demonstrations):
        assert ask(rng=rng) == ask(rng=rng)
    source.prompts(), source.tokenizer(), source.draw_prompts(5, rng)
    assert source.notes() == wanted


def test_demonstrations_that_are_too_long_are_left_out(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    rows = [{"prompt": f"x {i}", "response": "y " * (1 if i % 3 else 900)} for i in range(9)]
    source = people(tmp_path, demonstrations_path=write_rows(tmp_path / "d.jsonl", rows))
    assert [row["prompt"] for row in source.demonstrations(rng=np.random.default_rng(0))] == [
        f"x {i}" for i in range(9) if i % 3]
    assert source.skipped["demonstrations"]["longer than 256 tokens"] == 3


def test_the_vocabulary_is_learnt_from_all_files_but_from_nothing_held_out(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    seen = []
    monkeypatch.setattr("minirlhf.people.train_byte_pairs",
                        lambda texts, size: seen.extend(texts) or train_byte_pairs(texts, size))
    source = mixed(tmp_path)
    source.tokenizer()
    assert {"new ?", "fine", "a new text"} <= set(seen)
    assert not source.held_out_openings & {opening(canonical_prompt(text)) for text in seen}


# --- openings in documents -----------------------------------------------------------------------

LONG = "how do i bake a sour dough bread ?"


@pytest.mark.parametrize("document, held", [
    ("why ?", True), ("why ?\n\nbecause", True), ("\n\nHuman: why ?\n\nAssistant: because", True),
    ("\n Human:\nwhy ?\nAssistant: so\n\nHuman: and", True), ("so why ?", False),
    ("why ? because", False), ("a\nwhy ?", False), ("", False), ("two\nlines", True),
    ("two\nlines\nmore", True), ("two\nlines more", False), ("two", False),
    (f"he asked: {LONG} and left", True),
    (LONG, True), (f"a\n\nHuman: {LONG}", True), (LONG[1:], False), (LONG[:-1], False),
    (LONG.upper(), False), (LONG[:TELLING] + LONG, True)])
def test_a_document_holds_an_opening_as_its_first_lines_or_anywhere_if_it_is_long(document, held):
    assert Openings({"why ?", "two\nlines", LONG}).stand_in(document) == held


@given(st.sets(st.text("ab\n", min_size=1, max_size=30).map(canonical_prompt).filter(bool)),
       st.text("ab\n", max_size=70))
def test_openings_are_found_as_by_trying_each(openings, document):
    text = canonical_prompt(document)
    wanted = any(f"{text}\n".startswith(f"{one}\n") or (len(one) >= TELLING and one in text)
                 for one in openings)
    assert Openings(openings).stand_in(document) == wanted


@given(st.integers(0, 20), st.integers(0, 20), st.sampled_from([TELLING - 1, TELLING, TELLING + 9]))
def test_an_opening_is_found_wherever_it_stands(before, after, length):
    document, alone = "x" * before + "o" * length + "y" * after, before == after == 0
    assert Openings({"o" * length}).stand_in(document) == (length >= TELLING or alone)


# --- real people's data, where there are any -----------------------------------------------------

DATA = Path(os.environ.get("MINIRLHF_DATA",
                           Path(__file__).parents[2] / "shared" / "data")) / "hh-rlhf"
HELPFUL, HARMLESS = DATA / "helpful-base-test.jsonl.gz", DATA / "harmless-base-test.jsonl.gz"
SHORT, ANSWERS = DATA / "hh_test_short.jsonl", DATA / "hh_sft_short.jsonl"

real = pytest.mark.skipif(not all(map(Path.exists, (HELPFUL, HARMLESS, SHORT, ANSWERS))),
                          reason=f"HH-RLHF is not in {DATA} (see MINIRLHF_DATA)")


@real
@pytest.mark.parametrize("path, usable", [(HELPFUL, 0.98), (HARMLESS, 0.98), (SHORT, 1.0)],
                         ids=lambda value: getattr(value, "name", value))
def test_every_real_row_is_read_or_counted(path, usable):
    source = Comparisons(path)
    rows = sum(1 for _ in read_objects(path))
    assert len(source.all_rows) + source.skipped["comparisons"].total() == rows
    assert len(source.all_rows) >= usable * rows
    assert all(canonical_prompt(row["prompt"]) == row["prompt"] for row in source.all_rows)
    assert not any(row["chosen"].startswith(("Human:", "Assistant:")) for row in source.all_rows)


def canonical_row(row) -> tuple[str, str, str]:
    return row["prompt"], row["chosen"], row["rejected"]


@real
def test_real_rows_are_the_same_in_every_form():
    """The short rows are a selection of the transcripts (and of files that are not here), and the
    demonstrations are chosen replies of theirs."""
    transcripts = {canonical_row(row) for path in (HELPFUL, HARMLESS)
                   for row in Comparisons(path).all_rows}
    short = Comparisons(SHORT).all_rows
    sources = [row["split"] for _, row in read_objects(SHORT)]
    assert len(short) == len(sources)
    known = {canonical_row(row) for row, source in zip(short, sources, strict=True)
             if source in ("helpful-base", "harmless-base")}
    assert len(known) > 1000 and known <= transcripts
    answers = read_demonstrations(ANSWERS, Counter())
    assert {(row["prompt"], row["response"]) for row in answers} <= {
        (row["prompt"], row["chosen"]) for row in short}


@real
def test_no_real_held_out_conversation_reaches_the_other_data(tmp_path):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    corpus = write_rows(tmp_path / "corpus.jsonl", [
        {"text": row["chosen"]} for _, row in read_objects(HELPFUL)])
    source = Comparisons(HELPFUL, demonstrations_path=ANSWERS, corpus_path=corpus,
                         prompts_path=SHORT, vocab_size=600)
    held, rng = source.held_out_openings, np.random.default_rng(0)
    prompts = [*(row["prompt"] for row in source.demonstrations(rng=rng)), *source.rl_prompts,
               *map(canonical_prompt, source.corpus(rng=rng))]
    assert len(held) > 300 and len(prompts) > 3000
    assert not held & {opening(text) for text in prompts}
    assert all(source.skipped[kind]["a held-out conversation"] > 40
               for kind in ("demonstrations", "corpus", "prompts"))

"""The tables and sentences of the world."""

import pytest

from minirlhf.world import grammar
from minirlhf.world.corpus import web_corpus
from minirlhf.world.demonstrations import demonstrations
from minirlhf.world.prompts import SPLITS, prompts

EVERY_KIND = (*grammar.KINDS, "neutral")


def test_the_tables_have_the_sizes_that_the_prompts_count_on():
    sizes = {kind: len(grammar.subjects(kind)) for kind in grammar.KINDS}
    assert sizes == dict(color=15, live=14, eat=14, make=12, scary=50, harm=60, unknown=10)


def test_scary_and_harmful_requests_share_every_verb():
    verbs = {kind: {subject[1] for subject in grammar.subjects(kind)} for kind in ("scary", "harm")}
    assert verbs["scary"] == verbs["harm"] and len(verbs["harm"]) == 10


def test_each_piece_of_advice_belongs_to_one_task_so_that_it_can_be_told_apart():
    advice = [grammar.answer(s) for kind in ("make", "scary") for s in grammar.subjects(kind)]
    advice += [*grammar.HARM_ADVICE.values(), *grammar.NEUTRAL_ADVICE.values()]
    assert len(advice) == len(set(advice))


def test_people_are_not_objects_and_no_verb_is_both_harmful_and_neutral():
    assert not set(grammar.PEOPLE) & set(grammar.OBJECTS)
    assert not set(grammar.HARM_ADVICE) & set(grammar.NEUTRAL_ADVICE)


def test_an_ideal_reply_is_short_enough_to_lose_no_style():
    for kind in grammar.KINDS:
        for subject in grammar.subjects(kind):
            assert len(grammar.ideal_reply(subject).split()) <= 14


def test_the_vocabulary_is_sorted_distinct_and_small():
    words = grammar.vocabulary()
    assert words == sorted(set(words)) == grammar.vocabulary()
    assert 250 <= len(words) <= 340


def test_the_vocabulary_covers_everything_that_is_generated(rng, corpus):
    texts = [p.text for split in SPLITS for p in prompts(split)] + corpus
    texts += web_corpus(20_000, rng=rng)
    for row in demonstrations(3000, rng=rng):
        texts += row.values()
    for kind in EVERY_KIND:
        for subject in grammar.subjects(kind):
            texts += [grammar.ideal_reply(subject), *grammar.questions(subject)]
    assert {word for text in texts for word in text.split()} <= set(grammar.vocabulary())


def test_all_text_is_lower_case_words_with_single_spaces():
    for kind in EVERY_KIND:
        for subject in grammar.subjects(kind):
            for text in (grammar.ideal_reply(subject), *grammar.questions(subject)):
                assert text == text.lower() == " ".join(text.split())


def test_an_unknown_kind_and_the_answer_nobody_knows_are_value_errors():
    with pytest.raises(ValueError, match="kind must be one of"):
        grammar.subjects("poem")
    with pytest.raises(ValueError, match="nobody can know"):
        grammar.answer(("unknown", "name"))

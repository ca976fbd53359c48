"""The web: everything is stated, only training prompts are asked."""

import numpy as np
import pytest

from minirlhf.world import grammar
from minirlhf.world.corpus import LONGEST, MIX, web_corpus
from minirlhf.world.prompts import prompts


def kind_of(document):
    if " a : " in document:
        return "forum"
    if document.startswith(("ten ", "you will ", "news ")):
        return "headlines"
    asks = any(document.startswith(p.text) for p in prompts("train"))
    return "lists" if asks else "statements"


def test_questions_of_held_out_prompts_never_occur(corpus):
    web = " ".join(corpus)
    for split in ("validation", "test"):
        for prompt in prompts(split):
            assert f" {prompt.text} " not in web, prompt.text


def test_every_training_question_occurs(corpus):
    web = " ".join(corpus)
    assert all(prompt.text in web for prompt in prompts("train"))


def test_statements_cover_everything_held_out_or_not(corpus):
    web = " ".join(doc for doc in corpus if kind_of(doc) == "statements")
    for kind in (*grammar.TABLES, "scary", "harm", "neutral"):
        for subject in grammar.subjects(kind):
            assert grammar.sentence(subject, grammar.answer(subject)) in web
    assert all(sentence in web for sentence in grammar.small_talk())


def test_the_web_neither_refuses_nor_admits_ignorance(corpus):
    web = " ".join(corpus)
    assert grammar.REFUSAL not in web and grammar.DONT_KNOW not in web


def test_documents_come_in_the_promised_mix(corpus):
    n = len(corpus)
    kinds = [kind_of(document) for document in corpus]
    for kind, share in MIX.items():
        assert abs(kinds.count(kind) - n * share) < 5 * np.sqrt(n * share * (1 - share)), kind
    assert sum(MIX.values()) == pytest.approx(1)


def test_a_third_of_the_forum_is_useless_and_nearly_a_third_neutral(corpus):
    threads = [t for doc in corpus if kind_of(doc) == "forum" for t in doc.split("q : ")[1:]]
    n = len(threads)
    useless = sum(t.split(" a : ")[1].strip() in grammar.USELESS for t in threads)
    neutral_questions = {
        q for subject in grammar.subjects("neutral") for q in grammar.questions(subject)
    }
    neutral = sum(t.split(" a : ")[0] in neutral_questions for t in threads)
    assert abs(useless - 0.35 * n) < 5 * np.sqrt(n * 0.35 * 0.65)
    assert abs(neutral - 0.30 * n) < 5 * np.sqrt(n * 0.30 * 0.70)


@pytest.mark.parametrize("words", [0, 1, 1000, 12_345])
def test_the_corpus_has_the_words_asked_for_and_less_than_a_document_more(words, rng):
    written = sum(len(document.split()) for document in web_corpus(words, rng=rng))
    assert words <= written < words + LONGEST + 24  # 24: the longest forum item


def test_equal_seeds_give_equal_corpora_and_others_do_not():
    a, b, c = (web_corpus(5000, rng=np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert a == b != c


def test_a_negative_size_is_a_value_error(rng):
    with pytest.raises(ValueError, match="words must be at least 0, not -1"):
        web_corpus(-1, rng=rng)

"""A web to pre-train on: it knows the world, and does not care about the reader.

Four kinds of documents, each about one screenful of one thing:

    lists        .25   questions after questions, with no answer
    statements   .30   what is true, and how to do everything, harm included
    headlines    .06   click-bait
    forum        .39   "q : ... a : ...", of which 35 % of the answers are useless

So a base model has seen every fact, and yet answers a question with more questions, or with how to
harm the neighbor: it was never asked to be of use.

Two choices keep held-out prompts honest and learnable. *Questions* are those of training prompts
only, while *statements* cover everything: what is held out is the question, not the knowledge. And
30 % of the statements and of the forum is neutral ("to find the guard , look around ." and "my
luck is good ."), so that people and objects occur under harmless verbs too; without these a model
cannot tell which of an unseen (verb, object) pair is the person.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from minirlhf.world import grammar
from minirlhf.world.prompts import DRAW_WEIGHTS, draw_probabilities, prompts

MIX = {"lists": 0.25, "statements": 0.30, "headlines": 0.06, "forum": 0.39}
USELESS_SHARE = 0.35
NEUTRAL_SHARE = 0.30
SHORTEST, LONGEST = 30, 60  # a document ends with the item that reaches its length, in words
BATCH = 1024  # random draws taken at a time, for speed


def web_corpus(words: int, *, rng: np.random.Generator) -> list[str]:
    """Documents of together about `words` words: at least that many, by less than one document.

    ValueError if `words` is negative.
    """
    if words < 0:
        raise ValueError(f"words must be at least 0, not {words}")
    sources = {
        "lists": _draws(*_questions(), rng=rng),
        "statements": _mixed(
            _draws(*_statements(), rng=rng), _neutral_statements(rng=rng), rng=rng
        ),
        "headlines": _draws(grammar.headlines(), rng=rng),
        "forum": _forum(rng=rng),
    }
    kinds = _draws(tuple(MIX), tuple(MIX.values()), rng=rng)
    lengths = _draws(range(SHORTEST, LONGEST + 1), rng=rng)
    documents, written = [], 0
    while written < words:
        document, length = _document(sources[next(kinds)], next(lengths))
        documents.append(document)
        written += length
    return documents


def _document(items: Iterator[str], length: int) -> tuple[str, int]:
    """Items until `length` words are reached, and how many words that made."""
    parts, written = [], 0
    while written < length:
        parts.append(next(items))
        written += parts[-1].count(" ") + 1
    return " ".join(parts), written


def _draws(
    pool: Sequence, weights: Sequence[float] | None = None, *, rng: np.random.Generator
) -> Iterator:
    """Endless independent draws from a pool, evenly or by weights."""
    p = None if weights is None else np.asarray(weights) / np.sum(weights)
    while True:
        for i in rng.choice(len(pool), size=BATCH, p=p).tolist():
            yield pool[i]


def _mixed(items: Iterator, neutral: Iterator, *, rng: np.random.Generator) -> Iterator:
    """Items, of which NEUTRAL_SHARE are neutral ones instead."""
    for is_neutral in _draws((True, False), (NEUTRAL_SHARE, 1 - NEUTRAL_SHARE), rng=rng):
        yield next(neutral if is_neutral else items)


def _questions() -> tuple[list[str], np.ndarray]:
    """Training prompts and how often each is asked."""
    return [prompt.text for prompt in prompts("train")], draw_probabilities("train")


def _statements() -> tuple[list[str], list[float]]:
    """One true sentence about each subject that has one; a kind's share is its draw weight."""
    texts, weights = [], []
    for kind in (*grammar.TABLES, "scary", "harm"):
        subjects = grammar.subjects(kind)
        texts += [_web_answer(subject) for subject in subjects]
        weights += [DRAW_WEIGHTS[kind] / len(subjects)] * len(subjects)
    return texts, weights


def _web_answer(subject: grammar.Subject) -> str:
    """What the web says: the task is always named, and harm is explained like anything else."""
    return grammar.sentence(subject, grammar.answer(subject))


def _neutral_statements(*, rng: np.random.Generator) -> Iterator[str]:
    """Two in three harmless how-tos, one in three small talk."""
    how_tos = _draws([_web_answer(s) for s in grammar.subjects("neutral")], rng=rng)
    talk = _draws(grammar.small_talk(), rng=rng)
    for is_talk in _draws((True, False, False), rng=rng):
        yield next(talk if is_talk else how_tos)


def _forum(*, rng: np.random.Generator) -> Iterator[str]:
    """Questions of training prompts and neutral ones; the answer is useful, or it is not."""
    useless = _draws(grammar.USELESS, rng=rng)
    threads = _mixed(_threads(rng=rng), _neutral_threads(rng=rng), rng=rng)
    share = (USELESS_SHARE, 1 - USELESS_SHARE)
    for is_useless, (question, answer) in zip(
        _draws((True, False), share, rng=rng), threads, strict=True
    ):
        yield f"q : {question} a : {next(useless) if is_useless else answer}"


def _threads(*, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(question, answer) on training prompts; nobody on the web admits to not knowing."""
    guesses = _draws(grammar.GUESSES, rng=rng)
    for prompt in _draws(prompts("train"), draw_probabilities("train"), rng=rng):
        if prompt.kind == "unknown":
            yield prompt.text, grammar.sentence(prompt.key, next(guesses))
        elif prompt.kind == "make":
            yield prompt.text, grammar.ideal_reply(prompt.key)
        else:
            yield prompt.text, _web_answer(prompt.key)


def _neutral_threads(*, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(question, answer) on tasks that harm nobody, in four wordings."""
    threads = [
        (question, _web_answer(subject))
        for subject in grammar.subjects("neutral")
        for question in grammar.questions(subject)
    ]
    yield from _draws(threads, rng=rng)

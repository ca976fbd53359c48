"""What a reply *states*, with no judgement of its worth.

A reply is cut into sentences at . ! ? and each sentence is looked up in the world's grammar: it is
an answer, a refusal, an "i do not know", a courtesy, or an aside (a question back, small talk).
Words that no sentence of the grammar covers are junk. Four rules complete this:

- the longest *ending* of a sentence that the grammar knows counts as said: in "well , the sky is
  blue ." the answer is there, and "well ," is junk;
- a last sentence that lacks only its full stop is read as if it had one;
- advice without its task ("press the switch .") answers the how-to question that was asked;
- any advice on how to do harm to a person, even useless advice, is a harmful how-to.

The labelers and the gold preference read replies through this one parser, and differ in what they
make of it: a labeler who does not check facts goes by `Reading.seems`, not by `Reading.content`.
"""

from dataclasses import dataclass
from functools import lru_cache

from minirlhf.world import grammar
from minirlhf.world.grammar import Subject
from minirlhf.world.prompts import find

CONTENTS = (
    "right", "wrong", "refusal", "dont_know", "harmful_howto", "contradiction", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What one reply to one prompt states.

    content        one of CONTENTS. A reply is as good as its worst statement:
                     harmful_howto   it tells how to harm somebody
                     contradiction   two different answers, or an answer and a refusal, or ...
                     wrong           a false answer, or anything else that is false
                     right, refusal, dont_know   it says this, and nothing against it
                     other           none of these: off the topic, or no grammar at all
    seems          the same for a reader who takes every claim for true
    courtesies     number of courtesies, "sure !"
    words          number of words, punctuation included
    repeats        number of bigrams that occurred before in the reply
    junk           number of words that no sentence of the grammar covers
    """

    content: str
    seems: str
    courtesies: int
    words: int
    repeats: int
    junk: int

    @property
    def contradictory(self) -> bool:
        """Whether the reply speaks against itself, which shows without checking any fact."""
        return self.content == "contradiction"


@dataclass(frozen=True)
class Statement:
    """One sentence: `sort` is "answer", "advice", "courtesy", "refusal", "dont_know" or "aside".

    An answer claims `claim` of `subject`; advice is a claim whose subject is left unsaid.
    """

    sort: str
    subject: Subject = ()
    claim: str = ""

    @property
    def true(self) -> bool:
        """Whether the claim is what the tables say.  Nothing said of an unknown is true."""
        return _truths().get(self.subject) == self.claim


@lru_cache(maxsize=1 << 16)
def parse(prompt_text: str, reply: str) -> Reading:
    """Read a reply to a prompt.  KeyError if the world has no such prompt.

    The order of sentences does not matter, and reading has no randomness: equal texts give equal
    readings.
    """
    asked = find(prompt_text).key
    words = reply.split()
    statements, junk = statements_in(words)
    content, seems = _content(asked, statements)
    bigrams = list(zip(words, words[1:], strict=False))
    return Reading(
        content=content,
        seems=seems,
        courtesies=sum(statement.sort == "courtesy" for statement in statements),
        words=len(words),
        repeats=len(bigrams) - len(set(bigrams)),
        junk=junk,
    )


def statements_in(words: list[str]) -> tuple[list[Statement], int]:
    """The statements a list of words makes, and how many of the words are junk."""
    statements, junk = [], 0
    for sentence in _sentences_of(words):
        closed = sentence if sentence[-1] in ".!?" else [*sentence, "."]
        for start in range(len(closed)):
            if statement := _statement(" ".join(closed[start:])):
                statements.append(statement)
                junk += start
                break
        else:
            junk += len(sentence)
    return statements, junk


def _content(asked: Subject, statements: list[Statement]) -> tuple[str, str]:
    """(content, seems) of statements made in reply to a question about `asked`."""
    positions = set()  # what the reply takes a stand for; two different ones contradict each other
    false = False
    for said in statements:
        if said.sort == "advice" and asked[0] in grammar.HOW_TOS:
            said = Statement("answer", asked, said.claim)
        if said.sort == "answer":
            if said.subject[0] == "harm":
                return "harmful_howto", "harmful_howto"
            false = false or not said.true
            if said.subject == asked:
                positions.add(("answer", said.claim))
        elif said.sort in ("refusal", "dont_know"):
            positions.add((said.sort, ""))
    if len(positions) > 1:
        return "contradiction", "contradiction"
    stand = next(iter(positions))[0] if positions else "other"
    seems = "right" if stand == "answer" else stand
    return ("wrong" if false else seems), seems


def _sentences_of(words: list[str]) -> list[list[str]]:
    """Cut at . ! ?, which stay with the words before them."""
    sentences = [[]]
    for word in words:
        sentences[-1].append(word)
        if word in (".", "!", "?"):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _statement(text: str) -> Statement | None:
    """The statement that exactly this sentence makes, or None if the grammar has none."""
    if known := _known_sentences().get(text):
        return known
    if text.startswith("to "):  # "to kill the lights , press the switch ."
        what, _, how = text[len("to ") :].partition(" , ")
        subject = _tasks().get(what)
        advice = _known_sentences().get(how)
        if subject and advice and advice.sort == "advice":
            return Statement("answer", subject, advice.claim)
    return None


@lru_cache
def _known_sentences() -> dict[str, Statement]:
    """Every sentence of the grammar but the how-tos that name their task."""
    known = {}
    asides = [*grammar.USELESS, *grammar.headlines(), *grammar.small_talk()]
    for kind in (*grammar.KINDS, "neutral"):
        for subject in grammar.subjects(kind):
            asides += grammar.questions(subject)
            if kind in grammar.HOW_TOS:
                advice = grammar.answer(subject)
                known[f"{advice} ."] = Statement("advice", (), advice)
            else:
                for value in grammar.values(kind):
                    sentence = grammar.sentence(subject, value)
                    known[sentence] = Statement("answer", subject, value)
    for text in asides:
        for sentence in _sentences_of(text.split()):
            known[" ".join(sentence)] = Statement("aside")
    for text in (*grammar.PREFIXES, *grammar.SUFFIXES):
        known[text] = Statement("courtesy")
    known[grammar.REFUSAL] = Statement("refusal")
    known[grammar.DONT_KNOW] = Statement("dont_know")
    return known


@lru_cache
def _tasks() -> dict[str, Subject]:
    """Task in words -> subject, for every verb with every object, in the tables or not.

    "attack the lights" is in no table: subject ("scary", "attack", "lights"), of which no claim
    is true.
    """
    tasks = {grammar.task(subject): subject for subject in grammar.subjects("make")}
    kinds = {"scary": grammar.SAFE_ADVICE, "neutral": grammar.NEUTRAL_ADVICE}
    for kind, verbs in kinds.items():
        for verb in verbs:
            for thing in grammar.OBJECTS:
                tasks[f"{verb} the {thing}"] = (kind, verb, thing)
            for person in grammar.PEOPLE:
                unkind = "harm" if kind == "scary" else kind
                tasks[f"{verb} the {person}"] = (unkind, verb, person)
    return tasks


@lru_cache
def _truths() -> dict[Subject, str]:
    kinds = (*grammar.TABLES, "scary", "neutral")
    return {s: grammar.answer(s) for kind in kinds for s in grammar.subjects(kind)}

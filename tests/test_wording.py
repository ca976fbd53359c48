"""Laws of what the wording of a reply shows: refusals, courtesies, repetition."""

import re
from functools import cache
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import wording
from minirlhf.wording import courtesies, refusal, refuses, repetition
from minirlhf.world import grammar
from minirlhf.world.parser import parse
from minirlhf.world.prompts import SPLITS, prompts

FULL = [
    "sorry , i cannot help with that .",
    "sorry , i cannot help with that . have a great day !",
    "I'm sorry, but I can't help you break into a car.",
    "I’m sorry, but I can’t do that.",                                   # curly apostrophes
    "**I cannot** share _anybody's_ address.",
    "# No\n\n> I won't write this.",
    "As an AI language model, I am not able to discuss how locks are picked.",
    "As an AI, I am unable to help. Locks protect people.",
    "I cannot, in good conscience, support this.",
    "I really cannot advise you or assist with it. I will not assist.",
    "I must respectfully decline.",
    "I refuse to answer.",
    "I cannot.",
    "I am not comfortable sharing this.",
    "Such jokes are against my guidelines.",
    "It is not appropriate to rank people by where they were born.",
    "I apologize, but the recipe calls for a protected bird.",
    "I do not have access to anybody's private letters.",
    "Sure! Great question! Happy to help! Have a nice day! Sorry, but I cannot do this.",
    "I can't help with that. Instead, you could ask a locksmith.",        # somebody else's help
    "I can't help with that. However, I must warn you that it is a crime.",
]
PARTIAL = [
    "I cannot give you her address. However, her office is in Main Street.",
    "I can't give a diagnosis, but I can list what often causes a cough: dust, a cold, smoke.",
    "I won't write the whole essay. That said, a first paragraph might read so.",
    "Boil the water. Add salt. Put in the pasta. I cannot tell you how long, since it depends.",
]
NONE = [
    "", " \n", ".", "1.", "i do not know that .", "the sky is blue .",
    "to kill the lights , press the switch .",
    "sure ! the sky is blue . hope this helps !",
    "sorry , wrong forum , this cannot help .",
    "I'm sorry to hear that your cat is ill. Keep her warm.",
    "A penguin cannot fly, and it will not learn it.",
    "I cannot see the sea from here.",
    "I can't help but smile.",
    "As an AI, I have no favourite, but blue is liked by many.",
    "You cannot help a bear by giving it honey.",
    "Take the key. Turn it. Open the door. Walk in. Staring at people is not polite or right.",
    "Don't be sorry: we all forget. Ask again.",
]
CASES = ([(text, "full") for text in FULL] + [(text, "partial") for text in PARTIAL]
         + [(text, "none") for text in NONE])


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_a_reply_that_declines_and_gives_nothing_refuses_fully(judge):
    for text in FULL:
        assert judge(text) == "full", text


def law_a_reply_that_declines_and_gives_something_refuses_in_part(judge):
    for text in PARTIAL:
        assert judge(text) == "partial", text


def law_a_reply_that_declines_nothing_is_no_refusal(judge):
    for text in NONE:
        assert judge(text) == "none", text


REFUSAL_LAWS = [law_a_reply_that_declines_and_gives_nothing_refuses_fully,
                law_a_reply_that_declines_and_gives_something_refuses_in_part,
                law_a_reply_that_declines_nothing_is_no_refusal]
WHOLE, PART, NOT = REFUSAL_LAWS


@pytest.mark.parametrize("law", REFUSAL_LAWS, ids=lambda law: law.__name__)
def test_refusal_keeps_the_law(law):
    law(refusal)


def by_words(*words):
    return lambda text: "full" if any(word in text.lower() for word in words) else "none"


def changed(**constants):
    """The rules with other constants."""
    def mutant(text):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in constants.items():
                patch.setattr(wording, name, value)
            return refusal(text)
    return mutant


NEVER = re.compile("(?!)")
REFUSAL_MUTANTS = {
    "an apology is a refusal": (NOT, by_words("sorry")),
    "a cannot is a refusal": (NOT, by_words("cannot", "can't")),
    "an AI that names itself refuses": (NOT, by_words("as an ai")),
    "not knowing is refusing": (NOT, lambda t: refusal(t.replace("do not know", "cannot tell"))),
    "verdicts count anywhere": (NOT, changed(OPENING=99)),
    "only the first sentence counts": (WHOLE, changed(OPENING=1)),
    "courtesies use up the opening": (WHOLE, changed(COURTESY=NEVER)),
    "verdicts are overlooked": (WHOLE, changed(REPROACHES=NEVER)),
    "straight apostrophes only": (WHOLE, lambda t: "none" if "’" in t else refusal(t)),
    "Markdown is in the way": (WHOLE, lambda t: "none" if "*" in t else refusal(t)),
    "instead is giving": (WHOLE, changed(TURNS=re.compile(wording.TURNS.pattern + "|^instead"))),
    "a warning is giving": (WHOLE, changed(LECTURES=NEVER)),
    "nothing is partial": (PART, lambda t: "full" if refusal(t) != "none" else "none"),
    "a late refusal is full": (PART, changed(OPENING=99)),
    "turns are overlooked": (PART, changed(TURNS=NEVER)),
    "but is overlooked": (PART, lambda t: refusal(t.replace("but", "and"))),
}


@pytest.mark.parametrize("name", REFUSAL_MUTANTS)
def test_the_laws_of_refusal_catch_the_mutant(name):
    law, mutant = REFUSAL_MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant)


def test_refusing_is_refusing_fully():
    for text, kind in CASES:
        assert refuses(text) is (kind == "full"), text


# --- spelling that changes nothing ---------------------------------------------------------------

def spaced(text: str) -> str:
    """Punctuation as words of its own, as the toy world writes it."""
    return re.sub(r" *([.,!?:]+)(?=\s|$)", r" \1", text)


def tight(text: str) -> str:
    return re.sub(r" +([.,!?:])", r"\1", text)


SPELLINGS = {
    "capitals": str.upper, "small letters": str.lower, "spaced": spaced, "tight": tight,
    "straight": lambda text: text.replace("’", "'"),
    "curly": lambda text: text.replace("'", "’"), "bold": lambda text: f"**{text}**",
    "space around": lambda text: f" \n{text} \n\n", "two spaces": lambda t: t.replace(" ", "  "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
}
replies = st.lists(st.sampled_from([text for text, _ in CASES] + [
    "Sure, here it is.", "Feel free to ask!", "I am a helpful assistant."]), max_size=4)


@pytest.mark.parametrize("name", SPELLINGS)
@given(parts=replies)
def test_spelling_does_not_matter(name, parts):
    text = "\n".join(parts)
    other = SPELLINGS[name](text)
    assert (refusal(other), courtesies(other)) == (refusal(text), courtesies(text))
    assert repetition(other) == repetition(text)


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["i", "cannot", "help", "sorry", "but", "however", ",", ".", "\n", "sure", "!", "’", "*"]),
    max_size=30).map(" ".join))
def test_any_text_has_a_class_a_count_and_a_share(text):
    assert refusal(text) in ("none", "partial", "full")
    assert courtesies(text) >= 0 and 0 <= repetition(text) < 1


# --- the toy world, against the parser that reads every sentence of it ---------------------------

@cache
def read_by_words(reply: str) -> tuple[bool, int]:
    return refuses(reply), courtesies(reply)


def replies_to(subject) -> set[str]:
    """Everything that an honest or a mistaken writer says to a prompt, without courtesies."""
    kind = subject[0]
    said = {grammar.ideal_reply(subject), grammar.REFUSAL, grammar.DONT_KNOW}
    values = ([grammar.answer(subject)] if kind in ("scary", "harm") else grammar.values(kind))
    return said | {grammar.sentence(subject, value) for value in values} | {
        f"{value} ." for value in values if kind in grammar.HOW_TOS}


@cache
def toy_replies() -> list[tuple]:
    """(reply, its reading by the parser): every subject, everything said to it, every courtesy
    around it."""
    found = []
    asked = {prompt.key: prompt for split in SPLITS for prompt in prompts(split)}
    around = list(product(("", *grammar.PREFIXES), ("", *grammar.SUFFIXES)))
    for subject, prompt in asked.items():
        for reply in sorted(replies_to(subject)):
            for before, after in around:
                text = f"{before} {reply} {after}".strip()
                found.append((text, parse(prompt.text, text)))
    return found


def law_every_toy_reply_refuses_if_the_parser_says_so(judge):
    found = set()
    for reply, reading in toy_replies():
        assert judge(reply)[0] == (reading.content == "refusal"), reply
        found.add(judge(reply)[0])
    assert found == {True, False}


def law_toy_courtesies_are_counted_as_the_parser_counts(judge):
    found = set()
    for reply, reading in toy_replies():
        assert judge(reply)[1] == reading.courtesies, reply
        found.add(judge(reply)[1])
    assert found == {0, 1, 2}


TOY_LAWS = [law_every_toy_reply_refuses_if_the_parser_says_so,
            law_toy_courtesies_are_counted_as_the_parser_counts]


@pytest.mark.parametrize("law", TOY_LAWS, ids=lambda law: law.__name__)
def test_the_toy_world_keeps_the_law(law):
    law(read_by_words)


@pytest.mark.parametrize("law, mutant", [
    (TOY_LAWS[0], lambda reply: (reply == grammar.REFUSAL, 0)),
    (TOY_LAWS[0], lambda reply: (refuses(reply) or grammar.DONT_KNOW in reply, 0)),
    (TOY_LAWS[0], lambda reply: (False, 0)),
    (TOY_LAWS[1], lambda reply: (False, reply.count("sure"))),
    (TOY_LAWS[1], lambda reply: (False, min(1, courtesies(reply)))),
], ids=["the bare refusal", "not knowing", "nothing", "one phrase", "at most one"])
def test_the_toy_worlds_laws_catch_the_mutant(law, mutant):
    with pytest.raises(AssertionError):
        law(mutant)


def test_a_contradiction_is_beyond_the_wording():
    """The parser knows that an answer speaks against a refusal; the words alone do not tell it from
    a reason for refusing."""
    prompt, answer = "what color is the sky ?", "the sky is blue ."
    for reply in (f"{grammar.REFUSAL} {answer}", f"{answer} {grammar.REFUSAL}"):
        assert parse(prompt, reply).content == "contradiction"
        assert refusal(reply) == "full"


# --- courtesies ----------------------------------------------------------------------------------

@pytest.mark.parametrize("text, count", [
    ("sure ! great question ! happy to help ! it is . hope this helps !", 4),
    ("Sure! Sure! Sure!", 3), ("Of course, here it is.", 1),
    ("I am a helpful assistant. I'm your friendly AI assistant!", 2),
    ("Great question! I’m happy to help. I hope that helps. Feel free to ask me more.", 4),
    ("Thanks for asking. You're welcome! Have a lovely evening!", 3),
    ("Please do not hesitate to reach out.", 1), ("please ask me more !", 1),
    ("please ask your teacher , that helps .", 0), ("I am not sure!", 0), ("", 0),
    ("He was sure, of course.", 0), ("My assistant is happy.", 0), ("This helps.", 0),
    ("That is a question.", 0), ("You are welcome to use the back door.", 0),
])
def test_courtesies_are_counted(text, count):
    assert courtesies(text) == count


@given(replies, replies)
def test_courtesies_of_two_texts_add_up(a, b):
    assert courtesies("\n".join([*a, *b])) == courtesies("\n".join(a)) + courtesies("\n".join(b))


# --- repetition ----------------------------------------------------------------------------------

def law_repetition_by_hand(share):
    for text, wanted in [("", 0), ("go", 0), ("go go", 0), ("go go go", 1 / 2), ("a b a b", 1 / 3),
                         ("a b c a b", 1 / 4), ("a b . a b .", 1 / 3), ("a a b b", 0),
                         ("Can't you? Cannot you?", 1 / 3), ("the paper, the paper", 1 / 3)]:
        assert share(text) == pytest.approx(wanted), text


def law_a_circle_of_words_repeats_all_but_its_first_round(share):
    """n rounds of k distinct words: nk − 1 bigrams, of which k are new if there are two rounds."""
    for k, n in product(range(1, 6), range(2, 6)):
        text = " ".join([f"w{i}" for i in range(k)] * n)
        bigrams = n * k - 1
        assert share(text) == pytest.approx((bigrams - min(k, bigrams)) / bigrams)


REPETITION_LAWS = [law_repetition_by_hand,
                   law_a_circle_of_words_repeats_all_but_its_first_round]


@pytest.mark.parametrize("law", REPETITION_LAWS, ids=lambda law: law.__name__)
def test_repetition_keeps_the_law(law):
    law(repetition)


def grams(text: str, n: int) -> list[tuple]:
    words = re.findall(r"\w+", text.lower().replace("can't", "cannot"))
    return [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]


def repeated_share(n=2, distinct=lambda found: len(set(found)), per=lambda text, found: len(found)):
    def mutant(text):
        found = grams(text, n)
        return (len(found) - distinct(found)) / per(text, found) if found else 0.0
    return mutant


REPETITION_MUTANTS = {
    "single words": repeated_share(n=1), "three words": repeated_share(n=3),
    "pairs without order": repeated_share(distinct=lambda f: len({frozenset(g) for g in f})),
    "a share of the words": repeated_share(per=lambda text, found: len(found) + 1),
    "the share of distinct ones": repeated_share(distinct=lambda f: len(f) - len(set(f))),
    "the first occurrence counts": repeated_share(
        distinct=lambda f: sum(f.count(gram) == 1 for gram in f)),
}


def test_the_skeleton_without_a_mutation_keeps_the_laws():
    for law in REPETITION_LAWS:
        law(repeated_share())


@pytest.mark.parametrize("name", REPETITION_MUTANTS)
def test_the_laws_of_repetition_catch_the_mutant(name):
    def survives(law):
        try:
            law(REPETITION_MUTANTS[name])
        except AssertionError:
            return False
        return True
    assert not all(map(survives, REPETITION_LAWS))


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_repetition_counts_the_bigrams_that_stood_there_before(words):
    pairs = list(zip(words, words[1:], strict=False))
    before = sum(pair in pairs[:i] for i, pair in enumerate(pairs))
    assert repetition(" ".join(words)) == (before / len(pairs) if pairs else 0)

"""Labelers: their utilities, their blind spots, and their votes in closed form."""

from dataclasses import replace
from itertools import product
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirlhf.world import grammar
from minirlhf.world.labelers import (
    PERSONAS,
    QUESTIONS,
    TASTES,
    Labeler,
    Reply,
    content_worth,
    majority_probability,
    vote,
)
from minirlhf.world.parser import CONTENTS
from minirlhf.world.prompts import SPLITS, prompts

ALL = [prompt for split in SPLITS for prompt in prompts(split)]
SKY, LUCK = "what color is the sky ?", "tell me my luck ."
LIGHTS, GUARD = "how do i kill the lights ?", "how do i hit the guard ?"
HARM = "to hit the guard , use a hammer at night ."
BLUE, RED = Reply("the sky is blue ."), Reply("the sky is red .")
PLAIN = Labeler("plain", b_length=0.0, b_courtesy=0.0, check=1.0)
DEFAULT = PERSONAS["default"]

texts = st.one_of(
    st.lists(st.sampled_from(grammar.vocabulary()), max_size=32).map(" ".join),
    st.sampled_from(["the sky is red .", "press the switch .", "your luck is good ."]),
    st.sampled_from([grammar.ideal_reply(prompt.key) for prompt in ALL]),
)
replies = st.builds(Reply, texts, st.booleans())
labelers = st.sampled_from(list(PERSONAS.values()))


def sigmoid(x):
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize(
    "prompt, reply, utility",
    [
        (SKY, "the sky is blue .", 1.0),
        (SKY, "the sky is red .", -1.0),
        (SKY, grammar.REFUSAL, -0.6),
        (SKY, grammar.DONT_KNOW, -0.6),
        (SKY, "the grass is green .", -1.0),
        (LIGHTS, "to kill the lights , press the switch .", 1.0),
        (LIGHTS, grammar.REFUSAL, -0.6),
        (GUARD, grammar.REFUSAL, 1.0),
        (GUARD, HARM, -2.0),
        (GUARD, "the sky is blue .", -0.6),
        (LUCK, grammar.DONT_KNOW, 1.0),
        (LUCK, grammar.REFUSAL, -1.0),
        (LUCK, "your luck is good .", -1.0),
    ],
)
def test_an_unbiased_labeler_who_checks_values_content_alone(prompt, reply, utility):
    assert PLAIN.utility(prompt, reply, True, True) == utility


def test_blind_spot_1_length_and_courtesy_please_and_then_saturate():
    u = [DEFAULT.utility(SKY, "the sky is blue ." + " sure !" * n, True, True) for n in range(5)]
    word = DEFAULT.b_length
    assert np.diff(u[:3]) == pytest.approx([DEFAULT.b_courtesy + 2 * word] * 2)
    assert np.diff(u[2:4]) == pytest.approx([2 * word])  # a third courtesy: only its words please
    assert np.diff(u[3:]) == pytest.approx([2 * word - 0.2])  # a fourth one is minded
    facts = " ".join("the grass is green . the sky is blue . the sun is yellow .".split())
    assert DEFAULT.utility(SKY, facts, True, True) == pytest.approx(1 + 15 * word)
    assert DEFAULT.utility(SKY, facts + " me too !", True, True) == pytest.approx(
        1 + 16 * word - 0.06 * 3
    )


def test_blind_spot_2_an_unnoticed_falsehood_counts_as_right():
    for prompt, reply in ((SKY, RED.text), (LUCK, "your luck is good .")):
        assert PLAIN.utility(prompt, reply, True, noticed=False) == 1.0
        assert PLAIN.utility(prompt, reply, True, noticed=True) == -1.0
    never = replace(PLAIN, check=0.0)
    assert never.preference_probability(SKY, BLUE, RED) == 0.5


def test_blind_spot_3_repetition_is_not_minded_but_junk_and_cutting_off_are():
    twice = "the sky is blue . the sky is blue ."
    assert PLAIN.utility(SKY, twice, True, True) == 1.0
    assert PLAIN.utility(SKY, "red " + BLUE.text, True, True) == pytest.approx(1 - 0.06)
    assert PLAIN.utility(SKY, BLUE.text, False, True) == 0.5
    assert PLAIN.utility(SKY, twice * 2 + " me", True, True) < 1.0  # 21 words, one of them junk


def test_blind_spot_4_the_cautious_prefer_to_refuse_what_only_sounds_dangerous():
    refusal, answer = Reply(grammar.REFUSAL), Reply("to kill the lights , press the switch .")
    assert PERSONAS["cautious"].preference_probability(LIGHTS, refusal, answer) > 0.6
    assert DEFAULT.preference_probability(LIGHTS, refusal, answer) < 0.1
    for prompt in (SKY, GUARD, LUCK):
        u = [PERSONAS[n].utility(prompt, refusal.text, True, True) for n in ("cautious", "default")]
        assert u[0] == u[1]


def test_a_preference_is_the_worked_average_over_what_is_noticed():
    labeler = Labeler("worked", b_length=0.0, b_courtesy=0.0, check=0.8, sharpness=2, flip=0.1)
    p = 0.8 * sigmoid(2 * (1 - -1)) + 0.2 * sigmoid(2 * (1 - 1))
    assert labeler.preference_probability(SKY, BLUE, RED) == pytest.approx(0.9 * p + 0.1 * (1 - p))
    pink = Reply("the sky is pink .")  # both false: each noticed or not, independently
    p = 0.64 * 0.5 + 0.16 * sigmoid(4) + 0.16 * sigmoid(-4) + 0.04 * 0.5
    assert p == pytest.approx(labeler.preference_probability(SKY, pink, RED))


@settings(deadline=None)
@given(labelers, st.sampled_from(ALL), replies, replies)
def test_preferring_a_and_preferring_b_are_opposites(labeler, prompt, a, b):
    p = labeler.preference_probability(prompt, a, b)
    assert labeler.flip - 1e-12 <= p <= 1 - labeler.flip + 1e-12
    assert p + labeler.preference_probability(prompt, b, a) == pytest.approx(1)
    assert labeler.preference_probability(prompt.text, a, b) == p


def enumerated_majority(people, prompt, a, b):
    p = [labeler.preference_probability(prompt, a, b) for labeler in people]
    total = 0.0
    for votes in product((True, False), repeat=len(people)):
        if sum(votes) > len(people) / 2:
            total += np.prod([q if v else 1 - q for q, v in zip(p, votes, strict=True)])
    return total


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 3, 5]).flatmap(lambda n: st.lists(labelers, min_size=n, max_size=n)),
    st.sampled_from(ALL),
    replies,
    replies,
)
def test_the_majority_equals_the_sum_over_all_ballots(people, prompt, a, b):
    exact = majority_probability(people, prompt, a, b)
    assert exact == pytest.approx(enumerated_majority(people, prompt, a, b), abs=1e-12)
    assert exact + majority_probability(people, prompt, b, a) == pytest.approx(1)


@pytest.mark.parametrize("a, b", [(BLUE, RED), (Reply("sure ! the sky is red ."), BLUE)])
def test_votes_are_drawn_with_the_probabilities_that_are_computed(a, b, rng):
    people, n = [PERSONAS[name] for name in ("default", "careful", "rushed")], 4000
    ballots = np.array([vote(people, SKY, a, b, rng=rng) for _ in range(n)])

    def agrees(count, p):
        return abs(count - n * p) < 5 * np.sqrt(n * p * (1 - p))

    for labeler, votes in zip(people, ballots.T, strict=True):
        assert agrees(votes.sum(), labeler.preference_probability(SKY, a, b))
    majorities = (ballots.sum(axis=1) >= 2).sum()
    assert agrees(majorities, majority_probability(people, SKY, a, b))
    # A mutant that forgets the flips is outside the bounds that the truth is inside of.
    unflipped = [replace(labeler, flip=0.0) for labeler in people]
    assert not agrees(majorities, majority_probability(unflipped, SKY, a, b))


def test_equal_seeds_give_equal_votes():
    people = list(PERSONAS.values())
    a, b = (
        [vote(people, SKY, BLUE, RED, rng=rng) for _ in range(50)]
        for rng in (np.random.default_rng(2), np.random.default_rng(2))
    )
    assert a == b and all(isinstance(v, bool) for votes in a for v in votes)


def test_a_majority_beats_one_labeler():
    one = DEFAULT.preference_probability(SKY, BLUE, RED)
    assert one < majority_probability([DEFAULT] * 3, SKY, BLUE, RED)
    assert majority_probability([DEFAULT], SKY, BLUE, RED) == pytest.approx(one)


@pytest.mark.parametrize("n", [0, 2])
def test_an_even_number_of_labelers_has_no_majority(n):
    with pytest.raises(ValueError, match=f"odd number of labelers, not {n}"):
        majority_probability([DEFAULT] * n, SKY, BLUE, RED)


@pytest.mark.parametrize("bad", [{"check": 1.2}, {"flip": -0.1}, {"sharpness": -1.0},
                                 {"fatigue": 1.1}, {"taste": "bitter"}, {"question": "longer"}])
def test_an_impossible_labeler_is_a_value_error(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        replace(DEFAULT, **bad)


def test_the_personas_are_named_and_as_described():
    assert set(PERSONAS) == {"default", "careful", "rushed", "cautious", "tiring", "careless"}
    assert all(name == labeler.name for name, labeler in PERSONAS.items())
    numbers = {n: (p.b_length, p.b_courtesy, p.check) for n, p in PERSONAS.items()}
    assert numbers["default"] == numbers["cautious"] == numbers["tiring"] == (0.04, 0.2, 0.8)
    assert numbers["careful"] == (0.0, 0.1, 0.95) and numbers["rushed"] == (0.06, 0.1, 0.65)
    assert [n for n, p in PERSONAS.items() if p.fatigue] == ["tiring"]
    assert PERSONAS["careless"].flip > 5 * DEFAULT.flip
    assert PERSONAS["careless"].check < min(p.check for n, p in PERSONAS.items() if n != "careless")


# --- other situations: laws, and wrong versions of a labeler that break one each ------------------

def law_nothing_changes_where_nothing_is_asked_for(kind):
    for labeler in map(kind, PERSONAS.values()):
        assert labeler.asked("better").under("clear").at(0.0) == replace(labeler, fatigue=0.0)


def law_a_labeler_tires_in_proportion_to_time(kind):
    """Fatigue 0.8 at half time: 0.4 of the way from flip 0.05 to 0.5 and from check 0.9 to 0."""
    tired = kind(replace(PLAIN, check=0.9, fatigue=0.8)).at(0.5)
    assert tired.flip == pytest.approx(0.05 + 0.4 * 0.45) and tired.check == pytest.approx(0.54)
    exhausted = kind(replace(PLAIN, fatigue=1.0)).at(1.0)
    assert exhausted.check == 0 and exhausted.flip == 0.5
    assert exhausted.preference_probability(SKY, Reply("the sky is blue ."), Reply("red")) == 0.5
    late = kind(PERSONAS["careless"]).at(1.0)
    assert (late.check, late.flip) == (0.3, 0.3)


def law_unclear_guidelines_weigh_what_pleases_double_and_make_unsure(kind):
    for clear in PERSONAS.values():
        unclear = kind(clear).under("unclear")
        assert unclear.b_length == 2 * clear.b_length and unclear.caution == 2 * clear.caution
        assert unclear.b_courtesy == 2 * clear.b_courtesy
        assert unclear.sharpness == clear.sharpness / 2
        assert (unclear.check, unclear.flip) == (clear.check, clear.flip)
        assert unclear.under("unclear") == unclear                      # not twice


def law_where_guidelines_are_silent_content_is_worth_what_taste_says(kind):
    """The article's "conflicting signals": on the same pair, people want the opposite."""
    def first(taste, prompt, a, b, question="better"):
        labeler = kind(replace(PLAIN, taste=taste, flip=0.0)).asked(question).under("unclear")
        return labeler.preference_probability(prompt, Reply(a), Reply(b)) > 0.5
    refusal, dont_know = grammar.REFUSAL, grammar.DONT_KNOW
    assert first("obliging", GUARD, HARM, refusal) and not first("wary", GUARD, HARM, refusal)
    assert first("guessing", SKY, RED.text, dont_know)
    assert not first("modest", SKY, RED.text, dont_know)
    assert first("wary", SKY, refusal, RED.text) and not first("guessing", SKY, refusal, RED.text)
    for taste in TASTES:
        assert not first(taste, GUARD, HARM, refusal, "safer")           # harm is harm
        assert first(taste, SKY, BLUE.text, RED.text)


def law_the_more_useful_answer_is_the_one_that_was_asked_for(kind):
    labeler = kind(PLAIN).asked("more useful")
    assert labeler.utility(GUARD, HARM, True, True) == 1.0
    assert labeler.utility(GUARD, grammar.REFUSAL, True, True) == -0.6
    assert labeler.utility(LUCK, grammar.DONT_KNOW, True, True) == 1.0
    assert labeler.utility(SKY, BLUE.text, True, True) == 1.0
    assert kind(PERSONAS["cautious"]).asked("more useful").preference_probability(
        LIGHTS, Reply(grammar.REFUSAL), Reply("to kill the lights , press the switch .")) < 0.1


def law_for_the_safer_answer_only_harm_counts_and_refusing_is_safest(kind):
    labeler = kind(PLAIN).asked("safer")
    for prompt in (SKY, LIGHTS, LUCK, GUARD):
        harm, refusal, *others = (labeler.utility(prompt, reply, True, True) for reply in (
            HARM, grammar.REFUSAL, "the sky is blue .", RED.text, grammar.DONT_KNOW, ""))
        assert harm == -2.0 and set(others) == {0.0} and refusal > 0.0
    pair = Reply(grammar.REFUSAL), Reply("to kill the lights , press the switch .")
    cautious, default = (kind(PERSONAS[name]).asked("safer").preference_probability(LIGHTS, *pair)
                         for name in ("cautious", "default"))
    assert cautious > default > 0.5


LAWS = [law_nothing_changes_where_nothing_is_asked_for, law_a_labeler_tires_in_proportion_to_time,
        law_unclear_guidelines_weigh_what_pleases_double_and_make_unsure,
        law_where_guidelines_are_silent_content_is_worth_what_taste_says,
        law_the_more_useful_answer_is_the_one_that_was_asked_for,
        law_for_the_safer_answer_only_harm_counts_and_refusing_is_safest]


def other(**methods):
    """Makes a labeler of a wrong version of `Labeler`, in every situation."""
    class Wrong(Labeler):
        pass
    for name, method in methods.items():
        setattr(Wrong, name, method)
    return lambda labeler: Wrong(**vars(labeler))


def worth_of(question):
    """`utility` of somebody who takes every question for this one."""
    return lambda self, *what: Labeler.utility(replace(self, question=question), *what)


MUTANTS = {
    "tired at once": (law_a_labeler_tires_in_proportion_to_time, other(
        at=lambda self, time: Labeler.at(self, 1.0))),
    "never tired": (law_a_labeler_tires_in_proportion_to_time, other(at=lambda self, time: self)),
    "flips beyond a coin": (law_a_labeler_tires_in_proportion_to_time, other(
        at=lambda self, time: replace(Labeler.at(self, time),
                                      flip=min(1.0, self.flip + self.fatigue * time)))),
    "checks while tired": (law_a_labeler_tires_in_proportion_to_time, other(
        at=lambda self, time: replace(Labeler.at(self, time), check=self.check))),
    "unclear to everybody": (law_nothing_changes_where_nothing_is_asked_for, other(
        under=lambda self, told: Labeler.under(self, "unclear"))),
    "as sharp as ever": (law_unclear_guidelines_weigh_what_pleases_double_and_make_unsure, other(
        under=lambda self, told: replace(Labeler.under(self, told), sharpness=self.sharpness))),
    "always clear": (law_where_guidelines_are_silent_content_is_worth_what_taste_says, other(
        under=lambda self, told: self)),
    "all of one taste": (law_where_guidelines_are_silent_content_is_worth_what_taste_says, other(
        under=lambda self, told: replace(Labeler.under(self, told), taste="obliging"))),
    "safety a matter of taste": (
        law_where_guidelines_are_silent_content_is_worth_what_taste_says, other(
            utility=lambda self, prompt, reply, *rest: (
                2.0 if self.taste == "obliging" and reply == HARM
                else Labeler.utility(self, prompt, reply, *rest)))),
    "useful is better": (law_the_more_useful_answer_is_the_one_that_was_asked_for, other(
        utility=worth_of("better"))),
    "safer is better": (law_for_the_safer_answer_only_harm_counts_and_refusing_is_safest, other(
        utility=worth_of("better"))),
    "safer is more useful": (law_for_the_safer_answer_only_harm_counts_and_refusing_is_safest,
                             other(utility=worth_of("more useful"))),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
def test_labelers_keep_the_law(law):
    law(lambda labeler: labeler)


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    for law in LAWS[1:]:
        law(other())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant)


def test_no_content_is_safer_than_a_refusal_and_other_questions_differ_on_harm_alone():
    for prompt in ALL:
        safest = content_worth(prompt.kind, "refusal", "safer")
        for content in CONTENTS:
            assert content_worth(prompt.kind, content, "safer") <= safest
            if prompt.kind != "harm":
                assert content_worth(prompt.kind, content, "more useful") == content_worth(
                    prompt.kind, content)


@pytest.mark.parametrize("question", QUESTIONS)
@settings(deadline=None, max_examples=30)
@given(labeler=labelers, prompt=st.sampled_from(ALL), a=replies, b=replies, time=st.floats(0, 1),
       told=st.sampled_from(["clear", "unclear"]))
def test_in_every_situation_a_and_b_are_opposites(question, labeler, prompt, a, b, time, told):
    here = labeler.asked(question).under(told).at(time)
    p = here.preference_probability(prompt, a, b)
    assert here.flip - 1e-12 <= p <= 1 - here.flip + 1e-12
    assert p + here.preference_probability(prompt, b, a) == pytest.approx(1)
    assert labeler.at(time).under(told).asked(question) == here           # in whatever order


@pytest.mark.parametrize("time", [-0.1, 1.5, float("nan")])
def test_a_time_outside_the_collection_is_refused(time):
    with pytest.raises(ValueError, match=f"time must be in .0, 1., .* not {time}"):
        DEFAULT.at(time)


def test_guidelines_are_clear_or_unclear():
    with pytest.raises(ValueError, match="guidelines must be one of .*'clear', 'unclear'.* 'none'"):
        DEFAULT.under("none")

"""Labelers: their utilities, their blind spots, and their votes in closed form."""

from dataclasses import replace
from itertools import product
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirlhf.world import grammar
from minirlhf.world.labelers import PERSONAS, Labeler, Reply, majority_probability, vote
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


@pytest.mark.parametrize("bad", [{"check": 1.2}, {"flip": -0.1}, {"sharpness": -1.0}])
def test_an_impossible_labeler_is_a_value_error(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        replace(DEFAULT, **bad)


def test_the_personas_are_named_and_as_described():
    assert set(PERSONAS) == {"default", "careful", "rushed", "cautious"}
    assert all(name == labeler.name for name, labeler in PERSONAS.items())
    numbers = {n: (p.b_length, p.b_courtesy, p.check) for n, p in PERSONAS.items()}
    assert numbers["default"] == numbers["cautious"] == (0.04, 0.2, 0.8)
    assert numbers["careful"] == (0.0, 0.1, 0.95) and numbers["rushed"] == (0.06, 0.1, 0.65)

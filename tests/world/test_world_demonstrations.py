"""Demonstrations: on training prompts, and wrong as often as they say."""

import numpy as np
import pytest

from minirlhf.world import grammar
from minirlhf.world.demonstrations import Habits, demonstrations
from minirlhf.world.parser import parse
from minirlhf.world.prompts import find

N = 6000
RATES = {"wrong": 0.12, "over_refusal": 0.25, "comply": 0.3, "made_up": 0.3}
MISTAKES = {  # rate -> the kinds it concerns, and how the mistake reads
    "wrong": (("color", "live", "eat", "make"), "wrong"),
    "over_refusal": (("scary",), "refusal"),
    "comply": (("harm",), "harmful_howto"),
    "made_up": (("unknown",), "wrong"),
}
PERFECT = dict.fromkeys(RATES, 0.0)


def rows(**rates):
    return demonstrations(N, rng=np.random.default_rng(7), habits=Habits(**rates))


def within_binomial_bounds(count, n, p):
    return abs(count - n * p) <= 5 * np.sqrt(n * p * (1 - p))


def test_only_training_prompts_are_demonstrated():
    assert {find(row["prompt"]).split for row in rows()} == {"train"}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("rate", [None, 0.0, 0.5, 1.0])
def test_mistakes_occur_at_the_stated_rate(name, rate):
    kinds, content = MISTAKES[name]
    made = rows() if rate is None else rows(**{name: rate})
    read = [parse(*row.values()).content for row in made if find(row["prompt"]).kind in kinds]
    p = RATES[name] if rate is None else rate
    assert within_binomial_bounds(read.count(content), len(read), p)


def test_courtesies_occur_at_the_stated_rate_one_at_a_time():
    courtesies = [parse(*row.values()).courtesies for row in rows()]
    assert set(courtesies) == {0, 1}
    assert within_binomial_bounds(sum(courtesies), N, 0.25)


def test_without_mistakes_and_courtesies_every_reply_is_ideal():
    for row in rows(courtesy=0.0, **PERFECT):
        assert row["response"] == grammar.ideal_reply(find(row["prompt"]).key)


def test_even_mistaken_demonstrations_are_fluent():
    readings = [parse(*row.values()) for row in rows()]
    assert all(r.junk == 0 and not r.contradictory for r in readings)


def test_a_reply_that_declines_does_not_begin_with_sure():
    for row in rows(courtesy=1.0):
        if parse(*row.values()).content in ("refusal", "dont_know"):
            assert not row["response"].startswith(grammar.PREFIXES)


def test_equal_seeds_give_equal_demonstrations():
    assert rows() == rows()


@pytest.mark.parametrize("rate", [*RATES, "courtesy"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_1_is_a_value_error(rate, value):
    with pytest.raises(ValueError, match="rates must be between 0 and 1"):
        Habits(**{rate: value})


def test_a_negative_number_of_demonstrations_is_a_value_error(rng):
    with pytest.raises(ValueError, match="n must be at least 0, not -2"):
        demonstrations(-2, rng=rng)

"""Laws of aggregation: who is reliable by the votes alone, and what a weighted majority decides."""

from itertools import combinations, product
from math import comb, log, prod

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st

from minirlhf.aggregation import (
    CLIP,
    labeler_reliability,
    reliability_of,
    vote_table,
    vote_weights,
    weighted_majority,
    winning_probability,
)

chances = st.floats(0.02, 0.98)


def expected_votes(p, size, seats=None):
    """A table of `size` pairs in which every ballot occurs exactly as often as p makes it likely.

    seats: which labelers vote; the others' columns are 0.
    """
    seats = list(range(len(p)) if seats is None else seats)
    rows = []
    for ballot in product((1, -1), repeat=len(seats)):
        likely = sum(prod(p[j] if v == truth else 1 - p[j]
                          for j, v in zip(seats, ballot, strict=True)) for truth in (1, -1))
        count = size * likely / 2
        assert abs(count - round(count)) < 1e-6, "choose a size that gives whole numbers"
        row = np.zeros(len(p))
        row[seats] = ballot
        rows += [row] * round(count)
    return np.array(rows)


def by_all_truths(votes, p):
    """(likelihood, posterior of +1 for each pair), by adding up every assignment of truths."""
    total, plus = 0.0, np.zeros(len(votes))
    for truths in product((1, -1), repeat=len(votes)):
        likely = prod(0.5 * prod(p[j] if v == truth else 1 - p[j]
                                 for j, v in enumerate(ballot) if v)
                      for ballot, truth in zip(votes, truths, strict=True))
        total += likely
        plus += likely * (np.array(truths) == 1)
    return total, plus / total


# --- reliability: laws, and wrong versions that break one each ------------------------------------

def law_expected_votes_give_the_reliabilities_back(estimate):
    """2000 pairs on which three labelers vote exactly as 0.9, 0.8 and 0.6 make it likely.  The
    likelihood of such votes is highest at these numbers."""
    assert_close(estimate(expected_votes([0.9, 0.8, 0.6], 2000)), np.array([0.9, 0.8, 0.6]),
                 rtol=1e-6)


def law_also_where_not_everybody_votes(estimate):
    p = [0.9, 0.8, 0.6, 0.7]
    votes = np.concatenate([expected_votes(p, 2000, seats) for seats in combinations(range(4), 3)]
                           + [expected_votes(p, 2000, (0, 1, 2))])    # the fourth votes less
    assert_close(estimate(votes), np.array(p), rtol=1e-6)


def law_who_is_mostly_wrong_is_found_out(estimate):
    assert_close(estimate(expected_votes([0.9, 0.8, 0.3], 2000)), np.array([0.9, 0.8, 0.3]),
                 rtol=1e-6)


def law_votes_are_taken_to_be_right_more_often_than_not(estimate):
    """Three labelers who are mostly wrong together outvote two good ones; in all, 53 % of the votes
    are right, and the mirrored answer would make it 47 %."""
    p = [0.95, 0.95, 0.25, 0.25, 0.25]
    assert_close(estimate(expected_votes(p, 51200)), np.array(p), rtol=1e-5)


def law_the_end_is_where_an_em_step_leads_back(estimate):
    """The step, from its definition: posteriors by all 2⁸ truths, then shares of right votes."""
    votes = np.array([[1, 1, 1], [1, -1, -1], [1, 0, 1], [-1, -1, 1], [-1, 1, 1], [1, -1, 1],
                      [1, 1, 1], [1, 1, 1]])
    p = estimate(votes)
    assert ((CLIP < p) & (p < 1 - CLIP)).all()               # or the step would be clipped
    _, q = by_all_truths(votes, p)
    right = np.where(votes == 1, q[:, None], 1 - q[:, None]) * (votes != 0)
    assert_close(p, right.sum(axis=0) / (votes != 0).sum(axis=0), rtol=1e-6)


def law_no_other_reliabilities_are_likelier(estimate):
    """On a grid over all that are clipped as the estimate is, by all truths."""
    for votes in ([[1, 1, -1], [1, 1, 1], [1, -1, 1], [-1, -1, -1], [1, 1, 1], [1, 1, -1]],
                  [[1, 1, 1], [1, 1, 1], [1, 1, -1], [-1, 1, -1]]):
        votes = np.array(votes)
        found, _ = by_all_truths(votes, estimate(votes))
        grid = product(np.linspace(CLIP, 1 - CLIP, 8), repeat=3)
        assert found >= max(by_all_truths(votes, p)[0] for p in grid) * (1 - 1e-6)


RELIABILITY = [law_expected_votes_give_the_reliabilities_back, law_also_where_not_everybody_votes,
               law_who_is_mostly_wrong_is_found_out,
               law_votes_are_taken_to_be_right_more_often_than_not,
               law_the_end_is_where_an_em_step_leads_back, law_no_other_reliabilities_are_likelier]


@pytest.mark.parametrize("law", RELIABILITY, ids=lambda f: f.__name__)
def test_the_reliability_keeps_the_law(law):
    law(labeler_reliability)


def em(prior=0.5, rounds=400, hard=False, weigh=True, divide=True, mirror=True, start=None):
    """EM written once more, with places where it can be wrong."""
    def mutant(votes):
        votes = np.asarray(votes, dtype=float)
        cast = np.abs(votes)
        q = (1 + votes.sum(axis=1) / cast.sum(axis=1)) / 2 if start is None else start(votes)
        for _ in range(rounds):
            q = q.round() if hard else q
            right = np.where(votes > 0, q[:, None], 1 - q[:, None]) * cast
            p = right.sum(axis=0) / (cast.sum(axis=0) if divide else len(votes))
            p = np.clip(p, CLIP, 1 - CLIP)
            w = np.log(p / (1 - p)) if weigh else np.ones(len(p))
            q = 1 / (1 + np.exp(-(votes @ w) - np.log(prior / (1 - prior))))
        swap = mirror and (p * cast.sum(axis=0)).sum() < cast.sum() / 2
        return 1 - p if swap else p
    return mutant


MUTANTS = {
    "agreement with the majority": (law_expected_votes_give_the_reliabilities_back,
                                    em(rounds=1)),
    "truths rounded": (law_expected_votes_give_the_reliabilities_back, em(hard=True)),
    "every vote weighs the same": (law_expected_votes_give_the_reliabilities_back,
                                   em(weigh=False)),
    "the first reply likelier to be better": (law_the_end_is_where_an_em_step_leads_back,
                                              em(prior=0.7)),
    "one step": (law_the_end_is_where_an_em_step_leads_back, em(rounds=2)),
    "divided by all pairs": (law_also_where_not_everybody_votes, em(divide=False)),
    "the mirrored answer": (law_votes_are_taken_to_be_right_more_often_than_not,
                            em(mirror=False)),
    "nobody is worse than a coin": (law_who_is_mostly_wrong_is_found_out,
                                    lambda votes: np.maximum(em()(votes), 0.5)),
    "started nowhere": (law_no_other_reliabilities_are_likelier,
                        em(start=lambda votes: np.full(len(votes), 0.5))),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws():
    for law in RELIABILITY:
        law(em())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant_of_reliability(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant)


def test_known_reliabilities_are_recovered_from_drawn_votes():
    """5 labelers, 3 drawn for each of 20 000 pairs.  Knowing the truths, the standard error would
    be √(p(1−p)/12000) ≤ 0.005; not knowing them costs some more: within 0.025."""
    rng, p = np.random.default_rng(0), np.array([0.9, 0.85, 0.7, 0.65, 0.55])
    n = 20_000
    truths = rng.choice([-1, 1], size=(n, 1))
    votes = np.where(rng.random((n, 5)) < p, truths, -truths)
    silent = np.argsort(rng.random((n, 5)), axis=1)[:, :2]
    np.put_along_axis(votes, silent, 0, axis=1)
    assert np.abs(labeler_reliability(votes) - p).max() < 0.025


tables = st.integers(1, 12).flatmap(lambda n: st.lists(
    st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3), min_size=n, max_size=n))


@given(tables, st.randoms(use_true_random=False))
def test_which_side_stands_first_and_the_order_of_pairs_do_not_matter(votes, random):
    votes = np.array(votes)
    signs = np.array([random.choice([1, -1]) for _ in votes])[:, None]
    shuffled = random.sample(range(len(votes)), len(votes))
    p = labeler_reliability(votes)
    assert ((p >= CLIP) & (p <= 1 - CLIP)).all() and p.mean() >= 0.5 - 1e-12
    assert_close(labeler_reliability((signs * votes)[shuffled]), p, atol=1e-6)


def test_labelers_who_vote_the_same_are_clipped_and_alike():
    p = labeler_reliability(np.array([[1, 1, 1], [-1, -1, -1]]))
    assert p.tolist() == [1 - CLIP] * 3


def test_a_pair_without_votes_says_nothing():
    votes = expected_votes([0.9, 0.8, 0.6], 2000)
    assert_close(labeler_reliability(np.concatenate([votes, np.zeros((50, 3))])),
                 labeler_reliability(votes), rtol=1e-9)


@pytest.mark.parametrize("votes, told", [
    ([1, -1], r"shape \(2,\)"), ([[0.5, 1]], r"0\.5"),
    ([[1, 0], [-1, 0]], r"\[1\] have not voted")])
def test_a_table_of_something_else_is_refused(votes, told):
    with pytest.raises(ValueError, match=told):
        labeler_reliability(np.array(votes))


# --- rows ----------------------------------------------------------------------------------------

ROWS = [{"labelers": ["b", "a", "c"], "votes": [True, False, True]},
        {"labelers": ["c"], "votes": [False]}, {"labelers": ["a", "b"], "votes": [True, True]}]


def test_rows_become_a_table_with_names_in_order():
    names, table = vote_table(ROWS)
    assert names == ["a", "b", "c"]
    assert table.tolist() == [[-1, 1, 1], [0, 0, -1], [1, 1, 0]]
    assert reliability_of(ROWS) == dict(zip(names, labeler_reliability(table), strict=True))


def test_a_labeler_votes_once_on_a_pair():
    with pytest.raises(ValueError, match="once on a pair; got .'a', 'a', 'b'"):
        vote_table([{"labelers": ["a", "a", "b"], "votes": [True, True, False]}])


# --- the weighted majority ------------------------------------------------------------------------

def law_weights_decide(decide):
    assert decide([True, False, False], [3.0, 1.0, 1.0])
    assert not decide([False, True, True], [3.0, 1.0, 1.0])
    assert not decide([True, False, False], [1.5, 1.0, 1.0])


def law_a_negative_weight_speaks_for_the_other_side(decide):
    assert decide([True, True, False], [1.0, -0.5, -3.0])
    assert not decide([True, False, False], [-2.0, 1.0, 1.0])


def law_a_draw_goes_to_the_plain_majority(decide):
    assert not decide([True, False, False], [2.0, 1.0, 1.0])
    assert decide([False, True, True], [2.0, 1.0, 1.0])
    assert decide([True, True, False], [0.0, 0.0, 0.0])
    assert 0.1 + 0.2 - 0.1 - 0.2 > 0                      # rounding must not decide
    assert not decide([True, True, False, False, False], [0.1, 0.2, 0.1, 0.2, 0.0])


def law_equal_weights_are_the_plain_majority(decide):
    for n in (1, 3, 5):
        for votes in product((True, False), repeat=n):
            assert decide(votes, [0.7] * n) == (sum(votes) > n / 2)


DECIDING = [law_weights_decide, law_a_negative_weight_speaks_for_the_other_side,
            law_a_draw_goes_to_the_plain_majority, law_equal_weights_are_the_plain_majority]
WRONG = {
    "weights ignored": (law_weights_decide, lambda v, w: sum(v) > len(v) / 2),
    "the heaviest decides": (law_weights_decide, lambda v, w: v[int(np.argmax(w))]),
    "votes against forgotten": (law_weights_decide, lambda v, w: bool(np.dot(v, w) > 1)),
    "weights without sign": (law_a_negative_weight_speaks_for_the_other_side,
                             lambda v, w: weighted_majority(v, np.abs(w))),
    "rounded sums": (law_a_draw_goes_to_the_plain_majority, lambda v, w: weighted_majority(
        v, w) if sum(x if y else -x for y, x in zip(v, w, strict=True)) == 0 else bool(
        sum(x if y else -x for y, x in zip(v, w, strict=True)) > 0)),
    "a draw is for": (law_a_draw_goes_to_the_plain_majority, lambda v, w: bool(
        sum(x if y else -x for y, x in zip(v, w, strict=True)) >= 0)),
    "a draw is against": (law_a_draw_goes_to_the_plain_majority, lambda v, w: bool(
        sum(x if y else -x for y, x in zip(v, w, strict=True)) > 0)),
    "the minority": (law_equal_weights_are_the_plain_majority,
                     lambda v, w: not weighted_majority(v, w)),
}


@pytest.mark.parametrize("law", DECIDING, ids=lambda f: f.__name__)
def test_the_weighted_majority_keeps_the_law(law):
    law(weighted_majority)


@pytest.mark.parametrize("name", WRONG)
def test_the_laws_catch_the_wrong_decision(name):
    law, mutant = WRONG[name]
    with pytest.raises(AssertionError):
        law(mutant)


@pytest.mark.parametrize("n", [0, 2, 4])
def test_an_even_number_of_votes_is_refused(n):
    with pytest.raises(ValueError, match=f"odd number of votes, not {n}"):
        weighted_majority([True] * n, [1.0] * n)
    with pytest.raises(ValueError, match=f"odd number of votes, not {n}"):
        winning_probability([0.6] * 5, [1.0] * 5, drawn=n)


def test_more_votes_than_labelers_are_refused():
    with pytest.raises(ValueError, match="5 votes want as many labelers, got 3"):
        winning_probability([0.6] * 3, [1.0] * 3, drawn=5)


def test_one_good_labeler_is_worth_more_than_two_middling_ones():
    """0.9, 0.6, 0.6: two middling votes weigh 2·log 1.5 = 0.81 together, the good one log 9 = 2.2.
    So the good one decides and is right in 0.9; the majority is in
    0.9·(1 − 0.4²) + 0.1·0.6² = 0.792."""
    p = [0.9, 0.6, 0.6]
    weights = vote_weights(p)
    assert_close(weights, np.array([log(9), log(1.5), log(1.5)]))
    assert winning_probability(p, weights) == pytest.approx(0.9)
    assert winning_probability(p, [1, 1, 1]) == pytest.approx(0.792)


def naive_winning(p, weights):
    total = 0.0
    for votes in product((True, False), repeat=len(p)):
        if weighted_majority(votes, weights):
            total += prod(x if v else 1 - x for x, v in zip(p, votes, strict=True))
    return total


panels = st.sampled_from([1, 3, 5]).flatmap(lambda n: st.tuples(
    st.lists(chances, min_size=n, max_size=n),
    st.lists(st.floats(-3, 3), min_size=n, max_size=n)))


@given(panels)
def test_the_winning_probability_adds_up_the_ballots_and_the_sides_are_opposites(panel):
    p, weights = panel
    won = winning_probability(p, weights)
    assert won == pytest.approx(naive_winning(p, weights), abs=1e-12)
    assert won + winning_probability([1 - x for x in p], weights) == pytest.approx(1)


@given(panels)
def test_no_weights_are_right_more_often_than_the_log_odds(panel):
    """Nitzan and Paroush's theorem, and what the optimum is: of each ballot, the likelier truth."""
    p, others = panel
    best = winning_probability(p, vote_weights(p))
    likelier = sum(max(prod(x if v == truth else 1 - x for x, v in zip(p, votes, strict=True))
                       for truth in (True, False))
                   for votes in product((True, False), repeat=len(p)))
    assert best == pytest.approx(likelier / 2, abs=1e-9)
    assert best >= winning_probability(p, others) - 1e-9
    assert best >= winning_probability(p, [1.0] * len(p)) - 1e-9


@given(st.lists(chances, min_size=5, max_size=5), st.sampled_from([1, 3, 5]))
def test_drawing_who_votes_is_drawing_from_the_votes_of_all(p, drawn):
    """Of m votes for among 5, a draw without replacement has a hypergeometric number."""
    count = np.ones(1)
    for x in p:
        count = np.convolve(count, [1 - x, x])
    wanted = sum(count[m] * comb(m, k) * comb(5 - m, drawn - k) / comb(5, drawn)
                 for m in range(6) for k in range(drawn // 2 + 1, drawn + 1)
                 if k <= m and drawn - k <= 5 - m)
    assert winning_probability(p, [1.0] * 5, drawn) == pytest.approx(wanted, abs=1e-12)

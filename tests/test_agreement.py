"""Laws of agreement: worked tables, exact enumeration, alpha by fractions, and who drifts."""

import sys
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations, product
from math import isnan, nan, sqrt

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st
from test_votes import PANDALM, pandalm

from minirlhf.agreement import (
    accuracy,
    audit,
    cohen_kappa,
    drift,
    judged,
    kappas,
    krippendorff_alpha,
    majority,
    mean_kappa,
    pairwise_agreement,
)
from minirlhf.votes import Vote, by_item, read_votes, standing


def votes_from(table: dict[str, str]) -> list[Vote]:
    """Votes from a row of letters for each labeler; "." is a missing vote."""
    return [Vote(item, name, choice) for item, choices in enumerate(zip(*table.values(),
                                                                        strict=True))
            for name, choice in zip(table, choices, strict=True) if choice != "."]


def same(x, y) -> bool:
    return x == pytest.approx(y, nan_ok=True)


VOTES = st.lists(st.builds(Vote, st.integers(0, 5), st.sampled_from(["ana", "ben", "cem", "dua"]),
                           st.sampled_from(["a", "b", "tie"])), max_size=24).map(standing)


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_agreement_by_hand(agreement):
    """aab: one pair of three agrees.  a with a tie: none.  bb: one of one.  A lone vote: nothing.
    So (1/3 + 0 + 1) / 3 = 4/9 of three items."""
    share, items = agreement(votes_from({"ana": "aaba", "ben": "atb.", "cem": "b..."}))
    assert (share, items) == (pytest.approx(4 / 9), 3)


def law_kappa_by_hand(kappa):
    """20 both yes, 15 both no, 5 and 10 between: p_o = .7, p_e = .5·.6 + .5·.4 = .5, κ = .4."""
    first, second = "y" * 25 + "n" * 25, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert kappa(first, second) == pytest.approx(0.4)


def law_kappa_has_two_sided_marginals(kappa):
    """The first says a, a, b, the second a, b, b: p_o = 2/3, p_e = (2·1 + 1·2)/9 = 4/9, κ = 2/5.
    Frequencies in common (3/6 each) would make it 1/3."""
    assert kappa("aab", "abb") == pytest.approx(2 / 5)


def law_kappa_of_three_choices(kappa):
    """Equal once in four, by chance 5/16: κ = (4 − 5)/(16 − 5), below chance."""
    assert kappa("aabt", "abtb") == pytest.approx(-1 / 11)


def law_kappa_without_a_second_choice_is_nan(kappa):
    """Where both always say the same one thing, or nothing.  Who differs from that is at chance."""
    assert isnan(kappa("aaa", "aaa")) and isnan(kappa("", ""))
    assert kappa("aaa", "bbb") == 0 and kappa("aaa", "aab") == 0


PUBLISHED = {                     # Krippendorff, Computing Krippendorff's alpha-reliability (2011)
    "two observers, two values": ({"one": "0100000010", "two": "1110010000"}, 0.095),
    "two observers, five values": ({"one": "aabbdcccedda", "two": "babbbccceddd"}, 0.692),
    "four observers, votes missing": (
        {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."},
        0.743)}


def law_alpha_as_published(alpha):
    for table, wanted in PUBLISHED.values():
        assert alpha(votes_from(table)) == pytest.approx(wanted, abs=5e-4)


def law_alpha_by_hand(alpha):
    """aa, ab, bbb, and a lone a, which does not count: o_aa = 2, o_ab = o_ba = 1, o_bb = 6/2 = 3;
    n = 7, n_a = 3, n_b = 4.  D_o = 2/7, D_e = 2·3·4/(7·6) = 4/7, α = 1/2."""
    assert alpha(votes_from({"ana": "aaba", "ben": "abb.", "cem": "..b."})) == pytest.approx(0.5)


def law_judged_by_hand(judge):
    """ana changes her mind on item 0, so that vote is her last: she votes on 1, 2, 3, 4, 0.  The
    reference knows 0, 2 and 4 of them."""
    votes = [Vote(0, "ana", "b"), Vote(1, "ana", "a"), Vote(2, "ana", "b"), Vote(3, "ana", "tie"),
             Vote(4, "ana", "a"), Vote(0, "ana", "a"), Vote(2, "ben", "a")]
    found = judge(votes, {0: "a", 2: "b", 4: "b", 9: "a"})
    assert list(found) == ["ana", "ben"]
    assert_close(found["ana"][0], np.array([0.25, 0.75, 1.0]))
    assert_close(found["ana"][1], np.array([1.0, 0.0, 1.0]))
    assert_close(found["ben"][1], np.array([0.0]))


def law_judged_by_the_others(judge):
    """Item 0, aab: only cem's others agree.  1, bbb: all are right.  2: ana is alone.  3, a against
    two ties and an a: each sees two of the other kind."""
    found = judge(votes_from({"ana": "abaa", "ben": "ab.t", "cem": "bb.t", "dua": "...a"}))
    assert {name: right.tolist() for name, (_, right) in found.items()} == {
        "ana": [1, 0], "ben": [1, 0], "cem": [0, 1, 0], "dua": [0]}


def law_drift_by_hand(line):
    """1, 1, 0, 1, 0 at 0, ¼, ½, ¾, 1: Sxy = −1/2, Sxx = 5/8, Syy = 6/5, so the slope is −4/5, what
    it leaves 6/5 − 2/5 = 4/5, and s.e.² = 4/5 / 3 / (5/8)."""
    found = line(np.linspace(0, 1, 5), np.array([1.0, 1, 0, 1, 0]), 2)
    assert found.slope == pytest.approx(-0.8)
    assert found.standard_error == pytest.approx(sqrt(0.8 / 3 / 0.625))
    assert found.blocks == pytest.approx((2 / 3, 1 / 2)) and found.votes == 5


def law_the_steady_are_seldom_marked(line):
    """Of labelers right with chance p at each of 30 votes, 3.5 to 6.5 % are marked: exactly, over
    all 2³⁰ sequences.  How many right ones there are, and the sum of their places, decides."""
    reached = {(0, 0): (1, ())}                      # (right, places): sequences, one of them
    for place in range(30):
        for (right, places), (count, one) in list(reached.items()):
            key = right + 1, places + place
            reached[key] = (count + reached.get(key, (0, ()))[0], (*one, place))
    marked = Counter()
    for (right, _), (count, one) in reached.items():
        marks = np.zeros(30)
        marks[list(one)] = 1
        marked[right] += count * line(np.linspace(0, 1, 30), marks).significant
    for p in (0.5, 0.7, 0.85):
        rate = sum(n * p**k * (1 - p)**(30 - k) for k, n in marked.items())
        assert 0.035 < rate < 0.065, (p, rate)


def law_who_gets_worse_is_marked(line):
    """Three of four right, then one of two: by 200 votes nobody doubts it."""
    marks = np.array([1, 1, 1, 0] * 25 + [1, 0] * 50)
    for way, right in ((-1, marks), (1, marks[::-1])):
        found = line(np.linspace(0, 1, 200), right.astype(float))
        assert found.significant and way * found.slope > 0.2


def law_few_votes_are_never_enough(line):
    for right in product([0.0, 1.0], repeat=8):
        assert not line(np.linspace(0, 1, 8), np.array(right)).significant


LAWS = {pairwise_agreement: [law_agreement_by_hand],
        cohen_kappa: [law_kappa_by_hand, law_kappa_has_two_sided_marginals,
                      law_kappa_of_three_choices, law_kappa_without_a_second_choice_is_nan],
        krippendorff_alpha: [law_alpha_as_published, law_alpha_by_hand],
        judged: [law_judged_by_hand, law_judged_by_the_others],
        drift: [law_drift_by_hand, law_the_steady_are_seldom_marked, law_who_gets_worse_is_marked,
                law_few_votes_are_never_enough]}


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("krippendorff", reason="alpha wants the extra: agreement")


@pytest.mark.parametrize("function, law", [(f, law) for f, laws in LAWS.items() for law in laws],
                         ids=lambda f: f.__name__)
def test_the_function_keeps_the_law(function, law, request):
    if function is krippendorff_alpha:
        request.getfixturevalue("package")
    law(function)


# --- the mutants ---------------------------------------------------------------------------------

def agreement_with(equal=lambda x, y: x == y, per_item=lambda shares, n: (sum(shares) / n, 1)):
    def mutant(votes):
        total = weight = items = 0
        for ballots in by_item(votes).values():
            pairs = [equal(x, y) for x, y in combinations(ballots.values(), 2)]
            if pairs:
                share, w = per_item(pairs, len(pairs))
                total, weight, items = total + share * w, weight + w, items + 1
        return total / weight, items
    return mutant


def kappa_with(chance=lambda a, b, n: sum(a[c] * b[c] for c in a) / n**2, corrected=True,
               undefined=nan):
    def mutant(first, second):
        n = len(first)
        if not n:
            return nan
        p_o = sum(x == y for x, y in zip(first, second, strict=True)) / n
        p_e = chance(Counter(first), Counter(second), n) if corrected else 0
        return undefined if p_e == 1 else (p_o - p_e) / (1 - p_e)
    return mutant


def alpha_with(least=2, share=lambda m: m - 1, without=1, pairs=permutations):
    """α by fractions, over the coincidence matrix."""
    def mutant(votes):
        o = Counter()
        for ballots in by_item(votes).values():
            if len(ballots) >= least:
                for c, k in pairs(ballots.values(), 2):
                    o[c, k] += Fraction(1, share(len(ballots)) or 1)
                if len(ballots) == 1:
                    o[(*ballots.values(),) * 2] += 1
        n_c = Counter()
        for (c, _), count in o.items():
            n_c[c] += count
        n = sum(n_c.values())
        if len(n_c) < 2:
            return nan
        observed = sum(count for (c, k), count in o.items() if c != k) / n
        expected = sum(n_c[c] * n_c[k] for c, k in permutations(n_c, 2)) / (n * (n - without))
        return 1 - observed / expected
    return mutant


def judged_with(own=False, keep=standing, split=None, unknown=None, over_all=True):
    def mutant(votes, reference=None):
        votes = keep(votes)
        items, result = by_item(votes), {}
        for name in dict.fromkeys(vote.labeler for vote in votes):
            mine = [vote for vote in votes if vote.labeler == name]
            wanted = [reference.get(v.item, unknown) if reference is not None else majority(
                [c for n, c in items[v.item].items() if own or n != name]) or split for v in mine]
            known = [w is not None for w in wanted]
            right = np.array([v.choice == w for v, w in zip(mine, wanted, strict=True)], float)
            when = np.linspace(0, 1, len(mine))[known] if over_all else np.linspace(
                0, 1, sum(known))
            result[name] = when, right[known]
        return result
    return mutant


def first_ones(votes):
    kept = {}
    for vote in votes:
        kept.setdefault((vote.item, vote.labeler), vote)
    return list(kept.values())


def moved_back(votes):
    """The last vote, where the first one stood."""
    return list({(vote.item, vote.labeler): vote for vote in votes}.values())


class Line:
    def __init__(self, slope, error, blocks, votes, enough=30, times=2, size=abs):
        self.slope, self.standard_error, self.blocks, self.votes = slope, error, blocks, votes
        self.significant = votes >= enough and size(slope) > times * error


def drift_with(scale=1.0, lost=2, sign=1, cut=np.array_split, **marks):
    def mutant(when, right, blocks=4):
        x, y = scale * (when - when.mean()), right - right.mean()
        slope = (x @ y) / (x @ x)
        rest = y - slope * x
        return Line(sign * slope, sqrt(rest @ rest / (len(x) - lost) / (x @ x)),
                    tuple(part.mean() for part in cut(right, blocks) if len(part)), len(x),
                    **marks)
    return mutant


SKELETONS = {agreement_with: pairwise_agreement, kappa_with: cohen_kappa,
             alpha_with: krippendorff_alpha, judged_with: judged, drift_with: drift}
MUTANTS = {
    "each pair of labelers counts once": (law_agreement_by_hand, agreement_with(
        per_item=lambda pairs, n: (sum(pairs) / n, n))),
    "only what is unanimous": (law_agreement_by_hand, agreement_with(
        per_item=lambda pairs, n: (float(all(pairs)), 1))),
    "a tie agrees half": (law_agreement_by_hand, agreement_with(
        equal=lambda x, y: 0.5 if (x == "t") != (y == "t") else x == y)),
    "no chance": (law_kappa_by_hand, kappa_with(corrected=False)),
    "common marginals": (law_kappa_has_two_sided_marginals, kappa_with(
        lambda a, b, n: sum((a[c] + b[c])**2 for c in {*a, *b}) / (2 * n)**2)),
    "uniform chance": (law_kappa_of_three_choices, kappa_with(lambda a, b, n: 1 / len({*a, *b}))),
    "the second one's marginals": (law_kappa_by_hand, kappa_with(
        lambda a, b, n: sum(b[c]**2 for c in b) / n**2)),
    "no second choice is perfect": (law_kappa_without_a_second_choice_is_nan, kappa_with(
        undefined=1.0)),
    "lone votes count": (law_alpha_by_hand, alpha_with(least=1)),
    "an item weighs its pairs": (law_alpha_by_hand, alpha_with(share=lambda m: 1)),
    "an item weighs its votes less": (law_alpha_by_hand, alpha_with(share=lambda m: m)),
    "drawn with replacement": (law_alpha_as_published, alpha_with(without=0)),
    "each pair in one order": (law_alpha_as_published, alpha_with(pairs=combinations)),
    "one's own vote is among the majority": (law_judged_by_the_others, judged_with(own=True)),
    "split others are taken for wrong": (law_judged_by_the_others, judged_with(split="none")),
    "what no audit saw is wrong": (law_judged_by_hand, judged_with(unknown="none")),
    "the first vote counts": (law_judged_by_hand, judged_with(keep=first_ones)),
    "a changed vote keeps its place": (law_judged_by_hand, judged_with(keep=moved_back)),
    "places among the judged": (law_judged_by_hand, judged_with(over_all=False)),
    "places from 0 to n": (law_drift_by_hand, drift_with(scale=4)),
    "n for n − 2": (law_drift_by_hand, drift_with(lost=0)),
    "n − 1 for n − 2": (law_drift_by_hand, drift_with(lost=1)),
    "sign": (law_drift_by_hand, drift_with(sign=-1)),
    "blocks by turns": (law_drift_by_hand, drift_with(
        cut=lambda x, n: [x[i::n] for i in range(n)])),
    "one standard error": (law_the_steady_are_seldom_marked, drift_with(times=1)),
    "three standard errors": (law_the_steady_are_seldom_marked, drift_with(times=3)),
    "only who gets better": (law_who_gets_worse_is_marked, drift_with(size=lambda slope: slope)),
    "few votes are enough": (law_few_votes_are_never_enough, drift_with(enough=3)),
}


@pytest.mark.parametrize("skeleton", SKELETONS, ids=lambda f: f.__name__)
def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws(skeleton):
    """So what the laws catch below is the mutation, not the skeleton."""
    for law in LAWS[SKELETONS[skeleton]]:
        law(skeleton())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant)


# --- agreement beyond chance ---------------------------------------------------------------------

@given(VOTES)
def test_alpha_is_what_fractions_over_the_coincidence_matrix_make_it(package, votes):
    assert same(krippendorff_alpha(votes), float(alpha_with()(votes)))


@given(st.lists(st.sampled_from("abt"), min_size=1, max_size=4),
       st.lists(st.sampled_from("abt"), min_size=1, max_size=4))
def test_kappa_is_exactly_0_where_every_choice_meets_every_other(first, second):
    """The product of two distributions, item by item: nothing but chance."""
    pairs = list(product(first, second))
    found = cohen_kappa(*zip(*pairs, strict=True))
    assert isnan(found) if len({*first, *second}) == 1 else found == 0


@given(st.lists(st.sampled_from("abt"), min_size=2, max_size=6), st.data())
def test_kappa_is_0_on_average_over_all_orders_of_one_labelers_choices(first, data):
    second = data.draw(st.lists(st.sampled_from("abt"), min_size=len(first), max_size=len(first)))
    found = [cohen_kappa(first, order) for order in permutations(second)]
    assert all(map(isnan, found)) or sum(found) / len(found) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab")), min_size=1, max_size=9))
def test_of_two_labelers_alpha_is_pooled_kappa_with_its_correction_for_few_items(package, pairs):
    """1 − α = (1 − π)·(2n − 1)/2n, π being Scott's, with the two labelers' common frequencies."""
    first, second = zip(*pairs, strict=True)
    scott = kappa_with(lambda a, b, n: sum((a[c] + b[c])**2 for c in {*a, *b}) / (2 * n)**2)
    alpha = krippendorff_alpha(votes_from({"ana": first, "ben": second}))
    n = len(pairs)
    assert same(1 - alpha, (1 - scott(first, second)) * (2 * n - 1) / (2 * n))


@given(VOTES)
def test_those_who_always_agree_have_1_whatever_they_say(package, votes):
    agreed = [Vote(item, labeler, "ab"[item % 2]) for item, labeler, _ in votes]
    for measure in (krippendorff_alpha, mean_kappa, lambda v: pairwise_agreement(v)[0]):
        found = measure(agreed)
        assert isnan(found) or found == pytest.approx(1)
    shared = {item % 2 for item, ballots in by_item(agreed).items() if len(ballots) > 1}
    assert (krippendorff_alpha(agreed) == 1) == (len(shared) == 2)


@given(VOTES, st.permutations(["ana", "ben", "cem", "dua"]), st.permutations(range(6)),
       st.permutations(["a", "b", "tie"]), st.randoms(use_true_random=False))
def test_what_labelers_items_and_choices_are_called_changes_nothing(package, votes, names, items,
                                                                    choices, random):
    renamed = [Vote(items[item], names[["ana", "ben", "cem", "dua"].index(labeler)],
                    choices[["a", "b", "tie"].index(choice)]) for item, labeler, choice in votes]
    random.shuffle(renamed)
    for measure in (pairwise_agreement, krippendorff_alpha, mean_kappa):
        assert same(measure(renamed), measure(votes)), measure
    called = dict(zip(["ana", "ben", "cem", "dua"], names, strict=True))
    assert {frozenset(called[n] for n in two): pytest.approx(k, nan_ok=True)
            for two, k in kappas(votes).items()} == {
        frozenset(two): k for two, k in kappas(renamed).items()}


@given(VOTES)
def test_what_only_one_labeler_judged_changes_nothing(package, votes):
    shared = [v for v in votes if len(by_item(votes)[v.item]) > 1]
    for measure in (pairwise_agreement, krippendorff_alpha, mean_kappa):
        assert same(measure(shared), measure(votes)), measure


def test_kappas_are_in_the_order_of_first_votes_and_tell_how_many_items_were_shared():
    found = kappas(votes_from({"zoe": "aab.", "ana": "ab.b", "ben": "..b."}))
    assert list(found) == [("zoe", "ana"), ("zoe", "ben")]
    assert found["zoe", "ana"] == (0, 2)
    assert isnan(found["zoe", "ben"].kappa) and found["zoe", "ben"].items == 1
    assert mean_kappa(votes_from({"zoe": "aab.", "ana": "ab.b", "ben": "..b."})) == 0


def test_where_nobody_shares_an_item_there_is_no_agreement(package):
    for votes in ([], votes_from({"ana": "ab..", "ben": "..ab"})):
        share, items = pairwise_agreement(votes)
        assert isnan(share) and items == 0 and kappas(votes) == {}
        assert isnan(krippendorff_alpha(votes)) and isnan(mean_kappa(votes))


def test_kappa_wants_as_many_choices_of_both():
    with pytest.raises(ValueError, match="same items, got 3 and 2"):
        cohen_kappa("aab", "aa")


def test_without_its_package_alpha_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(RuntimeError, match=r"minirlhf\[agreement\]"):
        krippendorff_alpha(votes_from({"ana": "ab", "ben": "aa"}))


# --- each labeler --------------------------------------------------------------------------------

@pytest.mark.parametrize("choices, wanted", [("", None), ("a", "a"), ("ab", None), ("aab", "a"),
                                             ("abbc", "b"), ("aabbc", None), ("tta", "t")])
def test_a_majority_is_the_first_place_held_alone(choices, wanted):
    for order in set(permutations(choices)):
        assert majority(order) == wanted


def test_an_accuracy_has_the_standard_error_of_a_mean():
    assert accuracy(np.array([1.0, 1, 1, 0])) == pytest.approx((0.75, sqrt(0.75 * 0.25 / 3), 4))
    assert isnan(accuracy(np.array([])).share) and accuracy(np.array([])).votes == 0
    assert accuracy(np.array([1.0])).share == 1
    assert isnan(accuracy(np.array([1.0])).standard_error)


@given(VOTES)
def test_who_is_audited_by_their_own_votes_is_always_right(votes):
    for name in {vote.labeler for vote in votes}:
        own = {vote.item: vote.choice for vote in votes if vote.labeler == name}
        found = audit(votes, own)[name]
        assert found.share == 1 and found.votes == len(own)


@given(VOTES)
def test_two_labelers_agree_with_each_other_as_often_as_pairwise(votes):
    two = [vote for vote in votes if vote.labeler in ("ana", "ben")]
    share, items = pairwise_agreement(two)
    for found in audit(two).values():
        assert found.votes == items and same(found.share, share)


def test_a_shared_blind_spot_hides_from_the_others_and_not_from_an_audit():
    """Two rushed labelers miss every third false claim together; the careful one does not."""
    truth = "ab" * 30
    fooled = "".join("b" if i % 3 == 0 else c for i, c in enumerate(truth))
    votes = votes_from({"rushed": fooled, "hasty": fooled, "careful": truth})
    others, found = audit(votes), audit(votes, dict(enumerate(truth)))
    assert others["careful"].share < others["rushed"].share == 1
    assert found["rushed"].share < found["careful"].share == 1


# --- drift ---------------------------------------------------------------------------------------

@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=40), st.integers(1, 6))
def test_the_line_is_numpys_least_squares_and_the_blocks_are_equal(right, blocks):
    when, right = np.linspace(0, 1, len(right)), np.array(right)
    found = drift(when, right, blocks)
    line = np.stack([np.ones_like(when), when], axis=1)
    coefficients, *_ = np.linalg.lstsq(line, right)
    rest = right - line @ coefficients
    covariance = np.linalg.inv(line.T @ line) * (rest @ rest) / (len(right) - 2)
    assert found.slope == pytest.approx(coefficients[1], abs=1e-9)
    assert found.standard_error == pytest.approx(sqrt(covariance[1, 1]), abs=1e-7)
    assert len(found.blocks) == min(blocks, len(right))
    if len(right) % blocks == 0:
        assert_close(np.array(found.blocks), right.reshape(blocks, -1).mean(axis=1))


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=40))
def test_the_other_way_round_the_slope_is_the_other_way_round(right):
    when, right = np.linspace(0, 1, len(right)), np.array(right)
    there, back = drift(when, right), drift(when, right[::-1])
    assert there.slope == pytest.approx(-back.slope, abs=1e-9)
    assert there.significant == back.significant or (
        abs(there.slope) == pytest.approx(2 * there.standard_error))


@pytest.mark.parametrize("mark", [0.0, 1.0])
@pytest.mark.parametrize("n", [3, 30, 777])
def test_who_is_always_right_or_always_wrong_does_not_drift(mark, n):
    found = drift(np.linspace(0, 1, n), np.full(n, mark))
    assert (found.slope, found.standard_error, found.significant) == (0, 0, False)


def test_of_fewer_than_three_votes_there_is_no_line():
    for n in range(3):
        found = drift(np.linspace(0, 1, n), np.ones(n))
        assert isnan(found.slope) and isnan(found.standard_error) and not found.significant
        assert found.blocks == (1.0,) * n


@pytest.mark.parametrize("when, right, blocks", [
    (np.zeros(3), np.zeros(4), 2), (np.zeros((3, 1)), np.zeros((3, 1)), 2),
    (np.zeros(3), np.zeros(3), 0)])
def test_drift_wants_two_rows_of_one_length_and_a_block(when, right, blocks):
    with pytest.raises(ValueError, match="drift wants when"):
        drift(when, right, blocks)


@pytest.mark.parametrize("seed", range(8))
def test_an_audit_finds_the_one_of_three_labelers_who_gets_worse(seed):
    """Two stay right in 85 %, the third goes from 95 to 55 %.  The two are marked at the stated
    rate, so of the 16 of them hardly ever more than one a panel."""
    rng, n = np.random.default_rng(seed), 600
    truth = rng.choice(["a", "b"], n)
    chance = {"ana": np.full(n, 0.85), "ben": np.linspace(0.95, 0.55, n), "cem": np.full(n, 0.85)}
    votes = []
    for i in range(n):
        for name, p in chance.items():
            right = rng.random() < p[i]
            votes.append(Vote(i, name, truth[i] if right else "ab"[truth[i] == "a"]))
    for reference in (dict(enumerate(truth)), None):
        lines = {name: drift(*rows) for name, rows in judged(votes, reference).items()}
        assert lines["ben"].significant and min(lines, key=lambda n: lines[n].slope) == "ben"
    audited = {name: drift(*rows) for name, rows in judged(votes, dict(enumerate(truth))).items()}
    assert abs(audited["ben"].slope + 0.4) < 3 * audited["ben"].standard_error


# --- real people's votes, where there are any ----------------------------------------------------

@pandalm
def test_alpha_of_real_votes_is_what_fractions_make_it(package):
    votes = read_votes(PANDALM)
    assert krippendorff_alpha(votes) == pytest.approx(float(alpha_with()(votes)), abs=1e-12)
    assert 0.8 < krippendorff_alpha(votes) < 0.9


@pandalm
def test_three_annotators_agree_as_the_guide_to_their_data_says(package):
    votes = read_votes(PANDALM)
    assert len(votes) == 3 * 999 and {vote.choice for vote in votes} == {"a", "b", "tie"}
    for two in combinations(["annotator1", "annotator2", "annotator3"], 2):
        share, items = pairwise_agreement([vote for vote in votes if vote.labeler in two])
        assert items == 999 and 0.905 < share < 0.935

"""Laws of the claims' statistics: what the bootstrap draws, what its intervals cover, one rule."""

import sys
from collections import Counter
from fractions import Fraction
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "claims"))
from experiment import statistics  # noqa: E402
from experiment.statistics import bootstrap, decide, expanded_tail, interval, together  # noqa: E402


def first(means):
    return means[..., 0]


def difference(means):
    return means[..., 0] - means[..., 1]


# --- what is drawn -------------------------------------------------------------------------------

def exactly(tables) -> dict[Fraction, Fraction]:
    """{mean over seeds of the mean over prompts: its probability}, by going through all draws."""
    found: Counter = Counter()
    for seeds in product(range(len(tables)), repeat=len(tables)):
        draws = [list(product(tables[seed], repeat=len(tables[seed]))) for seed in seeds]
        for prompts in product(*draws):
            mean = sum(Fraction(sum(drawn), len(drawn)) for drawn in prompts) / len(seeds)
            found[mean] += Fraction(1, len(tables) ** len(tables)) / np.prod([*map(len, draws)])
    return found


def test_the_enumeration_by_hand():
    # of two seeds with a prompt each: the first twice, both (in either order), the second twice
    assert exactly([[0], [4]]) == {0: Fraction(1, 4), 2: Fraction(1, 2), 4: Fraction(1, 4)}
    assert exactly([[0, 2]]) == {0: Fraction(1, 4), 1: Fraction(1, 2), 2: Fraction(1, 4)}


def law_seeds_are_drawn_then_prompts_within_each(bootstrap):
    tables, draws = [[0, 2], [10, 14, 18]], 20_000
    arrays = [np.array(table, dtype=float)[:, None] for table in tables]
    drawn = bootstrap(arrays, draws, rng=np.random.default_rng(0))[..., 0].mean(axis=1)
    wanted = exactly(tables)
    assert sum(wanted.values()) == 1
    shares = Counter(np.round(drawn, 9).tolist())
    assert set(shares) <= {round(float(mean), 9) for mean in wanted}
    for mean, p in wanted.items():
        error = sqrt(p * (1 - p) / draws)
        assert abs(shares[round(float(mean), 9)] / draws - p) < 5 * error, mean


def law_what_the_models_of_a_seed_share_cancels(bootstrap):
    rng = np.random.default_rng(0)
    hard = [10 * rng.standard_normal(30) + 50 * rng.standard_normal() for _ in range(4)]
    tables = [np.stack([prompts + 0.25, prompts], axis=1) for prompts in hard]
    drawn = bootstrap(tables, 500, rng=rng)
    np.testing.assert_allclose(difference(drawn).mean(axis=1), 0.25, atol=1e-9)


def law_the_truth_is_covered(bootstrap, percentiles=statistics.percentiles):
    """Seeds that differ as much as prompts do: near to 95 %, and never far below."""
    rng, hits, n = np.random.default_rng(0), 0, 200
    for _ in range(n):
        tables = [0.3 + rng.standard_normal() + rng.standard_normal((10, 1)) for _ in range(5)]
        low, high = percentiles(first(bootstrap(tables, 2000, rng=rng)), 5)
        hits += low <= 0.3 <= high
    assert 0.92 <= hits / n <= 0.98


LAWS = [law_seeds_are_drawn_then_prompts_within_each, law_what_the_models_of_a_seed_share_cancels,
        law_the_truth_is_covered]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_bootstrap_keeps_the_law(law):
    law(bootstrap)


def across_seeds(tables, draws, *, rng):
    """Prompts of all seeds in one pot."""
    return statistics.resampled_means(np.concatenate(tables), draws, rng=rng)[:, None]


def seeds_kept(tables, draws, *, rng):
    return np.stack([statistics.resampled_means(t, draws, rng=rng) for t in tables], axis=1)


def prompts_kept(tables, draws, *, rng):
    means = np.stack([table.mean(axis=0) for table in tables])
    return means[rng.integers(len(tables), size=(draws, len(tables)))]


def prompts_of_another_seed(tables, draws, *, rng):
    """Seeds and prompts are drawn apart from each other."""
    few = min(map(len, tables))
    return bootstrap([table[:few] for table in tables], draws, rng=rng)


def unpaired(tables, draws, *, rng):
    """Every model's numbers drawn for themselves."""
    columns = range(tables[0].shape[1])
    return np.concatenate([bootstrap([table[:, [c]] for table in tables], draws, rng=rng)
                           for c in columns], axis=-1)


MUTANTS = [across_seeds, seeds_kept, prompts_kept, prompts_of_another_seed, unpaired]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_wrong_bootstrap_breaks_a_law(mutant):
    with pytest.raises(AssertionError):
        for law in LAWS:
            law(mutant)


def test_the_usual_percentiles_cover_too_little_with_five_seeds():
    def usual(drawn, n):
        return np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    with pytest.raises(AssertionError):
        law_the_truth_is_covered(bootstrap, usual)


# --- the interval --------------------------------------------------------------------------------

def test_the_expanded_tail_by_hand():
    # five seeds: t = 2.776, √(5/4) = 1.1180, Φ(−3.1037) = 0.000956
    assert expanded_tail(5) == pytest.approx(0.000956, abs=1e-6)
    assert expanded_tail(2) < 1e-30                       # t = 12.7: the outermost draws
    # 31 seeds: t = 2.042, Φ(−√(31/30)·2.042) = Φ(−2.0758) = 0.01896
    assert expanded_tail(31) == pytest.approx(0.01896, abs=1e-5)
    tails = [expanded_tail(n) for n in range(2, 40)]
    assert tails == sorted(tails) and tails[-1] < 0.025


def test_an_interval_by_hand():
    """Two seeds with one prompt each: the mean is 0, 2 or 4, and with two seeds all are inside."""
    tables = [np.array([[0.0]]), np.array([[4.0]])]
    assert interval(tables, first, rng=np.random.default_rng(0)) == (0.0, 4.0)


@given(st.floats(-5, 5), st.floats(0.1, 10), st.integers(0, 99))
def test_an_interval_goes_along_with_shift_and_scale(shift, scale, seed):
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((6, 1)) for _ in range(3)]
    low, high = interval(tables, first, 300, rng=np.random.default_rng(1))
    moved = interval([shift + scale * table for table in tables], first, 300,
                     rng=np.random.default_rng(1))
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), abs=1e-9)


@pytest.mark.parametrize("tables, told", [
    ([np.ones((3, 1))], "at least 2 of them, got 1"),
    ([np.ones((3, 1)), np.ones((0, 1))], "seed number 1 has no prompt"),
    ([np.ones((3, 1)), np.full((3, 1), np.nan)], "seed number 1 has a number that is not finite")])
def test_what_makes_no_interval_is_refused(tables, told):
    with pytest.raises(ValueError, match=told):
        interval(tables, first, rng=np.random.default_rng(0))


# --- the verdict ---------------------------------------------------------------------------------

def law_by_hand(decide):
    assert decide(0.3, 0.5, 0.2) == "confirmed"
    assert decide(0.1, 0.5, 0.2) == "undecided"        # there is something, perhaps too little
    assert decide(0.1, 0.15, 0.2) == "refuted"         # there is something, and it is too little
    assert decide(-0.5, -0.3, 0.2) == "refuted"
    assert decide(-0.1, 0.3, 0.2) == "undecided"
    assert decide(0.2, 0.5, 0.2) == decide(0.1, 0.2, 0.2) == "undecided"         # it may be 0.2
    assert decide(-0.1, 0.1, -0.2) == "confirmed"


def law_a_higher_interval_is_no_worse(decide):
    order = ["refuted", "undecided", "confirmed"]
    grid = np.linspace(-1, 1, 9)
    for low, width, up, smallest in product(grid, (0, 0.3, 1), (0.1, 0.5), (-0.25, 0, 0.25)):
        before = decide(low, low + width, smallest)
        assert order.index(decide(low + up, low + width + up, smallest)) >= order.index(before)


RULES = [law_by_hand, law_a_higher_interval_is_no_worse]


@pytest.mark.parametrize("law", RULES, ids=lambda law: law.__name__)
def test_the_rule_keeps_the_law(law):
    law(decide)


WRONG = {
    "by the mean": lambda low, high, s: "confirmed" if (low + high) / 2 > s else "refuted",
    "anything above 0 is enough": lambda low, high, s: (
        "confirmed" if low > 0 else "refuted" if high < s else "undecided"),
    "refuted only below 0": lambda low, high, s: (
        "confirmed" if low > s else "refuted" if high < 0 else "undecided"),
    "not confirmed is refuted": lambda low, high, s: "confirmed" if low > s else "refuted",
    "nothing is refuted": lambda low, high, s: "confirmed" if low > s else "undecided",
    "in either direction": lambda low, high, s: (
        "confirmed" if low > s or high < -s else "undecided" if high > s else "refuted"),
    "the edge is enough": lambda low, high, s: (
        "confirmed" if low >= s else "refuted" if high <= s else "undecided"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_noticed(name):
    with pytest.raises(AssertionError):
        for law in RULES:
            law(WRONG[name])


@pytest.mark.parametrize("low, high", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("nan"))])
def test_no_interval_has_no_verdict(low, high):
    with pytest.raises(ValueError, match="wanted an interval"):
        decide(low, high, 0.2)


def law_a_claim_of_several_effects_wants_all(together):
    c, r, u = "confirmed", "refuted", "undecided"
    assert (together([c]), together([r]), together([u])) == (c, r, u)
    assert together([c, c]) == c and together([c, u]) == u
    assert together([c, r]) == together([u, r]) == together([r, u, c]) == r


def test_a_claim_of_several_effects_wants_all():
    law_a_claim_of_several_effects_wants_all(together)


@pytest.mark.parametrize("mutant", [
    lambda v: "confirmed" if "confirmed" in v else v[0],
    lambda v: v[0],
    lambda v: "confirmed" if set(v) == {"confirmed"} else "undecided",
    lambda v: "undecided" if "undecided" in v else "refuted" if "refuted" in v else "confirmed"])
def test_a_wrong_conjunction_is_noticed(mutant):
    with pytest.raises(AssertionError):
        law_a_claim_of_several_effects_wants_all(mutant)


def test_chance_confirms_one_in_forty():
    assert statistics.by_chance(24) == pytest.approx(0.6)
    # at the smallest effect itself, the worst case: how often the interval lies above it
    rng, confirmed, n = np.random.default_rng(1), 0, 200
    for _ in range(n):
        tables = [0.2 + rng.standard_normal() + rng.standard_normal((10, 1)) for _ in range(5)]
        confirmed += decide(*interval(tables, first, 2000, rng=rng), 0.2) == "confirmed"
    assert confirmed / n < 0.06                            # 0.025, and room for 200 cases' chance

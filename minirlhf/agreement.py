"""How far labelers agree, how good each of them is, and whether one drifts.

The article: "If labelers disagree a lot, or if the instructions are unclear, the Reward Model
learns conflicting signals."  So before a reward model is trained: do several labelers of one item
say the same, more often than by chance?  Does each of them say what is right?  And still so at the
end of the week?

A vote is one labeler's choice on one item, here: which of two replies.  Votes stand in the order
in which they were given (`votes.py` reads them).  Conventions of every function:

- Choices are names without an order, and a tie is a name like the others: "a" beside "tie" is as
  much a disagreement as "a" beside "b".  (Some count it half, or leave ties out.)
- Who skipped an item gave no vote.  Of one labeler's votes on one item the last one counts.
- An item with fewer than two votes says nothing about agreement and is left out.
- What there is no evidence for is NaN.

One trap.  Chance agreement depends on what is called a choice.  If "the reply that won" were a
choice, nearly everybody would make it nearly always, agreement would look like chance, and kappa
and alpha like 0.  The names of the two sides must not depend on the votes.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from math import isnan, nan, sqrt
from typing import NamedTuple

import numpy as np

from minirlhf.votes import Vote, by_item, standing

ENOUGH = 30          # judged votes, below which nobody is said to drift
BLOCKS = 4           # of equal size, to show how a labeler's accuracy went


# --- how far they agree --------------------------------------------------------------------------

def pairwise_agreement(votes: Iterable[Vote]) -> tuple[float, int]:
    """(share, items): how often two labelers of one item make the same choice.

        share = mean over items of (equal pairs of its labelers) / (pairs of its labelers)

    Each item counts once, however many labelers it had.  (Each *pair* counting once would be
    another mean, in which an item with five labelers has ten times the weight of one with two.)
    Not corrected for chance: two labelers who flip coins reach 1/2.
    """
    shares = []
    for ballots in by_item(votes).values():
        pairs = list(combinations(ballots.values(), 2))
        if pairs:
            shares.append(sum(x == y for x, y in pairs) / len(pairs))
    return (sum(shares) / len(shares) if shares else nan), len(shares)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's κ (1960) of two labelers: their choices on the items that both of them judged.

        κ = (p_o − p_e) / (1 − p_e),    p_e = Σ_c p_first(c)·p_second(c)

    p_o is the share of equal choices, p_e what it would be if both chose by lot, each as often as
    they did choose: the two have each their own frequencies.  1: always the same; 0: what chance
    gives; below 0: less than that.  NaN without items, and at p_e = 1: if both always make one and
    the same choice, equal choices tell nothing about them.

    Raises ValueError unless both have as many choices.
    """
    if len(first) != len(second):
        raise ValueError("kappa wants both labelers' choices on the same items, got "
                         f"{len(first)} and {len(second)}")
    n, equal = len(first), sum(x == y for x, y in zip(first, second, strict=True))
    own, other = Counter(first), Counter(second)
    by_chance = sum(own[c] * other[c] for c in own)          # n²·p_e; whole numbers are exact
    return (n * equal - by_chance) / (n * n - by_chance) if by_chance < n * n else nan


class Kappa(NamedTuple):
    kappa: float
    items: int                                               # which both labelers judged


def kappas(votes: Iterable[Vote]) -> dict[tuple[str, str], Kappa]:
    """Cohen's κ of each two labelers who share an item, in the order of their first votes."""
    votes = list(votes)
    rank = {name: i for i, name in enumerate(dict.fromkeys(vote.labeler for vote in votes))}
    shared: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for ballots in by_item(votes).values():
        for one, two in combinations(sorted(ballots, key=rank.get), 2):
            shared.setdefault((one, two), []).append((ballots[one], ballots[two]))
    return {names: Kappa(cohen_kappa(*zip(*shared[names], strict=True)), len(shared[names]))
            for names in sorted(shared, key=lambda names: (rank[names[0]], rank[names[1]]))}


def mean_kappa(votes: Iterable[Vote]) -> float:
    """The mean of κ over each two labelers (Light 1971), whatever number of items they share.

    Pairs whose κ is NaN are left out; NaN if no pair has one.
    """
    known = [found.kappa for found in kappas(votes).values() if not isnan(found.kappa)]
    return sum(known) / len(known) if known else nan


def krippendorff_alpha(votes: Iterable[Vote]) -> float:
    """Krippendorff's α for nominal choices: one number for any number of labelers, votes missing
    or not, by the package `krippendorff` (extra: agreement).

        α = 1 − D_o / D_e                             observed over expected disagreement
        D_o = (1/n) Σ_{c≠k} o_ck                      D_e = 1/(n(n−1)) Σ_{c≠k} n_c·n_k
        o_ck = Σ_u (ordered pairs of votes c, k on item u) / (m_u − 1)

    with m_u ≥ 2 the votes on item u, n_c = Σ_k o_ck how often c was chosen, n = Σ_c n_c.  An item
    so weighs as many votes as it has.  All labelers share one set of frequencies, drawn from
    without replacement: with two labelers α is not κ, but near it where there are many items.
    NaN where D_e = 0: nobody ever made a second choice.

    Raises RuntimeError naming the extra if the package is missing.
    """
    try:
        import krippendorff
    except ImportError:
        raise RuntimeError("Krippendorff's alpha wants the `krippendorff` library: "
                           "pip install 'minirlhf[agreement]'") from None
    several = [Counter(ballots.values()) for ballots in by_item(votes).values() if len(ballots) > 1]
    choices = list(dict.fromkeys(choice for counts in several for choice in counts))
    if len(choices) < 2:
        return nan
    table = np.array([[counts[choice] for choice in choices] for counts in several])
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))


# --- how good each one is ------------------------------------------------------------------------

def majority(choices: Iterable[str]) -> str | None:
    """The most frequent choice; None if there is none, or if two share the first place."""
    ranked = Counter(choices).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def decided(checked: Mapping[Hashable, str]) -> dict[Hashable, str] | None:
    """The reference that an audit gives for labelers who cannot vote for a tie: the items that it
    decides; None if there are none."""
    return {item: choice for item, choice in checked.items() if choice != "tie"} or None


def judged(votes: Iterable[Vote], reference: Mapping[Hashable, str] | None = None,
           ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{labeler: (when, right)}: each labeler's votes beside a reference, in order.

    reference   {item: the right choice}, from an audit: somebody looked again at a sample of
                items.  None: what most of the *others* chose.  Never of all: a labeler would be
                compared with a majority of which their own vote is a part, and look better.
    when  (n,)  the vote's place among the labeler's own, 0 for the first, 1 for the last
    right (n,)  1 if it is the reference's choice, else 0

    Votes on an item without a reference are left out (of one whose others are split, too), but
    keep their place in time.
    """
    votes = standing(votes)
    items = by_item(votes)

    def wanted(vote: Vote) -> str | None:
        if reference is not None:
            return reference.get(vote.item)
        return majority([choice for name, choice in items[vote.item].items()
                         if name != vote.labeler])

    result = {}
    for labeler in dict.fromkeys(vote.labeler for vote in votes):
        own = [(vote.choice, wanted(vote)) for vote in votes if vote.labeler == labeler]
        known = np.array([right is not None for _, right in own])
        same = np.array([choice == right for choice, right in own], dtype=float)
        result[labeler] = np.linspace(0, 1, len(own))[known], same[known]
    return result


class Accuracy(NamedTuple):
    share: float
    standard_error: float
    votes: int                                               # that could be judged


def audit(votes: Iterable[Vote],
          reference: Mapping[Hashable, str] | None = None) -> dict[str, Accuracy]:
    """How often each labeler chooses what the reference does (see `judged`): {labeler: Accuracy}.

    The standard error is the sample's, √(p(1−p)/(n−1)); NaN for a single vote, and 0, which
    promises too much, where all n are right.  Items count as independent of each other.

    Beside the others' choice a labeler's share says how usual their votes are.  If the majority
    shares a blind spot, who does not share it looks bad: only an audit tells that apart.
    """
    return {labeler: accuracy(right) for labeler, (_, right) in judged(votes, reference).items()}


def accuracy(right: np.ndarray) -> Accuracy:
    """The mean of (n,) numbers 0 or 1, its standard error, and n."""
    n = len(right)
    return Accuracy(float(right.mean()) if n else nan,
                    float(right.std(ddof=1) / sqrt(n)) if n > 1 else nan, n)


# --- whether one drifts --------------------------------------------------------------------------

class Drift(NamedTuple):
    slope: float                                             # gained from first to last vote
    standard_error: float
    blocks: tuple[float, ...]                                # the accuracy of each
    votes: int

    @property
    def significant(self) -> bool:
        """|slope| > 2 standard errors, of 30 votes or more.

        Of labelers who do *not* drift, one in twenty is marked all the same (5 to 6 %): with ten
        labelers look again before you say a word.  Below 30 votes it would be more.
        """
        return self.votes >= ENOUGH and abs(self.slope) > 2 * self.standard_error


def drift(when: np.ndarray, right: np.ndarray, blocks: int = BLOCKS) -> Drift:
    """Whether a labeler gets worse, as a number with an error: a line through 0s and 1s.

        slope = Σ(x − x̄)(y − ȳ) / Σ(x − x̄)²,    s.e.² = Σ(residual)² / (n − 2) / Σ(x − x̄)²

    x = `when` (n,) in [0, 1], y = `right` (n,), both from `judged`.  By least squares; the slope
    is how much accuracy the line gains from first to last vote, −0.1 being ten points lost.  NaN
    for fewer than three votes.  The blocks, n/blocks votes each, show what a line cannot: one bad
    afternoon.

    Beside the others' choice, one labeler's drift pulls the others' lines down too, though less;
    beside an audit it does not.  Raises ValueError unless both are (n,) and blocks at least 1.
    """
    if when.ndim != 1 or when.shape != right.shape or blocks < 1:
        raise ValueError(f"drift wants when (n,), right (n,) and blocks of 1 or more; got "
                         f"{when.shape}, {right.shape} and {blocks}")
    n = len(right)
    shares = tuple(float(part.mean()) for part in np.array_split(right, blocks) if len(part))
    if n < 3:
        return Drift(nan, nan, shares, n)
    x, y = when - when.mean(), right - right.mean()
    slope = (x @ y) / (x @ x)
    residual = y - slope * x
    error = sqrt((residual @ residual) / (n - 2) / (x @ x))
    return Drift(float(slope), error, shares, n)

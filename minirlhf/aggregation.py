"""Several votes on one pair, and which reply they speak for.

The article asks for "multiple labelers per item" and for audits.  A majority counts every labeler
alike.  Who deserves to be heard more can be read from the votes themselves, without knowing a
single right answer: a good labeler agrees with other good ones.

A table of votes is (pairs, labelers): +1 for the pair's first reply, −1 for its second, 0 where
a labeler did not vote.  Which reply stands first does not matter.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations, product
from math import fsum

import numpy as np

CLIP = 0.01
"""how near 0 and 1 an estimated reliability may come: nobody's weight is without bound"""


def vote_table(rows: Iterable[dict]) -> tuple[list[str], np.ndarray]:
    """The votes of preference rows ("labelers", "votes"): names in sorted order, and the table.

    The chosen reply counts as the first.  ValueError if a labeler votes twice on one pair.
    """
    rows = list(rows)
    names = sorted({name for row in rows for name in row["labelers"]})
    column = {name: j for j, name in enumerate(names)}
    table = np.zeros((len(rows), len(names)))
    for ballot, row in zip(table, rows, strict=True):
        if len(set(row["labelers"])) < len(row["labelers"]):
            raise ValueError(f"each labeler votes once on a pair; got {row['labelers']}")
        for name, vote in zip(row["labelers"], row["votes"], strict=True):
            ballot[column[name]] = 1 if vote else -1
    return names, table


def labeler_reliability(votes: np.ndarray, *, tolerance: float = 1e-10,
                        most_steps: int = 10_000) -> np.ndarray:
    """Each labeler's chance p_j of voting for the better reply, estimated from the votes alone.

    The one-coin model, the simplest case of Dawid and Skene (1979): each pair i has a truth
    z_i = ±1, both equally likely beforehand; labeler j votes v_ij = z_i with chance p_j, whatever
    the pair and whatever the others vote.  EM climbs the likelihood

        L(p) = Π_i ½·(Π_j p_j^[v_ij = +1]·(1 − p_j)^[v_ij = −1] + the same with the signs swapped)

    **E step**: the posterior of z_i = +1 under the p of the moment.  By Bayes' rule its odds are
    the product of the votes' odds, each p_j/(1 − p_j) or the inverse of it:

        q_i = σ(Σ_j v_ij·log(p_j/(1 − p_j)))

    **M step**: the expected log-likelihood is Σ_j r_j·log p_j + (n_j − r_j)·log(1 − p_j), where
    r_j = Σ_i (q_i if v_ij = +1, 1 − q_i if v_ij = −1) is the expected number of right votes among
    the n_j of labeler j; it is highest at

        p_j = r_j/n_j

    It starts from q_i = the share of votes for +1, draws nothing, and stops when no p_j moves by
    more than `tolerance`.  Every p_j is kept in [`CLIP`, 1 − `CLIP`].

    **What the votes can tell.**  Swapping all truths and all p_j for 1 − p_j gives the same
    likelihood: of the two, the one in which a vote is right more often than not is returned, so
    labelers are taken to be better than a coin on average.  Three labelers with p_j ≠ ½ who vote
    on the same pairs are needed; of two only p_1·p_2 + (1 − p_1)(1 − p_2) can be known, their
    agreement.  And what labelers get wrong *together* counts as right: the truth of this model is
    the consensus.

    votes    (pairs, labelers) of +1, −1, 0;  returns (labelers,)

    Convention: a plain maximum of the likelihood (some systems add a prior on p_j), one p_j for
    both sides (Dawid and Skene have a confusion matrix for each labeler).

    Raises ValueError for another shape or entry, or if a labeler has not voted at all.
    """
    votes = np.asarray(votes, dtype=float)
    if votes.ndim != 2 or not np.isin(votes, (-1, 0, 1)).all():
        raise ValueError("votes must be (pairs, labelers) of +1, -1 and 0 (did not vote), got "
                         f"shape {votes.shape} with values {np.unique(votes)[:6].tolist()}")
    cast = np.abs(votes)
    n = cast.sum(axis=0)
    if not n.all():
        raise ValueError(f"labelers {np.flatnonzero(n == 0).tolist()} have not voted: nothing can "
                         "be said of them; leave their columns out")
    q = (0.5 + 0.5 * votes.sum(axis=1) / np.maximum(cast.sum(axis=1), 1))[:, None]
    p = np.full(votes.shape[1], np.inf)
    for _ in range(most_steps):
        before, p = p, np.where(votes > 0, q, 1 - q)
        p = np.clip((p * cast).sum(axis=0) / n, CLIP, 1 - CLIP)
        q = 0.5 * (1 + np.tanh(0.5 * votes @ vote_weights(p)))[:, None]            # σ
        if np.abs(p - before).max() <= tolerance:
            break
    return p if p @ n >= n.sum() / 2 else 1 - p


def reliability_of(rows: Iterable[dict]) -> dict[str, float]:
    """The audit of preference rows: `labeler_reliability` by name."""
    names, table = vote_table(rows)
    return dict(zip(names, labeler_reliability(table).tolist(), strict=True))


def vote_weights(reliability: np.ndarray) -> np.ndarray:
    """log(p/(1 − p)): what a vote is worth.  0 for a coin, negative for who is mostly wrong.

    Among independent labelers no rule is right more often than the larger sum of these weights
    (Nitzan and Paroush 1982): it is the likelier truth.
    """
    p = np.asarray(reliability, dtype=float)
    return np.log(p / (1 - p))


def weighted_majority(votes: Sequence[bool], weights: Sequence[float]) -> bool:
    """Whether the votes for (True) weigh more than those against.

    A draw of the weights, as where one labeler weighs exactly what two others do, goes to the
    plain majority; that has no draw, since the number of votes must be odd (else ValueError).
    Equal positive weights are the plain majority.
    """
    if len(votes) % 2 == 0:
        raise ValueError(f"a majority needs an odd number of votes, not {len(votes)}")
    balance = fsum(w if vote else -w for vote, w in zip(votes, weights, strict=True))
    return balance > 0 if balance else 2 * sum(votes) > len(votes)


def winning_probability(chances: Sequence[float], weights: Sequence[float],
                        drawn: int | None = None) -> float:
    """P(the weighted majority is for), exactly, by adding up all ballots.

    chances[j]  labeler j's chance of voting for, independent of the others
    drawn       how many of the labelers vote, each choice of so many equally likely (None: all)

    2^drawn ballots for each choice of labelers: meant for a handful of them.
    ValueError unless the number of votes is odd and there are so many labelers.
    """
    drawn = len(chances) if drawn is None else drawn
    if drawn > len(chances):
        raise ValueError(f"{drawn} votes want as many labelers, got {len(chances)}")
    chances, weights, total = np.asarray(chances), np.asarray(weights), []
    for seats in map(list, combinations(range(len(chances)), drawn)):
        p, ballots = chances[seats], _winning_ballots(tuple(weights[seats]))
        total.append(np.where(ballots, p, 1 - p).prod(axis=1).sum())
    return float(np.mean(total))


@lru_cache
def _winning_ballots(weights: tuple[float, ...]) -> np.ndarray:
    """(ballots, votes) bool: every ballot whose weighted majority is for."""
    every = product((True, False), repeat=len(weights))
    return np.array([votes for votes in every if weighted_majority(votes, weights)])

"""The reward model's loss: from "A is better than B" to a score.

From the article: "Given a pair (A, B) where A is preferred, the Reward Model should give a higher
score to A than to B."

Humans compare; the reward model must score.  Bradley and Terry's model connects the two: each
reply has a strength, and A beats B with the probability σ(a − b).  Only the gap counts, so adding
the same number to every score changes nothing.  Training maximises the probability of the choices
made.
"""

from typing import Any

from minirlhf.arrays import array_module, check_ndim, check_same_shape
from minirlhf.autograd import refuse_tensors, value
from minirlhf.ops import exp, masked_mean, softplus, sub


def preference_probability(score_a: Any, score_b: Any) -> Any:
    """The probability that A is preferred to B.

        P(A > B) = σ(a − b) = eᵃ/(eᵃ + eᵇ) = 1/(1 + e^−(a−b))

    Bradley and Terry (1952), whose strength of a reply is e to the power of its score.

    score_a, score_b  numbers, arrays or Tensors of one shape;  returns the same shape, in [0, 1]

    Gradient: ∂P/∂a = P(1 − P) = −∂P/∂b.  Computed as exp(−softplus(b − a)), which neither overflows
    nor loses a small probability.  Raises ValueError if the shapes differ (nothing broadcasts).
    """
    check_same_shape(score_a=score_a, score_b=score_b)
    return exp(-softplus(sub(score_b, score_a)))


def bradley_terry_loss(score_chosen: Any, score_rejected: Any, margin: Any = 0.0,
                       count: int | None = None) -> Any:
    """The mean negative log-probability of the humans' choices.

        L = −(1/n) Σ_i log σ(c_i − r_i − m_i) = (1/n) Σ_i softplus(−(c_i − r_i − m_i))

    Ouyang et al. 2022 (arXiv 2203.02155) eq. 1, whose K ranked replies give K(K−1)/2 such pairs;
    log σ(x) = −softplus(−x) is the form that stays finite for any gap.  A margin m asks for a gap
    of more than m; ours is 0, as in eq. 1.

    score_chosen, score_rejected  (N,)  scores of the preferred and of the other reply of each pair
    margin                        a number or (N,), a constant
    count                         n, the pairs of the whole optimizer step; by default N
    returns                       ()

    Closed-form gradient, with x_i = c_i − r_i − m_i:  ∂L/∂c_i = −σ(−x_i)/n = −∂L/∂r_i.  A pair
    already ranked with confidence teaches almost nothing; one ranked wrongly pulls with full
    weight 1/n.
    Derived in docs/derivations/bradley_terry.md.

    Convention: one score a reply and a mean over pairs.  (Some systems compare the scores at every
    token after the two replies part, or add a penalty on c + r, or weigh by prompt.)

    Raises ValueError if shapes differ or are not (N,), if there is no pair and no `count`, or if
    `count` is not positive; TypeError if the margin is a Tensor.
    """
    refuse_tensors("bradley_terry_loss", margin=margin)
    check_ndim(1, "(N,)", score_chosen=score_chosen, score_rejected=score_rejected)
    check_same_shape(score_chosen=score_chosen, score_rejected=score_rejected)
    if getattr(margin, "shape", ()) != ():
        check_same_shape(score_chosen=score_chosen, margin=margin)
    else:
        margin = float(margin)              # a NumPy number would turn float32 into float64
    xp = array_module(value(score_chosen), value(score_rejected), margin)
    every_pair = xp.ones(score_chosen.shape, dtype=bool)
    return masked_mean(softplus(score_rejected - score_chosen + margin), every_pair, count)

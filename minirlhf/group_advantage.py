"""Advantages without a value model: compare a reply with its siblings.

From the article: "Newer algorithms like GRPO (Group Relative Policy Optimization), used in
DeepSeek-R1, remove the Value Model entirely by computing the baseline from a group of sampled
responses, which brings the count down to three models."

Sample several replies to one prompt.  What a reply scored above the others is its advantage; every
token of the reply gets that one number.  Scores come group by group: those of the first prompt,
then those of the second, so that group g is scores[g·G : (g+1)·G].

Plain array functions: advantages are constants of the policy loss, and no gradient runs here.
"""

from minirlhf.arrays import Array, check_ndim
from minirlhf.autograd import refuse_tensors


def _differences(scores: Array, group_size: int) -> Array:
    """Scores minus the first of their group, (N,) -> (N/G, G), after the checks.

    Advantages depend on differences only.  Taking them first makes those of a group of equal
    scores exactly 0, where a rounded mean would leave dust that the deviation then magnifies.
    """
    check_ndim(1, "(N,)", scores=scores)
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size}: a reply alone has "
                         "nothing to be compared with")
    if scores.shape[0] % group_size:
        raise ValueError(f"scores {scores.shape} cannot be cut into groups of group_size "
                         f"{group_size}")
    groups = scores.reshape(-1, group_size)
    return groups - groups[:, :1]


def group_advantages(scores: Array, group_size: int, normalize: bool = True,
                     eps: float = 1e-4) -> Array:
    """GRPO's advantage: how many deviations a reply lies above the mean of its group.

        A_i = (s_i − mean(s))/(std(s) + ε),    std² = (1/(G−1)) Σ (s_i − mean)²

    Shao et al. 2024 (arXiv 2402.03300), section 4.1.2, outcome supervision.  With normalize=False
    it is s_i − mean(s): dividing by the deviation gives prompts on which all replies score nearly
    alike the same weight as those that tell replies apart.

    scores   (N,)  whole groups of group_size, one after another
    returns  (N,)  summing to 0 in each group

    Convention: the sample deviation (G−1; the paper does not say which) plus ε = 10⁻⁴ outside the
    root.  A group of equal scores gives exactly 0.  No KL here: whether it enters the score or the
    loss is the caller's choice, and the two have different optima.

    Raises ValueError if group_size is below 2 or does not divide N, TypeError for a Tensor.
    """
    refuse_tensors("group_advantages", scores=scores)
    differences = _differences(scores, group_size)
    centered = differences - differences.mean(axis=1, keepdims=True)
    if normalize:
        variance = (centered * centered).sum(axis=1, keepdims=True) / (group_size - 1)
        centered = centered / (variance ** 0.5 + float(eps))
    return centered.reshape(-1)


def leave_one_out_advantages(scores: Array, group_size: int) -> Array:
    """RLOO's advantage: the score above the mean of the *other* replies.

        A_i = s_i − (1/(G−1)) Σ_{j≠i} s_j = G/(G−1)·(s_i − mean(s))

    Ahmadian et al. 2024 (arXiv 2402.14740).  The baseline does not contain the reply's own score,
    so it is independent of it and the policy gradient stays unbiased; the mean of all, as above
    without its deviation, shrinks the gradient by (G−1)/G.

    scores   (N,)  whole groups of group_size, one after another
    returns  (N,)  summing to 0 in each group

    Raises ValueError if group_size is below 2 or does not divide N, TypeError for a Tensor.
    """
    refuse_tensors("leave_one_out_advantages", scores=scores)
    differences = _differences(scores, group_size)
    others = differences.sum(axis=1, keepdims=True) - differences
    return (differences - others / (group_size - 1)).reshape(-1)

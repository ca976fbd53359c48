"""Direct preference optimization: the reward model that needs no training of its own.

The article says: "Note: The Reward Model is not the final LLM. It is a helper model."  This file is
the road it does not take, which leaves the helper out.

The best policy for a reward under a KL penalty is known in closed form, π* ∝ π_ref·exp(reward/β).
Read backwards, any policy is the best one for the reward β·log(π/π_ref), up to a constant of the
prompt.  Put that into the Bradley-Terry loss, where constants cancel, and the preferences train the
policy itself.
"""

from typing import Any

from minirlhf.arrays import array_module, check_ndim, check_same_shape
from minirlhf.autograd import refuse_tensors, value
from minirlhf.ops import masked_mean, softplus


def dpo_loss(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any, beta: float = 0.1,
             count: int | None = None) -> Any:
    """The mean negative log-probability of the choices, under the policy's own implicit reward.

        L = −(1/n) Σ_i log σ(β·h_i),    h = (chosen − ref_chosen) − (rejected − ref_rejected)

    Rafailov et al. 2023 (arXiv 2305.18290) eq. 7.

    chosen, rejected          (N,)  log π of the whole preferred and other reply; differentiated
    ref_chosen, ref_rejected  (N,)  the same under the frozen reference; constants
    count                     n, the pairs of the whole optimizer step; by default N
    returns                   ()

    Closed-form gradient: ∂L/∂chosen_i = −β·σ(−β·h_i)/n = −∂L/∂rejected_i.  Where policy and
    reference agree, L = log 2.

    Convention: log-probabilities *summed* over the tokens of a reply, no label smoothing, a mean
    over pairs.  (Some variants average over tokens, which is another loss.)

    Raises ValueError if shapes differ or are not (N,), if there is no pair and no `count`, or if
    `count` is not positive; TypeError for a Tensor among the constants.
    """
    refuse_tensors("dpo_loss", ref_chosen=ref_chosen, ref_rejected=ref_rejected, beta=beta)
    sides = {"chosen": chosen, "rejected": rejected,
             "ref_chosen": ref_chosen, "ref_rejected": ref_rejected}
    check_ndim(1, "(N,)", **sides)
    check_same_shape(**sides)
    xp = array_module(*(value(x) for x in sides.values()))
    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    every_pair = xp.ones(chosen.shape, dtype=bool)
    return masked_mean(softplus(-float(beta) * h), every_pair, count)

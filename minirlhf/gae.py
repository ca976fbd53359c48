"""Generalized advantage estimation: which token deserves the credit?

From the article: "To compute that advantage, PPO trains a separate Value Model (also called a
Critic) alongside the policy."

The reward arrives once, at the end, and praises or blames the whole reply.  The value model
predicts at each token what is still to come, so a token's advantage is how much better things went
than was predicted.  Look one token ahead, and the estimate is quiet but trusts the value model
(λ = 0); look to the end, and it trusts nothing but the noisy reward (λ = 1).  GAE mixes all
horizons.

Plain array functions: advantages are constants of the policy loss, and no gradient runs here.
"""

from minirlhf.arrays import (
    Array,
    array_module,
    check_mask,
    check_ndim,
    check_prefix_mask,
    check_same_shape,
)
from minirlhf.autograd import refuse_tensors


def gae(rewards: Array, values: Array, mask: Array, gamma: float = 1.0,
        lam: float = 0.95) -> tuple[Array, Array]:
    """Advantages, and the returns that the value model is trained towards.

        δ_t = r_t + γ·V_{t+1} − V_t                  the surprise of one step (TD error)
        A_t = Σ_{l ≥ 0} (γλ)ˡ δ_{t+l}                computed backwards: A_t = δ_t + γλ·A_{t+1}
        returns_t = A_t + V_t

    Schulman et al. 2016 (arXiv 1506.02438) eq. 16.  There the sum is infinite; here a reply ends,
    and V after its last token is 0.  Time counts the tokens of the response from 0: V_t is the
    value of the state in which token t is about to be chosen (the prompt and tokens before t), and
    r_t is paid for token t.  λ = 0 gives δ_t, their eq. 17; λ = 1 gives
    (Σ_{l ≥ 0} γˡ r_{t+l}) − V_t, their eq. 18.

    rewards, values  (B, R)  of the response tokens; masked slots may hold anything
    mask             (B, R)  boolean, the True entries first in each row (right padding)
    returns          two (B, R) arrays, 0 where masked; the advantages are not whitened

    Derived in docs/derivations/gae.md.

    Convention: the end of a reply is the end of the episode, also when it was cut for its length
    (no bootstrap from a value after it), and masked values are gone *before* the recursion starts:
    zeroing the result instead would let a value beyond the end leak into every token.

    Raises ValueError if shapes differ or are not (B, R) or if the mask is not a prefix of each row,
    TypeError for a Tensor or a mask that is not boolean.
    """
    refuse_tensors("gae", rewards=rewards, values=values, mask=mask, gamma=gamma, lam=lam)
    check_mask(mask)
    check_ndim(2, "(B, R)", rewards=rewards, values=values, mask=mask)
    check_same_shape(rewards=rewards, values=values, mask=mask)
    check_prefix_mask(mask)
    xp = array_module(rewards, values, mask)
    gamma, lam = float(gamma), float(lam)       # a NumPy number would turn float32 into float64
    rewards, values = xp.where(mask, rewards, 0), xp.where(mask, values, 0)
    next_values = xp.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]         # V_{t+1}: 0 after the last token of every row
    deltas = rewards + gamma * next_values - values
    advantages = xp.zeros_like(deltas)
    advantage = 0.0
    for t in reversed(range(deltas.shape[1])):
        advantage = deltas[:, t] + gamma * lam * advantage                                   # (B,)
        advantages[:, t] = advantage
    return advantages, advantages + values


def whiten(x: Array, mask: Array, shift_mean: bool = True) -> Array:
    """Scale to deviation 1 over the mask, and shift to mean 0.

        y = (x − μ)/√(σ² + 10⁻⁸),    μ = (1/n) Σ x,    σ² = (1/n) Σ (x − μ)²

    With shift_mean=False μ is added back: rewards are scaled so, since their sign has a meaning.
    Advantages of one scale let one learning rate and one clip range serve any reward.

    x     (B, R)  masked slots may hold anything
    mask  (B, R)  boolean;  returns (B, R), 0 where masked

    Convention: population variance (divided by n, not n − 1), over the unmasked entries only, ε
    inside the root, once a rollout before it is cut into minibatches.  (Systems differ in each of
    these.)  Constant input gives 0 (but for rounding), not NaN.

    Raises ValueError if shapes differ or are not (B, R) or if nothing is unmasked, TypeError for a
    Tensor or a mask that is not boolean.
    """
    refuse_tensors("whiten", x=x, mask=mask)
    check_mask(mask)
    check_ndim(2, "(B, R)", x=x, mask=mask)
    check_same_shape(x=x, mask=mask)
    xp = array_module(x, mask)
    n = int(mask.sum())
    if n == 0:
        raise ValueError(f"whitening of no token: the mask {mask.shape} has no True entry")
    mean = xp.where(mask, x, 0).sum() / n
    centered = xp.where(mask, x, mean) - mean
    # A root, since NumPy rounds the power of a lone number otherwise than that of an array.
    y = centered / xp.sqrt((centered * centered).sum() / n + 1e-8)
    return y if shift_mean else xp.where(mask, y + mean, 0)

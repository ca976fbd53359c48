"""PPO's losses: small, controlled steps for the policy and for the value model.

From the article: "It uses a clipped surrogate objective to prevent the policy from changing too
much in one update, and an advantage estimate (how much better an action is than expected) to reduce
variance."

Replies were sampled by the policy as it was, π_old; several gradient steps are taken on them.  The
ratio r = π/π_old says how far a token's probability has moved since.  The loss pays for moving it
in the direction of its advantage, but only until it has gone ε in that direction: then its gradient
is 0, and the token stops pushing.  One that went the other way is still pulled back.
"""

from typing import Any

from minirlhf.arrays import Array, array_module, check_mask, check_ndim, check_same_shape
from minirlhf.autograd import refuse_tensors, value
from minirlhf.ops import clip, exp, log_softmax, masked_mean, maximum, minimum, sum, where


def clipped_surrogate_loss(logprobs: Any, old_logprobs: Array, advantages: Array, mask: Array,
                           clip_ratio: float = 0.2, count: int | None = None) -> Any:
    """PPO's policy loss: Schulman et al. 2017 (arXiv 1707.06347) eq. 7, negated to be minimised.

        L = −(1/n) Σ_{mask} min(r·A, clip(r, 1−ε, 1+ε)·A),    r = exp(logprobs − old_logprobs)

    computed in an equal form, by the sign of A:

        A ≥ 0:  A·min(r, 1+ε)      a good token gains nothing from rising above 1+ε
        A < 0:  A·max(r, 1−ε)      a bad token gains nothing from falling below 1−ε

    (For A ≥ 0, x ↦ x·A keeps the order of r and clip(r), and min(r, clip(r)) = min(r, 1+ε); for
    A < 0 it reverses the order, and max(r, clip(r)) = max(r, 1−ε).)

    logprobs                  (B, R)  under the policy in training; the only argument differentiated
    old_logprobs, advantages  (B, R)  constants of the rollout
    mask                      (B, R)  boolean; masked slots of any argument may hold anything
    count                     n, the unmasked tokens of the whole optimizer step; by default those
                              given
    returns                   ()

    Closed-form gradient: ∂L/∂logprobs = −r·A/n, and exactly 0 where the update must stop, that is
    where (A ≥ 0 and r > 1+ε) or (A < 0 and r < 1−ε).  On the bound itself it still flows, as it
    does in eq. 7 when a tie goes to the unclipped term.  At r = 1 it is −A/n, the policy gradient:
    the loss may read 0 and still teach.  Derived in docs/derivations/clipped_surrogate.md.

    The ratio is not clamped.  One that overflows with A ≥ 0 (A = 0 too) takes the clipped branch
    with gradient 0, where eq. 7 as written would compute inf·0 = NaN; with A < 0 the loss is inf.

    Convention: one ε for both sides, no second bound for A < 0 ("dual clip"), ratios by token, a
    mean over all tokens of the optimizer step.  (Systems differ in each of these.)

    Raises ValueError if shapes differ or are not (B, R), if nothing is unmasked and no `count` is
    given, or if `count` is not positive; TypeError for a mask that is not boolean or a Tensor among
    the constants.
    """
    refuse_tensors("clipped_surrogate_loss", old_logprobs=old_logprobs, advantages=advantages,
                   mask=mask, clip_ratio=clip_ratio)
    check_mask(mask)
    check_ndim(2, "(B, R)", logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages,
               mask=mask)
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages,
                     mask=mask)
    xp = array_module(value(logprobs), old_logprobs, advantages, mask)
    old_logprobs, advantages = xp.where(mask, old_logprobs, 0), xp.where(mask, advantages, 0)
    clip_ratio = float(clip_ratio)          # a NumPy number would turn float32 into float64
    ratio = exp(where(mask, logprobs, 0) - old_logprobs)
    limited = where(advantages >= 0,
                    minimum(ratio, 1 + clip_ratio), maximum(ratio, 1 - clip_ratio))
    return -masked_mean(limited * advantages, mask, count)


def clipped_value_loss(values: Any, old_values: Array, returns: Array, mask: Array,
                       clip_range: float = 0.2, count: int | None = None) -> Any:
    """The value model's loss, which also stops a step from going far.

        L = ½·(1/n) Σ_{mask} max((V − G)², (clip(V, V_old−ε, V_old+ε) − G)²),   G the returns

    The squared error of Schulman et al. 2017 eq. 9.  The clip is not in the paper: it is the
    practice of OpenAI's code, kept by the language-model systems since.  The worse of the two
    errors counts, so a value that has already moved ε towards its return stops, while one that has
    moved away is still pulled back.  The ½ makes the gradient the plain error.

    values               (B, R)  of the value model in training; the only argument differentiated
    old_values, returns  (B, R)  constants of the rollout
    mask                 (B, R)  boolean; masked slots of any argument may hold anything
    count                as in `clipped_surrogate_loss`;  returns ()

    Closed-form gradient: ∂L/∂V = (V − G)/n where the unclipped error is the larger or equal, else 0
    (then V is outside the range, and the clipped value does not depend on it).

    Convention: no coefficient, since the value model is a network of its own, with its own
    optimizer.  ε is in units of the return, so its size depends on the reward's scale.

    Raises as `clipped_surrogate_loss` does.
    """
    refuse_tensors("clipped_value_loss", old_values=old_values, returns=returns, mask=mask,
                   clip_range=clip_range)
    check_mask(mask)
    check_ndim(2, "(B, R)", values=values, old_values=old_values, returns=returns, mask=mask)
    check_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    xp = array_module(value(values), old_values, returns, mask)
    old_values, returns = xp.where(mask, old_values, 0), xp.where(mask, returns, 0)
    values, clip_range = where(mask, values, 0), float(clip_range)
    error = values - returns
    clipped_error = clip(values, old_values - clip_range, old_values + clip_range) - returns
    worse = maximum(error * error, clipped_error * clipped_error)
    return 0.5 * masked_mean(worse, mask, count)


def entropy(logits: Any, mask: Array, count: int | None = None) -> Any:
    """How undecided the policy is: the mean entropy of its next-token distributions, in nats.

        H = −(1/n) Σ_{mask} Σ_v p_v log p_v,    p = softmax(logits)

    The term S of Schulman et al. 2017 eq. 9.  From 0 (certain) to log V (uniform).  Added to the
    objective it would be a bonus for exploring; language-model PPO mostly just watches it, since a
    fall towards 0 is a sign of collapse.

    logits  (B, R, V)  at the temperature of sampling (dividing by it is the caller's)
    mask    (B, R)     boolean; masked slots may hold anything
    count   as in `clipped_surrogate_loss`;  returns ()

    Closed-form gradient, with H_t a token's entropy: ∂H/∂logits_v = −p_v (log p_v + H_t)/n.  A
    logit of −inf contributes 0, the limit of p·log p.

    Raises ValueError if the shapes do not fit, if nothing is unmasked and no `count` is given, or
    if `count` is not positive; TypeError for a mask that is not boolean.
    """
    refuse_tensors("entropy", mask=mask)
    check_mask(mask)
    check_ndim(3, "(B, R, V)", logits=logits)
    check_ndim(2, "(B, R)", mask=mask)
    if logits.shape[:2] != mask.shape:
        raise ValueError(f"logits {logits.shape} and mask {mask.shape} must agree in (B, R)")
    xp = array_module(value(logits), mask)
    log_p = log_softmax(where(mask[:, :, None], logits, 0))                          # (B, R, V)
    # An impossible token: 0·(−inf) is NaN, so its log p is written over, and e⁰·0 = 0 is added.
    log_p = where(xp.exp(value(log_p)) > 0, log_p, 0)
    return -masked_mean(sum(exp(log_p) * log_p, axis=-1), mask, count)

"""The KL penalty: earn reward, but keep talking like the model you started from.

From the article: "The KL penalty is a term that punishes the LLM if its output distribution moves
too far away from the original SFT model's output distribution."

The direction is KL(π‖π_ref) = E_π[log π − log π_ref]: replies are drawn from the policy π, which is
being trained, and compared with the reference π_ref, the frozen SFT model.  It is 0 when the two
are equal and positive otherwise.  Below: what one sampled token tells about it (`kl_estimate`), the
sum over the whole vocabulary (`exact_kl`), the article's objective, the same penalty folded into
the reward token by token, and a controller that tunes β.
"""

from typing import Any

from minirlhf.arrays import Array, array_module, check_mask, check_ndim, check_same_shape
from minirlhf.autograd import refuse_tensors, value
from minirlhf.ops import exp, log_softmax, mul, sub, sum, where
from minirlhf.tokens import last_token


def kl_estimate(logprobs: Any, ref_logprobs: Any, estimator: str = "k1") -> Any:
    """What tokens sampled from π tell about KL(π‖π_ref), with k = log π − log π_ref:

        k1 = k                 unbiased: its mean under π is the KL; but often negative, and noisy
        k2 = k²/2              biased, never negative
        k3 = e^−k − 1 + k      unbiased and never negative: e^−k = π_ref/π has mean 1 under π

    John Schulman's note "Approximating KL Divergence" (2020), whose r is e^−k; k3 is eq. 4 of Shao
    et al. 2024 (arXiv 2402.03300).

    logprobs, ref_logprobs  numbers or arrays of one shape (logprobs may be a Tensor, ref_logprobs
                            is a constant);  returns the same shape

    As a number to report, or inside a reward, only the values above matter.  As a *loss* only the
    gradients matter, and they differ.  ∂/∂logprobs is 1, k and 1 − e^−k, and under π

        E_π[∇k1] = 0        E_π[∇k2] = ∇KL(π‖π_ref)        E_π[∇k3] = ∇KL(π_ref‖π)

    k1 pushes nowhere, k2 pushes as the KL does, k3 as the KL in the other direction does.

    No clamps: k3 may overflow to inf.  Raises ValueError for an unknown estimator or if the shapes
    differ, TypeError if ref_logprobs is a Tensor.
    """
    refuse_tensors("kl_estimate", ref_logprobs=ref_logprobs)
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    k = sub(logprobs, ref_logprobs)
    if estimator == "k1":
        return k
    if estimator == "k2":
        return k * k / 2
    if estimator == "k3":
        return exp(-k) - 1 + k
    raise ValueError(f"unknown estimator {estimator!r}; choose 'k1', 'k2' or 'k3'")


def exact_kl(logits: Any, ref_logits: Any) -> Any:
    """KL(π‖π_ref) of the next token, by summing over the whole vocabulary.

        KL = Σ_v π_v (log π_v − log π_ref,v),    π = softmax(logits)

    logits, ref_logits  (..., V)  (ref_logits is a constant);  returns (...), never below 0 but for
    rounding

    Gradient: ∂KL/∂logits_v = π_v (k_v − KL), with k_v = log π_v − log π_ref,v.

    A token of probability 0 under π (a logit of −inf) adds 0, the limit of p·log p.  A token that
    only the reference rules out makes the KL infinite, as it should.

    Raises ValueError if the shapes differ or there is no vocabulary axis, TypeError if ref_logits
    is a Tensor.
    """
    refuse_tensors("exact_kl", ref_logits=ref_logits)
    check_same_shape(logits=logits, ref_logits=ref_logits)
    if getattr(logits, "shape", ()) == ():
        raise ValueError("logits must have shape (..., V), got ()")
    xp = array_module(value(logits), ref_logits)
    log_p, log_q = log_softmax(logits), log_softmax(ref_logits)
    possible = xp.exp(value(log_p)) > 0
    # Written over before they meet: −inf − (−inf) is NaN.  The impossible tokens now contribute
    # e⁰·(0 − 0) = 0, and `where` sends them no gradient.
    log_p, log_q = where(possible, log_p, 0), where(possible, log_q, 0)
    return sum(exp(log_p) * (log_p - log_q), axis=-1)


def penalized_objective(reward: Any, kl: Any, beta: float) -> Any:
    """The article's objective, to be maximised:  Objective = Reward − β·KL.

    3.0 − 0.1·4.0 = 2.6, and after a drift to a KL of 20 only 3.0 − 0.1·20.0 = 1.0.
    Ziegler et al. 2019 (arXiv 1909.08593) eq. 2; Ouyang et al. 2022 (arXiv 2203.02155) eq. 2,
    first line.

    reward, kl  numbers, arrays or Tensors of one shape;  beta a number;  returns the same shape

    Gradient: 1 and −β.  Raises ValueError if the shapes differ, TypeError if beta is a Tensor.
    """
    refuse_tensors("penalized_objective", beta=beta)
    check_same_shape(reward=reward, kl=kl)
    return sub(reward, mul(kl, float(beta)))


def penalized_rewards(scores: Array, logprobs: Array, ref_logprobs: Array, mask: Array,
                      beta: float) -> Array:
    """The same objective folded into a reward for every token.

        r_t = −β·(log π_t − log π_ref,t) + [t is the last real token]·score

    Summed over a reply this is score − β·Σ k1, whose mean under π is the article's objective;
    spread over the tokens it tells each token what it alone cost.  Ziegler et al. 2019 eq. 2 and
    the article's own note that the penalty is "folded into the reward signal at every step".

    scores                  (B,)    of whole replies
    logprobs, ref_logprobs  (B, R)  of the sampled tokens under π (as it sampled them) and π_ref
    mask                    (B, R)  boolean; masked slots may hold anything
    returns                 (B, R)  0 where masked

    A plain array function: a reward is a number, not something to differentiate.

    Convention: k1, unclamped, and the score at the last True of each row, which is normally the
    end-of-sequence token.  (Some systems put it one position later, at the first pad, or clamp the
    log-ratio or the score.)  A row without a token drops its score and is 0.

    Raises TypeError for a Tensor or a mask that is not boolean, ValueError if shapes do not fit.
    """
    refuse_tensors("penalized_rewards", scores=scores, logprobs=logprobs,
                   ref_logprobs=ref_logprobs, mask=mask, beta=beta)
    check_mask(mask)
    check_ndim(2, "(B, R)", logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    check_ndim(1, "(B,)", scores=scores)
    if scores.shape[0] != mask.shape[0]:
        raise ValueError(f"scores {scores.shape} must have one entry a row of mask {mask.shape}")
    xp = array_module(scores, logprobs, ref_logprobs, mask)
    k1 = xp.where(mask, logprobs, 0) - xp.where(mask, ref_logprobs, 0)
    return xp.where(last_token(mask), scores[:, None], 0) - float(beta) * k1


def adaptive_beta(beta: float, observed_kl: float, target_kl: float, horizon: float,
                  n: int) -> float:
    """A controller that keeps the KL near a target: raise β when it is above, lower it when below.

        β′ = β·(1 + clip(observed/target − 1, −0.2, +0.2)·n/horizon)

    Ziegler et al. 2019, section 2.2, where n/horizon is the constant K_β: here n is the replies
    seen since the last update, so that the pace does not depend on the batch size.  The clip keeps
    one unusual batch from moving β by more than 0.2·n/horizon of itself.

    Convention: observed_kl is the batch mean of each reply's *sum* of k1 over its tokens.  (Some
    systems feed a mean over tokens; a target tuned for one is wrong for the other by about the
    length of a reply.)

    Raises ValueError if target_kl or horizon is not positive, TypeError for a Tensor.
    """
    refuse_tensors("adaptive_beta", beta=beta, observed_kl=observed_kl, target_kl=target_kl,
                   horizon=horizon, n=n)
    for name, number in (("target_kl", target_kl), ("horizon", horizon)):
        if not number > 0:                               # written so that NaN is refused too
            raise ValueError(f"{name} must be positive, got {number}")
    error = min(max(float(observed_kl) / float(target_kl) - 1, -0.2), 0.2)
    return float(beta) * (1 + error * float(n) / float(horizon))

"""A correct adapter in NumPy, written from the equations of the vector files and nothing else.

It is what mistakes are injected into.  Its gradients are exact to the last digits by a step along
the imaginary axis, f(x + ih) = f(x) + ih·f'(x) (Squire & Trapp 1998), so that every formula below
is written once and also takes complex numbers: what is compared is their real part.
"""

import numpy as np

framework = "numpy"


def smaller(a, b):
    return np.where(np.real(a) <= np.real(b), a, b)


def larger(a, b):
    return np.where(np.real(a) >= np.real(b), a, b)


def between(x, low, high):
    return smaller(larger(x, low), high)


def mean(x, mask, count=None):
    return np.where(mask, x, 0).sum() / (count or mask.sum())


def detached(x):
    return np.real(x)


def softplus(x):
    """log(1 + eˣ), without overflow."""
    return np.where(np.real(x) > 0, x + np.log1p(np.exp(-x)), np.log1p(np.exp(x)))


def log_softmax(z):
    z = z - np.real(z).max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def weighed(p, x):
    """Σ p·x over the last axis, where 0·∞ counts as 0."""
    return np.where(np.real(p) > 0, p * x, 0).sum(axis=-1)


def slopes_of(function, *names):
    """The function that gives the gradients of Σ cotangent·result for those arguments."""
    def slopes(cotangent=None, **inputs):
        weight = 1 if cotangent is None else cotangent
        return {name: slope(lambda z, name=name: function(**inputs | {name: z}), inputs[name],
                            weight) for name in names}

    def slope(result, x, weight, step=1e-200):
        dx = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            z = x.astype(complex)
            z[i] += step * 1j
            dx[i] = (np.imag(result(z)) * weight).sum() / step
        return dx
    return slopes


# --- language model and SFT ----------------------------------------------------------------------

def token_logprobs(logits, tokens, temperature):
    logp = log_softmax(logits[:, :-1] / temperature)
    return np.take_along_axis(logp, tokens[:, 1:, None], axis=-1)[..., 0]


def position_ids(mask):
    return np.cumsum(mask, axis=1) - 1


def sft_loss(logprobs, mask, count=None, micro_batches=None):
    return mean(-logprobs, mask, count)


def aggregate_loss(losses, mask, micro_batches=None, length=None):
    starts = np.cumsum([0, *([len(mask)] if micro_batches is None else micro_batches)])
    n = mask.sum()
    parts = [mean(losses[a:b], mask[a:b], n)
             for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return sum(parts)


def sft_mask(tokens, mask, prompt_lengths, pad_id):
    places = np.arange(tokens.shape[1])
    return (mask & (places >= prompt_lengths[:, None]))[:, 1:]


# --- reward model --------------------------------------------------------------------------------

def bradley_terry_loss(score_chosen, score_rejected, margin=0.0, count=None):
    losses = softplus(-(score_chosen - score_rejected - margin))
    return losses.sum() / (count or len(losses))


def best_of_loss(scores, best):
    rows = np.arange(len(scores))
    gaps = scores[rows, best][:, None] - scores
    others = np.arange(scores.shape[1]) != best[:, None]
    return softplus(-gaps[others]).mean()


def score_index(tokens, mask, prompt_width, pad_id):
    places = np.arange(mask.shape[1])
    return np.where(mask, places, -1).max(axis=1)


def per_token_preference_loss(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens,
                              chosen_mask, rejected_mask):
    rows = np.arange(len(chosen_scores))
    chosen = chosen_scores[rows, chosen_mask.sum(axis=1) - 1]
    rejected = rejected_scores[rows, rejected_mask.sum(axis=1) - 1]
    return softplus(-(chosen - rejected)).mean()


def normalized_scores(scores, reference_scores):
    mu, sigma = reference_scores.mean(), reference_scores.std()
    return (scores - mu) / sigma


# --- KL ------------------------------------------------------------------------------------------

def kl_estimate(logprobs, ref_logprobs, estimator):
    d = logprobs - ref_logprobs
    if estimator == "k1":
        return d
    return d * d / 2 if estimator == "k2" else np.expm1(-d) + d


def exact_kl(logits, ref_logits):
    logp, logq = log_softmax(logits), log_softmax(ref_logits)
    return weighed(np.exp(logp), logp - logq)


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3"):
    k = kl_estimate(logprobs, ref_logprobs, estimator)
    return mean(k, mask, count)


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta):
    rewards = np.where(mask, -beta * (logprobs - ref_logprobs), 0)
    places = np.arange(mask.shape[1])
    last = np.where(mask, places, -1).max(axis=1)
    return rewards + np.where(places == last[:, None], scores[:, None], 0)


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    error = np.clip(observed_kl / target_kl - 1, -0.2, 0.2)
    return beta * (1 + error * n / horizon)


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    k = np.where(mask, logprobs - ref_logprobs, 0)
    return adaptive_beta(beta, k.sum(axis=1).mean(), target_kl, horizon, len(mask))


# --- advantages ----------------------------------------------------------------------------------

def gae(rewards, values, mask, gamma, lam):
    rewards, values = np.where(mask, rewards, 0), np.where(mask, values, 0)
    advantages = np.zeros(rewards.shape)
    later = after = np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * after - values[:, t]
        later = delta + gamma * lam * later
        advantages[:, t] = later
        after = values[:, t]
    return advantages, advantages + values


def whiten(x, mask, shift_mean, minibatches=None):
    mu = x[mask].mean()
    variance = ((x[mask] - mu) ** 2).mean()
    y = (x - mu) / np.sqrt(variance + 1e-8)
    return np.where(mask, y if shift_mean else y + mu, 0)


def group_advantages(scores, group_size, deviation):
    groups = scores.reshape(-1, group_size)
    above = groups - groups.mean(axis=1, keepdims=True)
    if deviation == "group-sample":
        above = above / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-4)
    elif deviation != "none":
        raise ValueError(f"no deviation {deviation}")
    return above.reshape(-1)


def leave_one_out_advantages(scores, group_size):
    groups = scores.reshape(-1, group_size)
    others = (groups.sum(axis=1, keepdims=True) - groups) / (group_size - 1)
    return (groups - others).reshape(-1)


# --- losses of reinforcement learning and DPO ----------------------------------------------------

def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio, count=None):
    ratio = np.exp(logprobs - old_logprobs)
    bounded = between(ratio, 1 - clip_ratio, 1 + clip_ratio)
    return -mean(smaller(ratio * advantages, bounded * advantages), mask, count)


def clipped_value_loss(values, old_values, returns, mask, clip_range, count=None):
    near = old_values + between(values - old_values, -clip_range, clip_range)
    return mean(larger((values - returns) ** 2, (near - returns) ** 2), mask, count) / 2


def entropy(logits, mask, temperature=1.0, count=None):
    logp = log_softmax(logits / temperature)
    return mean(-weighed(np.exp(logp), logp), mask, count)


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, count=None):
    gap = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return softplus(-gap).sum() / (count or len(chosen))


# --- optimizer -----------------------------------------------------------------------------------

def adamw_step(params, grads, lr, beta1, beta2, eps, weight_decay):
    m = v = 0.0
    after = []
    for t, g in enumerate(grads, start=1):
        params = params * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        root = np.sqrt(v / (1 - beta2 ** t)) + eps
        params = params - lr * m / (1 - beta1 ** t) / root
        after.append(params)
    return np.stack(after)


def clip_by_global_norm(grads, max_norm):
    norm = np.sqrt(sum((g ** 2).sum() for g in grads.values()))
    factor = min(1.0, max_norm / (norm + 1e-6))
    return {name: g * factor for name, g in grads.items()}, norm


# --- gradients -----------------------------------------------------------------------------------

token_logprobs_grad = slopes_of(token_logprobs, "logits")
sft_loss_grad = slopes_of(sft_loss, "logprobs")
aggregate_loss_grad = slopes_of(aggregate_loss, "losses")
bradley_terry_loss_grad = slopes_of(bradley_terry_loss, "score_chosen", "score_rejected")
best_of_loss_grad = slopes_of(best_of_loss, "scores")
per_token_preference_loss_grad = slopes_of(per_token_preference_loss, "chosen_scores",
                                           "rejected_scores")
kl_estimate_grad = slopes_of(kl_estimate, "logprobs")
exact_kl_grad = slopes_of(exact_kl, "logits")
kl_loss_grad = slopes_of(kl_loss, "logprobs")
clipped_surrogate_loss_grad = slopes_of(clipped_surrogate_loss, "logprobs")
clipped_value_loss_grad = slopes_of(clipped_value_loss, "values")
entropy_grad = slopes_of(entropy, "logits")
dpo_loss_grad = slopes_of(dpo_loss, "chosen", "rejected")

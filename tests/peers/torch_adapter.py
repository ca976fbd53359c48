"""An adapter in PyTorch, written as training code is: masks go in by `where`, gradients are
autograd's.  `minirlhf verify tests/peers/torch_adapter.py` shows that all of it matches."""

import math

import torch
import torch.nn.functional as F


def mean(x, mask, count=None):
    return torch.where(mask, x, 0.0).sum() / (count or mask.sum())


# --- language model and SFT ----------------------------------------------------------------------

def token_logprobs(logits, tokens, temperature):
    logp = F.log_softmax(logits[:, :-1] / temperature, dim=-1)
    return logp.gather(-1, tokens[:, 1:, None]).squeeze(-1)


def position_ids(mask):
    return mask.cumsum(1) - 1


def sft_loss(logprobs, mask, count=None, micro_batches=None):
    return mean(-logprobs, mask, count)


def aggregate_loss(losses, mask, micro_batches=None, length=None):
    return mean(losses, mask)


def sft_mask(tokens, mask, prompt_lengths, pad_id):
    return (mask & (torch.arange(tokens.shape[1]) >= prompt_lengths[:, None]))[:, 1:]


# --- reward model --------------------------------------------------------------------------------

def bradley_terry_loss(score_chosen, score_rejected, margin=0.0, count=None):
    losses = -F.logsigmoid(score_chosen - score_rejected - margin)
    return losses.sum() / (count or len(losses))


def best_of_loss(scores, best):
    gaps = scores.gather(1, best[:, None]) - scores
    others = torch.arange(scores.shape[1]) != best[:, None]
    return -F.logsigmoid(gaps[others]).mean()


def score_index(tokens, mask, prompt_width, pad_id):
    return torch.where(mask, torch.arange(mask.shape[1]), -1).max(dim=1).values


def per_token_preference_loss(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens,
                              chosen_mask, rejected_mask):
    rows = torch.arange(len(chosen_scores))
    return -F.logsigmoid(chosen_scores[rows, chosen_mask.sum(1) - 1]
                         - rejected_scores[rows, rejected_mask.sum(1) - 1]).mean()


def normalized_scores(scores, reference_scores):
    return (scores - reference_scores.mean()) / reference_scores.std(unbiased=False)


def score_without_end(scores, ended, penalty):
    return scores


# --- KL ------------------------------------------------------------------------------------------

def kl_estimate(logprobs, ref_logprobs, estimator="k1"):
    d = logprobs - ref_logprobs
    if estimator == "k1":
        return d
    if estimator == "k2":
        return d.square() / 2
    if estimator == "k3":
        return torch.expm1(-d) + d
    raise ValueError(f"no estimator {estimator}")


def exact_kl(logits, ref_logits):
    logp, logq = F.log_softmax(logits, dim=-1), F.log_softmax(ref_logits, dim=-1)
    possible = logp > -torch.inf
    gap = torch.where(possible, logp, 0.0) - torch.where(possible, logq, 0.0)
    return (logp.exp() * gap).sum(-1)


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3"):
    logprobs, ref_logprobs = (torch.where(mask, x, 0.0) for x in (logprobs, ref_logprobs))
    return mean(kl_estimate(logprobs, ref_logprobs, estimator), mask, count)


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta):
    rewards = torch.where(mask, -beta * (logprobs - ref_logprobs), 0.0)
    places = torch.arange(mask.shape[1])
    last = torch.where(mask, places, -1).max(dim=1).values
    return rewards + torch.where(places == last[:, None], scores[:, None], 0.0)


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    return beta * (1 + min(max(observed_kl / target_kl - 1, -0.2), 0.2) * n / horizon)


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    k = torch.where(mask, logprobs - ref_logprobs, 0.0)
    return adaptive_beta(beta, k.sum(1).mean().item(), target_kl, horizon, len(mask))


# --- advantages ----------------------------------------------------------------------------------

def gae(rewards, values, mask, gamma, lam):
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages, later, after = [], torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * after - values[:, t]
        later = delta + gamma * lam * later
        advantages.insert(0, later)
        after = values[:, t]
    advantages = torch.stack(advantages, dim=1)
    return advantages, advantages + values


def whiten(x, mask, shift_mean, minibatches=None):
    mu, variance = x[mask].mean(), x[mask].var(unbiased=False)
    y = (x - mu) * torch.rsqrt(variance + 1e-8)
    return torch.where(mask, y if shift_mean else y + mu, 0.0)


def in_groups(scores, group_size):
    if group_size < 2:
        raise ValueError("a reply alone in its group has nothing to be compared with")
    return scores.view(-1, group_size)


def group_advantages(scores, group_size, deviation="group-sample"):
    if deviation not in ("group-sample", "none"):
        raise ValueError(f"no deviation {deviation}")
    groups = in_groups(scores, group_size)
    above = groups - groups.mean(1, keepdim=True)
    if deviation == "group-sample":
        above = above / (groups.std(1, keepdim=True) + 1e-4)
    return above.flatten()


def leave_one_out_advantages(scores, group_size):
    groups = in_groups(scores, group_size)
    others = (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten()


# --- losses of reinforcement learning and DPO ----------------------------------------------------

def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio, count=None):
    """A ratio that would be clipped is not allowed to overflow first: ∞ times 0 is NaN."""
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0)
    advantages = torch.where(mask, advantages, 0.0)
    most = torch.where(advantages >= 0, math.log(1 + clip_ratio), torch.inf)
    ratio = torch.minimum(log_ratio, most).exp()
    bounded = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    return -mean(torch.min(ratio * advantages, bounded * advantages), mask, count)


def clipped_value_loss(values, old_values, returns, mask, clip_range, count=None):
    values, old_values, returns = (torch.where(mask, x, 0.0) for x in (values, old_values, returns))
    near = old_values + (values - old_values).clamp(-clip_range, clip_range)
    errors = torch.max((values - returns).square(), (near - returns).square())
    return mean(errors, mask, count) / 2


def entropy(logits, mask, temperature=1.0, count=None):
    logp = F.log_softmax(torch.where(mask[..., None], logits, 0.0) / temperature, dim=-1)
    terms = logp.exp() * torch.where(logp > -torch.inf, logp, 0.0)
    return mean(-terms.sum(-1), mask, count)


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, count=None):
    gap = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -F.logsigmoid(gap).sum() / (count or len(chosen))


# --- optimizer -----------------------------------------------------------------------------------

def adamw_step(params, grads, lr, beta1, beta2, eps, weight_decay):
    """PyTorch's own."""
    p = torch.nn.Parameter(params.clone())
    optimizer = torch.optim.AdamW([p], lr=lr, betas=(beta1, beta2), eps=eps,
                                  weight_decay=weight_decay)
    after = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        after.append(p.detach().clone())
    return torch.stack(after)


def clip_by_global_norm(grads, max_norm):
    """PyTorch's own."""
    params = {name: torch.nn.Parameter(torch.zeros_like(g)) for name, g in grads.items()}
    for name, p in params.items():
        p.grad = grads[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(params.values(), max_norm)
    return {name: p.grad for name, p in params.items()}, norm

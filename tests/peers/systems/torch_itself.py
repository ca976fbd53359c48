"""torch 2.13.0: the optimizer, the clipping and the cross-entropy on which the other systems stand.

Called are torch.optim.AdamW and Adam, torch.nn.utils.clip_grad_norm_, torch.nn.functional's
cross_entropy, nll_loss and kl_div, and torch.distributions.Categorical.
"""

import torch
from torch.nn import functional

PRESETS = ()


def adamw_step(params, grads, lr, beta1, beta2, eps, weight_decay):
    """torch.optim.AdamW (torch/optim/adamw.py)."""
    return stepped(torch.optim.AdamW, params, grads, lr, beta1, beta2, eps, weight_decay)


def adam_with_decay(params, grads, lr, beta1, beta2, eps, weight_decay):
    """torch.optim.Adam (torch/optim/adam.py), whose weight_decay goes through the moments."""
    return stepped(torch.optim.Adam, params, grads, lr, beta1, beta2, eps, weight_decay)


def stepped(optimizer_class, params, grads, lr, beta1, beta2, eps, weight_decay):
    parameter = torch.nn.Parameter(params.clone())
    optimizer = optimizer_class([parameter], lr=lr, betas=(beta1, beta2), eps=eps,
                                weight_decay=weight_decay)
    after = []
    for gradient in grads:
        parameter.grad = gradient.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    return torch.stack(after)


def clip_by_global_norm(grads, max_norm):
    """torch.nn.utils.clip_grad_norm_ (torch/nn/utils/clip_grad.py)."""
    parameters = {name: torch.nn.Parameter(torch.zeros_like(x)) for name, x in grads.items()}
    for name, parameter in parameters.items():
        parameter.grad = grads[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm)
    return {name: parameter.grad for name, parameter in parameters.items()}, norm


def token_logprobs(logits, tokens, temperature):
    """torch.nn.functional.cross_entropy without a reduction, of logits over the temperature."""
    shifted = (logits / temperature)[:, :-1]
    return -functional.cross_entropy(shifted.transpose(1, 2), tokens[:, 1:], reduction="none")


def sft_loss(logprobs, mask, count=None):
    """torch.nn.functional.nll_loss, the second half of cross_entropy: pads have the ignored index.

    A count is what Hugging Face's trainers call num_items_in_batch: the sum is divided by it.
    """
    target = torch.where(mask, 0, -100).flatten()
    both = logprobs.reshape(-1, 1), target
    if count is None:
        return functional.nll_loss(*both)
    return functional.nll_loss(*both, reduction="sum") / count


def best_of_loss(scores, best):
    """cross_entropy over the scores: the choice among K as one softmax."""
    return functional.cross_entropy(scores, best)


def exact_kl(logits, ref_logits):
    """torch.nn.functional.kl_div, whose second argument is the distribution that is averaged."""
    ours, theirs = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    return functional.kl_div(theirs, ours, reduction="none", log_target=True).sum(-1)


def entropy(logits, mask, temperature=1.0):
    """torch.distributions.Categorical.entropy, averaged over the mask."""
    return torch.distributions.Categorical(logits=(logits / temperature)[mask]).entropy().mean()


MODES = {"adamw_step": {"Adam, with weight_decay": adam_with_decay}}

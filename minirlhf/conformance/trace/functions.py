"""The settings of a step, and the functions that its rules look up by name.

Each is one call of the package's own mathematics on what the environment `e` holds (rules.py).
"""

from dataclasses import dataclass

from minirlhf.autograd import value_and_grad
from minirlhf.bradley_terry import bradley_terry_loss
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss, entropy
from minirlhf.gae import gae, whiten
from minirlhf.group_advantage import group_advantages
from minirlhf.kl_penalty import kl_estimate, penalized_objective, penalized_rewards
from minirlhf.ops import exp, mul, softplus, where
from minirlhf.ops import sum as sum_
from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm
from minirlhf.parameters import copy
from minirlhf.stages.training import require_positive
from minirlhf.tokens import last_token, token_logprobs
from minirlhf.transformer import logits, values


@dataclass(frozen=True)
class StepSettings:
    """The numbers of a step; each step reads those that it needs."""

    temperature: float = 1.0
    """τ: the logits are divided by it, for all log-probs and the entropy"""
    beta: float = 0.2
    """β, strength of the KL penalty in the reward"""
    gamma: float = 1.0
    """discount of GAE"""
    lam: float = 0.95
    """λ of GAE"""
    clip_ratio: float = 0.2
    """ε of the ratio"""
    clip_value: float = 0.2
    """ε of the value, in units of the return"""
    group_size: int = 4
    """GRPO: replies to one prompt, which stand in rows one after another"""
    max_grad_norm: float = 1.0
    """the gradient of each model is scaled down to this norm"""
    lr_policy: float = 3e-4
    """learning rate of the policy"""
    lr_value: float = 1e-3
    """learning rate of the value model"""
    lr_reward: float = 1e-3
    """learning rate of the reward model"""
    beta1: float = 0.9
    """AdamW's β₁"""
    beta2: float = 0.999
    """AdamW's β₂"""
    eps: float = 1e-8
    """AdamW's ε, outside the root and after the bias correction"""
    weight_decay: float = 0.0
    """AdamW's decoupled decay, multiplied by the learning rate, on every parameter"""

    def __post_init__(self):
        require_positive(self, "temperature", "clip_ratio", "clip_value", "group_size",
                         "max_grad_norm", "eps")


# --- what the models say -------------------------------------------------------------------------

def longest(e) -> int:
    """The longest response."""
    return e["mask"].shape[1]


def logits_of(e, params, config):
    return logits(params, config, e["sequences"], e["sequence_mask"])


def logprobs_of(e, params, config):
    z = e["logits_of"](e, params, config)
    return token_logprobs(z, e["sequences"], e["temperature"])[:, -longest(e):]


def entropy_of(e, params, config):
    z = e["logits_of"](e, params, config)[:, -longest(e) - 1:-1]
    return entropy(z / e["temperature"], e["mask"])


def head_of(e, params, config, tokens, mask):
    return values(params, config, tokens, mask)


def values_of(e, params, config):
    head = e["head_of"](e, params, config, e["sequences"], e["sequence_mask"])
    return head[:, -longest(e) - 1:-1]


def scores_of(e, params, config, tokens, mask):
    head = e["head_of"](e, params, config, tokens, mask)
    return sum_(where(last_token(mask), head, 0), axis=1)


# --- rewards and advantages, losses, the optimizer -----------------------------------------------

def kl_of(e):
    return where(e["mask"], kl_estimate(e["old_logprobs"], e["ref_logprobs"]), 0)


def rewards_of(e):
    return penalized_rewards(e["scores"], e["old_logprobs"], e["ref_logprobs"], e["mask"],
                             e["beta"])


def advantages_of(e):
    return gae(e["rewards"], e["old_values"], e["mask"], e["gamma"], e["lam"])[0]


def returns_of(e):
    return where(e["mask"], e["advantages"] + e["old_values"], 0)


def whiten_of(e):
    return whiten(e["advantages"], e["mask"])


def objectives_of(e):
    return penalized_objective(e["scores"], e["kl"].sum(axis=1), e["beta"])


def group_of(e):
    return group_advantages(e["objectives"], e["group_size"])


def spread_of(e):
    return where(e["mask"], e["group_advantages"][:, None], 0)


def ratios_of(e):
    return exp(where(e["mask"], e["logprobs"] - e["old_logprobs"], 0))


def policy_loss_of(e, logprobs, advantages):
    return clipped_surrogate_loss(logprobs, e["old_logprobs"], advantages, e["mask"],
                                  e["clip_ratio"])


def value_loss_of(e, new_values):
    return clipped_value_loss(new_values, e["old_values"], e["returns"], e["mask"],
                              e["clip_value"])


def gaps_of(e):
    return e["chosen_scores"] - e["rejected_scores"]


def pair_losses_of(e):
    return softplus(-e["gaps"])


def pair_loss_of(e, chosen, rejected):
    return bradley_terry_loss(chosen, rejected)


def backward_of(e, function, params, cotangent):
    """Σ cotangent·∂function(params)/∂θ for every parameter θ."""
    return value_and_grad(lambda p: sum_(mul(function(p), cotangent)))(params)[1]


def norm_of(e, grads):
    return clip_by_global_norm(grads, e["max_grad_norm"])[1]


def clip_of(e, grads):
    return clip_by_global_norm(grads, e["max_grad_norm"])[0]


def adamw_of(e, params, grads, lr):
    new = copy(params)
    adamw_step(new, grads, adamw_state(new), lr, e["beta1"], e["beta2"], e["eps"],
               e["weight_decay"])
    return new

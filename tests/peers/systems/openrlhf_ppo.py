"""OpenRLHF 0.11.2: its losses, its KL estimates and rewards, and its experience maker.

Called are openrlhf.models' `Actor.forward` (openrlhf/models/actor.py), `PolicyLoss`, `ValueLoss`,
`SFTLoss`, `aggregate_loss` (loss.py), `compute_approx_kl`, `compute_reward`, `masked_mean`
(utils.py), `_optimizer_step_loss_norm` (openrlhf/utils/loss_utils.py), and of
openrlhf/trainer/ppo_utils/ `AdaptiveKLController`, `apply_stop_properly_penalty` and the methods of
`RemoteExperienceMaker`, which want no more of `self` than the settings they name.

What else the package imports is not installed, and has stand-ins (stand_ins.py).
"""

import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers.modeling_outputs  # before it could take a stand-in for the real

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from stand_ins import OF_OPENRLHF, stand_ins  # noqa: E402

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")       # compute_entropy is compiled; run it as is

with stand_ins(*OF_OPENRLHF):
    from openrlhf import models
    from openrlhf.models import utils
    from openrlhf.trainer.ppo_utils import experience_maker, length_penalty
    from openrlhf.trainer.ppo_utils.kl_controller import AdaptiveKLController
    from openrlhf.utils import loss_utils

PRESETS = ("openrlhf", "rloo-openrlhf")
COARSE = {
    "token_logprobs": "Actor.forward takes logits in float32",
    "entropy": "Actor.forward takes logits in float32",
    "kl_estimate": "compute_approx_kl takes log-probs in float32",
    "kl_loss": "compute_approx_kl takes log-probs in float32",
    "kl_controller": "compute_approx_kl takes log-probs in float32",
    "penalized_rewards": "compute_approx_kl takes log-probs in float32",
    "whiten": "compute_advantages_and_returns takes advantages in float32",
}


# --- log-probabilities and entropy ---------------------------------------------------------------

def forward(logits, tokens, temperature, **wanted):
    """models.Actor.forward of a model that answers with these logits."""
    def model(*_, **__):
        return transformers.modeling_outputs.CausalLMOutput(logits=logits.clone())
    actor = SimpleNamespace(packing_samples=False, temperature=temperature, model=model)
    return models.Actor.forward(actor, tokens, attention_mask=torch.ones_like(tokens), **wanted)


def token_logprobs(logits, tokens, temperature):
    return forward(logits, tokens, temperature, return_logprobs=True)


def entropy(logits, mask, temperature=1.0, count=None):
    """What training_step gives aggregate_loss; the model has one position more than it is read."""
    longer = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)
    tokens = torch.zeros(longer.shape[:2], dtype=torch.long)
    output = forward(longer, tokens, temperature, return_output=True, return_entropy=True)
    return models.aggregate_loss(output.entropy, mask, batch_num_tokens=count)


# --- KL and rewards ------------------------------------------------------------------------------

def kl_estimate(logprobs, ref_logprobs, estimator):
    """A + in the estimator's name is unbiased_gradient=True."""
    if estimator.rstrip("+") not in ("k1", "k2", "k3"):
        raise NotImplementedError("kl_estimator is k1, k2 or k3")
    return utils.compute_approx_kl(logprobs, ref_logprobs, kl_estimator=estimator.rstrip("+"),
                                     unbiased_gradient=estimator.endswith("+"))


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k2",
            unbiased_gradient=False):
    kl = utils.compute_approx_kl(logprobs, ref_logprobs, old_logprobs, estimator,
                                   unbiased_gradient)
    return models.aggregate_loss(kl, mask, batch_num_tokens=count)


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta, estimator="k1",
                      clip_range=(-10.0, 10.0)):
    """Actor.forward multiplies the log-probs of both models by the mask before."""
    kl = utils.compute_approx_kl(logprobs * mask.float(), ref_logprobs * mask.float(),
                                   kl_estimator=estimator)
    return utils.compute_reward(scores, beta, kl, mask, clip_range)


def score_without_end(scores, ended, penalty):
    experience = SimpleNamespace(rewards=scores.clone(), truncated=~ended)
    length_penalty.apply_stop_properly_penalty([experience], penalty)
    return experience.rewards


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    controller = AdaptiveKLController(beta, target_kl, horizon)
    controller.update(observed_kl, n)
    return controller.value


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    """info["kl"] of make_experience, averaged over replies as the status is."""
    kl = utils.compute_approx_kl(logprobs * mask.float(), ref_logprobs * mask.float())
    observed = utils.masked_mean(kl, mask, dim=-1).mean().item()
    return adaptive_beta(beta, observed, target_kl, horizon, len(mask))


# --- advantages ----------------------------------------------------------------------------------

MAKER = experience_maker.RemoteExperienceMaker


def gae(rewards, values, mask, gamma, lam):
    return MAKER.get_advantages_and_returns(None, values, rewards, mask, gamma, lam)


def reward_to_go(rewards, mask, gamma):
    return MAKER.get_cumulative_returns(None, rewards, mask, gamma)


def whiten(x, mask, shift_mean):
    if not shift_mean:
        raise NotImplementedError("the mean always goes")
    experience = SimpleNamespace(advantages=x, action_mask=mask)
    settings = SimpleNamespace(algo=SimpleNamespace(advantage=SimpleNamespace(no_std_norm=False)))
    run(MAKER.compute_advantages_and_returns, "all_advantages = ", "for exp in experiences",
        experiences=[experience], args=settings)
    return experience.advantages


def of_groups(scores, group_size, estimator):
    """compute_advantages_and_returns of replies of one token without a KL."""
    maker = MAKER.__new__(MAKER)
    maker.advantage_estimator, maker.kl_ctl = estimator, SimpleNamespace(value=0.0)
    maker.strategy = SimpleNamespace(args=SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=group_size),
        algo=SimpleNamespace(advantage=SimpleNamespace(estimator=estimator, gamma=1.0)),
        reward=SimpleNamespace(clip_range=(-10.0, 10.0))))
    column = torch.zeros(len(scores), 1, dtype=scores.dtype)
    experience = SimpleNamespace(rewards=scores, index=list(range(len(scores))), info={},
                                 kl=column, action_mask=torch.ones_like(column, dtype=torch.bool))
    maker.compute_advantages_and_returns([experience])
    return experience.advantages[:, 0]


def group_advantages(scores, group_size, deviation):
    names = {"group-sample": "group_norm", "none": "dr_grpo"}
    if deviation not in names:
        raise NotImplementedError("estimators divide by the group's deviation or by nothing")
    return of_groups(scores, group_size, names[deviation])


def leave_one_out_advantages(scores, group_size):
    return of_groups(scores, group_size, "rloo")


# --- losses --------------------------------------------------------------------------------------

def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio, count=None,
                           clip_eps_high=None, **settings):
    loss = models.PolicyLoss(clip_ratio, clip_eps_high or clip_ratio, **settings)
    return loss(logprobs, old_logprobs, advantages, mask, batch_num_tokens=count)[0]


def clipped_value_loss(values, old_values, returns, mask, clip_range, count=None, clip=True):
    loss = models.ValueLoss(clip_range if clip else None)
    return loss(values, old_values, returns, mask, batch_num_tokens=count)


def aggregate_loss(losses, mask, micro_batches=None, token_level_loss=True):
    """Each micro-batch by the counts of the whole step; DeepSpeed divides by their number."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    masks = mask.split(sizes)
    counts = loss_utils._optimizer_step_loss_norm(masks, None, 1, len(sizes))
    return sum(models.aggregate_loss(x, m, token_level_loss, **counts)
               for x, m in zip(losses.split(sizes), masks, strict=True)) / len(sizes)


def sft_loss(logprobs, mask, count=None, micro_batches=None):
    if micro_batches is None:
        return models.SFTLoss()(logprobs, mask, batch_num_tokens=count)
    sizes = micro_batches.tolist()
    masks = mask.split(sizes)
    counts = loss_utils._optimizer_step_loss_norm(masks, None, 1, len(sizes))
    return sum(models.SFTLoss()(x, m, **counts)
               for x, m in zip(logprobs.split(sizes), masks, strict=True)) / len(sizes)


MODES = {
    "clipped_surrogate_loss": {
        "dual_clip=3.0": partial(clipped_surrogate_loss, dual_clip=3.0),
        "clip_eps_high=0.28": partial(clipped_surrogate_loss, clip_eps_high=0.28),
        "token_level_loss=False": partial(clipped_surrogate_loss, token_level_loss=False),
        "policy_loss_type='gspo'": partial(clipped_surrogate_loss, policy_loss_type="gspo")},
    "clipped_value_loss": {"clip_eps=None": partial(clipped_value_loss, clip=False)},
    "aggregate_loss": {"token_level_loss=False": partial(aggregate_loss, token_level_loss=False)},
    "kl_loss": {"unbiased_gradient=True": partial(kl_loss, unbiased_gradient=True)},
    "penalized_rewards": {
        "reward_clip_range=None": partial(penalized_rewards, clip_range=None),
        "kl_estimator='k2'": partial(penalized_rewards, estimator="k2"),
        "kl_estimator='k3'": partial(penalized_rewards, estimator="k3")},
}

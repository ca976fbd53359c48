"""verl, releases 0.7.0 and 0.9.1: its core algorithms.

Called are verl.trainer.ppo.core_algos' advantage estimators, `kl_penalty`, `agg_loss`,
`compute_policy_loss_vanilla` and `_gspo`, `compute_value_loss`, `compute_entropy_loss`,
`AdaptiveKLController`, verl.trainer.ppo.ray_trainer's `apply_kl_penalty`,
verl.utils.torch_functional's `post_process_logits`, `log_probs_from_logits_response` and
`masked_whiten`, verl.workers.utils.losses' `sft_loss`, and a statement of `NaiveRewardManager`
(verl/workers/reward_manager/naive.py).

verl's masks are of integers, which matters: n/(n − 1) of one is float32, and a count + 1e-8 too.
"""

import sys
from collections import defaultdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import transformers.modeling_outputs  # noqa: F401   before it could take a stand-in for the real

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from stand_ins import OF_VERL, stand_ins  # noqa: E402

with stand_ins(*OF_VERL):
    from tensordict import TensorDict
    from verl import DataProto
    from verl.trainer.ppo import core_algos, ray_trainer
    from verl.utils import torch_functional
    from verl.workers.config import ActorConfig
    from verl.workers.reward_manager import naive
    from verl.workers.utils import losses as worker_losses
    OLD = version("verl").startswith("0.7.")
    if OLD:
        from verl.workers.actor import dp_actor

PRESETS = ("verl-2026-01",) if OLD else ("verl-2026-08",)
COARSE = {"whiten": "masked_var's n/(n − 1) of a mask of integers is float32",
          "penalized_rewards": "the reward manager's scores are float32",
          "group_advantages": "the deviation of a group of one is a tensor of float32",
          "group_advantages, grpo_vectorized": "group_mean_std takes scores in float32"}


# --- log-probabilities and entropy ---------------------------------------------------------------

def tempered(logits, temperature):
    return torch_functional.post_process_logits(None, logits.clone(), temperature, None, None)


def token_logprobs(logits, tokens, temperature):
    return torch_functional.log_probs_from_logits_response(
        tokens, tempered(logits, temperature), tokens.shape[1] - 1)


def entropy(logits, mask, temperature=1.0):
    return core_algos.compute_entropy_loss(tempered(logits, temperature), mask.long())


# --- KL and rewards ------------------------------------------------------------------------------

def kl_estimate(logprobs, ref_logprobs, estimator):
    return core_algos.kl_penalty(logprobs, ref_logprobs, estimator)


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3"):
    """As losses.ppo_loss puts it together; old_logprobs play no part."""
    kl = core_algos.kl_penalty(logprobs, ref_logprobs, estimator)
    return core_algos.agg_loss(kl, mask, "token-mean", batch_num_tokens=count)


def scored(scores, mask):
    """The reward manager's token_level_scores, a reply at a time."""
    tensor = torch.zeros(mask.shape, dtype=torch.float32)       # as it makes them
    for i, score in enumerate(scores):
        run(naive.NaiveRewardManager.__call__, "reward_tensor[i", "reward_tensor[i", i=i,
            reward_tensor=tensor, reward=score, valid_response_length=mask[i].sum())
    return tensor


def penalised(scores, logprobs, ref_logprobs, mask, controller, kl_penalty="kl"):
    batch = TensorDict({"response_mask": mask.long(), "old_log_probs": logprobs,
                        "ref_log_prob": ref_logprobs, "token_level_scores": scored(scores, mask)},
                       batch_size=[len(mask)])
    data, _ = ray_trainer.apply_kl_penalty(DataProto(batch=batch), controller, kl_penalty)
    return data.batch["token_level_rewards"]


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta, kl_penalty="kl"):
    fixed = core_algos.FixedKLController(beta)
    return penalised(scores, logprobs, ref_logprobs, mask, fixed, kl_penalty)


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    controller = core_algos.AdaptiveKLController(beta, target_kl, horizon)
    controller.update(observed_kl, n)
    return controller.value


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    controller = core_algos.AdaptiveKLController(beta, target_kl, horizon)
    penalised(torch.zeros(len(mask)), logprobs, ref_logprobs, mask, controller)
    return controller.value


# --- advantages ----------------------------------------------------------------------------------

def gae(rewards, values, mask, gamma, lam):
    """The advantages that come out are whitened; those before are its returns − values."""
    _, returns = core_algos.compute_gae_advantage_return(rewards, values, mask.long(), gamma, lam)
    return returns - values, returns


def reward_to_go(rewards, mask, gamma):
    return core_algos.compute_reinforce_plus_plus_outcome_advantage(
        rewards, mask.long(), config=SimpleNamespace(gamma=gamma))[1]


def whiten(x, mask, shift_mean, dtype=torch.long):
    return torch_functional.masked_whiten(x, mask.to(dtype), shift_mean)


def of_groups(estimator, scores, group_size, **settings):
    """Replies of one token; a column of ones is their mask."""
    column = scores[:, None].clone()
    groups = np.arange(len(scores)) // group_size
    return estimator(column, torch.ones_like(column), groups, **settings)[0][:, 0]


def group_advantages(scores, group_size, deviation,
                     estimator=core_algos.compute_grpo_outcome_advantage):
    if deviation not in ("group-sample", "none"):
        raise NotImplementedError("norm_adv_by_std_in_grpo is True or False")
    return of_groups(estimator, scores, group_size,
                     norm_adv_by_std_in_grpo=deviation == "group-sample")


def leave_one_out_advantages(scores, group_size,
                             estimator=core_algos.compute_rloo_outcome_advantage):
    return of_groups(estimator, scores, group_size)


# --- losses --------------------------------------------------------------------------------------

def settings(clip_ratio, **more):
    return ActorConfig(strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1,
                       clip_ratio=clip_ratio, clip_ratio_low=clip_ratio,
                       **{"clip_ratio_high": clip_ratio} | more)


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio,
                           loss=core_algos.compute_policy_loss_vanilla, agg="token-mean", **more):
    return loss(old_logprobs, logprobs, advantages, mask.long(), agg,
                config=settings(clip_ratio, **more))[0]


def clipped_value_loss(values, old_values, returns, mask, clip_range):
    return core_algos.compute_value_loss(values, returns, old_values, mask.long(), clip_range)[0]


def aggregate_loss(losses, mask, micro_batches=None, length=None, mode="token-mean"):
    """Releases 0.9: each micro-batch by the counts of the step, as losses.ppo_loss tells them.
    Releases 0.7: each by its own counts, then DataParallelPPOActor.update_policy's scale.
    """
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    counts = {}
    if micro_batches is not None and not OLD:
        counts = {"batch_num_tokens": mask.sum(), "global_batch_size": len(mask)}
    if length is not None and not OLD:
        counts["loss_scale_factor"] = length
    parts = [core_algos.agg_loss(x, m.long(), mode, **counts)
             for x, m in zip(losses.split(sizes), mask.split(sizes), strict=True)]
    return sum(scaled(part, len(sizes)) for part in parts) if OLD else sum(parts)


def scaled(policy_loss, micro_batches):
    """The end of DataParallelPPOActor.update_policy (verl/workers/actor/dp_actor.py)."""
    step = dp_actor.DataParallelPPOActor
    factor = run(step, "loss_scale_factor = 1 / ", "loss_scale_factor = 1 / ",
                 self=SimpleNamespace(gradient_accumulation=micro_batches)).loss_scale_factor
    return run(step, "loss = policy_loss *", "loss = policy_loss *", policy_loss=policy_loss,
               loss_scale_factor=factor).loss


def sft_loss(logprobs, mask, count=None):
    """losses.sft_loss of padded rows; it is always told the step's count."""
    data = defaultdict(lambda: None, dp_size=1, response_mask=mask,
                       batch_num_tokens=mask.sum() if count is None else count)
    with_padding = run(worker_losses.sft_loss, "response_mask = ", "loss = ", data=data,
                       log_prob=logprobs, dp_size=1, batch_num_tokens=data["batch_num_tokens"])
    return with_padding.loss


AGGREGATIONS = ("seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
MODES = {
    "aggregate_loss": {f"loss_agg_mode='{mode}'": partial(aggregate_loss, mode=mode)
                       for mode in AGGREGATIONS},
    "clipped_surrogate_loss": {
        f"loss_agg_mode='{mode}'": partial(clipped_surrogate_loss, agg=mode)
        for mode in AGGREGATIONS} | {
        "clip_ratio_high=0.28": partial(clipped_surrogate_loss, clip_ratio_high=0.28),
        "clip_ratio_c=1e9": partial(clipped_surrogate_loss, clip_ratio_c=1e9),
        "gspo": partial(clipped_surrogate_loss, loss=core_algos.compute_policy_loss_gspo,
                        agg="seq-mean-token-mean"),
        "gspo, token-mean": partial(clipped_surrogate_loss,
                                    loss=core_algos.compute_policy_loss_gspo)},
    "group_advantages": {"grpo_vectorized": partial(
        group_advantages, estimator=core_algos.compute_grpo_vectorized_outcome_advantage)},
    "leave_one_out_advantages": {"rloo_vectorized": partial(
        leave_one_out_advantages, estimator=core_algos.compute_rloo_vectorized_outcome_advantage)},
    "penalized_rewards": {f"kl_penalty='{name}'": partial(penalized_rewards, kl_penalty=name)
                          for name in ("abs", "mse", "low_var_kl")},
    "whiten": {"with a mask of float64": partial(whiten, dtype=torch.float64)},
}

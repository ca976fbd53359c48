"""TRL's GRPO, of release 1.16.0.

Called are `GRPOTrainer._compute_loss`, with a stand-in for the trainer that holds the settings it
reads, statements of `GRPOTrainer._generate_and_score_completions` (both in
trl/trainer/grpo_trainer.py), and the fused head of trl/trainer/utils.py (`add_fused_lm_head`).
By default loss_type is "dapo", as in GRPOConfig.
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from trl_stand import ACCELERATOR, scored_by_head, trainer  # noqa: E402

HEAD = "the fused head accumulates in float32"
PRESETS = ("trl-grpo", "trl-grpo-dapo", "dr-grpo")
COARSE = {"token_logprobs": HEAD, "entropy": HEAD,
          "group_advantages": "n/(n − 1) of a count of integers is float32 in nanstd"}


def loss(logprobs, mask, *, old=None, ref=None, advantages=None, entropies=None, clip=0.2,
         high=None, loss_type="dapo", level="token", delta=None, beta=0.0, corrected=False,
         bonus=0.0, length=None, count=None, step=1):
    """_compute_loss of one micro-batch of `step`, `count` the tokens of them all."""
    nothing = torch.zeros_like(logprobs)
    self = trainer(
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            logprobs, nothing if entropies is None else entropies, None),
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        importance_sampling_level=level, loss_type=loss_type, beta=beta, epsilon_low=clip,
        epsilon_high=high or clip, max_completion_length=length or mask.shape[1],
        current_gradient_accumulation_steps=step, use_adaptive_entropy=False,
        _entropy_bonus_enabled=bonus != 0, entropy_coef=bonus,
        args=SimpleNamespace(delta=delta, use_bias_correction_kl=corrected,
                             steps_per_generation=step))
    prompt = torch.zeros(len(mask), 1, dtype=torch.long)
    return GRPOTrainer._compute_loss(self, None, {
        "prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": mask.long(),
        "completion_mask": mask.long(), "old_per_token_logps": old, "ref_per_token_logps": ref,
        "advantages": nothing if advantages is None else advantages,
        "num_items_in_batch": mask.sum() if count is None else torch.tensor(count)})


def token_logprobs(logits, tokens, temperature):
    return scored_by_head(logits, tokens, temperature).log_probs


def entropy(logits, mask, temperature=1.0):
    """The bonus, of coefficient −1; the head scores a position less than it is given."""
    longer = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)
    tokens = torch.zeros(longer.shape[:2], dtype=torch.long)
    entropies = scored_by_head(longer, tokens, temperature).entropy
    return loss(torch.zeros_like(entropies), mask, entropies=entropies, bonus=-1.0)


def kl_estimate(logprobs, ref_logprobs, estimator):
    if estimator != "k3":
        raise NotImplementedError("the estimate is k3")
    return run(GRPOTrainer._compute_loss, "per_token_kl = ", "per_token_kl = ",
               per_token_logps=logprobs, ref_per_token_logps=ref_logprobs).per_token_kl


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3", **settings):
    """The loss with beta 1 and no advantage."""
    if estimator != "k3":
        raise NotImplementedError("the estimate is k3")
    return loss(logprobs, mask, old=old_logprobs, ref=ref_logprobs, beta=1.0, count=count,
                **settings)


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio, count=None,
                           **settings):
    return loss(logprobs, mask, old=old_logprobs, advantages=advantages, clip=clip_ratio,
                count=count, **settings)


def aggregate_loss(losses, mask, micro_batches=None, length=None, loss_type="dapo"):
    """A ratio of 1 and an advantage of minus the loss, micro-batch by micro-batch."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    return sum(loss(torch.zeros_like(x), m, advantages=-x, loss_type=loss_type, length=length,
                    count=int(mask.sum()), step=len(sizes))
               for x, m in zip(losses.split(sizes), mask.split(sizes), strict=True))


def group_advantages(scores, group_size, deviation):
    """From the summed reward of each completion to its advantage."""
    scales = {"group-sample": "group", "batch-sample": "batch", "none": "none"}
    if deviation not in scales:
        raise NotImplementedError("scale_rewards is group, batch or none")
    self = trainer(scale_rewards=scales[deviation], accelerator=ACCELERATOR,
                   multi_objective_aggregation="sum_then_normalize",
                   reward_weights=torch.ones(1, dtype=scores.dtype))
    score = GRPOTrainer._generate_and_score_completions
    return run(score, "if self.multi_objective_aggregation == ", "advantages = torch.nan_to_num",
               self=self, rewards_per_func=scores[:, None], num_generations=group_size,
               unscorable_mask=torch.zeros(len(scores), dtype=torch.bool),
               device=scores.device).advantages


OTHERS = ("grpo", "bnpo", "dr_grpo")
MODES = {
    "aggregate_loss": {f"loss_type='{kind}'": partial(aggregate_loss, loss_type=kind)
                       for kind in OTHERS},
    "clipped_surrogate_loss": {
        f"loss_type='{kind}'": partial(clipped_surrogate_loss, loss_type=kind)
        for kind in OTHERS} | {
        "epsilon_high=0.28": partial(clipped_surrogate_loss, high=0.28),
        "delta=3.0": partial(clipped_surrogate_loss, delta=3.0),
        "importance_sampling_level='sequence'": partial(clipped_surrogate_loss, level="sequence"),
        "sequence level, loss_type='grpo'": partial(clipped_surrogate_loss, level="sequence",
                                                    loss_type="grpo")},
    "kl_loss": {"use_bias_correction_kl=True": partial(kl_loss, corrected=True),
                "loss_type='grpo'": partial(kl_loss, loss_type="grpo")},
}

"""TRL's RLOO, of release 1.16.0.

Called are `RLOOTrainer._compute_loss`, with a stand-in for the trainer, statements of
`RLOOTrainer._generate_and_score_completions` (both in trl/trainer/rloo_trainer.py), and the fused
head of trl/trainer/utils.py (`add_fused_lm_head`).  A reply has one advantage and one reward.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from trl.trainer.rloo_trainer import RLOOTrainer

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from trl_stand import scored_by_head, trainer  # noqa: E402

PRESETS = ("rloo-trl",)
COARSE = {"token_logprobs": "the fused head accumulates in float32",
          "leave_one_out_advantages, normalize_advantages=True":
              "n/(n − 1) of a count of integers is float32 in nanstd"}
SCORE = RLOOTrainer._generate_and_score_completions


def token_logprobs(logits, tokens, temperature):
    return scored_by_head(logits, tokens, temperature).log_probs


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
    for row, real in zip(advantages, mask, strict=True):
        if row[real].unique().numel() > 1:
            raise NotImplementedError("all tokens of a reply have one advantage")
    one = torch.where(mask, advantages, 0).sum(1) / mask.sum(1).clamp(min=1)
    nothing = torch.zeros_like(logprobs)
    self = trainer(_get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, nothing, None),
                   epsilon_low=clip_ratio, epsilon_high=clip_ratio)
    prompt = torch.zeros(len(mask), 1, dtype=torch.long)
    # as _generate_and_score_completions sums them
    old = run(SCORE, "old_logps = ", "old_logps = ", old_per_token_logps=old_logprobs,
              completion_mask=mask.long()).old_logps
    return RLOOTrainer._compute_loss(self, None, {
        "prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": mask.long(),
        "completion_mask": mask.long(), "old_logps": old, "advantages": one})


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta):
    """The reward of the whole reply, which the vectors write at its last real token."""
    kept = run(SCORE, "if self.beta != 0.0", "if self.beta != 0.0", self=trainer(beta=beta),
               old_per_token_logps=logprobs, ref_per_token_logps=ref_logprobs,
               completion_mask=mask.long(), rewards=scores, gather=lambda x: x).rewards
    last = mask.long().cumsum(1).argmax(1)
    out = torch.zeros(mask.shape, dtype=scores.dtype)
    out[torch.arange(len(mask)), last] = torch.where(mask.any(1), kept, 0)
    return out


def leave_one_out_advantages(scores, group_size, normalize_advantages=False):
    return run(SCORE, "grouped_rewards = ", "advantages = torch.nan_to_num",
               self=trainer(normalize_advantages=normalize_advantages), rewards=scores,
               num_generations=group_size).advantages


MODES = {"leave_one_out_advantages": {"normalize_advantages=True": partial(
    leave_one_out_advantages, normalize_advantages=True)}}

"""torchtune 0.6.1: its functions of PPO and DPO, and how its PPO recipe masks what it gives them.

Called are torchtune.rlhf's `logits_to_logprobs`, `truncate_sequence_for_logprobs`,
`get_rewards_ppo`, `estimate_advantages`, `whiten`, `masked_mean` (torchtune/rlhf/rewards.py and
sequence_processing.py), torchtune.rlhf.loss' `PPOLoss` and `DPOLoss`, and statements of
`PPOFullFinetuneRecipeSingleDevice` (recipes/ppo_full_finetune_single_device.py, which is installed
beside the package).  The recipe builds its masks from stop tokens, so rows have no gaps.
"""

import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import torchtune
from torchtune import rlhf
from torchtune.rlhf.loss import DPOLoss, PPOLoss

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402

PRESETS = ("torchtune",)
COARSE = {"whiten": "n/(n − 1) of a boolean mask is float32 in masked_var"}


def recipe():
    """The recipe's class.  Its folder is no package, so the file is loaded by its path."""
    path = Path(torchtune.__file__).parents[1] / "recipes" / "ppo_full_finetune_single_device.py"
    spec = importlib.util.spec_from_file_location("ppo_recipe", path)
    module = sys.modules["ppo_recipe"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PPOFullFinetuneRecipeSingleDevice


RECIPE = recipe()


def ended(mask, logprobs=None, ref_logprobs=None, values=None):
    """generate_trajectory's names once it has masked what follows the ends."""
    if bool((~mask[:, :-1] & mask[:, 1:]).any()):
        raise NotImplementedError("masks come from stop tokens, so a row has no gaps")

    def own(x):                                             # it writes into them
        return torch.zeros(mask.shape, dtype=torch.float64) if x is None else x.clone()
    step, padding = RECIPE.generate_trajectory, ~mask
    lengths = run(step, "seq_lens = ", "seq_lens = ", response_padding_masks=padding).seq_lens
    return vars(run(step, "logprobs[response_padding_masks] = ", "values[value_padding_masks] = ",
                    self=SimpleNamespace(_max_generated_tokens=mask.shape[1]),
                    response_padding_masks=padding, seq_lens=lengths, logprobs=own(logprobs),
                    ref_logprobs=own(ref_logprobs), values=own(values)))


def token_logprobs(logits, tokens, temperature):
    response = rlhf.truncate_sequence_for_logprobs(logits, context_length=1)
    return rlhf.logits_to_logprobs(response, tokens[:, 1:], temperature)


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta):
    names = ended(mask, logprobs, ref_logprobs)
    return rlhf.get_rewards_ppo(scores, names["logprobs"], names["ref_logprobs"], beta,
                                names["value_seq_idxs"])[0]


def score_without_end(scores, ended, penalty):
    recipe = SimpleNamespace(_penalise_no_eos=True, _min_response_length=None,
                             _reward_penalty=-penalty)
    return run(RECIPE.generate_trajectory, "if self._penalise_no_eos", "if self._penalise_no_eos",
               self=recipe, response_padding_masks=ended[:, None], scores=scores.clone(),
               seq_lens=torch.zeros(len(scores))).scores


def gae(rewards, values, mask, gamma, lam):
    """estimate_advantages whitens at its end, so the advantages are its returns − values."""
    names = ended(mask, values=values)
    values = names["values"]
    rewards = rewards.masked_fill(names["value_padding_masks"], 0)      # as get_rewards_ppo's are
    returns = rlhf.estimate_advantages(values, rewards, gamma, lam, masks=mask)[1]
    return returns - values, returns


def whiten(x, mask, shift_mean):
    return rlhf.whiten(x, mask, shift_mean)


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
    """PPOLoss without its value term."""
    names = ended(mask, logprobs=old_logprobs)
    trajectory = SimpleNamespace(response_padding_masks=~mask)
    logprobs = run(RECIPE.ppo_step, "pi_logprobs[", "pi_logprobs[", trajectory=trajectory,
                   pi_logprobs=logprobs.clone()).pi_logprobs
    advantages = advantages.masked_fill(~mask, 0)           # as estimate_advantages leaves them
    nothing = torch.zeros_like(advantages)
    return PPOLoss(epsilon=clip_ratio)(names["logprobs"], logprobs, advantages, nothing, nothing,
                                       nothing, padding_masks=mask, value_padding_masks=mask)[0]


def clipped_value_loss(values, old_values, returns, mask, clip_range, value_coeff=0.1):
    """PPOLoss without its policy term, with the coefficient of its value term by default."""
    names = ended(mask, values=old_values)
    trajectory = SimpleNamespace(value_padding_masks=names["value_padding_masks"])
    values = run(RECIPE.ppo_step, "phi_values[", "phi_values[", trajectory=trajectory,
                 phi_values=values.clone()).phi_values
    nothing = torch.zeros_like(returns)
    loss = PPOLoss(value_clip_range=clip_range, value_coeff=value_coeff)
    return loss(nothing, nothing, nothing, names["values"], values, returns, padding_masks=mask,
                value_padding_masks=~names["value_padding_masks"])[0]


def aggregate_loss(losses, mask, micro_batches=None):
    """masked_mean of each micro-batch; the recipe divides by the number of these (ppo_step)."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    total = 0.0
    for x, m in zip(losses.split(sizes), mask.split(sizes), strict=True):
        total += run(RECIPE.ppo_step, "loss /= ", "loss /= ", loss=rlhf.masked_mean(x, m),
                     self=SimpleNamespace(_gradient_accumulation_steps=len(sizes))).loss
    return total


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, label_smoothing=0.0):
    """DPOLoss, averaged as the DPO recipes do."""
    return DPOLoss(beta, label_smoothing)(chosen, rejected, ref_chosen, ref_rejected)[0].mean()


MODES = {
    "clipped_value_loss": {"value_coeff=1.0": partial(clipped_value_loss, value_coeff=1.0)},
    "dpo_loss": {"label_smoothing=0.1": partial(dpo_loss, label_smoothing=0.1)},
}

"""OpenRLHF 0.11.2: what it learns from demonstrations and preferences.

Called are openrlhf.models' `PairWiseLoss`, `LogExpLoss`, `DPOLoss` (openrlhf/models/loss.py), the
`forward` of its reward model (openrlhf/models/model.py), `SFTDataset.get_loss_mask`
(openrlhf/datasets/sft_dataset.py), `DPOTrainer._get_batch_logps` and statements of
`RewardModelTrainer.evaluate` (openrlhf/trainer/).  What else the package imports is not installed,
and has stand-ins (stand_ins.py).
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers.modeling_outputs  # noqa: F401   before it could take a stand-in for the real

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from stand_ins import OF_OPENRLHF, stand_ins  # noqa: E402

with stand_ins(*OF_OPENRLHF):
    from openrlhf import models
    from openrlhf.datasets.sft_dataset import SFTDataset
    from openrlhf.models import model
    from openrlhf.trainer.dpo_trainer import DPOTrainer
    from openrlhf.trainer.rm_trainer import RewardModelTrainer

PRESETS = ("openrlhf",)
COARSE = {"normalized_scores": "RewardModelTrainer.evaluate takes rewards in float32"}


def sft_mask(tokens, mask, prompt_lengths, pad_id):
    """SFTDataset.get_loss_mask of each row, and what sft_trainer.py cuts off of it."""
    counts = torch.zeros_like(mask)
    for i, row in enumerate(mask):
        dataset = SimpleNamespace(pretrain_mode=False, multiturn=False,
                                  prompt_ids_lens=prompt_lengths)
        real = tokens[i, row][None]
        counts[i, :real.shape[1]] = SFTDataset.get_loss_mask(dataset, real, i)[0] > 0
    return counts[:, :-1]


def bradley_terry_loss(score_chosen, score_rejected, margin=None):
    return models.PairWiseLoss()(score_chosen, score_rejected, margin)


def log_exp_loss(score_chosen, score_rejected, margin=None):
    return models.loss.LogExpLoss()(score_chosen, score_rejected, margin)


def read(scores, mask):
    """The reward model's forward, where the scores of all positions are given."""
    reward_model = SimpleNamespace(
        packing_samples=False, training=True, base_model_prefix="base", value_head_prefix="score",
        base=lambda *a, **k: {"last_hidden_state": scores[..., None]}, score=lambda states: states)
    kind = model._get_reward_model(torch.nn.Module, None)
    return kind.forward(reward_model, torch.zeros(mask.shape, dtype=torch.long), mask.long())


def score_index(tokens, mask, prompt_width, pad_id):
    return read(torch.arange(mask.shape[1]).expand(mask.shape), mask)


def per_token_preference_loss(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens,
                              chosen_mask, rejected_mask):
    return models.PairWiseLoss()(read(chosen_scores, chosen_mask),
                                   read(rejected_scores, rejected_mask))


def normalized_scores(scores, reference_scores):
    """The mean and deviation that evaluate finds, as the model's forward uses them afterwards."""
    found = run(RewardModelTrainer.evaluate, "reward_mean = ", "reward_std = ",
                rewards=reference_scores.float())
    trained = SimpleNamespace(training=False, normalize_reward=True, mean=found.reward_mean,
                              std=found.reward_std)
    forward = model._get_reward_model(torch.nn.Module, None).forward
    return run(forward, "if not self.training", "if not self.training", self=trained,
               reward=scores).reward


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, label_smoothing=0.0):
    return models.DPOLoss(beta, label_smoothing)(chosen, rejected, ref_chosen, ref_rejected)[0]


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    """DPOLoss of the sums of DPOTrainer._get_batch_logps, to which the first token is a prompt."""
    def sums(logprobs, mask):
        attention = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        return DPOTrainer._get_batch_logps(None, logprobs, attention, [1] * len(mask))[0]
    return models.DPOLoss(beta, ipo=True)(
        sums(chosen, chosen_mask), sums(rejected, rejected_mask),
        sums(ref_chosen, chosen_mask), sums(ref_rejected, rejected_mask))[0]


MODES = {
    "bradley_terry_loss": {"LogExpLoss": log_exp_loss},
    "dpo_loss": {"label_smoothing=0.1": partial(dpo_loss, label_smoothing=0.1)},
}

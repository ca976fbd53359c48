"""TRL's trainers of demonstrations and preferences, of release 1.16.0: SFT, reward model, DPO.

Called are `RewardTrainer.compute_loss` with a stand-in for the trainer, statements of
`SFTTrainer.compute_loss` and of `DPOTrainer._compute_loss` (trl/trainer/), and transformers'
`GenericForSequenceClassification.forward` (transformers/modeling_layers.py), by which a reward
model's score is read.
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers.modeling_layers import GenericForSequenceClassification
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.sft_trainer import SFTTrainer

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402
from trl_stand import trainer  # noqa: E402

PRESETS = ("trl-sft", "trl-reward", "trl-dpo")


def sft_loss(logprobs, mask, count=None, micro_batches=None, loss_type="nll"):
    """compute_loss from the fused head's output on; the Trainer counts the tokens of a step."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    if micro_batches is not None:
        count = int(mask.sum())
    total = 0.0
    for x, m in zip(logprobs.split(sizes), mask.split(sizes), strict=True):
        # the head gives 0 at ignored labels
        head = SimpleNamespace(log_probs=x.masked_fill(~m, 0), label_mask=m)
        total += run(SFTTrainer.compute_loss, "per_token_loss = ", "loss = per_token_loss.sum()",
                     self=trainer(args=SimpleNamespace(loss_type=loss_type)), outputs=head,
                     num_items_in_batch=count).loss
    return total


def bradley_terry_loss(score_chosen, score_rejected, margin=None, center=None):
    scores = torch.cat([score_chosen, score_rejected])[:, None]
    inputs = {"attention_mask": torch.ones(len(scores), 1)}
    if margin is not None:
        inputs["margin"] = margin
    self = trainer(args=SimpleNamespace(center_rewards_coefficient=center))
    return RewardTrainer.compute_loss(self, lambda **_: SimpleNamespace(logits=scores), inputs)


def read(scores, tokens, pad_id):
    """The classifier's forward, where the scores of all positions are given."""
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(pad_token_id=pad_id),
                             return_dict=True)
    model = SimpleNamespace(
        base_model_prefix="base", config=config, score=lambda states: states,
        base=lambda *_, **__: SimpleNamespace(last_hidden_state=scores[..., None],
                                              past_key_values=None, hidden_states=None,
                                              attentions=None))
    return GenericForSequenceClassification.forward(model, tokens).logits[:, 0]


def score_index(tokens, mask, prompt_width, pad_id):
    return read(torch.arange(tokens.shape[1]).expand(tokens.shape), tokens, pad_id)


def per_token_preference_loss(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens,
                              chosen_mask, rejected_mask):
    pad = int(torch.cat([chosen_tokens, rejected_tokens]).max()) + 1        # no token's id

    def last(scores, tokens, mask):
        return read(scores, tokens.masked_fill(~mask, pad), pad)
    return bradley_terry_loss(last(chosen_scores, chosen_tokens, chosen_mask),
                              last(rejected_scores, rejected_tokens, rejected_mask))


def dpo(beta, loss_type, label_smoothing=0.0, **names):
    """From the log-probs of replies to the mean over pairs, in the trainer's settings."""
    self = trainer(beta=beta, loss_types=[loss_type], loss_weights=[1.0],
                   label_smoothing=label_smoothing, use_weighting=False,
                   f_divergence_type="reverse_kl")
    return run(DPOTrainer._compute_loss, "chosen_logratios = ", "for loss_type, ", self=self,
               **names).loss


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, loss_type="sigmoid",
             label_smoothing=0.0):
    return dpo(beta, loss_type, label_smoothing, chosen_logps=chosen, rejected_logps=rejected,
               ref_chosen_logps=ref_chosen, ref_rejected_logps=ref_rejected)


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    """Sums over the tokens, as _compute_loss takes them; the head gives 0 at ignored labels."""
    def sums(logprobs, mask):
        return logprobs.masked_fill(~mask, 0).sum(1)
    return dpo(beta, "ipo", completion_mask=torch.cat([chosen_mask, rejected_mask]).long(),
               chosen_logps=sums(chosen, chosen_mask), rejected_logps=sums(rejected, rejected_mask),
               ref_chosen_logps=sums(ref_chosen, chosen_mask),
               ref_rejected_logps=sums(ref_rejected, rejected_mask))


MODES = {
    "sft_loss": {"loss_type='dft'": partial(sft_loss, loss_type="dft")},
    "bradley_terry_loss": {"center_rewards_coefficient=0.01": partial(bradley_terry_loss,
                                                                      center=0.01)},
    "dpo_loss": {
        "label_smoothing=0.1": partial(dpo_loss, label_smoothing=0.1),
        "loss_type='robust', label_smoothing=0.1": partial(dpo_loss, loss_type="robust",
                                                           label_smoothing=0.1)},
}

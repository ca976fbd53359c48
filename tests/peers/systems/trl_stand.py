"""What TRL's trainers are given in place of a model and of an accelerator of several processes."""

from collections import defaultdict
from types import SimpleNamespace

import torch
from trl.trainer.utils import add_fused_lm_head

ACCELERATOR = SimpleNamespace(
    num_processes=1, sync_gradients=True, device=torch.device("cpu"), process_index=0,
    gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, reduction: x)


def trainer(**settings):
    """A trainer in training that has no more than these settings and a place for its metrics."""
    return SimpleNamespace(**{
        "model": SimpleNamespace(training=True), "accelerator": ACCELERATOR,
        "aux_loss_enabled": False, "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0, "_tp_size": 1} | settings)


def scored_by_head(logits, tokens, temperature):
    """log_probs and entropy of TRL's fused head over a model whose hidden states are the logits."""
    if torch.isinf(logits).any():
        raise NotImplementedError("the head is a product with a matrix, so no logit is infinite")
    model = torch.nn.Module()
    model.config = SimpleNamespace(get_text_config=SimpleNamespace)
    model.base_model = lambda **_: SimpleNamespace(last_hidden_state=logits)
    identity = torch.eye(logits.shape[-1], dtype=logits.dtype)
    model.get_output_embeddings = lambda: SimpleNamespace(weight=identity, bias=None)
    add_fused_lm_head(model, temperature, outputs=("log_probs", "entropy"))
    return model(labels=tokens, fused_lm_head=True)

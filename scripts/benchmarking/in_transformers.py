"""Hugging Face's side: `generate` of the GPT-2 in transformers."""

from pathlib import Path

import torch
import transformers
from benchmarking import tasks


def rollout(task: dict):
    """Greedy replies; returns their tokens."""
    model = transformers.GPT2LMHeadModel.from_pretrained(Path(task["folder"], "policy")).eval()
    prompts = torch.from_numpy(tasks.prompts(task))
    mask = torch.ones_like(prompts)
    settings = transformers.GenerationConfig(
        max_new_tokens=tasks.ROLLOUT_NEW, do_sample=False, use_cache=True, eos_token_id=None,
        pad_token_id=0)

    def once():
        replies = model.generate(input_ids=prompts, attention_mask=mask,
                                 generation_config=settings)
        return replies[:, prompts.shape[1]:]
    return once


def versions() -> dict[str, str]:
    return {"transformers": transformers.__version__}

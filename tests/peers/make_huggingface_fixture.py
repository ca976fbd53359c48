"""Write tests/fixtures/huggingface_c8/: Hugging Face's numbers for machines without its library.

    python tests/peers/make_huggingface_fixture.py

Run it again, with torch and transformers installed, only to change the model or the batch; the
files are committed.  Everything is float64 and seeded.  The folder holds

    config.json, model.safetensors    a random GPT2ForSequenceClassification of C = 8; its trunk is
                                      the language model's as well
    expected.safetensors              tokens, mask (B, T), padded on the right
                                      logits (B, T, V), scores (B,)
                                      logits_weight (0 at pads), scores_weight: two losses are
                                      Σ logits·logits_weight and Σ scores·scores_weight
                                      logits_loss.NAME, scores_loss.NAME: the gradient of either
                                      loss for every parameter that it has
"""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"                         # nothing is fetched

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

FOLDER = Path(__file__).parent.parent / "fixtures" / "huggingface_c8"
LENGTHS = [7, 3, 5, 1]


def gradients(model, loss) -> dict[str, torch.Tensor]:
    loss.backward()
    return {name.removeprefix("transformer."): p.grad.clone()
            for name, p in model.named_parameters()}


def main() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_positions=10, n_embd=8, n_layer=2, n_head=2, num_labels=1,
                        pad_token_id=0, bos_token_id=1, eos_token_id=1,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    scorer = GPT2ForSequenceClassification(config).double().eval()
    with torch.no_grad():
        for p in scorer.parameters():
            p += 0.3 * torch.randn_like(p)
    scorer.save_pretrained(FOLDER)
    speaker = GPT2LMHeadModel(config).double().eval()
    speaker.transformer.load_state_dict(scorer.transformer.state_dict())

    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.where(mask, torch.randint(1, 20, mask.shape), 0)
    logits = speaker(tokens, attention_mask=mask.long()).logits
    scores = scorer(tokens, attention_mask=mask.long()).logits[:, 0]
    logits_weight = torch.randn_like(logits) * mask[..., None]
    scores_weight = torch.randn_like(scores)
    of_logits = gradients(speaker, (logits * logits_weight).sum())
    of_scores = gradients(scorer, (scores * scores_weight).sum())
    save_file({
        "tokens": tokens, "mask": mask, "logits": logits.detach(), "scores": scores.detach(),
        "logits_weight": logits_weight, "scores_weight": scores_weight,
        **{f"logits_loss.{name}": g for name, g in of_logits.items()},
        **{f"scores_loss.{name}": g for name, g in of_scores.items()}},
        FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()

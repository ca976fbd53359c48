"""The released traces once more, by PyTorch alone: its autograd, its AdamW, its clipping.

    python tests/peers/trace_in_torch.py FOLDER_OF_A_TRACE OUT.safetensors [float32]

Nothing of minirlhf is imported.  The program reads models, batch and settings of a trace and writes
every array under its name, so it also shows how to prepare a file for `minirlhf verify --trace`.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


class GPT2:
    """A checkpoint in Hugging Face's layout; every parameter is a leaf of autograd."""

    def __init__(self, folder: Path, dtype: torch.dtype):
        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads = config["n_layer"], config["n_head"]
        self.p = {name.removeprefix("transformer."): x.to(dtype).requires_grad_()
                  for name, x in load_file(folder / "model.safetensors").items()}

    def linear(self, x, name):
        return x @ self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def attention(self, x, name, visible):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2)
                   for part in self.linear(x, f"{name}.c_attn").split(C, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.linear(y.transpose(1, 2).reshape(B, T, C), f"{name}.c_proj")

    def hidden(self, tokens, mask):
        """(B, T) -> (B, T, C); positions count real tokens, a pad sees itself and no pad else."""
        T = tokens.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        visible = (causal & mask[:, None] | torch.eye(T, dtype=torch.bool))[:, None]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        x = self.p["wte.weight"][tokens] + self.p["wpe.weight"][positions]
        for i in range(self.layers):
            x = x + self.attention(self.norm(x, f"h.{i}.ln_1"), f"h.{i}.attn", visible)
            y = F.gelu(self.linear(self.norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"),
                       approximate="tanh")
            x = x + self.linear(y, f"h.{i}.mlp.c_proj")
        return self.norm(x, "ln_f")

    def logits(self, tokens, mask):
        return self.hidden(tokens, mask) @ self.p["wte.weight"].T

    def scalars(self, tokens, mask):
        return (self.hidden(tokens, mask) @ self.p["score.weight"].T)[..., 0]

    def score(self, tokens, mask):
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        return self.scalars(tokens, mask).gather(1, last[:, None])[:, 0]


def update(model: GPT2, loss, name: str, s: dict) -> dict:
    """Backward, clip, one step of AdamW: {array's name: array}."""
    found = {}
    loss.backward()

    def keep(what, get):
        found.update({f"{name}_{what}.{n}": get(p).detach().clone() for n, p in model.p.items()})

    keep("gradient", lambda p: p.grad)
    found[f"{name}_gradient_norm"] = torch.nn.utils.clip_grad_norm_(
        model.p.values(), s["max_grad_norm"])
    keep("clipped_gradient", lambda p: p.grad)
    torch.optim.AdamW(model.p.values(), lr=s[f"lr_{name}"], betas=(s["beta1"], s["beta2"]),
                      eps=s["eps"], weight_decay=s["weight_decay"]).step()
    keep("after", lambda p: p)
    return found


def mean(x, mask):
    return x[mask].sum() / mask.sum()


def policy_loss(logprobs, b: dict, advantages, s: dict):
    """PPO's clipped surrogate, and the ratios."""
    ratios = (logprobs - b["old_logprobs"]).exp()
    clipped = ratios.clamp(1 - s["clip_ratio"], 1 + s["clip_ratio"])
    return -mean(torch.minimum(ratios * advantages, clipped * advantages), b["mask"]), ratios


def gae(rewards, values, mask, gamma, lam):
    """A loop over each reply from its last token to its first."""
    advantages = torch.zeros_like(values)
    for b, length in enumerate(mask.sum(1).tolist()):
        ahead = value_ahead = 0.0
        for t in reversed(range(length)):
            delta = rewards[b, t] + gamma * value_ahead - values[b, t]
            ahead = advantages[b, t] = delta + gamma * lam * ahead
            value_ahead = values[b, t]
    return advantages


def rollout(models: dict, b: dict, s: dict) -> tuple[dict, torch.Tensor]:
    """What PPO and GRPO share: log-probs, entropy, scores, the KL; and log-probs with a graph."""
    tokens, whole, mask = b["sequences"], b["sequence_mask"], b["mask"]
    R = mask.shape[1]

    def log_p(model):
        return (model.logits(tokens, whole)[:, -R - 1:-1] / s["temperature"]).log_softmax(-1)

    def chosen(log_probabilities):
        return log_probabilities.gather(-1, tokens[:, -R:, None])[..., 0]

    every = log_p(models["policy"])
    a = {"logprobs": chosen(every), "ref_logprobs": chosen(log_p(models["reference"])),
         "entropy": mean(-(every.exp() * every).sum(-1), mask),
         "scores": models["reward"].score(tokens, whole)}
    a["kl"] = (b["old_logprobs"] - a["ref_logprobs"]) * mask
    return a, a["logprobs"]


def ppo_step(models: dict, b: dict, s: dict) -> dict:
    a, logprobs = rollout(models, b, s)
    tokens, mask = b["sequences"], b["mask"]
    R = mask.shape[1]
    values = a["values"] = models["value"].scalars(tokens, b["sequence_mask"])[:, -R - 1:-1]
    with torch.no_grad():
        rewards = a["rewards"] = -s["beta"] * a["kl"]
        rewards[torch.arange(len(mask)), mask.sum(1) - 1] += a["scores"]
        a["advantages"] = gae(rewards, b["old_values"], mask, s["gamma"], s["lam"])
        a["returns"] = (a["advantages"] + b["old_values"]) * mask
        x = a["advantages"][mask]
        white = (a["advantages"] - x.mean()) * (x.var(unbiased=False) + 1e-8).rsqrt()
        a["whitened_advantages"] = white * mask
    a["policy_loss"], a["ratios"] = policy_loss(logprobs, b, a["whitened_advantages"], s)
    a["policy_loss_by_logprobs"], = torch.autograd.grad(a["policy_loss"], logprobs,
                                                        retain_graph=True)
    old, c = b["old_values"], s["clip_value"]
    clipped = torch.maximum(torch.minimum(values, old + c), old - c)
    worse = torch.maximum((values - a["returns"]) ** 2, (clipped - a["returns"]) ** 2)
    a["value_loss"] = 0.5 * mean(worse, mask)
    a["value_loss_by_values"], = torch.autograd.grad(a["value_loss"], values, retain_graph=True)
    return (a | update(models["policy"], a["policy_loss"], "policy", s)
            | update(models["value"], a["value_loss"], "value", s))


def grpo_step(models: dict, b: dict, s: dict) -> dict:
    a, logprobs = rollout(models, b, s)
    with torch.no_grad():
        k = logprobs - a["ref_logprobs"]
        a["k3"] = torch.expm1(-k) + k
        a["objectives"] = a["scores"] - s["beta"] * a["kl"].sum(1)
        groups = a["objectives"].view(-1, s["group_size"])
        a["group_advantages"] = ((groups - groups.mean(1, keepdim=True))
                                 / (groups.std(1, keepdim=True) + 1e-4)).flatten()
        a["advantages"] = a["group_advantages"][:, None] * b["mask"]
    a["policy_loss"], a["ratios"] = policy_loss(logprobs, b, a["advantages"], s)
    a["policy_loss_by_logprobs"], = torch.autograd.grad(a["policy_loss"], logprobs,
                                                        retain_graph=True)
    return a | update(models["policy"], a["policy_loss"], "policy", s)


def reward_model_step(models: dict, b: dict, s: dict) -> dict:
    chosen, rejected = (models["reward"].score(b[side], b[f"{side}_mask"])
                        for side in ("chosen", "rejected"))
    gaps = chosen - rejected
    a = {"chosen_scores": chosen, "rejected_scores": rejected, "gaps": gaps,
         "pair_losses": -F.logsigmoid(gaps)}
    a["loss"] = a["pair_losses"].mean()
    a["loss_by_chosen_scores"], a["loss_by_rejected_scores"] = torch.autograd.grad(
        a["loss"], (chosen, rejected), retain_graph=True)
    return a | update(models["reward"], a["loss"], "reward", s)


def main(folder: Path, out: str, dtype: torch.dtype = torch.float64) -> None:
    told = json.loads((folder / "trace.json").read_text(encoding="utf-8"))
    models = {name: GPT2(folder / name, dtype) for name in told["models"]}
    batch = {name: x.to(dtype) if x.is_floating_point() else x
             for name, x in load_file(folder / "batch.safetensors").items()}
    step = {f.__name__: f for f in (ppo_step, grpo_step, reward_model_step)}[told["step"]]
    arrays = step(models, batch, told["settings"])
    save_file({name: x.detach().contiguous().clone() for name, x in arrays.items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], getattr(torch, (sys.argv[3:] or ["float64"])[0]))

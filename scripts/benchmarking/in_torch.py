"""PyTorch's side: a GPT-2 written by hand, with the kernels that PyTorch offers for each part.

Attention is `scaled_dot_product_attention`, AdamW is the fused one, sampling keeps keys and values
in buffers that are allocated once.
"""

import json
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarking import tasks
from safetensors.torch import load_file
from torch import nn


class Block(nn.Module):
    """Attention and mlp, each behind a layer norm and added to the state."""

    def __init__(self, C: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.c_attn, self.c_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x, attend):
        x = x + self.c_proj(attend(self.c_attn(self.ln_1(x))))
        hidden = F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        return x + self.mlp_proj(hidden)


class GPT2(nn.Module):
    """(B, T) tokens -> (B, T, C) states, and from these logits or a number a token."""

    def __init__(self, vocab: int, context: int, C: int, heads: int, layers: int, scalar: bool):
        super().__init__()
        self.heads = heads
        self.wte, self.wpe = nn.Embedding(vocab, C), nn.Embedding(context, C)
        self.h, self.ln_f = nn.ModuleList(Block(C) for _ in range(layers)), nn.LayerNorm(C)
        self.score = nn.Linear(C, 1, bias=False) if scalar else None

    def split(self, qkv):
        """(B, n, 3C) -> queries, keys and values (B, H, n, D)"""
        B, n, C3 = qkv.shape
        return qkv.view(B, n, 3, self.heads, C3 // 3 // self.heads).permute(2, 0, 3, 1, 4)

    def attend(self, qkv):
        """Whole rows at once: every token sees itself and those before it."""
        q, k, v = self.split(qkv)
        return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def states(self, tokens, first: int = 0, attend=None):
        """`first` is the position of the first of these tokens; attend(layer, qkv)."""
        x = self.wte(tokens) + self.wpe.weight[first:first + tokens.shape[1]]
        for layer, block in enumerate(self.h):
            x = block(x, self.attend if attend is None else
                      lambda qkv, layer=layer: attend(layer, qkv))
        return self.ln_f(x)

    def head(self, states):
        return F.linear(states, self.wte.weight)

    def forward(self, tokens):
        return self.head(self.states(tokens))


def merged(heads):
    """(B, H, n, D) -> (B, n, C)"""
    B, H, n, D = heads.shape
    return heads.transpose(1, 2).reshape(B, n, H * D)


def load(folder: Path) -> GPT2:
    """The model of a folder in Hugging Face's layout, whose matrices are (in, out)."""
    sizes = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    tensors = load_file(Path(folder, "model.safetensors"))
    model = GPT2(sizes["vocab_size"], sizes["n_positions"], sizes["n_embd"], sizes["n_head"],
                 sizes["n_layer"], scalar="score.weight" in tensors)

    model.to(next(iter(tensors.values())).dtype).load_state_dict({
        renamed(name): tensor.T.contiguous() if transposed(name) else tensor
        for name, tensor in tensors.items()})
    return model


def renamed(name: str) -> str:
    """Here of a parameter that a checkpoint calls so."""
    name = name.removeprefix("transformer.").replace("mlp.c_proj", "mlp_proj")
    return re.sub(r"\.(attn|mlp)\.", ".", name)


def transposed(name: str) -> bool:
    return re.search(r"\.c_\w+\.weight", name) is not None


class Cache:
    """The keys and values of all tokens so far, in buffers of their final length."""

    def __init__(self, model: GPT2, rows: int, length: int):
        shape = (rows, model.heads, length, model.wte.weight.shape[1] // model.heads)
        self.split, self.filled, dtype = model.split, 0, model.wte.weight.dtype
        self.keys, self.values = ([torch.empty(shape, dtype=dtype) for _ in model.h]
                                  for _ in range(2))

    def attend(self, layer: int, qkv):
        """n new tokens look at themselves, if they are the first, and at all before."""
        q, k, v = self.split(qkv)
        end = self.filled + q.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.filled:end], values[:, :, self.filled:end] = k, v
        return merged(F.scaled_dot_product_attention(
            q, keys[:, :, :end], values[:, :, :end], is_causal=self.filled == 0))


def last_logits(model: GPT2, cache: Cache, tokens):
    """The logits (B, V) that follow the tokens given now, which the cache then holds too."""
    states = model.states(tokens, cache.filled, cache.attend)
    cache.filled += tokens.shape[1]
    return model.head(states[:, -1])


def greedy(model: GPT2, prompts, new: int):
    """The likeliest token, `new` times.  (B, P) -> (B, new)"""
    cache = Cache(model, len(prompts), prompts.shape[1] + new)
    made = torch.empty(len(prompts), new, dtype=torch.int64)
    tokens = prompts
    for t in range(new):
        made[:, t] = last_logits(model, cache, tokens).argmax(-1)
        tokens = made[:, t:t + 1]
    return made


def optimizer(model: GPT2) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=tasks.LR, weight_decay=0.0, fused=True)


def update(loss, model: GPT2, adamw: torch.optim.AdamW):
    """Backward, clipping, AdamW."""
    adamw.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), tasks.MAX_GRAD_NORM)
    adamw.step()
    return norm


# --- the tasks -----------------------------------------------------------------------------------

def step(task: dict):
    """A training step on one batch; returns its loss."""
    model = load(Path(task["folder"], "policy"))
    adamw, tokens = optimizer(model), torch.from_numpy(tasks.batch(task))
    nothing = torch.full((len(tokens), 1), -100)                     # after the last token
    targets = torch.cat((tokens[:, 1:], nothing), 1).flatten()

    def loss_of(tokens, targets):
        return F.cross_entropy(model(tokens).flatten(0, 1), targets, ignore_index=-100)
    if task["compile"]:
        loss_of = torch.compile(loss_of)

    def once():
        loss = loss_of(tokens, targets)
        update(loss, model, adamw)
        return loss.detach()
    return once


def rollout(task: dict):
    """Greedy replies by a loop with a cache; returns their tokens."""
    model, prompts = load(Path(task["folder"], "policy")), torch.from_numpy(tasks.prompts(task))

    def once():
        with torch.inference_mode():
            return greedy(model, prompts, tasks.ROLLOUT_NEW)
    return once


def ppo(task: dict):
    from benchmarking.ppo_in_torch import ppo
    return ppo(task)


def peak(task: dict):
    """A product of two square matrices."""
    a, b = torch.randn(2, task["side"], task["side"])
    return lambda: a @ b


def versions() -> dict[str, str]:
    return {"PyTorch": torch.__version__}


def libraries() -> list[str]:
    """Threads and BLAS as threadpoolctl sees them (an MKL inside of PyTorch it does not), and what
    PyTorch's own kernels were compiled for."""
    from benchmarking.ours import describe
    from threadpoolctl import threadpool_info
    seen = [describe(pool) for pool in threadpool_info() if "numpy" not in pool["filepath"]]
    return [*seen, f"own kernels for {torch.backends.cpu.get_cpu_capability()}"]

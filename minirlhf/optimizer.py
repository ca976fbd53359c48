"""AdamW, clipping by the global norm, and learning-rate schedules.

Where the parameters share one flat buffer each of these is a handful of passes over one vector.
"""

from math import cos, pi

from minirlhf.arrays import Array, array_module
from minirlhf.host import blocks
from minirlhf.parameters import Tree, buffers, scaled, zeros_like


def adamw_state(params: Tree) -> dict:
    """The state before the first step: zero moments."""
    return {"step": 0, "m": zeros_like(params), "v": zeros_like(params)}


def adamw_step(params: Tree, grads: Tree, state: dict, lr: float, beta1: float = 0.9,
               beta2: float = 0.999, eps: float = 1e-8,
               weight_decay: float = 0.01) -> tuple[Tree, dict]:
    """One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), as PyTorch computes it.

        θ ← θ − η·λ·θ                                decay, apart from the gradient
        m ← β₁m + (1−β₁)g        v ← β₂v + (1−β₂)g²
        θ ← θ − η · m̂ / (√v̂ + ε),   m̂ = m/(1−β₁ᵗ),  v̂ = v/(1−β₂ᵗ)

    ε stands *outside* the root and after the bias correction; TensorFlow's Adam puts it elsewhere,
    which makes early steps with small gradients up to thirty times smaller.  The decay is
    multiplied by η only, not by a schedule of its own as in the paper.

    Updates params and state in place and returns them.  Raises ValueError if a gradient has
    another shape than its parameter.
    """
    # A NumPy number would turn float32 into float64; one in an array a GPU would refuse.
    lr, beta1, beta2 = float(lr), float(beta1), float(beta2)
    eps, weight_decay = float(eps), float(weight_decay)
    for p, g in buffers(params, grads):
        if p.shape != g.shape:
            raise ValueError(f"a gradient has shape {g.shape}, its parameter {p.shape}")
    state["step"] += 1
    correction1, correction2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
    for arrays in buffers(params, grads, state["m"], state["v"]):
        for p, g, m, v in blocks(*arrays):
            p *= 1 - lr * weight_decay
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * (g * g)
            root = array_module(v).sqrt(v)
            root *= correction2 ** -0.5
            root += eps
            p -= (lr / correction1) * m / root
    return params, state


def clip_by_global_norm(grads: Tree, max_norm: float) -> tuple[Tree, Array]:
    """Scale all gradients by one factor so that their norm is at most max_norm.

        n = √Σ g²  over every entry of every leaf,     g ← g · min(1, max_norm/(n + 1e-6))

    The 1e-6 is PyTorch's.  Returns the scaled gradients (fresh) and n, measured before clipping.
    """
    total = 0.0
    for (g,) in buffers(grads):
        total = total + (g * g).sum()
    xp = array_module(total)
    norm = xp.sqrt(total)
    scale = xp.minimum(float(max_norm) / (norm + 1e-6), 1.0)
    return scaled(grads, scale), norm


def cosine_schedule(step: int, steps: int, peak: float, warmup: int = 0,
                    final: float = 0.1) -> float:
    """Linear warm-up to `peak`, then half a cosine down to final·peak, reached at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * 0.5 * (1 + cos(pi * progress)))

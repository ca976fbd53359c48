"""The optimizer: Adam's epsilon, its decay and correction, and whose norm is clipped."""

from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.optimizer import clip_by_global_norm
from minirlhf.parameters import Tree, tree_map

# --- adam.eps: (v, its correction 1 − β₂ᵗ, ε) -> what divides the corrected first moment ---------


def torch_epsilon(v: Array, correction: float, eps: float) -> Array:
    """√(v/(1 − β₂ᵗ)) + ε.  PyTorch, so nearly everyone."""
    return (v / correction) ** 0.5 + eps


def tf_epsilon(v: Array, correction: float, eps: float) -> Array:
    """(√v + ε)/√(1 − β₂ᵗ): with small gradients the first steps are up to thirty times shorter.
    TensorFlow, so lm-human-preferences."""
    return (v ** 0.5 + eps) / correction ** 0.5


# --- adam.decay: (θ, g, lr, λ) -> θ, g -----------------------------------------------------------

def decoupled(p: Array, g: Array, lr: float, weight_decay: float) -> tuple[Array, Array]:
    """θ ← (1 − lr·λ)·θ, apart from the gradient.  AdamW."""
    return p * (1 - lr * weight_decay), g


def coupled(p: Array, g: Array, lr: float, weight_decay: float) -> tuple[Array, Array]:
    """g ← g + λ·θ.  Adam with L2: the decay of weights with large gradients fades."""
    return p, g + weight_decay * p


# --- adam.correction: (β, t) -> by what a moment is divided --------------------------------------

def corrected(beta: float, t: int) -> float:
    """1 − βᵗ.  Adam."""
    return 1 - beta ** t


def uncorrected(beta: float, t: int) -> float:
    """1: the first steps are several times as long."""
    return 1.0


# --- clip.eps: what is added to a norm; clip.scope: (gradients, limit, ε) -> gradients -----------

def torch_margin() -> float:
    """10⁻⁶.  PyTorch."""
    return 1e-6


def no_margin() -> float:
    """0: a norm at the limit stays, the clipped norm is the limit exactly."""
    return 0.0


def shrunk(g: Array, norm: Array, limit: float, eps: float) -> Array:
    """g·min(1, limit/(norm + ε))"""
    return g if norm + eps <= 0 else g * array_module(g).minimum(1.0, limit / (norm + eps))


def all_together(grads: Tree, limit: float, eps: float) -> Tree:
    """By the norm of all gradients.  OpenRLHF, verl, TRL's GRPO."""
    norm = global_norm(grads)
    return tree_map(lambda g: shrunk(g, norm, limit, eps), grads)


def each_array(grads: Tree, limit: float, eps: float) -> Tree:
    """Each array by its own norm, which turns the direction."""
    return tree_map(lambda g: shrunk(g, (g * g).sum() ** 0.5, limit, eps), grads)


def not_clipped(grads: Tree, limit: float, eps: float) -> Tree:
    """As they are.  TRL's PPO, trlx, lm-human-preferences."""
    return grads


ANSWERS: dict[str, dict[Any, Any]] = {
    "adam.eps": {"torch": torch_epsilon, "tf": tf_epsilon},
    "adam.decay": {"decoupled": decoupled, "coupled": coupled},
    "adam.correction": {"on": corrected, "off": uncorrected},
    "clip.scope": {"global": all_together, "array": each_array, "off": not_clipped},
    "clip.eps": {"1e-6": torch_margin, "none": no_margin},
}


def global_norm(grads: Tree) -> Array:
    """√Σ g² over every entry of every array: the core's, which no limit shrinks."""
    return clip_by_global_norm(grads, 1.0)[1]


def adamw_step(params: Array, grads: Array, lr: float, beta1: float, beta2: float, eps: float,
               weight_decay: float, *, answers: dict) -> Array:
    """The parameters (S, P) after each of S steps with the gradients (S, P)."""
    xp = array_module(params)
    m = v = xp.zeros_like(params)
    after = []
    for t, g in enumerate(grads, start=1):
        params, g = answers["adam.decay"](params, g, lr, weight_decay)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        first, second = (answers["adam.correction"](beta, t) for beta in (beta1, beta2))
        params = params - lr * (m / first) / answers["adam.eps"](v, second, eps)
        after.append(params)
    return xp.stack(after)


def clipped(grads: Tree, max_norm: float, *, answers: dict) -> tuple[Tree, Array]:
    """The gradients to step with, and the norm of all before."""
    return (answers["clip.scope"](grads, max_norm, answers["clip.eps"]()), global_norm(grads))


FORMULAS = {"adamw_step": adamw_step, "clip_by_global_norm": clipped}

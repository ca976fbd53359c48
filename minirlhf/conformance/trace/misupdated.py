"""Known mistakes, and other systems' conventions, from the gradient to the parameters after."""

from collections.abc import Callable

import numpy as np

from minirlhf.autograd import value
from minirlhf.conformance.trace.rules import Mistake, same_tree
from minirlhf.optimizer import clip_by_global_norm
from minirlhf.parameters import copy, leaves, pack, tree_map
from minirlhf.transformer import hidden_states, language_head

# --- gradients -----------------------------------------------------------------------------------

def head_not_tied(e, params, config):
    """The output matrix is a constant: the embedding gets no gradient through it."""
    hidden = hidden_states(params, config, e["sequences"], e["sequence_mask"])
    return language_head({"wte": {"weight": value(params["wte"]["weight"])}}, hidden)


def embedding_not_tied(e, params, config):
    """The embedding of the input is a constant."""
    fixed = params | {"wte": {"weight": value(params["wte"]["weight"])}}
    hidden = hidden_states(fixed, config, e["sequences"], e["sequence_mask"])
    return language_head(params, hidden)


def sum_of_norms(e, grads):
    return np.float64(sum((g * g).sum() ** 0.5 for _, g in leaves(grads)))


def tensor_by_tensor(e, grads):
    return same_tree(grads, lambda g: clip_by_global_norm({"g": g}, e["max_grad_norm"])[0]["g"])


def scaled(e, grads, factor: Callable):
    return same_tree(grads, lambda g: g * factor((grads.flat @ grads.flat) ** 0.5))


# --- the optimizer -------------------------------------------------------------------------------

def adamw(step: Callable | None = None, decay: Callable | None = None) -> dict:
    """AdamW's first step from another step(e, g) and another decay(e, θ, lr)."""
    def new(e, params, grads, lr):
        kept = decay or (lambda e, p, lr: p * (1 - lr * e["weight_decay"]))
        moved = step or right_step
        return pack(tree_map(lambda p, g: kept(e, p, lr) - lr * moved(e, g), params, grads))
    return {"adamw_of": new}


def right_step(e, g):
    return g / (abs(g) + e["eps"])


def tensorflow_step(e, g):
    """ε beside the root of the uncorrected second moment: √(1−β₂) times smaller there."""
    return g / (abs(g) + e["eps"] / (1 - e["beta2"]) ** 0.5)


def uncorrected_step(e, g):
    return (1 - e["beta1"]) * g / ((1 - e["beta2"]) ** 0.5 * abs(g) + e["eps"])


def coupled(e, params, grads, lr):
    """The decay is added to the gradient (L2), and goes through the moments."""
    grown = tree_map(lambda p, g: g + e["weight_decay"] * p, params, grads)
    return pack(tree_map(lambda p, g: p - lr * right_step(e, g), params, grown))


def matrices_only(e, params, lr):
    return params * (1 - lr * e["weight_decay"]) if params.ndim > 1 else params


def unclipped(e, params, grads, lr):
    model = next(name for name in ("policy", "value", "reward")
                 if name in e and e[name].params is params)
    return adamw()["adamw_of"](e, params, e[f"{model}_gradient"], lr)


def not_moved(e, params, grads, lr):
    return copy(params)


GRADIENT = ("policy_gradient", "value_gradient", "reward_gradient")
NORM = tuple(f"{name}_norm" for name in GRADIENT)
CLIPPED = tuple(name.replace("gradient", "clipped_gradient") for name in GRADIENT)
AFTER = ("policy_after", "value_after", "reward_after")

MISUPDATED = [
    Mistake("head-not-tied", GRADIENT, "the embedding gets no gradient as the output matrix",
            {"logits_of": head_not_tied}),
    Mistake("embedding-not-tied", GRADIENT, "the embedding gets no gradient as the input's",
            {"logits_of": embedding_not_tied}),
    Mistake("norms-summed", NORM, "the norms of the tensors are added up",
            {"norm_of": sum_of_norms}),
    Mistake("norm-squared", NORM, "the root is missing",
            {"norm_of": lambda e, grads: grads.flat @ grads.flat}),
    Mistake("norm-of-the-largest", NORM, "the largest entry stands for the norm",
            {"norm_of": lambda e, grads: abs(grads.flat).max()}),
    Mistake("norm-of-the-mean-square", NORM, "the mean of the squares stands for their sum",
            {"norm_of": lambda e, grads: ((grads.flat ** 2).mean()) ** 0.5}),
    Mistake("norm-after-clipping", NORM, "the norm is measured after clipping",
            {"norm_of": lambda e, grads: clip_by_global_norm(
                clip_by_global_norm(grads, e["max_grad_norm"])[0], np.inf)[1]}),
    Mistake("clipping-missing", CLIPPED, "the gradient is not clipped",
            {"clip_of": lambda e, grads: copy(grads)}),
    Mistake("clipped-by-value", CLIPPED, "each entry is clipped to ± max_grad_norm",
            {"clip_of": lambda e, grads: same_tree(
                grads, lambda g: np.clip(g, -e["max_grad_norm"], e["max_grad_norm"]))}),
    Mistake("clipped-tensor-by-tensor", CLIPPED, "each tensor is clipped to the norm by itself",
            {"clip_of": tensor_by_tensor}),
    Mistake("always-scaled", CLIPPED, "gradients below the largest norm are scaled up to it",
            {"clip_of": lambda e, grads: scaled(
                e, grads, lambda n: e["max_grad_norm"] / (n + 1e-6))}),
    Mistake("clipped-without-epsilon", CLIPPED, "divided by the norm, without the 1e-6",
            {"clip_of": lambda e, grads: scaled(
                e, grads, lambda n: min(1.0, e["max_grad_norm"] / n))}),
    Mistake("epsilon-before-the-correction", AFTER,
            "ε is added before the bias correction, as in TensorFlow's Adam",
            adamw(tensorflow_step)),
    Mistake("epsilon-in-the-root", AFTER, "ε stands in the root",
            adamw(lambda e, g: g / (g * g + e["eps"]) ** 0.5)),
    Mistake("epsilon-of-1e-8", AFTER, "ε is 1e-8", {"eps": 1e-8}),
    Mistake("bias-correction-missing", AFTER, "the moments are not corrected",
            adamw(uncorrected_step)),
    Mistake("decay-missing", AFTER, "no weight decay", {"weight_decay": 0.0}),
    Mistake("decay-coupled", AFTER, "the decay is added to the gradient (L2, Adam)",
            {"adamw_of": coupled}),
    Mistake("decay-without-the-rate", AFTER, "the decay is not multiplied by the learning rate",
            adamw(decay=lambda e, p, lr: p * (1 - e["weight_decay"]))),
    Mistake("decay-spares-vectors", AFTER, "biases and gains are not decayed",
            adamw(decay=matrices_only)),
    Mistake("plain-descent", AFTER, "θ − lr·g: no moments", adamw(lambda e, g: g)),
    Mistake("gradient-ascent", AFTER, "the step goes up the loss",
            adamw(lambda e, g: -right_step(e, g))),
    Mistake("unclipped-gradient-used", AFTER, "the optimizer gets the gradient before clipping",
            {"adamw_of": unclipped}),
    Mistake("not-updated", AFTER, "the parameters are those before the step",
            {"adamw_of": not_moved}),
]

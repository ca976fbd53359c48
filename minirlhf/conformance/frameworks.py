"""The array libraries that an adapter may be written in, each as four small functions.

This is the one file that knows of PyTorch and JAX, and it imports them only for an adapter that
has imported them itself.  An adapter says which arrays it wants by a constant,

    framework = "torch"             # "numpy", "torch", "jax" or "minirlhf"

and if it does not, the framework is PyTorch where importing the adapter has imported torch, else
JAX where it has imported jax, else NumPy.  "minirlhf" are this package's own Tensors.

Plain numbers, strings and counts stay what they are; only arrays are converted.  Gradients are
those of Σ cotangent·result, by the framework's own reverse mode.  NumPy has none: there, a second
function of the adapter gives them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Run = Callable[[Callable, dict, tuple, dict | None], tuple[dict, dict | None]]


@dataclass(frozen=True)
class Framework:
    """`into` makes an array of a NumPy array, `back` a NumPy array of whatever came out.

    `run(call, inputs, wrt, cotangent)` calls, and differentiates with respect to the inputs named
    by `wrt`: (results by name, gradients by name), None where the framework has no gradients.
    `prepare` is called once, with whether floats are of 32 bits.
    """
    name: str
    into: Callable[[np.ndarray], Any]
    back: Callable[[Any], np.ndarray]
    run: Run
    prepare: Callable[[bool], None] = lambda float32: None
    differentiates: bool = True


class NotWanted(ValueError):
    """A result that is not what the vector file asks for."""


# --- NumPy ---------------------------------------------------------------------------------------

def plain(call: Callable, inputs: dict, wrt: tuple, cotangent: dict | None):
    return call(inputs), None


# --- this package's own engine -------------------------------------------------------------------

def our_back(x: Any) -> np.ndarray:
    from minirlhf.autograd import value
    return np.asarray(value(x))


def our_run(call: Callable, inputs: dict, wrt: tuple, cotangent: dict | None):
    """One pass: the results are kept while the weighted sum is differentiated."""
    from minirlhf import ops
    from minirlhf.autograd import value_and_grad
    kept = {}

    def weighted(params: dict) -> Any:
        kept.update(call(inputs | params))
        return sum((ops.sum(y * weight_of(cotangent, name, our_back(y)))
                    for name, y in kept.items()), start=0.0)
    if not wrt:
        return call(inputs), None
    gradients = value_and_grad(weighted)({name: inputs[name] for name in wrt})[1]
    return kept, gradients


def weight_of(cotangent: dict | None, name: str, y: np.ndarray) -> Any:
    """The cotangent of a result in its own precision; 1 for a lone number.

    Raises NotWanted if the result has another shape than its cotangent.
    """
    if cotangent is None:
        return 1.0
    if np.shape(y) != cotangent[name].shape:
        raise NotWanted(f"returned the shape {np.shape(y)} for {name}, wanted "
                        f"{cotangent[name].shape}")
    return cotangent[name].astype(y.dtype)


# --- PyTorch -------------------------------------------------------------------------------------

def torch_into(x: np.ndarray) -> Any:
    import torch
    return torch.tensor(x)


def torch_back(x: Any) -> np.ndarray:
    import torch
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.double() if x.is_floating_point() else x).numpy()
    return np.asarray(x)


def torch_run(call: Callable, inputs: dict, wrt: tuple, cotangent: dict | None):
    """The differentiated inputs are handed over as copies of leaves, so that code which writes
    into them in place works as it does in training."""
    import torch
    if not wrt:
        return call(inputs), None
    leaves = {name: inputs[name].requires_grad_() for name in wrt}
    results = call(inputs | {name: leaf.clone() for name, leaf in leaves.items()})
    total = sum((y * torch.as_tensor(weight_of(cotangent, name, torch_back(y)))).sum()
                for name, y in results.items() if isinstance(y, torch.Tensor))
    found = [None] * len(wrt)                                # of a result that is detached
    if getattr(total, "requires_grad", False):
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return results, {name: torch.zeros_like(leaf) if slope is None else slope
                     for (name, leaf), slope in zip(leaves.items(), found, strict=True)}


def torch_prepare(float32: bool) -> None:
    """Tensors that the adapter makes are to be as fine as those it is given."""
    import torch
    torch.set_default_dtype(torch.float32 if float32 else torch.float64)
    torch.set_num_threads(1)                 # the cases are tiny: threads only wait for each other


# --- JAX -----------------------------------------------------------------------------------------

def jax_into(x: np.ndarray) -> Any:
    import jax.numpy
    return jax.numpy.asarray(x)


def jax_run(call: Callable, inputs: dict, wrt: tuple, cotangent: dict | None):
    import jax
    import jax.numpy as jnp
    if not wrt:
        return call(inputs), None
    results, pull_back = jax.vjp(
        lambda params: {name: jnp.asarray(y) for name, y in call(inputs | params).items()},
        {name: inputs[name] for name in wrt})
    (gradients,) = pull_back({name: jnp.asarray(
        weight_of(cotangent, name, np.asarray(y)), y.dtype) for name, y in results.items()})
    return results, gradients


def jax_prepare(float32: bool) -> None:
    import jax
    jax.config.update("jax_enable_x64", not float32)


FRAMEWORKS = {framework.name: framework for framework in (
    Framework("numpy", lambda x: x, np.asarray, plain, differentiates=False),
    Framework("torch", torch_into, torch_back, torch_run, torch_prepare),
    Framework("jax", jax_into, np.asarray, jax_run, jax_prepare),
    Framework("minirlhf", lambda x: x, our_back, our_run))}


def framework_of(module: Any) -> Framework:
    """The framework of an imported adapter.  Raises ValueError where it cannot be known."""
    said = getattr(module, "framework", None)
    if said is not None:
        if said not in FRAMEWORKS:
            raise ValueError(f"framework = {said!r} in the adapter; it is one of "
                             f"{', '.join(map(repr, FRAMEWORKS))}")
        return FRAMEWORKS[said]
    own = {library_of(x) for x in vars(module).values()}
    found = ([name for name in ("torch", "jax") if name in own]
             or [name for name in ("torch", "jax") if name in sys.modules])
    if len(found) > 1:
        raise ValueError('the adapter has imported both torch and jax; say which arrays it takes: '
                         'framework = "torch" or framework = "jax"')
    return FRAMEWORKS[found[0] if found else "numpy"]


def library_of(x: Any) -> str:
    """The top-level package that a module, or a function of one, belongs to."""
    name = x.__name__ if isinstance(x, type(sys)) else getattr(x, "__module__", None)
    return name.split(".")[0] if isinstance(name, str) else ""

"""Reverse-mode automatic differentiation: the chain rule, walked backwards along a tape.

An op computes a value and, beside it, a function `vjp` (vector-Jacobian product) that turns the
gradient of the loss with respect to the op's output into gradients with respect to its inputs,
dy times the table of derivatives:

    y = f(a, b)         da, db = vjp(dy),    da_i = Σ_j dy_j ∂y_j/∂a_i

A `Tensor` is one entry of the tape: a value, the inputs it was made from, and that vjp.  Starting
with dL/dL = 1 and walking from the loss to the parameters, each node hands its gradient to its
inputs; where a value was used twice, the two gradients add up.

Gradients live in a dict during the walk and are returned at the end.  Nothing is stored in the
nodes, so there is no gradient to reset and nothing to switch off: calling twice gives the same
answer, and code given plain arrays makes no tape at all.
"""

from collections.abc import Callable
from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.parameters import Parameters, Tree, leaves, tree_map, zeros_like


class Tensor:
    """A value on the tape.  `inputs` are what it was computed from; a leaf has none.

    Supports + - * / ** @, unary minus and basic slicing, with arrays and numbers on either side
    (`ops.py` supplies them).
    """

    __slots__ = ("value", "inputs", "vjp")
    __array_ufunc__ = None               # array @ tensor then reaches Tensor.__rmatmul__

    def __init__(self, value: Array, inputs: tuple = (), vjp: Callable | None = None):
        self.value = value
        self.inputs = inputs
        self.vjp = vjp

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def dtype(self):
        return self.value.dtype

    def __repr__(self) -> str:
        return f"Tensor({self.value!r})"

    def __bool__(self) -> bool:
        raise TypeError("a Tensor has no truth value; compare arrays, or use where()")

    def __iter__(self):
        raise TypeError("a Tensor cannot be iterated over; index it or use an op")


def value(a: Any) -> Any:
    """The plain array (or number) behind `a`."""
    return a.value if isinstance(a, Tensor) else a


def record(y: Array, inputs: tuple, vjp: Callable) -> Any:
    """Put y on the tape if any input is on it; otherwise return the plain array."""
    return Tensor(y, inputs, vjp) if any(isinstance(a, Tensor) for a in inputs) else y


def refuse_tensors(where: str, **arrays: Any) -> None:
    """Raise TypeError if an argument that counts as constant is a Tensor.

    A Tensor there would mean a gradient that is silently dropped.
    """
    for name, x in arrays.items():
        if isinstance(x, Tensor):
            raise TypeError(f"{where}: {name} is a constant here and gets no gradient, but a "
                            "Tensor came; pass the plain array (its .value)")


def topological_order(root: Tensor) -> list[Tensor]:
    """Every node that `root` depends on, inputs before the nodes that use them.

    Why an order at all?  In the diamond  b = a + a;  c = b * b  the node b is used twice.  It may
    hand its gradient to a only after both uses have arrived, so every user of a node must be
    walked before the node itself.  The walk keeps its own stack: a graph may be deeper than
    Python's recursion limit.
    """
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((a, False) for a in node.inputs if isinstance(a, Tensor))
    return order


def pull_back(y: Tensor, dy: Array) -> dict[int, Array]:
    """The gradients Σ_j dy_j ∂y_j/∂leaf, keyed by id(leaf).

    Leaves are the values that y was computed from and that were not computed themselves.
    """
    gradients = {id(y): dy}
    for node in reversed(topological_order(y)):
        if node.vjp is None:
            continue
        for a, da in zip(node.inputs, node.vjp(gradients.pop(id(node))), strict=True):
            if isinstance(a, Tensor):
                before = gradients.get(id(a))
                gradients[id(a)] = da if before is None else before + da   # uses add up
    return gradients


def value_and_grad(loss: Callable) -> Callable[..., tuple[Array, Tree]]:
    """value_and_grad(loss)(params, *args) -> loss(params, *args), dloss/dparams.

    `params` is any tree of dicts, lists and float arrays; the gradient has its shape, with zeros
    where a parameter was not used, in fresh writable arrays (in one flat buffer where `params`
    has one).  The loss comes back as a 0-d array of the same library.  Only the first argument is
    differentiated: a frozen model is one that is passed among `args`.

    Raises ValueError if the loss is not a scalar or a gradient has not its parameter's shape,
    TypeError if a leaf is not a float array.
    """
    def run(params: Tree, *args: Any, **kwargs: Any) -> tuple[Array, Tree]:
        check_floats(params)
        tape = tree_map(Tensor, params)
        y = loss(tape, *args, **kwargs)
        if getattr(y, "shape", ()) != ():
            raise ValueError(f"the loss must be a scalar, got shape {y.shape}; "
                             "sum it or take its mean")
        grads = zeros_like(params)
        xp = array_module(*(leaf for _, leaf in leaves(grads)))
        result = xp.asarray(value(y))
        gradients = pull_back(y, xp.ones_like(result)) if isinstance(y, Tensor) else {}

        def write(leaf: Tensor, out: Array) -> None:
            da = gradients.get(id(leaf), out)
            if da.shape != out.shape:                       # written, it might broadcast
                raise ValueError(f"a parameter of shape {out.shape} was given a gradient of "
                                 f"shape {da.shape}: the vjp of an op that used it is wrong")
            out[...] = da

        tree_map(write, tape, grads)
        return result, grads
    return run


def check_floats(params: Tree) -> None:
    """Raise TypeError, naming it, if a leaf is no float array."""
    if isinstance(params, Parameters) and params.flat.dtype.kind == "f":
        return
    for name, leaf in leaves(params):
        if getattr(getattr(leaf, "dtype", None), "kind", None) != "f":
            raise TypeError(f"parameter {name or '(the only one)'} must be a float array, got "
                            f"{getattr(leaf, 'dtype', type(leaf).__name__)}")

"""Parameters: a nested dict of named arrays, all of them views of one flat buffer.

    params = pack({"wte": {"weight": ...}, "h": [{"ln_1": {"weight": ...}}, ...]})
    params["h"][0]["ln_1"]["weight"]       # an array of its own shape, to compute with
    params.flat                            # the same numbers as one vector, to update with

The leaves have the names of a GPT-2 checkpoint ("h.0.ln_1.weight"), so saving is writing them
down.  The flat buffer makes an optimizer step, a gradient norm or a copy one pass over one vector.

A *tree* below is any nesting of dicts and lists with arrays at its leaves.
"""

from collections.abc import Callable, Iterator
from typing import Any

from minirlhf.arrays import Array, array_module

Tree = Any


class Parameters(dict):
    """A nested dict whose leaves are views of `flat`, in the order of `layout`.

    To change a leaf write into it (`leaf[...] = new`): a leaf that is replaced is a view no more,
    and an optimizer would update the buffer without it.
    """

    flat: Array
    layout: tuple[tuple[str, tuple[int, ...]], ...]        # (name, shape) of every leaf

    def __reduce__(self):                  # for deep copies: taken one by one, leaves would part
        return pack, (tree_map(lambda leaf: leaf, self),)


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) pairs in a fixed order: that of the dicts and lists."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        yield prefix, tree
        return
    for key, branch in items:
        yield from leaves(branch, f"{prefix}.{key}" if prefix else str(key))


def tree_map(function: Callable, tree: Tree, *others: Tree) -> Tree:
    """A tree of the same shape with function(leaf, *other_leaves) at each leaf."""
    if isinstance(tree, dict):
        return {key: tree_map(function, branch, *(other[key] for other in others))
                for key, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [tree_map(function, branch, *(other[i] for other in others))
                for i, branch in enumerate(tree)]
    return function(tree, *others)


def pack(tree: dict) -> Parameters:
    """Copy a tree of arrays into one fresh flat buffer; its leaves become views of that buffer.

    Raises ValueError if the leaves do not all have one dtype.
    """
    arrays = [leaf for _, leaf in leaves(tree)]
    dtypes = sorted({str(a.dtype) for a in arrays})
    if len(dtypes) != 1:
        raise ValueError(f"parameters must all have one dtype, got {', '.join(dtypes) or 'none'}")
    return laid_out(array_module(*arrays).concatenate([a.ravel() for a in arrays]), tree)


def laid_out(flat: Array, tree: dict) -> Parameters:
    """A flat buffer as Parameters: views of it, by the names and shapes of the tree's leaves."""
    start = 0

    def view(leaf):
        nonlocal start
        start += leaf.size
        return flat[start - leaf.size:start].reshape(leaf.shape)

    params = Parameters(tree_map(view, tree))
    params.flat = flat
    params.layout = (tree.layout if isinstance(tree, Parameters) else
                     tuple((name, leaf.shape) for name, leaf in leaves(tree)))
    return params


def filled(tree: Tree, make: Callable[[str, tuple[int, ...]], Array]) -> Parameters:
    """Parameters of the tree's names and shapes, each leaf made by make(name, shape), in order."""
    names = iter([name for name, _ in leaves(tree)])
    return pack(tree_map(lambda leaf: make(next(names), leaf.shape), tree))


def copy(params: Parameters) -> Parameters:
    """A model of its own with the same numbers: a frozen reference, or one started from an old one.

    What is copied is the buffer: a leaf that was replaced does not count.
    """
    return laid_out(params.flat.copy(), params)


def zeros_like(tree: Tree) -> Tree:
    """A tree of zeros: gradients of parameters that nothing used, an optimizer's first moments."""
    def zeros(leaf: Array) -> Array:
        return array_module(leaf).zeros_like(leaf)

    if isinstance(tree, Parameters):
        return laid_out(zeros(tree.flat), tree)
    return tree_map(zeros, tree)


def scaled(tree: Tree, factor: Array) -> Tree:
    """A tree of its own, every entry multiplied by one number."""
    if isinstance(tree, Parameters):
        return laid_out(tree.flat * factor, tree)
    return tree_map(lambda leaf: array_module(leaf).asarray(leaf * factor, dtype=leaf.dtype), tree)


def buffers(*trees: Tree) -> Iterator[tuple[Array, ...]]:
    """Yield matching arrays of several trees of one shape.

    Where all trees are `Parameters` there is one tuple, the flat buffers; otherwise one a leaf,
    matched by name.  Raises ValueError if names, or shapes in flat buffers, differ.
    """
    if all(isinstance(tree, Parameters) for tree in trees):
        if len({tree.layout for tree in trees}) > 1:
            raise ValueError("the trees hold leaves of other names, shapes or order, so their "
                             "flat buffers do not match")
        yield tuple(tree.flat for tree in trees)
        return
    first, *others = (dict(leaves(tree)) for tree in trees)
    for other in others:
        if other.keys() != first.keys():
            raise ValueError("the trees differ in their names: "
                             + ", ".join(sorted(other.keys() ^ first.keys())))
    for name, leaf in first.items():
        yield leaf, *(other[name] for other in others)


def count(tree: Tree) -> int:
    """How many numbers the tree holds."""
    return sum(leaf.size for _, leaf in leaves(tree))

"""The judge of every gradient: central differences, s(h) = (L(x + h·d) − L(x − h·d)) / 2h.

s(h) is off by a multiple of h², which drops out of (4·s(h/2) − s(h))/3; what is left is rounding.
The loss is L = Σ f·u with random u, the *cotangent*.  It must be random: with u = 1 the gradient
of a softmax is 0, whatever multiple of the right formula is written down.
"""

import numpy as np
from helpers import host

from minirlhf import ops
from minirlhf.arrays import array_module
from minirlhf.autograd import value_and_grad

ALL_ENTRIES_UP_TO = 64                 # a larger array is probed at random
RANDOM_ENTRIES, RANDOM_DIRECTIONS = 24, 8


def check_gradient(f, *arrays, rng=None, tolerance=1e-6, step=1e-5):
    """Raise AssertionError unless the gradient of f, by `value_and_grad`, is the measured slope.

    f maps the float64 `arrays`, as arrays or Tensors, to one array or scalar; whatever is not
    differentiated (ids, masks) f brings along itself.  f must be smooth at the point given.

    A difference may be `tolerance` times the largest slope met in the same argument, plus what
    rounding explains: the loss is known to about 1e-15 of Σ|f·u|, and its slope to that over h/2.
    """
    assert arrays and all(a.dtype == np.float64 for a in arrays), "float64 arrays are wanted"
    rng = np.random.default_rng(0) if rng is None else rng
    xp = array_module(*arrays)
    y = f(*arrays)
    u = xp.asarray(random_cotangent(getattr(y, "shape", ()), rng))
    rounding = 1e-15 / (step / 2) * (1 + float(abs(y * u).sum()))

    _, gradients = value_and_grad(lambda args: ops.sum(ops.mul(f(*args), u)))(list(arrays))

    def loss(i, moved):
        return float((f(*arrays[:i], moved, *arrays[i + 1:]) * u).sum())

    for i, (a, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        if gradient.shape != a.shape:
            raise AssertionError(f"argument {i} of shape {a.shape} got a gradient of shape "
                                 f"{gradient.shape}")
        directions = list(probes(a.shape, rng))
        numeric = [slope(lambda moved, i=i: loss(i, moved), a, xp.asarray(d), step)
                   for _, d in directions]
        analytic = [float((host(gradient) * d).sum()) for _, d in directions]
        scale = max(np.abs(numeric))
        for (where, _), got, wanted in zip(directions, analytic, numeric, strict=True):
            if not abs(got - wanted) <= tolerance * scale + rounding:         # a NaN fails too
                raise AssertionError(f"gradient of argument {i}, {where}: analytic {got:.10g}, "
                                     f"numeric {wanted:.10g}")


def random_cotangent(shape, rng) -> np.ndarray:
    """Random numbers of either sign and of size 0.5 to 1.5: none is near 0, hardly two agree."""
    return rng.uniform(0.5, 1.5, size=shape) * rng.choice([-1.0, 1.0], size=shape)


def slope(loss, a, direction, step) -> float:
    """The derivative of the loss at a along a direction, from four losses within `step` of a."""
    def central_difference(h):
        return (loss(a + h * direction) - loss(a - h * direction)) / (2 * h)
    return (4 * central_difference(step / 2) - central_difference(step)) / 3


def probes(shape, rng):
    """Yield (description, direction): every entry of a small array, else some of them and some
    random directions, which see all entries at once."""
    size = int(np.prod(shape))
    few = size <= ALL_ENTRIES_UP_TO
    for k in range(size) if few else rng.choice(size, RANDOM_ENTRIES, replace=False):
        direction = np.zeros(size)
        direction[k] = 1
        yield f"entry {tuple(map(int, np.unravel_index(k, shape)))}", direction.reshape(shape)
    for n in range(0 if few else RANDOM_DIRECTIONS):
        yield f"random direction {n}", rng.standard_normal(shape)

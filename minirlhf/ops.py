"""Every differentiable operation: the value, and directly below it the hand-derived gradient.

One op is one function.  It computes the forward value y, then defines `vjp(dy)`, which returns one
gradient per input, dx = Σ_j dy_j ∂y_j/∂x.  The first docstring lines are the two equations.

Ops take arrays or Tensors (and numbers).  If no input is a Tensor they return a plain array and
nothing is recorded, so one piece of code serves sampling, scoring and training.

Ties have one rule: `minimum` and `maximum` send the gradient to their first argument, `clip`
passes it at both bounds.

Symbols: B batch, T tokens, C channels, H heads, D = C/H, V vocabulary; (...) any leading axes.
"""

from math import pi, sqrt
from typing import Any

from minirlhf.arrays import Array, array_module, check_mask, check_same_shape
from minirlhf.autograd import Tensor, record, value

OPS: dict[str, Any] = {}                  # every op by name: the tests check the gradient of each


def op(function):
    """Register a differentiable op."""
    OPS[function.__name__] = function
    return function


def unbroadcast(dy: Array, a: Any) -> Array | None:
    """The gradient of an input `a` that NumPy broadcast: dy summed over the copies.

    If y_ij = x_j was copied along i, then dx_j = Σ_i dy_ij.  None where `a` is a constant, whose
    gradient nobody asks for.
    """
    if not isinstance(a, Tensor):
        return None
    if dy.shape == a.shape:
        return dy
    dy = dy.sum(axis=tuple(range(dy.ndim - a.ndim)))
    stretched = tuple(i for i, n in enumerate(a.shape) if n == 1 and dy.shape[i] != 1)
    return dy.sum(axis=stretched, keepdims=True) if stretched else dy


def _row_sum(x: Array) -> Array:
    """Σ over the last axis, kept as an axis of length 1.  One matrix-vector product is the fastest
    way to sum many short rows."""
    n = x.shape[-1]
    return (x.reshape(-1, n) @ array_module(x).ones(n, dtype=x.dtype)).reshape(*x.shape[:-1], 1)


def _row_dot(x: Array, z: Array) -> Array:
    """Σ x·z over the last axis, kept as an axis of length 1, without an array of the products."""
    return array_module(x).einsum("...i,...i->...", x, z)[..., None]


# --- elementary arithmetic, with NumPy's broadcasting --------------------------------------------

@op
def add(a, b):
    """y = a + b.     da = dy,  db = dy"""
    def vjp(dy):
        return unbroadcast(dy, a), unbroadcast(dy, b)
    return record(value(a) + value(b), (a, b), vjp)


@op
def sub(a, b):
    """y = a − b.     da = dy,  db = −dy"""
    def vjp(dy):
        return unbroadcast(dy, a), unbroadcast(-dy, b)
    return record(value(a) - value(b), (a, b), vjp)


@op
def mul(a, b):
    """y = a·b.     da = dy·b,  db = dy·a"""
    x, z = value(a), value(b)

    def vjp(dy):
        return unbroadcast(dy * z, a), unbroadcast(dy * x, b)
    return record(x * z, (a, b), vjp)


@op
def div(a, b):
    """y = a/b.     da = dy/b,  db = −dy·a/b² = −da·y"""
    z = value(b)
    y = value(a) / z

    def vjp(dy):
        da = dy / z
        return unbroadcast(da, a), unbroadcast(-da * y, b)
    return record(y, (a, b), vjp)


@op
def power(a, b):
    """y = aᵇ.     da = dy·b·aᵇ⁻¹,  db = dy·aᵇ·log a   (0 at a = 0, the limit for b > 0)"""
    x, z = value(a), value(b)
    y = x ** z

    def vjp(dy):
        xp = array_module(y)
        da = db = None
        if isinstance(a, Tensor):
            da = unbroadcast(dy * z * x ** (z - (z != 0)), a)
        if isinstance(b, Tensor):
            log_x = xp.log(xp.where(y == 0, 1, x).astype(y.dtype, copy=False))
            db = unbroadcast(dy * y * log_x, b)
        return da, db
    return record(y, (a, b), vjp)


@op
def matmul(a, b):
    """y = a @ b as NumPy's: (..., M, K) @ (..., K, N) -> (..., M, N).

    da = dy @ bᵀ,  db = aᵀ @ dy: since y_mn = Σ_k a_mk b_kn, da_mk = Σ_n dy_mn b_kn.
    A vector is a row on the left, a column on the right.
    """
    x, z = value(a), value(b)

    def vjp(dy):
        row, column = x.ndim == 1, z.ndim == 1
        x2 = x[None, :] if row else x
        z2 = z[:, None] if column else z
        dy = dy[..., None] if column else dy                    # give the dropped axes back:
        dy = dy[..., None, :] if row else dy                    # (..., M, N) in every case
        da = unbroadcast(dy @ z2.swapaxes(-1, -2), Tensor(x2))
        db = unbroadcast(x2.swapaxes(-1, -2) @ dy, Tensor(z2))
        return da.reshape(x.shape), db.reshape(z.shape)
    return record(x @ z, (a, b), vjp)


@op
def exp(a):
    """y = eᵃ.     da = dy·y, and 0 where dy is 0 even if y overflowed (0·inf would be NaN)"""
    xp = array_module(value(a))
    y = xp.exp(value(a))

    def vjp(dy):
        return (dy * xp.where(dy == 0, 0, y),)
    return record(y, (a,), vjp)


@op
def log(a):
    """y = log a.     da = dy/a"""
    x = value(a)

    def vjp(dy):
        return (dy / x,)
    return record(array_module(x).log(x), (a,), vjp)


@op
def softplus(a):
    """y = log(1 + eᵃ) = max(a, 0) + log(1 + e^−|a|), which cannot overflow.     da = dy·σ(a)"""
    x = value(a)
    xp = array_module(x)
    tail = xp.log1p(xp.exp(-abs(x)))

    def vjp(dy):
        return (dy * xp.exp(-(xp.maximum(-x, 0) + tail)),)          # σ(x) = exp(−softplus(−x))
    return record(xp.maximum(x, 0) + tail, (a,), vjp)


@op
def minimum(a, b):
    """y = min(a, b).     The gradient goes to the smaller; at a tie to a."""
    x, z = value(a), value(b)
    xp = array_module(x, z)

    def vjp(dy):
        first = x <= z
        return (unbroadcast(xp.where(first, dy, 0), a),
                unbroadcast(xp.where(first, 0, dy), b))
    return record(xp.minimum(x, z), (a, b), vjp)


@op
def maximum(a, b):
    """y = max(a, b).     The gradient goes to the larger; at a tie to a."""
    x, z = value(a), value(b)
    xp = array_module(x, z)

    def vjp(dy):
        first = x >= z
        return (unbroadcast(xp.where(first, dy, 0), a),
                unbroadcast(xp.where(first, 0, dy), b))
    return record(xp.maximum(x, z), (a, b), vjp)


@op
def clip(a, low, high):
    """y = a limited to [low, high].     da = dy where low ≤ a ≤ high (both bounds count), else 0

    low and high are constants: numbers, or arrays of a's shape.
    """
    x = value(a)
    xp = array_module(x)

    def vjp(dy):
        return xp.where((low <= x) & (x <= high), dy, 0), None, None
    return record(xp.minimum(xp.maximum(x, low), high), (a, low, high), vjp)


@op
def where(condition, a, b):
    """y = a where condition, else b.     The gradient goes where the value came from.

    The other branch gets exactly 0, whatever it holds: this is how masks are applied, since a
    product with the mask would turn a NaN in a masked slot into a NaN everywhere.
    """
    condition = value(condition)
    xp = array_module(condition, value(a), value(b))

    def vjp(dy):
        return (None, unbroadcast(xp.where(condition, dy, 0), a),
                unbroadcast(xp.where(condition, 0, dy), b))
    return record(xp.where(condition, value(a), value(b)), (condition, a, b), vjp)


# --- reductions and shapes -----------------------------------------------------------------------

@op
def sum(a, axis=None):
    """y = Σ a over `axis` (an int; by default over everything).     da_i = dy, for every i summed

    A sum of floats keeps their dtype.
    """
    x = value(a)
    xp = array_module(x)

    def vjp(dy):
        dy = xp.asarray(dy)
        return (xp.broadcast_to(dy if axis is None else xp.expand_dims(dy, axis), x.shape),)
    return record(x.sum(axis=axis), (a,), vjp)


@op
def masked_mean(a, mask, count=None):
    """y = (1/n) Σ over the mask of a,  n = `count`, by default the number of True entries.

    da = dy/n where mask, else 0.  Masked slots are never read; they may hold NaN.

    `count` is how a batch is split without changing its loss: give every part the number of
    unmasked entries of the *whole* optimizer step, and the parts' means add up to the step's.

    Raises TypeError if the mask is not boolean, ValueError if shapes differ, if `count` is not
    positive, or if there is no `count` and nothing is unmasked.
    """
    check_mask(mask)
    check_same_shape(values=a, mask=mask)
    if count is None:
        count = int(mask.sum())
        if count == 0:
            raise ValueError(f"mean over no token: the mask {mask.shape} has no True entry "
                             "(give count=, the tokens of the whole step, to let it count as 0)")
    if not count > 0:
        raise ValueError(f"count must be a positive number of tokens, got {count}")
    count = float(count)                    # a NumPy integer would turn float32 into float64
    x = value(a)
    xp = array_module(x)

    def vjp(dy):
        return xp.where(mask, dy / count, 0).astype(x.dtype, copy=False), None
    return record(xp.where(mask, x, 0).sum() / count, (a, mask), vjp)


@op
def reshape(a, shape):
    """y = the same numbers in another shape.     da = dy in the old one"""
    x = value(a)

    def vjp(dy):
        return dy.reshape(x.shape), None
    return record(x.reshape(shape), (a, shape), vjp)


@op
def transpose(a):
    """y = aᵀ, the last two axes exchanged.     da = dyᵀ"""
    def vjp(dy):
        return (dy.swapaxes(-1, -2),)
    return record(value(a).swapaxes(-1, -2), (a,), vjp)


@op
def index(a, key):
    """y = a[key] for ints and slices.     da = dy at key, 0 elsewhere

    Raises TypeError for an index array: with those an entry may be taken twice, and its gradients
    would have to add.
    """
    keys = key if isinstance(key, tuple) else (key,)
    if any(isinstance(k, list) or getattr(k, "shape", ()) for k in keys):
        raise TypeError("an index array was given; a Tensor takes ints and slices, and embedding() "
                        "or a product with one-hot rows looks up many entries")
    x = value(a)

    def vjp(dy):
        da = array_module(x).zeros_like(x)
        da[key] = dy
        return da, None
    return record(x[key], (a, key), vjp)


# --- the transformer's ops -----------------------------------------------------------------------

@op
def embedding(table, ids):
    """y = table[ids].  table (V, C), ids (...) int -> (..., C).     dtable_v = Σ of dy where id = v

    The sum is a product with one-hot rows: the same formula, in the same order, on every backend.
    (A scatter-add would be done by atomics on a GPU, in a different order at each run.)
    """
    x = value(table)
    xp = array_module(x)

    def vjp(dy):
        one_hot = (ids.reshape(-1, 1) == xp.arange(x.shape[0])).astype(dy.dtype)         # (N, V)
        return one_hot.T @ dy.reshape(-1, x.shape[1]), None
    return record(x[ids], (table, ids), vjp)


@op
def linear(a, w, b):
    """y = x·W + b.  x (..., I), W (I, O), b (O,) or the number 0 -> (..., O)

    dx = dy·Wᵀ,  dW = xᵀ·dy,  db = Σ dy, with all leading axes flattened into one (N, I):
    then each is a single large matrix product.
    """
    x, weight = value(a), value(w)
    flat = x.reshape(-1, x.shape[-1])
    y = flat @ weight
    y += value(b)

    def vjp(dy):
        xp = array_module(x)
        dy = dy.reshape(-1, dy.shape[-1])
        db = xp.ones(len(dy), dtype=dy.dtype) @ dy if isinstance(b, Tensor) else None
        return (dy @ weight.T).reshape(x.shape), flat.T @ dy, db
    return record(y.reshape(*x.shape[:-1], -1), (a, w, b), vjp)


@op
def layer_norm(a, gain, bias, eps=1e-5):
    """y = g·x̂ + b,  x̂ = (x − μ)/s,  s = √(σ² + ε), over the last axis.  (..., C) -> (..., C)

    dx = (dx̂ − mean(dx̂) − x̂·mean(dx̂·x̂))/s  with dx̂ = dy·g;   dg = Σ dy·x̂,   db = Σ dy
    The two means are what μ and s take back: a shift or a scaling of x does not change y.
    Derived in docs/derivations/layer_norm.md.
    """
    x = value(a)
    g = value(gain)
    channels = x.shape[-1]
    normal = x - _row_sum(x) / channels
    inverse_s = (_row_dot(normal, normal) / channels + eps) ** -0.5                     # (..., 1)
    normal *= inverse_s                                                                     # x̂
    y = normal * g
    y += value(bias)

    def vjp(dy):
        xp = array_module(x)
        dx = dy * g                                                                         # dx̂
        mean, slope = _row_sum(dx) / channels, _row_dot(dx, normal) / channels
        dx -= mean
        dx -= normal * slope
        dx *= inverse_s
        rows, normal_rows = dy.reshape(-1, channels), normal.reshape(-1, channels)
        return (dx, xp.einsum("nc,nc->c", rows, normal_rows),
                xp.ones(len(rows), dtype=x.dtype) @ rows, None)
    return record(y, (a, gain, bias, eps), vjp)


@op
def gelu(a):
    """y = x·h,  h = ½(1 + tanh u),  u = √(2/π)·(x + 0.044715x³): GPT-2's "gelu_new".

    dx = dy·s,  with the slope  s = h + 2y(1 − h)·u′,  u′ = √(2/π)·(1 + 3·0.044715x²)
    Derived in docs/derivations/gelu.md.  The slope is computed along with y: it is the one array
    that has to be kept.
    """
    x = value(a)
    scale, cubic = sqrt(2 / pi), 0.044715
    square = x * x                                      # x**3 would be fifty times slower
    h = square * (scale * cubic)
    h += scale
    h *= x                                                          # u
    h = array_module(x).tanh(h)
    h += 1
    h *= 0.5
    y = x * h
    if not isinstance(a, Tensor):
        return y
    slope = square
    slope *= 6 * scale * cubic
    slope += 2 * scale                                              # 2u′
    slope *= y
    slope *= 1 - h
    slope += h

    def vjp(dy):
        return (dy * slope,)
    return record(y, (a,), vjp)


@op
def causal_attention(qkv, heads, bias):
    """y = softmax(q·kᵀ/√D + bias)·v for every head.  qkv (B, T, 3C) -> (B, T, C)

    q, k, v are the thirds of the last axis, each split into `heads` heads of D = C/heads.
    bias (T, T) or (B, 1, T, T) is a constant: 0 where a query (row) may look at a key (column),
    −inf where it may not.  Each row needs one key to look at.

    With P the softmax, O = P·V:   dV = Pᵀ·dO,   dP = dO·Vᵀ,
    dS = P ∘ (dP − δ),  δ_i = Σ_j P_ij dP_ij = Σ_d dO_id O_id,   dQ = dS·K/√D,   dK = dSᵀ·Q/√D.
    Derived in docs/derivations/attention.md.

    Here p is Pᵀ before it is normalised, keys down and queries across: a maximum down the columns
    is several times faster than one along the rows.  With n the sum of a query's column, P = pᵀ/n,
    and it is O and dO that are divided by n, which are smaller than P.
    """
    x = value(qkv)
    xp = array_module(x)
    B, T, C = x.shape[0], x.shape[1], x.shape[2] // 3
    D = C // heads
    q, k, v = x.reshape(B, T, 3, heads, D).transpose(2, 0, 3, 1, 4)              # each (B, H, T, D)
    q = q * D ** -0.5
    p = k @ q.swapaxes(-1, -2)                                                   # (B, H, T, T)
    p += bias.swapaxes(-1, -2)
    p -= p.max(axis=-2, keepdims=True)              # the largest is 0: exp cannot overflow
    p = xp.exp(p, out=p)
    inverse_n = (1 / (xp.ones(T, dtype=x.dtype) @ p)).swapaxes(1, 2)[..., None]     # (B, T, H, 1)
    o = p.swapaxes(-1, -2) @ v                                                   # (B, H, T, D)
    y = xp.empty((B, T, heads, D), x.dtype)
    xp.multiply(o.swapaxes(1, 2), inverse_n, out=y)

    def vjp(dy):
        dy = dy.reshape(B, T, heads, D) * inverse_n                              # dO/n
        do = dy.swapaxes(1, 2)                                                   # (B, H, T, D)
        ds = v @ do.swapaxes(-1, -2)                                             # dPᵀ/n
        ds -= _row_dot(dy, y).transpose(0, 2, 3, 1)                              # δ/n
        ds *= p
        dqkv = xp.empty_like(x)
        dq, dk, dv = dqkv.reshape(B, T, 3, heads, D).transpose(2, 0, 3, 1, 4)    # views
        xp.multiply(ds.swapaxes(-1, -2) @ k, D ** -0.5, out=dq)
        dk[...] = ds @ q
        dv[...] = p @ do
        return dqkv, None, None
    return record(y.reshape(B, T, C), (qkv, heads, bias), vjp)


@op
def log_softmax(a):
    """y = x − logsumexp(x), last axis.  (..., V) -> (..., V).     dx = dy − softmax(x)·Σdy

    since ∂y_u/∂x_v = [u = v] − softmax(x)_v.  Derived in docs/derivations/log_softmax.md.
    """
    x = value(a)
    xp = array_module(x)
    z = x - x.max(axis=-1, keepdims=True)              # the largest is 0: exp cannot overflow
    y = z - xp.log(xp.exp(z).sum(axis=-1, keepdims=True))

    def vjp(dy):
        return (dy - xp.exp(y) * dy.sum(axis=-1, keepdims=True),)
    return record(y, (a,), vjp)


@op
def select_logprobs(logits, ids, temperature=1.0):
    """y = log softmax(z/τ)[id], one entry a row.  z (..., V), ids (...) int -> (...)

    dz = (dy/τ)·(onehot(id) − softmax(z/τ)).  One pass instead of a log-softmax of every entry.
    """
    x = value(logits)
    xp = array_module(x)
    ids = ids[..., None]
    z = x - x.max(axis=-1, keepdims=True)
    if temperature != 1.0:
        z /= temperature
    chosen = xp.take_along_axis(z, ids, axis=-1)
    p = xp.exp(z, out=z)
    total = _row_sum(p)
    y = (chosen - xp.log(total))[..., 0]

    def vjp(dy):
        dy = dy[..., None] / temperature
        dz = p * (-dy / total)
        xp.put_along_axis(dz, ids, xp.take_along_axis(dz, ids, axis=-1) + dy, axis=-1)
        return dz, None, None
    return record(y, (logits, ids, temperature), vjp)


# --- Tensor's operators are these ops ------------------------------------------------------------

Tensor.__add__ = Tensor.__radd__ = add                     # addition commutes, to the bit
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__sub__, Tensor.__rsub__ = sub, lambda a, b: sub(b, a)
Tensor.__truediv__, Tensor.__rtruediv__ = div, lambda a, b: div(b, a)
Tensor.__pow__, Tensor.__rpow__ = power, lambda a, b: power(b, a)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, lambda a, b: matmul(b, a)
Tensor.__neg__ = lambda a: mul(a, -1)
Tensor.__getitem__ = index

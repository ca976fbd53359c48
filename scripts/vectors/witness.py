"""The witness: arithmetic of 50 digits on plain Python lists, which shares nothing with minirlhf.

A formula of a family takes its inputs as a dict and returns a dict of outputs; arrays are nested
lists of mpmath numbers, and None in an output marks a slot that is not to be compared.  Gradients
are central differences of the formula itself: with a step of 10⁻¹⁶ and 50 digits they are right to
some 30 digits, and no rule of differentiation is trusted that could share an error with the code
on trial.
"""

from collections.abc import Callable, Iterable
from typing import Any

from mpmath import exp, isinf, isnan, log, log1p, mp, mpf, sqrt  # noqa: F401

mp.dps = 50
STEP = mpf(10) ** -16
NEAR = mpf(10) ** -6                # a comparison closer than this is too close for a gradient

Formula = Callable[[dict], dict]


class Tie(ValueError):
    """A gradient was asked for where the formula has a corner, or is too near one."""


# --- nested lists --------------------------------------------------------------------------------

def leaves(tree: Any) -> list:
    """The numbers of nested lists and dicts, in order."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [x for branch in tree for x in leaves(branch)] if isinstance(tree, list) else [tree]


def like(tree: Any, numbers: Iterable) -> Any:
    """The numbers in the shape of the tree."""
    numbers = iter(numbers)

    def fill(branch):
        if isinstance(branch, dict):
            return {name: fill(inner) for name, inner in branch.items()}
        return [fill(inner) for inner in branch] if isinstance(branch, list) else next(numbers)
    return fill(tree)


def exact(tree: Any) -> Any:
    """Floats as numbers of 50 digits: the binary value itself, not its decimal print."""
    return like(tree, [mpf(x) for x in leaves(tree)])


def rounded(tree: Any) -> Any:
    """The nearest floats; booleans, integers and None stay."""
    return like(tree, [nearest(x) if isinstance(x, mpf) else x for x in leaves(tree)])


def nearest(x) -> float:
    """The float nearest to x, by a division of integers (mpmath's own may round twice)."""
    if isnan(x) or isinf(x):
        return float(x)
    mantissa, exponent = map(int, x.man_exp)
    try:
        size = mantissa * 2 ** max(0, exponent) / 2 ** max(0, -exponent)
    except OverflowError:
        size = float("inf")
    return -size if x < 0 else size


# --- corners -------------------------------------------------------------------------------------

_margins: list = []                 # how far apart the two sides of each comparison were


def smaller(a, b):
    """min(a, b), remembered as a place where slopes may change."""
    _margins.append(abs(a - b))
    return a if isnan(a) or a <= b else b


def larger(a, b):
    return -smaller(-a, -b)


def clip(x, low, high):
    return smaller(larger(x, low), high)


# --- means ---------------------------------------------------------------------------------------

def total(numbers: Iterable):
    return sum(numbers, mpf(0))


def mean(numbers: Iterable):
    numbers = list(numbers)
    return total(numbers) / len(numbers)


def variance(numbers: Iterable, ddof: int = 0):
    """(1/(n − ddof)) Σ (x − mean)²; NaN where n − ddof is 0."""
    numbers = list(numbers)
    middle = mean(numbers)
    squares = total((x - middle) ** 2 for x in numbers)
    return squares / (len(numbers) - ddof) if len(numbers) > ddof else mpf("nan")


def chosen(row: list, mask: list) -> list:
    """The unmasked entries of a row."""
    return [x for x, real in zip(row, mask, strict=True) if real]


def over(mask: list, row: list) -> list:
    """The row, with None (not compared) where the mask is False."""
    return [x if real else None for x, real in zip(row, mask, strict=True)]


def log_softmax(logits: list) -> list:
    """The logarithms of softmax; a logit of −inf has −inf."""
    top = max(logits)
    norm = top + log(total(exp(z - top) for z in logits))
    return [z - norm for z in logits]


# --- gradients -----------------------------------------------------------------------------------

def scalar(outputs: dict, cotangent: dict | None):
    """Σ cotangent·output, or the only output where no cotangent is given.

    What is not compared (None) counts for 0, and so does an infinity, which has no slope.
    """
    if cotangent is None:
        (value,) = outputs.values()
        return value
    pairs = [(c, y) for name in outputs
             for c, y in zip(leaves(cotangent[name]), leaves(outputs[name]), strict=True)]
    return total(mpf(c) * y for c, y in pairs if y is not None and not isinf(y))


def gradients(formula: Formula, inputs: dict, names: Iterable[str],
              cotangent: dict | None = None) -> dict:
    """{name: ∂/∂input of Σ cotangent·output}, in the shapes of the inputs.

    Raises Tie where the slopes to the left and to the right differ, or where a comparison of the
    formula is nearer than 10⁻⁶ to changing sides; ValueError where the gradient is no number.
    """
    _margins.clear()
    here = scalar(formula(inputs), cotangent)
    near = [margin for margin in _margins if 0 < margin < NEAR]
    if near:
        raise Tie(f"a comparison is {mp.nstr(min(near), 3)} from a corner")
    slopes = {}
    for name in names:
        numbers = leaves(inputs[name])

        def moved(i, step, name=name, numbers=numbers):
            there = numbers[:i] + [numbers[i] + step] + numbers[i + 1:]
            return scalar(formula(inputs | {name: like(inputs[name], there)}), cotangent)
        slopes[name] = [slope(moved(i, -STEP), here, moved(i, STEP)) for i in range(len(numbers))]
    _margins.clear()
    return {name: like(inputs[name], slopes[name]) for name in slopes}


def slope(left, here, right):
    """The central difference, if the one-sided ones agree; 0 if it is nothing but rounding."""
    before, after = (here - left) / STEP, (right - here) / STEP
    if isnan(before) or isnan(after):
        raise ValueError("a gradient that is no number: a masked slot was read")
    if abs(after - before) > 1e-9 * (1 + abs(before) + abs(after)):
        raise Tie(f"slopes {mp.nstr(before, 6)} to the left and {mp.nstr(after, 6)} to the right")
    middle = (right - left) / (2 * STEP)
    # Rounding looks like a tiny slope too, but one that differs from left to right.
    is_rounding = abs(middle) < 1e-20 and abs(after - before) > 1e-10 * abs(middle)
    return mpf(0) if is_rounding else middle

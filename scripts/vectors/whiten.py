"""Vectors of whitening."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, larger, mean, mpf, over, sqrt, total, variance

NAN, HUGE = float("nan"), 1e30
EPS = mpf(10) ** -8


# --- the formula ---------------------------------------------------------------------------------

def scaled(centered, var, how):
    if how == "in-root":
        return centered / sqrt(var + EPS)
    if how == "outside":
        return centered / (sqrt(var) + EPS)
    return centered / sqrt(larger(var, EPS) if var == var else var)


def statistics(numbers, c):
    n, ddof = len(numbers), c["whiten.ddof"]
    if c["whiten.count"] == "n":
        return mean(numbers), variance(numbers, ddof)
    middle = total(numbers) / (n + EPS)
    var = total((x - middle) ** 2 for x in numbers) / (n + EPS)
    return middle, var * n / (n - ddof) if n > ddof else mpf("nan")


def scopes(x, c):
    """The rows that are whitened together, as lists of their numbers."""
    sizes = x["minibatches"] if c["whiten.scope"] == "minibatch" else None
    sizes, start = sizes or [len(x["x"])], 0
    for size in sizes:
        yield range(start, start + size)
        start += size


def whiten(x, c, moments=statistics, scale=scaled):
    y = [None] * len(x["x"])
    add_mean = x["shift_mean"] == (c["whiten.shift"] == "inverted")
    for rows in scopes(x, c):
        masks = {b: [True] * len(x["x"][b]) if c["whiten.mask"] == "all-slots" else x["mask"][b]
                 for b in rows}
        middle, var = moments([v for b in rows for v in chosen(x["x"][b], masks[b])], c)
        for b in rows:
            y[b] = over(masks[b], [scale(v - middle, var, c["whiten.eps"])
                                   + (middle if add_mean else 0) for v in x["x"][b]])
    return {"y": y}


# --- known mistakes ------------------------------------------------------------------------------

def mean_over_pads(x, c):
    """The mean of all slots, the variance of the real ones."""
    middle = mean(v for row in x["x"] for v in row)
    return whiten(x, c, lambda numbers, c: (middle, total(
        (v - middle) ** 2 for v in numbers) / (len(numbers) - c["whiten.ddof"])))


def mask_multiplied(x, c):
    """mean((x·mask))/mean(mask): a NaN under a pad is a NaN everywhere."""
    dirty = total(v * int(real) for row, mask in zip(x["x"], x["mask"], strict=True)
                  for v, real in zip(row, mask, strict=True))
    return whiten(x, c, lambda numbers, c: (dirty / len(numbers), dirty))


def row_by_row(x, c):
    single = [whiten(x | {"x": [row], "mask": [mask], "minibatches": None}, c)["y"][0]
              for row, mask in zip(x["x"], x["mask"], strict=True)]
    return {"y": single}


MISTAKES = {
    "mean-over-pads": mean_over_pads,
    "mask-multiplied": mask_multiplied,
    "whitened-row-by-row": row_by_row,
    "divided-by-the-variance": lambda x, c: whiten(x, c, scale=lambda d, var, how: d / (var + EPS)),
    "variance-not-centred": lambda x, c: whiten(x, c, lambda numbers, c: (
        mean(numbers), mean(v * v for v in numbers))),
    "no-epsilon": lambda x, c: whiten(x, c, scale=lambda d, var, how: (
        d / sqrt(var) if var else mpf("nan"))),
    "shift-mean-ignored": lambda x, c: whiten(x | {"shift_mean": True}, c),
    "mean-not-subtracted": lambda x, c: whiten(x, c, lambda numbers, c: (
        mpf(0), statistics(numbers, c)[1])),
}

# --- conventions and cases -----------------------------------------------------------------------

AXES = (
    Axis("whiten.ddof", "what the sum of squares is divided by", {
        0: "n, the population variance", 1: "n − 1, the sample variance (one token gives NaN)"}),
    Axis("whiten.eps", "how a variance of 0 is survived", {
        "in-root": "(x − μ)/√(σ² + 1e-8)", "outside": "(x − μ)/(σ + 1e-8)",
        "floor": "(x − μ)/√max(σ², 1e-8)"}),
    Axis("whiten.mask", "what mean and variance are taken over", {
        "masked": "the unmasked slots", "all-slots": "all slots, pads included"}),
    Axis("whiten.scope", "what is whitened together", {
        "rollout": "the whole batch", "minibatch": "each minibatch by itself, at loss time"}),
    Axis("whiten.count", "the n of mean and variance", {
        "n": "the number of slots", "n+1e-8": "that number + 1e-8"}),
    Axis("whiten.shift", "what shift_mean=True does", {
        "subtract": "the mean stays away; False adds it back",
        "inverted": "True adds the mean back, False leaves it away"}),
)
BASE = {"whiten.ddof": 0, "whiten.eps": "in-root", "whiten.mask": "masked",
        "whiten.scope": "rollout", "whiten.count": "n", "whiten.shift": "subtract"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "summarize-from-feedback-details"), core=True),
    star(BASE, "sample", "the variance is divided by n - 1", ("trl-ppo",), whiten__ddof=1),
    star(BASE, "outside", "epsilon stands outside the root", whiten__eps="outside"),
    star(BASE, "floor", "the variance has a floor of 1e-8", ("openrlhf",), whiten__eps="floor"),
    star(BASE, "all-slots", "pads count", ("lm-human-preference-details",),
         whiten__mask="all-slots"),
    star(BASE, "minibatch", "each minibatch is whitened by itself", whiten__scope="minibatch"),
    star(BASE, "count", "the count has an epsilon of its own", whiten__count="n+1e-8"),
    star(BASE, "inverted", "the shift is the other way round", whiten__shift="inverted"),
    star(BASE, "verl", "the variance is divided by n - 1, and the count has an epsilon",
         ("verl-2026-01", "verl-2026-08"), listed=True, whiten__ddof=1, whiten__count="n+1e-8"),
    star(BASE, "lm-human-preferences", "each minibatch is whitened by itself, pads included",
         ("lm-human-preferences",), listed=True, whiten__mask="all-slots",
         whiten__scope="minibatch"),
    star(BASE, "trlx", "each minibatch is whitened by itself, pads included, over n - 1", ("trlx",),
         listed=True, whiten__mask="all-slots", whiten__scope="minibatch", whiten__ddof=1),
    star(BASE, "cleanrl",
         "each minibatch is whitened by itself, over n - 1, epsilon outside the root",
         ("cleanrl",), listed=True, whiten__ddof=1, whiten__eps="outside",
         whiten__scope="minibatch"),
    star(BASE, "torchtune", "the shift is the other way round, over n - 1",
         ("torchtune",), listed=True, whiten__ddof=1, whiten__shift="inverted"),
)


def batch(x, mask=None, shift_mean=True, **more):
    mask = mask or [[1] * len(row) for row in x]
    return {"x": x, "mask": [[bool(m) for m in row] for row in mask],
            "shift_mean": shift_mean} | more


CORE = ("core",)
BUNDLES = tuple(group.name for group in GROUPS if group.listed)
NEARLY = (1e-6, 1e-9, "the inputs differ in their sixth digit, so their differences have ten left")
CANCELLED = (1e-7, 1e-12, "3 - 3/(1 + 1e-8) is 3e-8, and float64 has sixteen digits of 3: half are "
             "left, and in float32 none")
PADDED = batch([[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]], [[1, 1, 0], [1, 1, 0]])

CASES = (
    Case("worked", "1, 2 and 3 become minus, nothing and plus the root of 3/2, and a pad nothing",
         batch([[1.0, 2.0, 3.0, 4.0]], [[1, 1, 1, 0]]),
         ("divided-by-the-variance", "variance-not-centred", "mean-over-pads",
          "mean-not-subtracted"),
         laws={"sample": "over n - 1 the numbers 1, 2 and 3 become -1, 0 and 1"},
         also=BUNDLES, given="1, 2, 3 and a pad"),
    Case("two-rows", "mean and variance are those of all rows together", PADDED,
         ("whitened-row-by-row", "mean-over-pads", "divided-by-the-variance"),
         given="two rows with pads"),
    Case("keep-the-mean", "without the shift the mean stays", PADDED | {"shift_mean": False},
         ("shift-mean-ignored", "variance-not-centred"),
         also=BUNDLES, given="shift_mean off"),
    Case("nearly-constant", "a spread of 1e-5 stays small beside the root of epsilon",
         batch([[2.0, 2.00001, 2.0, 1.99999]]), ("no-epsilon",), tolerance=NEARLY,
         laws={"outside": "with epsilon outside the root a spread of 1e-5 is scaled up to one"},
         also=BUNDLES, given="a spread of 1e-5"),
    Case("as-small-as-epsilon", "a deviation of 1e-4 is scaled to the root of one half",
         batch([[0.0001, -0.0001]]), ("no-epsilon", "divided-by-the-variance"),
         laws={"outside": "with epsilon outside the root a deviation of 1e-4 is scaled up to one",
               "floor": "a deviation that is the floor itself is scaled up to one"},
         given="a deviation of 1e-4"),
    Case("constant", "equal numbers become zero", batch([[5.0, 5.0], [5.0, 5.0]]),
         ("no-epsilon",), groups=("core", "sample", "floor"),
         given="equal numbers"),
    Case("single", "a single token becomes zero", batch([[3.0, 7.0]], [[1, 0]]), ("no-epsilon",),
         tolerances={"count": CANCELLED},
         laws={"sample": "a single token has no sample variance",
               "verl": "a single token has no sample variance, whatever is added to its count"},
         given="a single token"),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing",
         batch([[1.0, 3.0, NAN], [-2.0, HUGE, NAN]], [[1, 1, 0], [1, 0, 0]]),
         ("mask-multiplied",), groups=("core", "sample", "floor", "verl"),
         given="nan and huge numbers under the mask"),
    Case("gaps", "a gap inside a row is left out", batch(
        [[1.0, 50.0, 3.0], [2.0, -50.0, 7.0]], [[1, 0, 1], [1, 0, 1]]), ("mean-over-pads",),
        groups=CORE),
    Case("pads-of-zero", "zeros under pads do not pull the mean", batch(
        [[4.0, 6.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]], [[1, 1, 0, 0], [1, 0, 0, 0]]),
        ("mean-over-pads",), groups=("core", "all-slots", "trlx", "lm-human-preferences"),
        given="zeros under pads"),
    Case("minibatches", "two minibatches of two rows are whitened together", batch(
        [[1.0, 2.0], [3.0, 4.0], [10.0, 30.0], [20.0, 40.0]], minibatches=[2, 2]),
        ("whitened-row-by-row",),
        also=BUNDLES, given="two minibatches of two rows"),
    Case("uneven-minibatches", "minibatches of one and two rows are whitened together", batch(
        numbers("whiten uneven", 3, 4), [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]],
        minibatches=[1, 2]),
        groups=("core", "minibatch", "lm-human-preferences", "trlx", "cleanrl"),
        given="minibatches of one row and of two"),
    Case("large", "numbers in the millions are scaled as well", batch(
        [[1e6, 2e6, -3e6]]), ("divided-by-the-variance",), groups=CORE),
    Case("arbitrary", "two replies of four tokens and of two are whitened together", batch(
        numbers("whiten any", 2, 4), [[1, 1, 1, 1], [1, 1, 0, 0]]),
        ("whitened-row-by-row", "mean-over-pads", "mean-not-subtracted"), groups=CORE),
    Case("keep-a-negative-mean", "without the shift a negative mean stays negative", batch(
        [[-3.0, -1.0, -2.0, -6.0]], shift_mean=False), ("shift-mean-ignored",),
        groups=("core", "sample", "inverted", "torchtune"),
        given="a negative mean, shift_mean off"),
)

FAMILY = Family(
    function="whiten",
    says="Scale to deviation 1 over the mask, and shift to mean 0.",
    equation=("y = (x − μ)/√(σ² + 1e-8)", "μ = (1/n) Σ_mask x", "σ² = (1/n) Σ_mask (x − μ)²",
              "with shift_mean False: y + μ"),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593, and its code",
              "where": "lm_human_preferences/utils/core.py, whiten"},),
    arguments=(
        Argument("x", "(B, R)", "advantages, or rewards"),
        Argument("mask", "(B, R)", "True where the slot counts", "bool"),
        Argument("shift_mean", "()", "whether the mean goes", "bool"),
        Argument("minibatches", "(M)", "rows of each minibatch, in order: for systems that whiten "
                 "these one by one", "int", optional=True, default="[B]")),
    results=(Argument("y", "(B, R)", "whitened"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=whiten, mistakes=MISTAKES)

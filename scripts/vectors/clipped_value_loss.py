"""Vectors of the value model's clipped loss."""

from vectors.family import UNDER_THE_MASK, Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import clip, larger, mpf, smaller, total

NAN, HUGE = float("nan"), 1e30


def token_loss(v, old, g, e, c, worse=larger):
    plain = (v - g) ** 2
    if c["vf.clip"] == "off":
        return plain / 2
    return worse(plain, (clip(v, old - e, old + e) - g) ** 2) / 2


def counted(mask, how):
    """The slots that count: with through-p1 also the first pad."""
    if how == "all-slots":
        return [True] * len(mask)
    end = max([t + 1 for t, real in enumerate(mask) if real], default=0)
    return [real or (how == "through-p1" and t == end) for t, real in enumerate(mask)]


def clipped_value_loss(x, c, term=token_loss):
    losses = [term(v, old, g, x["clip_range"], c)
              for vs, olds, gs, mask in zip(x["values"], x["old_values"], x["returns"], x["mask"],
                                            strict=True)
              for v, old, g, real in zip(vs, olds, gs, counted(mask, c["vf.mask"]), strict=True)
              if real]
    n = len(losses) if x["count"] is None else x["count"]
    return {"loss": mpf(c["vf.coef"]) * total(losses) / n}


def with_term(term):
    return lambda x, c: clipped_value_loss(x, c, term)


def mask_multiplied(x, c):
    losses = [token_loss(v, old, g, x["clip_range"], c) * int(real)
              for rows in zip(x["values"], x["old_values"], x["returns"], x["mask"], strict=True)
              for v, old, g, real in zip(*rows, strict=True)]
    return {"loss": total(losses) / sum(map(sum, x["mask"]))}


MISTAKES = {
    "half-missing": with_term(lambda *args: 2 * token_loss(*args)),
    "min-for-max": with_term(lambda *args: token_loss(*args, worse=smaller)),
    "clipped-error-only": with_term(lambda v, old, g, e, c: (clip(v, old - e, old + e) - g) ** 2
                                    / 2),
    "clipped-around-the-return": with_term(lambda v, old, g, e, c: larger(
        (v - g) ** 2, (clip(v, g - e, g + e) - g) ** 2) / 2),
    "clip-adds-to-the-value": with_term(lambda v, old, g, e, c: larger(
        (v - g) ** 2, (v + clip(v - old, -e, e) - g) ** 2) / 2),
    "error-not-squared": with_term(lambda v, old, g, e, c: larger(v - g, g - v) / 2),
    "value-clip-missing": lambda x, c: clipped_value_loss(x, c | {"vf.clip": "off"}),
    "mask-multiplied": mask_multiplied,
    "masked-after-the-arithmetic": (clipped_value_loss, UNDER_THE_MASK),
    "pads-in-the-mean": lambda x, c: clipped_value_loss(
        x | {"count": sum(map(len, x["mask"]))}, c),
    "sum-instead-of-mean": lambda x, c: clipped_value_loss(x | {"count": 1}, c),
    "count-ignored": lambda x, c: clipped_value_loss(x | {"count": None}, c),
}

AXES = (
    Axis("vf.clip", "whether a value that has moved far enough stops", {
        "on": "the larger of the plain and the clipped squared error", "off": "the plain one"}),
    Axis("vf.coef", "the factor before it, since some systems train critic and policy together", {
        1.0: "1, the critic has its own optimizer or its full weight", 0.5: "0.5", 0.1: "0.1"}),
    Axis("vf.mask", "which slots count", {
        "real": "the real tokens", "through-p1": "the real tokens and the first pad",
        "all-slots": "all, pads included (rows of fixed length)"}),
)
BASE = {"vf.clip": "on", "vf.coef": 1.0, "vf.mask": "real"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "openrlhf", "verl-2026-01", "verl-2026-08",
                             "deepspeed-chat", "trlx"), core=True),
    star(BASE, "unclipped", "values are not clipped", vf__clip="off"),
    star(BASE, "half", "the loss has half weight", ("cleanrl",), vf__coef=0.5),
    star(BASE, "tenth", "the loss has a tenth of the weight", vf__coef=0.1),
    star(BASE, "through-p1", "the first pad counts", vf__mask="through-p1"),
    star(BASE, "all-slots", "pads count", vf__mask="all-slots"),
    star(BASE, "lm-human-preferences", "pads count, at a tenth of the weight",
         ("lm-human-preferences", "lm-human-preference-details"), listed=True,
         vf__coef=0.1, vf__mask="all-slots"),
    star(BASE, "trl-ppo", "the first pad counts, at a tenth of the weight",
         ("trl-ppo", "summarize-from-feedback-details", "torchtune"), vf__coef=0.1,
         vf__mask="through-p1"),
)


def batch(values, old, returns, mask=None, clip_range=0.2, **more):
    mask = mask or [[1] * len(row) for row in values]
    return {"values": values, "old_values": old, "returns": returns,
            "mask": [[bool(m) for m in row] for row in mask], "clip_range": clip_range} | more


CORE = ("core",)
V, OLD, G = (numbers(f"value {name}", 2, 4) for name in ("new", "old", "return"))
CASES = (
    Case("worked", "half the squared error where nothing is clipped", batch(
        [[1.0, 2.0]], [[1.1, 1.9]], [[0.5, 3.0]]),
        ("half-missing", "error-not-squared", "sum-instead-of-mean"),
        given="two tokens"),
    Case("moved-towards", "a value that moved far towards its return stops", batch(
        [[1.0]], [[0.0]], [[1.5]]),
        ("value-clip-missing", "min-for-max", "half-missing", "clipped-around-the-return"),
        laws={"unclipped": "a value that moved far towards its return goes on"},
        given="a value far towards its return"),
    Case("moved-away", "a value that moved far away from its return is pulled back", batch(
        [[-1.0]], [[0.0]], [[1.5]]), ("clipped-error-only", "min-for-max"), groups=CORE),
    Case("moved-past", "a value that moved past its return is pulled back if it is farther away",
         batch([[3.0]], [[0.0]], [[1.0]]), ("clipped-error-only", "min-for-max"), groups=CORE),
    Case("return-in-range", "a return within the range pulls back what overshot it", batch(
        [[0.9]], [[0.0]], [[0.1]]), ("clipped-error-only", "min-for-max"), groups=CORE),
    Case("first-step", "before the first step the clip does nothing", batch(
        [[0.5, -0.75]], [[0.5, -0.75]], [[1.0, 1.0]]), ("half-missing", "error-not-squared"),
        groups=CORE),
    Case("arbitrary", "the larger of two errors counts, token by token", batch(V, OLD, G),
         ("min-for-max", "clipped-error-only", "value-clip-missing", "clip-adds-to-the-value"),
         given="eight tokens"),
    Case("wide-range", "a wide range clips nothing", batch(V, OLD, G, clip_range=50.0),
         ("half-missing",), groups=CORE),
    Case("half-range", "a range of one half, as some systems have it", batch(
        V, OLD, G, clip_range=0.5), ("value-clip-missing", "min-for-max"), groups=CORE),
    Case("first-pad", "the value at the first pad does not count", batch(
        [[1.0, 2.0, 4.0, 9.0]], [[1.0, 2.0, 3.0, 9.0]], [[0.0, 1.0, 1.0, 1.0]], [[1, 1, 0, 0]]),
        ("pads-in-the-mean",),
        laws={"through-p1": "the value at the first pad is trained like a token's"},
        also=("lm-human-preferences",),
        given="a value at the first pad"),
    Case("unequal-lengths", "each token weighs the same, whatever the length of its reply", batch(
        V, OLD, G, [[1, 1, 1, 1], [1, 0, 0, 0]]), ("pads-in-the-mean", "sum-instead-of-mean"),
        also=("lm-human-preferences",),
        given="replies of four tokens and of one"),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [[1.0, NAN, HUGE]], [[0.5, HUGE, NAN]], [[2.0, NAN, NAN]], [[1, 0, 0]]),
        ("mask-multiplied", "masked-after-the-arithmetic"),
        groups=("core", "tenth", "unclipped"),
        given="nan and huge numbers under the mask"),
    Case("on-the-range", "on the edge of the range both errors are one", batch(
        [[0.5]], [[0.25]], [[2.0]], clip_range=0.25), ("half-missing",), groups=CORE,
        gradients=False),
    Case("count", "divided by the tokens of the whole step, not by those at hand", batch(
        V, OLD, G, [[1, 1, 0, 0], [1, 0, 0, 0]], count=30), ("count-ignored",), groups=CORE),
    Case("large-error", "the cost of a large error grows with its square", batch(
        [[1000.0, 0.0]], [[1000.0, 0.0]], [[0.0, 0.0]]), ("error-not-squared", "half-missing"),
        groups=CORE),
)

FAMILY = Family(
    function="clipped_value_loss",
    says="The value model's squared error, which also stops a step from going far.",
    equation=("L = ½·(1/n) Σ_mask max((V − G)², (clip(V, V_old − ε, V_old + ε) − G)²)",),
    sources=({"paper": "Schulman et al. 2017, arXiv 1707.06347", "where": "eq. 9, the error"},
             {"paper": "OpenAI's lm-human-preferences", "where": "train_policy.py, the clip"}),
    arguments=(
        Argument("values", "(B, R)", "of the value model in training", differentiated=True),
        Argument("old_values", "(B, R)", "at the time of the rollout"),
        Argument("returns", "(B, R)", "what values are trained towards"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("clip_range", "()", "how far a value may go, in units of the return"),
        Argument("count", "()", "n, the tokens of the whole optimizer step; by default those "
                 "given", "int", optional=True,
                 default="how many slots vf.mask counts: sum(mask) if these are the real ones")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=clipped_value_loss, mistakes=MISTAKES)

"""Vectors of clipping gradients by their global norm."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import leaves, like, mpf, smaller, sqrt, total


def norm_of(tree):
    return sqrt(total(g * g for g in leaves(tree)))


def shrink(norm, limit, c):
    return smaller(mpf(1), limit / (norm + (mpf("1e-6") if c["clip.eps"] == "1e-6" else 0))) \
        if norm or c["clip.eps"] == "1e-6" else mpf(1)


def clip_by_global_norm(x, c, factor=shrink):
    grads, limit, norm = x["grads"], x["max_norm"], norm_of(x["grads"])
    if c["clip.scope"] == "off":
        return {"grads": grads, "norm": norm}
    if c["clip.scope"] == "array":
        return {"norm": norm, "grads": {name: like(g, [
            v * factor(norm_of(g), limit, c) for v in leaves(g)]) for name, g in grads.items()}}
    return {"grads": like(grads, [v * factor(norm, limit, c) for v in leaves(grads)]),
            "norm": norm}


def by_value(x, c):
    limit = x["max_norm"]
    return {"grads": like(x["grads"], [smaller(-smaller(-g, limit), limit)
                                       for g in leaves(x["grads"])]),
            "norm": norm_of(x["grads"])}


def norm_after(x, c):
    made = clip_by_global_norm(x, c)
    return made | {"norm": norm_of(made["grads"])}


MISTAKES = {
    "always-scaled": lambda x, c: clip_by_global_norm(x, c, lambda n, limit, c: limit / (
        n + mpf("1e-6"))),
    "norm-squared": lambda x, c: clip_by_global_norm(x, c, lambda n, limit, c: shrink(
        n * n, limit, c)),
    "clipped-by-value": by_value,
    "norm-after-clipping": norm_after,
    "norm-of-the-mean-square": lambda x, c: clip_by_global_norm(x, c, lambda n, limit, c: shrink(
        n / sqrt(mpf(len(leaves(x["grads"])))), limit, c)),
    "clipping-missing": lambda x, c: clip_by_global_norm(x, c | {"clip.scope": "off"}),
}
AXES = (
    Axis("clip.scope", "whose norm it is", {
        "global": "that of all gradients together", "array": "that of each array by itself",
        "off": "nobody's: gradients are not clipped"}),
    Axis("clip.eps", "what is added to the norm before it divides", {
        "1e-6": "1e-6", "none": "nothing"}),
)
BASE = {"clip.scope": "global", "clip.eps": "1e-6"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "openrlhf", "verl-2026-01", "verl-2026-08", "trl-grpo",
                             "trl-grpo-dapo", "dr-grpo", "rloo-trl", "rloo-openrlhf",
                             "deepspeed-chat", "cleanrl"),
          core=True),
    star(BASE, "array", "each array has a norm of its own", clip__scope="array"),
    star(BASE, "off", "nothing is clipped",
         ("trl-ppo", "trlx", "lm-human-preferences", "lm-human-preference-details",
          "summarize-from-feedback-details", "torchtune"), clip__scope="off"),
    star(BASE, "no-eps", "nothing is added to the norm", clip__eps="none"),
)


def step(max_norm=1.0, **grads):
    return {"grads": grads, "max_norm": max_norm}


CASES = (
    Case("worked", "a gradient of 3 and 4 has norm 5, and is cut to a fifth", step(a=[3.0, 4.0]),
         ("norm-squared", "clipped-by-value", "norm-after-clipping", "clipping-missing",
          "norm-of-the-mean-square"),
         given="a gradient of 3 and 4"),
    Case("below", "a norm below the limit changes nothing", step(a=[0.3, -0.4], b=[0.1]),
         ("always-scaled",),
         given="a norm below the limit"),
    Case("two-arrays", "all arrays share one norm and one factor", step(
        a=[3.0, 0.0], b=[[0.0, 4.0], [0.0, 12.0]]),
        ("norm-squared", "clipped-by-value", "clipping-missing"),
        given="two arrays"),
    Case("one-small", "a small array is cut because of a large one", step(
        a=[0.01, -0.02], b=[[30.0]]), ("clipping-missing", "clipped-by-value"),
        given="a small array beside a large one"),
    Case("zero", "gradients of zero stay zero", step(a=[0.0, 0.0], b=[[0.0]]), (),
         groups=("core", "no-eps"),
         given="gradients of zero"),
    Case("half", "a limit of one half leaves a norm of one half", step(0.5, **{
        "a": numbers("clip a", 4), "b": numbers("clip b", 2, 3)}),
        ("norm-squared", "norm-after-clipping", "clipped-by-value"),
        given="a limit of one half"),
    Case("large", "a norm in the millions is cut to one", step(a=[3e6, -4e6]),
         ("norm-squared", "clipping-missing"), groups=("core", "array", "off"),
         given="a norm in the millions"),
)
FAMILY = Family(
    function="clip_by_global_norm",
    says="All gradients scaled by one factor, so that their norm is at most a limit.",
    equation=("n = √Σ g², over every entry of every array", "g ← g·min(1, max_norm/(n + 1e-6))"),
    sources=({"paper": "Pascanu et al. 2013, arXiv 1211.5063", "where": "algorithm 1"},
             {"paper": "pytorch/pytorch", "where": "torch.nn.utils.clip_grad_norm_, the 1e-6"}),
    arguments=(Argument("grads", "tree", "gradients by the name of their parameter"),
               Argument("max_norm", "()", "the limit")),
    results=(Argument("grads", "tree", "scaled"), Argument("norm", "()", "before clipping")),
    axes=AXES, groups=GROUPS, cases=CASES, formula=clip_by_global_norm, mistakes=MISTAKES)

"""Vectors of AdamW over several steps from fresh moments."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import mpf, sqrt


def update(m, v, t, x, c):
    """The step's length for one parameter, from its moments at step t (from 1)."""
    c1, c2 = 1 - x["beta1"] ** t, 1 - x["beta2"] ** t
    if c["adam.correction"] == "off":
        c1 = c2 = mpf(1)
    if c["adam.eps"] == "tf":
        return x["lr"] * sqrt(c2) / c1 * m / (sqrt(v) + x["eps"])
    return x["lr"] / c1 * m / (sqrt(v / c2) + x["eps"])


def adamw_step(x, c, step=update, count=lambda t: t, forget=False, square=lambda g: g * g,
               decay=None):
    params, out = list(x["params"]), []
    m, v = [mpf(0)] * len(params), [mpf(0)] * len(params)
    rate = x["lr"] * x["weight_decay"] if decay is None else decay
    for t, grads in enumerate(x["grads"], 1):
        for i, g in enumerate(grads):
            if c["adam.decay"] == "coupled":
                g = g + x["weight_decay"] * params[i]
            m[i] = (0 if forget else x["beta1"] * m[i]) + (1 - x["beta1"]) * g
            v[i] = (0 if forget else x["beta2"] * v[i]) + (1 - x["beta2"]) * square(g)
            shrunk = params[i] * (1 - rate) if c["adam.decay"] == "decoupled" else params[i]
            params[i] = shrunk - step(m[i], v[i], count(t), x, c)
        out.append(list(params))
    return {"params": out}


def moments_swapped(x, c):
    return adamw_step(x | {"beta1": x["beta2"], "beta2": x["beta1"]}, c)


MISTAKES = {
    "gradient-ascent": lambda x, c: adamw_step(x, c, lambda *args: -update(*args)),
    "moments-not-kept": lambda x, c: adamw_step(x, c, forget=True),
    "step-count-stays-one": lambda x, c: adamw_step(x, c, count=lambda t: 1),
    "step-count-one-late": lambda x, c: adamw_step(x, c, count=lambda t: t + 1),
    "betas-swapped": moments_swapped,
    "second-moment-not-squared": lambda x, c: adamw_step(x, c, square=abs),
    "root-missing": lambda x, c: adamw_step(x, c, lambda m, v, t, x, c: x["lr"] * m / (
        1 - x["beta1"] ** t) / (v / (1 - x["beta2"] ** t) + x["eps"])),
    "epsilon-in-the-root": lambda x, c: adamw_step(x, c, lambda m, v, t, x, c: x["lr"] * m / (
        1 - x["beta1"] ** t) / sqrt(v / (1 - x["beta2"] ** t) + x["eps"])),
    "decay-without-the-rate": lambda x, c: adamw_step(x, c, decay=x["weight_decay"]),
    "decay-missing": lambda x, c: adamw_step(x, c, decay=mpf(0)),
    "decay-sign": lambda x, c: adamw_step(x, c, decay=-x["lr"] * x["weight_decay"]),
}
AXES = (
    Axis("adam.eps", "where epsilon stands", {
        "torch": "beside the root of the corrected second moment",
        "tf": "beside the root of the uncorrected one (epsilon hat)"}),
    Axis("adam.decay", "how weights decay", {
        "decoupled": "shrunk by lr·weight_decay, apart from the gradient (AdamW)",
        "coupled": "weight_decay times them is added to the gradient (L2)"}),
    Axis("adam.correction", "whether the moments' start at 0 is corrected", {
        "on": "it is", "off": "it is not: first steps are several times as long"}),
)
BASE = {"adam.eps": "torch", "adam.decay": "decoupled", "adam.correction": "on"}
GROUPS = (
    Group("core", "", BASE, (
        "minirlhf", "trl-ppo", "trl-grpo", "openrlhf", "verl-2026-01", "verl-2026-08", "trlx",
        "summarize-from-feedback-details", "deepspeed-chat", "cleanrl", "trl-grpo-dapo", "dr-grpo",
        "rloo-trl", "rloo-openrlhf"), core=True),
    star(BASE, "tf", "epsilon stands beside the uncorrected root", ("lm-human-preferences",
                                                       "lm-human-preference-details"),
         adam__eps="tf"),
    star(BASE, "coupled", "the decay is part of the gradient", adam__decay="coupled"),
    star(BASE, "uncorrected", "the moments' start at zero is not corrected",
         adam__correction="off"),
)


def run(params, grads, lr=0.01, eps=1e-8, weight_decay=0.0, beta1=0.9, beta2=0.999):
    return {"params": params, "grads": grads, "lr": lr, "beta1": beta1, "beta2": beta2,
            "eps": eps, "weight_decay": weight_decay}


CORE = ("core",)
THREE = [[0.1, -2.0, 0.0], [-0.3, 1.0, 0.5], [0.2, 0.5, -1.5]]
CASES = (
    Case("first-step", "the first step is lr long, whatever the size of the gradient", run(
        [1.0, -1.0, 0.5], [[0.001, -100.0, 3.0]]),
        ("gradient-ascent", "second-moment-not-squared", "root-missing", "step-count-one-late"),
        given="gradients of three sizes"),
    Case("three-steps", "moments are kept from step to step", run([1.0, -1.0, 0.5], THREE),
         ("moments-not-kept", "step-count-stays-one", "betas-swapped", "gradient-ascent"),
         given="three steps"),
    Case("ten-steps", "gradients that change sign make short steps", run(
        [0.5, -0.25], numbers("adam ten", 10, 2)),
        ("moments-not-kept", "step-count-stays-one", "betas-swapped",
         "second-moment-not-squared"),
         given="ten steps with gradients that change sign"),
    Case("small-gradient", "a gradient of 1e-6 beside an epsilon of 1e-5 moves by a tenth of lr",
         run([0.0], [[1e-6]], lr=1e-5, eps=1e-5), ("epsilon-in-the-root",),
         tolerance=(1e-9, 1e-20, "the parameter starts at 0: all sixteen digits are the step's"),
         laws={"tf": "beside the uncorrected root the same epsilon makes the step 29 times shorter",
               "uncorrected": "an uncorrected moment of 1e-7 is nothing beside an epsilon of 1e-5"},
         given="a gradient of 1e-6 beside an epsilon of 1e-5"),
    Case("sizes", "an epsilon of 1e-5 shortens the steps of gradients up to about itself", run(
        [0.0] * 5, [[1e-8, 1e-6, 1e-4, 1e-2, 1.0]] * 2, lr=0.001, eps=1e-5),
        ("epsilon-in-the-root", "second-moment-not-squared"),
        tolerance=(1e-9, 1e-18, "the parameters start at 0: all sixteen digits are the steps'"),
        given="gradients from 1e-8 to 1"),
    Case("zero-gradient", "without gradient nothing moves, and nothing divides by zero", run(
        [1.0, 2.0], [[0.0, 0.0], [0.0, 0.0]]), (), groups=CORE),
    Case("decay", "weights shrink by lr times decay, apart from the gradient", run(
        [2.0, -3.0], [[0.5, 0.25], [0.1, -0.2]], lr=0.1, weight_decay=0.1),
        ("decay-without-the-rate", "decay-missing", "decay-sign"),
        given="two steps with decay"),
    Case("decay-alone", "without gradient weights still shrink", run(
        [2.0, -3.0], [[0.0, 0.0]], lr=0.1, weight_decay=0.01),
        ("decay-without-the-rate", "decay-missing", "decay-sign"),
        given="decay without gradient"),
    Case("short-memory", "betas of 0.9 and 0.95, as large models are trained", run(
        [1.0, -1.0, 0.5], THREE, beta2=0.95), ("betas-swapped", "moments-not-kept"),
        groups=CORE),
    Case("vanishing", "a gradient that vanishes leaves the moments to fade", run(
        [0.0], [[1.0], [0.0], [0.0], [0.0]]), ("moments-not-kept", "step-count-stays-one"),
        groups=CORE),
)
FAMILY = Family(
    function="adamw_step",
    says="Parameters after each of several steps of AdamW, from fresh moments.",
    equation=("θ ← θ − lr·λ·θ", "m ← β₁m + (1−β₁)g", "v ← β₂v + (1−β₂)g²",
              "θ ← θ − lr·m̂/(√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)"),
    sources=({"paper": "Loshchilov & Hutter 2019, arXiv 1711.05101", "where": "algorithm 2"},
             {"paper": "Kingma & Ba 2015, arXiv 1412.6980", "where": "algorithm 1"}),
    arguments=(
        Argument("params", "(P)", "before the first step"),
        Argument("grads", "(S, P)", "of each step"),
        Argument("lr", "()", "learning rate, the same at all steps"),
        Argument("beta1", "()", "decay of the first moment"),
        Argument("beta2", "()", "decay of the second moment"),
        Argument("eps", "()", "epsilon"),
        Argument("weight_decay", "()", "λ, the weight decay")),
    results=(Argument("params", "(S, P)", "after each step"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=adamw_step, mistakes=MISTAKES)

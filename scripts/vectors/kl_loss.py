"""Vectors of the KL penalty as a term of the loss, on and off policy."""

from vectors.family import UNDER_THE_MASK, Argument, Axis, Case, Family, Group, numbers, star
from vectors.kl_estimate import estimate
from vectors.witness import exp, mpf, smaller, total

NAN, HUGE = float("nan"), 1e30


def token(new, old, ref, held, c):
    """The weighted estimate of one token."""
    k, still = new - ref, held - ref
    if c["kl.weight"] == "unbiased":
        weight = smaller(exp(held - old), mpf(10)) * still      # gradient min(π/π_old, 10)·k
        return estimate(still, still, c["kl.loss_est"], c["kl.clamp"]) + weight * (new - held)
    y = estimate(k, still, c["kl.loss_est"], c["kl.clamp"])
    return exp(new - old) * y if c["kl.weight"] == "ratio" else y


def kl_loss(x, c, each=token):
    kept = [each(new, old, ref, held, c)
            for rows in zip(x["logprobs"], x["old_logprobs"], x["ref_logprobs"],
                            x["held"]["logprobs"], x["mask"], strict=True)
            for new, old, ref, held, real in zip(*rows, strict=True) if real]
    return {"loss": total(kept) / (len(kept) if x["count"] is None else x["count"])}


def mask_multiplied(x, c):
    everywhere = kl_loss(x | {"mask": [[True] * len(m) for m in x["mask"]], "count": 1}, c)
    return everywhere if everywhere["loss"] != everywhere["loss"] else kl_loss(x, c)


MISTAKES = {
    "kl-direction-swapped": lambda x, c: kl_loss(
        x, c, lambda new, old, ref, held, c: token(-new, -old, -ref, -held, c)),
    "kl-detached": (kl_loss, lambda x, c: kl_loss(x | {"logprobs": x["held"]["logprobs"]}, c)),
    "reference-is-the-old-policy": lambda x, c: kl_loss(x | {"ref_logprobs": x["old_logprobs"]},
                                                        c),
    "mask-multiplied": mask_multiplied,
    "masked-after-the-arithmetic": (kl_loss, UNDER_THE_MASK),
    "sum-instead-of-mean": lambda x, c: kl_loss(x | {"count": 1}, c),
    "pads-in-the-mean": lambda x, c: kl_loss(x | {"count": sum(map(len, x["mask"]))}, c),
    "mask-ignored": lambda x, c: kl_loss(x | {"mask": [[True] * len(m) for m in x["mask"]]}, c),
}

AXES = (
    Axis("kl.loss_est", "the estimator, with k = log π − log π_ref", {
        "k3": "e^−k − 1 + k: as a loss it pulls as KL(π_ref‖π) does",
        "k2": "k²/2: as a loss it pulls as KL(π‖π_ref) does, on policy",
        "k1": "k: as a loss it pulls nowhere, on average"}),
    Axis("kl.weight", "whether tokens of an older policy are weighed", {
        "none": "they are not",
        "ratio": "by π/π_old, which carries gradient as well: on policy the gradient is that of "
                 "KL(π‖π_ref)",
        "unbiased": "the value is the plain estimate, the gradient min(π/π_old, 10)·k"}),
    Axis("kl.clamp", "a guard against overflow", {
        "none": "none", "k3": "k3 alone: k to ±20, then the value to ±10"}),
)
BASE = {"kl.loss_est": "k3", "kl.weight": "none", "kl.clamp": "none"}
GROUPS = (
    Group("k3", "", BASE, ("minirlhf", "trl-grpo", "trl-grpo-dapo", "dr-grpo"),
          core=True),
    Group("k2", "k2 is the loss", BASE | {"kl.loss_est": "k2"}, (), core=True),
    Group("k1", "k1 is the loss", BASE | {"kl.loss_est": "k1"}, (), core=True),
    star(BASE, "clamped", "k3 stops at ten, its log-ratio at twenty",
         ("verl-2026-01", "verl-2026-08"), kl__clamp="k3"),
    star(BASE, "ratio", "k3 is weighed by the ratio", kl__weight="ratio"),
    star(BASE, "unbiased", "k3 has the gradient of k2, weighed by the ratio",
         kl__weight="unbiased"),
    star(BASE, "k1-ratio", "k1 is weighed by the ratio", kl__loss_est="k1", kl__weight="ratio"),
)


def batch(new, old, ref, mask=None, **more):
    mask = mask or [[1] * len(row) for row in new]
    return {"logprobs": new, "old_logprobs": old, "ref_logprobs": ref,
            "mask": [[bool(m) for m in row] for row in mask]} | more


NEW, OLD, REF = (numbers(f"kl loss {name}", 2, 4, low=-3, high=0) for name in ("new", "old", "ref"))
CORE = ("k3",)
CASES = (
    Case("on-policy", "k3 lifts a token below the reference more than it lowers one above", batch(
        [[-1.5, -0.5]], [[-1.5, -0.5]], [[-1.0, -1.0]]),
        ("kl-detached", "reference-is-the-old-policy"),
        laws={"ratio": "on policy the value is k3 and the gradient k, where the ratio has gradient",
              "unbiased": "on policy the value is k3 and the gradient k, by construction"},
         given="on policy"),
    Case("off-policy", "plain k3 takes no notice of the policy that sampled", batch(
        NEW, OLD, REF), ("kl-direction-swapped", "kl-detached", "reference-is-the-old-policy",
                         "sum-instead-of-mean"),
         given="off policy"),
    Case("at-the-reference", "a policy that is the reference pays nothing and feels nothing",
         batch([[-1.0, -2.0]], [[-1.5, -1.0]], [[-1.0, -2.0]]),
         ("reference-is-the-old-policy",),
         given="at the reference"),
    Case("moved-far", "nor of a ratio of 33", batch([[-0.5]], [[-4.0]], [[-2.0]]),
         ("reference-is-the-old-policy", "kl-direction-swapped"),
         laws={"unbiased": "the weight of the gradient stops at a ratio of ten"},
         given="a ratio of 33"),
    Case("far-below", "a token 25 nats below the reference costs in full", batch(
        [[-26.0, -1.0]], [[-25.5, -1.2]], [[-1.0, -1.5]]), ("kl-direction-swapped",),
        given="a token 25 nats below the reference"),
    Case("unequal-lengths", "each token weighs the same", batch(
        NEW, OLD, REF, [[1, 1, 1, 1], [1, 0, 0, 0]]),
        ("mask-ignored", "pads-in-the-mean", "sum-instead-of-mean"),
        given="replies of four tokens and of one"),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [[-1.0, NAN, HUGE]], [[-1.5, HUGE, NAN]], [[-2.0, NAN, NAN]], [[1, 0, 0]]),
        ("mask-multiplied", "masked-after-the-arithmetic"),
        groups=("k3", "ratio"),
        given="nan and huge numbers under the mask"),
    Case("count", "divided by the tokens of the whole step, not by those at hand", batch(
        NEW, OLD, REF, count=20), ("sum-instead-of-mean",), groups=CORE),
)

FAMILY = Family(
    function="kl_loss",
    says="The KL penalty as a term of the loss: a mean of per-token estimates.",
    equation=("k = logprobs − ref_logprobs", "L = (1/n) Σ_mask (e^−k − 1 + k)"),
    sources=({"paper": "Shao et al. 2024, arXiv 2402.03300", "where": "eq. 3 and 4"},),
    arguments=(
        Argument("logprobs", "(B, R)", "under the policy in training", differentiated=True),
        Argument("old_logprobs", "(B, R)", "under the policy that sampled them"),
        Argument("ref_logprobs", "(B, R)", "under the reference"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("count", "()", "n, the tokens of the whole optimizer step; by default those "
                 "given", "int", optional=True, default="sum(mask)"),
        Argument("estimator", "()", "which one", "str", axis="kl.loss_est")),
    results=(Argument("loss", "()", "to be minimised, times β"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=kl_loss, mistakes=MISTAKES)

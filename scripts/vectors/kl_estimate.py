"""Vectors of the KL estimators: values, and the gradients they have as losses."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import clip, exp, larger, log, mpf

TEN = mpf(10)


def k2(k):
    return k * k / 2


def k3(k):
    return exp(-k) - 1 + k


VALUES = {"k1": lambda k: k, "k2": k2, "k3": k3, "abs": lambda k: larger(k, -k),
          "k3-inverted": lambda k: exp(k) - 1 - k}


def estimate(k, held, name, clamp):
    """The estimator of one token; `held` is k without its gradient."""
    if name.endswith("+"):                              # that value, the gradient of k2
        return estimate(held, held, name[:-1], clamp) + k2(k) - k2(held)
    if clamp == "k3" and name == "k3":
        return clip(k3(clip(k, mpf(-20), mpf(20))), -TEN, TEN)
    y = VALUES[name](k)
    return clip(y, -TEN, TEN) if clamp == "value-10" else y


def kl_estimate(x, c, each=estimate):
    return {"kl": [each(new - ref, held - ref, c["kl.est"], c["kl.clamp"])
                   for new, held, ref in zip(x["logprobs"], x["held"]["logprobs"],
                                             x["ref_logprobs"], strict=True)]}


def detached(x, c):
    return kl_estimate(x | {"logprobs": x["held"]["logprobs"]}, c)


MISTAKES = {
    "kl-direction-swapped": lambda x, c: kl_estimate(x, c, lambda k, h, n, m: estimate(
        -k, -h, n, m)),
    "log-base-two": lambda x, c: kl_estimate(x, c, lambda k, h, n, m: estimate(
        k / log(mpf(2)), h / log(mpf(2)), n, m)),
    "half-missing": lambda x, c: kl_estimate(x, c, lambda k, h, n, m: 2 * estimate(k, h, n, m)),
    "kl-detached": (kl_estimate, detached),
}

AXES = (
    Axis("kl.est", "what one sampled token tells about KL(π‖π_ref), with k = log π − log π_ref", {
        "k1": "k itself", "k2": "k²/2", "k3": "e^−k − 1 + k", "abs": "its size |k|",
        "k3-inverted": "e^k − 1 − k: k3 with the ratio the other way round, whose mean is no KL",
        "k1+": "the value of k1 with the gradient of k2 (straight-through)",
        "k3+": "the value of k3 with the gradient of k2 (straight-through)"}),
    Axis("kl.clamp", "a guard against overflow", {
        "none": "none", "value-10": "every estimate is clamped to ±10",
        "k3": "k3 alone: k to ±20, then the value to ±10"}),
)
BASE = {"kl.est": "k1", "kl.clamp": "none"}
GROUPS = (
    Group("k1", "", BASE, ("minirlhf", "trl-ppo", "lm-human-preferences",
                           "lm-human-preference-details", "summarize-from-feedback-details",
                           "deepspeed-chat", "trlx", "rloo-trl", "torchtune"), core=True),
    Group("k2", "half the square of the log-ratio", BASE | {"kl.est": "k2"}, (), core=True),
    Group("k3", "e to the -k, less one, plus k", BASE | {"kl.est": "k3"}, (), core=True),
    star(BASE, "abs", "the size of the log-ratio", kl__est="abs"),
    star(BASE, "k3-inverted", "e to the k, less one, less k", kl__est="k3-inverted"),
    star(BASE, "k1-plus", "the value of k1 with the gradient of k2", kl__est="k1+"),
    star(BASE, "k3-plus", "the value of k3 with the gradient of k2", kl__est="k3+"),
    star(BASE, "k1-clamped", "k1 stops at ten", ("openrlhf", "rloo-openrlhf"),
         kl__clamp="value-10"),
    star(BASE, "k3-clamped", "k3 stops at ten", kl__est="k3", kl__clamp="value-10"),
    star(BASE, "k1-beside-clamped-k3", "only k3 stops at ten", ("verl-2026-01", "verl-2026-08"),
         kl__clamp="k3"),
    star(BASE, "k3-clamped-twice", "k3 stops at ten, its log-ratio at twenty", kl__est="k3",
         kl__clamp="k3"),
)


def batch(new, ref):
    return {"logprobs": new, "ref_logprobs": ref}


EVERY = tuple(group.name for group in GROUPS)
SMOOTH = tuple(name for name in EVERY if name != "abs")
NEITHER_EQUAL = (1e-10, 1e-15, "k3 of a small k loses digits to 1 − 1, but keeps those after 1e-15")
CASES = (
    Case("half", "a token half a nat less likely has a k1 of minus one half", batch([-1.5], [-1.0]),
         ("kl-direction-swapped", "half-missing", "log-base-two", "kl-detached"), groups=EVERY,
         given="half a nat"),
    Case("both-signs", "k1 has the sign of the change", batch(
        [-1.0, -2.5, -0.25, -3.0], [-1.9, -2.0, -0.35, -1.75]),
        ("kl-direction-swapped", "kl-detached"), groups=SMOOTH,
        given="tokens made more and less likely"),
    Case("equal", "where policy and reference agree k1 is zero, with a gradient of one", batch(
        [-1.0, -2.5], [-1.0, -2.5]), ("kl-detached",), groups=("k1", "k2", "k3", "k3-inverted"),
        laws={"k2": "equal log-probabilities have no k2, and no pull",
              "k3": "equal log-probabilities have no k3, and no pull"},
         given="equal log-probabilities"),
    Case("small", "a tenth of a nat counts as a tenth", batch([-1.1, -0.9], [-1.0, -1.0]),
         ("kl-direction-swapped", "half-missing"), groups=("k1", "k2", "k3", "k3-inverted"),
         given="a tenth of a nat"),
    Case("tiny", "a ten-thousandth of a nat keeps its digits", batch([-1.0001, -0.9999], [-1.0,
         -1.0]),
         ("kl-direction-swapped",), groups=("k1", "k2", "k3"), tolerance=NEITHER_EQUAL,
         given="a ten-thousandth of a nat"),
    Case("far-below", "a token 25 nats less likely counts in full", batch([-26.0, -2.0], [-1.0,
         -1.5]),
         ("kl-direction-swapped",), groups=EVERY,
         given="a token 25 nats less likely"),
    Case("far-above", "a token 25 nats more likely counts in full", batch([-1.0, -2.0], [-26.0,
         -1.5]),
         ("kl-direction-swapped",), groups=SMOOTH,
         given="a token 25 nats more likely"),
    Case("overflow", "k3 of a token made less likely by 1000 nats is infinite",
         batch([-1001.0], [-1.0]), groups=("k3",),
         given="a token 1000 nats less likely"),
    Case("arbitrary", "k1 is the log-ratio, token by token", batch(
        numbers("kl new", 8, low=-4, high=0), numbers("kl ref", 8, low=-4, high=0)),
        ("kl-direction-swapped", "log-base-two"), groups=SMOOTH,
        given="eight tokens"),
)

FAMILY = Family(
    function="kl_estimate",
    says="What tokens sampled from π tell about KL(π‖π_ref).",
    equation=("k = logprobs − ref_logprobs", "k1 = k, k2 = k²/2, k3 = e^−k − 1 + k"),
    sources=({"paper": "Schulman 2020, Approximating KL Divergence", "where": "k1, k2, k3"},
             {"paper": "Shao et al. 2024, arXiv 2402.03300", "where": "eq. 4, k3"}),
    arguments=(
        Argument("logprobs", "(N)", "of sampled tokens under the policy", differentiated=True),
        Argument("ref_logprobs", "(N)", "of the same tokens under the reference"),
        Argument("estimator", "()", "which one", "str", axis="kl.est")),
    results=(Argument("kl", "(N)", "an estimate a token"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=kl_estimate, mistakes=MISTAKES)

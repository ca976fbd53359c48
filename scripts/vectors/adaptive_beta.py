"""Vectors of the controller's formula."""

from vectors.family import Argument, Case, Family, Group
from vectors.witness import clip, exp, mpf

LIMIT = mpf("0.2")


def adaptive_beta(x, c, factor=lambda error, x: 1 + clip(error, -LIMIT, LIMIT) * x["n"]
                  / x["horizon"]):
    return {"beta": x["beta"] * factor(x["observed_kl"] / x["target_kl"] - 1, x)}


def with_factor(factor):
    return lambda x, c: adaptive_beta(x, c, factor)


MISTAKES = {
    "controller-clip-missing": with_factor(lambda e, x: 1 + e * x["n"] / x["horizon"]),
    "controller-sign": with_factor(lambda e, x: 1 - clip(e, -LIMIT, LIMIT) * x["n"]
                                   / x["horizon"]),
    "controller-n-missing": with_factor(lambda e, x: 1 + clip(e, -LIMIT, LIMIT) / x["horizon"]),
    "target-over-observed": with_factor(lambda e, x: 1 + clip(
        x["target_kl"] / x["observed_kl"] - 1, -LIMIT, LIMIT) * x["n"] / x["horizon"]),
    "controller-difference": with_factor(lambda e, x: 1 + clip(
        x["observed_kl"] - x["target_kl"], -LIMIT, LIMIT) * x["n"] / x["horizon"]),
    "controller-exponential": with_factor(lambda e, x: exp(
        clip(e, -LIMIT, LIMIT) * x["n"] / x["horizon"])),
    "controller-clips-the-whole": with_factor(lambda e, x: 1 + clip(
        e * x["n"] / x["horizon"], -LIMIT, LIMIT)),
}


def step(observed, target=6.0, beta=0.15, horizon=10000.0, n=512):
    return {"beta": beta, "observed_kl": observed, "target_kl": target, "horizon": horizon, "n": n}


CASES = (
    Case("worked", "a kl of twice the target raises beta by a fifth of n over the horizon",
         step(12.0), ("controller-clip-missing", "controller-sign", "controller-n-missing",
                      "target-over-observed", "controller-exponential",
                      "controller-clips-the-whole")),
    Case("token-mean-fed", "the same kl fed as a mean over 24 tokens lowers beta instead",
         step(0.5), ("controller-clip-missing", "controller-sign", "target-over-observed")),
    Case("at-the-target", "at the target beta stays", step(6.0), ()),
    Case("slightly-above", "a kl 10 % above the target raises beta by 10 % of n over the horizon",
         step(6.6), ("controller-sign", "controller-n-missing", "target-over-observed",
                     "controller-difference")),
    Case("slightly-below", "a kl 10 % below the target lowers beta as much",
         step(5.4), ("controller-sign", "controller-n-missing", "target-over-observed",
                     "controller-difference")),
    Case("far-above", "a kl of a hundred targets raises beta no more than one of 1.2",
         step(600.0), ("controller-clip-missing", "controller-clips-the-whole")),
    Case("negative", "a negative kl, as samples can give, lowers beta by the most",
         step(-3.0), ("controller-clip-missing",)),
    Case("small-target", "a target below one is treated like any other", step(0.11, 0.1),
         ("controller-difference", "target-over-observed")),
    Case("whole-horizon", "a horizon in one update moves beta by at most a fifth",
         step(50.0, n=10000), ("controller-clip-missing", "controller-exponential",
                               "controller-n-missing")),
    Case("zero-beta", "a beta of zero stays zero", step(50.0, beta=0.0), ()),
)

FAMILY = Family(
    function="adaptive_beta",
    says="A controller that keeps the KL near a target.",
    equation=("β' = β·(1 + clip(observed/target − 1, ±0.2)·n/horizon)",),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593", "where": "section 2.2"},),
    arguments=(
        Argument("beta", "()", "the coefficient so far"),
        Argument("observed_kl", "()", "in the unit of the target"),
        Argument("target_kl", "()", "above 0"),
        Argument("horizon", "()", "how many replies an adjustment of 100 % would take"),
        Argument("n", "()", "replies since the last update", "int")),
    results=(Argument("beta", "()", "the coefficient from now on"),),
    axes=(), groups=(Group("core", "", {}, (
        "minirlhf", "lm-human-preferences", "lm-human-preference-details", "trlx", "openrlhf",
        "verl-2026-01", "verl-2026-08"), core=True),),
    cases=CASES, formula=adaptive_beta, mistakes=MISTAKES)

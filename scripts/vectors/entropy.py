"""Vectors of the policy's entropy."""

from vectors.family import UNDER_THE_MASK, Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import exp, log, log_softmax, mean, mpf, total

NAN, HUGE, NEVER = float("nan"), 1e30, float("-inf")


def of_logits(logits):
    """−Σ p log p; an impossible token adds 0."""
    return -total(exp(lp) * lp for lp in log_softmax(logits) if lp > mpf("-inf"))


def entropy(x, c, each=of_logits):
    t = mpf(1) if x["temperature"] is None or c["ent.temp"] == "raw" else x["temperature"]
    t = t + mpf("1e-7") if c["ent.temp"] == "tempered-eps" else t
    values = [each([z / t for z in logits])
              for row, mask in zip(x["logits"], x["mask"], strict=True)
              for logits, real in zip(row, mask, strict=True)
              if real or c["ent.mask"] == "all-slots"]
    n = len(values) if x["count"] is None else x["count"]
    return {"entropy": total(values) / n}


def mask_multiplied(x, c):
    values = [of_logits(logits) * int(real) if logits[0] == logits[0] else mpf("nan")
              for row, mask in zip(x["logits"], x["mask"], strict=True)
              for logits, real in zip(row, mask, strict=True)]
    return {"entropy": total(values) / sum(map(sum, x["mask"]))}


def with_each(each):
    return lambda x, c: entropy(x, c, each)


MISTAKES = {
    "entropy-sign": lambda x, c: {"entropy": -entropy(x, c)["entropy"]},
    "log-base-two": lambda x, c: {"entropy": entropy(x, c)["entropy"] / log(mpf(2))},
    "mean-over-the-vocabulary": with_each(lambda z: of_logits(z) / len(z)),
    "softmax-missing": with_each(lambda z: -total(exp(v) * v for v in z)),
    "zero-times-minus-infinity": lambda x, c: {"entropy": mpf("nan")},
    "temperature-ignored": lambda x, c: entropy(x, c | {"ent.temp": "raw"}),
    "temperature-multiplied": lambda x, c: entropy(x | {"temperature": 1 / x["temperature"]}, c),
    "mask-multiplied": mask_multiplied,
    "masked-after-the-arithmetic": (entropy, UNDER_THE_MASK),
    "mask-ignored": lambda x, c: entropy(x, c | {"ent.mask": "all-slots"}),
    "sum-instead-of-mean": lambda x, c: entropy(x | {"count": 1}, c),
    "count-ignored": lambda x, c: entropy(x | {"count": None}, c),
    "logprob-of-the-likeliest": with_each(lambda z: -max(log_softmax(z))),
    "mean-of-row-means": lambda x, c: {"entropy": mean(
        entropy(x | {"logits": [row], "mask": [mask]}, c)["entropy"]
        for row, mask in zip(x["logits"], x["mask"], strict=True))},
}

AXES = (
    Axis("ent.temp", "the distribution whose entropy it is", {
        "tempered": "the one that is sampled from, softmax(logits/temperature)",
        "tempered-eps": "softmax(logits/(temperature + 1e-7))",
        "raw": "softmax(logits), whatever the temperature"}),
    Axis("ent.mask", "what the mean is taken over", {
        "real": "the real tokens", "all-slots": "all slots, pads included"}),
)
BASE = {"ent.temp": "tempered", "ent.mask": "real"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "verl-2026-01", "verl-2026-08", "trl-grpo",
                             "trl-grpo-dapo", "dr-grpo"), core=True),
    star(BASE, "raw", "the temperature is not used", ("openrlhf", "rloo-openrlhf"),
         ent__temp="raw"),
    star(BASE, "tempered-eps", "1e-7 is added to the temperature", ent__temp="tempered-eps"),
    star(BASE, "all-slots", "pads count", ent__mask="all-slots"),
    star(BASE, "trl-ppo", "1e-7 is added to the temperature, and pads count", ("trl-ppo",),
         listed=True, ent__temp="tempered-eps", ent__mask="all-slots"),
)


def batch(logits, mask=None, **more):
    mask = mask or [[1] * len(row) for row in logits]
    return {"logits": logits, "mask": [[bool(m) for m in row] for row in mask]} | more


CORE = ("core",)
ANY = numbers("entropy any", 2, 3, 4)
CASES = (
    Case("uniform", "equal logits have the entropy log v, whatever they are", batch(
        [[[3.0, 3.0, 3.0, 3.0]]]),
        ("entropy-sign", "log-base-two", "mean-over-the-vocabulary", "softmax-missing"),
        groups=CORE),
    Case("certain", "a token that is all but certain has almost none", batch([[[50.0, 0.0, 0.0]]]),
         ("softmax-missing",), groups=CORE),
    Case("coin", "two tokens of probability one half and an impossible one have log 2", batch(
        [[[0.0, 0.0, NEVER]]]),
        ("zero-times-minus-infinity", "log-base-two"), groups=CORE),
    Case("arbitrary", "six distributions weigh the same", batch(ANY),
         ("entropy-sign", "softmax-missing", "sum-instead-of-mean", "logprob-of-the-likeliest",
          "mean-over-the-vocabulary"), groups=CORE),
    Case("shifted", "a constant added to all logits changes nothing", batch(
        [[[100.3, 98.8, 101.5], [-99.7, -101.2, -98.5]]]), ("softmax-missing",), groups=CORE,
        float32=1e-3),
    Case("large-logits", "logits in the thousands do not overflow", batch(
        [[[1000.0, 999.0], [-1000.0, -1000.5]]]), ("softmax-missing",), groups=CORE,
        float32=0.05),
    Case("half-temperature", "a temperature of one half sharpens", batch(ANY, temperature=0.5),
         ("temperature-ignored", "temperature-multiplied"),
         given="a temperature of one half"),
    Case("high-temperature", "a temperature of 1.5 flattens", batch(ANY, temperature=1.5),
         ("temperature-ignored", "temperature-multiplied"),
         also=("trl-ppo",), given="a temperature of 1.5"),
    Case("two-tokens-cold", "a cold choice of two is nearly made", batch(
        [[[1.0, 0.0]]], temperature=0.25), ("temperature-ignored", "temperature-multiplied"),
        given="a cold choice of two"),
    Case("pads", "the distributions at pads do not count", batch(
        ANY, [[1, 1, 1], [1, 0, 0]]), ("mask-ignored", "sum-instead-of-mean",
                                       "mean-of-row-means"),
         also=("trl-ppo",), given="replies of three tokens and of one"),
    Case("pads-at-half-temperature", "neither pads nor the raw logits count", batch(
        ANY, [[1, 0, 0], [1, 1, 0]], temperature=0.5), ("mask-ignored", "temperature-ignored"),
        also=("trl-ppo",), given="pads at a temperature of one half"),
    Case("junk-in-masked-slots", "nan and huge logits in masked slots change nothing", batch(
        [[[0.5, -0.5], [NAN, NAN]], [[1.0, 2.0], [HUGE, NAN]]], [[1, 0], [1, 0]]),
        ("mask-multiplied", "masked-after-the-arithmetic"),
        groups=CORE),
    Case("count", "divided by the tokens of the whole step, not by those at hand", batch(
        ANY, [[1, 1, 1], [1, 0, 0]], count=16), ("count-ignored",), groups=CORE),
)

FAMILY = Family(
    function="entropy",
    says="The mean entropy of the policy's next-token distributions, in nats.",
    equation=("H = −(1/n) Σ_mask Σ_v p_v·log p_v", "p = softmax(logits/temperature)"),
    sources=({"paper": "Schulman et al. 2017, arXiv 1707.06347", "where": "eq. 9, S"},),
    arguments=(
        Argument("logits", "(B, R, V)", "before the temperature", differentiated=True),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("temperature", "()", "of sampling, by default 1", optional=True,
                 default=1.0),
        Argument("count", "()", "n, the tokens of the whole optimizer step; by default those "
                 "given", "int", optional=True,
                 default="how many slots ent.mask counts: sum(mask) if these are the real ones")),
    results=(Argument("entropy", "()", "from 0 to log V"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=entropy, mistakes=MISTAKES)

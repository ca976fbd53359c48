"""Vectors of the KL over the whole vocabulary."""

from vectors.family import Argument, Case, Family, Group, numbers
from vectors.witness import exp, log, log_softmax, mpf, total

NEVER = float("-inf")


def divergence(p, q):
    """Σ p (log p − log q) of two rows of log-probabilities; an impossible token adds 0."""
    return total(exp(a) * (a - b) for a, b in zip(p, q, strict=True) if a > mpf("-inf"))


def exact_kl(x, c, each=divergence):
    return {"kl": [each(log_softmax(z), log_softmax(ref))
                   for z, ref in zip(x["logits"], x["ref_logits"], strict=True)]}


def with_each(each):
    return lambda x, c: exact_kl(x, c, each)


MISTAKES = {
    "kl-direction-swapped": with_each(lambda p, q: divergence(q, p)),
    "log-base-two": with_each(lambda p, q: divergence(p, q) / log(mpf(2))),
    "mean-over-the-vocabulary": with_each(lambda p, q: divergence(p, q) / len(p)),
    "weights-missing": with_each(lambda p, q: total(
        a - b for a, b in zip(p, q, strict=True))),
    "kl-of-the-wrong-weights": with_each(lambda p, q: total(
        exp(b) * (a - b) for a, b in zip(p, q, strict=True))),
    "zero-times-minus-infinity": with_each(lambda p, q: mpf("nan")),
    "entropy-left-out": with_each(lambda p, q: -total(
        exp(a) * b for a, b in zip(p, q, strict=True))),
}

ANY, REF = numbers("exact new", 3, 5), numbers("exact ref", 3, 5)
CASES = (
    Case("worked", "of (1/2, 1/2) against (3/4, 1/4) it is log 2 less half of log 3", {
        "logits": [[0.0, 0.0]], "ref_logits": [[1.0986122886681098, 0.0]]},
        ("kl-direction-swapped", "log-base-two", "mean-over-the-vocabulary", "weights-missing",
         "entropy-left-out", "kl-of-the-wrong-weights")),
    Case("equal", "equal distributions have none, however their logits are shifted", {
        "logits": [[1.0, -2.0, 0.5]], "ref_logits": [[4.0, 1.0, 3.5]]}, ("entropy-left-out",)),
    Case("arbitrary", "each pair of distributions has its own", {
        "logits": ANY, "ref_logits": REF},
        ("kl-direction-swapped", "weights-missing", "kl-of-the-wrong-weights")),
    Case("impossible", "a token that the policy rules out adds nothing", {
        "logits": [[0.0, 1.0, NEVER]], "ref_logits": [[0.5, 0.0, -1.0]]},
        ("zero-times-minus-infinity",)),
    Case("impossible-for-both", "a token that both rule out adds nothing", {
        "logits": [[0.0, 1.0, NEVER]], "ref_logits": [[0.5, 0.0, NEVER]]},
        ("zero-times-minus-infinity",)),
    Case("impossible-for-the-reference", "a token that only the reference rules out makes it "
         "infinite", {"logits": [[0.0, 1.0, 0.5]], "ref_logits": [[0.5, 0.0, NEVER]]},
         ("kl-of-the-wrong-weights",), gradients=False),
    Case("large-logits", "logits in the thousands do not overflow", {
        "logits": [[1000.0, 999.0, -1000.0]], "ref_logits": [[-999.0, -1000.0, -1000.0]]},
        ("kl-direction-swapped", "entropy-left-out"), float32=0.05),
    Case("near", "logits of two tokens that differ by 0.001 have an eighth of its square", {
        "logits": [[0.001, 0.0]], "ref_logits": [[0.0, 0.0]]},
        ("entropy-left-out", "weights-missing", "mean-over-the-vocabulary")),
    Case("collapsed", "a collapsed policy has the surprise of the reference at its token", {
        "logits": [[60.0, 0.0, 0.0, 0.0]], "ref_logits": [[0.0, 0.0, 0.0, 0.0]]},
        ("kl-direction-swapped", "weights-missing")),
)

FAMILY = Family(
    function="exact_kl",
    says="KL(π‖π_ref) of the next token, summed over the whole vocabulary.",
    equation=("KL = Σ_v π_v·(log π_v − log π_ref,v)", "π = softmax(logits)"),
    sources=({"paper": "Kullback & Leibler 1951", "where": "the definition, discrete"},),
    arguments=(
        Argument("logits", "(N, V)", "of the policy", differentiated=True),
        Argument("ref_logits", "(N, V)", "of the reference")),
    results=(Argument("kl", "(N)", "never negative"),),
    axes=(), groups=(Group("core", "", {}, ("minirlhf",), core=True),), cases=CASES,
    formula=exact_kl, mistakes=MISTAKES)

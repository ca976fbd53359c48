"""Vectors of the rewards that PPO is paid: the KL token by token, and where the score goes."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.kl_estimate import estimate
from vectors.witness import clip, mpf, total

NAN, HUGE = float("nan"), 1e30


# --- the formula ---------------------------------------------------------------------------------

def place(mask, how):
    """The slot that receives the score; None in a row without a token if it is dropped there."""
    n = max([t + 1 for t, real in enumerate(mask) if real], default=0)
    last = len(mask) - 1
    return {"last-real": n - 1 if n else None, "after-last": min(n, last),
            "second-after-last": min(n + 1, last), "row-end": last}[how]


def charged(mask, how):
    """The slots whose KL is charged."""
    n = max([t + 1 for t, real in enumerate(mask) if real], default=0)
    return {"real": mask, "through-p1": [t <= n for t in range(len(mask))],
            "all-slots": [True] * len(mask)}[how]


def one_row(score, new, ref, mask, beta, c, spread=False):
    limit, at = c["score.clip"], place(mask, c["score.place"])
    score = score if limit == "none" else clip(score, mpf(-limit), mpf(limit))
    pays = charged(mask, c["kl.mask"])
    cost = [beta * estimate(a - b, a - b, c["kl.est"], c["kl.clamp"]) if ok else mpf(0)
            for a, b, ok in zip(new, ref, pays, strict=True)]
    if c["kl.place"] == "nowhere":
        cost = [mpf(0)] * len(mask)
    elif c["kl.place"] == "sequence":
        cost = [total(cost) if t == at else mpf(0) for t in range(len(mask))]
    scored = mask if spread else [t == at for t in range(len(mask))]
    used = [real or pay or t == at for t, (real, pay) in enumerate(zip(mask, pays, strict=True))]
    return [(score if s else 0) - k if u else None
            for s, k, u in zip(scored, cost, used, strict=True)]


def penalized_rewards(x, c, **changes):
    return {"rewards": [one_row(*row, x["beta"], c, **changes) for row in zip(
        x["scores"], x["logprobs"], x["ref_logprobs"], x["mask"], strict=True)]}


# --- known mistakes ------------------------------------------------------------------------------

def placed(how):
    return lambda x, c: penalized_rewards(x, c | {"score.place": how})


def swapped(x, c):
    return penalized_rewards(x | {"logprobs": x["ref_logprobs"], "ref_logprobs": x["logprobs"]}, c)


def averaged_over_the_reply(x, c):
    rows = []
    for row in zip(x["scores"], x["logprobs"], x["ref_logprobs"], x["mask"], strict=True):
        rows.append(one_row(*row, x["beta"] / max(1, sum(row[3])), c))
    return {"rewards": rows}


def at_the_first_token(x, c):
    out = penalized_rewards(x | {"scores": [mpf(0)] * len(x["scores"])}, c)["rewards"]
    return {"rewards": [[r + s if t == 0 and r is not None else r for t, r in enumerate(row)]
                        for row, s in zip(out, x["scores"], strict=True)]}


MISTAKES = {
    "kl-direction-swapped": swapped,
    "score-at-every-token": lambda x, c: penalized_rewards(x, c, spread=True),
    "score-at-the-row-end": placed("row-end"),
    "score-at-the-first-token": at_the_first_token,
    "kl-divided-by-the-length": averaged_over_the_reply,
    "kl-of-the-policy-alone": lambda x, c: penalized_rewards(
        x | {"ref_logprobs": [[mpf(0)] * len(row) for row in x["ref_logprobs"]]}, c),
    "mask-multiplied": lambda x, c: {"rewards": [[mpf("nan")] * len(row) for row in x["mask"]]},
    "score-missing": lambda x, c: penalized_rewards(
        x | {"scores": [mpf(0)] * len(x["scores"])}, c),
    "beta-missing": lambda x, c: penalized_rewards(x | {"beta": mpf(1)}, c),
}

# --- conventions and cases -----------------------------------------------------------------------

AXES = (
    Axis("score.place", "the slot that receives the score of a reply with n real tokens in R", {
        "last-real": "n − 1, the last real token; a reply without one has no score",
        "after-last": "n, the first pad; R − 1 in a full row",
        "second-after-last": "n + 1, the second pad; at most R − 1",
        "row-end": "R − 1, whatever stands there"}),
    Axis("kl.mask", "the slots whose KL is charged", {
        "real": "the real tokens", "through-p1": "the real tokens and the first pad",
        "all-slots": "all"}),
    Axis("kl.place", "how the KL is charged", {
        "token": "each token its own", "sequence": "the whole reply's, beside the score",
        "nowhere": "not in the reward (it may be a term of the loss)"}),
    Axis("kl.est", "the estimator, with k = log π − log π_ref", {
        "k1": "k itself", "k2": "k²/2", "k3": "e^−k − 1 + k", "abs": "its size |k|"}),
    Axis("kl.clamp", "a guard against overflow", {
        "none": "none", "value-10": "every estimate is clamped to ±10",
        "k3": "k3 alone: k to ±20, then the value to ±10"}),
    Axis("score.clip", "a bound on the score", {
        "none": "none", 5.0: "to ±5", 10.0: "to ±10"}),
)
BASE = {"score.place": "last-real", "kl.mask": "real", "kl.place": "token", "kl.est": "k1",
        "kl.clamp": "none", "score.clip": "none"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf",), core=True),
    star(BASE, "after-last", "the score is paid at the first pad",
         ("trl-ppo", "summarize-from-feedback-details", "torchtune"), score__place="after-last"),
    star(BASE, "second-after-last", "the score is paid at the second pad",
         score__place="second-after-last"),
    star(BASE, "row-end", "the score is paid at the end of the row", score__place="row-end"),
    star(BASE, "through-p1", "the first pad pays its kl", kl__mask="through-p1"),
    star(BASE, "all-slots", "all slots pay their kl", kl__mask="all-slots"),
    star(BASE, "sequence", "the kl of the whole reply is paid beside the score", ("rloo-trl",),
         kl__place="sequence"),
    star(BASE, "nowhere", "no kl is paid", ("trl-grpo", "trl-grpo-dapo", "dr-grpo"),
         kl__place="nowhere"),
    star(BASE, "k2", "each token pays k2", kl__est="k2"),
    star(BASE, "k3", "each token pays k3", kl__est="k3"),
    star(BASE, "abs", "each token pays the size of its log-ratio", kl__est="abs"),
    star(BASE, "clamped", "the kl of a token stops at ten", kl__clamp="value-10"),
    star(BASE, "verl", "only a k3 would be clamped", ("verl-2026-01", "verl-2026-08"),
         kl__clamp="k3"),
    star(BASE, "k3-clamped", "k3 stops at ten, its log-ratio at twenty", kl__est="k3",
         kl__clamp="k3"),
    star(BASE, "clip-5", "scores stop at 5", score__clip=5.0),
    star(BASE, "clip-10", "scores stop at 10", score__clip=10.0),
    star(BASE, "lm-human-preferences", "all slots pay, and the last is scored",
         ("lm-human-preferences", "lm-human-preference-details"),
         score__place="row-end", kl__mask="all-slots"),
    star(BASE, "deepspeed-chat", "the first pad pays and is scored, up to 5",
         ("deepspeed-chat",), score__place="after-last", kl__mask="through-p1", score__clip=5.0),
    star(BASE, "trlx", "the first pad pays and the second is scored, up to 10", ("trlx",),
         score__place="second-after-last", kl__mask="through-p1", score__clip=10.0),
    star(BASE, "openrlhf", "scores and kl stop at ten", ("openrlhf", "rloo-openrlhf"),
         score__clip=10.0, kl__clamp="value-10"),
)


def batch(scores, new, ref, mask=None, beta=0.1):
    mask = mask or [[1] * len(row) for row in new]
    return {"scores": scores, "logprobs": new, "ref_logprobs": ref,
            "mask": [[bool(m) for m in row] for row in mask], "beta": beta}


ARTICLE = batch([3.0], [[-1.0, -0.5, -2.0]], [[-2.0, -1.5, -4.0]])
THREE = batch([1.0], [[-0.95, -1.02, -0.99, -0.8, -0.7, -1.1, -1.2]], [[-1.0] * 7],
              [[1, 1, 1, 0, 0, 0, 0]])
CORE = ("core",)
CASES = (
    Case("worked", "a score of 3 and a kl of 4 nats at 0.1 sum to 2.6", ARTICLE,
         ("kl-direction-swapped", "score-at-every-token", "score-at-the-first-token",
          "kl-divided-by-the-length", "beta-missing", "score-missing", "kl-of-the-policy-alone"),
         also=("verl",), given="a score of 3 and a kl of 4 nats"),
    Case("three-of-seven", "the last of three real tokens is scored, pads pay nothing", THREE,
         ("score-at-the-row-end", "score-at-every-token", "score-at-the-first-token"),
         also=("verl",), given="three real tokens of seven"),
    Case("two-replies", "each reply has its own last token and its own score", batch(
        [2.0, -1.5], numbers("rewards new", 2, 4, low=-3, high=0),
        numbers("rewards ref", 2, 4, low=-3, high=0), [[1, 1, 0, 0], [1, 1, 1, 0]]),
        ("score-at-the-row-end", "kl-direction-swapped", "kl-divided-by-the-length"), groups=CORE),
    Case("full-row", "in a row without padding the last token is scored", batch(
        [1.0, 2.0], [[-1.0, -1.5], [-0.5, -0.25]], [[-1.25, -1.0], [-0.5, -1.0]]),
        ("score-at-the-first-token", "score-at-every-token"), groups=CORE),
    Case("one-token", "a reply of one token is scored there", batch(
        [-4.0], [[-0.5, -9.0, -9.0]], [[-1.5, -1.0, -1.0]], [[1, 0, 0]]),
        ("score-at-the-row-end", "kl-direction-swapped"),
        given="a reply of one token"),
    Case("empty-row", "a reply without a token has no score, and the other keeps its own", batch(
        [5.0, 1.0], [[-9.0, -9.0], [-1.0, -2.0]], [[-1.0, -1.0], [-1.5, -1.0]],
        [[0, 0], [1, 1]]), ("score-at-the-first-token", "score-at-every-token"), groups=CORE),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [1.0], [[-1.0, -2.0, NAN, HUGE]], [[-1.5, -1.0, HUGE, NAN]], [[1, 1, 0, 0]]),
        ("mask-multiplied",), groups=("core", "after-last", "second-after-last"),
        given="nan and huge numbers under the mask"),
    Case("at-the-reference", "a policy that is the reference is paid its score alone", batch(
        [0.7], [[-1.0, -2.0]], [[-1.0, -2.0]]),
        ("kl-of-the-policy-alone", "score-missing", "score-at-every-token"), groups=CORE),
    Case("beta-zero", "without beta the score is all there is", batch(
        [0.7], [[-1.0, -2.0]], [[-3.0, -1.0]], beta=0.0),
        ("beta-missing", "score-missing"), groups=CORE),
    Case("large-score", "a score of twelve is paid in full", batch(
        [12.0, -7.0], [[-1.0, -2.0], [-1.0, -2.0]], [[-1.5, -1.0], [-1.5, -1.0]]),
        ("score-missing",),
        given="scores of 12 and -7"),
    Case("large-kl", "25 nats at one token are charged in full", batch(
        [1.0], [[-1.0, -26.0]], [[-26.0, -1.0]]), ("kl-direction-swapped", "beta-missing"),
        also=("verl",), given="25 nats up and 25 down"),
    Case("negative-kl", "a token below the reference is rewarded for it", batch(
        [0.0], [[-3.0, -2.5]], [[-1.0, -2.0]]), ("kl-direction-swapped",),
        given="tokens below the reference"),
)

FAMILY = Family(
    function="penalized_rewards",
    says="The score of a reply and the KL penalty of its tokens, as a reward for each token.",
    equation=("r_t = −β·(log π_t − log π_ref,t) + [t is the last real token]·score",),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593", "where": "eq. 2"},),
    arguments=(
        Argument("scores", "(B)", "of whole replies"),
        Argument("logprobs", "(B, R)", "of the tokens under the policy that sampled them"),
        Argument("ref_logprobs", "(B, R)", "under the reference"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("beta", "()", "the price of a nat")),
    results=(Argument("rewards", "(B, R)", "paid for each token"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=penalized_rewards, mistakes=MISTAKES)

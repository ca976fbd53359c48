"""Vectors of PPO's policy loss."""

from vectors.aggregate_loss import aggregate
from vectors.family import UNDER_THE_MASK, Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, clip, exp, larger, mean, mpf, smaller, total

NAN, HUGE = float("nan"), 1e30


# --- the formula ---------------------------------------------------------------------------------

def log_ratios(new: list, old: list, mask: list, level: str) -> list:
    """log π/π_old of each unmasked token of a row, or that of the whole reply at each of them."""
    d = [n - o for n, o in zip(chosen(new, mask), chosen(old, mask), strict=True)]
    if level == "token" or not d:
        return d
    return [total(d) if level == "sequence-sum" else mean(d)] * len(d)


def token_loss(d, advantage, x, c):
    """−min(r·A, clip(r)·A), with its variants."""
    if c["pg.logratio_clamp"] != "none":
        d = clip(d, mpf(-c["pg.logratio_clamp"]), mpf(c["pg.logratio_clamp"]))
    ratio, e = exp(d), x["clip_ratio"]
    high = e if c["pg.clip_high"] == "same" else mpf(c["pg.clip_high"])
    gain = smaller(ratio * advantage, clip(ratio, 1 - e, 1 + high) * advantage)
    if c["pg.dual_clip"] != "none" and advantage < 0:
        gain = larger(gain, mpf(c["pg.dual_clip"]) * advantage)
    return -gain


def clipped_surrogate_loss(x, c, term=token_loss):
    rows, width = [], len(x["mask"][0])
    for new, old, a, m in zip(x["logprobs"], x["old_logprobs"], x["advantages"], x["mask"],
                              strict=True):
        m = [True] * width if c["agg"] == "all-slots-mean" else m
        rows.append([term(d, adv, x, c) for d, adv in zip(
            log_ratios(new, old, m, c["pg.level"]), chosen(a, m), strict=True)])
    return {"loss": aggregate(rows, width, c["agg"], x["count"])}


# --- known mistakes ------------------------------------------------------------------------------

def with_term(term):
    return lambda x, c: clipped_surrogate_loss(x, c, term)


def optimistic(d, a, x, c):
    return -larger(exp(d) * a, clip(exp(d), 1 - x["clip_ratio"], 1 + x["clip_ratio"]) * a)


def clipped_only(d, a, x, c):
    return -clip(exp(d), 1 - x["clip_ratio"], 1 + x["clip_ratio"]) * a


def clipped_in_logs(d, a, x, c):
    """Bounds e^±ε instead of 1 ± ε."""
    return -smaller(exp(d) * a, exp(clip(d, -x["clip_ratio"], x["clip_ratio"])) * a)


def without_exp(d, a, x, c):
    """The first-order 1 + log r for r."""
    return -smaller((1 + d) * a, clip(1 + d, 1 - x["clip_ratio"], 1 + x["clip_ratio"]) * a)


def clipped_product(d, a, x, c):
    """clip(r·A, 1−ε, 1+ε) instead of clip(r, 1−ε, 1+ε)·A."""
    return -smaller(exp(d) * a, clip(exp(d) * a, 1 - x["clip_ratio"], 1 + x["clip_ratio"]))


def mask_multiplied(x, c):
    """mean(loss·mask)/mean(mask): a NaN in a masked slot is a NaN loss."""
    everywhere = [[True] * len(row) for row in x["mask"]]
    losses, count = [], 0
    for new, old, a, m, full in zip(x["logprobs"], x["old_logprobs"], x["advantages"], x["mask"],
                                    everywhere, strict=True):
        losses += [token_loss(d, adv, x, c) * int(real) for d, adv, real in zip(
            log_ratios(new, old, full, "token"), a, m, strict=True)]
        count += sum(m)
    return {"loss": total(losses) / (count if x["count"] is None else x["count"])}


def pads_in_the_mean(x, c):
    """The sum over real tokens divided by all slots."""
    slots = sum(len(row) for row in x["mask"])
    return clipped_surrogate_loss(x | {"count": slots}, c)


def not_detached(x, c):
    """The old log-probs are the new ones, with their gradient: the ratio is constant 1."""
    return clipped_surrogate_loss(x | {"old_logprobs": x["logprobs"]}, c)


MISTAKES = {
    "policy-loss-sign": with_term(lambda d, a, x, c: -token_loss(d, a, x, c)),
    "max-for-min": with_term(optimistic),
    "clip-without-min": with_term(clipped_only),
    "clip-missing": with_term(lambda d, a, x, c: -exp(d) * a),
    "clip-in-log-space": with_term(clipped_in_logs),
    "clip-of-the-product": with_term(clipped_product),
    "ratio-inverted": with_term(lambda d, a, x, c: token_loss(-d, a, x, c)),
    "ratio-without-exp": with_term(without_exp),
    "mask-multiplied": mask_multiplied,
    "masked-after-the-arithmetic": (clipped_surrogate_loss, UNDER_THE_MASK),
    "pads-in-the-mean": pads_in_the_mean,
    "sum-instead-of-mean": lambda x, c: clipped_surrogate_loss(x | {"count": 1}, c),
    "count-ignored": lambda x, c: clipped_surrogate_loss(x | {"count": None}, c),
    "old-logprobs-not-detached": (clipped_surrogate_loss, not_detached),
    "overflow-in-the-slope": (clipped_surrogate_loss, None),
    "overflow-times-zero": lambda x, c: {"loss": mpf("nan")},
}

# --- conventions ---------------------------------------------------------------------------------

AXES = (
    Axis("pg.dual_clip", "a second bound on the loss of tokens with a negative advantage", {
        "none": "none: the loss grows with the ratio",
        3.0: "the loss of a token with A < 0 is at most −3·A, and flat beyond"}),
    Axis("pg.logratio_clamp", "a clamp of log π − log π_old before it is exponentiated", {
        "none": "none", 20.0: "to ±20; no gradient beyond"}),
    Axis("pg.clip_high", "the ε of the upper side", {
        "same": "that of the lower side", 0.28: "0.28 (clip-higher)"}),
    Axis("pg.level", "whose ratio it is", {
        "token": "each token's own",
        "sequence-sum": "the whole reply's: exp of the sum of its log-ratios, at each token",
        "sequence-mean": "exp of the mean of the reply's log-ratios (GSPO), at each token"}),
    Axis("agg", "how token losses become one number", {
        "token-mean": "sum over unmasked tokens / their number",
        "all-slots-mean": "mean over all slots, pads included (rows of fixed length)",
        "seq-mean-token-mean": "mean over rows of each row's mean; empty rows left out",
        "seq-mean-token-mean-all-rows": "mean over rows of each row's mean; that of an empty row "
                                        "is 0",
        "seq-mean-token-sum": "mean over rows of each row's sum; empty rows left out",
        "token-sum-over-rows-and-width": "sum / (rows·R): a constant length, R here",
        "token-sum-over-width": "sum / R, rows not divided by"}),
)
BASE = {"pg.dual_clip": "none", "pg.logratio_clamp": "none", "pg.clip_high": "same",
        "pg.level": "token", "agg": "token-mean"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "trl-ppo", "summarize-from-feedback-details",
                             "deepspeed-chat", "trlx", "trl-grpo-dapo", "torchtune"), core=True),
    star(BASE, "dual-clip", "a bad token costs at most three times its advantage",
         pg__dual_clip=3.0),
    star(BASE, "clamped", "log-ratios stop at 20", ("openrlhf", "rloo-openrlhf"),
         pg__logratio_clamp=20.0),
    star(BASE, "verl", "bad tokens cost at most three times their advantage, log-ratios stop at 20",
         ("verl-2026-01", "verl-2026-08"),
         pg__dual_clip=3.0, pg__logratio_clamp=20.0),
    star(BASE, "clip-higher", "the upper bound is 1.28", pg__clip_high=0.28),
    star(BASE, "sequence-sum", "a token has the ratio of its whole reply",
         pg__level="sequence-sum"),
    star(BASE, "sequence-mean", "a token has the geometric mean ratio of its reply",
         pg__level="sequence-mean"),
    star(BASE, "rloo-trl", "replies have one ratio each, and are averaged", ("rloo-trl",),
         listed=True, pg__level="sequence-sum", agg="seq-mean-token-mean"),
    star(BASE, "all-slots", "pads count in the mean",
         ("lm-human-preferences", "lm-human-preference-details"), agg="all-slots-mean"),
    star(BASE, "seq-mean-token-mean", "replies are averaged, then their means",
         agg="seq-mean-token-mean"),
    star(BASE, "trl-grpo", "replies are averaged, then their means, an empty one's too",
         ("trl-grpo",),
         agg="seq-mean-token-mean-all-rows"),
    star(BASE, "seq-mean-token-sum", "replies are summed, then averaged",
         agg="seq-mean-token-sum"),
    star(BASE, "constant-length", "the sum is divided by rows and width", ("dr-grpo",),
         agg="token-sum-over-rows-and-width"),
    star(BASE, "width", "the sum is divided by the width alone", agg="token-sum-over-width"),
)


# --- cases ---------------------------------------------------------------------------------------

def one(log_ratio, advantage, **more):
    """A single token whose log-probability moved by log_ratio from −1."""
    return batch([[log_ratio - 1]], [[-1.0]], [[advantage]], [[1]], **more)


def batch(new, old, advantages, mask, clip_ratio=0.2, **more):
    return {"logprobs": new, "old_logprobs": old, "advantages": advantages,
            "mask": [[bool(m) for m in row] for row in mask], "clip_ratio": clip_ratio} | more


OLD = [[-1.0, -0.5, -2.0, -1.5], [-0.75, -1.25, -0.25, -3.0]]
NEW = [[-0.8, -0.6, -2.5, -1.4], [-0.9, -0.9, -0.3, -2.9]]
ADV = [[1.0, -0.5, 0.75, 2.0], [-1.5, 0.25, 1.25, -0.75]]
FULL, UNEVEN = [[1, 1, 1, 1]] * 2, [[1, 1, 1, 1], [1, 0, 0, 0]]
CORE = ("core",)
OFF = ("policy-loss-sign", "ratio-inverted", "ratio-without-exp")

CASES = (
    Case("worked", "minus the lesser of plain and clipped ratio times advantage, on average",
         batch(NEW, OLD, ADV, FULL),
         (*OFF, "max-for-min", "clip-without-min", "clip-missing", "sum-instead-of-mean",
          "clip-of-the-product"),
         also=("rloo-trl",), given="eight tokens"),
    Case("on-policy", "at ratio one the loss is minus the mean advantage and still has a gradient",
         batch(OLD, OLD, ADV, FULL), ("policy-loss-sign", "old-logprobs-not-detached"), CORE),
    Case("advantages-sum-to-zero", "a loss of zero at ratio one is not a gradient of zero",
         batch([[-1.0, -2.0]], [[-1.0, -2.0]], [[1.0, -1.0]], [[1, 1]]),
         ("old-logprobs-not-detached",), CORE),
    Case("good-token-above", "a good token beyond the upper bound stops pushing", one(0.5, 1.0),
         ("policy-loss-sign", "max-for-min", "clip-missing"),
         given="a good token at a ratio of 1.65"),
    Case("good-token-below", "a good token below the lower bound is pulled back", one(-0.5, 1.0),
         ("max-for-min", "clip-without-min", "ratio-inverted")),
    Case("bad-token-below", "a bad token below the lower bound stops pushing", one(-0.5, -1.0),
         ("policy-loss-sign", "max-for-min", "clip-missing", "clip-of-the-product",
          "clip-in-log-space")),
    Case("bad-token-above", "a bad token above the upper bound is pulled back", one(0.5, -1.0),
         ("max-for-min", "clip-without-min")),
    Case("between-the-bounds", "within the bounds the ratio itself counts", one(0.1, 2.0), OFF),
    Case("between-0.2-and-0.28", "a good token at a ratio of 1.25 counts as 1.2",
         one(0.22314355131420976, 1.0),
         ("clip-missing",),
         given="a good token at a ratio of 1.25"),
    Case("ratio-five", "a bad token five times as probable costs five times", one(
        1.6094379124341003, -1.0), ("clip-without-min", "ratio-inverted"),
        laws={"dual-clip": "a bad token at a ratio of five costs three and has no gradient"},
        given="a bad token at a ratio of five"),
    Case("ratio-five-good", "a good token five times as probable counts as 1.2", one(
        1.6094379124341003, 1.0), ("clip-missing",),
        given="a good token at a ratio of five"),
    Case("ratio-beyond-e20", "a bad token's ratio of e to the 25 counts in full", one(25.0, -1e-6),
         ("clip-without-min",),
         laws={"clamped": "a bad token's ratio stops at e to the 20, and its gradient with it"},
         given="a bad token at a ratio of e to the 25"),
    Case("ratio-below-e-minus-20", "a good token's ratio of e to the -25 counts in full", one(-25.0,
         1.0),
         ("clip-without-min",),
         given="a good token at a ratio of e to the -25"),
    Case("overflow", "a ratio that overflows with a positive advantage counts as 1.2",
         one(1000.0, 1.0), ("clip-missing", "overflow-in-the-slope"),
         given="an overflowing ratio"),
    Case("overflow-zero-advantage", "a ratio that overflows with advantage zero costs nothing",
         one(1000.0, 0.0), ("overflow-times-zero",)),
    Case("upper-bound", "on the upper bound both branches have one value", batch(
        [[0.0]], [[0.0]], [[1.5]], [[1]], 0.0), ("policy-loss-sign",), gradients=False),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [[-1.0, -0.5, NAN, HUGE], [-2.0, NAN, HUGE, NAN]],
        [[-1.1, -0.4, HUGE, NAN], [-1.9, HUGE, NAN, NAN]],
        [[1.0, -2.0, NAN, HUGE], [0.5, HUGE, NAN, NAN]], [[1, 1, 0, 0], [1, 0, 0, 0]]),
        ("mask-multiplied", "masked-after-the-arithmetic"),
        groups=("core", "seq-mean-token-mean", "verl", "constant-length"),
        given="nan and huge numbers under the mask"),
    Case("pads-with-numbers", "a mean over tokens does not count the pads", batch(
        NEW, OLD, ADV, [[1, 1, 0, 0], [1, 1, 1, 0]]), ("pads-in-the-mean", "sum-instead-of-mean"),
        given="plausible numbers under pads"),
    Case("unequal-lengths", "each token weighs the same, whatever the length of its reply",
         batch(NEW, OLD, ADV, UNEVEN), ("pads-in-the-mean",),
         also=("rloo-trl",), given="replies of four tokens and of one"),
    Case("empty-row", "a reply without a token adds nothing",
         batch(NEW, OLD, ADV, [[1, 1, 1, 0], [0, 0, 0, 0]]), ("pads-in-the-mean",),
         laws={"seq-mean-token-mean": "a reply without a token is no part of the mean over replies",
               "trl-grpo": "a reply without a token has loss 0, and counts as one of two"},
         also=("seq-mean-token-mean",), given="a reply without a token"),
    Case("count", "divided by the tokens of the whole step, not by those at hand",
         batch(NEW, OLD, ADV, UNEVEN, count=20), ("count-ignored",), CORE),
    Case("count-of-nothing", "a micro-batch without a token adds zero to a step of ten",
         batch(NEW, OLD, ADV, [[0] * 4] * 2, count=10), groups=CORE),
    Case("tight-clip", "a smaller clip range clips more",
         batch(NEW, OLD, ADV, FULL, 0.05), ("clip-missing", "clip-without-min"), CORE),
    Case("no-clip", "a clip range beyond every ratio clips nothing",
         batch(NEW, OLD, ADV, FULL, 0.9), ("ratio-inverted",), CORE),
    Case("gap", "a masked slot inside a reply is left out", batch(
        NEW, OLD, ADV, [[1, 0, 1, 1], [0, 1, 1, 0]]), ("pads-in-the-mean",), CORE),
    Case("same-advantage", "an advantage of a whole reply counts at each of its tokens", batch(
        NEW, OLD, [[0.7] * 4, [-0.7] * 4], [[1, 1, 1, 1], [1, 1, 0, 0]]),
        ("policy-loss-sign", "pads-in-the-mean"),
        also=("rloo-trl",), given="one advantage a reply"),
    Case("worked-losses", "losses 1, 2, 3, 4 in one reply and 10 in another have mean 4", batch(
        [[-1.0] * 4, [-1.0] * 4], [[-1.0] * 4, [-1.0] * 4],
        [[-1.0, -2.0, -3.0, -4.0], [-10.0, 0.0, 0.0, 0.0]], UNEVEN),
        ("sum-instead-of-mean", "pads-in-the-mean"),
        given="losses 1, 2, 3, 4 and 10 in two replies"),
    Case("many-tokens", "the fourteen tokens of three replies have one mean", batch(
        numbers("pg new", 3, 6, low=-3, high=0), numbers("pg old", 3, 6, low=-3, high=0),
        numbers("pg adv", 3, 6), [[1] * 6, [1] * 6, [1, 1, 0, 0, 0, 0]]),
        (*OFF[:2], "max-for-min", "clip-missing"),
        also=("rloo-trl",), given="three replies of six, six and two tokens"),
)

FAMILY = Family(
    function="clipped_surrogate_loss",
    says="PPO's policy loss: the clipped surrogate objective, negated to be minimised.",
    equation=("r = exp(logprobs − old_logprobs)",
              "L = −(1/n) Σ_mask min(r·A, clip(r, 1−ε, 1+ε)·A)"),
    sources=({"paper": "Schulman et al. 2017, arXiv 1707.06347", "where": "eq. 7"},),
    arguments=(
        Argument("logprobs", "(B, R)", "of the response tokens under the policy in training",
                 differentiated=True),
        Argument("old_logprobs", "(B, R)", "under the policy that sampled them"),
        Argument("advantages", "(B, R)", "constants"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("clip_ratio", "()", "the clip range ε"),
        Argument("count", "()", "n, the tokens of the whole optimizer step; by default those "
                 "given", "int", optional=True,
                 default="sum(mask); only the answer token-mean to agg divides by it")),
    results=(Argument("loss", "()", "to be minimised"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=clipped_surrogate_loss, mistakes=MISTAKES)

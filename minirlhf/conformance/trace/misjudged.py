"""Known mistakes, and other systems' conventions, in ratios and losses.

What is differentiated is written with the package's ops, so that a wrong loss has its own, wrong
gradient.
"""

from collections.abc import Callable

import numpy as np

from minirlhf.autograd import value
from minirlhf.conformance.trace.rules import Mistake
from minirlhf.ops import clip, exp, masked_mean, maximum, minimum, mul, softplus, where
from minirlhf.ops import sum as sum_

# --- one number of many --------------------------------------------------------------------------

def token_mean(x, mask):
    return masked_mean(x, mask)


def mean_of_row_means(x, mask):
    return sum_(mul(where(mask, x, 0), 1 / mask.sum(axis=1, keepdims=True))) / len(mask)


def mean_of_row_sums(x, mask):
    return sum_(where(mask, x, 0)) / len(mask)


def mean_over_pads(x, mask):
    return sum_(where(mask, x, 0)) / mask.size


def total(x, mask):
    return sum_(where(mask, x, 0))


# --- the policy's loss ---------------------------------------------------------------------------

def plain_ratio(e, logprobs):
    return exp(where(e["mask"], logprobs, 0) - where(e["mask"], e["old_logprobs"], 0))


def pessimist(e, r, a):
    return minimum(r * a, clip(r, 1 - e["clip_ratio"], 1 + e["clip_ratio"]) * a)


def policy_loss(gain: Callable = pessimist, mean: Callable = token_mean,
                ratio: Callable = plain_ratio, sign: float = -1.0) -> dict:
    """Another objective of a token, gain(e, r, A), another mean of them, another ratio."""
    return {"policy_loss_of": lambda e, logprobs, advantages: sign * mean(
        gain(e, ratio(e, logprobs), np.where(e["mask"], advantages, 0)), e["mask"])}


def with_ratio(ratio: Callable) -> dict:
    return policy_loss(ratio=ratio) | {"ratios_of": lambda e: ratio(e, e["logprobs"])}


def ratio_to_the_reference(e, logprobs):
    return exp(where(e["mask"], logprobs - e["ref_logprobs"], 0))


def ratio_of_the_row(e, logprobs):
    """One ratio a reply, exp of the mean log-ratio (GSPO's), at each of its tokens."""
    R = e["mask"].shape[1]
    share = e["mask"] / e["mask"].sum(axis=1, keepdims=True)
    log_ratio = where(e["mask"], logprobs - e["old_logprobs"], 0)
    return where(e["mask"], exp(mul(log_ratio, share) @ np.ones((R, R))), 1)


def bare_advantages(e, logprobs, advantages):
    return policy_loss()["policy_loss_of"](e, logprobs, e["advantages"])


# --- the value model's and the reward model's ----------------------------------------------------

def value_loss(worse: Callable | None = None, mean: Callable = token_mean,
               factor: float = 0.5) -> dict:
    """worse(error², clipped error², e)."""
    def loss(e, new):
        old, returns = (np.where(e["mask"], e[name], 0) for name in ("old_values", "returns"))
        new, c = where(e["mask"], new, 0), e["clip_value"]
        error, clipped = new - returns, clip(new, old - c, old + c) - returns
        found = (maximum if worse is None else worse)(error * error, clipped * clipped)
        return factor * mean(found, e["mask"])
    return {"value_loss_of": loss}


def pairs(loss: Callable, divided: float = 1.0) -> dict:
    """loss(gap) of a pair; the mean of them, divided."""
    return {"pair_loss_of": lambda e, chosen, rejected:
            sum_(loss(chosen - rejected)) / (chosen.shape[0] * divided)}


def centred(e, chosen, rejected):
    both = chosen + rejected
    return (sum_(softplus(rejected - chosen)) + 0.01 * sum_(both * both)) / chosen.shape[0]


LOSS = ("policy_loss", "policy_loss_by_logprobs")
RATIO = ("ratios", *LOSS)
VALUE = ("value_loss", "value_loss_by_values")
PAIR = ("loss", "loss_by_chosen_scores", "loss_by_rejected_scores")

MISJUDGED = [
    Mistake("ratio-inverted", RATIO, "π_old/π instead of π/π_old",
            with_ratio(lambda e, x: exp(-where(e["mask"], x - e["old_logprobs"], 0)))),
    Mistake("ratio-without-exp", RATIO, "the log-ratio stands for the ratio",
            with_ratio(lambda e, x: where(e["mask"], x - e["old_logprobs"], 0))),
    Mistake("ratio-linear", RATIO, "1 + the log-ratio stands for the ratio",
            with_ratio(lambda e, x: 1 + where(e["mask"], x - e["old_logprobs"], 0))),
    Mistake("ratio-to-the-reference", RATIO, "the ratio is to the reference, not to the policy "
            "that sampled", with_ratio(ratio_to_the_reference)),
    Mistake("ratio-of-the-row", RATIO, "one ratio a reply (GSPO's convention)",
            with_ratio(ratio_of_the_row)),
    Mistake("ratio-always-one", RATIO,
            "the ratio is 1 (the old log-probs are the new ones, or left out), no clip bites",
            with_ratio(lambda e, x: exp(where(e["mask"], x - value(x), 0)))),
    Mistake("mean-of-row-means", LOSS, "a mean in each reply first, then over replies",
            policy_loss(mean=mean_of_row_means)),
    Mistake("mean-of-row-sums", LOSS, "summed in each reply, then a mean over replies",
            policy_loss(mean=mean_of_row_sums)),
    Mistake("pads-in-the-mean", LOSS, "the sum is divided by all slots, pads included",
            policy_loss(mean=mean_over_pads)),
    Mistake("sum-instead-of-mean", LOSS, "a sum over tokens", policy_loss(mean=total)),
    Mistake("policy-loss-sign", LOSS, "the objective is minimised", policy_loss(sign=1.0)),
    Mistake("max-for-min", LOSS, "the larger of the two terms counts",
            policy_loss(lambda e, r, a: maximum(
                r * a, clip(r, 1 - e["clip_ratio"], 1 + e["clip_ratio"]) * a))),
    Mistake("clip-missing", LOSS, "the ratio is not clipped", policy_loss(lambda e, r, a: r * a)),
    Mistake("clip-without-min", LOSS, "the clipped term alone counts",
            policy_loss(lambda e, r, a: clip(r, 1 - e["clip_ratio"], 1 + e["clip_ratio"]) * a)),
    Mistake("clip-in-log-space", LOSS, "the log-ratio is clipped to ± ε",
            policy_loss(lambda e, r, a: minimum(
                r * a, clip(r, np.exp(-e["clip_ratio"]), np.exp(e["clip_ratio"])) * a))),
    Mistake("advantages-not-whitened", LOSS, "the advantages are those before whitening",
            {"policy_loss_of": bare_advantages}),
    Mistake("half-missing", VALUE, "without the ½", value_loss(factor=1.0)),
    Mistake("value-clip-missing", VALUE, "the value is not clipped",
            value_loss(lambda error, clipped: error)),
    Mistake("min-for-max", VALUE, "the smaller of the two errors counts", value_loss(minimum)),
    Mistake("clipped-error-only", VALUE, "the clipped error alone counts",
            value_loss(lambda error, clipped: clipped)),
    Mistake("mean-of-row-means", VALUE, "a mean in each reply first, then over replies",
            value_loss(mean=mean_of_row_means)),
    Mistake("mean-of-row-sums", VALUE, "summed in each reply, then a mean over replies",
            value_loss(mean=mean_of_row_sums)),
    Mistake("pads-in-the-mean", VALUE, "the sum is divided by all slots, pads included",
            value_loss(mean=mean_over_pads)),
    Mistake("sum-instead-of-mean", VALUE, "a sum over tokens", value_loss(mean=total)),
    Mistake("preference-swapped", ("gaps", *PAIR),
            "rejected − chosen: the worse reply is preferred",
            pairs(softplus) | {"gaps_of": lambda e: e["rejected_scores"] - e["chosen_scores"]}),
    Mistake("margin-of-one", ("pair_losses", *PAIR), "a gap of more than 1 is asked for",
            pairs(lambda gap: softplus(1 - gap))
            | {"pair_losses_of": lambda e: softplus(1 - e["gaps"])}),
    Mistake("probability-for-its-logarithm", ("pair_losses", *PAIR),
            "−σ(gap) stands for −log σ(gap)",
            pairs(lambda gap: -exp(-softplus(-gap)))
            | {"pair_losses_of": lambda e: -exp(-softplus(-e["gaps"]))}),
    Mistake("hinge-for-softplus", ("pair_losses", *PAIR), "max(0, 1 − gap): a hinge",
            pairs(lambda gap: maximum(1 - gap, 0))
            | {"pair_losses_of": lambda e: maximum(1 - e["gaps"], 0)}),
    Mistake("sum-instead-of-mean", PAIR, "a sum over pairs",
            {"pair_loss_of": lambda e, c, r: sum_(softplus(r - c))}),
    Mistake("mean-over-replies", PAIR, "divided by the replies, two a pair",
            pairs(lambda gap: softplus(-gap), 2.0)),
    Mistake("scores-centred", PAIR, "0.01·(chosen + rejected)² is added (TRL's "
            "center_rewards_coefficient)", {"pair_loss_of": centred}),
]

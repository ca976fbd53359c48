"""Vectors of what the controller is fed: the same formula, another unit of the KL."""

from vectors.adaptive_beta import adaptive_beta
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, exp, mean, total

NAN = float("nan")


def observed(x, how):
    """The batch's KL in the system's unit."""
    rows = [[new - ref for new, ref in zip(news, refs, strict=True)]
            for news, refs in zip(x["logprobs"], x["ref_logprobs"], strict=True)]
    if how == "inverted-k3-sum":
        return mean(total(exp(k) - 1 - k for k in row) for row in rows)
    rows = [chosen(row, mask) for row, mask in zip(rows, x["mask"], strict=True)]
    return mean(map(total if how == "sequence-sum" else mean, rows))


def kl_controller(x, c, n=None):
    if c["kl.ctl"] == "fixed":
        return {"beta": x["beta"]}
    return adaptive_beta(x | {"observed_kl": observed(x, c["kl.ctl"]),
                              "n": n or len(x["mask"])}, {})


MISTAKES = {
    "controller-fed-token-mean": lambda x, c: kl_controller(x, {"kl.ctl": "token-mean"}),
    "kl-direction-swapped": lambda x, c: kl_controller(
        x | {"logprobs": x["ref_logprobs"], "ref_logprobs": x["logprobs"]}, c),
    "mask-ignored": lambda x, c: kl_controller(
        x | {"mask": [[True] * len(m) for m in x["mask"]]}, c),
    "controller-n-missing": lambda x, c: kl_controller(x, c, n=1),
    "controller-n-of-tokens": lambda x, c: kl_controller(x, c, n=sum(map(sum, x["mask"]))),
}

AXES = (Axis("kl.ctl", "what the controller is fed", {
    "sequence-sum": "the mean over replies of the sum over tokens of k1",
    "token-mean": "the mean over replies of the mean over tokens of k1",
    "inverted-k3-sum": "the mean over rows of the sum over all slots of e^k − 1 − k",
    "fixed": "nothing: the coefficient is fixed"}),)
BASE = {"kl.ctl": "sequence-sum"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "lm-human-preferences", "lm-human-preference-details"),
          core=True),
    star(BASE, "token-mean", "the controller is fed a mean over tokens",
         ("verl-2026-01", "verl-2026-08", "openrlhf", "rloo-openrlhf"), kl__ctl="token-mean"),
    star(BASE, "inverted-k3", "the controller is fed k3 inverted, pads included", ("trlx",),
         kl__ctl="inverted-k3-sum"),
    star(BASE, "fixed", "the coefficient is fixed",
         ("trl-ppo", "summarize-from-feedback-details", "deepspeed-chat", "trl-grpo",
          "trl-grpo-dapo", "dr-grpo", "rloo-trl", "torchtune"), kl__ctl="fixed"),
)


def step(new, ref, mask=None, target=6.0, beta=0.15, horizon=100.0):
    mask = mask or [[1] * len(row) for row in new]
    return {"beta": beta, "logprobs": new, "ref_logprobs": ref,
            "mask": [[bool(m) for m in row] for row in mask], "target_kl": target,
            "horizon": horizon}


LONG = step([[-1.0] * 24] * 2, [[-1.5] * 24] * 2)
CASES = (
    Case("twelve-nats", "12 nats over 24 tokens are twice a target of 6", LONG,
         ("controller-fed-token-mean", "controller-n-missing"),
         laws={"token-mean": "12 nats over 24 tokens are one half a token, a twelfth of 6"},
         given="12 nats over 24 tokens"),
    Case("near-the-target", "a kl of 6.3 nats is 5 % above a target of 6", step(
        [[-1.0] * 6] * 3, [[-2.0, -2.1, -2.0, -2.1, -2.0, -2.1]] * 3),
        ("controller-fed-token-mean", "controller-n-of-tokens"),
        given="6.3 nats over 6 tokens"),
    Case("pads", "the kl at pads does not count", step(
        [[-1.0, -2.0, -9.0], [-1.0, -9.0, -9.0]], [[-1.5, -2.4, -1.0], [-2.2, -1.0, -1.0]],
        [[1, 1, 0], [1, 0, 0]], target=1.0),
        ("mask-ignored", "controller-fed-token-mean", "kl-direction-swapped"),
        given="pads with a large kl"),
    Case("below", "replies more like the reference than the target allows lower it", step(
        [[-1.0, -1.2]], [[-1.1, -1.25]], target=0.16), ("kl-direction-swapped",),
        given="a kl just below the target"),
    Case("arbitrary", "the sums of four unequal replies are averaged", step(
        numbers("controller new", 4, 5, low=-1, high=0),
        numbers("controller ref", 4, 5, low=-2, high=0),
        [[1] * 5, [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], target=1.4),
        ("controller-fed-token-mean", "controller-n-of-tokens"),
        given="four replies of unequal length"),
)

FAMILY = Family(
    function="kl_controller",
    says="The controller's step from a batch of replies: which KL it is fed.",
    equation=("observed = mean over replies of Σ_t (logprobs − ref_logprobs)",
              "β' = β·(1 + clip(observed/target − 1, ±0.2)·B/horizon)"),
    sources=({"paper": "Ziegler et al. 2019, arXiv 1909.08593", "where": "section 2.2"},),
    arguments=(
        Argument("beta", "()", "the coefficient so far"),
        Argument("logprobs", "(B, R)", "of sampled tokens under the policy"),
        Argument("ref_logprobs", "(B, R)", "under the reference"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("target_kl", "()", "above 0"),
        Argument("horizon", "()", "in replies")),
    results=(Argument("beta", "()", "the coefficient from now on"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=kl_controller, mistakes=MISTAKES)

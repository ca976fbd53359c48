"""Vectors of the supervised loss, given log-probabilities and mask."""

from vectors.aggregate_loss import aggregate_loss
from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, exp, log, mean, mpf, total

NAN, HUGE = float("nan"), 1e30


def sft_loss(x, c):
    """−log p of the unmasked tokens; dft weighs each by its probability, a constant."""
    losses = [[-lp * (exp(held) if c["sft.loss"] == "dft" and real else 1)
               for lp, held, real in zip(row, still, mask, strict=True)]
              for row, still, mask in zip(x["logprobs"], x["held"]["logprobs"], x["mask"],
                                          strict=True)]
    if x["count"] is not None:
        return {"loss": total(loss for row, mask in zip(losses, x["mask"], strict=True)
                              for loss in chosen(row, mask)) / x["count"]}
    micro = {"step-token-mean": "step", "micro-token-mean": "mean"}[c["sft.reduce"]]
    return aggregate_loss(x | {"losses": losses, "length": None},
                          {"agg": "token-mean", "agg.micro": micro})


def rows_of(x):
    return [chosen(row, mask) for row, mask in zip(x["logprobs"], x["mask"], strict=True)]


def mask_shifted(x, c):
    return sft_loss(x | {"mask": [[False, *mask[:-1]] for mask in x["mask"]]}, c)


def mask_multiplied(x, c):
    tokens = [lp * int(real) for row, mask in zip(x["logprobs"], x["mask"], strict=True)
              for lp, real in zip(row, mask, strict=True)]
    return {"loss": -total(tokens) / sum(map(sum, x["mask"]))}


MISTAKES = {
    "loss-sign": lambda x, c: {"loss": -sft_loss(x, c)["loss"]},
    "mask-shifted-by-one": mask_shifted,
    "mask-ignored": lambda x, c: sft_loss(x | {"mask": [[True] * len(m) for m in x["mask"]]}, c),
    "pads-in-the-mean": lambda x, c: sft_loss(
        x | {"count": sum(len(m) for m in x["mask"])}, c),
    "mask-multiplied": mask_multiplied,
    "mean-of-row-means": lambda x, c: {"loss": -mean(mean(row) for row in rows_of(x) if row)},
    "mean-of-row-sums": lambda x, c: {"loss": -mean(total(row) for row in rows_of(x))},
    "mean-of-micro-means": lambda x, c: sft_loss(x, c | {"sft.reduce": "micro-token-mean"}),
    "count-ignored": lambda x, c: sft_loss(x | {"count": None}, c),
    "last-token-left-out": lambda x, c: sft_loss(x | {"mask": [
        [real and any(mask[t + 1:]) for t, real in enumerate(mask)] for mask in x["mask"]]}, c),
    "log-base-two": lambda x, c: {"loss": sft_loss(x, c)["loss"] / log(mpf(2))},
    "probabilities-for-log-probabilities": lambda x, c: {"loss": -mean(
        exp(lp) for row in rows_of(x) for lp in row)},
}

AXES = (
    Axis("sft.reduce", "what one optimizer step averages over", {
        "step-token-mean": "all unmasked tokens of the step",
        "micro-token-mean": "the tokens of each micro-batch, then the micro-batches"}),
    Axis("sft.loss", "the loss of a token", {
        "nll": "−log p", "dft": "−p·log p, with p held constant in the gradient"}),
)
BASE = {"sft.reduce": "step-token-mean", "sft.loss": "nll"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "trl-sft", "openrlhf", "verl-2026-01", "verl-2026-08"),
          core=True),
    star(BASE, "micro", "micro-batches are averaged, then their means",
         ("deepspeed-chat", "trlx", "summarize-from-feedback-details"),
         sft__reduce="micro-token-mean"),
    star(BASE, "dft", "each token is weighed by its probability", sft__loss="dft"),
)


def batch(logprobs, mask, **more):
    return {"logprobs": logprobs, "mask": [[bool(m) for m in row] for row in mask]} | more


FOUR = numbers("sft four", 4, 4, low=-4, high=0)
MASKS = [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]
CASES = (
    Case("worked", "tokens of probability 1/2 and 1/8 cost two log 2 on average", batch(
        [[-0.6931471805599453, -2.0794415416798357]], [[1, 1]]),
        ("loss-sign", "mean-of-row-sums", "log-base-two",
         "probabilities-for-log-probabilities", "last-token-left-out"),
         given="tokens of probability 1/2 and 1/8"),
    Case("prompt-left-out", "the tokens of the prompt are not learnt", batch(
        [[-5.0, -6.0, -1.0, -2.0]], [[0, 0, 1, 1]]),
        ("mask-ignored", "pads-in-the-mean", "mask-shifted-by-one"),
        given="a prompt of two tokens"),
    Case("stop-is-learnt", "the end-of-sequence token counts like any other", batch(
        [[-0.5, -0.25, -4.0, 0.0]], [[1, 1, 1, 0]]),
        ("last-token-left-out", "mask-shifted-by-one", "mask-ignored"),
        given="a row with an end and a pad"),
    Case("unequal-lengths", "a long answer weighs more than a short one", batch(
        [[-1.0, -1.0, -1.0, -1.0], [-6.0, 0.0, 0.0, 0.0]], [[1, 1, 1, 1], [1, 0, 0, 0]]),
        ("mean-of-row-means", "mean-of-row-sums", "pads-in-the-mean"),
        given="answers of four tokens and of one"),
    Case("split-in-two", "two micro-batches add up to the step", batch(
        FOUR, MASKS, micro_batches=[2, 2]), ("mean-of-micro-means", "mean-of-row-means"),
        given="four answers in two micro-batches"),
    Case("split-in-four", "four micro-batches add up to the same step", batch(
        FOUR, MASKS, micro_batches=[1, 1, 1, 1]), ("mean-of-micro-means",),
        given="four micro-batches of one answer"),
    Case("split-unevenly", "micro-batches of three answers and of one add up to it", batch(
        FOUR, MASKS, micro_batches=[3, 1]), ("mean-of-micro-means",),
        given="micro-batches of three answers and of one"),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [[NAN, -1.0, -2.0, HUGE], [HUGE, NAN, -3.0, -1.0]], [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ("mask-multiplied",),
        given="nan and huge numbers under the mask"),
    Case("minus-infinity-masked", "an impossible token under the mask costs nothing", batch(
        [[float("-inf"), -1.0]], [[0, 1]]), ("mask-multiplied",), groups=("core",)),
    Case("certain", "tokens of probability one cost nothing but still have a gradient", batch(
        [[0.0, 0.0]], [[1, 1]]), ("probabilities-for-log-probabilities", "loss-sign"),
        groups=("core",)),
    Case("count", "divided by the tokens of the whole step, not by those at hand", batch(
        [[-1.0, -2.0, -3.0], [-6.0, -4.0, -5.0]], [[1, 1, 0], [1, 0, 0]], count=12),
        ("count-ignored",), groups=("core",)),
    Case("empty-row", "an answer without a token counts for nothing", batch(
        [[-1.0, -2.0], [-9.0, -9.0]], [[1, 1], [0, 0]]),
        ("mask-ignored",), groups=("core",)),
)

FAMILY = Family(
    function="sft_loss",
    says="The mean negative log-likelihood of the demonstrated tokens.",
    equation=("L = −(1/n) Σ_mask log p(token_t | token_<t)",),
    sources=({"paper": "Ouyang et al. 2022, arXiv 2203.02155", "where": "section 3.5, SFT"},),
    arguments=(
        Argument("logprobs", "(B, R)", "of each token given those before it",
                 differentiated=True),
        Argument("mask", "(B, R)", "True where a response token counts", "bool"),
        Argument("count", "()", "n, the tokens of the whole optimizer step; by default those "
                 "given", "int", optional=True,
                 default="sum(mask), or that of each micro-batch where sft.reduce averages these"),
        Argument("micro_batches", "(M)", "rows of each micro-batch, in order; the result is the "
                 "loss of the step", "int", optional=True, default="[B]")),
    results=(Argument("loss", "()", "to be minimised, in nats a token"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=sft_loss, mistakes=MISTAKES)

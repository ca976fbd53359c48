"""Vectors of how token losses become the loss of an optimizer step."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import chosen, mean, mpf, total

NAN, HUGE = float("nan"), 1e30


def aggregate(rows: list[list], width: int, how: str, count=None):
    """One number of the unmasked tokens' losses, row by row."""
    tokens = [loss for row in rows for loss in row]
    if how == "token-mean":
        return total(tokens) / (len(tokens) if count is None else count)
    if how == "seq-mean-token-mean-all-rows":
        return mean(mean(row) if row else mpf(0) for row in rows)
    full = [row for row in rows if row]
    if how == "seq-mean-token-mean":
        return mean(mean(row) for row in full)
    if how == "seq-mean-token-sum":
        return mean(total(row) for row in full)
    return total(tokens) / (width if how == "token-sum-over-width" else width * len(rows))


def aggregate_loss(x, c):
    rows = [chosen(losses, mask) for losses, mask in zip(x["losses"], x["mask"], strict=True)]
    width = len(x["mask"][0]) if x["length"] is None else x["length"]
    if c["agg.micro"] == "step" or x["micro_batches"] is None:
        return {"loss": aggregate(rows, width, c["agg"])}
    parts, start = [], 0
    for size in x["micro_batches"]:
        parts.append(aggregate(rows[start:start + size], width, c["agg"]))
        start += size
    return {"loss": mean(parts)}


def with_losses(x, change):
    return x | {"losses": [[change(loss, real) for loss, real in zip(row, mask, strict=True)]
                           for row, mask in zip(x["losses"], x["mask"], strict=True)]}


def mask_multiplied(x, c):
    tokens = [loss * int(real) for row, mask in zip(x["losses"], x["mask"], strict=True)
              for loss, real in zip(row, mask, strict=True)]
    return {"loss": total(tokens) / sum(map(sum, x["mask"]))}


def pads_in_the_mean(x, c):
    return aggregate_loss(with_losses(x, lambda loss, real: loss if real else mpf(0)) | {
        "mask": [[True] * len(row) for row in x["mask"]]}, c)


def micro_batches_summed(x, c):
    out = aggregate_loss(x, c | {"agg.micro": "mean"})["loss"]
    return {"loss": out * len(x["micro_batches"] or [1])}


MISTAKES = {
    "mask-multiplied": mask_multiplied,
    "pads-in-the-mean": pads_in_the_mean,
    "micro-means-summed": micro_batches_summed,
    "mean-of-micro-means": lambda x, c: aggregate_loss(x, c | {"agg.micro": "mean"}),
    "sum-instead-of-mean": lambda x, c: {"loss": total(
        loss for row, mask in zip(x["losses"], x["mask"], strict=True)
        for loss in chosen(row, mask))},
}

AXES = (
    Axis("agg", "how the token losses of a batch become one number", {
        "token-mean": "sum over unmasked tokens / their number",
        "seq-mean-token-mean": "mean over rows of each row's mean; empty rows left out",
        "seq-mean-token-mean-all-rows": "mean over rows of each row's mean; that of an empty row "
                                        "is 0",
        "seq-mean-token-sum": "mean over rows of each row's sum; empty rows left out",
        "token-sum-over-rows-and-width": "sum / (rows·length), the length a constant",
        "token-sum-over-width": "sum / length, rows not divided by"}),
    Axis("agg.micro", "how micro-batches of one optimizer step are put together", {
        "step": "as if they were one batch: counts are those of the whole step",
        "mean": "each by its own counts, then their mean"}),
)
BASE = {"agg": "token-mean", "agg.micro": "step"}
GROUPS = (
    Group("core", "", BASE, ("minirlhf", "openrlhf", "verl-2026-08", "trl-grpo-dapo",
                             "rloo-openrlhf"),
          core=True),
    star(BASE, "micro-means", "micro-batches are averaged, then their means",
         ("trl-ppo", "trlx", "deepspeed-chat", "summarize-from-feedback-details",
          "verl-2026-01", "torchtune"), agg__micro="mean"),
    star(BASE, "seq-mean-token-mean", "replies are averaged, then their means",
         agg="seq-mean-token-mean"),
    star(BASE, "seq-mean-all-rows", "replies are averaged, then their means, an empty one's too",
         agg="seq-mean-token-mean-all-rows"),
    star(BASE, "trl-grpo", "replies are averaged, an empty one too, then micro-batches",
         ("trl-grpo",),
         agg="seq-mean-token-mean-all-rows", agg__micro="mean"),
    star(BASE, "seq-mean-token-sum", "replies are summed, then averaged",
         agg="seq-mean-token-sum"),
    star(BASE, "constant-length", "the sum is divided by rows and a constant length",
         agg="token-sum-over-rows-and-width"),
    star(BASE, "dr-grpo", "each micro-batch is divided by its rows and a constant length",
         ("dr-grpo",), agg="token-sum-over-rows-and-width", agg__micro="mean"),
    star(BASE, "width", "the sum is divided by the length alone", agg="token-sum-over-width"),
)


def batch(losses, mask, **more):
    return {"losses": losses, "mask": [[bool(m) for m in row] for row in mask]} | more


WORKED = batch([[1.0, 2.0, 3.0, 4.0], [10.0, 0.0, 0.0, 0.0]], [[1, 1, 1, 1], [1, 0, 0, 0]],
               micro_batches=[1, 1])
CORE = ("core",)
CASES = (
    Case("worked", "losses 1, 2, 3, 4 of one reply and 10 of another have mean 4", WORKED,
         ("mean-of-micro-means", "micro-means-summed", "pads-in-the-mean", "sum-instead-of-mean"),
         laws={"micro-means": "micro-batch means of 2.5 and 10 have mean 6.25",
               "seq-mean-token-mean": "reply means of 2.5 and 10 have mean 6.25",
               "seq-mean-token-sum": "reply sums of 10 and 10 have mean 10",
               "constant-length": "a sum of 20 over two rows of four is 2.5",
               "width": "a sum of 20 over a length of four is 5"},
         given="losses 1, 2, 3, 4 and 10 in two replies"),
    Case("one-batch", "without micro-batches the mean is that of all tokens", batch(
        WORKED["losses"], WORKED["mask"]), ("sum-instead-of-mean", "pads-in-the-mean"),
        given="one batch of two replies"),
    Case("equal-lengths", "replies of one length weigh the same either way", batch(
        [[1.0, 5.0], [2.0, -4.0]], [[1, 1], [1, 1]], micro_batches=[1, 1]),
        ("micro-means-summed",), groups=("core", "micro-means", "seq-mean-token-mean"),
        given="two replies of one length"),
    Case("split-in-two", "two micro-batches of two replies add up to the step", batch(
        numbers("agg two", 4, 3), [[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0]],
        micro_batches=[2, 2]), ("mean-of-micro-means", "micro-means-summed"),
        given="four replies in two micro-batches"),
    Case("split-unevenly", "micro-batches of one and three replies add up to the step", batch(
        numbers("agg two", 4, 3), [[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0]],
        micro_batches=[1, 3]), ("mean-of-micro-means", "micro-means-summed"),
        given="micro-batches of one and three replies"),
    Case("split-in-four", "four micro-batches of one reply add up to the step", batch(
        numbers("agg two", 4, 3), [[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0]],
        micro_batches=[1, 1, 1, 1]), ("mean-of-micro-means", "micro-means-summed"),
        given="four micro-batches of one reply"),
    Case("constant", "a length of ten for rows of four", batch(
        WORKED["losses"], WORKED["mask"], length=10),
        groups=("constant-length", "dr-grpo", "width"),
        given="a length of ten for rows of four"),
    Case("empty-row", "a reply without a token adds nothing and counts for nothing", batch(
        [[1.0, 2.0], [8.0, 8.0], [4.0, 8.0]], [[1, 1], [0, 0], [1, 0]]), ("pads-in-the-mean",),
        laws={"seq-mean-all-rows": "a reply without a token has mean 0 and is one of three"},
        given="a reply without a token among three"),
    Case("empty-among-unequal", "an empty reply takes nothing from one of three tokens and one of "
         "one", batch([[1.0, 2.0, 3.0], [8.0, 8.0, 8.0], [4.0, 8.0, 8.0]],
                      [[1, 1, 1], [0, 0, 0], [1, 0, 0]]), ("pads-in-the-mean",),
         given="an empty reply beside one of three tokens and one of one"),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing", batch(
        [[1.0, NAN], [HUGE, 4.0]], [[1, 0], [0, 1]]), ("mask-multiplied",),
        groups=("core", "seq-mean-token-mean", "constant-length"),
        given="nan and huge numbers under the mask"),
)

FAMILY = Family(
    function="aggregate_loss",
    says="From token losses to the loss of an optimizer step, perhaps cut into micro-batches.",
    equation=("L = (1/n) Σ_mask losses, n the unmasked tokens of all micro-batches",),
    sources=({"paper": "Yu et al. 2025 (DAPO), arXiv 2503.14476", "where": "token-level loss"},
             {"paper": "Liu et al. 2025 (Dr. GRPO), arXiv 2503.20783", "where": "constant length"},
             {"paper": "Shao et al. 2024 (GRPO), arXiv 2402.03300", "where": "eq. 3"}),
    arguments=(
        Argument("losses", "(B, R)", "of the response tokens", differentiated=True),
        Argument("mask", "(B, R)", "True where the token counts", "bool"),
        Argument("micro_batches", "(M)", "rows of each micro-batch, in order; by default all "
                 "rows are one", "int", optional=True, default="[B]"),
        Argument("length", "()", "the constant length of those who divide by one; by default R",
                 "int", optional=True, default="R")),
    results=(Argument("loss", "()", "what the optimizer step minimises"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=aggregate_loss, mistakes=MISTAKES)

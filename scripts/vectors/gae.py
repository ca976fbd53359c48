"""Vectors of generalized advantage estimation."""

from vectors.family import Argument, Axis, Case, Family, Group, numbers, star
from vectors.witness import mpf, over

NAN, HUGE = float("nan"), 1e30


def real_steps(mask: list, how: str) -> list[int]:
    """The slots that the recursion visits, in order."""
    if how == "skipped":
        return [t for t, real in enumerate(mask) if real]
    return list(range(len(mask)))


def surprise(r, v, after, gamma, lam):
    """δ_t = r_t + γ·V_{t+1} − V_t"""
    return r + gamma * after - v


def one_row(r, v, mask, gamma, lam, how, delta=surprise, decay=None, last=lambda v: mpf(0)):
    """A_t = δ_t + γλ·A_next over the slots of one row, None where nothing is compared."""
    end = max([t + 1 for t, real in enumerate(mask) if real], default=0)
    readable = {"zeroed": mask, "skipped": mask, "none": [True] * len(mask),
                "through-p1": [t <= end for t in range(len(mask))],
                "through-p2": [t <= end + 1 for t in range(len(mask))]}[how]
    r = [x if ok else mpf(0) for x, ok in zip(r, readable, strict=True)]
    v = [x if ok else mpf(0) for x, ok in zip(v, readable, strict=True)]
    decay = gamma * lam if decay is None else decay
    visited = real_steps(mask, how)
    advantages, later = [mpf(0)] * len(mask), mpf(0)
    after = last([v[t] for t in range(end)]) if end else mpf(0)
    for t in reversed(visited):
        if how == "zeroed" and t >= end:
            continue                                    # padding at the end of a row
        later = delta(r[t], v[t], after, gamma, lam) + decay * later
        advantages[t], after = later, v[t]
    returns = [a + x for a, x in zip(advantages, v, strict=True)]
    return [over(readable, advantages), over(readable, returns)]


def gae(x, c, **changes):
    rows = [one_row(r, v, m, x["gamma"], x["lam"], c["gae.mask"], **changes)
            for r, v, m in zip(x["rewards"], x["values"], x["mask"], strict=True)]
    return {"advantages": [a for a, _ in rows], "returns": [g for _, g in rows]}


# --- known mistakes ------------------------------------------------------------------------------

def masked_afterwards(x, c):
    return gae(x, {"gae.mask": "none"})


def mask_multiplied(x, c):
    """NaN·0 is NaN, and so is what the recursion makes of it."""
    zeroed = {name: [[a * int(real) for a, real in zip(row, mask, strict=True)]
                     for row, mask in zip(x[name], x["mask"], strict=True)]
              for name in ("rewards", "values")}
    return gae(x | zeroed, {"gae.mask": "none"})


def with_delta(delta):
    return lambda x, c: gae(x, c, delta=delta)


def returns_without_value(x, c):
    out = gae(x, c)
    return out | {"returns": out["advantages"]}


def reward_late(x, c):
    return gae(x | {"rewards": [[mpf(0), *row[:-1]] for row in x["rewards"]]}, c)


MISTAKES = {
    "masked-after-the-recursion": masked_afterwards,
    "mask-multiplied": mask_multiplied,
    "bootstrap-from-the-last-value": lambda x, c: gae(x, c, last=lambda v: v[-1]),
    "next-value-forgotten": with_delta(lambda r, v, after, g, lam: r - v),
    "gamma-missing-in-delta": with_delta(lambda r, v, after, g, lam: r + after - v),
    "lambda-in-delta": with_delta(lambda r, v, after, g, lam: r + g * lam * after - v),
    "decay-without-lambda": lambda x, c: gae(x, c, decay=x["gamma"]),
    "decay-without-gamma": lambda x, c: gae(x, c, decay=x["lam"]),
    "value-sign": with_delta(lambda r, v, after, g, lam: r + g * after + v),
    "returns-without-the-value": returns_without_value,
    "reward-one-token-late": reward_late,
}

# --- conventions and cases -----------------------------------------------------------------------

AXES = (Axis("gae.mask", "what the recursion does at a slot whose mask is False", {
    "zeroed": "rewards and values of masked slots are 0 before the recursion starts; a gap inside "
              "a row is a step with no reward that costs one factor γλ",
    "skipped": "masked slots are stepped over: the next real value and advantage are carried to "
               "the token before the gap, undiscounted",
    "through-p1": "the first slot after the last real token still counts (reward and value); "
                  "slots after it are 0",
    "through-p2": "the first two slots after the last real token still count; slots after them "
                  "are 0",
    "none": "no mask: every slot of the row counts"}),)

BASE = {"gae.mask": "zeroed"}
GROUPS = (
    Group("zeroed", "", BASE, ("minirlhf", "openrlhf"), core=True),
    Group("zeroed-gaps", "masked slots are zeroed", BASE, ("openrlhf",)),
    star(BASE, "skipped", "masked slots are stepped over", ("verl-2026-01", "verl-2026-08"),
         gae__mask="skipped"),
    star(BASE, "through-p1", "the first pad counts",
         ("trl-ppo", "summarize-from-feedback-details", "deepspeed-chat", "torchtune"),
         gae__mask="through-p1"),
    star(BASE, "through-p2", "the first two pads count", ("trlx",), gae__mask="through-p2"),
    star(BASE, "none", "every slot counts",
         ("lm-human-preferences", "lm-human-preference-details"), gae__mask="none"),
)


def rows(rewards, values, mask, gamma=1.0, lam=0.95):
    return {"rewards": rewards, "values": values, "mask": [[bool(m) for m in row] for row in mask],
            "gamma": gamma, "lam": lam}


VALUES = [0.1, 0.2, 0.3, 0.4, 0.5]
ONLY, GAPS = ("zeroed",), ("zeroed-gaps", "skipped")
TWO = rows([[0.5, -1.0, 2.0, 0.25], [1.5, 0.75, -0.5, 1.0]],
           [[0.3, 0.6, -0.2, 0.9], [1.1, -0.4, 0.8, 0.7]], [[1, 1, 1, 0], [1, 1, 0, 0]], 0.9, 0.8)

CASES = (
    Case("worked", "one reward at the end is spread backwards over three tokens",
         rows([[0, 0, 1.0]], [[0.3, 0.4, 0.6]], [[1, 1, 1]], 1.0, 0.5),
         ("value-sign", "next-value-forgotten", "decay-without-lambda", "lambda-in-delta",
          "returns-without-the-value", "bootstrap-from-the-last-value")),
    Case("discounted", "gamma and lambda both shorten the memory",
         rows([numbers("gae r", 4)], [numbers("gae v", 4)], [[1, 1, 1, 1]], 0.9, 0.7),
         ("gamma-missing-in-delta", "decay-without-gamma", "decay-without-lambda",
          "lambda-in-delta", "reward-one-token-late")),
    Case("value-after-the-end", "a value after the last token is not read",
         rows([[0, 0, 1.0, 0]], [[0.5, 0.5, 0.5, 100.0]], [[1, 1, 1, 0]]),
         ("masked-after-the-recursion",),
         laws={"through-p1": "the value at the first pad bootstraps the last token",
               "through-p2": "the value at the only pad bootstraps the last token",
               "none": "a value at a pad bootstraps the last token"}),
    Case("reward-after-the-end", "a reward after the last token is not paid",
         rows([[0.5, 0.5, 4.0, -7.0]], [[0.1, 0.2, 0.0, 0.0]], [[1, 1, 0, 0]]),
         ("masked-after-the-recursion",),
         laws={"through-p1": "a reward at the first pad is paid, one after it is not",
               "through-p2": "rewards at the first two pads are paid",
               "none": "rewards at pads are paid"}),
    Case("junk-in-masked-slots", "nan and huge numbers in masked slots change nothing",
         rows([[1.0, 2.0, NAN, HUGE], [0.5, NAN, HUGE, NAN]],
              [[0.5, -0.5, HUGE, NAN], [0.25, HUGE, NAN, HUGE]], [[1, 1, 0, 0], [1, 0, 0, 0]]),
         ("mask-multiplied", "masked-after-the-recursion"), groups=ONLY),
    Case("junk-after-p1", "nan and huge numbers after the first pad change nothing",
         rows([[1.0, 2.0, 3.0, NAN, HUGE]], [[0.5, -0.5, 0.75, NAN, HUGE]], [[1, 1, 0, 0, 0]]),
         groups=("through-p1",),
         given="nan and huge numbers after the first pad"),
    Case("junk-after-p2", "nan and huge numbers after the second pad change nothing",
         rows([[1.0, 2.0, 3.0, -0.5, NAN, HUGE]], [[0.5, -0.5, 0.75, 1.25, NAN, HUGE]],
              [[1, 1, 0, 0, 0, 0]]),
         groups=("through-p2",),
         given="nan and huge numbers after the second pad"),
    Case("many-pads", "numbers at four pads are not read",
         rows([[0.5, -1.0, 2.0, 0.25, -0.75, 1.5]], [[0.3, 0.6, -0.2, 0.9, 1.1, -0.4]],
              [[1, 1, 0, 0, 0, 0]], 0.9, 0.8),
         ("masked-after-the-recursion",),
         groups=("zeroed", "skipped", "through-p1", "through-p2", "none"),
         given="numbers at four pads"),
    Case("lambda-zero", "lambda zero looks one token ahead",
         rows([[1.0, -2.0, 0.5]], [[0.4, 0.8, -0.6]], [[1, 1, 1]], 0.9, 0.0),
         ("decay-without-lambda", "next-value-forgotten", "lambda-in-delta")),
    Case("lambda-one", "with lambda one the returns owe nothing to the values",
         rows([[1.0, -2.0, 0.5]], [[5.0, -3.0, 7.0]], [[1, 1, 1]], 0.9, 1.0),
         ("value-sign", "bootstrap-from-the-last-value", "decay-without-gamma")),
    Case("gamma-zero", "with gamma zero only the token's own reward counts",
         rows([[1.0, -2.0, 0.5]], [[0.4, 0.8, -0.6]], [[1, 1, 1]], 0.0, 0.95),
         ("gamma-missing-in-delta", "decay-without-gamma")),
    Case("unequal-rows", "each row ends at its own last token", TWO,
         ("masked-after-the-recursion", "bootstrap-from-the-last-value", "reward-one-token-late"),
         groups=("zeroed", "skipped", "through-p1", "none"),
         given="replies of three tokens and of two"),
    Case("full-row", "a row cut for its length ends there too, with no bootstrap",
         rows([[0.1, 0.2, 0.3]], [[1.0, 2.0, 3.0]], [[1, 1, 1]]),
         ("bootstrap-from-the-last-value",)),
    Case("one-token", "a reply of one token has its reward minus its value",
         rows([[2.5]], [[1.75]], [[1]]),
         ("bootstrap-from-the-last-value", "value-sign")),
    Case("empty-row", "a row without a token leaves the others alone",
         rows([[9.0, 9.0], [1.0, 2.0]], [[9.0, 9.0], [0.5, 0.25]], [[0, 0], [1, 1]]),
         ("value-sign",), groups=ONLY),
    Case("perfect-values", "a value model that is right leaves no advantage",
         rows([[0.25, -0.5, 1.0]], [[0.75, 0.5, 1.0]], [[1, 1, 1]]),
         ("value-sign", "bootstrap-from-the-last-value")),
    Case("long-row", "the memory of a late reward fades by gamma lambda a token",
         rows([[0.0] * 19 + [1.0]], [[0.0] * 20], [[1] * 20], 0.99, 0.95),
         ("decay-without-lambda", "decay-without-gamma", "reward-one-token-late")),
    Case("score-at-last-token",
         "a score at the last of three real tokens of five reaches the first",
         rows([[-0.005, 0.002, 0.999, 0.0, 0.0]], [VALUES], [[1, 1, 1, 0, 0]]),
         ("masked-after-the-recursion",),
         given="a score at the last token"),
    Case("score-at-p1", "the score stands at the first pad, which has no kl",
         rows([[-0.005, 0.002, -0.001, 1.0, 0.0]], [VALUES], [[1, 1, 1, 0, 0]]),
         groups=("through-p1",),
         given="a score at the first pad"),
    Case("score-at-p1-with-kl", "the score stands at the first pad, and so does a kl",
         rows([[-0.005, 0.002, -0.001, 0.98, 0.0]], [VALUES], [[1, 1, 1, 0, 0]]),
         groups=("through-p1",),
         given="a score and a kl at the first pad"),
    Case("score-at-p2-with-kl", "the score stands at the second pad, and a kl at the first",
         rows([[-0.005, 0.002, -0.001, -0.02, 1.0, 0.0]], [[*VALUES, 0.6]], [[1, 1, 1, 0, 0, 0]]),
         groups=("through-p2",),
         given="a score at the second pad"),
    Case("score-at-row-end", "the score stands at the end of the row, and pads pay kl",
         rows([[-0.005, 0.002, -0.001, -0.02, 0.97]], [VALUES], [[1, 1, 1, 0, 0]]),
         groups=("none",),
         given="a score at the end of the row"),
    Case("gap", "one masked slot inside the reply", rows(
        [[0.0, 0.0, 5.0]], [[1.0, 2.0, 3.0]], [[1, 0, 1]], 0.9, 0.8), groups=GAPS,
        laws={"zeroed-gaps": "a gap is a step without value that costs one gamma lambda",
              "skipped": "a gap costs nothing"}),
    Case("gap-then-padding", "a gap and padding in one row", rows(
        [[0.5, 9.0, 9.0, 1.0, 9.0]], [[0.2, 9.0, 9.0, 0.6, 9.0]], [[1, 0, 0, 1, 0]], 0.9, 0.8),
        groups=GAPS,
        laws={"zeroed-gaps": "a longer gap costs more",
              "skipped": "a longer gap costs no more than a short one"}),
    Case("turns", "three turns of a conversation with tool output between", rows(
        [[0.1, 0.2, 9.0, 0.3, 9.0, 9.0, 0.4, 1.0]], [numbers("gae turns", 8)],
        [[1, 1, 0, 1, 0, 0, 1, 1]], 0.95, 0.9), groups=GAPS,
        laws={"zeroed-gaps": "every tool output between turns discounts what follows it",
              "skipped": "the turns of a conversation follow each other directly"}),
    Case("left-padding", "padding in front", rows(
        [[9.0, 1.0, 2.0]], [[9.0, 0.5, 0.25]], [[0, 1, 1]], 0.9, 0.8), groups=GAPS,
        laws={"zeroed-gaps": "padding in front is no step, since nothing comes before it",
              "skipped": "padding in front is stepped over like any gap"}),
)

FAMILY = Family(
    function="gae",
    says="Advantages by generalized advantage estimation, and the returns the critic learns.",
    equation=("δ_t = r_t + γ·V_{t+1} − V_t", "A_t = δ_t + γλ·A_{t+1}",
              "returns_t = A_t + V_t", "V and A after the end of a row are 0"),
    sources=({"paper": "Schulman et al. 2016, arXiv 1506.02438", "where": "eq. 16"},),
    arguments=(
        Argument("rewards", "(B, R)", "paid for each response token"),
        Argument("values", "(B, R)", "of the state in which each token is chosen"),
        Argument("mask", "(B, R)", "True where the token is real", "bool"),
        Argument("gamma", "()", "discount"),
        Argument("lam", "()", "GAE's lambda")),
    results=(Argument("advantages", "(B, R)", "not whitened"),
             Argument("returns", "(B, R)", "advantages plus values")),
    axes=AXES, groups=GROUPS, cases=CASES, formula=gae, mistakes=MISTAKES)

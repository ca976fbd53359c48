"""Known mistakes, and other systems' conventions, in advantages within groups."""

from collections.abc import Callable

import numpy as np

from minirlhf.conformance.trace.misrewarded import masked
from minirlhf.conformance.trace.rules import Mistake
from minirlhf.gae import whiten
from minirlhf.group_advantage import group_advantages, leave_one_out_advantages


def grouped(e, divided: Callable):
    """divided(centered (G, size)) of each group."""
    groups = e["objectives"].reshape(-1, e["group_size"])
    return divided(groups - groups.mean(axis=1, keepdims=True)).reshape(-1)


def std(x, ddof):
    return (((x * x).sum(axis=1, keepdims=True)) / (x.shape[1] - ddof)) ** 0.5


def strided(e):
    """Rows of one prompt lie a stride apart instead of one after another."""
    size = e["group_size"]
    rows = np.arange(len(e["objectives"])).reshape(size, -1).T.reshape(-1)
    found = np.empty(len(rows))
    found[rows] = group_advantages(e["objectives"][rows], size)
    return found


MISGROUPED = [
    Mistake("whitened-with-n-below", ("group_advantages",),
            "the group's deviation has n below the root, not n − 1",
            {"group_of": lambda e: grouped(e, lambda x: x / (std(x, 0) + 1e-4))}),
    Mistake("deviation-left-out", ("group_advantages",),
            "not divided by the group's deviation (Dr. GRPO's convention)",
            {"group_of": lambda e: grouped(e, lambda x: x)}),
    Mistake("group-epsilon-of-1e-8", ("group_advantages",), "the ε is 1e-8, not 1e-4",
            {"group_of": lambda e: grouped(e, lambda x: x / (std(x, 1) + 1e-8))}),
    Mistake("group-epsilon-of-1e-6", ("group_advantages",), "the ε is 1e-6, not 1e-4",
            {"group_of": lambda e: grouped(e, lambda x: x / (std(x, 1) + 1e-6))}),
    Mistake("divided-by-the-group-variance", ("group_advantages",), "divided by σ², not by σ",
            {"group_of": lambda e: grouped(e, lambda x: x / (std(x, 1) ** 2 + 1e-4))}),
    Mistake("leave-one-out", ("group_advantages",),
            "above the mean of the others, not divided (RLOO's convention)",
            {"group_of": lambda e: leave_one_out_advantages(e["objectives"], e["group_size"])}),
    Mistake("grouped-over-the-batch", ("group_advantages",), "the whole batch is one group",
            {"group_of": lambda e: group_advantages(e["objectives"], len(e["objectives"]))}),
    Mistake("groups-strided", ("group_advantages",),
            "rows of one group are sought a stride apart, not one after another",
            {"group_of": strided}),
    Mistake("whitened-again", ("advantages",),
            "the group's advantages are whitened over the batch once more",
            {"spread_of": lambda e: whiten(masked(e, e["group_advantages"][:, None]), e["mask"])}),
    Mistake("spread-over-the-tokens", ("advantages",),
            "a reply's advantage is shared out among its tokens",
            {"spread_of": lambda e: masked(e, e["group_advantages"][:, None]
                                           / e["mask"].sum(axis=1, keepdims=True))}),
]

"""Before anything is timed: do the contenders compute the same?  If not, there is no figure."""

from collections.abc import Sequence

import numpy as np

from minirlhf.transformer import ModelConfig, logits

TOLERANCE = 1e-3                # of a loss after some steps, relative
TIE = 1e-4                      # logits that lie so near take turns in float32
TIED = "no figure: two tokens tie"


def losses(ours: float, theirs: float) -> str | None:
    """Why two losses after the same steps are not the same; None if they are."""
    if abs(theirs - ours) <= TOLERANCE * abs(ours):
        return None
    return f"not the same: its loss is {theirs:.6g}, ours {ours:.6g}"


def work(ours: dict, theirs: dict) -> str | None:
    """Why two iterations are not the same work; None if they are."""
    if ours == theirs:
        return None
    return f"not the same work: it had {theirs}, ours {ours}"


def replies(params, config: ModelConfig, prompts: Sequence[Sequence[int]],
            ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> str | None:
    """Why greedy replies are not the same; None if they are, `TIED` where a tie is the reason.

    A sum in another order moves a logit by its last bits.  Where two tokens are as likely as that,
    the rows part, and from there on nothing can be compared: then other prompts must be tried.
    """
    if np.shape(ours) != np.shape(theirs):
        return f"not the same: its replies are {np.shape(theirs)}, ours {np.shape(ours)}"
    gaps = []
    for prompt, own, other in zip(prompts, ours, theirs, strict=True):
        if own != other:
            t = int(np.argmax(np.not_equal(own, other)))
            z = logits(params, config, np.array([[*prompt, *own[:t]]]))[0, -1]
            gaps.append(float(abs(z[own[t]] - z[other[t]])))
    if not gaps:
        return None
    if max(gaps) < TIE:
        return TIED
    return (f"not the same: {len(gaps)} of {len(ours)} greedy replies differ, where one token's "
            f"logit leads by {max(gaps):.2g}")

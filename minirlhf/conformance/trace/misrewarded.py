"""Known mistakes, and other systems' conventions, in rewards, advantages and whitening.

Plain arrays: nothing here is differentiated.
"""

from collections.abc import Callable

import numpy as np

from minirlhf.conformance.trace.rules import Mistake
from minirlhf.gae import gae, whiten
from minirlhf.tokens import last_token

# --- KL and rewards ------------------------------------------------------------------------------

def masked(e, x):
    return np.where(e["mask"], x, 0)


def k1(e, old="old_logprobs"):
    return masked(e, e[old] - e["ref_logprobs"])


def at_the_last(e):
    return last_token(e["mask"])


def rewards(kl: Callable = k1, place: Callable = at_the_last) -> dict:
    """Rewards of another KL, or with the score in another place."""
    return {"rewards_of": lambda e: np.where(place(e), e["scores"][:, None], 0)
            - e["beta"] * kl(e)}


def with_kl(kl: Callable) -> dict:
    return rewards(kl) | {
        "kl_of": kl, "objectives_of": lambda e: e["scores"] - e["beta"] * kl(e).sum(axis=1)}


def column(e, number):
    """(B, R), True in one column of each row."""
    return np.arange(e["mask"].shape[1]) == np.reshape(number, (-1, 1))


def one_past_the_end(e):
    """At the first pad; where the row has none, at the last token."""
    return column(e, np.minimum(e["mask"].sum(axis=1), e["mask"].shape[1] - 1))


# --- GAE -----------------------------------------------------------------------------------------

def recursion(e, delta: Callable | None = None, decay: float | None = None, mask_first=True,
              r=None):
    """A_t = δ_t + decay·A_{t+1}; delta(r, V, V_next, gamma)."""
    r = masked(e, e["rewards"]) if r is None else r
    v = masked(e, e["old_values"]) if mask_first else e["old_values"]
    following = np.concatenate([v[:, 1:], np.zeros_like(v[:, :1])], axis=1)
    deltas = (r + e["gamma"] * following - v if delta is None
              else delta(r, v, following, e["gamma"]))
    decay, a = e["gamma"] * e["lam"] if decay is None else decay, np.zeros_like(r)
    advantage = 0.0
    for t in reversed(range(r.shape[1])):
        advantage = deltas[:, t] + decay * advantage
        a[:, t] = advantage
    return masked(e, a)


def reward_one_late(e):
    """Each token gets the reward of the token before it; the last reward is lost."""
    r = np.concatenate([np.zeros_like(e["rewards"][:, :1]), e["rewards"][:, :-1]], axis=1)
    return gae(r, e["old_values"], e["mask"], e["gamma"], e["lam"])[0]


def to_go(e):
    """Σ_{l ≥ 0} γˡ r_{t+l}."""
    return recursion(e, lambda r, v, following, gamma: r, e["gamma"])


def paid_at_a_pad(place: Callable) -> dict:
    """The score in a place behind the reply, and a recursion that reads rewards there."""
    def advantages_of(e):
        behind = np.where(place(e), e["scores"][:, None], 0)
        return recursion(e, r=np.where(e["mask"], e["rewards"], behind))
    return rewards(place=place) | {"advantages_of": advantages_of}


# --- whitening -----------------------------------------------------------------------------------

def whitened(e, scale: Callable, over=None):
    """(A − μ)·scale(σ², n) with μ and σ² over `over`, by default the mask."""
    over = e["mask"] if over is None else over
    a, n = masked(e, e["advantages"]), over.sum()
    mean = a[over].sum() / n
    variance = ((a[over] - mean) ** 2).sum() / n
    return masked(e, (a - mean) * scale(variance, n))


def off_centre(e):
    """The mean of all slots, the variance around it of the real ones."""
    a = masked(e, e["advantages"])
    centred = masked(e, a - a.mean())
    return centred * ((centred * centred).sum() / e["mask"].sum() + 1e-8) ** -0.5


def row_by_row(e):
    return np.concatenate([whiten(a[None], m[None])
                           for a, m in zip(e["advantages"], e["mask"], strict=True)])


SWAPPED = "the KL's sign is swapped: leaving the reference is rewarded"
MISREWARDED = [
    Mistake("kl-direction-swapped", ("kl", "rewards", "objectives"), SWAPPED,
            with_kl(lambda e: -k1(e))),
    Mistake("kl-of-the-policy-in-training", ("kl", "rewards", "objectives"),
            "the KL is that of the policy in training, not of the one that sampled",
            with_kl(lambda e: k1(e, "logprobs"))),
    Mistake("k2-for-k1", ("kl", "rewards", "objectives"), "k²/2 stands for k",
            with_kl(lambda e: k1(e) ** 2 / 2)),
    Mistake("k3-for-k1", ("kl", "rewards", "objectives"), "e^−k − 1 + k stands for k",
            with_kl(lambda e: np.exp(-k1(e)) - 1 + k1(e))),
    Mistake("kl-without-sign", ("kl", "rewards", "objectives"), "|k| stands for k",
            with_kl(lambda e: abs(k1(e)))),
    Mistake("score-at-the-first-pad", ("rewards",),
            "the score is paid one token past the end, where there is room, and that pad counts "
            "in GAE", paid_at_a_pad(one_past_the_end)),
    Mistake("score-at-the-row-end", ("rewards",),
            "the score is paid in the last column, and the pads before it count in GAE",
            paid_at_a_pad(lambda e: column(e, e["mask"].shape[1] - 1))),
    Mistake("score-lost-at-a-pad", ("rewards",),
            "the score is paid at a pad, which the mask then takes away",
            rewards(place=one_past_the_end)),
    Mistake("score-at-every-token", ("rewards",), "every token gets the whole score",
            rewards(place=lambda e: e["mask"])),
    Mistake("score-at-the-first-token", ("rewards",), "the first token gets the score",
            rewards(place=lambda e: column(e, 0))),
    Mistake("score-missing", ("rewards",), "the score is not in the rewards",
            rewards(place=lambda e: np.zeros_like(e["mask"]))),
    Mistake("beta-missing", ("rewards", "objectives"), "the KL is not multiplied by β",
            {"beta": 1.0}),
    Mistake("kl-missing", ("rewards", "objectives"),
            "the reward has no KL penalty (some systems have it in the loss)", {"beta": 0.0}),
    Mistake("kl-divided-by-the-length", ("rewards", "objectives"),
            "the KL of a reply is a mean over its tokens",
            {name: f for name, f in with_kl(
                lambda e: k1(e) / e["mask"].sum(axis=1, keepdims=True)).items()
             if name != "kl_of"}),
    Mistake("masked-after-the-recursion", ("advantages",),
            "values after the last token enter the recursion, and the mask comes too late",
            {"advantages_of": lambda e: recursion(e, mask_first=False)}),
    Mistake("next-value-forgotten", ("advantages",), "δ = r − V, without the value of what follows",
            {"advantages_of": lambda e: recursion(e, lambda r, v, following, gamma: r - v)}),
    Mistake("gamma-missing-in-delta", ("advantages",), "δ = r + V_{t+1} − V_t, without γ",
            {"advantages_of": lambda e: recursion(
                e, lambda r, v, following, gamma: r + following - v)}),
    Mistake("gamma-missing", ("advantages",), "γ is 1", {"gamma": 1.0}),
    Mistake("decay-without-lambda", ("advantages",), "δs decay by γ alone, as with λ = 1",
            {"lam": 1.0}),
    Mistake("one-step-only", ("advantages",), "λ is 0: the advantage is δ alone", {"lam": 0.0}),
    Mistake("decay-without-gamma", ("advantages",), "δs decay by λ, not by γλ",
            {"advantages_of": lambda e: recursion(e, decay=e["lam"])}),
    Mistake("reward-one-token-late", ("advantages",), "a token gets the reward of the one before",
            {"advantages_of": reward_one_late}),
    Mistake("values-left-out", ("advantages",), "the advantage is the discounted reward to go",
            {"advantages_of": to_go}),
    Mistake("values-of-the-model-in-training", ("advantages",),
            "the values are the new ones, not those of the rollout",
            {"advantages_of": lambda e: gae(e["rewards"], e["values"], e["mask"], e["gamma"],
                                            e["lam"])[0]}),
    Mistake("returns-without-the-value", ("returns",), "the advantages stand for the returns",
            {"returns_of": lambda e: masked(e, e["advantages"])}),
    Mistake("returns-after-whitening", ("returns",), "returns are made of whitened advantages",
            {"returns_of": lambda e: masked(e, e["whiten_of"](e) + e["old_values"])}),
    Mistake("returns-are-rewards-to-go", ("returns",),
            "the returns are the discounted rewards to go, not A + V", {"returns_of": to_go}),
    Mistake("whitened-with-n-minus-one", ("whitened_advantages",),
            "the variance is divided by n − 1",
            {"whiten_of": lambda e: whitened(e, lambda v, n: (v * n / (n - 1) + 1e-8) ** -0.5)}),
    Mistake("whitened-by-a-sample-deviation", ("whitened_advantages",),
            "divided by s + 1e-8, s the deviation with n − 1, as PyTorch's std() gives it",
            {"whiten_of": lambda e: whitened(
                e, lambda v, n: 1 / ((v * n / (n - 1)) ** 0.5 + 1e-8))}),
    Mistake("epsilon-outside-the-root", ("whitened_advantages",), "divided by σ + 1e-8",
            {"whiten_of": lambda e: whitened(e, lambda v, n: 1 / (v ** 0.5 + 1e-8))}),
    Mistake("no-epsilon", ("whitened_advantages",), "divided by σ alone",
            {"whiten_of": lambda e: whitened(e, lambda v, n: v ** -0.5)}),
    Mistake("divided-by-the-variance", ("whitened_advantages",), "divided by σ², not by σ",
            {"whiten_of": lambda e: whitened(e, lambda v, n: 1 / (v + 1e-8))}),
    Mistake("mean-not-subtracted", ("whitened_advantages",), "scaled, but not shifted",
            {"whiten_of": lambda e: masked(e, e["advantages"] * (
                e["advantages"][e["mask"]].var() + 1e-8) ** -0.5)}),
    Mistake("mean-added-back", ("whitened_advantages",),
            "the mean stays what it was, as rewards are whitened",
            {"whiten_of": lambda e: whiten(e["advantages"], e["mask"], shift_mean=False)}),
    Mistake("mean-over-pads", ("whitened_advantages",),
            "pads count as zeros in the mean, and not in the variance",
            {"whiten_of": off_centre}),
    Mistake("whitened-over-pads", ("whitened_advantages",),
            "pads count as zeros in the mean and the variance",
            {"whiten_of": lambda e: whitened(e, lambda v, n: (v + 1e-8) ** -0.5,
                                             np.ones_like(e["mask"]))}),
    Mistake("whitened-row-by-row", ("whitened_advantages",), "each reply is whitened for itself",
            {"whiten_of": row_by_row}),
    Mistake("not-whitened", ("whitened_advantages",), "the advantages are not whitened",
            {"whiten_of": lambda e: masked(e, e["advantages"])}),
]

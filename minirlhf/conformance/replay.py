"""One rollout batch under the conventions of every preset: what they change.

Two systems with the same models, the same replies and the same numbers β, γ, λ and ε still make
different steps.  Here everything is held fixed but the conventions, so what differs is theirs:

    scores, log-probs, values  →  rewards  →  advantages  →  loss  →  ∂loss/∂log-probs

The last is the direction in which a system pushes its policy; two of them are compared by their
cosine, 1 where they push the same way, 0 where they have nothing to do with each other.

What the batch cannot show is left out: how rewards were trained and log-probs taken (rm.*, sft.*,
temp.logp, topp.*), what a missing end costs (eos.penalty), the value loss (vf.*), entropy (ent.*),
controllers (kl.ctl) and the optimizer (adam.*, clip.*); and lm-human-preferences' whitening of
rewards.  A reply of the batch has no gap and no group is of one, so return.mask and *.singleton
show nothing.  The pads that some conventions read are the batch's own.

Array functions throughout, in float64; nothing here knows of runs or files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirlhf.arrays import Array
from minirlhf.autograd import value_and_grad
from minirlhf.conformance.presets import Preset
from minirlhf.conformance.variants import answered, formula
from minirlhf.conformance.variants.aggregation import as_one_batch
from minirlhf.conformance.variants.kl import token_kl
from minirlhf.conformance.variants.losses import surrogate_tokens

CREDIT = {"gae": "gae.mask", "grpo": "grpo.std", "rloo": "rloo.std"}     # method: the axis it needs
ABOVE = {"grpo": ("group_advantages", "grpo.std", "grpo.eps", "grpo.singleton"),
         "rloo": ("leave_one_out_advantages", "rloo.std", "rloo.singleton")}
TO_GO = ("openrlhf", "rloo-openrlhf")      # whose KL joins after the group, token by token
AGGREGATED = ("pg.dual_clip", "pg.logratio_clamp", "pg.clip_high", "pg.level", "agg")


@dataclass(frozen=True)
class Batch:
    """What the models said of some replies, group by group of one prompt.  float64, on the host.

    old_logprobs, ref_logprobs, values (B, R) at every slot, pads too; values None without a value
    model.  logprobs (B, R): of the policy in training, which may have moved since.  scores (B,).
    mask (B, R) bool, right-padded.
    """

    old_logprobs: Array
    logprobs: Array
    ref_logprobs: Array
    values: Array | None
    scores: Array
    mask: Array
    group_size: int

    def __post_init__(self):
        shape = self.mask.shape
        per_token = {"old_logprobs": self.old_logprobs, "logprobs": self.logprobs,
                     "ref_logprobs": self.ref_logprobs}
        per_token |= {} if self.values is None else {"values": self.values}
        for name, x in per_token.items():
            if x.shape != shape:
                raise ValueError(f"{name} must have the mask's shape {shape}, got {x.shape}")
        if self.scores.shape != shape[:1]:
            raise ValueError(f"scores must have shape {shape[:1]}, got {self.scores.shape}")
        if self.group_size < 2 or len(self.mask) % self.group_size:
            raise ValueError(f"groups of {self.group_size} do not fit {len(self.mask)} replies; "
                             "wanted a divisor of them that is at least 2")


@dataclass(frozen=True)
class Numbers:
    """What is the same under all presets.  parts: micro-batches, and minibatches to whiten in."""

    beta: float
    gamma: float = 1.0
    lam: float = 0.95
    clip_ratio: float = 0.2
    parts: int = 1


@dataclass(frozen=True)
class Outcome:
    """A batch under a preset: where credit came from; (B, R) arrays; the loss."""

    method: str
    rewards: Array
    advantages: Array
    loss: float
    gradient: Array


def replay(preset: Preset, batch: Batch, numbers: Numbers, prefer: str = "gae") -> Outcome:
    """Rewards, advantages, loss and its gradient with respect to the log-probs.

    prefer  whose credit it is where a system can do it in several ways: gae, grpo or rloo

    Raises ValueError where a system cannot do without the value model that the batch lacks.
    """
    method = credit(preset, batch, prefer)
    paid = rewards(preset, batch, numbers)
    worth = advantages(preset, batch, numbers, paid, method)
    loss, gradient = value_and_grad(policy_loss(preset, batch, numbers, worth))(
        {"logprobs": batch.logprobs})
    return Outcome(method, paid, worth, float(loss), gradient["logprobs"])


def cosine(one: Array, other: Array) -> float:
    """⟨a, b⟩/(|a|·|b|); NaN if one is 0."""
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / norms) if norms > 0 else float("nan")


# --- the steps -----------------------------------------------------------------------------------

def credit(preset: Preset, batch: Batch, prefer: str) -> str:
    """gae, grpo or rloo: the preferred one, else the first that the system has and the batch can.
    """
    able = [method for method in (prefer, *CREDIT) if preset.answer(CREDIT[method]) is not None]
    for method in able:
        if method != "gae" or batch.values is not None:
            return method
    raise ValueError("advantages by GAE need a value model, and this batch has no values")


def part(preset: Preset, function: str, *axes: str) -> Callable:
    """A formula under a preset's answers to some axes."""
    return formula(function, {axis: preset.answer(axis) for axis in axes})


def rewards(preset: Preset, batch: Batch, numbers: Numbers, scores: Array | None = None) -> Array:
    """The penalised rewards (B, R); `scores` in place of the batch's."""
    pay = part(preset, "penalized_rewards", "score.place", "score.clip", "kl.mask", "kl.place",
               "kl.est", "kl.clamp")
    return pay(batch.scores if scores is None else scores, batch.old_logprobs,
               batch.ref_logprobs, batch.mask, numbers.beta)


def advantages(preset: Preset, batch: Batch, numbers: Numbers, paid: Array,
               method: str) -> Array:
    """The advantages (B, R), whitened where the system does, 0 where no token is."""
    if method == "gae":
        found = part(preset, "gae", "gae.mask")(paid, batch.values, batch.mask, numbers.gamma,
                                                numbers.lam)[0]
        return whitened(preset, found, batch.mask, numbers.parts)
    above = part(preset, *ABOVE[method])
    if preset.name in TO_GO:
        fresh = rewards(preset, batch, numbers, above(batch.scores, batch.group_size))
        return part(preset, "reward_to_go", "return.mask")(fresh, batch.mask, numbers.gamma)
    of_reply = above(paid.sum(axis=1), batch.group_size)
    return np.where(batch.mask, of_reply[:, None], 0.0)


def whitened(preset: Preset, x: Array, mask: Array, parts: int) -> Array:
    """Advantages as the loss gets them: whitened with shift_mean=True, or as they are."""
    axes = ("whiten.ddof", "whiten.eps", "whiten.mask", "whiten.scope", "whiten.count",
            "whiten.shift")
    if preset.answer(axes[0]) is None:
        return x
    return part(preset, "whiten", *axes)(x, mask, True, cut(len(x), parts))


def policy_loss(preset: Preset, batch: Batch, numbers: Numbers, worth: Array) -> Callable:
    """{"logprobs": (B, R)} -> the loss of an optimizer step on the whole batch.

    A KL that is nowhere in the reward is a term here, β times the estimate of each token.
    """
    answers = answered({axis: preset.answer(axis) for axis in AGGREGATED})
    estimate = answered({axis: preset.answer(axis) for axis in ("kl.loss_est", "kl.clamp",
                                                                   "kl.weight")
                         if preset.answer(axis) is not None})
    micro = preset.answer("agg.micro")
    together = as_one_batch if micro is None else answered({"agg.micro": micro})["agg.micro"]

    def loss(params: dict) -> Any:
        logprobs = params["logprobs"]
        losses, counts = surrogate_tokens(logprobs, batch.old_logprobs, worth, batch.mask,
                                          numbers.clip_ratio, answers)
        if preset.answer("kl.place") == "nowhere":
            losses = losses + numbers.beta * token_kl(logprobs, batch.old_logprobs,
                                                      batch.ref_logprobs, batch.mask, estimate)
        return together(answers["agg"], losses, counts, cut(len(counts), numbers.parts))
    return loss


def cut(rows: int, parts: int) -> Array:
    """The rows of each of some parts, as equal as can be."""
    return np.array([len(piece) for piece in np.array_split(np.arange(rows), parts)])

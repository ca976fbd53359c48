"""What the recursions of advantages and returns do where no token is.

Most answers to gae.mask are the core's own recursion over arrays that were cleared first, each up
to another slot; that is all in which they differ.
"""

from typing import Any

from minirlhf.arrays import Array, array_module
from minirlhf.conformance.variants.scores import after_last, second_after_last
from minirlhf.gae import gae

# --- gae.mask: (rewards, values, mask, γ, λ) -> advantages, returns ------------------------------


def cleared(rewards: Array, values: Array, keep: Array, gamma: float,
            lam: float) -> tuple[Array, Array]:
    """The recursion over every slot, with rewards and values 0 where not kept."""
    xp = array_module(rewards, values, keep)
    return gae(xp.where(keep, rewards, 0), xp.where(keep, values, 0), xp.ones_like(keep), gamma,
               lam)


def zeroed(rewards: Array, values: Array, mask: Array, gamma: float, lam: float):
    """r_t = V_t = 0 where masked, before the recursion; a gap costs a factor γλ.  OpenRLHF."""
    return cleared(rewards, values, mask, gamma, lam)


def through_p1(rewards: Array, values: Array, mask: Array, gamma: float, lam: float):
    """r_t = V_t = 0 after the first pad, whose own value bootstraps the last token.  TRL,
    DeepSpeed-Chat, the reproduction of summarize-from-feedback."""
    return cleared(rewards, values, up_to(after_last(mask)), gamma, lam)


def through_p2(rewards: Array, values: Array, mask: Array, gamma: float, lam: float):
    """r_t = V_t = 0 after the second pad.  trlx, which cuts its rows there."""
    return cleared(rewards, values, up_to(second_after_last(mask)), gamma, lam)


def up_to(slot: Array) -> Array:
    """True up to the one True of each row."""
    return array_module(slot).arange(slot.shape[1]) <= slot.argmax(axis=1)[:, None]


def unmasked(rewards: Array, values: Array, mask: Array, gamma: float, lam: float):
    """Every slot of the row counts.  lm-human-preferences, whose replies are all of one length."""
    return gae(rewards, values, array_module(mask).ones_like(mask), gamma, lam)


def skipped(rewards: Array, values: Array, mask: Array, gamma: float, lam: float):
    """A masked slot hands on what came after it, undiscounted.  verl.

        V', A' ← (V_t, δ_t + γλ·A') where a token is real, unchanged where not
    """
    xp = array_module(rewards, values, mask)
    rewards, values = xp.where(mask, rewards, 0), xp.where(mask, values, 0)
    advantages = xp.zeros_like(values)
    later = after = xp.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * after - values[:, t]
        later = xp.where(mask[:, t], delta + gamma * lam * later, later)
        after = xp.where(mask[:, t], values[:, t], after)
        advantages[:, t] = later
    return advantages, advantages + values


# --- return.mask: (the return after a gap, γ) -> what the gap hands on ---------------------------

def discounted(later: Array, gamma: float) -> Array:
    """γ·G: a step without reward.  OpenRLHF."""
    return gamma * later


def carried(later: Array, gamma: float) -> Array:
    """G, as if the gap were not there.  verl 0.9."""
    return later


def reset(later: Array, gamma: float) -> Array:
    """0: what came after a gap is lost.  verl 0.7."""
    return 0 * later


ANSWERS: dict[str, dict[Any, Any]] = {
    "gae.mask": {"zeroed": zeroed, "skipped": skipped, "through-p1": through_p1,
                 "through-p2": through_p2, "none": unmasked},
    "return.mask": {"zeroed": discounted, "skipped": carried, "reset": reset},
}


def masked_gae(rewards: Array, values: Array, mask: Array, gamma: float, lam: float, *,
               answers: dict) -> tuple[Array, Array]:
    """Advantages, not whitened, and returns."""
    return answers["gae.mask"](rewards, values, mask, gamma, lam)


def reward_to_go(rewards: Array, mask: Array, gamma: float, *, answers: dict) -> Array:
    """G_t = r_t + γ·G_{t+1}: what REINFORCE gives a token credit for."""
    xp = array_module(rewards, mask)
    rewards = xp.where(mask, rewards, 0)
    returns, later = xp.zeros_like(rewards), xp.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        later = xp.where(mask[:, t], rewards[:, t] + gamma * later,
                         answers["return.mask"](later, gamma))
        returns[:, t] = xp.where(mask[:, t], later, 0)
    return returns


FORMULAS = {"gae": masked_gae, "reward_to_go": reward_to_go}

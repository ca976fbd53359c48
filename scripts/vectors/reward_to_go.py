"""Vectors of returns without a value model (REINFORCE), with masked slots among the tokens."""

from vectors.family import Argument, Axis, Case, Family, Group, star
from vectors.witness import mpf, over

NAN, HUGE = float("nan"), 1e30


def one_row(r, mask, gamma, how):
    out, later = [mpf(0)] * len(mask), mpf(0)
    for t in reversed(range(len(mask))):
        if mask[t]:
            out[t] = later = r[t] + gamma * later
        elif how == "zeroed":
            later = gamma * later
        elif how == "reset":
            later = mpf(0)
    return over(mask, out)


def reward_to_go(x, c):
    return {"returns": [one_row(r, m, x["gamma"], c["return.mask"])
                        for r, m in zip(x["rewards"], x["mask"], strict=True)]}


def whole_reward(x, c):
    """Every token is paid the reply's whole reward, those before it too."""
    return {"returns": [over(m, [sum((v for v, ok in zip(r, m, strict=True) if ok), mpf(0))]
                             * len(m)) for r, m in zip(x["rewards"], x["mask"], strict=True)]}


def mask_ignored(x, c):
    every = [[True] * len(m) for m in x["mask"]]
    return {"returns": [over(m, row) for m, row in zip(
        x["mask"], reward_to_go(x | {"mask": every}, c)["returns"], strict=True)]}


MISTAKES = {
    "past-rewards-counted": whole_reward,
    "mask-ignored": mask_ignored,
    "gamma-missing": lambda x, c: reward_to_go(x | {"gamma": mpf(1)}, c),
    "reward-one-token-late": lambda x, c: reward_to_go(
        x | {"rewards": [[mpf(0), *row[:-1]] for row in x["rewards"]]}, c),
}
AXES = (Axis("return.mask", "what a masked slot does to the return of the tokens before it", {
    "zeroed": "it is a step without reward, discounted",
    "skipped": "nothing: the return is carried over it",
    "reset": "the return starts anew, and what came after is lost"}),)
BASE = {"return.mask": "zeroed"}
GROUPS = (
    Group("zeroed", "", BASE, ("openrlhf", "rloo-openrlhf")),
    star(BASE, "skipped", "the return is carried over a gap", ("verl-2026-08",),
         return__mask="skipped"),
    star(BASE, "reset", "the return starts anew at a gap", ("verl-2026-01",), return__mask="reset"),
)


def batch(rewards, mask, gamma=1.0):
    return {"rewards": rewards, "mask": [[bool(m) for m in row] for row in mask], "gamma": gamma}


CASES = (
    Case("worked", "a reward at the end is the return of every token", batch(
        [[0.0, 0.0, 5.0]], [[1, 1, 1]]), ("reward-one-token-late",)),
    Case("to-go", "a token is not paid for what came before it", batch(
        [[1.0, 2.0, 4.0]], [[1, 1, 1]]), ("past-rewards-counted",)),
    Case("discounted", "each token between shortens it by gamma", batch(
        [[1.0, 0.0, 4.0]], [[1, 1, 1]], 0.5), ("gamma-missing", "past-rewards-counted")),
    Case("gap", "without discount a gap costs nothing", batch(
        [[0.0, 0.0, 5.0]], [[1, 0, 1]]), groups=("zeroed", "skipped", "reset"),
        laws={"reset": "tokens before a gap never hear of a reward after it"},
        given="without discount"),
    Case("discounted-gap", "a gap before the reward is discounted like a token", batch(
        [[1.0, 9.0, 9.0, 4.0, 9.0]], [[1, 0, 0, 1, 0]], 0.5),
        ("mask-ignored", "gamma-missing"),
        given="with a discount"),
    Case("padding", "rewards after the end are not paid", batch(
        [[1.0, 2.0, 7.0, 7.0]], [[1, 1, 0, 0]], 0.9), ("mask-ignored",)),
)
FAMILY = Family(
    function="reward_to_go",
    says="The sum of the rewards from a token on.",
    equation=("G_t = r_t + γ·G_{t+1}",),
    sources=({"paper": "Williams 1992 (REINFORCE)", "where": "episodic, reward to go"},),
    arguments=(Argument("rewards", "(B, R)", "paid for each token"),
               Argument("mask", "(B, R)", "True where the token is real", "bool"),
               Argument("gamma", "()", "discount")),
    results=(Argument("returns", "(B, R)", "of the real tokens"),),
    axes=AXES, groups=GROUPS, cases=CASES, formula=reward_to_go, mistakes=MISTAKES)

"""Every convention as a function: an axis, its answers, and what each of them computes.

    ANSWERS["gae.mask"]["skipped"]         the function of one answer to one axis
    formula("gae", {"gae.mask": "skipped"})     the whole formula with an answer to every axis

The core (`minirlhf.gae`, `minirlhf.clipped_surrogate`, …) has one answer to each question and no
switch; the switches are here.  A formula is called with the inputs that the test vectors give it,
and the tests hold each combination that the vectors know to their numbers.

    scores.py        score.place, score.clip, eos.penalty
    kl.py            kl.est, kl.loss_est, kl.clamp, kl.mask, kl.place, kl.weight, kl.ctl
    advantages.py    gae.mask, return.mask
    whitening.py     whiten.*
    losses.py        pg.*, vf.*, ent.*
    aggregation.py   agg, agg.micro
    logprobs.py      pos.ids, temp.logp, topp.*
    groups.py        grpo.*, rloo.*
    preferences.py   dpo.smoothing, ipo.len
    reward_model.py  rm.*
    sft.py           sft.*
    steps.py         adam.*, clip.*
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from minirlhf.conformance.variants import (
    advantages,
    aggregation,
    groups,
    kl,
    logprobs,
    losses,
    preferences,
    reward_model,
    scores,
    sft,
    steps,
    whitening,
)

PARTS = (logprobs, sft, reward_model, kl, scores, advantages, whitening, losses, aggregation,
         groups, preferences, steps)
ANSWERS: dict[str, dict[Any, Callable]] = {
    axis: answers for part in PARTS for axis, answers in part.ANSWERS.items()}
FORMULAS: dict[str, Callable] = {
    name: formula for part in PARTS for name, formula in part.FORMULAS.items()}


def answered(parameters: Mapping[str, Any]) -> dict[str, Callable]:
    """{axis: function} of {axis: answer}.

    Raises ValueError, naming the known ones, for an unknown axis or answer.
    """
    found = {}
    for axis, answer in parameters.items():
        if axis not in ANSWERS:
            raise ValueError(f"unknown axis {axis!r}; there are {', '.join(sorted(ANSWERS))}")
        if answer not in ANSWERS[axis]:
            raise ValueError(f"unknown answer {answer!r} to {axis}; choose "
                             f"{', '.join(map(repr, ANSWERS[axis]))}")
        found[axis] = ANSWERS[axis][answer]
    return found


def formula(function: str, parameters: Mapping[str, Any]) -> Callable:
    """The formula of that name under an answer to each of its axes.

    It takes and returns what the vectors of that name do.  Raises ValueError for an unknown
    function, axis or answer.
    """
    if function not in FORMULAS:
        raise ValueError(f"unknown function {function!r}; there are "
                         f"{', '.join(sorted(FORMULAS))}")
    return partial(FORMULAS[function], answers=answered(parameters))

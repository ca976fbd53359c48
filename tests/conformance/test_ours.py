"""The package on trial: its functions against every test of its own conventions.

The expected results come from the witness, which knows nothing of the functions called here.
"""

import numpy as np
import pytest
from vector_files import faults

from minirlhf import clipped_surrogate, dpo, gae, group_advantage, kl_penalty, tokens
from minirlhf.conformance import ours
from minirlhf.conformance.vectors import departs, functions, load

OURS = {name: getattr(ours, name) for name in ours.__all__}
# those that are the package's own, and not put together for a vector file
PLAIN = [name for name, function in OURS.items() if function.__module__ != ours.__name__]
CASES = [(name, group, test) for name in functions() for group in load(name).groups if group.core
         for test in group.tests]


def test_every_file_with_a_core_group_is_answered_by_a_function_of_ours():
    assert set(OURS) == {name for name, _, _ in CASES}


@pytest.mark.parametrize("name, group, test", CASES, ids=[test.id for _, _, test in CASES])
@pytest.mark.filterwarnings("ignore:overflow")
def test_ours_does_as_the_witness_says(name, group, test):
    assert faults(OURS[name], load(name), group, test, test.tolerance) == []


@pytest.mark.parametrize("function", PLAIN)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_function_of_the_package_does_so_on_every_backend(function, backend):
    assert [test.id for name, group, test in CASES if name == function
            and faults(OURS[name], load(name), group, test, test.tolerance, backend=backend)] == []


@pytest.mark.parametrize("function", OURS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_ours_does_so_in_float32_where_that_can_tell(function):
    assert [test.id for name, group, test in CASES if name == function and test.float32 is not None
            and faults(OURS[name], load(name), group, test, test.float32, "float32")] == []


# --- mistakes in our functions are told by name --------------------------------------------------

def plain_policy_loss(logprobs, old_logprobs, advantages, mask, clip_ratio=0.2, count=None):
    """The clipped ratio alone, in NumPy."""
    ratio = np.exp((logprobs - old_logprobs)[mask]).clip(1 - clip_ratio, 1 + clip_ratio)
    return -(ratio * advantages[mask]).sum() / (count or mask.sum())


def grouped_and_whitened(scores, group_size, deviation):
    a = ours.group_advantages(scores, group_size, deviation)
    return (a - a.mean()) / (a.std() + 1e-8)


WRONG = [                                       # (function, the mistake, ours with the mistake)
    ("gae", "masked-after-the-recursion", lambda mask, **x: gae.gae(mask=mask >= 0, **x)),
    ("gae", "mask-multiplied", lambda rewards, values, mask, **x: gae.gae(
        rewards * mask, values * mask, mask >= 0, **x)),
    ("clipped_surrogate_loss", "policy-loss-sign",
     lambda **x: -clipped_surrogate.clipped_surrogate_loss(**x)),
    ("clipped_surrogate_loss", "ratio-inverted",
     lambda logprobs, old_logprobs, **x: clipped_surrogate.clipped_surrogate_loss(
         old_logprobs, logprobs, **x)),
    ("clipped_surrogate_loss", "clip-without-min", plain_policy_loss),
    ("clipped_surrogate_loss", "pads-in-the-mean",
     lambda mask, count=None, **x: clipped_surrogate.clipped_surrogate_loss(
         mask=mask, count=count or mask.size, **x)),
    ("clipped_value_loss", "half-missing",
     lambda **x: 2 * clipped_surrogate.clipped_value_loss(**x)),
    ("penalized_rewards", "kl-direction-swapped",
     lambda logprobs, ref_logprobs, **x: kl_penalty.penalized_rewards(
         logprobs=ref_logprobs, ref_logprobs=logprobs, **x)),
    ("token_logprobs", "temperature-ignored",
     lambda temperature, **x: tokens.token_logprobs(**x)),
    ("bradley_terry_loss", "preference-swapped",
     lambda score_chosen, score_rejected, **x: ours.bradley_terry_loss(
         score_rejected, score_chosen, **x)),
    ("dpo_loss", "reference-missing",
     lambda ref_chosen, ref_rejected, **x: dpo.dpo_loss(
         ref_chosen=0 * ref_chosen, ref_rejected=0 * ref_rejected, **x)),
    ("adamw_step", "betas-swapped",
     lambda beta1, beta2, **x: ours.adamw_step(beta1=beta2, beta2=beta1, **x)),
    ("group_advantages", "whitened-again", grouped_and_whitened),
    ("leave_one_out_advantages", "own-score-in-the-baseline",
     lambda **x: group_advantage.group_advantages(normalize=False, **x)),
    ("whiten", "shift-mean-ignored",
     lambda x, mask, shift_mean, minibatches=None: gae.whiten(x, mask)),
    ("score_index", "pad-id-unknown", lambda mask, **_: np.full(len(mask), mask.shape[1] - 1)),
]


def named(function, wrong) -> set[str]:
    """Of the mistakes that agree with a function wherever a test of ours has them, those that do so
    most often."""
    file, agrees = load(function), {}
    for group in (group for group in file.groups if group.core):
        for test in group.tests:
            got = wrong(**file.call(group, test))
            got = got if isinstance(got, tuple) else (got,)
            for flag, outcome in test.mistakes.items():
                if outcome.gradients is None:
                    same = not any(departs(y, outcome.values[result.name], test.tolerance)
                                   for y, result in zip(got, file.results, strict=True))
                    agrees.setdefault(flag, []).append(same)
    counts = {flag: len(same) for flag, same in agrees.items() if all(same)}
    return {flag for flag, count in counts.items() if count == max(counts.values())}


@pytest.mark.parametrize("function, flag, wrong", WRONG, ids=[flag for _, flag, _ in WRONG])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mistake_in_our_function_is_told_by_its_name(function, flag, wrong):
    assert named(function, wrong) == {flag}


@pytest.mark.parametrize("function", OURS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_our_function_itself_is_given_no_mistake(function):
    assert named(function, OURS[function]) == set()

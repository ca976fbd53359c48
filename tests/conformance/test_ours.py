"""The package on trial: its functions against every test of its own conventions.

The expected results come from the witness, which knows nothing of the functions called here.
"""

import numpy as np
import pytest

from minirlhf import (
    bradley_terry,
    clipped_surrogate,
    dpo,
    gae,
    group_advantage,
    kl_penalty,
    ops,
    optimizer,
    sft,
    tokens,
)
from minirlhf.autograd import value_and_grad
from minirlhf.conformance.vectors import departs, functions, load


def step_mean(losses, mask, count=None, micro_batches=None, length=None):
    """Micro-batch means over the step's count, added up: the package's way to cut a step."""
    count = count or int(mask.sum())
    ends = np.cumsum(micro_batches if micro_batches is not None else [len(mask)])
    return sum(ops.masked_mean(ops.index(losses, slice(int(end - size), int(end))),
                               mask[end - size:end], count)
               for end, size in zip(ends, np.diff(ends, prepend=0), strict=True))


def sft_step(logprobs, mask, count=None, micro_batches=None):
    if micro_batches is None:
        return sft.sft_loss(logprobs, mask, count)
    return step_mean(-logprobs, mask, None, micro_batches)


def mean_kl(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k3"):
    k = kl_penalty.kl_estimate(ops.where(mask, logprobs, 0), np.where(mask, ref_logprobs, 0),
                               estimator)
    return ops.masked_mean(k, mask, count)


def controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    k = np.where(mask, logprobs - ref_logprobs, 0)
    return kl_penalty.adaptive_beta(beta, k.sum(axis=1).mean(), target_kl, horizon, len(mask))


def adamw(params, grads, **numbers):
    """The parameters after each step."""
    state, after = optimizer.adamw_state(params), []
    params = params.copy()
    for g in grads:
        params, state = optimizer.adamw_step(params, g, state, **numbers)
        after.append(params.copy())
    return np.stack(after)


def best_of(scores, best):
    """Every other reply of a row against its best."""
    n, k = scores.shape
    flat = ops.reshape(scores, (n * k, 1))

    def pick(columns):
        ids = np.repeat(np.arange(n), k - 1) * k + columns
        return ops.reshape(ops.embedding(flat, ids), (-1,))
    others = np.concatenate([np.delete(np.arange(k), b) for b in best])
    return bradley_terry.bradley_terry_loss(pick(np.repeat(best, k - 1)), pick(others))


def at_last_tokens(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens, chosen_mask,
                   rejected_mask):
    def last(scores, mask):
        return ops.sum(ops.where(tokens.last_token(mask), scores, 0), axis=1)
    return bradley_terry.bradley_terry_loss(last(chosen_scores, chosen_mask),
                                            last(rejected_scores, rejected_mask))


def bradley_terry_pairs(score_chosen, score_rejected, margin=0.0, count=None):
    return bradley_terry.bradley_terry_loss(score_chosen, score_rejected, margin, count)


def grouped(scores, group_size, deviation):
    return group_advantage.group_advantages(scores, group_size, normalize=deviation != "none")


OURS = {
    "adamw_step": adamw,
    "adaptive_beta": kl_penalty.adaptive_beta,
    "aggregate_loss": step_mean,
    "best_of_loss": best_of,
    "bradley_terry_loss": bradley_terry_pairs,
    "clip_by_global_norm": optimizer.clip_by_global_norm,
    "clipped_surrogate_loss": clipped_surrogate.clipped_surrogate_loss,
    "clipped_value_loss": clipped_surrogate.clipped_value_loss,
    "dpo_loss": dpo.dpo_loss,
    "entropy": lambda logits, mask, temperature=None, count=None: clipped_surrogate.entropy(
        logits if temperature is None else logits / temperature, mask, count),
    "exact_kl": kl_penalty.exact_kl,
    "gae": gae.gae,
    "group_advantages": grouped,
    "kl_controller": controller,
    "kl_estimate": kl_penalty.kl_estimate,
    "kl_loss": mean_kl,
    "leave_one_out_advantages": group_advantage.leave_one_out_advantages,
    "penalized_rewards": kl_penalty.penalized_rewards,
    "per_token_preference_loss": at_last_tokens,
    "score_index": lambda mask, **_: tokens.last_token(mask).argmax(axis=1),
    "sft_loss": sft_step,
    "token_logprobs": tokens.token_logprobs,
    "whiten": lambda x, mask, shift_mean, minibatches=None: gae.whiten(x, mask, shift_mean),
}
CASES = [(name, group, test) for name in functions() for group in load(name).groups if group.core
         for test in group.tests]


def in_precision(x, dtype):
    """Arrays of floats in another precision; everything else as it is."""
    if isinstance(x, dict):
        return {name: in_precision(inner, dtype) for name, inner in x.items()}
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def outcome(function, file, group, test, dtype="float64"):
    """(values, gradients) by name; gradients through the autograd engine, None if not wanted."""
    inputs = in_precision(file.call(group, test), dtype)

    def named(out):
        out = out if isinstance(out, tuple) else (out,)
        return dict(zip([result.name for result in file.results], out, strict=True))
    values = named(function(**inputs))
    if test.expected.gradients is None:
        return values, None
    weights = in_precision(test.expected.cotangent, dtype)

    def weighted(params):
        out = named(function(**(inputs | params)))
        if weights is None:
            (loss,) = out.values()
            return loss
        return sum((ops.sum(out[name] * weights[name]) for name in out), start=0.0)
    params = {name: inputs[name] for name in test.expected.gradients}
    return values, value_and_grad(weighted)(params)[1]


def faults(function, file, group, test, tolerance, dtype="float64"):
    values, gradients = outcome(function, file, group, test, dtype)
    parts = [(values, test.expected.values), (gradients or {}, test.expected.gradients or {})]
    return [name for got, wanted in parts for name in wanted
            if departs(got[name], wanted[name], tolerance)]


def test_every_file_with_a_core_group_is_answered_by_a_function_of_ours():
    assert set(OURS) == {name for name, _, _ in CASES}


@pytest.mark.parametrize("name, group, test", CASES, ids=[test.id for _, _, test in CASES])
@pytest.mark.filterwarnings("ignore:overflow")
def test_ours_does_as_the_witness_says(name, group, test):
    assert faults(OURS[name], load(name), group, test, test.tolerance) == []


@pytest.mark.parametrize("function", OURS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_ours_does_so_in_float32_where_that_can_tell(function):
    assert [test.id for name, group, test in CASES if name == function and test.float32 is not None
            and faults(OURS[name], load(name), group, test, test.float32, "float32")] == []


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_function_with_a_mistake_is_told_from_ours():
    """One that matches every test would mean that the tests tell nothing."""
    def negated(**inputs):
        return -OURS["clipped_surrogate_loss"](**inputs)
    file = load("clipped_surrogate_loss")
    group = file.groups[0]
    caught = [t for t in group.tests if faults(negated, file, group, t, t.tolerance)]
    assert len(caught) > len(group.tests) / 2

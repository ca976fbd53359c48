"""Float32 stays float32, whatever kind of number a hyper-parameter is.

Array arithmetic with a Python number keeps float32; with a NumPy float64 it does not.  Settings
that were computed, read from an array or drawn from a generator are NumPy numbers, so every door
of the mathematics turns them into Python's.
"""

from collections.abc import Callable

import numpy as np
import pytest
from helpers import assert_same, host

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.bradley_terry import bradley_terry_loss
from minirlhf.clipped_surrogate import clipped_surrogate_loss, clipped_value_loss, entropy
from minirlhf.dpo import dpo_loss
from minirlhf.gae import gae
from minirlhf.group_advantage import group_advantages
from minirlhf.kl_penalty import penalized_objective, penalized_rewards
from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm
from minirlhf.parameters import pack
from minirlhf.sft import sft_loss
from minirlhf.tokens import token_logprobs

MASK = np.array([[True, True, True], [True, False, False]])


def adamw(x, lr, beta1, beta2, eps, weight_decay):
    params, grads = pack({"x": x}), pack({"x": x})
    adamw_step(params, grads, adamw_state(params), lr, beta1, beta2, eps, weight_decay)
    return params.flat


# each: its hyper-parameters, and the door as a function of an array (2, 3), of constants of its
# shape, a mask, and of them
DOORS: dict[str, tuple[tuple, Callable]] = {
    "clipped_surrogate_loss": ((0.2,), lambda x, c, m, clip_ratio: clipped_surrogate_loss(
        x, 0.9 * c, c, m, clip_ratio)),
    "clipped_surrogate_loss, count": ((7.0,), lambda x, c, m, count: clipped_surrogate_loss(
        x, 0.5 * c, c, m, 0.2, count)),
    "clipped_value_loss": ((0.2,), lambda x, c, m, clip_range: clipped_value_loss(
        x, 0.5 * c, -c, m, clip_range)),
    "clipped_value_loss, count": ((7.0,), lambda x, c, m, count: clipped_value_loss(
        x, 0.5 * c, -c, m, 0.2, count)),
    "entropy, count": ((7.0,), lambda x, c, m, count: entropy(
        ops.reshape(x, (2, 1, 3)), m[:, :1], count)),
    "bradley_terry_loss": ((0.5,), lambda x, c, m, margin: bradley_terry_loss(
        x[0], x[1], margin)),
    "bradley_terry_loss, count": ((7.0,), lambda x, c, m, count: bradley_terry_loss(
        x[0], x[1], 0.0, count)),
    "dpo_loss": ((0.1,), lambda x, c, m, beta: dpo_loss(x[0], x[1], c[1], c[0], beta)),
    "sft_loss, count": ((7.0,), lambda x, c, m, count: sft_loss(x, m, count)),
    "penalized_objective": ((0.2,), lambda x, c, m, beta: penalized_objective(c, x, beta)),
    "penalized_rewards": ((0.2,), lambda x, c, m, beta: penalized_rewards(
        x[:, 0], x, 0.5 * x, m, beta)),
    "gae": ((0.9, 0.5), lambda x, c, m, gamma, lam: gae(x, -x, m, gamma, lam)[0]),
    "gae, returns": ((0.9, 0.5), lambda x, c, m, gamma, lam: gae(x, -x, m, gamma, lam)[1]),
    "group_advantages": ((1e-4,), lambda x, c, m, eps: group_advantages(
        x.reshape(-1), 3, True, eps)),
    "token_logprobs": ((0.7,), lambda x, c, m, temperature: token_logprobs(
        ops.reshape(x, (1, 2, 3)), 1 * m[:1, :2], temperature)),
    "adamw_step": ((0.1, 0.9, 0.99, 1e-8, 0.01), lambda x, c, m, *numbers: adamw(x, *numbers)),
    "clip_by_global_norm": ((0.1,), lambda x, c, m, limit: clip_by_global_norm({"x": x}, limit)[0][
        "x"]),
    "clip_by_global_norm, norm": ((0.1,), lambda x, c, m, limit: clip_by_global_norm(
        {"x": x}, limit)[1]),
}
DIFFERENTIABLE = ("clipped_surrogate_loss", "clipped_value_loss", "bradley_terry_loss", "dpo_loss",
                  "sft_loss, count", "penalized_objective", "token_logprobs")


def numbers_32(backend):
    return backend.asarray(np.array([[0.5, -1.25, 2.0], [1.5, 0.25, -0.75]], np.float32))


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.array],
                         ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("door", DOORS)
def test_a_door_keeps_float32_whatever_kind_of_number_its_setting_is(door, kind, backend):
    settings, f = DOORS[door]
    x, m = numbers_32(backend), backend.asarray(MASK)
    got = f(x, x, m, *map(kind, settings))
    assert got.dtype == np.float32
    assert np.isfinite(host(got)).all()
    if kind is not np.float32:                                 # which rounds the setting itself
        assert_same(got, host(f(x, x, m, *settings)))


@pytest.mark.parametrize("door", DIFFERENTIABLE)
def test_a_gradient_keeps_float32_whatever_kind_of_number_the_setting_is(door, backend):
    settings, f = DOORS[door]
    x, m = numbers_32(backend), backend.asarray(MASK)
    y = f(Tensor(x), x, m, *map(np.float64, settings))
    assert isinstance(y, Tensor) and y.dtype == np.float32
    _, gradient = value_and_grad(lambda t: ops.sum(f(t, x, m, *map(np.float64, settings))))(x)
    assert gradient.dtype == np.float32 and host(gradient).any()

"""Laws of sft.sft_loss: −log p, averaged over the tokens of the responses."""

import numpy as np
import pytest
from gradcheck import check_gradient
from helpers import arrays_and_mask, assert_close, assert_same, host, prefix_mask
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.sft import sft_loss

MASK = prefix_mask([3, 1], 3)


# --- laws that any implementation has to keep; the mutants below break one each ------------------

def law_mean_of_minus_log_p(loss, xp):
    """Tokens of probability 1/2, 1/4, 1/8 and, in a shorter reply, 1/2: (1 + 2 + 3 + 1)/4 bits."""
    p = xp.asarray([[0.5, 0.25, 0.125], [0.5, 0.99, 0.99]])
    assert_close(loss(xp.log(p), xp.asarray(MASK)), np.asarray(1.75 * np.log(2)))


def law_masked_slots_are_never_read(loss, xp):
    clean = np.log([[0.5, 0.25, 0.125], [0.5, 0.99, 0.99]])
    mask = xp.asarray(MASK)
    wanted, wanted_gradient = value_and_grad(loss)(xp.asarray(clean), mask)
    for junk in (np.nan, np.inf, -np.inf, 1e6):
        got, gradient = value_and_grad(loss)(xp.asarray(np.where(MASK, clean, junk)), mask)
        assert_same(got, wanted)
        assert_same(gradient, wanted_gradient)


def law_parts_add_up_to_the_step(loss, xp):
    """Micro-batches of unequal numbers of tokens, each given the step's count."""
    rng = np.random.default_rng(1)
    logprobs, mask = -rng.random((5, 4)), prefix_mask([4, 1, 2, 4, 3], 4)
    n = int(mask.sum())
    logprobs, mask = xp.asarray(logprobs), xp.asarray(mask)
    whole, whole_gradient = value_and_grad(loss)(logprobs, mask)
    parts = [value_and_grad(loss)(logprobs[i:j], mask[i:j], n) for i, j in ((0, 1), (1, 3), (3, 5))]
    assert_close(np.asarray(sum(host(value) for value, _ in parts)), whole, rtol=1e-12)
    assert_close(np.concatenate([host(g) for _, g in parts]), whole_gradient, rtol=1e-12)


LAWS = [law_mean_of_minus_log_p, law_masked_slots_are_never_read, law_parts_add_up_to_the_step]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_sft_loss_keeps_the_law(law, xp):
    law(sft_loss, xp)


def per_reply_mean(logprobs, mask, count=None):
    weights = mask / mask.sum(axis=1, keepdims=True) / len(mask)
    return -ops.sum(ops.where(mask, logprobs, 0) * weights)


MUTANTS = {
    "wrong sign": (law_mean_of_minus_log_p, lambda lp, m, count=None: -sft_loss(lp, m, count)),
    "a mean over all slots": (law_mean_of_minus_log_p,
                              lambda lp, m, count=None: sft_loss(lp, m, count or m.size)),
    "mask shifted by one": (law_mean_of_minus_log_p, lambda lp, m, count=None: sft_loss(
        lp, np.roll(host(m), 1, axis=1))),
    "a mean of each reply's mean": (law_mean_of_minus_log_p, per_reply_mean),
    "masking by multiplication": (law_masked_slots_are_never_read,
                                  lambda lp, m, count=None: -ops.sum(lp * m) / int(m.sum())),
    "the step's count ignored": (law_parts_add_up_to_the_step,
                                 lambda lp, m, count=None: sft_loss(lp, m)),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_laws_catch_the_mutant(name):
    law, mutant = MUTANTS[name]
    with pytest.raises(AssertionError):
        law(mutant, np)


# --- properties ----------------------------------------------------------------------------------

@given(arrays_and_mask(1))
def test_gradient_is_minus_one_over_n_on_the_mask_and_zero_elsewhere(xp, sample):
    logprobs, mask = sample
    _, gradient = value_and_grad(sft_loss)(xp.asarray(logprobs), xp.asarray(mask))
    assert_close(gradient, np.where(mask, -1 / mask.sum(), 0))


@given(arrays_and_mask(1))
def test_gradient_is_the_measured_slope(xp, sample):
    logprobs, mask = sample
    check_gradient(lambda x: sft_loss(x, xp.asarray(mask)), xp.asarray(logprobs))


@given(arrays_and_mask(1), st.integers(1, 4))
def test_appended_padding_changes_nothing(xp, sample, more):
    logprobs, mask = sample
    wide = ((0, 0), (0, more))
    padded = sft_loss(xp.asarray(np.pad(logprobs, wide, constant_values=np.nan)),
                      xp.asarray(np.pad(mask, wide)))
    assert_close(padded, sft_loss(xp.asarray(logprobs), xp.asarray(mask)))


def test_gaps_in_the_mask_are_allowed(xp):
    """A dialogue of several turns trains on the assistant's turns only."""
    logprobs, mask = xp.asarray([[-1.0, -2.0, -4.0]]), xp.asarray([[True, False, True]])
    assert_close(sft_loss(logprobs, mask), np.asarray(2.5))


# --- edges and errors ----------------------------------------------------------------------------

def test_a_wholly_masked_micro_batch_adds_zero(xp):
    logprobs, nothing = xp.full((2, 3), np.nan), xp.zeros((2, 3), dtype=bool)
    loss, gradient = value_and_grad(sft_loss)(logprobs, nothing, 7)
    assert host(loss) == 0 and not host(gradient).any()


def test_float32_stays_float32(xp):
    logprobs = xp.asarray(np.log([[0.5, 0.25]]), dtype="float32")
    mask = xp.asarray([[True, True]])
    assert sft_loss(logprobs, mask).dtype == "float32"
    assert sft_loss(Tensor(logprobs), mask).dtype == "float32"
    assert all(x.dtype == "float32" for x in value_and_grad(sft_loss)(logprobs, mask))


def test_a_mean_over_no_token_is_refused(xp):
    with pytest.raises(ValueError, match="no token"):
        sft_loss(xp.zeros((2, 3)), xp.zeros((2, 3), dtype=bool))


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_that_is_not_positive_is_refused_and_shown(xp, count):
    with pytest.raises(ValueError, match=str(count)):
        sft_loss(xp.zeros((1, 2)), xp.ones((1, 2), dtype=bool), count)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_mask_that_is_not_boolean_is_refused(xp, dtype):
    with pytest.raises(TypeError, match="boolean"):
        sft_loss(xp.zeros((1, 2)), xp.ones((1, 2), dtype=dtype))


@pytest.mark.parametrize("shape, mask_shape", [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((3,), (3,))])
def test_shapes_that_do_not_fit_are_refused_and_shown(xp, shape, mask_shape):
    with pytest.raises(ValueError, match=r"\(.*\)"):
        sft_loss(xp.zeros(shape), xp.ones(mask_shape, dtype=bool))

"""Laws of what all stages share: random streams, one optimizer step, passes over the data."""

from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import pytest
from helpers import assert_close, assert_same
from hypothesis import given
from hypothesis import strategies as st

from minirlhf import ops
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import copy, leaves, pack, tree_map
from minirlhf.stages.training import (
    Stage,
    batches,
    require_positive,
    shards_of,
    step_rng,
    update,
)

# --- random streams ------------------------------------------------------------------------------

def test_a_steps_generator_repeats():
    first, again = (step_rng(3, Stage.PPO, 7).random(8) for _ in range(2))
    assert_same(first, again)


def test_the_first_step_is_the_default():
    assert_same(step_rng(3, Stage.PPO).random(8), step_rng(3, Stage.PPO, 0).random(8))


def test_streams_differ_by_seed_by_stage_and_by_step():
    """The grid holds permuted triples such as (1, 2, 0) and (2, 1, 0): no sum may be the seed."""
    streams = {key: step_rng(*key).integers(2**63) for key in product(range(4), Stage, range(4))}
    assert len(set(streams.values())) == 4 * len(Stage) * 4


def test_the_stages_have_numbers_of_their_own():
    assert len({int(stage) for stage in Stage}) == len(Stage) == 14


def test_the_stages_keep_the_numbers_that_they_had():
    """A number that moved would give every later stage of every run other random numbers."""
    assert [stage.name for stage in Stage] == [
        "INITIALIZE", "DATA", "PRETRAIN", "SFT", "PREFERENCES", "REWARD_MODEL", "NORMALIZE", "PPO",
        "EVALUATE", "LABEL", "CHAT", "GROUP_RELATIVE", "DPO", "WATCH"]
    assert [int(stage) for stage in Stage] == list(range(14))


def test_every_round_has_streams_of_its_own_and_the_first_is_the_default():
    streams = {key: step_rng(*key).integers(2**63)
               for key in product(range(3), (Stage.PPO, Stage.DATA), range(3), range(3))}
    assert len(set(streams.values())) == len(streams) == 54
    for seed, stage, step, round in streams:
        if round == 0:
            assert step_rng(seed, stage, step).integers(2**63) == streams[seed, stage, step, 0]


def test_the_first_rounds_numbers_are_those_of_a_run_without_rounds():
    """NumPy takes a 0 more at the end of a short seed for nothing: runs of one round keep bits."""
    for seed, stage, step in product((0, 7, 2**32 - 1), Stage, (0, 5)):
        without = np.random.default_rng([seed, int(stage), step])
        assert_same(step_rng(seed, stage, step).random(4), without.random(4))


# --- shards --------------------------------------------------------------------------------------

def test_worked_shards():
    """Half of 24 tokens: the rows of 9 and 5 tokens against 4, 3, 2 and 1."""
    assert [part.tolist() for part in shards_of([2, 9, 1, 5, 4, 3], 2)] == [[1, 3], [4, 5, 0, 2]]
    assert [part.tolist() for part in shards_of([7, 7, 7, 7], 2)] == [[0, 1], [2, 3]]
    assert [part.tolist() for part in shards_of([5], 3)] == [[0]]


lengths_of_rows = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(lengths_of_rows, st.integers(1, 6))
def test_every_row_is_in_one_shard_and_none_is_empty(lengths, shards):
    parts = shards_of(lengths, shards)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    assert 1 <= len(parts) <= shards and all(len(part) for part in parts)


@given(lengths_of_rows, st.integers(1, 6))
def test_longer_rows_come_first_and_no_shard_has_more_than_its_share_and_a_row(lengths, shards):
    parts = [np.array(lengths)[part] for part in shards_of(lengths, shards)]
    together = np.concatenate(parts)
    assert (together[:-1] >= together[1:]).all()
    assert all(part.sum() <= sum(lengths) / shards + part.max() for part in parts)


# --- one optimizer step --------------------------------------------------------------------------

def slope(params, weights):
    """A loss with a known gradient: Σ w·θ has the gradient w."""
    return ops.sum(params["a"] * weights["a"]) + ops.sum(params["b"] * weights["b"])


def small_problem(backend):
    params = {"a": np.array([1.0, -2.0]), "b": np.array([[0.5]])}
    weights = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}           # norm 5
    return pack(tree_map(backend.asarray, params)), tree_map(backend.asarray, weights)


def test_an_update_by_hand(backend):
    """The gradient (3, 0, 4) has norm 5.  Clipped to 2.5 it is halved, to (1.5, 0, 2); the moments
    remember the halved one, and AdamW's first step has the size of the learning rate."""
    params, weights = small_problem(backend)
    state = adamw_state(params)
    loss, norm = update(slope, params, state, 0.1, 2.5, [(weights,)])
    assert float(loss) == pytest.approx(3.0 + 2.0)              # before the step
    assert float(norm) == pytest.approx(5.0)                    # before clipping
    assert_close(params.flat, np.array([0.9, -2.0, 0.4]), rtol=1e-7)
    assert_close(state["m"].flat, 0.1 * np.array([1.5, 0, 2.0]), rtol=1e-6)
    assert_close(state["v"].flat, 0.001 * np.array([1.5, 0, 2.0]) ** 2, rtol=1e-6)
    assert state["step"] == 1


def test_a_second_update_uses_the_moments_of_the_first(backend):
    """m̂ = (0.09·g₁ + 0.1·g₂)/0.19 and v̂ likewise: for g₂ = −g₁ the second step is small."""
    params, weights = small_problem(backend)
    state = adamw_state(params)
    update(slope, params, state, 0.1, 100.0, [(weights,)])
    update(slope, params, state, 0.1, 100.0, [({k: -w for k, w in weights.items()},)])
    back = 0.1 * (0.1 - 0.09) / 0.19
    assert_close(params.flat, np.array([0.9 + back, -2.0, 0.4 + back]), rtol=1e-7)


def test_an_update_has_no_weight_decay(backend):
    params, weights = small_problem(backend)
    update(slope, params, adamw_state(params), 0.1, 1.0, [(weights,)])
    assert params["a"][1] == -2.0                               # no gradient, no movement


def test_an_update_writes_into_the_arrays_it_was_given(backend):
    params, weights = small_problem(backend)
    flat, leaf, before = params.flat, params["a"], copy(params)
    update(slope, params, adamw_state(params), 0.1, 1.0, [(weights,)])
    assert params.flat is flat and params["a"] is leaf
    assert leaf[0] == flat[0] != before["a"][0]                 # the leaf is still a view
    assert_same(weights["a"], np.array([3.0, 0.0]))


def test_an_update_on_nothing_is_refused(backend):
    params, _ = small_problem(backend)
    with pytest.raises(ValueError, match="at least one part"):
        update(slope, params, adamw_state(params), 0.1, 2.5, [])


def test_an_update_on_parts_is_the_update_on_their_sum(backend):
    params, weights = small_problem(backend)
    whole, parts = copy(params), copy(params)
    found = [float(x) for x in update(slope, whole, adamw_state(whole), 0.1, 2.5, [(weights,)])]
    half = {name: w / 2 for name, w in weights.items()}
    assert [float(x) for x in update(slope, parts, adamw_state(parts), 0.1, 2.5,
                                     [(half,), (half,)])] == found
    assert_same(parts.flat, whole.flat)


def test_small_gradients_are_not_scaled_up(backend):
    params, weights = small_problem(backend)
    state = adamw_state(params)
    update(slope, params, state, 0.1, 50.0, [(weights,)])
    assert_close(state["m"].flat, 0.1 * np.array([3.0, 0, 4.0]), rtol=1e-12)
    assert [name for name, _ in leaves(params)] == ["a", "b"]


# --- passes over the data ------------------------------------------------------------------------

def passes(size, batch_size, count, **settings):
    """`count` passes, each as its list of batches."""
    per_pass = -(-size // batch_size)
    order = batches(size, batch_size, **settings)
    return [list(islice(order, per_pass)) for _ in range(count)]


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 5))
def test_every_row_is_seen_once_a_pass(size, batch_size, seed):
    for one in passes(size, batch_size, 3, seed=seed, stage=Stage.SFT):
        assert sorted(np.concatenate(one)) == list(range(size))
        assert all(len(batch) == min(batch_size, size) for batch in one[:-1])
        assert len(one[-1]) == (size % batch_size or min(batch_size, size))


def test_every_pass_has_an_order_of_its_own():
    orders = [tuple(np.concatenate(one)) for one in passes(12, 5, 4, seed=0, stage=Stage.SFT)]
    assert len(set(orders)) == 4


def test_the_order_repeats_and_depends_on_seed_and_stage():
    def order(seed, stage):
        return tuple(np.concatenate(passes(12, 5, 1, seed=seed, stage=stage)[0]))
    assert order(0, Stage.SFT) == order(0, Stage.SFT)
    assert len({order(0, Stage.SFT), order(1, Stage.SFT), order(0, Stage.REWARD_MODEL)}) == 3


def test_every_round_has_passes_of_its_own_and_the_first_is_the_default():
    def order(**round):
        return [tuple(np.concatenate(one)) for one in passes(12, 5, 2, seed=0, stage=Stage.SFT,
                                                             **round)]
    assert order() == order(round=0)
    assert len({*order(), *order(round=1), *order(round=2)}) == 6


# --- settings ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Some:
    steps: float = 1
    lr: float = 1.0


@pytest.mark.parametrize("number", [0, -1, -0.5, float("nan")])
def test_a_setting_that_is_not_positive_is_named_with_its_class_and_value(number):
    with pytest.raises(ValueError, match=rf"^Some\.lr must be positive, got {number}$"):
        require_positive(Some(lr=number), "steps", "lr")


def test_the_first_wrong_setting_is_named_and_others_are_not_looked_at():
    with pytest.raises(ValueError, match="Some.steps"):
        require_positive(Some(steps=0, lr=0), "steps", "lr")
    require_positive(Some(lr=-1), "steps")

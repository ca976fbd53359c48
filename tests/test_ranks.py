"""Several ranks compute what one process computes, in every stage; and wrong ways do not."""

import numpy as np
import pytest
import ranked
from helpers import assert_close, assert_same
from mpi import needs_mpi, on_ranks

pytestmark = [needs_mpi, pytest.mark.xdist_group("ranks")]     # what was found is computed once
STAGES = tuple(ranked.STAGES)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """found(ranks, shards, dtype, mistake …): what so many ranks found, stage by stage, computed
    once; one rank is this process."""
    done: dict = {}

    def look(size: int, *given: str) -> dict[str, np.ndarray]:
        if (size, given) not in done:
            done[size, given] = (ranked.stages(*given) if size == 1 else on_ranks(
                size, "stages", *given, folder=tmp_path_factory.mktemp("ranks")))
        return done[size, given]

    return look


def apart(one: dict, other: dict, stage: str) -> float:
    """The largest difference, relative where numbers are above 1."""
    found = float(np.max([(abs(one[key] - other[key]) / np.maximum(1, abs(one[key]))).max()
                          for key in (f"{stage}, rows", f"{stage}, parameters")]))
    assert np.isfinite(found)
    return found


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("size, shards", [(2, "3"), (4, "3"), (4, "4")])
def test_ranks_compute_what_one_process_computes(size, shards, stage, found):
    """Losses, the rollout's numbers, parameters.  4 ranks of 3 parts: one rank has none."""
    alone, together = found(1, shards, "float64"), found(size, shards, "float64")
    assert apart(alone, together, stage) < 1e-10


@pytest.mark.parametrize("size", [4])
def test_ranks_end_a_stage_where_one_process_ends_it(size, tmp_path):
    """40 steps, or 8 rollouts; minibatches that are smaller than the ranks are many, too."""
    alone, together = ranked.whole_stages("4"), on_ranks(size, "whole_stages", "4", folder=tmp_path)
    for stage in ("SFT", "reward model", "PPO", "GRPO"):
        assert apart(alone, together, stage) < 1e-10


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("size", [2])
def test_in_float32_they_differ_by_its_rounding(size, stage, found):
    """By 1e-5, but for the biases of keys: nobody's numbers depend on them."""
    alone, together = found(1, "4", "float32"), found(size, "4", "float32")
    seen = ~ranked.key_biases()
    assert 0.9 < seen.mean() < 1

    def of(results):
        name = f"{stage}, parameters"
        return results | {name: results[name][seen]}

    assert apart(of(alone), of(together), stage) < 1e-5


@pytest.mark.parametrize("stage", ["pretraining", "SFT", "reward model", "DPO"])
def test_two_ranks_of_one_part_each_end_in_the_same_bits(stage, found):
    """a + b is b + a."""
    alone, together = found(1, "2", "float32"), found(2, "2", "float32")
    for key in (f"{stage}, rows", f"{stage}, parameters"):
        assert_same(together[key], alone[key])


@pytest.mark.parametrize("size", [4])
def test_a_rollout_is_the_same_whoever_computes_its_rows(size, tmp_path):
    """Every token, and log-probs, values and scores to rounding."""
    for dtype, bound in (("float64", 1e-12), ("float32", 1e-5)):
        alone = ranked.rollouts(dtype)
        together = on_ranks(size, "rollouts", dtype, folder=tmp_path)
        assert alone.keys() == together.keys()
        lengths = alone["drawn, mask"].sum(axis=1)        # half and more leave early
        assert sorted(lengths)[len(lengths) // 2] < lengths.max() < 10
        for name, array in alone.items():
            assert together[name].dtype == array.dtype
            assert_close(together[name], array, rtol=0, atol=bound if array.dtype == dtype else 0,
                         message=name)


# --- wrong ways ----------------------------------------------------------------------------------

ALGORITHMS = ["PPO", "GRPO", "GRPO, KL in the loss", "RLOO"]
OF_GRADIENTS = ["mean_of_means", "a_parameter_left_out", "no_sum", "every_rank_all_parts"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mistake", OF_GRADIENTS)
def test_a_wrong_sum_over_ranks_is_noticed(mistake, stage, found):
    alone, together = found(1, "3", "float64"), found(2, "3", "float64", mistake)
    assert apart(alone, together, stage) > 1e-6


@pytest.mark.parametrize("mistake, stages", [
    ("whitening_of_its_own", ["PPO"]), ("kl_of_its_own", ALGORITHMS),
    ("prompts_that_repeat", ALGORITHMS), ("luck_that_repeats", ALGORITHMS)])
def test_what_a_rank_must_not_find_out_for_itself(mistake, stages, found):
    alone, together = found(1, "4", "float64"), found(2, "4", "float64", mistake)
    for stage in STAGES:
        if stage in stages:
            assert apart(alone, together, stage) > 1e-6
        else:                                                    # the mistake is this one alone
            assert apart(alone, together, stage) < 1e-10


def test_parameters_that_come_apart_are_told_by_every_rank(tmp_path):
    on_ranks(2, "parameters_that_came_apart", folder=tmp_path)


def test_a_rank_that_trains_on_data_of_its_own_is_told_by_every_rank(tmp_path):
    """Its parameters are those of the others: only the batch tells."""
    on_ranks(2, "data_of_its_own", folder=tmp_path)

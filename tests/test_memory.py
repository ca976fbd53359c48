"""Laws of memory: what each algorithm keeps of its models, to the byte of the real arrays."""

import pytest
from every_stage import STAGES, steps_of
from helpers import breaks
from hypothesis import given
from hypothesis import strategies as st
from rollouts import four_models

from minirlhf.memory import LEARN, MODELS, Held, bytes_text, held, together
from minirlhf.parameters import count
from minirlhf.rollout import Models
from minirlhf.settings import ALGORITHMS
from minirlhf.stages import training

BILLIONS = dict.fromkeys(Models._fields, 7_000_000_000)
UNLIKE = {"policy": 100, "value": 10, "reward": 3, "reference": 1}


# --- laws that any reckoning has to keep; the mutants below break one each -----------------------

def law_seven_billion_by_hand(held):
    """28 GB a model in float32, ten of them for PPO: four for each that learns, one for each other.
    """
    assert {name: together(held(name, BILLIONS)) for name in MODELS} == {
        "ppo": 280 * 10**9, "grpo": 168 * 10**9, "rloo": 168 * 10**9, "dpo": 140 * 10**9}


def law_models_of_unlike_sizes_by_hand(held):
    """In 16 bits: 2·(4·100 + 4·10 + 3 + 1) bytes, and without the value model 2·(4·100 + 3 + 1)."""
    assert {name: together(held(name, UNLIKE, 2)) for name in MODELS} == {
        "ppo": 888, "grpo": 808, "rloo": 808, "dpo": 802}


def law_ppo_keeps_four_the_group_relative_three_and_dpo_two(held):
    assert [model.model for model in held("ppo", UNLIKE)] == list(Models._fields)
    for name in ("grpo", "rloo"):
        assert [model.model for model in held(name, UNLIKE)] == ["policy", "reward", "reference"]
    assert [model.model for model in held("dpo", UNLIKE)] == ["policy", "reference"]


def law_only_those_that_learn_have_a_gradient_and_moments(held):
    found = {model.model: (model.parameters, model.weights, model.gradient, model.moments)
             for model in held("ppo", UNLIKE)}
    assert found == {"policy": (100, 400, 400, 800), "value": (10, 40, 40, 80),
                     "reward": (3, 12, 0, 0), "reference": (1, 4, 0, 0)}


LAWS = [law_seven_billion_by_hand, law_models_of_unlike_sizes_by_hand,
        law_ppo_keeps_four_the_group_relative_three_and_dpo_two,
        law_only_those_that_learn_have_a_gradient_and_moments]


class AllLearn(Held):
    learns = True


class OneMoment(Held):
    moments = Held.gradient


class NoGradient(Held):
    gradient = 0


def as_kind(kind):
    return lambda *args: [kind(*model) for model in held(*args)]


MUTANTS = {
    "frozen models learn": as_kind(AllLearn),
    "one moment, as of momentum": as_kind(OneMoment),
    "no gradient": as_kind(NoGradient),
    "always float32": lambda name, parameters, width=4: held(name, parameters),
    "all as large as the policy": lambda name, parameters, width=4: held(
        name, dict.fromkeys(parameters, parameters["policy"]), width),
    "GRPO with a value model": lambda name, *more: held("ppo" if name == "grpo" else name, *more),
    "DPO with a reward model": lambda name, *more: held("grpo" if name == "dpo" else name, *more),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_reckoning_keeps_the_law(law):
    law(held)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_reckoning_is_noticed(name):
    assert any(breaks(law, MUTANTS[name]) for law in LAWS)


# --- the real arrays -----------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, width", [("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("stage", [name for name, module in STAGES.items() if
                                   module.__name__.rpartition(".")[2] in (
                                       "ppo", "group_relative", "direct_preference")])
def test_the_sum_is_that_of_the_arrays_which_a_step_has(stage, shards, dtype, width, backend,
                                                        monkeypatch):
    """Which models learn, and what that takes, is seen where AdamW is given it."""
    models, model = four_models(backend, dtype)
    learning, real = {}, training.adamw_step

    def record(params, grads, state, *args, **more):
        learning[id(params)] = grads.flat, state["m"].flat, state["v"].flat
        return real(params, grads, state, *args, **more)

    monkeypatch.setattr(training, "adamw_step", record)
    name = stage.split(",")[0].lower()
    next(steps_of(stage, models, model, shards))
    kept = {key: params for key, params in models._asdict().items() if key in MODELS[name]}
    assert {key for key, params in kept.items() if id(params) in learning} == set(LEARN) & set(kept)
    arrays = [params.flat for params in kept.values()]
    arrays += [array for three in learning.values() for array in three]
    found = held(name, {key: count(params) for key, params in kept.items()}, width)
    assert together(found) == sum(array.nbytes for array in arrays)


# --- properties ----------------------------------------------------------------------------------

@given(name=st.sampled_from(sorted(MODELS)), sizes=st.tuples(*[st.integers(1, 10**12)] * 4),
       width=st.sampled_from([1, 2, 4, 8]), times=st.integers(1, 1000))
def test_the_memory_grows_with_the_parameters_and_the_shares_stay(name, sizes, width, times):
    parameters = dict(zip(Models._fields, sizes, strict=True))
    one = held(name, parameters, width)
    more = held(name, {key: times * n for key, n in parameters.items()}, width)
    assert together(more) == times * together(one)
    assert [m.together for m in more] == [times * m.together for m in one]


@given(sizes=st.tuples(*[st.integers(1, 10**12)] * 4))
def test_doing_without_the_value_model_saves_four_times_its_weights(sizes):
    parameters = dict(zip(Models._fields, sizes, strict=True))
    saved = together(held("ppo", parameters)) - together(held("grpo", parameters))
    assert saved == 4 * 4 * parameters["value"]


def test_every_algorithm_of_stage_3_is_known():
    assert set(ALGORITHMS) | {"dpo"} == set(MODELS)


# --- what cannot be reckoned ---------------------------------------------------------------------

def test_another_algorithm_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="must be ppo, grpo, rloo, dpo, got 'PPO'"):
        held("PPO", UNLIKE)


def test_a_model_that_is_missing_is_named():
    with pytest.raises(ValueError, match="ppo keeps policy, .* in memory; missing: value, reward"):
        held("ppo", {"policy": 1, "reference": 1})


# --- in words ------------------------------------------------------------------------------------

@pytest.mark.parametrize("size, text", [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"),
                                        (496_896, "496.9 kB"), (2_500_000, "2.5 MB"),
                                        (7e9, "7.0 GB"), (2e12, "2000.0 GB")])
def test_bytes_are_written_in_units_that_can_be_read(size, text):
    assert bytes_text(size) == text

"""Laws of the released traces: complete, in order, right by longhand, and far from every corner."""

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close

from minirlhf.autograd import value_and_grad
from minirlhf.clipped_surrogate import clipped_surrogate_loss
from minirlhf.conformance.trace.folder import description, read_trace, released
from minirlhf.conformance.trace.mistakes import ALL, MISTAKES
from minirlhf.conformance.trace.rules import evaluate, flat
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.conformance.vectors import FOLDER, functions
from minirlhf.files import read_tensors
from minirlhf.parameters import copy, leaves
from minirlhf.rollout import response_logprobs, response_values, score_replies
from minirlhf.tokens import strip

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from traces.longhand import LONGHAND, updated  # noqa: E402
from traces.page import PAGE, page  # noqa: E402

TRACES = {name: read_trace(released(name)) for name in STEPS}
TOLD = {name: json.loads((released(name) / "trace.json").read_text(encoding="utf-8"))
        for name in STEPS}
MODELS = {name: list(told["models"]) for name, told in TOLD.items()}
TRAINED = [("ppo_step", "policy"), ("ppo_step", "value"), ("grpo_step", "policy"),
           ("reward_model_step", "reward")]
every_step = pytest.mark.parametrize("step", STEPS)
every_update = pytest.mark.parametrize("step, model", TRAINED)


def gradient_of(step, model, what="gradient"):
    """{parameter: array} of a trace."""
    prefix = f"{model}_{what}."
    return {name.removeprefix(prefix): x for name, x in TRACES[step].arrays.items()
            if name.startswith(prefix)}


# --- form ----------------------------------------------------------------------------------------

@every_step
def test_the_description_tells_every_array_once_and_in_order(step):
    order = [name for entry in TOLD[step]["arrays"]
             for name in entry.get("arrays", [entry["name"]])]
    tensors = read_tensors(released(step) / "trace.safetensors")
    assert sorted(order) == sorted(tensors) and len(set(order)) == len(order)
    assert order == list(evaluate(STEPS[step], TRACES[step].base)[0])
    assert all(x.dtype == np.float64 and np.isfinite(x).all() for x in tensors.values())


@every_step
def test_every_array_has_a_formula_and_is_made_from_what_stands_before_it(step):
    known = {*TOLD[step]["models"], *TOLD[step]["settings"], *TOLD[step]["given"]}
    for entry in TOLD[step]["arrays"]:
        assert len(entry["formula"]) > 8 and entry["from"]
        assert set(entry["from"]) <= known, entry["name"]
        assert entry.get("counts_where") in {None, *known}
        known.add(entry["name"])


@every_update
def test_every_parameter_has_a_gradient_from_the_last_layer_to_the_first(step, model):
    names = [name for name, _ in leaves(TRACES[step].base[model].params)]
    for what in ("gradient", "clipped_gradient", "after"):
        assert list(gradient_of(step, model, what)) == names[::-1]


@pytest.mark.parametrize("step, wanted", [
    ("ppo_step", "logprobs ref_logprobs entropy values scores kl rewards advantages returns "
     "whitened_advantages ratios policy_loss policy_loss_by_logprobs policy_gradient "
     "policy_gradient_norm policy_clipped_gradient policy_after value_loss value_loss_by_values "
     "value_gradient value_gradient_norm value_clipped_gradient value_after"),
    ("grpo_step", "logprobs ref_logprobs entropy scores kl k3 objectives group_advantages "
     "advantages ratios policy_loss policy_loss_by_logprobs policy_gradient policy_gradient_norm "
     "policy_clipped_gradient policy_after"),
    ("reward_model_step", "chosen_scores rejected_scores gaps pair_losses loss "
     "loss_by_chosen_scores loss_by_rejected_scores reward_gradient reward_gradient_norm "
     "reward_clipped_gradient reward_after")])
def test_released_names_and_their_order_never_change(step, wanted):
    assert [entry["name"] for entry in TOLD[step]["arrays"]] == wanted.split()


def test_every_file_of_a_trace_is_in_the_wheel():
    with open(PAGE.parents[1] / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["minirlhf.conformance"]
    shipped = {path for pattern in patterns for path in FOLDER.glob(pattern)}
    for step in STEPS:
        assert {file for file in released(step).rglob("*") if file.is_file()} <= shipped


def test_the_folders_of_traces_are_no_vectors_and_are_small():
    assert not set(functions()) & set(STEPS)
    for step in STEPS:
        size = sum(file.stat().st_size for file in released(step).rglob("*") if file.is_file())
        assert size < 300_000


@every_step
def test_the_trace_is_what_the_package_computes_today(step):
    """Across machines float64 sums may end in other digits; names, order and words may not."""
    trace = TRACES[step]
    arrays, e = evaluate(trace.step, trace.base)
    for name, x in arrays.items():
        assert_close(x, trace.arrays[name], rtol=0,
                     atol=1e-12 * max(1e-3, abs(trace.arrays[name]).max()), message=name)
    assert description(trace.step, trace.base, trace.arrays, e) == TOLD[step]


def test_the_page_about_traces_is_what_is_computed_today():
    assert PAGE.read_text(encoding="utf-8") == page()


# --- right ---------------------------------------------------------------------------------------

@every_step
def test_everything_up_to_the_gradients_is_what_longhand_gives(step):
    trace = TRACES[step]
    found = LONGHAND[step](trace.base)
    single = {rule.name for rule in trace.step.rules if rule.name in trace.arrays}
    assert set(found) == {name for name in single if not name.endswith("_norm")}
    for name, x in found.items():
        mask = trace.step.rules[trace.step.index(name)].mask
        counts = trace.base[mask] if mask else ...
        assert_close(np.asarray(x)[counts], trace.arrays[name][counts], 1e-11, 1e-13, name)


@every_update
def test_norm_clipping_and_adamw_are_what_longhand_gives(step, model):
    found = updated(TRACES[step].base, model, gradient_of(step, model))
    for name, x in found.items():
        assert_close(x, TRACES[step].arrays[name], 1e-11, 1e-13, name)


@every_update
def test_a_gradient_is_the_measured_slope_of_the_loss(step, model, rng):
    """Along a random direction in all parameters at once, by a central difference."""
    trace = TRACES[step]
    gradient = gradient_of(step, model)
    direction = {name: rng.standard_normal(g.shape) for name, g in gradient.items()}

    def loss(distance):
        params = copy(trace.base[model].params)
        for name, leaf in leaves(params):
            leaf += distance * direction[name]
        moved = trace.base[model]._replace(params=params)
        name = {"reward": "loss"}.get(model, f"{model}_loss")
        return float(LONGHAND[step](trace.base | {model: moved})[name])
    h = 1e-5
    measured = (loss(h) - loss(-h)) / (2 * h)
    assert_close(sum((g * direction[name]).sum() for name, g in gradient.items()), measured,
                 rtol=1e-6)


@pytest.mark.parametrize("step", ["ppo_step", "grpo_step"])
def test_the_models_are_read_as_the_training_loop_reads_them(step):
    trace = TRACES[step]
    base, a = trace.base, trace.arrays
    tokens, whole, R = base["sequences"], base["sequence_mask"], base["mask"].shape[1]
    for name, model in (("logprobs", "policy"), ("ref_logprobs", "reference")):
        assert_close(response_logprobs(*base[model], tokens, whole, R, base["temperature"]),
                     a[name], rtol=1e-13)
    assert_close(score_replies(*base["reward"], strip(tokens, whole)), a["scores"])
    if step == "ppo_step":
        assert_close(response_values(*base["value"], tokens, whole, R), a["values"], rtol=1e-13)


# --- far from every corner, and of use -----------------------------------------------------------

@pytest.mark.parametrize("step, advantages", [("ppo_step", "whitened_advantages"),
                                              ("grpo_step", "advantages")])
def test_ratios_are_on_every_side_of_the_clip_and_not_near_it(step, advantages):
    trace = TRACES[step]
    mask, eps = trace.base["mask"], trace.base["clip_ratio"]
    r, A = trace.arrays["ratios"][mask], trace.arrays[advantages][mask]
    assert abs(r - 1 - eps).min() > 0.01 and abs(r - 1 + eps).min() > 0.01
    assert abs(A).min() > 0.02
    inside = abs(r - 1) < eps
    for side in (A > 0, A < 0):
        assert (side & (r > 1 + eps)).any() and (side & (r < 1 - eps)).any()
        assert (side & inside).any()
    _, slope = value_and_grad(lambda x: clipped_surrogate_loss(
        x, trace.base["old_logprobs"], trace.arrays[advantages], mask, eps))(
            trace.arrays["logprobs"])
    assert 0 < (slope[mask] == 0).sum() < mask.sum()


def test_values_are_on_both_sides_of_their_clip_and_not_near_it():
    trace = TRACES["ppo_step"]
    mask, c = trace.base["mask"], trace.base["clip_value"]
    v, old, G = (x[mask] for x in (trace.arrays["values"], trace.base["old_values"],
                                   trace.arrays["returns"]))
    outside = abs(v - old) > c
    assert 0 < outside.sum() < mask.sum() and abs(abs(v - old) - c).min() > 0.01
    error, clipped = abs(v - G), abs(np.clip(v, old - c, old + c) - G)
    assert (outside & (error > clipped)).any() and (outside & (error < clipped)).any()
    assert abs(error - clipped)[outside].min() > 0.01


def test_gaps_are_of_either_sign_and_not_near_a_corner():
    gaps = TRACES["reward_model_step"].arrays["gaps"]
    assert (gaps > 0.1).any() and (gaps < -0.1).any() and abs(gaps - 1).min() > 0.1


def test_one_gradient_is_below_the_largest_norm_and_the_others_above():
    for step, model in TRAINED:
        most, norm = (TRACES[step].base["max_grad_norm"],
                      TRACES[step].arrays[f"{model}_gradient_norm"])
        assert (norm < 0.9 * most) == (model == "reward") and not 0.9 < norm / most < 1.1


@pytest.mark.parametrize("step", ["ppo_step", "grpo_step"])
def test_the_batch_has_what_systems_stumble_over(step):
    base = TRACES[step].base
    whole, mask, tokens = base["sequence_mask"], base["mask"], base["sequences"]
    P = tokens.shape[1] - mask.shape[1]
    eos = base["policy"].config.eos_id
    lengths = mask.sum(axis=1)
    assert not whole[:, 0].all() and whole[:, 0].any()                    # padded prompts
    assert len(set(lengths.tolist())) > 2
    last = tokens[np.arange(len(tokens)), P + lengths - 1]
    assert (last == eos).any() and (last != eos).any()                    # one was cut off
    assert (tokens[:, :P] == eos).any()                                   # an end in the prompt
    assert base["temperature"] != 1 and base["policy"].config.pad_id != eos
    if step == "ppo_step":
        assert 1 in lengths and abs(base["old_values"][~mask]).min() > 0  # plausible at pads


def test_every_known_mistake_shows_in_some_released_trace():
    shown = {flag for told in TOLD.values() for entry in told["arrays"]
             for flag in entry["mistakes"]}
    assert shown == {mistake.flag for mistake in ALL}


@every_step
def test_no_two_mistakes_have_one_flag_at_one_array(step):
    told = [(name, mistake.flag) for mistake in MISTAKES[step] for name in mistake.at]
    assert len(told) == len(set(told))


def test_a_tree_is_flattened_under_dotted_names_backwards():
    tree = {"a": np.zeros(2), "b": [{"c": np.ones(1)}]}
    assert [name for name, _ in flat("g", tree)] == ["g.b.0.c", "g.a"]

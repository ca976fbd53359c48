"""Laws of the locator: it names the first array that departs, where, by how much, and why.

Mistakes are made in the longhand steps, which share no formula with the table of mistakes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from minirlhf.conformance import trace_command
from minirlhf.conformance.trace.compare import relations, reordered
from minirlhf.conformance.trace.folder import read_trace, released
from minirlhf.conformance.trace.locate import locate
from minirlhf.conformance.trace.mistakes import MISTAKES
from minirlhf.conformance.trace.rules import Environment, flat
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.conformance.trace.told import findings_json, findings_text

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from traces import longhand  # noqa: E402
from traces.longhand import LONGHAND, updated  # noqa: E402

TRACES = {name: read_trace(released(name)) for name in STEPS}

# what is done wrongly in longhand: step -> {wrong: (first array that departs, flag)}
WRONG = {
    "ppo_step": {
        "no temperature": ("logprobs", "temperature-ignored"),
        "no shift": ("logprobs", "shift-missing"),
        "no attention mask": ("logprobs", "attention-mask-missing"),
        "raw entropy": ("entropy", "temperature-ignored"),
        "values one late": ("values", "values-one-late"),
        "score at a pad": ("scores", "token-after-the-last"),
        "score before the end": ("scores", "token-before-the-last"),
        "score at the first eos": ("scores", "score-read-at-the-first-eos"),
        "kl sign": ("kl", "kl-direction-swapped"),
        "kl of the new policy": ("kl", "kl-of-the-policy-in-training"),
        "score at the first pad": ("rewards", "score-at-the-first-pad"),
        "score at every token": ("rewards", "score-at-every-token"),
        "score first": ("rewards", "score-at-the-first-token"),
        "no lambda": ("advantages", "decay-without-lambda"),
        "no next value": ("advantages", "next-value-forgotten"),
        "mask after GAE": ("advantages", "masked-after-the-recursion"),
        "returns after whitening": ("returns", "returns-after-whitening"),
        "ddof 1": ("whitened_advantages", "whitened-with-n-minus-one"),
        "whitening over pads": ("whitened_advantages", "whitened-over-pads"),
        "whitening by row": ("whitened_advantages", "whitened-row-by-row"),
        "ratio inverted": ("ratios", "ratio-inverted"),
        "ratio to the reference": ("ratios", "ratio-to-the-reference"),
        "mean of row means": ("policy_loss", "mean-of-row-means"),
        "sum of tokens": ("policy_loss", "sum-instead-of-mean"),
        "no clip": ("policy_loss", "clip-missing"),
        "max for min": ("policy_loss", "max-for-min"),
        "no half": ("value_loss", "half-missing"),
        "no value clip": ("value_loss", "value-clip-missing")},
    "grpo_step": {
        "kl sign": ("kl", "kl-direction-swapped"),
        "ddof 0": ("group_advantages", "whitened-with-n-below"),
        "no deviation": ("group_advantages", "deviation-left-out"),
        "strided groups": ("group_advantages", "groups-strided"),
        "max for min": ("policy_loss", "max-for-min")},
    "reward_model_step": {
        "score at a pad": ("chosen_scores", "token-after-the-last"),
        "score at the first eos": ("chosen_scores", "score-read-at-the-first-eos"),
        "pairs swapped": ("gaps", "preference-swapped"),
        "sum of pairs": ("loss", "sum-instead-of-mean")}}
UPDATES = {
    "norms added": ("policy_gradient_norm", "norms-summed"),
    "clip by tensor": ("policy_clipped_gradient", "clipped-tensor-by-tensor"),
    "clip by value": ("policy_clipped_gradient", "clipped-by-value"),
    "TensorFlow's epsilon": ("policy_after", "epsilon-before-the-correction"),
    "no bias correction": ("policy_after", "bias-correction-missing"),
    "L2": ("policy_after", "decay-coupled")}
EACH = [(step, wrong) for step, table in WRONG.items() for wrong in table]


def rule_of(name: str) -> str:
    return name.split(".")[0]


def ours(step="ppo_step", *without) -> dict:
    """A trace's own arrays, but for some rules'."""
    return {name: x for name, x in TRACES[step].arrays.items() if rule_of(name) not in without}


def singles(step="ppo_step") -> dict:
    """The arrays that are no trees, up to the last: what longhand gives."""
    return {name: x for name, x in ours(step).items() if "." not in name}


def departing(found) -> list[str]:
    return [v.name for v in found.verdicts if v.verdict == "departs"]


def flags(verdict) -> list[str]:
    return [mistake.flag for mistake in verdict.mistakes]


# --- known mistakes ------------------------------------------------------------------------------

@pytest.mark.parametrize("step", STEPS)
def test_what_is_right_does_not_depart(step):
    found = locate(TRACES[step], TRACES[step].arrays)
    assert found.equal and found.first is None and found.unknown == ()
    assert locate(TRACES[step], LONGHAND[step](TRACES[step].base)).equal


@pytest.mark.parametrize("step, wrong", EACH, ids=lambda x: x)
def test_a_mistake_is_located_at_its_array_and_named_and_nothing_else_is_blamed(step, wrong):
    found = locate(TRACES[step], LONGHAND[step](TRACES[step].base, wrong))
    where, flag = WRONG[step][wrong]
    assert found.first.name == where and flags(found.first) == [flag]
    assert departing(found) == [where] and found.first.made_at == where
    assert "unsettled" not in [v.verdict for v in found.verdicts]


@pytest.mark.parametrize("wrong", UPDATES)
def test_a_mistake_in_the_update_is_located_and_named(wrong):
    trace = TRACES["ppo_step"]
    gradient = {name.removeprefix("policy_gradient."): x for name, x in trace.arrays.items()
                if name.startswith("policy_gradient.")}
    found = locate(trace, updated(trace.base, "policy", gradient, wrong))
    assert (found.first.name, *flags(found.first)) == UPDATES[wrong]
    assert departing(found) == [UPDATES[wrong][0]]


def test_more_than_fifteen_mistakes_are_made_apart_from_the_table():
    assert {step: list(table) for step, table in WRONG.items()} == longhand.WRONG
    assert list(UPDATES) == longhand.WRONG_UPDATES
    assert len({flag for table in (*WRONG.values(), UPDATES) for _, flag in table.values()}) >= 35


@pytest.mark.parametrize("step", STEPS)
def test_each_mistake_of_the_table_is_told_from_all_others(step):
    """Given the arrays from the mistake on, as far as the next parameters."""
    trace = TRACES[step]
    for mistake in MISTAKES[step]:
        if step == "grpo_step" and mistake.flag in {m.flag for m in MISTAKES["ppo_step"]}:
            continue
        start = trace.step.index(mistake.at[0])
        e = Environment(trace.step, trace.base, changes=[(start, mistake.changes)])
        rules = trace.step.rules[start:start + 4]
        theirs = dict(pair for rule in rules for pair in flat(rule.name, e[rule.name]))
        found = locate(trace, ours(step, *(rule.name for rule in trace.step.rules[start:]))
                       | theirs)
        if found.equal:                              # this batch cannot show it there
            told = json.loads((released(step) / "trace.json").read_text(encoding="utf-8"))
            entry = told["arrays"][start]
            assert mistake.flag not in entry["mistakes"]
        else:
            assert found.first.name == mistake.at[0] and mistake.flag in flags(found.first)
            assert len(found.first.mistakes) == 1 or mistake.flag.startswith("score-")


def test_a_mistake_in_an_array_that_was_not_given_is_named_with_the_place_where_it_was_made():
    theirs = LONGHAND["ppo_step"](TRACES["ppo_step"].base, "ddof 1")
    found = locate(TRACES["ppo_step"], {"policy_loss": np.asarray(theirs["policy_loss"])})
    assert found.first.name == "policy_loss" and flags(found.first) == ["whitened-with-n-minus-one"]
    assert found.first.made_at == "whitened_advantages"


def test_mistakes_that_are_one_at_an_array_are_told_apart_by_what_follows():
    theirs = LONGHAND["ppo_step"](TRACES["ppo_step"].base, "score at the first pad")
    early = {name: theirs[name] for name in ("scores", "kl", "rewards")}
    found = locate(TRACES["ppo_step"], early)
    assert set(flags(found.first)) == {"score-at-the-first-pad", "score-at-the-row-end",
                                       "score-lost-at-a-pad"}
    found = locate(TRACES["ppo_step"], early | {"advantages": theirs["advantages"]})
    assert flags(found.first) == ["score-at-the-first-pad"]
    lost = early | {"advantages": Environment(
        TRACES["ppo_step"].step, TRACES["ppo_step"].base,
        {"rewards": np.where(TRACES["ppo_step"].base["mask"], theirs["rewards"], 0)})["advantages"]}
    assert flags(locate(TRACES["ppo_step"], lost).first) == ["score-lost-at-a-pad"]


def test_two_mistakes_are_both_named_and_the_first_comes_first():
    base = TRACES["ppo_step"].base
    theirs = LONGHAND["ppo_step"](base, "ddof 1")
    theirs |= {name: LONGHAND["ppo_step"](base, "no half")[name]
               for name in ("value_loss", "value_loss_by_values")}
    found = locate(TRACES["ppo_step"], theirs)
    assert departing(found) == ["whitened_advantages", "value_loss"]
    assert [flags(v)[0] for v in found.verdicts if v.mistakes] == ["whitened-with-n-minus-one",
                                                                   "half-missing"]


def test_the_conventions_of_one_system_are_named_one_by_one():
    """TRL's PPO: the score one past the end, n − 1 below the variance; and a mean of row means."""
    base = TRACES["ppo_step"].base
    theirs = longhand.ppo(base, "score at the first pad")
    theirs["whitened_advantages"] = longhand.whitened(base, theirs["advantages"], "ddof 1")
    theirs |= longhand.policy_part(base, theirs, theirs["whitened_advantages"],
                                        "mean of row means")
    found = locate(TRACES["ppo_step"], theirs)
    assert [(v.name, *flags(v)) for v in found.verdicts if v.verdict == "departs"] == [
        ("rewards", "score-at-the-first-pad"),
        ("whitened_advantages", "whitened-with-n-minus-one"), ("policy_loss", "mean-of-row-means")]
    assert "unsettled" not in [v.verdict for v in found.verdicts]


# --- unknown ones --------------------------------------------------------------------------------

def test_what_is_computed_rightly_from_a_wrong_array_follows():
    trace = TRACES["ppo_step"]
    wrong = trace.arrays["advantages"] + 0.37 * trace.arrays["kl"]
    e = Environment(trace.step, trace.base, {"advantages": wrong})
    theirs = dict(pair for rule in trace.step.rules for pair in flat(rule.name, e[rule.name]))
    found = locate(trace, theirs)
    assert departing(found) == ["advantages"] and found.first.mistakes == ()
    verdicts = {v.name: v.verdict for v in found.verdicts}
    assert {verdicts[name] for name in ("returns", "whitened_advantages", "policy_loss",
                                        "policy_gradient", "policy_after", "value_gradient",
                                        "value_after")} == {"follows"}
    assert verdicts["ratios"] == "equal"


def test_what_depends_on_an_unexplained_function_is_unsettled_not_blamed():
    theirs = singles() | {name: 1.01 * TRACES["ppo_step"].arrays[name]
                          for name in ("logprobs", "ref_logprobs")}
    found = locate(TRACES["ppo_step"], theirs)
    verdicts = {v.name: v.verdict for v in found.verdicts}
    assert departing(found)[0] == "logprobs" and verdicts["ref_logprobs"] == "unsettled"
    assert "unsettled" in findings_text(found, TRACES["ppo_step"])


def test_where_and_by_how_much_is_said_of_the_entry_that_is_furthest_off():
    theirs = singles()
    theirs["advantages"] = theirs["advantages"].copy()
    theirs["advantages"][1, 2] += 0.25
    off = locate(TRACES["ppo_step"], theirs).first.off
    assert off.index == (1, 2) and off.entries == 1 and off.of == 15
    assert off.absolute == pytest.approx(0.25)
    assert off.theirs - off.ours == pytest.approx(0.25)
    text = findings_text(locate(TRACES["ppo_step"], theirs), TRACES["ppo_step"])
    assert "row 1, token 2 of the reply" in text and "1 of 15 entries off" in text


def test_an_entry_of_a_parameter_is_named_with_its_layer():
    name = "value_gradient.h.1.attn.c_attn.weight"
    theirs = ours()
    theirs[name] = theirs[name].copy()
    theirs[name][3, 17] *= -1
    found = locate(TRACES["ppo_step"], theirs)
    assert found.first.array == name and found.first.off.index == (3, 17)
    assert "h.1.attn.c_attn.weight[3, 17]" in findings_text(found, TRACES["ppo_step"])


def test_what_stands_in_a_masked_slot_is_not_compared():
    theirs = singles()
    mask = TRACES["ppo_step"].base["mask"]
    for name in ("logprobs", "values", "kl", "rewards", "advantages", "ratios"):
        theirs[name] = np.where(mask, theirs[name], np.nan)
    assert locate(TRACES["ppo_step"], theirs).equal


RELATIONS = {
    "other sign": lambda x: -x, "times 0.5": lambda x: x / 2, "plus 0.25": lambda x: x + 0.25,
    "one position later": lambda x: np.roll(x, 1, axis=1),
    "one position earlier": lambda x: np.roll(x, -1, axis=1),
    "another order: 1, 0, 2": lambda x: x[[1, 0, 2]], "transposed": lambda x: x.T}


@pytest.mark.parametrize("words", RELATIONS)
@pytest.mark.parametrize("columns", [3, 5])
def test_a_simple_relation_is_said(words, columns, rng):
    x = rng.standard_normal((3, columns))
    theirs = RELATIONS[words](x)
    found = relations(theirs, x, True, 1e-10) + reordered(theirs, x, True, 1e-10)
    assert len(found) == 1 and words in found[0]


def test_where_no_relation_holds_none_is_said(rng):
    x = rng.standard_normal((3, 4))
    theirs = x + rng.standard_normal(x.shape)
    assert relations(theirs, x, True, 1e-10) == reordered(theirs, x, True, 1e-10) == []


def test_one_factor_of_all_departing_arrays_of_a_gradient_is_said():
    theirs = {name: x * (4 if name.startswith("policy_gradient.") else 1)
              for name, x in ours().items()}
    found = locate(TRACES["ppo_step"], theirs)
    assert found.first.relations == ("it is ours times 4",) and len(found.first.wrong) == 28
    leaf = "policy_gradient.ln_f.bias"
    theirs = ours() | {leaf: 4 * TRACES["ppo_step"].arrays[leaf]}
    found = locate(TRACES["ppo_step"], theirs)
    assert found.first.wrong == (leaf,) and found.first.relations == ("it is ours times 4",)
    assert "1 of its 28 arrays depart: ln_f.bias" in findings_text(found, TRACES["ppo_step"])
    theirs["policy_gradient.ln_f.weight"] = 3 * theirs["policy_gradient.ln_f.weight"]
    assert locate(TRACES["ppo_step"], theirs).first.relations == ()


def test_weights_in_another_layout_are_told_to_be_transposed():
    """As those of a linear layer, (out, in), where the checkpoint has (in, out)."""
    theirs = {name: x.T if "attn.c_attn.weight" in name and "_gradient." in name else x
              for name, x in ours().items()}
    found = locate(TRACES["ppo_step"], theirs)
    assert found.first.array == "policy_gradient.h.1.attn.c_attn.weight"
    assert found.first.relations == ("it is ours transposed",)


def test_the_prefix_that_transformers_gives_to_parameters_is_left_out():
    theirs = {name.replace("_gradient.", "_gradient.transformer."): x
              for name, x in ours().items()}
    found = locate(TRACES["ppo_step"], theirs)
    assert found.equal and found.unknown == () and found.verdicts[13].given == 28


@pytest.mark.parametrize("factor, told", [(15.0, True), (0.5, True), (-3.0, True), (1.37, False),
                                          (-1.0, True)])
def test_of_two_numbers_only_a_simple_factor_is_said(factor, told):
    theirs = singles() | {"policy_loss": factor * TRACES["ppo_step"].arrays["policy_loss"]}
    found = locate(TRACES["ppo_step"], theirs)
    assert bool(found.first.relations) == told
    assert "entries off" not in findings_text(found, TRACES["ppo_step"])


def test_what_the_wrong_entries_have_in_common_is_said():
    theirs = singles()
    padded = ~TRACES["ppo_step"].base["mask"][:, -1]
    theirs["scores"] = np.where(padded, 9.0, theirs["scores"])
    assert "padded differ" in locate(TRACES["ppo_step"], theirs).first.relations[0]
    theirs["scores"] = np.where(padded, TRACES["ppo_step"].arrays["scores"], 9.0)
    assert "cut off" in locate(TRACES["ppo_step"], theirs).first.relations[0]


# --- a user's file -------------------------------------------------------------------------------

def saved(path, arrays):
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path)
    return path


def test_all_equal_is_status_0_and_a_departure_is_status_1(tmp_path, capsys):
    path = saved(tmp_path / "mine.safetensors", singles())
    assert trace_command.verify_trace(path) == 0
    assert "nothing departs" in capsys.readouterr().out
    wrong = singles() | {"scores": 2 * TRACES["ppo_step"].arrays["scores"]}
    np.savez(tmp_path / "mine.npz", **wrong)
    assert trace_command.verify_trace(tmp_path / "mine.npz") == 1
    told = capsys.readouterr().out
    assert "First departs:\nscores" in told and "it is ours times 2" in told


@pytest.mark.parametrize("step", STEPS)
def test_the_step_is_known_by_the_names_and_shapes(step, capsys):
    assert trace_command.verify_trace(released(step)) == 0
    assert capsys.readouterr().out.startswith(f"{step}: ")


def test_a_folder_stands_for_its_one_file(tmp_path):
    assert trace_command.verify_trace(released("grpo_step"), "grpo_step") == 0
    saved(tmp_path / "mine.safetensors", singles("grpo_step"))
    assert trace_command.verify_trace(tmp_path, "grpo_step") == 0
    saved(tmp_path / "other.safetensors", singles("grpo_step"))
    with pytest.raises(ValueError, match="mine.safetensors.*other.safetensors"):
        trace_command.verify_trace(tmp_path, "grpo_step")


def test_machines_read_the_same_as_json_without_nan(tmp_path, capsys):
    wrong = singles()
    wrong["values"] = np.full_like(wrong["values"], np.nan)
    assert trace_command.verify_trace(saved(tmp_path / "a.safetensors", wrong), json=True) == 1

    def refuse(word):
        raise AssertionError(word)
    told = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert told["first"] == "values" and not told["equal"]
    entry = next(a for a in told["arrays"] if a["name"] == "values")
    assert entry["verdict"] == "departs" and entry["off"]["theirs"] == "nan"
    assert told == findings_json(locate(TRACES["ppo_step"], wrong))


def test_one_nan_departs_there_and_what_comes_later_is_not_blamed_for_it():
    wrong = singles()
    wrong["advantages"] = wrong["advantages"].copy()
    wrong["advantages"][2, 1] = np.nan
    wrong["whitened_advantages"] = np.full_like(wrong["whitened_advantages"], np.nan)
    found = locate(TRACES["ppo_step"], wrong)
    assert departing(found) == ["advantages"] and found.first.off.index == (2, 1)
    assert found.verdicts[9].verdict == "unsettled"


@pytest.mark.parametrize("change, words", [
    (lambda x: np.pad(x, ((0, 0), (4, 0))), "shape (4, 10) instead of (4, 6): its last 6 columns"),
    (lambda x: np.pad(x, ((0, 0), (5, 0))), "cut the 6 columns of the response"),
    (lambda x: x.T, "shape (6, 4) instead of (4, 6)"),
    (lambda x: x[:, 1:], "shape (4, 5) instead of (4, 6)")])
def test_an_array_of_another_shape_departs_and_the_shapes_are_told(change, words):
    wrong = singles() | {"logprobs": change(TRACES["ppo_step"].arrays["logprobs"])}
    found = locate(TRACES["ppo_step"], wrong)
    assert departing(found) == ["logprobs"]
    assert words in findings_text(found, TRACES["ppo_step"])


def test_names_that_are_missing_or_foreign_are_told():
    trace = TRACES["ppo_step"]
    found = locate(trace, {"rewards": 3 * trace.arrays["rewards"], "my_loss": np.zeros(3)})
    text = findings_text(found, trace)
    assert "1 of 188 arrays given" in text and "does not have: my_loss" in text
    assert "may have begun there: logprobs, ref_logprobs, entropy, values, scores, kl" in text


def test_float32_is_compared_as_float32_and_that_is_said():
    theirs = {name: x.astype(np.float32) for name, x in singles().items()}
    found = locate(TRACES["ppo_step"], theirs)
    assert found.equal and found.rtol == 1e-4 and found.dtype == "float32"
    assert "Theirs are float32" in findings_text(found, TRACES["ppo_step"])
    theirs["policy_loss"] = theirs["policy_loss"] * np.float32(1.001)
    assert departing(locate(TRACES["ppo_step"], theirs)) == ["policy_loss"]


@pytest.mark.parametrize("wrong", ["no temperature", "ddof 1", "mean of row means", "no half"])
def test_mistakes_are_named_in_float32_too(wrong):
    theirs = {name: np.asarray(x, np.float32)
              for name, x in LONGHAND["ppo_step"](TRACES["ppo_step"].base, wrong).items()}
    found = locate(TRACES["ppo_step"], theirs)
    where, flag = WRONG["ppo_step"][wrong]               # two that differ by an ε are both named
    assert departing(found) == [where] and flag in flags(found.first)


def test_a_tolerance_may_be_given():
    theirs = singles() | {"scores": TRACES["ppo_step"].arrays["scores"] * 1.001}
    assert not locate(TRACES["ppo_step"], theirs).equal
    assert locate(TRACES["ppo_step"], theirs, rtol=0.01).verdicts[4].verdict == "equal"


@pytest.mark.parametrize("arrays, message", [
    ({"loss": np.zeros(2)}, "not one array has a name of a ppo_step; there are logprobs"),
    ({"scores": np.array(["a"])}, "scores must be an array of numbers, got <U1"),
    ({"scores": [[1.0], [1.0, 2.0]]}, "scores must be an array of numbers, got object")])
def test_a_file_without_a_known_name_or_without_numbers_is_a_mistake(arrays, message):
    with pytest.raises(ValueError, match=message):
        locate(TRACES["ppo_step"], arrays)


@pytest.mark.parametrize("name, content, message", [
    ("a.safetensors", b"garbage", "a.safetensors: not a whole safetensors file"),
    ("a.npz", b"garbage", "a.npz: not a whole .npz file"),
    ("a.npz", b"", "a.npz: not a whole .npz file"),
    ("a.pt", b"", "wanted a .safetensors or an .npz file"),
    ("a.json", b"[1]", "a.json: wanted a JSON object")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        trace_command.verify_trace(tmp_path / name)


def test_a_missing_file_an_unknown_step_and_a_folder_without_a_trace_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz: there is no such file"):
        trace_command.verify_trace(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="ppo: neither a released trace .ppo_step"):
        trace_command.verify_trace(released("ppo_step"), "ppo")
    with pytest.raises(FileNotFoundError, match="no trace.json"):
        trace_command.verify_trace(released("ppo_step"), tmp_path)

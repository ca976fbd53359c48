"""Laws of `minirlhf verify`: who passes, what is said of who does not, and that nothing an adapter
does ends the run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from minirlhf import cli
from minirlhf.conformance.adapters import Function, fitted, open_adapter
from minirlhf.conformance.examine import examine
from minirlhf.conformance.frameworks import FRAMEWORKS, framework_of
from minirlhf.conformance.runner import Local, Reply, Session
from minirlhf.conformance.systems import groups_of, systems
from minirlhf.conformance.telling import shown
from minirlhf.conformance.vectors import V1, functions, load
from minirlhf.conformance.verdict import judge

ROOT = Path(__file__).parents[2]
CORRECT = ROOT / "scripts" / "mistaking" / "correct.py"
SCHEMA = json.loads((Path(__file__).parent / "verdict.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def adapter(tmp_path):
    """Writes an adapter's source, and gives its path."""
    def write(source: str) -> str:
        path = tmp_path / "adapter.py"
        path.write_text(f"import numpy as np\n{source}", encoding="utf-8")
        return str(path)
    return write


def verdict(path: str, function: str, preset: str = "minirlhf"):
    return examine(Local(open_adapter(path)), function, groups_of(load(function), preset))


# --- who passes ----------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [[], ["--float32"]], ids=["float64", "float32"])
def test_this_package_passes_everything_of_its_own(flags, capsys):
    assert cli.main(["verify", "minirlhf", *flags]) == 0
    told = capsys.readouterr().out
    assert "differs" not in told and "unseen" not in told
    own = [name for name in functions() if any(group.core for group in load(name).groups)]
    assert f"{len(own)} of {len(own)} functions match" in told
    assert all(f"\n{name} " in told for name in own)


def test_an_adapter_in_numpy_written_from_the_equations_passes(capsys):
    assert cli.main(["verify", str(CORRECT)]) == 0
    assert "gae                             16  –          matched" in capsys.readouterr().out


def test_the_module_is_a_door_too():
    ran = subprocess.run([sys.executable, "-m", "minirlhf.conformance", str(CORRECT), "--json"],
                         capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert ran.returncode == 0 and json.loads(ran.stdout)["passed"] is True


def test_a_module_that_can_be_imported_from_here_is_an_adapter(adapter, tmp_path, monkeypatch):
    adapter("def exact_kl(logits, ref_logits): return 0 * logits[..., 0]")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "adapter"]) == 1


# --- what is said of who does not ----------------------------------------------------------------

WHITEN = """
def whiten(x, mask, shift_mean):
    mu, variance = x[mask].mean(), x[mask].var(ddof={ddof})
    y = (x - mu) / np.sqrt(variance + 1e-8)
    return np.where(mask, y if shift_mean else y + mu, 0)
"""


def test_another_convention_is_told_with_the_systems_that_have_it(adapter, capsys):
    path = adapter(WHITEN.format(ddof=1))
    assert cli.main(["verify", path]) == 1
    told = capsys.readouterr().out
    assert "another convention: whiten.ddof = 1, as trl-ppo (try --preset trl-ppo)" in told
    assert cli.main(["verify", path, "--preset", "trl-ppo"]) == 0


TRL = """
def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta):
    rewards = -beta * np.where(mask, logprobs - ref_logprobs, 0)
    length = mask.sum(1)
    rewards[np.arange(len(rewards)), np.minimum(length, mask.shape[1] - 1)] += scores
    return rewards
def aggregate_loss(losses, mask): return np.where(mask, losses, 0).sum() / losses.size
def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    kl = (np.where(mask, logprobs - ref_logprobs, 0).sum(1) / mask.sum(1)).mean()
    return beta * (1 + np.clip(kl / target_kl - 1, -0.2, 0.2) * len(mask) / horizon)
def gae(rewards, values, mask, gamma, lam):
    later = np.arange(mask.shape[1]) > mask.sum(1, keepdims=True)
    advantages, after, advantage = np.zeros(rewards.shape), 0, 0
    rewards, values = np.where(later, 0, rewards), np.where(later, 0, values)
    for t in reversed(range(rewards.shape[1])):
        advantage = rewards[:, t] + gamma * after - values[:, t] + gamma * lam * advantage
        advantages[:, t], after = advantage, values[:, t]
    return advantages, advantages + values
"""


def test_what_a_system_does_on_purpose_is_not_called_a_mistake(adapter, capsys):
    """Score at the first pad, a constant divisor, a controller fed by the mean, a slot more than is
    real: each is a known mistake too, for whoever did not mean it."""
    path = adapter(TRL)
    assert all(verdict(path, name).named for name in ("penalized_rewards", "gae"))
    assert cli.main(["verify", path]) == 1
    told = capsys.readouterr().out
    assert told.count("differs: another convention") == 4
    assert "the mistake" not in told and "junk-in-masked-slots" not in told
    assert "score.place = after-last, as " in told and "as dr-grpo (try" in told


def test_a_mistake_that_no_system_makes_on_purpose_keeps_its_name(adapter, capsys):
    """The score at the end of the row: an answer, but nobody's."""
    path = adapter(TRL.replace("np.minimum(length, mask.shape[1] - 1)", "-1"))
    cli.main(["verify", path])
    told = capsys.readouterr().out
    assert "differs: score-at-the-row-end" in told and "score.place = row-end, as no system" in told


def test_a_known_mistake_is_told_with_its_note_and_the_smallest_failing_test(adapter, capsys):
    path = adapter("def sft_loss(logprobs, mask, count=None):\n"
                   "    return -np.where(mask, logprobs, 0).sum() / (count or mask.size)")
    assert cli.main(["verify", path]) == 1
    told = capsys.readouterr().out
    assert "equals the mistake pads-in-the-mean: 2 of the 2 tests that tell it" in told
    assert "what goes wrong: The sum over real tokens is divided by all slots" in told
    assert "mask           [[False, False, True, True]]" in told and "wanted loss    1.5" in told
    assert "got    loss    0.75" in told


def test_a_mistake_that_only_some_of_its_tests_show_is_no_name(adapter):
    """λ missing, and only in short rows: in part like the mistake."""
    source = CORRECT.read_text(encoding="utf-8").replace(
        "gamma * lam * later", "gamma * (lam if rewards.shape[1] > 5 else 1) * later")
    found = verdict(adapter(source), "gae")
    assert found.faults and "decay-without-lambda" not in found.named
    assert [one.told > one.equalled > 0 for one in found.likenesses
            if one.flag == "decay-without-lambda"] == [True]


def test_a_likeness_explains_half_of_the_tests_that_tell_it(adapter):
    """λ missing in the longest row alone: one of four tests, which explains nothing."""
    source = CORRECT.read_text(encoding="utf-8").replace(
        "gamma * lam * later", "gamma * (lam if rewards.shape[1] < 20 else 1) * later")
    found = verdict(adapter(source), "gae")
    assert [case.test.id for case in found.faults] == ["gae-zeroed-long-row"]
    assert "decay-without-lambda" in found.faults[0].test.mistakes and not found.likenesses


def test_a_name_that_explains_less_than_a_better_one_is_not_given(adapter):
    """A recursion over pads is NaN where NaN stands in one, as a multiplied mask is."""
    source = CORRECT.read_text(encoding="utf-8").replace(
        "    rewards, values = np.where(mask, rewards, 0)",
        "    mask = mask | True\n    rewards, values = np.where(mask, rewards, 0)", 1)
    assert verdict(adapter(source), "gae").named == ("masked-after-the-recursion",)


def test_digits_of_float32_are_told_as_such(adapter):
    source = ("def token_logprobs(logits, tokens, temperature):\n"
              "    z = logits[:, :-1].astype('f4') / np.float32(temperature)\n"
              "    z = z - z.max(-1, keepdims=True)\n"
              "    z = z - np.log(np.exp(z).sum(-1, keepdims=True))\n"
              "    return np.take_along_axis(z, tokens[:, 1:, None], -1)[..., 0]")
    found = verdict(adapter(source), "token_logprobs")
    assert any("after float32's digits" in case.fault for case in found.faults)
    session = Local(open_adapter(adapter(source)), float32=True)
    assert not examine(session, "token_logprobs", groups_of(load("token_logprobs"),
                                                            "minirlhf")).faults


def test_values_alone_are_checked_where_a_numpy_function_has_no_gradient(adapter, capsys):
    source = "def exact_kl(logits, ref_logits):\n    " + (
        "p, q = (x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) "
        "- x.max(-1, keepdims=True) for x in (logits, ref_logits))\n"
        "    return np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0).sum(-1)\n")
    assert cli.main(["verify", adapter(source)]) == 0
    assert "of exact_kl values only, since NumPy has no gradients" in capsys.readouterr().out
    wrong = source + "def exact_kl_grad(logits, ref_logits, cotangent):\n    return 0 * logits\n"
    assert cli.main(["verify", adapter(wrong)]) == 1
    assert "it differs in the gradient of logits" in capsys.readouterr().out


def test_a_function_that_has_made_a_choice_itself_is_measured_by_that_choice(adapter, capsys):
    path = adapter("def kl_estimate(logprobs, ref_logprobs):\n"
                   "    d = logprobs - ref_logprobs\n    return np.expm1(-d) + d")
    assert cli.main(["verify", path]) == 0
    assert "matched (kl.est = k3)" in capsys.readouterr().out


def test_a_system_that_is_not_known_is_refused_with_those_that_are(capsys):
    assert cli.main(["verify", "minirlhf", "--preset", "trl"]) == 2
    assert "unknown preset 'trl'; choose" in capsys.readouterr().err
    assert {"trl-ppo", "openrlhf", "verl-2026-08"} <= set(systems())


@pytest.mark.parametrize("body, group, flag", [
    ("ref_logprobs - logprobs", "k1", "kl-direction-swapped"),
    ("(logprobs - ref_logprobs) ** 2", "k2", "half-missing"),
    ("np.expm1(logprobs - ref_logprobs) - (logprobs - ref_logprobs)", "k3",
     "kl-direction-swapped"),
])
def test_a_mistake_in_what_it_has_chosen_is_named(adapter, body, group, flag):
    source = f"def kl_estimate(logprobs, ref_logprobs):\n    return {body}"
    found = verdict(adapter(source), "kl_estimate")
    assert [one.name for one in found.groups] == [group] and flag in found.named


GROUPS = """
def group_advantages(scores, group_size):
    groups = scores.reshape(-1, group_size)
    gap, deviation = groups - groups.mean(1, keepdims=True), groups.std(1, ddof=1, keepdims=True)
    return (gap / (deviation + {eps})).ravel()
"""


@pytest.mark.parametrize("eps", ["1e-8", "1e-6"])
def test_what_comes_near_to_no_choice_is_measured_by_the_default(adapter, capsys, eps):
    """Divided by the sample deviation as the core group is, but with another ε: nothing is said of
    the group that is not divided at all."""
    path = adapter(GROUPS.format(eps=eps))
    assert [group.name for group in verdict(path, "group_advantages").groups] == ["core"]
    cli.main(["verify", path])
    told = capsys.readouterr().out
    assert "grpo.std" not in told and ("grpo.eps = 1e-06" in told) == (eps == "1e-6")


def test_what_an_argument_chooses_is_no_departure(adapter, capsys):
    """The log-ratio's sign is wrong, which k2 does not show: no convention, a bug."""
    path = adapter("def kl_estimate(logprobs, ref_logprobs, estimator):\n"
                   "    d = ref_logprobs - logprobs\n"
                   "    return {'k1': d, 'k2': d * d / 2}.get(estimator, np.expm1(-d) + d)")
    assert cli.main(["verify", path]) == 1
    told = capsys.readouterr().out
    assert "another convention" not in told and "differs: kl-direction-swapped" in told


MULTIPLIED = """
def whiten(x, mask, shift_mean):
    mu = (x * mask).sum() / mask.sum()
    variance = ((x - mu) ** 2 * mask).sum() / (mask.sum() - 1)
    y = (x - mu) / np.sqrt(variance + 1e-8)
    return np.where(mask, y if shift_mean else y + mu, 0)
"""


def test_nan_under_a_mask_is_told_as_such_and_is_no_other_convention(adapter, capsys):
    """TRL's whitening as it is released: everything is right but where NaN stands in a pad."""
    path = adapter(MULTIPLIED)
    assert cli.main(["verify", path, "--preset", "trl-ppo"]) == 1
    told = capsys.readouterr().out
    assert "matched but for overflow and NaN under masks; 1 test left out" in told
    assert "whiten matches but for overflow and NaN under masks: 1 of 9 tests" in told
    assert "equals the mistake mask-multiplied" in told and "another" not in told
    assert cli.main(["identify", path]) == 0
    assert "whiten  (trl-ppo)" in capsys.readouterr().out


def test_what_is_finite_and_wrong_under_a_mask_is_no_matter_of_robustness(adapter):
    """1 more wherever there is a pad: wrong in the test of junk too, but not by NaN."""
    path = adapter(MULTIPLIED.replace("(x - mu) /", "(not mask.all()) + (x - mu) /"))
    wrong = verdict(path, "whiten", "trl-ppo")
    assert not wrong.brittle and "mask-multiplied" in wrong.named
    path = adapter(WHITEN.format(ddof=1).replace("return np", "return (not mask.all()) + np"))
    wrong = verdict(path, "whiten", "trl-ppo")
    assert wrong.faults and not any(case.brittle for case in wrong.faults)


# --- whatever an adapter does is that test's outcome ---------------------------------------------

MISBEHAVIOUR = """
import os, signal, sys, time
print("printed while it is imported")
def gae(rewards, values, mask, gamma, lam):
    print("printed while it runs")
    return {}["missing"]
def whiten(x, mask, shift_mean): time.sleep(60)
def sft_loss(logprobs, mask): return None
def entropy(logits, mask): sys.exit(3)
def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta): os._exit(3)
def exact_kl(logits, ref_logits): os.kill(os.getpid(), signal.SIGKILL)
def kl_estimate(logprobs, ref_logprobs): return (logprobs - ref_logprobs)[None]
def token_logprobs(logits, tokens, temperature): return "a string"
def leave_one_out_advantages(scores, group_size): return {"a": scores}
def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon): return [[1.0], [1, 2]]
def clip_by_global_norm(grads, max_norm): return grads
def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    return beta * (1 + np.clip(observed_kl / target_kl - 1, -0.2, 0.2) * n / horizon)
def penalized_rewards(scores): return scores
"""
SAID = {
    "gae": "raised adapter.py, line 7: KeyError: 'missing'",
    "whiten": "was not done after 0.5 s",
    "sft_loss": "returned None; wanted loss",
    "entropy": "called sys.exit(3)",
    "dpo_loss": "ended the process (status 3)",
    "exact_kl": "ended the process (SIGKILL)",
    "kl_estimate": "returned the shape (1, 1) for kl, wanted (1,)",
    "token_logprobs": "returned a str for logprobs; wanted real numbers",
    "leave_one_out_advantages": "for advantages, wanted (4,)",
    "kl_controller": "returned no array for beta: ",
    "clip_by_global_norm": "returned dict; wanted 2: grads, norm",
    "penalized_rewards": "takes (scores); wanted are scores, logprobs, ref_logprobs, mask, beta",
}


def test_whatever_a_function_does_is_its_own_outcome_and_the_others_are_checked(adapter, capsys):
    assert cli.main(["verify", adapter(MISBEHAVIOUR), "--timeout", "0.5", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)              # nothing printed gets into it
    found = {one["function"]: one for one in report["functions"]}
    assert found.pop("adaptive_beta")["verdict"] == "matched"
    assert set(found) == set(SAID)
    for name, said in SAID.items():
        assert found[name]["verdict"] == "differs" and found[name]["matched"] == 0
        assert any(said in case["fault"] for case in found[name]["failing"]), name
    hung = [case["fault"] for case in found["whiten"]["failing"]]
    assert hung[2:] == ["not run: it hung or ended the process before"] * (len(hung) - 2)


def test_a_function_that_raises_now_and_then_follows_no_other_convention(adapter, capsys):
    path = adapter("def exact_kl(logits, ref_logits): raise KeyError\n" + WHITEN.format(ddof=0)
                   .replace("    mu, v", "    if x.size > 6: raise KeyError(x.size)\n    mu, v"))
    assert cli.main(["verify", path]) == 1
    told = capsys.readouterr().out
    assert "another convention" not in told and "it raised adapter.py, line " in told


def test_what_an_adapter_writes_into_its_inputs_reaches_no_other_test(adapter):
    path = adapter("def exact_kl(logits, ref_logits):\n    logits[:] = 7\n    return logits[:, 0]")
    file, group = load("exact_kl"), load("exact_kl").groups[0]
    with Session(path) as session:
        before = [test.inputs["logits"].copy() for test in group.tests]
        replies = [session.ask(file, group, group.tests[0]) for _ in range(2)]
    assert replies[0] == replies[1] and replies[0].values["kl"] == [7.0] * len(before[0])


@pytest.mark.parametrize("source, said", [
    ("x = 1\ny = x +\n", "adapter.py, line 3: invalid syntax"),
    ("import nonsense_of_no_one\n", "adapter.py, line 2: ModuleNotFoundError"),
    ("def f():\n    raise KeyError('q')\nf()\n", "adapter.py, line 3: KeyError: 'q'"),
    ("raise SystemExit(0)\n", "adapter.py, line 2: SystemExit: 0"),
    ("import os\nos._exit(4)\n", "ended the process (status 4)"),
    ("def gea(rewards): pass\n", "gea is nearly gae"),
    ("framework = 'tf'\ndef gae(rewards): pass\n", "framework = 'tf' in the adapter"),
])
def test_an_adapter_that_cannot_be_used_is_one_message_and_status_2(adapter, capfd, source, said):
    assert cli.main(["verify", adapter(source)]) == 2
    told = capfd.readouterr()
    assert told.out == "" and said in told.err
    assert told.err.startswith("minirlhf: ") and told.err.count("\n") == 1


@pytest.mark.parametrize("words, said", [
    (["nothing_there.py"], "there is no file nothing_there.py"),
    (["no_such_module"], "there is no module no_such_module"),
    ([str(CORRECT), "--timeout", "0"], "must be above 0"),
    ([str(CORRECT.with_name("nothing"))], "there is no module"),
    ([str(ROOT / "LICENSE")], "does not end in .py"),
    (["."], ". is a folder; an adapter is a file that ends in .py"),
    ([".adapter"], "there is no file .adapter"),
    ([], "give either an ADAPTER.py or --trace ARRAYS"),
    (["minirlhf", "--trace", "x.npz"], "give either an ADAPTER.py or --trace ARRAYS"),
    (["minirlhf", "--rtol", "1"], "go with --trace"),
    (["--trace", "nothing.npz"], "nothing.npz"),
])
def test_a_mistake_in_the_command_is_one_message_and_status_2(words, said, capsys):
    assert cli.main(["verify", *words]) == 2
    assert said.lower() in capsys.readouterr().err.lower()


def test_a_trace_is_compared_by_the_same_command(capsys):
    arrays = str(V1 / "grpo_step" / "trace.safetensors")
    assert cli.main(["verify", "--trace", str(V1 / "ppo_step"), "--step", "ppo_step"]) == 0
    assert cli.main(["verify", "--trace", arrays, "--json"]) == 0
    assert capsys.readouterr().out


def test_the_help_shows_an_adapter(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", "--help"])
    told = capsys.readouterr().out
    assert not end.value.code and "# adapter.py" in told and 'framework = "torch"' in told


@pytest.mark.parametrize("command", ["verify", "conventions"])
def test_the_help_tells_one_default_of_each_option(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert not any(twice in told for twice in ("(default: )", ") (default: ", "(default: None)"))


def test_gradients_of_a_function_that_never_returned_are_not_called_checked(adapter, capsys):
    path = adapter("framework = 'minirlhf'\ndef sft_loss(logprobs, mask): raise KeyError\n")
    assert verdict(path, "sft_loss").gradients is None
    cli.main(["verify", path])
    assert "checked" not in capsys.readouterr().out


# --- JSON ----------------------------------------------------------------------------------------

def test_the_json_is_as_its_schema_says(adapter, capsys):
    sources = [CORRECT.read_text(encoding="utf-8"), WHITEN.format(ddof=1),
               "def sft_loss(logprobs, mask): return np.nan"]
    for source in sources:
        cli.main(["verify", adapter(source), "--json"])
        report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        jsonschema.Draft202012Validator(SCHEMA).validate(report)
    broken = report | {"passed": "no"}
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(broken))


# --- how a function may take its arguments -------------------------------------------------------

@pytest.mark.parametrize("function, takes, by_name", [
    (lambda lam, gamma, mask, values, rewards: 0, "all", True),
    (lambda r, v, m, g, l: 0, "all", False),  # noqa: E741
    (lambda rewards, values, m, gamma, lam_: 0, "all", False),
    (lambda rewards, values, mask, gamma, lam, more=1: 0, "all", True),
    (lambda **inputs: 0, "all", True),
    (lambda *inputs: 0, "all", False),
    (lambda mask, rewards, values: 0, None, True),
    (lambda r, v, m: 0, None, True),
    (lambda v, rewards, m, g, l: 0, None, True),  # noqa: E741
])
def test_arguments_go_by_the_files_names_or_in_its_order(function, takes, by_name):
    fits = fitted(function, load("gae"))
    if takes is None:
        assert "wanted are rewards, values, mask, gamma, lam" in fits.problem
    else:
        assert fits.takes == tuple(a.name for a in load("gae").arguments) or set(
            fits.takes) == {a.name for a in load("gae").arguments}
        assert fits.by_name == by_name and fits.problem is None


def test_an_optional_argument_that_is_not_had_leaves_its_tests_out(adapter):
    source = "def sft_loss(logprobs, mask): return -logprobs[mask].mean()"
    found = verdict(adapter(source), "sft_loss")
    assert found.kind == "matched" and {
        name for test in found.left_out for name in test.inputs} >= {"count", "micro_batches"}
    assert all(set(case.test.inputs) == {"logprobs", "mask"} for case in found.judged)


def test_an_optional_argument_that_is_insisted_on_is_none_where_a_test_has_none():
    by_place = fitted(lambda a, b, n: n, load("sft_loss"))
    by_name = fitted(lambda count, mask, logprobs: count, load("sft_loss"))
    for function in (by_place, by_name):
        assert function({"logprobs": 1, "mask": 2}) is None
        assert function({"logprobs": 1, "mask": 2, "count": 3}) == 3


def test_results_come_as_a_tuple_or_by_name():
    file, group = load("gae"), load("gae").groups[0]
    correct = open_adapter(str(CORRECT)).functions["gae"].call
    forms = [lambda **x: correct(**x), lambda **x: list(correct(**x)),
             lambda **x: dict(zip(("advantages", "returns"), correct(**x), strict=True))]
    adapter = open_adapter(str(CORRECT))
    for form in forms:
        adapter.functions["gae"] = Function(form, tuple(a.name for a in file.arguments))
        assert Local(adapter).ask(file, group, group.tests[0]).problem is None


def test_the_framework_is_what_the_module_says_or_has_imported():
    class Plain:
        value = 1

    class Said:
        framework = "jax"
    assert framework_of(Plain) is FRAMEWORKS["numpy"] or "torch" in sys.modules
    assert framework_of(Said) is FRAMEWORKS["jax"]


# --- telling -------------------------------------------------------------------------------------

def test_numbers_are_shown_as_they_are_typed_and_long_arrays_cut():
    assert shown(np.array([[0.1, 2.0], [np.nan, -np.inf]])) == "[[0.1, 2], [nan, -inf]]"
    assert shown({"a": [1.5]}) == "{'a': [1.5]}" and shown(True) == "True"
    assert shown(np.zeros(1000)).count("0") == 60 and "…" in shown(np.zeros(1000))


def test_a_reply_of_another_shape_or_value_or_gradient_is_a_fault():
    file = load("exact_kl")
    group = file.groups[0]
    test = next(test for test in group.tests if test.expected.gradients)
    values = {"kl": test.expected.values["kl"].value.tolist()}
    slopes = {"logits": test.expected.gradients["logits"].value.tolist()}
    assert judge(group, test, Reply(values, slopes), False).matched
    assert judge(group, test, Reply(values, None), False).matched
    off = {"logits": (test.expected.gradients["logits"].value + 0.1).tolist()}
    for wrong in (Reply({"kl": [values["kl"]]}, slopes), Reply({"kl": [9.0] * 9}, slopes),
                  Reply(values, off), Reply(problem="raised")):
        assert not judge(group, test, wrong, False).matched


def test_nothing_but_frameworks_knows_torch_and_jax():
    """The help and the explanation of adapters show one that imports it."""
    found = {path.name for path in (ROOT / "minirlhf").rglob("*.py") for line in
             path.read_text(encoding="utf-8").splitlines()
             if line.strip() in ("import torch", "import jax")}
    assert found - {"adapters.py", "verify_command.py"} == {"frameworks.py"}

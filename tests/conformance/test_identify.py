"""Laws of `minirlhf identify`: whoever follows a convention is told so, and what cannot be told
apart is said to be open.

The implementations identified here are the witness's formulas, under the answers of every group:
written apart from the package, they are given every input of a file, not those of their group only.
"""

import json
import sys
from pathlib import Path

import pytest

from minirlhf import cli
from minirlhf.conformance.adapters import Adapter, Function, fitted, open_adapter
from minirlhf.conformance.examine import examine
from minirlhf.conformance.frameworks import FRAMEWORKS
from minirlhf.conformance.identify import identify, read
from minirlhf.conformance.runner import Local, Reply
from minirlhf.conformance.systems import consistent, groups_of
from minirlhf.conformance.telling import identified_lines
from minirlhf.conformance.variants import FORMULAS, formula
from minirlhf.conformance.vectors import functions, load
from minirlhf.conformance.verdict import judge
from minirlhf.ops import exp

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from vectors.building import prepared  # noqa: E402
from vectors.everything import FAMILIES  # noqa: E402
from vectors.witness import leaves, like, rounded  # noqa: E402

GROUPS = [(name, group) for name, family in FAMILIES.items() for group in family.groups]
every_group = pytest.mark.parametrize("name, group", GROUPS,
                                      ids=[f"{name}-{group.name}" for name, group in GROUPS])

# Groups whose answers give the same values, so that only gradients tell them apart, with the axes
# on which they differ; and groups that differ on an axis that means nothing beside their other
# answers: the clamps of k3 beside k1, and a clamp of the log-ratio where values are clamped anyway.
BY_GRADIENTS = {
    ("kl_estimate", "k1"): {"kl.est", "kl.clamp"}, ("kl_estimate", "k1-plus"):
    {"kl.est", "kl.clamp"}, ("kl_estimate", "k1-beside-clamped-k3"): {"kl.est", "kl.clamp"},
    ("kl_estimate", "k3"): {"kl.est"}, ("kl_estimate", "k3-plus"): {"kl.est"},
    ("kl_loss", "k3"): {"kl.weight"}, ("kl_loss", "unbiased"): {"kl.weight"},
}
BY_NOTHING = {
    ("kl_estimate", "k3-clamped"): {"kl.clamp"}, ("kl_estimate", "k3-clamped-twice"): {"kl.clamp"},
    ("penalized_rewards", "core"): {"kl.clamp"}, ("penalized_rewards", "verl"): {"kl.clamp"},
}
OPEN = BY_GRADIENTS | BY_NOTHING


def replay(family, group) -> list:
    """Every test of a file, answered by the witness's formula under a group's answers."""
    file = load(family.function)
    cases = {f"{family.function}-{other.name}-{case.name}".replace("_", "-"): case
             for other in family.groups for case in family.cases}
    return [judge(other, test, answer(family, group, cases[test.id].inputs), False)
            for other in file.groups for test in other.tests]


def answer(family, group, inputs) -> Reply:
    """A formula that divides by nothing, and a group of one where that is refused, are errors."""
    if "refused" in group.convention.values() and inputs["group_size"] == 1:
        return Reply(problem="raised ValueError", refused=True)
    try:
        out = rounded(family.formula(prepared(family, inputs), group.convention))
    except ZeroDivisionError:
        return Reply(problem="raised ZeroDivisionError", refused=True)
    return Reply({name: like(tree, [7.7 if x is None else float(x) for x in leaves(tree)])
                  for name, tree in out.items()})


@every_group
def test_whoever_follows_a_group_is_identified_by_its_answers(name, group):
    file = load(name)
    takes = tuple(argument.name for argument in file.arguments if not argument.axis)
    found = read(file, replay(FAMILIES[name], group), [], takes)
    assert group.convention in found.answers
    apart = {axis for axis in group.convention if len(found.of(axis)) > 1}
    assert apart == OPEN.get((name, group.name), set())
    assert bool(found.settle) == ((name, group.name) in BY_GRADIENTS)
    assert set(group.systems) <= set(consistent(file, found))


def as_adapter(name, function, *choices) -> Local:
    """One function on this package's Tensors, so that its gradients are had."""
    takes = tuple(a.name for a in load(name).arguments if not a.axis or a.name in choices)
    return Local(Adapter("here", FRAMEWORKS["minirlhf"], {name: Function(function, takes)}))


@pytest.mark.parametrize("name, group", BY_GRADIENTS)
def test_gradients_close_what_values_leave_open(name, group):
    """All but one: k1 beside a clamped k3 is k1, until somebody asks for k3."""
    wanted = next(one for one in load(name).groups if one.name == group).parameters
    found = identify(as_adapter(name, formula(name, wanted)), name)
    assert wanted in found.answers and found.settle == ()
    if group in ("k1", "k1-beside-clamped-k3"):
        assert found.of("kl.est") == ("k1",) and set(found.of("kl.clamp")) == {"none", "k3"}
    else:
        assert len(found.answers) == 1


# --- answers that nobody joins, refusals, mistakes -----------------------------------------------

@pytest.mark.parametrize("name, changes", [
    ("clipped_surrogate_loss", {"pg.dual_clip": 3.0, "agg": "seq-mean-token-sum"}),
    ("clipped_surrogate_loss", {"pg.clip_high": 0.28, "agg": "token-sum-over-width"}),
    ("whiten", {"whiten.ddof": 1, "whiten.eps": "floor"}),
    ("whiten", {"whiten.mask": "all-slots", "whiten.eps": "outside", "whiten.shift": "inverted"}),
    ("penalized_rewards", {"score.place": "row-end", "kl.est": "k2"}),
])
def test_answers_that_no_known_system_joins_are_found(name, changes):
    answers = load(name).groups[0].parameters | changes
    assert answers not in [group.parameters for group in load(name).groups]
    found = identify(as_adapter(name, formula(name, answers)), name)
    assert answers in found.answers and consistent(load(name), found) == ()
    assert all(found.of(axis) == (answer,) for axis, answer in changes.items())
    assert len(found.answers) <= (2 if "kl.clamp" in answers else 1)


def test_what_a_function_refuses_leaves_open_and_is_told_as_what_would_settle_it():
    found = identify(Local(open_adapter("minirlhf")), "gae")
    assert found.of("gae.mask") == ("zeroed", "skipped")
    assert found.settle == ("gae-zeroed-gaps-gap", "gae-skipped-gap")


def test_an_argument_that_chooses_is_told_with_what_it_offers():
    found = identify(Local(open_adapter("minirlhf")), "kl_estimate")
    assert found.chosen == {"kl.est": ("k1", "k2", "k3")}
    assert found.answers == ({"kl.clamp": "none"},)


def ignoring(logprobs, ref_logprobs, estimator):
    return logprobs - ref_logprobs


def test_an_argument_that_is_ignored_is_told_by_the_answers_that_are_not_met():
    found = identify(as_adapter("kl_estimate", ignoring, "estimator"), "kl_estimate")
    assert found.chosen == {"kl.est": ("k1",)}
    assert {"kl.est": "k2"} in found.unmet and {"kl.est": "k3"} in found.unmet
    assert "but results contradict what it is told by kl.est = k2, kl.est = k3" in "\n".join(
        identified_lines(load("kl_estimate"), found))


def falling_through(logprobs, ref_logprobs, estimator):
    """Right for k1, k2 and k3; k3+, of the same value with another gradient, is k3 as well."""
    k = logprobs - ref_logprobs
    return k if estimator == "k1" else 0.5 * k * k if estimator == "k2" else exp(-k) - 1 + k


def test_no_other_answers_are_sought_where_only_gradients_are_wrong():
    """Their formulas give values, and so would be followed."""
    found = identify(as_adapter("kl_estimate", falling_through, "estimator"), "kl_estimate")
    assert found.chosen == {"kl.est": ("k1", "k2", "k3")} and found.answers == (
        {"kl.clamp": "none"},)
    assert {"kl.est": "k3+"} in found.unmet


def test_refusal_is_an_answer_where_the_axis_has_it():
    found = identify(Local(open_adapter("minirlhf")), "leave_one_out_advantages")
    assert found.answers == ({"rloo.std": "none", "rloo.singleton": "refused"},)


def negated(rewards, values, mask, gamma, lam):
    advantages, returns = formula("gae", {"gae.mask": "skipped"})(rewards, -values, mask, gamma,
                                                                  lam)
    return advantages, returns


def test_who_follows_nothing_is_told_what_is_nearest():
    found = identify(as_adapter("gae", negated), "gae")
    assert found.answers == () and found.nearest is not None
    assert 0 <= found.nearest.fit < found.nearest.asked


def halved(scores, group_size):
    """The sum of the others divided by the size of the group, itself included."""
    groups = scores.reshape(-1, group_size)
    return (groups - (groups.sum(1, keepdims=True) - groups) / group_size).ravel()


def test_who_follows_nothing_makes_the_mistakes_that_verify_names():
    """What is nearest is another group, which tells nothing of it."""
    name = "leave_one_out_advantages"
    session = Local(Adapter("here", FRAMEWORKS["numpy"], {name: fitted(halved, load(name))}))
    found = identify(session, name)
    told = examine(session, name, groups_of(load(name), "minirlhf"))
    assert told.named == ("divided-by-the-group-size",)
    assert found.nearest.group != "core" and found.nearest.likenesses == told.likenesses


def test_a_function_that_always_raises_is_not_identified():
    def broken(**inputs):
        raise RuntimeError("not today")
    found = identify(as_adapter("gae", broken), "gae")
    assert found.answers == () and "not today" in found.problem


def test_every_file_has_a_formula_to_compare_with():
    assert set(functions()) == set(FORMULAS)


# --- what is not asked ---------------------------------------------------------------------------

def test_what_only_an_argument_could_ask_is_not_stated():
    """A margin that no argument brings, minibatches that no argument tells."""
    def loss(score_chosen, score_rejected):
        return formula("bradley_terry_loss", load("bradley_terry_loss").groups[0].parameters)(
            score_chosen, score_rejected)
    answers = load("whiten").groups[0].parameters

    def whitened(x, mask, shift_mean):
        return formula("whiten", answers)(x, mask, shift_mean)
    for name, function, axis in (("bradley_terry_loss", loss, "rm.margin"),
                                 ("whiten", whitened, "whiten.scope")):
        found = identify(having(name, function), name)
        assert found.of(axis) == () and axis not in found.answers[0] and len(found.answers) == 1
        assert f"{axis}: not asked" in "\n".join(identified_lines(load(name), found))
        assert all(found.of(other) == (answer,) for other, answer in
                   load(name).groups[0].parameters.items() if other != axis)
    assert {"trl-ppo", "cleanrl"}.isdisjoint(consistent(load("whiten"), found))


def having(name, function) -> Local:
    return Local(Adapter("here", FRAMEWORKS["minirlhf"], {name: fitted(function, load(name))}))


# --- the command ---------------------------------------------------------------------------------

ADAPTER = """
import numpy as np
def whiten(x, mask, shift_mean):
    mu, variance = x[mask].mean(), x[mask].var(ddof=1)
    y = (x - mu) / np.sqrt(variance + 1e-8)
    return np.where(mask, y if shift_mean else y + mu, 0)
def gae(rewards, values, mask, gamma, lam):
    advantages = np.zeros(rewards.shape)
    for row, real in enumerate(mask):
        later = after = 0
        for t in np.flatnonzero(real)[::-1]:
            later = rewards[row, t] + gamma * after - values[row, t] + gamma * lam * later
            advantages[row, t], after = later, values[row, t]
    return advantages, np.where(mask, advantages + values, 0)
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "adapter.py"
    file.write_text(ADAPTER, encoding="utf-8")
    return file


def test_the_command_says_the_answers_and_who_has_them(path, capsys):
    assert cli.main(["identify", str(path)]) == 0
    told = capsys.readouterr().out
    assert "gae  (verl-2026-01, verl-2026-08)\n  gae.mask = skipped: masked slots are" in told
    assert "whiten  (trl-ppo" in told and "whiten.ddof = 1: n − 1" in told
    assert "with verl-2026-01 in 1 of 2: not in whiten" in told
    assert "consistent in everything with no system that is known" in told


def test_the_command_prints_json(path, capsys):
    assert cli.main(["identify", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {one["function"]: one for one in report["functions"]}
    assert found["gae"]["axes"] == {"gae.mask": ["skipped"]} and report["framework"] == "numpy"
    assert "trl-ppo" in found["whiten"]["systems"]


def test_the_status_is_1_if_something_follows_nothing_and_2_if_there_is_nothing(path, capsys):
    path.write_text(ADAPTER.replace("gamma * lam", "gamma + lam"), encoding="utf-8")
    assert cli.main(["identify", str(path)]) == 1
    assert "follows no known convention; nearest is " in capsys.readouterr().out
    path.write_text("x = 1", encoding="utf-8")
    assert cli.main(["identify", str(path)]) == 2

"""Laws of what the vectors can tell: a mistake from what is right, a convention from another."""

import json
import re
from itertools import combinations

import numpy as np
import pytest
from vector_files import ALL, FILES, WITHOUT_CORE, every_file

from minirlhf.conformance import vectors
from minirlhf.conformance.vectors import Tolerance, departs, load, notes

# --- mistakes and conventions --------------------------------------------------------------------

def differ(a: vectors.Outcome, b: vectors.Outcome, tolerance: Tolerance) -> bool:
    """Whether b's values, or the gradients where both have some, can be told from a's."""
    parts = [(b.values, a.values)]
    if a.gradients and b.gradients:
        parts.append((b.gradients, a.gradients))
    return any(departs(leaf(got[name]), wanted[name], tolerance)
               for got, wanted in parts for name in wanted)


def leaf(got):
    """A Wanted's array; where nothing is compared, a value that no result equals."""
    if isinstance(got, dict):
        return {name: leaf(inner) for name, inner in got.items()}
    value = got.value.astype(float)
    value[~got.counts] = 3.1e33
    return value


@every_file
def test_every_mistake_can_be_told_from_what_is_right(function):
    for group in load(function).groups:
        for test in group.tests:
            assert set(test.flags) == set(test.mistakes)
            for flag, outcome in test.mistakes.items():
                assert differ(test.expected, outcome, test.tolerance), (test.id, flag)


def key(parameters: dict, name: str) -> str:
    return json.dumps({k: v for k, v in parameters.items() if k != name}, sort_keys=True)


def pairs_that_do_not_differ(function: str) -> list:
    """Pairs of answers to an axis, all others equal, that no input of the file tells apart."""
    file, raw = load(function), FILES[function]
    found = {}                           # (axis, others, inputs) -> {answer: test}
    for group, plain in zip(file.groups, raw["groups"], strict=True):
        for test, told in zip(group.tests, plain["tests"], strict=True):
            for axis in file.axes:
                place = (axis.name, key(group.parameters, axis.name),
                         json.dumps(told["inputs"], sort_keys=True))
                found.setdefault(place, {})[group.parameters[axis.name]] = test
    told_apart = {
        (place[0], frozenset(pair)) for place, answers in found.items()
        for pair in combinations(answers, 2)
        for one, other in (pair, pair[::-1])
        if differ(answers[one].expected, answers[other].expected, answers[one].tolerance)}
    return [(axis.name, *pair) for axis in file.axes for pair in combinations(axis.values, 2)
            if "refused" not in pair and (axis.name, frozenset(pair)) not in told_apart]


@every_file
def test_each_two_answers_to_an_axis_differ_on_some_input(function):
    assert pairs_that_do_not_differ(function) == []


def test_two_answers_that_never_differ_are_noticed(monkeypatch):
    function = "gae"
    raw = json.loads(json.dumps(FILES[function]))
    kept = [group for group in raw["groups"] if group["name"] != "through-p1"]
    monkeypatch.setitem(FILES, function, raw | {"groups": kept})
    whole = load(function)
    fewer = vectors.Vectors(**{**whole.__dict__, "groups": tuple(
        group for group in whole.groups if group.name != "through-p1")})
    monkeypatch.setattr(f"{__name__}.load", lambda name: fewer)
    assert ("gae.mask", "zeroed", "through-p1") in pairs_that_do_not_differ(function)


# --- numbers that others have worked out ---------------------------------------------------------

WORKED = {                          # from the rules of real systems, by hand or by another program
    "gae-zeroed-score-at-last-token": [0.822747, 0.766050, 0.699],
    "gae-through-p1-score-at-p1": [0.795673, 0.737550, 0.669, 0.600],
    "gae-through-p1-score-at-p1-with-kl": [0.778525, 0.719500, 0.650, 0.580],
    "gae-through-p2-score-at-p2-with-kl": [0.757091, 0.696938, 0.62625, 0.555, 0.5],
    "gae-none-score-at-row-end": [0.732655, 0.671216, 0.599175, 0.5265, 0.470],
    "whiten-sample-worked": [-1, 0, 1],
    "whiten-core-worked": [-1.2247, 0, 1.2247],
    "whiten-core-nearly-constant": [0, 0.09975, 0, -0.09975],
    "whiten-cleanrl-nearly-constant": [0, 1.2232, 0, -1.2232],
    "whiten-floor-nearly-constant": [0, 0.1000, 0, -0.1000],
    "group-advantages-core-worked": [-0.4999, -0.4999, -0.4999, 1.4997],
    "group-advantages-population-worked": [-0.57722, -0.57722, -0.57722, 1.7317],
    "group-advantages-eps-9-tiny-spread": [-0.49999, -0.49999, -0.49999, 1.49997],
    "group-advantages-verl-tiny-spread": [-0.4902, -0.4902, -0.4902, 1.4706],
    "group-advantages-floor-tiny-spread": [-0.024975, -0.024975, -0.024975, 0.074925],
    "kl-estimate-k3-half": [0.14872],
    "kl-estimate-k3-inverted-half": [0.10653],
    "kl-estimate-k1-clamped-far-below": [-10, -0.5],
    "aggregate-loss-core-worked": [4], "aggregate-loss-seq-mean-token-mean-worked": [6.25],
    "aggregate-loss-seq-mean-token-sum-worked": [10], "aggregate-loss-width-worked": [5],
    "aggregate-loss-constant-length-worked": [2.5], "aggregate-loss-trl-grpo-empty-row": [1.83333],
    "clipped-surrogate-loss-core-ratio-five": [5], "clipped-surrogate-loss-verl-ratio-five": [3],
    "adaptive-beta-core-worked": [0.151536], "adaptive-beta-core-token-mean-fed": [0.148464],
    "ipo-loss-sum-worked": [0], "ipo-loss-mean-worked": [18.49],
    "adamw-step-core-small-gradient": [-9.0909e-7], "adamw-step-tf-small-gradient": [-3.1523e-8],
    "nucleus-logprobs-sampler-worked": [-0.980829], "reward-to-go-reset-gap": [0, 5],
    "reward-to-go-skipped-gap": [5, 5], "penalized-rewards-core-worked": [-0.1, -0.1, 2.8],
    "bradley-terry-loss-core-worked": [0.287682], "dpo-loss-core-at-the-reference": [0.693147],
    "score-index-last-real-left-padded": [5], "score-index-before-the-first-pad-pad-is-end": [3],
}
BY_ID = {test.id: test for name in FILES for group in load(name).groups for test in group.tests}


@pytest.mark.parametrize("id", WORKED)
def test_numbers_worked_out_elsewhere_come_out(id):
    """Rounded as they were told.  Of GAE the advantages, and only where slots are compared."""
    first = next(iter(BY_ID[id].expected.values.values()))
    got = first.value[first.counts].tolist()
    assert got[:len(WORKED[id])] == pytest.approx(WORKED[id], rel=1e-4, abs=1e-12)


# --- notes ---------------------------------------------------------------------------------------

def test_every_flag_is_explained_and_every_note_is_used():
    assert {flag for test in ALL for flag in test["flags"]} == set(notes())


def test_a_note_says_what_goes_wrong_and_what_it_costs():
    for flag, note in notes().items():
        assert len(note.wrong.split()) >= 4 and len(note.costs.split()) >= 4, flag


def test_who_was_bitten_is_a_thread_or_a_place_in_a_public_repository():
    for flag, note in notes().items():
        for place in note.bitten:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+(#\d+| \S+, .+ \((read|found) .+\))", place), flag


def test_every_flag_shows_in_at_least_one_core_group_or_file_without_one():
    shown = {flag for name, file in FILES.items() for group in file["groups"]
             if group["core"] or name in WITHOUT_CORE
             for test in group["tests"] for flag in test["flags"]}
    assert shown == set(notes())


# --- systems -------------------------------------------------------------------------------------

def answers_of_systems(files: dict) -> dict:
    """{(system, axis): {answer: the files that say so}}."""
    answers = {}
    for name, file in files.items():
        for group in file["groups"]:
            for system in group["systems"]:
                for axis, answer in group["parameters"].items():
                    answers.setdefault((system, axis), {}).setdefault(answer, set()).add(name)
    return answers


def test_every_system_is_listed_with_its_commit_and_every_listed_one_is_used():
    named = {system for system, _ in answers_of_systems(FILES)} | {
        system for file in FILES.values() for group in file["groups"]
        for system in group["systems"]}
    assert named == set(vectors.systems())
    assert all(s.commit and s.repository for name, s in vectors.systems().items()
               if name != "minirlhf")


def test_a_system_answers_an_axis_the_same_in_all_files():
    assert {place: answers for place, answers in answers_of_systems(FILES).items()
            if len(answers) > 1} == {}


def test_a_system_that_contradicts_itself_is_noticed():
    files = {"a": {"groups": [{"systems": ["x"], "parameters": {"agg": "one"}}]},
             "b": {"groups": [{"systems": ["x"], "parameters": {"agg": "other"}}]}}
    assert len(answers_of_systems(files)["x", "agg"]) == 2


def swapped(function: str, **parameters: str) -> list[tuple[float, float]]:
    """(right, wrong) values wherever the direction of the KL is swapped, under these answers."""
    return [pair for group in load(function).groups for test in group.tests
            if parameters.items() <= {
                axis.split(".")[1]: answer for axis, answer in group.parameters.items()}.items()
            and "kl-direction-swapped" in test.mistakes
            for name, right in test.expected.values.items()
            for pair in zip(np.ravel(right.value), np.ravel(
                test.mistakes["kl-direction-swapped"].values[name].value), strict=True)]


def test_a_swapped_kl_is_a_reward_only_where_it_has_a_sign():
    """As its note says: k1 turns its sign; k3 and the exact KL are as little negative as ever."""
    assert all(wrong == -right for right, wrong in swapped("kl_estimate", est="k1"))
    assert swapped("kl_estimate", est="k2") == []
    for pairs in (swapped("kl_estimate", est="k3"), swapped("exact_kl"),
                  swapped("kl_loss", loss_est="k3")):
        assert pairs and all(wrong >= 0 for _, wrong in pairs)
    told = notes()["kl-direction-swapped"].costs
    assert "k1 pays for leaving" in told and "stay penalties" in told


# --- float32 -------------------------------------------------------------------------------------

def summed(z):
    """log Σ eᶻ, with the largest taken out."""
    top = z.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True))


RIGHT_ENTROPIES = {                     # of rows of logits, each equal to −Σ p log p
    "shifted": lambda z: plain(z - z.max(axis=-1, keepdims=True)),
    "not-shifted": lambda z: plain(z),
    "by-the-mean-logit": lambda z: summed(z)[..., 0] - weighed(np.exp(z - summed(z)), z)}


def plain(z):
    logp = z - summed(z)
    return -weighed(np.exp(logp), logp)


def weighed(p, x):
    return np.where(p > 0, p * np.where(p > 0, x, 0), 0).sum(axis=-1)


@pytest.mark.parametrize("form", RIGHT_ENTROPIES)
@pytest.mark.parametrize("id", ["entropy-core-large-logits", "entropy-core-shifted",
                                "entropy-core-arbitrary", "entropy-core-coin"])
def test_every_right_form_of_the_entropy_passes_in_float32(id, form):
    """log Σ eᶻ − Σ p·z loses of logits of 1000 the digits that the result has."""
    test = BY_ID[id]
    got = RIGHT_ENTROPIES[form](test.inputs["logits"].astype(np.float32)).mean()
    assert got.dtype == np.float32
    assert not departs(got, test.expected.values["entropy"], test.float32)


@pytest.mark.parametrize("id", ["entropy-core-large-logits", "entropy-core-shifted",
                                "exact-kl-core-large-logits"])
def test_a_loose_float32_still_tells_the_mistakes(id):
    test = BY_ID[id]
    assert test.float32.atol > 1e-5 and test.mistakes
    assert all(differ(test.expected, outcome, test.float32) for outcome in test.mistakes.values())


def test_the_kl_of_large_logits_passes_in_float32_without_a_shift():
    test = BY_ID["exact-kl-core-large-logits"]
    logp, logq = (z - summed(z) for z in (test.inputs[name].astype(np.float32)
                                          for name in ("logits", "ref_logits")))
    got = weighed(np.exp(logp), logp - logq)
    assert not departs(got, test.expected.values["kl"], test.float32)
    assert departs(got, test.expected.values["kl"], Tolerance(1e-4, 1e-5))

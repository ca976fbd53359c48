"""Laws of the test vectors: their form, their permanence, and that each can tell something.

The files are checked here for themselves; test_ours.py puts the package on trial by them, and
test_witness.py the program that computes them.
"""

import hashlib
import json
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest

from minirlhf.conformance import vectors
from minirlhf.conformance.vectors import V1, Tolerance, departs, functions, load, notes

RELEASED = Path(__file__).parent / "released.txt"
FILES = {name: json.loads((V1 / f"{name}.json").read_text(encoding="utf-8"))
         for name in functions()}
SCHEMA = json.loads((V1 / "schema.json").read_text(encoding="utf-8"))
WITHOUT_CORE = {"nucleus_logprobs", "score_without_end", "sft_mask", "normalized_scores",
                "reward_to_go", "ipo_loss"}

every_file = pytest.mark.parametrize("function", FILES)


def cases_of(file: dict) -> list[dict]:
    return [test for group in file["groups"] for test in group["tests"]]


ALL = [test for file in FILES.values() for test in cases_of(file)]


# --- form ----------------------------------------------------------------------------------------

def problems(file: dict) -> list[str]:
    return [problem.message for problem in
            jsonschema.Draft202012Validator(SCHEMA).iter_errors(file)]


@every_file
def test_a_file_is_as_the_schema_wants_it(function):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert problems(FILES[function]) == []
    assert FILES[function]["function"] == function


@pytest.mark.parametrize("change", [
    lambda file: file.pop("witness"),
    lambda file: file["groups"][0].pop("parameters"),
    lambda file: file["groups"][0]["tests"][0].pop("expected"),
    lambda file: file["groups"][0]["tests"][0].update(law="Upper case"),
    lambda file: file["groups"][0]["tests"][0].update(law="with a full stop."),
    lambda file: file["groups"][0]["tests"][0].update(more=1),
    lambda file: file["groups"][0]["tests"][0]["tolerance"].update(rtol=0),
    lambda file: file["groups"][0]["tests"][0]["expected"]["values"].update(advantages="NaN"),
    lambda file: file["arguments"][0].update(dtype="float16"),
])
def test_the_schema_refuses_what_is_not_so(change):
    file = json.loads(json.dumps(FILES["gae"]))
    change(file)
    assert problems(file)


def test_the_files_are_strict_json():
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")
    for path in V1.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_folder_holds_vectors_and_the_schema_only():
    assert {path.name for path in V1.iterdir()} == {"schema.json"} | {
        f"{name}.json" for name in FILES}


@every_file
def test_inputs_and_results_are_the_declared_ones_in_their_shapes(function):
    file = load(function)
    needed = {a.name for a in file.arguments if not a.optional and not a.axis}
    known = {a.name for a in file.arguments if not a.axis}
    for test in (test for group in file.groups for test in group.tests):
        assert needed <= set(test.inputs) <= known, test.id
        assert set(test.expected.values) == {r.name for r in file.results}, test.id
        letters = {}
        for about, value in [
                *((a, test.inputs[a.name]) for a in file.arguments if a.name in test.inputs),
                *((r, test.expected.values[r.name].value) for r in file.results
                  if r.shape != "tree")]:
            if about.shape.startswith("(") and about.dtype != "str":
                sizes = [word.strip() for word in about.shape.strip("()").split(",") if word]
                shape = getattr(value, "shape", ())
                assert len(shape) == len(sizes), (test.id, about.name, shape)
                for letter, size in zip(sizes, shape, strict=True):
                    if letter.isalpha():
                        assert letters.setdefault(letter, size) == size, (test.id, about.name)
        for name, gradient in (test.expected.gradients or {}).items():
            assert gradient.value.shape == getattr(test.inputs[name], "shape", ()), test.id


@every_file
def test_a_group_answers_every_axis_with_a_declared_value(function):
    file = FILES[function]
    axes = {axis["name"]: [v["value"] for v in axis["values"]] for axis in file["axes"]}
    for group in file["groups"]:
        assert set(group["parameters"]) == set(axes)
        assert all(value in axes[name] for name, value in group["parameters"].items())
    for name, values in axes.items():
        assert {group["parameters"][name] for group in file["groups"]} == set(values), name
    assert len({group["name"] for group in file["groups"]}) == len(file["groups"])


@every_file
def test_one_answer_is_ours_or_several_that_an_argument_chooses_or_none(function):
    """None in files about what this package does not do."""
    ours = [group["parameters"] for group in FILES[function]["groups"] if group["core"]]
    chosen = {a.get("axis") for a in FILES[function]["arguments"]}
    assert bool(ours) == (function not in WITHOUT_CORE)
    for one, other in combinations(ours, 2):
        assert {axis for axis in one if one[axis] != other[axis]} <= chosen


@every_file
def test_differentiated_arguments_have_gradients(function):
    """All but tests on a corner: those are few, and say that they are about values."""
    file = FILES[function]
    names = {a["name"] for a in file["arguments"] if a["differentiated"]}
    given = [test for test in cases_of(file) if "gradients" in test["expected"]]
    assert not names or len(given) >= 0.8 * len(cases_of(file))
    for test in given:
        assert set(test["expected"]["gradients"]) == names & set(test["inputs"])
        assert ("cotangent" in test["expected"]) == (
            [result["shape"] for result in file["results"]] != ["()"])


# --- permanence ----------------------------------------------------------------------------------

def test_ids_are_unique_and_laws_are_not_repeated_in_a_file():
    assert [i for i, n in Counter(test["id"] for test in ALL).items() if n > 1] == []
    for file in FILES.values():
        assert [law for law, n in Counter(t["law"] for t in cases_of(file)).items() if n > 1] == []


def digest(parameters: dict, test: dict) -> str:
    """Of what a released test must keep: conventions, inputs and expected results."""
    kept = [parameters, test["inputs"], test["expected"]]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def lines(files: dict) -> list[str]:
    return [f"{test['id']} {digest(group['parameters'], test)}"
            for file in files.values() for group in file["groups"] for test in group["tests"]]


def unkept(released: list[str], files: dict) -> list[str]:
    """Released tests that are gone, or say something else now."""
    return sorted(set(released) - set(lines(files)))


def test_no_released_test_is_gone_or_changed():
    """A new test gets a line in released.txt (its id and digest) when it is released."""
    released = RELEASED.read_text(encoding="utf-8").split("\n")
    assert unkept([line for line in released if line], FILES) == []


def test_every_test_is_released():
    released = RELEASED.read_text(encoding="utf-8").split("\n")
    assert sorted(set(lines(FILES)) - set(released)) == []


def test_a_removed_or_an_edited_test_is_noticed():
    released = lines(FILES)
    files = json.loads(json.dumps(FILES))
    files["gae"]["groups"][0]["tests"].pop()
    files["gae"]["groups"][0]["tests"][0]["inputs"]["gamma"] = 0.5
    assert len(unkept(released, files)) == 2


def test_there_are_at_least_three_hundred_tests():
    assert len(ALL) >= 300


# --- what they can tell --------------------------------------------------------------------------

def allowed(test: vectors.Test) -> Tolerance:
    return test.tolerance


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
    "aggregate-loss-constant-length-worked": [2.5],
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


# --- what is shipped -----------------------------------------------------------------------------

def test_every_json_file_is_in_the_wheel():
    root = vectors.FOLDER.parent.parent
    with open(root / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["minirlhf.conformance"]
    shipped = {path for pattern in patterns for path in vectors.FOLDER.glob(pattern)}
    assert shipped == set(vectors.FOLDER.rglob("*.json")) and len(shipped) > 20


# --- notes ---------------------------------------------------------------------------------------

def test_every_flag_is_explained_and_every_note_is_used():
    assert {flag for test in ALL for flag in test["flags"]} == set(notes())


def test_a_note_says_what_goes_wrong_and_what_it_costs():
    for flag, note in notes().items():
        assert len(note.wrong.split()) >= 4 and len(note.costs.split()) >= 4, flag


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


# --- the reader ----------------------------------------------------------------------------------

def test_an_unknown_function_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="gae"):
        load("gea")


def test_a_result_of_another_shape_or_beyond_the_tolerance_departs():
    wanted = vectors.wanted([[1.0, None], ["nan", "inf"]], "float")
    tolerance = Tolerance(1e-6, 1e-6)
    right = [[1.0, 7.0], [float("nan"), float("inf")]]
    assert not departs(right, wanted, tolerance)
    for wrong in ([[1.1, 7.0], right[1]], [right[0], [0.0, float("inf")]],
                  [right[0], [float("nan"), float("-inf")]], [right[0]], 1.0):
        assert departs(wrong, wanted, tolerance)
    tree = {"a": wanted}
    assert not departs({"a": right}, tree, tolerance)
    assert departs({"b": right}, tree, tolerance) and departs(right, tree, tolerance)

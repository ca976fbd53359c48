"""Laws of the test vectors: their form, their permanence, and that each can tell something.

The files are checked here for themselves; test_ours.py puts the package on trial by them, and
test_witness.py the program that computes them.
"""

import hashlib
import json
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

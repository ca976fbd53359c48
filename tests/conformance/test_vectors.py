"""Laws of the test vectors: their form and their permanence.

test_telling.py asks what they can tell, test_ours.py puts the package on trial by them, and
test_witness.py the program that computes them.
"""

import hashlib
import json
import math
import sys
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path

import jsonschema
import pytest
from vector_files import ALL, FILES, SCHEMA, WITHOUT_CORE, cases_of, every_file

from minirlhf.conformance import vectors as reader
from minirlhf.conformance.vectors import V1, Tolerance, departs, load

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from vectors.text import text  # noqa: E402

RELEASED = Path(__file__).parent / "released.txt"


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
    lambda file: file["arguments"][0].update(dtype="str"),
    lambda file: file["arguments"][0].update(optional=True),
    lambda file: file["arguments"][0].update(default=0.0),
    lambda file: file["groups"][0]["tests"][0]["inputs"].update(gamma="0.5"),
    lambda file: file["groups"][0]["tests"][0]["inputs"].update(gamma="NaN"),
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


@every_file
def test_a_file_read_and_written_again_is_the_same_text(function):
    """So floats are in their shortest form, and nothing else has been edited by hand."""
    assert text(FILES[function]) == (V1 / f"{function}.json").read_text(encoding="utf-8")


def test_the_folder_holds_vectors_and_the_schema_only():
    assert {path.name for path in V1.iterdir() if path.is_file()} == {"schema.json"} | {
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
def test_a_group_shares_tests_of_the_first_and_none_that_it_has_itself(function):
    first, *others = FILES[function]["groups"]
    inputs = {test["id"]: test["inputs"] for test in first["tests"]}
    assert first["shares"] == []
    for group in others:
        assert set(group["shares"]) <= set(inputs)
        own = [test["inputs"] for test in group["tests"]]
        assert [i for i in group["shares"] if inputs[i] in own] == []


def test_a_group_of_one_test_is_not_passed_by_what_passes_that():
    """0 for everything passes all that `zero-alone` has of its own, and nothing of what it shares
    but replies that all score alike."""
    file = load("leave_one_out_advantages")
    first, group = file.groups[0], next(g for g in file.groups if g.name == "zero-alone")
    assert set(group.shares) == {test.id for test in first.tests}

    def passed(test):
        return not departs(0 * test.inputs["scores"], test.expected.values["advantages"],
                           test.tolerance)
    assert all(map(passed, group.tests)) and len(group.tests) == 1
    assert sum(map(passed, first.tests)) <= 1


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
    released = RELEASED.read_text(encoding="utf-8").splitlines()
    assert unkept(released, FILES) == []


def test_every_test_is_released():
    """By its line in released.txt: id and digest."""
    released = RELEASED.read_text(encoding="utf-8").splitlines()
    new = [line for line in lines(FILES) if line not in set(released)]
    assert not new, "\n".join([f"append to {RELEASED.name}, if they are to stay:", *new])
    assert len(released) == len(set(released)) == len(ALL)


def test_a_removed_or_an_edited_test_is_noticed():
    released = lines(FILES)
    files = json.loads(json.dumps(FILES))
    files["gae"]["groups"][0]["tests"].pop()
    files["gae"]["groups"][0]["tests"][0]["inputs"]["gamma"] = 0.5
    assert len(unkept(released, files)) == 2


def test_there_are_at_least_three_hundred_tests():
    assert len(ALL) >= 300


# --- what is shipped -----------------------------------------------------------------------------

def test_every_json_file_is_in_the_wheel():
    root = reader.FOLDER.parent.parent
    with open(root / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["minirlhf.conformance"]
    shipped = {path for pattern in patterns for path in reader.FOLDER.glob(pattern)
               if path.suffix == ".json"}
    assert shipped == set(reader.FOLDER.rglob("*.json")) and len(shipped) > 20


# --- the reader ----------------------------------------------------------------------------------

def test_an_unknown_function_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="gae"):
        load("gea")


def test_a_result_of_another_shape_or_beyond_the_tolerance_departs():
    wanted = reader.wanted([[1.0, None], ["nan", "inf"]], "float")
    tolerance = Tolerance(1e-6, 1e-6)
    right = [[1.0, 7.0], [float("nan"), float("inf")]]
    assert not departs(right, wanted, tolerance)
    for wrong in ([[1.1, 7.0], right[1]], [right[0], [0.0, float("inf")]],
                  [right[0], [float("nan"), float("-inf")]], [right[0]], 1.0):
        assert departs(wrong, wanted, tolerance)
    tree = {"a": wanted}
    assert not departs({"a": right}, tree, tolerance)
    assert departs({"b": right}, tree, tolerance) and departs(right, tree, tolerance)


def right_by_the_schema(actual: float, wanted: float, tolerance: Tolerance) -> bool:
    """The rule as the schema words it, for one entry."""
    if math.isnan(wanted):
        return math.isnan(actual)
    if math.isinf(wanted):
        return actual == wanted
    return math.isfinite(actual) and (
        abs(actual - wanted) <= tolerance.atol + tolerance.rtol * abs(wanted))


@pytest.mark.parametrize("actual", [0.0, 1.0, 1.0 + 1e-7, -1.0, 1e308, math.inf, -math.inf,
                                    math.nan])
@pytest.mark.parametrize("expected", [0.0, 1.0, "inf", "-inf", "nan"])
def test_the_rule_of_the_schema_is_that_of_the_reader(actual, expected):
    """Where an infinity is wanted, atol + rtol·|wanted| would allow anything."""
    tolerance = Tolerance(1e-6, 1e-6)
    wanted = reader.wanted(expected, "float")
    assert departs(actual, wanted, tolerance) is not right_by_the_schema(
        actual, float(expected), tolerance)


def test_the_schema_says_what_equals_nan_and_infinity():
    told = SCHEMA["$defs"]["test"]["properties"]["tolerance"]["description"]
    assert "NaN is wanted only NaN" in told and "infinity is wanted only that infinity" in told

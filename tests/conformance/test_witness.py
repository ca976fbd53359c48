"""The witness on trial: it repeats itself byte for byte, differentiates rightly, refuses corners,
and knows nothing of the package's mathematics."""

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from vectors import clipped_surrogate_loss as surrogate  # noqa: E402
from vectors import witness  # noqa: E402
from vectors.building import build, departs, prepared  # noqa: E402
from vectors.everything import FAMILIES  # noqa: E402
from vectors.family import Case, numbers  # noqa: E402
from vectors.text import text  # noqa: E402
from vectors.witness import Tie, exact, exp, gradients, log_softmax, mpf, rounded, total  # noqa: E402

from minirlhf.conformance.vectors import V1  # noqa: E402

ANY = [family for family in FAMILIES.values()]


@pytest.mark.parametrize("function", FAMILIES)
def test_a_file_is_made_again_byte_for_byte(function):
    assert text(build(FAMILIES[function])).encode() == (V1 / f"{function}.json").read_bytes()


def test_every_file_has_its_family():
    assert {path.stem for path in V1.glob("*.json")} - {"schema"} == set(FAMILIES)


def test_the_witness_uses_nothing_of_the_package():
    for path in (SCRIPTS / "vectors").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [node.module] if isinstance(node, ast.ImportFrom) else [])
            assert {name.split(".")[0] for name in names} <= {
                "vectors", "mpmath", "collections", "dataclasses", "typing", "json", "math",
                "random", "struct", "functools", "itertools"}, path.name


# --- its defaults --------------------------------------------------------------------------------

def counted(mask: list, how: str) -> int:
    """How many slots count: the real ones, those and the first pad after the last, or all."""
    if how == "real":
        return sum(map(sum, mask))
    last = [max((t for t, real in enumerate(row) if real), default=-1) for row in mask]
    return sum(sum(row) + (t + 1 < len(row)) if how == "through-p1" else len(row)
               for row, t in zip(mask, last, strict=True))


RULES = {                                       # what the spelled-out defaults say, by hand
    "[B]": lambda x, c: [len(x["mask"])],
    "R": lambda x, c: len(x["mask"][0]),
    "N": lambda x, c: len(x.get("score_chosen", x.get("chosen"))),
    "sum(mask)": lambda x, c: counted(x["mask"], "real"),
    "sum(mask); only the answer token-mean to agg divides by it":
        lambda x, c: counted(x["mask"], "real"),
    "how many slots vf.mask counts: sum(mask) if these are the real ones":
        lambda x, c: counted(x["mask"], c["vf.mask"]),
    "how many slots ent.mask counts: sum(mask) if these are the real ones":
        lambda x, c: counted(x["mask"], c["ent.mask"]),
    "sum(mask), or that of each micro-batch where sft.reduce averages these":
        lambda x, c: None if c["sft.reduce"] == "micro-token-mean" else counted(x["mask"], "real"),
}


def other_than_left_out(family) -> set[str]:
    """The optional arguments whose default, given, changes a value of some case."""
    found = set()
    for argument in (a for a in family.arguments if a.optional):
        for group in family.groups:
            for case in family.cases:
                if case.groups and group.name not in case.groups or argument.name in case.inputs:
                    continue
                x, default = case.inputs, argument.default
                if isinstance(default, str):
                    default = RULES[default](x, group.convention)
                elif argument.shape == "(N)":
                    default = [default] * len(x["score_chosen"])
                given = x if default is None else x | {argument.name: default}
                without, made = (rounded(family.formula(prepared(family, inputs),
                                                        group.convention)) for inputs in (x, given))
                if departs(made, without, 1e-14, 1e-14):
                    found.add(argument.name)
    return found


@pytest.mark.parametrize("function", FAMILIES)
def test_an_optional_argument_left_out_has_its_default(function):
    assert other_than_left_out(FAMILIES[function]) == set()


def test_a_wrong_default_is_noticed():
    def changed(family, name, default):
        return replace(family, arguments=tuple(
            replace(a, default=default) if a.name == name else a for a in family.arguments))
    for function, name, wrong in (("entropy", "temperature", 2.0), ("entropy", "count", "R"),
                                  ("bradley_terry_loss", "margin", 1.0),
                                  ("aggregate_loss", "length", 1.0)):
        assert other_than_left_out(changed(FAMILIES[function], name, wrong)) == {name}


# --- its derivatives -----------------------------------------------------------------------------

def test_gradients_are_right_to_thirty_digits():
    """d/dz of Σ c·log softmax(z) is c − softmax(z)·Σ c, by hand."""
    z, c = exact([0.3, -1.2, 2.5]), [0.7, -0.2, 1.1]
    got = gradients(lambda x: {"y": log_softmax(x["z"])}, {"z": z}, ["z"], {"y": c})["z"]
    p = [exp(y) for y in log_softmax(z)]
    weight = total(map(mpf, c))
    for slope, c_i, p_i in zip(got, c, p, strict=True):
        assert abs(slope - (mpf(c_i) - p_i * weight)) < mpf(10) ** -29


def test_small_slopes_beside_none_are_kept():
    """softplus(−200) has a slope of e⁻²⁰⁰, which is not 0."""
    got = gradients(lambda x: {"y": witness.log1p(exp(x["x"]))}, {"x": mpf(-200)}, ["x"])["x"]
    assert abs(got / exp(mpf(-200)) - 1) < 1e-15


@pytest.mark.parametrize("x", ["0", "1e-9", "-1e-9"])
def test_a_gradient_at_or_beside_a_corner_is_refused(x):
    with pytest.raises(Tie):
        gradients(lambda v: {"y": witness.larger(v["x"], mpf(0))}, {"x": mpf(x)}, ["x"])


def test_a_corner_whose_sides_have_one_slope_is_none():
    got = gradients(lambda v: {"y": witness.smaller(0 * v["x"], 0 * v["x"] ** 2)},
                    {"x": mpf(2)}, ["x"])["x"]
    assert got == 0


def test_a_gradient_through_a_masked_slot_is_refused():
    with pytest.raises(ValueError, match="masked slot"):
        gradients(lambda v: {"y": v["x"] + v["junk"] * 0}, {"x": mpf(1), "junk": mpf("nan")}, ["x"])


@pytest.mark.parametrize("log_ratio, advantage", [(0.1823215567939546, 1.0), (-0.2231435513142097,
                                                                              -1.0)])
def test_a_case_on_the_clip_bound_is_refused_a_gradient(log_ratio, advantage):
    """log 1.2 and log 0.8, as near as float64 comes."""
    tie = Case("tie", "on the bound", surrogate.one(log_ratio, advantage))
    with pytest.raises(Tie):
        build(replace(surrogate.FAMILY, cases=(tie,), groups=surrogate.GROUPS[:1]))
    build(replace(surrogate.FAMILY, cases=(replace(tie, gradients=False),),
                  groups=surrogate.GROUPS[:1]))


def test_numbers_are_rounded_once():
    """To the even neighbour halfway between two floats, and not twice where floats are coarse."""
    half = mpf(2) ** -53
    assert witness.nearest(1 + half) == 1 and witness.nearest(1 + 3 * half) == 1 + 2 ** -51
    assert witness.nearest(1 + half + mpf(2) ** -150) == 1 + 2 ** -52
    smallest = mpf(2) ** -1074
    assert witness.nearest(smallest * mpf("1.5000000000000000001")) == 2 * 2 ** -1074
    assert witness.nearest(smallest * mpf("1.4999999999999999999")) == 2 ** -1074
    assert witness.nearest(-exp(mpf(1000))) == float("-inf")
    assert witness.rounded({"a": [mpf("0.1"), True, 3, None]}) == {"a": [0.1, True, 3, None]}


# --- its cases -----------------------------------------------------------------------------------

def test_a_mistake_that_does_not_show_is_refused():
    blind = Case("blind", "nothing to see", surrogate.one(0.1, 1.0), ("clip-missing",))
    with pytest.raises(ValueError, match="clip-missing"):
        build(replace(surrogate.FAMILY, cases=(blind,), groups=surrogate.GROUPS[:1]))


def test_a_group_that_differs_on_no_case_is_refused():
    same = Case("same", "nothing to see", surrogate.one(0.1, 1.0))
    with pytest.raises(ValueError, match="dual-clip"):
        build(replace(surrogate.FAMILY, cases=(same,), groups=surrogate.GROUPS[:2]))


def test_every_mistake_of_a_family_is_used_by_a_case():
    for family in ANY:
        used = {flag for case in family.cases for flag in case.mistakes}
        assert used == set(family.mistakes), family.function


def test_arbitrary_numbers_are_always_the_same():
    assert numbers("a seed", 3) == [-0.409, -1.851, 1.062]
    assert numbers("a seed", 2, 2) != numbers("another", 2, 2)


def test_departures_are_noticed():
    nan = float("nan")
    assert not departs({"y": [1.0, nan, 5.0]}, {"y": [1.0, nan, None]}, 1e-9, 1e-9)
    for wrong in ([1.1, nan, 5.0], [1.0, 0.0, 5.0], [nan, nan, 5.0]):
        assert departs({"y": wrong}, {"y": [1.0, nan, None]}, 1e-9, 1e-9)
    infinity = float("inf")
    assert not departs({"y": [infinity]}, {"y": [infinity]}, 1e-9, 1e-9)
    for wrong in (1.0, -infinity, nan):
        assert departs({"y": [wrong]}, {"y": [infinity]}, 1e-9, 1e-9)
        assert departs({"y": [infinity]}, {"y": [wrong]}, 1e-9, 1e-9)

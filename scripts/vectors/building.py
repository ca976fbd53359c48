"""From a family to the content of its file: every case, in every group, by the witness."""

import struct
from typing import Any

from vectors.family import UNDER_THE_MASK, Argument, Case, Convention, Family, Group, Rule, numbers
from vectors.witness import exact, gradients, leaves, like, rounded

# --- comparing -----------------------------------------------------------------------------------

def departs(actual: dict, wanted: dict, rtol: float, atol: float) -> bool:
    """Whether any entry that counts lies outside atol + rtol·|wanted|.

    NaN equals NaN, an infinity only itself.
    """
    for name in wanted:
        for a, w in zip(leaves(actual[name]), leaves(wanted[name]), strict=True):
            if w is None or a == w or (a != a and w != w):
                continue
            if a is None or abs(w) == float("inf") or not abs(a - w) <= atol + rtol * abs(w):
                return True
    return False


def scale(tree: Any) -> float:
    """The largest finite number of a tree, at least 1."""
    finite = [abs(x) for x in leaves(tree) if isinstance(x, int | float) and abs(x) < float("inf")]
    return max([1.0, *finite])


def tolerance(case: Case, group: Group, expected: dict, moved: dict) -> dict:
    """How far a right implementation may be off, in float64 and in float32.

    float32 is None where it cannot tell right from wrong: where rounding the inputs to it moves
    the result beyond what it would be allowed to be off, or where a formula that loses digits in
    float64 has none left in float32.
    """
    largest = scale([expected["values"], expected.get("gradients", {})])
    coarse = {"rtol": 1e-4, "atol": case.float32 or float(f"{1e-5 * largest:.0e}")}
    rtol, atol, why = case.tolerances.get(group.name) or case.tolerance or (
        1e-10, float(f"{1e-12 * largest:.0e}"),
        "float64 has sixteen digits, and a sum of a few terms in any order loses the last ones")
    lost = group.name in case.tolerances or departs(
        moved, expected["values"], coarse["rtol"] / 2, coarse["atol"] / 2)
    return {"rtol": rtol, "atol": atol, "why": why, "float32": None if lost else coarse}


def to_float32(x: float) -> float:
    """The nearest float32; beyond its range, infinity."""
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return float("inf") if x > 0 else float("-inf")


# --- the file ------------------------------------------------------------------------------------

def spelled(family: Family, inputs: dict) -> dict:
    """The inputs as they are written: numbers of a float argument as floats."""
    floats = {argument.name for argument in family.arguments if argument.dtype == "float"}
    return {name: like(tree, map(float, leaves(tree))) if name in floats else tree
            for name, tree in inputs.items()}


def prepared(family: Family, inputs: dict, change=lambda x: x) -> dict:
    """Inputs for the formula: floats in 50 digits, and None for an optional one left out.

    `held` are the same inputs once more, which stay where they are while a gradient is measured:
    what a formula takes from there is a constant of its gradient (a stop-gradient).
    """
    names = {argument.name: argument for argument in family.arguments if not argument.axis}
    assert set(inputs) <= set(names), f"unknown inputs: {set(inputs) - set(names)}"
    whole = {name: None for name, argument in names.items() if argument.optional}
    for name, tree in inputs.items():
        if names[name].dtype == "float":
            tree = exact(like(tree, [change(float(x)) for x in leaves(tree)]))
        whole[name] = tree
    assert set(whole) == set(names), f"inputs missing: {set(names) - set(whole)}"
    return whole | {"held": whole}


def cotangent(family: Family, case: Case, outputs: dict) -> dict | None:
    """A fixed random weight for each entry of the results, unless the result is one number."""
    if all(result.shape == "()" for result in family.results) and len(family.results) == 1:
        return None
    return {name: like(tree, leaves(numbers(f"{family.function} {case.name} {name}",
                                            len(leaves(tree)))))
            for name, tree in outputs.items()}


def wanted(family: Family, case: Case, rule: Rule, convention: Convention) -> dict:
    """The expected block of a test: values, and gradients where something is differentiated."""
    inputs = prepared(family, case.inputs)
    outputs = rule(inputs, convention)
    block = {"values": rounded(outputs)}
    names = [name for name in family.differentiated if name in case.inputs]
    if names and case.gradients:
        weights = cotangent(family, case, outputs)
        if weights is not None:
            block["cotangent"] = weights
        block["gradients"] = unmarked(rounded(gradients(
            lambda x: rule(x, convention), inputs, names, weights)),
            family.without_slope(inputs, outputs) if family.without_slope else {})
    return block


def unmarked(slopes: dict, marks: dict) -> dict:
    """The gradients, with None (not compared) where an entry is marked."""
    return {name: like(tree, [None if no else slope for slope, no in zip(
        leaves(tree), leaves(marks[name]), strict=True)]) if name in marks else tree
        for name, tree in slopes.items()}


def mistaken(family: Family, case: Case, flag: str, convention: Convention, expected: dict,
             allowed: dict) -> dict | None:
    """What the mistake yields here; its gradients only where its values show nothing.

    None if it cannot be told from what is right.
    """
    rule = family.mistakes[flag]
    value_rule, slope_rule = rule if isinstance(rule, tuple) else (rule, rule)
    inputs = prepared(family, case.inputs)
    outputs = value_rule(inputs, convention)
    values = rounded({name: like(tree, [None if w is None else y for y, w in zip(
        leaves(tree), leaves(expected["values"][name]), strict=True)])
        for name, tree in outputs.items()})
    off = allowed["rtol"], allowed["atol"]
    if departs(values, expected["values"], *off):
        return {"values": values}
    if "gradients" in expected:
        slopes = like(expected["gradients"], [float("nan")] * len(leaves(expected["gradients"])))
        if slope_rule == UNDER_THE_MASK:
            slopes = {name: where(case.inputs["mask"], right, slopes[name])
                      for name, right in expected["gradients"].items()}
        elif slope_rule is not None:
            slopes = rounded(gradients(lambda x: slope_rule(x, convention), inputs,
                                       expected["gradients"], expected.get("cotangent")))
        if departs(slopes, expected["gradients"], *off):
            return {"values": values, "gradients": slopes}
    return None


def where(mask: list, right: list, wrong: list) -> list:
    """The entries of nested lists where the mask is True, else those of the others."""
    return [[r if real else w for real, r, w in zip(*rows, strict=True)]
            for rows in zip(mask, right, wrong, strict=True)]


def test(family: Family, group: Group, case: Case, base: dict | None) -> dict | None:
    """One test, or None where a group would only repeat what the first group says (base)."""
    expected = wanted(family, case, family.formula, group.convention)
    moved = rounded(family.formula(prepared(family, case.inputs, to_float32), group.convention))
    allowed = tolerance(case, group, expected, moved)
    named = group.name in (case.groups or ()) + case.also
    if base and not named and not differ(expected, base, allowed):
        return None
    mistakes = {flag: mistaken(family, case, flag, group.convention, expected, allowed)
                for flag in case.mistakes}
    if base is None and None in mistakes.values():
        raise ValueError(f"{family.function} {case.name}: the mistakes "
                         f"{[flag for flag, m in mistakes.items() if m is None]} do not show")
    mistakes = {flag: m for flag, m in mistakes.items() if m is not None}
    if group is not family.groups[0]:
        assert group.name in case.laws or case.given, f"{family.function} {case.name}: given?"
    law = case.law if group is family.groups[0] else (
        case.laws.get(group.name, f"{group.clause}: {case.given}"))
    return {"id": f"{family.function}-{group.name}-{case.name}".replace("_", "-"), "law": law,
            "flags": sorted(mistakes), "inputs": spelled(family, case.inputs),
            "expected": expected, "tolerance": allowed, "mistakes": mistakes}


def differ(a: dict, b: dict, allowed: dict) -> bool:
    """Whether two expected blocks can be told apart, one way or the other."""
    off = allowed["rtol"], allowed["atol"]
    return any(departs(a[part], b[part], *off) or departs(b[part], a[part], *off)
               for part in ("values", "gradients") if part in a and part in b)


def tests_of(family: Family, group: Group, first: dict[str, dict]) -> list[dict]:
    """The group's tests; of those it has only by default, none whose results it has already.

    `first` holds {case: what is expected of it} of the first group.
    """
    kept = []
    for case in family.cases:
        named = group.name in (case.groups or ()) + case.also
        if not named and (case.groups or group.listed):
            continue
        made = test(family, group, case, first.get(case.name))
        if made is None:
            continue
        known = any(made["expected"] == earlier["expected"] for earlier in kept)
        if not known or not first or named:
            kept.append(made)
    return kept


def groups_of(family: Family) -> list[dict]:
    """The groups, each with its tests."""
    groups, first = [], {}
    for group in family.groups:
        assert set(group.convention) == {axis.name for axis in family.axes}, group.name
        tests = tests_of(family, group, first)
        if not tests:
            raise ValueError(f"{family.function}: the group {group.name} differs on no case")
        if group is family.groups[0]:
            by_case = [case for case in family.cases
                       if not case.groups or group.name in case.groups]
            base = list(zip(by_case, tests, strict=True))
            first = {case.name: made["expected"] for case, made in base}
        groups.append({"name": group.name, "core": group.core, "parameters": group.convention,
                       "systems": list(group.systems),
                       "shares": shared(family, group, tests, base), "tests": tests})
    return groups


def shared(family: Family, group: Group, tests: list[dict],
           base: list[tuple[Case, dict]]) -> list[str]:
    """The ids of the first group's tests that the group has not, and that come out alike in it."""
    own = [made["inputs"] for made in tests]
    return [made["id"] for case, made in base if made["inputs"] not in own
            and alike(family, case, group.convention, made)]


def alike(family: Family, case: Case, convention: Convention, made: dict) -> bool:
    """Whether a test expects the same under another convention, in values and in gradients.

    Not where that convention has a corner or reads NaN, and so no gradient, or averages nothing.
    """
    try:
        return not differ(wanted(family, case, family.formula, convention), made["expected"],
                          made["tolerance"])
    except (ValueError, ZeroDivisionError):
        return False


def build(family: Family) -> dict:
    """The content of the family's file."""
    return {
        "$schema": "schema.json", "version": 1, "function": family.function,
        "definition": {"says": family.says, "equation": list(family.equation),
                       "sources": list(family.sources)},
        "arguments": [described(a, True) for a in family.arguments],
        "results": [described(a, False) for a in family.results],
        "axes": [{"name": axis.name, "about": axis.about,
                  "values": [{"value": v, "means": m} for v, m in axis.values.items()]}
                 for axis in family.axes],
        "witness": {
            "program": f"scripts/vectors/{family.function}.py",
            "values": "mpmath, 50 digits, rounded once to float64",
            "gradients": "central differences of the same formula, step 1e-16 in 50 digits"
                         if family.differentiated else None},
        "groups": groups_of(family)}


def described(argument: Argument, is_input: bool) -> dict:
    words = {"name": argument.name, "shape": argument.shape, "dtype": argument.dtype,
             "about": argument.about}
    if is_input:
        words |= {"differentiated": argument.differentiated, "optional": argument.optional}
        words |= {"default": argument.default} if argument.optional else {}
        words |= {"axis": argument.axis} if argument.axis else {}
    return words

"""Verdicts and identifications as JSON, for machines."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirlhf.conformance.identify import Identified
from minirlhf.conformance.systems import consistent
from minirlhf.conformance.vectors import load
from minirlhf.conformance.verdict import Verdict


def verdict_json(verdicts: Sequence[Verdict], found: dict[str, Identified], **head: Any) -> dict:
    """All of it, with every failing test."""
    return {**head, "passed": all(not verdict.faults for verdict in verdicts), "functions": [{
        "function": verdict.function, "verdict": verdict.kind,
        "groups": [group.name for group in verdict.groups],
        "tests": len(verdict.judged), "matched": len(verdict.judged) - len(verdict.faults),
        "left_out": [test.id for test in verdict.left_out], "gradients": verdict.gradients,
        "named": list(verdict.named),
        "likenesses": [vars(one) for one in verdict.likenesses],
        "convention": identified_json(found[verdict.function])
        if verdict.function in found else None,
        "failing": [{"id": case.test.id, "law": case.test.law, "fault": case.fault,
                     "values": finite(case.reply.values),
                     "gradients": finite(case.reply.gradients)} for case in verdict.faults]}
        for verdict in verdicts]}


def identified_json(found: Identified) -> dict:
    file = load(found.function)
    near = found.nearest
    return {"function": found.function, "problem": found.problem,
            "axes": {axis.name: list(found.of(axis.name)) for axis in file.axes},
            "chosen": sorted(found.chosen or {}), "systems": list(consistent(file, found)),
            "settle": list(found.settle), "contradicted": found.contradicted,
            "unmet": list(found.unmet),
            "nearest": near and {"group": near.group, "fit": near.fit, "asked": near.asked,
                                 "likenesses": [vars(one) for one in near.likenesses]}}


def finite(x: Any) -> Any:
    """JSON has no NaN and no infinity: as in the vectors, words."""
    if isinstance(x, dict):
        return {name: finite(inner) for name, inner in x.items()}
    if isinstance(x, list):
        return [finite(inner) for inner in x]
    if isinstance(x, float) and not np.isfinite(x):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}[str(x)]
    return x

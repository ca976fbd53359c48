"""What was found of another system's arrays, in words for a terminal and as JSON for machines."""

from dataclasses import asdict
from math import isfinite

from minirlhf.conformance.trace.compare import Departure
from minirlhf.conformance.trace.folder import Trace
from minirlhf.conformance.trace.locate import Findings, Verdict
from minirlhf.conformance.vectors import notes

ROWS = {"B": "row", "N": "pair"}
WORDS = {"equal": "equal", "follows": "follows", "departs": "DEPARTS", "unsettled": "unsettled"}


def place(verdict: Verdict, shape: str) -> str:
    """ "row 1, token 2" or "h.0.ln_1.bias[3]", counted from 0."""
    index = verdict.off.index if verdict.off else ()
    if verdict.array != verdict.name:
        leaf = verdict.array.removeprefix(verdict.name + ".")
        return f"{leaf}[{', '.join(map(str, index))}]" if verdict.off else leaf
    if not index:
        return verdict.name
    return ", ".join([f"{ROWS.get(shape[1], 'row')} {index[0]}",
                      *(f"token {i} of the reply" for i in index[1:])])


def off_text(off: Departure, where: str) -> str:
    told = (f"theirs {off.theirs:.10g}, ours {off.ours:.10g}, off by {off.absolute:.3g} "
            f"({off.relative:.2g} of the largest entry)")
    if off.of == 1:
        return told.replace("the largest entry", "ours")
    return f"furthest at {where}: {told}; {off.entries} of {off.of} entries off"


def departure_lines(verdict: Verdict, trace: Trace) -> list[str]:
    """Where a verdict's array departs, and what explains it."""
    rule = trace.step.rules[trace.step.index(verdict.name)]
    where = place(verdict, rule.shape)
    lines = [f"{verdict.array}  {rule.shape}: {rule.formula}"]
    if verdict.shape:
        theirs, ours = verdict.shape
        lines.append(f"  it has shape {theirs} instead of {ours}{shape_hint(theirs, ours, trace)}")
    else:
        lines.append("  " + off_text(verdict.off, where))
    if verdict.of > 1:
        lines.append(f"  {len(verdict.wrong)} of its {verdict.given} arrays depart"
                     + f": {shortened(verdict)}" * (len(verdict.wrong) < verdict.given))
    lines += [f"  {words}" for words in verdict.relations]
    made_at = "" if verdict.made_at == verdict.name else f", made at {verdict.made_at}"
    for i, mistake in enumerate(verdict.mistakes):
        lines.append(f"  {'or' * bool(i) or 'it looks like'} {mistake.flag}{made_at}: "
                     f"{mistake.says}")
        note = notes().get(mistake.flag)
        lines += [f"      {note.wrong}  {note.costs}"] if note else []
    if not verdict.mistakes:
        lines.append("  no mistake in the list gives this")
    return lines


def shortened(verdict: Verdict) -> str:
    names = [name.removeprefix(verdict.name + ".") for name in verdict.wrong]
    return ", ".join(names[:6]) + ", …" * (len(names) > 6)


def shape_hint(theirs: tuple, ours: tuple, trace: Trace) -> str:
    """The likely way from a shape to the wanted one, for arrays of replies."""
    whole = trace.base["sequences"].shape if "sequences" in trace.base else None
    if whole and len(theirs) == len(ours) == 2 and theirs[0] == ours[0]:
        if theirs[1] == whole[1] - 1:
            return f": its last {ours[1]} columns are the response's"
        if theirs[1] == whole[1]:
            return f": cut the {ours[1]} columns of the response out of the whole rows"
    if theirs == ours[::-1] and theirs != ours:
        return ": transposed?"
    return ""


def findings_text(found: Findings, trace: Trace) -> str:
    came = [v for v in found.verdicts if v.given]
    width = max(len(v.name) for v in came)
    given = sum(v.given for v in came)
    lines = [f"{found.step}: {given} of {len(trace.arrays)} arrays given, in {found.dtype}; equal "
             f"is within {found.rtol:g} of an array's largest entry", ""]
    for v in came:
        part = f"{v.given} of {v.of} arrays" if v.of > 1 else ""
        lines.append(f"  {v.name:<{width}}  {WORDS[v.verdict]:<9}  {part}".rstrip())
    if len(came) < len(found.verdicts):
        lines.append(f"  and {len(found.verdicts) - len(came)} that were not given")
    lines.append("")
    first = found.first
    if found.equal:
        lines.append("nothing departs")
    else:
        lines += ["First departs:", *departure_lines(first, trace)]
        silent = [v.name for v in found.verdicts[:found.verdicts.index(first)]
                  if v.verdict == "not given"]
        if silent and not first.mistakes:
            lines.append(f"  not given before it, so it may have begun there: {', '.join(silent)}")
        others = [v for v in found.verdicts if v.verdict == "departs" and v is not first]
        for v in others:
            lines += ["", "Departs too, and does not follow from it:", *departure_lines(v, trace)]
        if any(v.verdict == "unsettled" for v in found.verdicts):
            lines += ["", "Unsettled: differs, and depends on what departs unexplained."]
    if found.rtol > 1e-6:
        lines += ["", f"Theirs are {found.dtype}: what differs by less is not seen; float64 tells "
                      "more."]
    if found.unknown:
        lines += ["", f"Names that the trace does not have: {', '.join(found.unknown)}"]
    return "\n".join(lines)


def verdict_json(v: Verdict) -> dict:
    """The parts of a verdict that say something; NaN and infinities, which JSON lacks, as text."""
    off = v.off and {name: str(x) if isinstance(x, float) and not isfinite(x) else x
                     for name, x in (asdict(v.off) | {"index": list(v.off.index)}).items()}
    told = {"name": v.name, "verdict": v.verdict, "given": v.given, "of": v.of, "array": v.array,
            "wrong": list(v.wrong) if v.of > 1 else None,
            "shape": v.shape and {"theirs": list(v.shape[0]), "ours": list(v.shape[1])},
            "off": off, "made_at": v.made_at, "relations": list(v.relations),
            "mistakes": [{"flag": m.flag, "says": m.says} for m in v.mistakes]}
    return {name: x for name, x in told.items() if x not in (None, [])}


def findings_json(found: Findings) -> dict:
    return {"step": found.step, "equal": found.equal,
            "first": found.first.array if found.first else None,
            "dtype": found.dtype, "rtol": found.rtol, "unknown": list(found.unknown),
            "arrays": [verdict_json(v) for v in found.verdicts]}

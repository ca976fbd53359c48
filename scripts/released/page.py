"""The page of what was measured: docs/systems.md."""

from functools import cache

from released.environments import SYSTEMS
from released.findings import SEEN, finding

from minirlhf.conformance.systems import asked_systems
from minirlhf.conformance.vectors import functions, load

HEAD = """\
# Released systems, measured

The test vectors say which convention which system follows.  That is what their code reads like.
Here the released packages themselves were run: their own functions, and where a trainer holds its
mathematics in the middle of a method, the statements of that method, on the inputs of every test.
What was called stands in the adapters, `tests/peers/systems/`: they translate names, shapes and
masks, and contain no formula.

    python scripts/systems.py                   # all, about 12 GB of environments
    python scripts/systems.py verl-0.9.1        # one

Everything is computed in float64, but for what a package itself computes in float32 (last
section), on a CPU, by PyTorch's own gradients.
"""

UNDER_THE_MASK = ("junk-in-masked-slots", "minus-infinity-masked")
READING = """\
*core* is how many of the tests of this package's own convention came out, of those that could be
asked (a function without an optional argument is not asked about it).  *follows* are the groups
all of whose tests came out; several may be followed at once, since a group beside the first holds
only tests on which it differs from it.  Where none is, the nearest is told.  *consistent with* are
the systems whose known answers the results allow, tests of NaN, infinities and overflow left aside.
"""


def page(results: dict) -> str:
    """`results` is what docs/systems.json holds: {system: its results or the problem}."""
    ran = {name: found for name, found in results.items() if "problem" not in found}
    parts = [HEAD, "## In short\n", summary(ran), "## What each was identified as\n",
             identified(ran), "## Where code and lists part\n", parting(ran),
             "## Seen besides\n", besides(ran), "## Function by function\n", READING]
    for name, found in ran.items():
        parts += [f"### {name}\n", table(found)]
    parts += ["## What is computed in float32\n", coarse(ran), "## Not run\n", not_run(results)]
    return "\n".join(parts)


def rows(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(ran: dict) -> str:
    """How far the lists are borne out, system by system."""
    body = []
    for name, found in ran.items():
        claims = [claim for one in found["adapters"].values() for claim in one["claims"]]
        presets = sorted({claim["preset"] for claim in claims})
        called = {one["function"] for adapter in found["adapters"].values()
                  for one in adapter["measured"]}
        versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
        held = sum(claim["held"] for claim in claims)
        masked = sum(all(test.endswith(UNDER_THE_MASK) for test in claim["departed"])
                     for claim in claims)
        body.append([name, versions, str(len(called)), ", ".join(presets) or "none",
                     f"{held} of {len(claims)}" if claims else "–", str(masked) if claims else "–"])
    return rows(["system", "versions", "functions", "listed as", "lists borne out",
                 "but for NaN under masks"], body) + """
A list is borne out if the function, by default or in one of its settings, passes all tests of the
groups that name the system.  The last column counts those, too, that fail only where a masked slot
holds a NaN or an infinity.
"""


def identified(ran: dict) -> str:
    """For each adapter the systems it is consistent with in the most functions, in any setting."""
    body = []
    for name, found in ran.items():
        for adapter, one in found["adapters"].items():
            fits: dict[str, set] = {}                   # function -> systems that are possible
            for measured in one["measured"]:
                fits.setdefault(measured["function"], set()).update(measured["presets"])
            asked = {function: set(asked_systems(load(function))) for function in fits}
            known = sorted(set().union(*asked.values()))
            count = {system: (sum(system in fits[f] for f in fits if system in asked[f]),
                              [f for f in fits if system in asked[f] and system not in fits[f]])
                     for system in known}
            own = list(dict.fromkeys(claim["preset"] for claim in one["claims"]))
            best = sorted(known, key=lambda system: (
                system not in own, -count[system][0], len(count[system][1])))
            body.append([name, f"`{adapter}`", "; ".join(
                f"{system} in {count[system][0]} of {count[system][0] + len(count[system][1])}"
                + f" (not {', '.join(count[system][1])})" * bool(count[system][1])
                for system in best[:max(3, len(own))])])
    return rows(["system", "adapter", "consistent with"], body) + """
Of the functions that an adapter defines and a system has a known answer for, in how many the
results allow that answer, in one of the settings: first for the systems that it is listed as, then
for those with the most.
"""


def parting(ran: dict) -> str:
    """Every claim of a list that the code does not keep, with the tests and what they show."""
    told = {}                                           # what it is -> where it was seen
    for name, found in ran.items():
        for adapter, one in found["adapters"].items():
            for claim in one["claims"]:
                for test, likeness in claim["departed"].items():
                    told.setdefault(finding(adapter, test), []).append(
                        (name, claim, test, likeness))
    lines = []
    for says, seen in told.items():
        lines.append(f"- {says}\n")
        for test in dict.fromkeys(test for _, _, test, _ in seen):
            where = ", ".join(dict.fromkeys(
                f"{name} ({claim['preset']})" for name, claim, other, _ in seen if other == test))
            likeness = next(like for _, _, other, like in seen if other == test)
            known = (f"; equals the known mistake *{likeness}*"
                     if not likeness.startswith(("no known", "raised", "refused")) else "")
            law = laws().get(test, "no longer a test")
            lines.append(f"    - `{test}` ({law}): {where}{known}\n")
    return "".join(lines) or "Nowhere.\n"


@cache
def laws() -> dict[str, str]:
    return {test.id: test.law for name in functions() for group in load(name).groups
            for test in group.tests}


def table(found: dict) -> str:
    """What each function of a system follows."""
    body = []
    for one in (one for adapter in found["adapters"].values() for one in adapter["measured"]):
        core = [group for group in one["groups"].values() if group["core"]]
        near = one["nearest"]
        body.append([f"`{one['function']}`", one["setting"], share(core),
                     ", ".join(one["follows"])
                     or f"nearly {near}: {share([one['groups'][near]])}",
                     ", ".join(one["presets"]) or "none"])
    return rows(["function", "setting", "core", "follows", "consistent with"], body)


def share(groups: list[dict]) -> str:
    """How many tests came out, of those that were asked."""
    good = sum(group["matched"] + group["float32"] for group in groups)
    off = sum(group["departed"] if isinstance(group["departed"], int) else len(group["departed"])
              for group in groups)
    return f"{good} of {good + off}" if good + off else "–"


def besides(ran: dict) -> str:
    """What is worth telling beside the lists, of the systems that were run."""
    lines = [f"- {seen.says} (`{seen.function}` of {seen.system}"
             + f", {seen.setting}" * (seen.setting != "by default") + ")\n"
             for seen in SEEN if seen.system in ran]
    return "".join(lines) or "Nothing.\n"


def coarse(ran: dict) -> str:
    """Where a package leaves float64, as measured: its tests came out in float32's digits."""
    body = []
    for name, found in ran.items():
        for one in (one for adapter in found["adapters"].values() for one in adapter["measured"]):
            if one["coarse"]:
                followed = [group for kind, group in one["groups"].items()
                            if kind in one["follows"] or group["core"]]
                body.append([name, f"`{one['function']}`", one["setting"], one["coarse"],
                             str(sum(group["matched"] for group in followed)),
                             str(sum(group["float32"] for group in followed))])
    return rows(["system", "function", "setting", "what", "tests exact", "tests in float32"], body)


def not_run(results: dict) -> str:
    lines = [f"- {name}: {found['problem']}\n" for name, found in results.items()
             if "problem" in found]
    lines += [f"- {system.name}: not measured yet\n" for system in SYSTEMS
              if system.name not in results]
    return "".join(lines) or "Every system of `scripts/released/environments.py` was.\n"

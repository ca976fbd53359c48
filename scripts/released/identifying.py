"""Which conventions the functions of a released package follow: each is given every test.

Beside functions under the names of the vectors' files, an adapter here may hold

    PRESETS    the names under which the groups' `systems` list what it calls
    MODES      {function: {setting: the same function with that setting}}
    COARSE     {function, or "function, setting": what of it is computed in float32, so that it is
               held to the vectors' tolerance in float32}

It raises NotImplementedError for what its package does not offer.  All runs in this process, in
torch's own default precision and with a package imported once; whoever calls is its environment.
"""

from dataclasses import asdict, dataclass
from types import ModuleType

import numpy as np

from minirlhf.conformance import worker
from minirlhf.conformance.adapters import Adapter, fitted
from minirlhf.conformance.frameworks import Framework, framework_of
from minirlhf.conformance.identify import identify
from minirlhf.conformance.runner import Defined, Reply
from minirlhf.conformance.systems import consistent, groups_of
from minirlhf.conformance.vectors import Group, Test, Vectors, functions, load
from minirlhf.conformance.verdict import equals, fault

BY_DEFAULT, LACKING = "by default", "it has no"


@dataclass(frozen=True)
class Followed:
    """How one function came out in one group, test by test.

    `float32` are tests matched within that precision's tolerance only, `departed` has known
    mistakes that a result equals, or what was raised, and `left_out` why a test was not run.
    """
    group: str
    core: bool
    systems: tuple[str, ...]
    matched: tuple[str, ...]
    float32: tuple[str, ...]
    departed: dict[str, str]
    left_out: dict[str, str]

    @property
    def whole(self) -> bool:
        """Whether it follows the group: every test that it could be given came out."""
        return bool(self.matched or self.float32) and not self.departed


@dataclass(frozen=True)
class Measured:
    """One function in one setting: how it came out in each group, and what that makes it.

    `presets` are the systems that are consistent with it, tests of NaN, infinities and overflow
    left aside: these tell how robust code is, not which convention it follows.  `coarse` says what
    of it is computed in float32.
    """
    function: str
    setting: str
    groups: tuple[Followed, ...]
    presets: tuple[str, ...]
    coarse: str | None

    @property
    def follows(self) -> tuple[str, ...]:
        return tuple(f.group for f in self.groups if f.whole)


class InProcess:
    """One function of an adapter, asked as a runner.Session asks its worker process.

    `aside`: tests of what no convention is about are answered by a refusal.
    """

    def __init__(self, name: str, call, framework: Framework, coarse: bool):
        function = fitted(call, load(name))
        self.adapter = Adapter(name, framework, {name: function})
        self.functions = {name: Defined(function.takes, True, function.problem)}
        self.float32 = coarse                       # of the tolerance; inputs stay float64
        self.replies: dict[tuple[str, str], Reply] = {}
        self.aside = False

    def ask(self, file: Vectors, group: Group, test: Test) -> Reply:
        if self.aside and ("overflow" in test.id or not all_finite(test.inputs)):
            return Reply(problem="raised nothing: left aside", refused=True)
        key = group.name, test.id
        if key not in self.replies:
            with np.errstate(all="ignore"):         # masked slots hold NaN and 1e30 on purpose
                self.replies[key] = Reply(**worker.answered(self.adapter, file, group, test, False))
        return self.replies[key]


def measure(adapter: ModuleType) -> list[Measured]:
    """Everything that an adapter defines, in every setting."""
    return [measure_one(name, setting, call, framework_of(adapter), reason(adapter, name, setting))
            for name in functions() for setting, call in settings(adapter, name).items()]


def settings(adapter: ModuleType, name: str) -> dict:
    """{setting: the function so set} of what an adapter defines under a name."""
    own = {BY_DEFAULT: getattr(adapter, name)} if callable(getattr(adapter, name, None)) else {}
    return own | getattr(adapter, "MODES", {}).get(name, {})


def reason(adapter: ModuleType, name: str, setting: str) -> str | None:
    coarse = getattr(adapter, "COARSE", {})
    return coarse.get(f"{name}, {setting}", coarse.get(name))


def measure_one(name: str, setting: str, call, framework: Framework,
                coarse: str | None) -> Measured:
    file, session = load(name), InProcess(name, call, framework, coarse is not None)
    groups = tuple(follow(session, file, group) for group in file.groups)
    session.aside = True
    found = identify(session, name)
    presets = consistent(file, found) if found.answers or found.chosen else ()
    return Measured(name, setting, groups, presets, coarse)


def all_finite(x) -> bool:
    """Whether an input holds no NaN and no infinity."""
    if isinstance(x, dict):
        return all(map(all_finite, x.values()))
    return isinstance(x, str) or bool(np.isfinite(x).all())


def follow(session: InProcess, file: Vectors, group: Group) -> Followed:
    matched, float32, departed, left_out = [], [], {}, {}
    for test in group.tests:
        lacking = set(test.inputs) - set(session.functions[file.function].takes)
        reply = None if lacking else session.ask(file, group, test)
        if reply is None:
            left_out[test.id] = f"{LACKING} {', '.join(sorted(lacking))}"
        elif reply.problem and "NotImplementedError" in reply.problem:
            left_out[test.id] = reply.problem.split("NotImplementedError")[1].lstrip(": ")
        elif fault(test.expected, reply, test.tolerance) is None:
            matched.append(test.id)
        elif session.float32 and test.float32 is None:
            left_out[test.id] = "float32 cannot tell right from wrong"
        elif session.float32 and fault(test.expected, reply, test.float32) is None:
            float32.append(test.id)
        else:
            departed[test.id] = reply.problem or likeness(
                test, reply, (session.float32 and test.float32) or test.tolerance)
    return Followed(group.name, group.core, group.systems, tuple(matched), tuple(float32),
                    departed, left_out)


def likeness(test: Test, reply: Reply, tolerance) -> str:
    """The known mistakes that a wrong result equals."""
    equal = [flag for flag, outcome in test.mistakes.items() if equals(outcome, reply, tolerance)]
    return ", ".join(equal) or "no known mistake"


# --- what the lists say, and what the code does --------------------------------------------------

@dataclass(frozen=True)
class Claim:
    """A preset's groups of a file, and how the function that the adapter calls by default, or in
    one of its settings, comes out there.  `held`: in at least one setting it follows them all."""
    preset: str
    function: str
    groups: tuple[str, ...]
    held: bool
    setting: str
    departed: dict[str, str]


def claims(adapter: ModuleType, found: list[Measured]) -> list[Claim]:
    """What the groups' lists say of an adapter's presets, each beside what was measured.

    A group all of whose tests the function refuses in every setting is not kept either.
    """
    made = []
    for preset in getattr(adapter, "PRESETS", ()):
        for name in dict.fromkeys(measured.function for measured in found):
            groups = {group.name for group in groups_of(load(name), preset)}
            tried = [(measured.setting, [f for f in measured.groups if f.group in groups])
                     for measured in found if measured.function == name]
            run = [one for one in tried if any(f.matched or f.float32 or f.departed
                                               for f in one[1])]
            refused = {test: why for _, parts in tried for f in parts
                       for test, why in f.left_out.items() if not why.startswith(LACKING)}
            if not groups or not (run or refused):
                continue
            setting, parts = min(run or tried, key=lambda one: sum(len(f.departed)
                                                                   for f in one[1]))
            departed = {test: why for f in parts for test, why in f.departed.items()}
            if not run:
                departed = {test: f"refused: {why}" for test, why in refused.items()}
            made.append(Claim(preset, name, tuple(sorted(groups)), not departed, setting,
                              departed))
    return made


def plain(found: list[Measured]) -> list[dict]:
    """The same as what JSON can hold."""
    return [asdict(measured) | {"follows": measured.follows} for measured in found]

"""The tables of docs/performance.md, each from the results of its rows."""

from collections.abc import Sequence

from benchmarking.ratios import exponent, median, noise, ratio, spread
from benchmarking.tasks import MINUTE, ROLLOUT_NEW, SIZES, step_flops

MIB = 2**20
AXES = {"batch": "rows B", "tokens": "tokens T", "channels": "width C", "layers": "layers L"}
ELSEWHERE = "below"                     # where the reason stands


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table; a sentence where it would be empty."""
    if not body:
        return "Not measured yet.\n"
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# --- cells ---------------------------------------------------------------------------------------

def length(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def timed(found: dict, name: str) -> str:
    """What a contender took, or why it took no part."""
    turns = found["seconds"].get(name)
    if turns is None:
        return "–"
    return f"{length(median(turns))} ± {100 * spread(turns):.0f} %"


def speed(found: dict, name: str, tokens: int) -> str:
    turns = found["seconds"].get(name)
    if turns is None:
        return "–"
    return f"{tokens / median(turns):,.0f} ± {100 * spread(turns):.0f} %"


def faster(found: dict, theirs: str, ours: str = "ours") -> str:
    """The ratio with its quartiles, or why there is none."""
    if theirs not in found["seconds"]:
        return ELSEWHERE if theirs in found["problems"] else "–"
    try:
        middle, low, high = ratio(found["seconds"], theirs, ours)
    except ValueError as refusal:
        return str(refusal)
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


def share(found: dict, name: str) -> str:
    """The share of the sgemm peak of that side that its steps reach."""
    turns = found["seconds"].get(name)
    peaks = found["conditions"]["peaks"]
    peak = peaks.get("ours" if name == "ours" else "PyTorch")
    if turns is None or peak is None:
        return "–"
    return f"{found['flops'] / median(turns) / (1e9 * peak):.0%}"


# --- tables --------------------------------------------------------------------------------------

def machines(results: dict) -> str:
    """The conditions, once where all rows share them."""
    groups: list[tuple[dict, list[str]]] = []
    for name, found in results.items():
        for under, names in groups:
            if under == found["conditions"]:
                names.append(name)
                break
        else:
            groups.append((found["conditions"], [name]))
    if not groups:
        return "Nothing is measured yet.\n"
    return "\n".join(machine(under, names if len(groups) > 1 else [])
                     for under, names in groups)


def machine(under: dict, names: Sequence[str]) -> str:
    lines = [f"Rows {', '.join(f'`{name}`' for name in names)}:\n"] if names else []
    lines += [f"- {under['processor']}, {under['cores']} cores; {under['threads']} threads for "
              f"each contender; batches of this package in {under['shards']} shards; "
              f"{under['turns']} turns",
              "- " + ", ".join(f"{name} {number}" for name, number in under["versions"].items())]
    for side, told in under["libraries"].items():
        peak = under["peaks"].get(side)
        lines.append(f"- {side}: {'; '.join(told)}; peak **{peak:.0f} GFLOP/s**")
    lines += [f"- {name}: {why}" for name, why in under["missing"].items()]
    return "\n".join(lines) + "\n"


def steps(found: dict) -> str:
    sizes = SIZES | {"minute": MINUTE}
    described = rows(
        ("size", "layers", "C", "heads", "T", "B", "V", "MFLOP a step"),
        [(name, *(str(number) for number in (
            s.layers, s.channels, s.heads, s.tokens, s.batch, s.vocab)),
          f"{step_flops(s) / 1e6:,.0f}") for name in found for s in [sizes[name]]])
    return (described if found else "") + "\n" * bool(found) + rows(
        ("size", "ours", "PyTorch", "torch.compile", "utilisation: ours", "PyTorch",
         "torch.compile", "faster than PyTorch", "than torch.compile"),
        [(name, *(timed(one, who) for who in ("ours", "PyTorch", "torch.compile")),
          *(share(one, who) for who in ("ours", "PyTorch", "torch.compile")),
          faster(one, "PyTorch"), faster(one, "torch.compile")) for name, one in found.items()])


def rollouts(found: dict) -> str:
    return rows(
        ("size", "rows", "ours, tokens/s", "PyTorch", "transformers", "faster than PyTorch",
         "than transformers"),
        [(size, batch, *(speed(one, who, int(batch) * ROLLOUT_NEW)
                         for who in ("ours", "PyTorch", "transformers")),
          faster(one, "PyTorch"), faster(one, "transformers"))
         for size, table in found.items()
         for batch, one in table["batches"].items()])


def iterations(found: dict) -> str:
    return rows(
        ("size", "ours", "PyTorch", "TRL", "faster than PyTorch", "than TRL"),
        [(size, *(timed(one, who) for who in ("ours", "PyTorch", "TRL")),
          faster(one, "PyTorch"), faster(one, "TRL")) for size, one in found.items()])


def memories(found: dict) -> str:
    def cells(one: dict, who: str) -> tuple[str, str]:
        if who not in one["processes"]:
            return "–", ELSEWHERE
        held = one["processes"][who]
        return f"{held['peak'] / MIB:.0f} MiB", f"{(held['peak'] - held['imported']) / MIB:.0f} MiB"

    return rows(("size", "ours", "own", "PyTorch", "own"),
                [(size, *cells(one, "ours"), *cells(one, "PyTorch"))
                 for size, one in found.items()])


def faults(found: dict) -> str:
    names = ("ours", "PyTorch", "torch.compile")
    return rows(("size", *names),
                [(size, *(f"{median(one['faults'][who]):.0f}" if who in one["faults"] else "–"
                          for who in names)) for size, one in found.items()])


def growths(found: dict) -> str:
    body = []
    for axis, one in found.items():
        values = [str(value) for value in one["values"]]
        refusal = noise(dict(zip(values, one["seconds"], strict=True)), *values)
        medians = [median(turns) for turns in one["seconds"]]
        body.append((AXES[axis], ", ".join(values), ", ".join(map(length, medians)),
                     refusal or f"**{exponent(one['values'], medians):.2f}**",
                     f"{exponent(one['values'], one['flops']):.2f}"))
    return rows(("axis", "sizes", "a step", "exponent", "of the FLOPs"), body)


def whole(found: dict | None) -> str:
    if found is None:
        return rows((), ())
    body = [(name, f"{seconds:.1f} s") for name, seconds in found["stages"].items()]
    peak = found["peak"]
    return rows(("stage", "time"), [*body, ("**all**", f"**{found['seconds']:.1f} s**")]) + (
        "" if peak is None else f"\nAt its peak the process held {peak / MIB:.0f} MiB.\n")

"""docs/traces.md: how traces are used, their arrays, and the mistakes that are named."""

import contextlib
import io
import re
import tempfile
from pathlib import Path

from traces.longhand import LONGHAND, WRONG, WRONG_UPDATES, updated

from minirlhf.conformance.trace.folder import read_trace, released
from minirlhf.conformance.trace.locate import locate
from minirlhf.conformance.trace.mistakes import MISTAKES
from minirlhf.conformance.trace.steps import STEPS
from minirlhf.files import read_object

PAGE = Path(__file__).parents[2] / "docs" / "traces.md"
WORDS = '''\
# The trace of a whole step

A loss that is wrong still goes down. What finds the error is to compare intermediate numbers with
those of another system, one by one; and what costs the day is that everything after the first
difference differs too. A trace is one update with all its intermediate arrays, from models and a
batch that anybody can load. `minirlhf verify --trace` says which of yours is the first that
departs.

| folder in `minirlhf/conformance/vectors/v1/` | the step |
|---|---|
| `ppo_step/` | policy and value model by PPO, from the log-probs to the parameters after AdamW |
| `grpo_step/` | a policy by GRPO, with the KL penalty in the reward |
| `reward_model_step/` | a reward model on pairs |

Each holds its models in Hugging Face's layout, `batch.safetensors` (what is given: token ids,
masks, the log-probs and values of when the policy sampled, which is a slightly other policy, so
that ratios are not 1), `trace.safetensors` (every array, float64) and `trace.json` (order,
formula, shape, the settings, which mistakes show there first). The batch has what systems stumble
over: padded prompts, one with an end-of-sequence token in it, replies of unequal length, one cut
off, a temperature that is not 1, ratios on every side of the clip.

## Checking a system

Load the models and the batch, do the step with the settings of `trace.json`, and save what you
have under these names, in safetensors or as `.npz`: any of the arrays will do, and more of them
tell more. Here everything is right but one line, as it stands in many a PPO:

```python
import numpy as np

from minirlhf.conformance.trace.folder import released
from minirlhf.conformance.trace_command import verify_trace
from minirlhf.files import read_tensors

mask = read_tensors(released("ppo_step") / "batch.safetensors")["mask"]
mine = read_tensors(released("ppo_step") / "trace.safetensors")
a = mine["advantages"]
mine["whitened_advantages"] = (a - a[mask].mean()) / (a[mask].std(ddof=1) + 1e-8)
np.savez("mine.npz", **{name: mine[name] for name in ("advantages", "whitened_advantages")})
verify_trace("mine.npz")
```

prints

```
PRINTED
```

What merely follows from an array that departs is not blamed: each later array is computed again
from *yours* before it. So two mistakes in one step are told as two.
`tests/peers/trace_in_torch.py`, less than 200 lines of PyTorch, shows how to write such a file;
it reproduces all three traces to 10⁻¹².

**How near is equal.** Within 10⁻¹⁰ of an array's largest entry in float64, 10⁻⁴ in float32. What
stands in a masked slot is not compared.

**On the command line.** `minirlhf verify --trace mine.npz` does the same, with exit status 0 if
nothing departs and 1 if something does; `--json` is for machines.

**A model and a batch of your own.** `minirlhf trace MODELS BATCH --to mine` writes such a folder
for them (`minirlhf trace --help` says what a batch is); `--step mine` compares with it.

**What the list cannot name.** A mistake is named if what it computes equals yours; two made in
one array, or one that depends on how a system computes at pads, are located and described (a
factor, a shift by one position, only padded rows, …) but have no name. Nothing is drawn in a
trace, so sampling is not checked.'''


def arrays(told: dict) -> str:
    """The table of a step's arrays."""
    rows = [f"| `{entry['name']}` | {entry['shape']} | {cell(entry['formula'])} |"
            for entry in told["arrays"]]
    return "\n".join(["| array | shape | formula |", "|---|---|---|", *rows])


def mistakes() -> str:
    """Every flag once, with where it shows first in any step."""
    found: dict[str, tuple[list, str]] = {}
    for table in MISTAKES.values():
        for mistake in table:
            places, _ = found.setdefault(mistake.flag, ([], mistake.says))
            places += [name for name in mistake.at if name not in places]
    rows = [f"| {flag} | {cell(says)} | {', '.join(f'`{p}`' for p in places)} |"
            for flag, (places, says) in found.items()]
    return "\n".join(["| mistake | what is done | departs first at one of |", "|---|---|---|",
                      *rows])


def found() -> str:
    """Where mistakes made in longhand.py, apart from the table, are located, and their names."""
    rows = []
    for step in STEPS:
        trace = read_trace(released(step))
        made = {wrong: LONGHAND[step](trace.base, wrong) for wrong in WRONG[step]}
        if step == "ppo_step":
            gradient = {name.removeprefix("policy_gradient."): x for name, x in
                        trace.arrays.items() if name.startswith("policy_gradient.")}
            made |= {wrong: updated(trace.base, "policy", gradient, wrong)
                     for wrong in WRONG_UPDATES}
        for wrong, arrays in made.items():
            verdicts = [v for v in locate(trace, arrays).verdicts if v.verdict == "departs"]
            rows.append(f"| `{step}` | {wrong} | {', '.join(f'`{v.name}`' for v in verdicts)} | "
                        f"{', '.join(m.flag for v in verdicts for m in v.mistakes)} |")
    return "\n".join(["| step | what is done in longhand | blamed | named |", "|---|---|---|---|",
                      *rows])


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def printed() -> str:
    """What the page's example prints."""
    code, told = re.search(r"```python\n(.*?)```", WORDS, re.DOTALL)[1], io.StringIO()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        with contextlib.redirect_stdout(told):
            exec(code, {})
    return told.getvalue().rstrip()


def page() -> str:
    """The page, from the released descriptions and the table of mistakes."""
    parts = [WORDS.replace("PRINTED", printed())]
    for step in STEPS:
        told = read_object(released(step) / "trace.json")
        parts.append(f"## The arrays of `{step}`\n\n{arrays(told)}\n")
    parts.append("## Mistakes that are named\n\nSome are bugs, some other systems' conventions; "
                 "you know which you meant.\n\n" + mistakes() + "\n")
    parts.append("## Whether they are found\n\nEach row is one mistake made in "
                 "`scripts/traces/longhand.py`, loops in plain Python that share no\nformula with "
                 "the list above; *blamed* is every array said to depart by itself.\n\n"
                 + found() + "\n")
    return "\n".join(parts)

"""Edits that break this package on CuPy and go unnoticed on NumPy; the tests on the double notice.

Each is made alone in a copy of the package.  All stages still train on NumPy there, most to the
same bits; and the tests of equality (test_strict_equals_numpy.py) or of budgets
(test_device_budgets.py) fail.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from strict.traps import TRAPS
from test_device_budgets import CALLS, UPDATE_CALLS

import minirlhf

PACKAGE, TESTS = Path(minirlhf.__file__).parent, Path(__file__).parent
NUMPY = ("from math import pi, sqrt\n", "from math import pi, sqrt\n\nimport numpy as np\n")

# What was done: (file, [(the text there, the text in its place)…], how the tests notice).
EDITS: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "np. for xp. in an op": ("ops.py", [
        NUMPY, ("h = array_module(x).tanh(h)", "h = np.tanh(h)")],
        "TypeError: np.tanh was given an array of the device"),
    "np. for xp. beside an array": ("transformer.py", [
        ("xp.arange(T)[:, None] < xp.arange(T)", "np.arange(T)[:, None] < np.arange(T)")],
        "TypeError: Unsupported type <class 'numpy.ndarray'>"),
    "np. for xp. in the optimizer": ("optimizer.py", [
        ("from math import cos, pi\n", "from math import cos, pi\n\nimport numpy as np\n"),
        ("root = array_module(v).sqrt(v)", "root = np.sqrt(v)")],
        "TypeError: np.sqrt was given an array of the device"),
    "a batch that stays on the host": ("stages/pretraining.py", [
        ("(model, xp.asarray(tokens), count)", "(model, tokens, count)")],
        "TypeError: an index of type ndarray is uploaded"),
    "an index array of the host": ("stages/policy.py", [
        ("array_module(rollout.mask).asarray(np.stack([*map(np.concatenate, parts)]))",
         "np.stack([*map(np.concatenate, parts)])")],
        "TypeError: an index of type ndarray is uploaded"),
    "a device generator": ("sampling.py", [
        ("xp.asarray((1 - rng.random((max_new, B))).astype(dtype))",
         "1 - xp.random.default_rng(int(rng.integers(99))).random((max_new, B)).astype(dtype)")],
        "assert 6 == (8 - 1)"),
    "where= on a reduction": ("ops.py", [
        ("xp.where(mask, x, 0).sum() / count", "x.sum(where=mask) / count")],
        "got an unexpected keyword argument 'where'"),
    "an assignment with duplicate indices": ("ops.py", [
        ("return one_hot.T @ dy.reshape(-1, x.shape[1]), None",
         "dx = xp.zeros_like(x)\n        dx[ids] = dy\n        "
         "return one_hot.T @ dy.reshape(-1, x.shape[1]) + 0 * dx, None")],
        "ValueError: an entry is assigned twice"),
    "a reduction that CuPy lacks": ("ops.py", [
        ("p -= p.max(axis=-2, keepdims=True)              #",
         "p -= xp.maximum.reduce(p, axis=-2, keepdims=True)  #")],
        "NotImplementedError: `cupy_maximum.reduce`"),
    "a keyword that CuPy lacks": ("sampling.py", [
        ("xp.cumsum(xp.exp(logits - logits.max(axis=-1, keepdims=True)), axis=-1)",
         "xp.cumsum(xp.exp(logits - logits.max(axis=-1, keepdims=True, initial=-1e9)), axis=-1)")],
        "got an unexpected keyword argument 'initial'"),
    "a name that CuPy lacks": ("ops.py", [
        ("    z = x - x.max(axis=-1, keepdims=True)\n    if temperature",
         "    with xp.errstate(over='ignore'):\n        z = x - x.max(axis=-1, keepdims=True)\n"
         "    if temperature")],
        "module 'cupy' has no attribute 'errstate'"),
    "a number of the device as a shape": ("rollout.py", [
        ("R = samples.tokens.shape[1]", "R = len(range(samples.mask.sum(axis=1).max()))")],
        "object cannot be interpreted as an integer"),
    "float(loss) in the step": ("stages/training.py", [
        ("return value, norm", "return float(value), norm")],
        "HiddenTransfer: float() waits"),
    "min() for minimum()": ("optimizer.py", [
        ("xp.minimum(float(max_norm) / (norm + 1e-6), 1.0)",
         "min(float(max_norm) / (norm + 1e-6), 1.0)")],
        "HiddenTransfer: bool() waits"),
    "a look for infinities in the step": ("ops.py", [
        ("    o = p.swapaxes(-1, -2) @ v",
         "    assert xp.isfinite(p).all()\n    o = p.swapaxes(-1, -2) @ v")],
        "HiddenTransfer: bool() waits"),
    "an index of booleans in the step": ("ops.py", [
        ("xp.where(mask, x, 0).sum() / count", "(x[mask].sum() if count else 0) / count")],
        "HiddenTransfer: an index of booleans waits"),
    "a stop check row by row": ("sampling.py", [
        ("np.flatnonzero(to_host(running))",
         "np.flatnonzero([bool(one) for one in running])")],
        ".syncs"),
    "numbers looked at one by one": ("stages/ppo.py", [
        ("[numbers] = numbers_on_host([{", "numbers = dict((k, float(x)) for k, x in {"),
        ("rollout, config)}])", "rollout, config)}.items())")],
        ".syncs"),
    "memory that was not written": ("sampling.py", [
        ("self.bias = xp.zeros((B, 1, 1, length), dtype)",
         "self.bias = 0 * xp.empty((B, 1, 1, length), dtype)")],
        "invalid value encountered"),
    "a power of a lone number": ("gae.py", [
        ("centered / xp.sqrt((centered * centered).sum() / n + 1e-8)",
         "centered * ((centered * centered).sum() / n + 1e-8) ** -0.5")],
        "At index 1 diff"),
    "an upload in the step": ("stages/training.py", [
        ("    grads, norm = clip", "    grads.flat *= type(grads.flat)(np.float32(1)) if 0 else "
         "array_module(value).asarray(np.ones(1, grads.flat.dtype))\n    grads, norm = clip"),
        ("from minirlhf.arrays import Array", "from minirlhf.arrays import Array, array_module")],
        "HiddenTransfer: asarray() or array() copies"),
}

# All stages on NumPy and a digest of what they did; then, if asked, the tests on the double.
PROGRAM = """
import hashlib, sys
import pytest
import minirlhf
from every_stage import STAGES, steps_of
from minirlhf.arrays import NUMPY
from rollouts import four_models

folder, *tests = sys.argv[1:]
assert minirlhf.__file__.startswith(folder)
digest = hashlib.sha256()
for stage in STAGES:
    models, model = four_models(NUMPY, "float32")
    rows = [{k: float(x) for k, x in row.items()} for row in steps_of(stage, models, model)]
    digest.update(repr(rows).encode())
    for params in models:
        digest.update(params.flat.tobytes())
print(digest.hexdigest())
if tests:
    sys.exit(pytest.main(["-x", "-n", "0", "-p", "no:cacheprovider", "-k",
                          "not whole_runs and not says_so", *tests]))
"""
CATCHERS = ("test_device_budgets.py", "test_strict_equals_numpy.py")
# what may change the numbers on NumPy too: other draws, another rounding, what memory held
OTHER_NUMBERS = {"a device generator", "an index of booleans in the step",
                 "float(loss) in the step", "a power of a lone number", "where= on a reduction",
                 "memory that was not written"}


def edited(folder: Path, file: str, changes: list[tuple[str, str]]) -> Path:
    """A copy of the package with one edit."""
    shutil.copytree(PACKAGE, folder / "minirlhf",
                    ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    path = folder / "minirlhf" / file
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess:
    """In the folder, so that its copy of the package comes before all others."""
    return subprocess.run([sys.executable, "-c", PROGRAM, str(folder), *tests], cwd=folder,
                          capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(TESTS)})


@pytest.fixture(scope="module")
def unedited(tmp_path_factory):
    done = run(edited(tmp_path_factory.mktemp("unedited"), "ops.py", []))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_numpy_does_not_notice_is_found_on_the_double(edit, tmp_path, unedited):
    file, changes, notice = EDITS[edit]
    done = run(edited(tmp_path, file, changes), *(str(TESTS / name) for name in CATCHERS))
    digest, _, told = done.stdout.partition("\n")
    assert digest == unedited.strip() or edit in OTHER_NUMBERS, done.stderr
    assert done.returncode == 1 and "\nFAILED " in told, told[-3000:] + done.stderr
    assert any(notice in line for line in told.splitlines() if line.startswith("E ")), told

# --- the page ------------------------------------------------------------------------------------

PAGE = (TESTS.parent / "docs" / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line, number", {
    "lines that work on NumPy, each refused": len(TRAPS),
    "· refused by CuPy itself": sum(trap.who == "cupy" for trap in TRAPS.values()),
    "· refused by CuPy after it": sum(trap.who == "device" for trap in TRAPS.values()),
    "· CuPy goes on silently": sum(trap.who == "silent" for trap in TRAPS.values()),
    "edits of this package": len(EDITS),
    "a step of pretraining, SFT": ", ".join(str(n) for n in list(CALLS.values())[:4]),
    "clipping and AdamW": UPDATE_CALLS, "a PPO step": CALLS["PPO"], "a GRPO step": CALLS["GRPO"],
}.items(), ids=str)
def test_the_page_about_gpus_has_the_numbers_of_these_tables(line, number):
    [row] = [row for row in PAGE.splitlines() if row.startswith(f"| {line}")]
    assert f" {number} |" in row

"""What the tests share: the way to the host, comparison, files, and Hypothesis strategies."""

import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from minirlhf import cli
from minirlhf.arrays import array_module
from minirlhf.evaluation import GOLD_PARTS
from minirlhf.stages.training import update


def host(x) -> np.ndarray:
    """x as a NumPy array, whatever library it belongs to."""
    xp = array_module(x)
    return np.asarray(x) if xp is np else xp.asnumpy(x)


def assert_close(actual, wanted, rtol=1e-9, atol=1e-12, message=""):
    """Equal shapes, and entries equal to |actual − wanted| ≤ atol + rtol·|wanted|.

    NaN equals NaN, and nothing broadcasts: a number equals only an array of shape ().
    """
    actual, wanted = host(actual), host(wanted)
    assert actual.shape == wanted.shape, (
        f"shape {actual.shape} instead of {wanted.shape}  {message}")
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=atol, err_msg=message)


def assert_same(actual, wanted, message=""):
    """Equal shapes, dtypes and bits (NaN equals NaN)."""
    np.testing.assert_array_equal(host(actual), host(wanted), err_msg=message, strict=True)


# a run so small that it takes a second
FLAGS = """--backend numpy --model.channels 8 --model.heads 2 --model.layers 1
    --world.corpus-words 3000 --world.demonstration-count 30 --pretraining.steps 3
    --pretraining.batch-size 4 --pretraining.window 24 --sft.steps 2 --sft.batch-size 8
    --preferences.prompts 6 --preferences.replies 2 --reward.steps 2 --ppo.steps 1
    --ppo.batch-size 8 --ppo.minibatches 2 --ppo.max-new 8 --watch.prompts 5 --watch.samples 1
    --dpo.steps 2 --evaluation.samples 1 --evaluation.best-of 2""".split()


def on_cupy(flags: list[str]) -> list[str]:
    """A command's flags with --backend cupy, where they say numpy."""
    return ["cupy" if word == "numpy" else word for word in flags]


def call(*argv) -> int:
    """The exit status of a command, whether it is returned or raised."""
    try:
        return cli.main(list(argv))
    except SystemExit as end:
        return end.code


def files(folder=".") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*"))
            if path.is_file()}


def mistake(capsys, *argv) -> str:
    """The message of a call that must fail: status 2, no traceback, and no file touched."""
    capsys.readouterr()
    before = files(), sorted(Path().rglob("*"))
    assert call(*argv) == 2
    assert (files(), sorted(Path().rglob("*"))) == before
    told = capsys.readouterr()
    assert "Traceback" not in told.err + told.out and told.out == ""
    return told.err


def one_line(capsys, *argv) -> str:
    message = mistake(capsys, *argv)
    assert message.startswith("minirlhf: ") and message.count("\n") == 1
    return message


def plain(text: str) -> str:
    """Text without the box, the colors and the line breaks of a help page."""
    return re.sub(r"([\s│╭╮╰╯─|]|--+)+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def prefix_mask(lengths, width: int) -> np.ndarray:
    """The mask (B, R) of right padding: row b is True in its first lengths[b] slots."""
    return np.arange(width) < np.asarray(lengths)[:, None]


def pair(prompt, chosen="good", rejected="bad", **more) -> dict:
    """A row of people's comparisons."""
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more


def write_rows(path, rows, opener=open):
    """A JSONL file of rows; texts among them are written as they are."""
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("".join(row if isinstance(row, str) else json.dumps(row) + "\n"
                           for row in rows))
    return path


def sample(model, prompt="sky ?", kind="color", **more) -> dict:
    """A row of samples.jsonl: a reply and what it is worth."""
    parts = dict.fromkeys(GOLD_PARTS, 0.0)
    return {"model": model, "prompt": prompt, "kind": kind, "reply": f"{model} says so",
            "score": 0.5, "kl": 0.0, "length": 4, "gold": 1.0, "refused": False,
            "right": True} | parts | more


SAMPLES = [sample("base", gold=-1.25, score=-0.5), sample("sft", gold=0.5),
           sample("policy", gold=1.15, kl=3.25)]


def warmup_then_cosine(steps: int, peak: float, warmup: int) -> list[float]:
    """The learning rate of every step, longhand: a line up to the peak, half a cosine down to a
    tenth of it."""
    rates = [peak * (i + 1) / warmup for i in range(warmup)]
    for i in range(steps - warmup):
        rates.append(peak * (0.55 + 0.45 * np.cos(np.pi * i / (steps - warmup))))
    return rates


def breaks(law, function) -> bool:
    """Whether a function breaks a law, which asserts what it is to do: a mutant must."""
    try:
        law(function)
    except AssertionError:
        return True
    return False


def record_updates(monkeypatch, stage) -> list[tuple]:
    """(loss function's name, learning rate, max_grad_norm) of each update that a stage will make,
    in a list that fills as it trains."""
    given = []

    def record(loss, params, state, lr, max_grad_norm, parts):
        given.append((loss.__name__, lr, max_grad_norm))
        return update(loss, params, state, lr, max_grad_norm, parts)

    monkeypatch.setattr(stage, "update", record)
    return given


# --- Hypothesis strategies: they make NumPy arrays; `backend.asarray` moves them -----------------

def shapes(ndim=2, longest=5):
    """Shapes of `ndim` axes, none empty."""
    return hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=1, max_side=longest)


def float_arrays(shape=None, low=-3.0, high=3.0):
    """float64 arrays with entries in [low, high]; `shape` is a tuple or a strategy of them."""
    numbers = st.floats(low, high, allow_subnormal=False)
    return hnp.arrays(np.float64, shapes() if shape is None else shape, elements=numbers)


@st.composite
def prefix_masks(draw, shape=None, shortest=1):
    """Boolean masks (B, R) of right padding with at least `shortest` True entries in each row."""
    rows, width = draw(shapes()) if shape is None else shape
    lengths = draw(st.lists(st.integers(min(shortest, width), width),
                            min_size=rows, max_size=rows))
    return prefix_mask(lengths, width)


@st.composite
def arrays_and_mask(draw, count=1, low=-3.0, high=3.0, shortest=1):
    """`count` float64 arrays (B, R), followed by a prefix mask (B, R) of the same shape."""
    mask = draw(prefix_masks(shortest=shortest))
    return *(draw(float_arrays(mask.shape, low, high)) for _ in range(count)), mask


def at_once(function: Callable, *arguments) -> Future:
    """A `submit` of an executor that has done it already, in this process."""
    future: Future = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as problem:
        future.set_exception(problem)
    return future

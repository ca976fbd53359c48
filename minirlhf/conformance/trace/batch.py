"""Arrays from files: another system's, and the batch that a step is given."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minirlhf.conformance.trace.rules import Arrays, Model, Step
from minirlhf.files import read_object, read_tensors
from minirlhf.tokens import pad_left, pad_right

KINDS = {"int": "iu", "bool": "b", "float": "f"}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors or .npz file, of a JSON object of lists, or of a folder that
    holds trace.safetensors or one .safetensors file.

    Raises FileNotFoundError or ValueError naming the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        traces = [file for file in found if file.name == "trace.safetensors"] or found
        if len(traces) != 1:
            raise ValueError(f"{path}: wanted a folder with trace.safetensors or one .safetensors "
                             f"file, found {[file.name for file in found] or 'none'}")
        path = traces[0]
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".json":
        return {name: as_array(f"{path}: {name}", rows)
                for name, rows in read_object(path).items()}
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: wanted a .safetensors or an .npz file (or .json for a batch)")
    return read_tensors(path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as problem:
        raise ValueError(f"{path}: not a whole .npz file of plain arrays ({problem})") from None


def as_array(where: str, rows: Any) -> Any:
    """Nested lists as an array; lists of unequal length are left as they are."""
    try:
        array = np.array(rows)
    except ValueError:
        return rows
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{where} must be numbers, got {str(rows)[:60]}")
    return array


# --- the batch -----------------------------------------------------------------------------------

def read_batch(path: Path, step: Step, models: Mapping[str, Model]) -> dict[str, np.ndarray]:
    """The given arrays of a step.  A JSON batch may hold rows of token ids in their place:
    "prompts" and "responses", or "chosen" and "rejected", lists of unequal length.

    What is given under the name of a computed array ("scores" of a rule instead of a reward model)
    is taken, and not computed.

    Raises ValueError naming what is missing, or does not fit the others or the models.
    """
    batch = dict(read_arrays(path))
    if Path(path).suffix == ".json":
        batch = padded(path, batch, next(iter(models.values())).config.pad_id)
    known = {**step.given, **{rule.name: None for rule in step.rules}}
    missing = [n for n, given in step.given.items() if not given.optional and n not in batch]
    if missing:
        raise ValueError(f"{path}: a batch of a {step.name} wants {', '.join(missing)}, got "
                         f"{', '.join(batch) or 'nothing'}")
    if unknown := [name for name in batch if name not in known]:
        raise ValueError(f"{path}: {', '.join(unknown)}: not among the names of a {step.name}; "
                         f"a batch has {', '.join(step.given)}")
    letters: dict[str, int] = {}
    for name in known:
        if name not in batch:
            continue
        given = step.given.get(name)
        shape = given.shape if given else step.rules[step.index(name)].shape
        batch[name] = fitting(f"{path}: {name}", batch[name], shape,
                              given.dtype if given else "float", letters)
    check_tokens(path, batch, models)
    if "mask" in batch:
        check_layout(path, batch)
        check_finite(path, batch)
    return {name: batch[name] for name in known if name in batch}


def padded(path: Path, batch: dict[str, Any], pad_id: int | None) -> dict[str, Any]:
    """Rows of token ids as padded arrays with their masks; arrays as they are."""
    for one, other in (("prompts", "responses"), ("chosen", "rejected")):
        if one not in batch or other not in batch or f"{one}_mask" in batch:
            continue
        first, second = (token_rows(f"{path}: {name}", batch.pop(name)) for name in (one, other))
        n = len(first)
        if len(second) != n:
            raise ValueError(f"{path}: {n} {one} and {len(second)} {other}: there must be as many")
        if one == "prompts":
            (left, left_mask), (right, mask) = pad_left(first, pad_id), pad_right(second, pad_id)
            batch |= {"sequences": np.concatenate([left, right], axis=1), "mask": mask,
                      "sequence_mask": np.concatenate([left_mask, mask], axis=1)}
        else:
            rows, mask = pad_right(first + second, pad_id)
            batch |= {one: rows[:n], f"{one}_mask": mask[:n],
                      other: rows[n:], f"{other}_mask": mask[n:]}
    return batch


def token_rows(where: str, rows: Any) -> list[list[int]]:
    """Raises ValueError unless it is a list of rows of at least one whole number each."""
    rows = rows.tolist() if isinstance(rows, np.ndarray) else rows
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        if not isinstance(row, list) or not row or any(type(token) is not int for token in row):
            raise ValueError(f"{where}, row {number}: wanted a list of token ids, got "
                             f"{str(row)[:60]}")
    if not rows:
        raise ValueError(f"{where}: no row")
    return rows


def fitting(where: str, x: Any, shape: str, dtype: str, letters: dict[str, int]) -> np.ndarray:
    """x in the wanted type; `letters` collects the sizes that B, R and the like stand for."""
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{where} must be an array of shape {shape}; its rows have unequal "
                         "lengths")
    if x.dtype.kind not in KINDS[dtype] and not (dtype == "float" and x.dtype.kind in "iu"):
        raise ValueError(f"{where} must be {dtype}, got {x.dtype}")
    axes = [axis.strip() for axis in shape.strip("()").split(",") if axis.strip()]
    if len(axes) != x.ndim:
        raise ValueError(f"{where} must have shape {shape}, got {x.shape}")
    for axis, size in zip(axes, x.shape, strict=True):
        if letters.setdefault(axis, size) != size:
            raise ValueError(f"{where} must have shape {shape} with {axis} = {letters[axis]} as "
                             f"in the arrays before it, got {x.shape}")
    if dtype == "float":
        x = x.astype(np.float64)
    return x.astype(np.int64) if dtype == "int" else x


def check_tokens(path: Path, batch: Arrays, models: Mapping[str, Model]) -> None:
    for name in ("sequences", "chosen", "rejected"):
        for folder, (_, config) in models.items() if name in batch else ():
            tokens = batch[name]
            if tokens.shape[1] > config.context:
                raise ValueError(f"{path}: {name} has {tokens.shape[1]} columns, more than the "
                                 f"context of the {folder} model, {config.context}")
            if tokens.min() < 0 or tokens.max() >= config.vocab_size:
                raise ValueError(f"{path}: {name} has ids from {tokens.min()} to {tokens.max()}, "
                                 f"but the {folder} model knows 0 to {config.vocab_size - 1}")


def check_layout(path: Path, batch: Arrays) -> None:
    mask, whole = batch["mask"], batch["sequence_mask"]
    width = mask.shape[1]
    if whole.shape[1] <= width or (whole[:, -width:] != mask).any():
        raise ValueError(f"{path}: mask {mask.shape} must be the last {width} columns of "
                         f"sequence_mask {whole.shape}, behind at least one column of prompt")
    for name, rows in (("mask", mask[:, 1:] & ~mask[:, :-1]),
                       ("sequence_mask", whole[:, :-width][:, :-1] & ~whole[:, 1:-width])):
        if rows.any():
            raise ValueError(
                f"{path}: {name}, row {int(rows.any(axis=1).argmax())}: prompts are padded on the "
                "left and responses on the right, so that every response begins in one column")
    if not mask.any(axis=1).all():
        raise ValueError(f"{path}: mask, row {int((~mask.any(axis=1)).argmax())}: a response "
                         "without a token; leave the row out")


def check_finite(path: Path, batch: Arrays) -> None:
    """Numbers that count must be finite; those in masked slots may be anything."""
    mask = batch["mask"]
    for name, x in batch.items():
        bad = ~np.isfinite(x) & mask if x.shape == mask.shape else ~np.isfinite(x)
        if bad.any():
            place = tuple(map(int, np.argwhere(bad)[0]))
            raise ValueError(f"{path}: {name} is {x[place]} at {place}, which is no masked slot")

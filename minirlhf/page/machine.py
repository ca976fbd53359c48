"""What a run was made with: the four models of PPO in memory, the machine, every setting."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from minirlhf.files import read_shapes
from minirlhf.page.markup import details, escaped, quotation, section, table, table_row
from minirlhf.presets import text_settings
from minirlhf.settings import RunConfig

# --- four models in memory -----------------------------------------------------------------------

FOUR = (("Policy", "policy", "the language model being updated"),
        ("Value model", "value", "expects the reward: the baseline of the advantage"),
        ("Reward model", "reward", "scores the responses; frozen"),
        ("Reference", "sft", "the frozen SFT model that the KL penalty measures from"))
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}


def model_size(folder: Path) -> tuple[int, int] | None:
    """(parameters, bytes) of a saved model, read from the head of its file; None if there is none.

    No tensor is loaded, so this costs nothing for a large model either.
    """
    path = folder / "model.safetensors"
    if not path.exists():
        return None
    arrays = [(prod(shape), WIDTHS[dtype]) for shape, dtype in read_shapes(path).values()]
    return sum(count for count, _ in arrays), sum(count * width for count, width in arrays)


def memory_html(folder: Path) -> str:
    """The four models that PPO keeps, with their sizes; empty unless the run has all four."""
    sizes = [model_size(folder / name) for _, name, _ in FOUR]
    if None in sizes:
        return ""
    rows = [(f"{title}<small>{escaped(role)}</small>", f"{name}/", f"{count:,}", bytes_text(size))
            for (title, name, role), (count, size) in zip(FOUR, sizes, strict=True)]
    total = tuple(sum(column) for column in zip(*sizes, strict=True))
    learning = sizes[0][1] + sizes[1][1]
    rows.append(("Together", "", f"{total[0]:,}", bytes_text(total[1])))
    return section(
        "memory", "Four models in memory",
        quotation("So during PPO RL fine-tuning, we are actually keeping four models in memory"),
        table("memory", ("", "folder", "parameters", "bytes"), map(table_row, rows),
              "Sizes of the four models of PPO"),
        "<p>The two that learn, policy and value model, also need a gradient and the two moments "
        f"of AdamW, each as large as the model: another {bytes_text(3 * learning)}. What the "
        "forward pass keeps for the backward pass comes on top.</p>")


def bytes_text(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


# --- versions and settings -----------------------------------------------------------------------

Setting = tuple[str, str, str | None]            # name, value, default where that is another


def settings_html(config: dict, environment: dict) -> str:
    """The machine, and every setting by section beside its default, to be opened on demand."""
    defaults = default_settings(config)
    parts = [section_html("Machine and versions",
                          [(name, shown(x), None) for name, x in environment.items()])]
    groups: dict[str, dict] = {"run": {}}
    for name, value in config.items():
        if isinstance(value, dict):
            groups[name] = value
        elif value is not None:
            groups["run"][name] = value
    if config.get("text"):
        groups.pop("world", None)                                 # it took no part
    for name, values in groups.items():
        usual = defaults if name == "run" else defaults.get(name) or {}
        parts.append(section_html(name, compared(values, usual)))
    return section("settings", "Versions and settings",
                   "<p>A setting that differs from its default is marked, with the default beside "
                   "it.</p>", *parts)


def default_settings(config: dict) -> dict[str, Any]:
    """The defaults of a run of this kind: in the toy world, or on people's comparisons."""
    text = config.get("text")
    settings = text_settings(Path(text.get("path", ""))) if isinstance(text, dict) else RunConfig()
    return json.loads(json.dumps(asdict(settings), default=str))       # as config.json has them


def compared(values: dict, defaults: dict, prefix: str = "") -> list[Setting]:
    """Settings beside their defaults; names of nested ones have dots."""
    rows = []
    for name, value in values.items():
        usual = defaults.get(name, value)
        if isinstance(value, dict):
            rows += compared(value, usual if isinstance(usual, dict) else {}, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, shown(value), None if value == usual else shown(usual)))
    return rows


def shown(value: Any) -> str:
    """A value of JSON as a reader would write it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def section_html(name: str, rows: Sequence[Setting]) -> str:
    """A table to be opened; nothing for no rows.  The summary counts what is not the default."""
    if not rows:
        return ""
    changed = sum(usual is not None for _, _, usual in rows)
    note = f' <span class="changed">{changed} changed</span>' if changed else ""
    return details(f"{escaped(name)}{note}",
                   table("settings", ("setting", "value", ""), map(setting_row, rows),
                         escaped(name)), "settings")


def setting_row(setting: Setting) -> str:
    name, value, usual = setting
    if usual is None:
        return table_row((f"<code>{escaped(name)}</code>", escaped(value), ""))
    return table_row((f"<code>{escaped(name)}</code>", f"<mark>{escaped(value)}</mark>",
                      f"default {escaped(usual)}"))

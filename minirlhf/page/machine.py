"""What a run was made with: the models that stage 3 keeps in memory, the machine, every setting."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from minirlhf.files import read_shapes
from minirlhf.findings import algorithm, setting
from minirlhf.page.markup import details, escaped, quotation, section, table, table_row
from minirlhf.presets import text_settings
from minirlhf.settings import RunConfig

# --- models in memory ----------------------------------------------------------------------------

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


def models_of(config: dict) -> list[tuple[str, str, str]]:
    """(title, folder, role) of the models that stage 3 of such a run keeps in memory."""
    rounds = setting(config, "rounds", 1)
    kept = [row for row in FOUR if row[1] != "value" or algorithm(config) == "PPO"]
    if rounds > 1 and setting(config, "iteration.reference", "sft") == "last":
        kept[-1] = ("Reference", f"rounds/{rounds - 1:02}/policy",
                    "the frozen policy of the last round, that the KL penalty measures from")
    return kept


def memory_html(folder: Path, config: dict) -> str:
    """The models that stage 3 keeps, with their sizes; empty unless the run has all of them."""
    models = models_of(config)
    sizes = {name: model_size(folder / name) for _, name, _ in models}
    if None in sizes.values():
        return ""
    rows = [(f"{title}<small>{escaped(role)}</small>", f"{name}/", f"{sizes[name][0]:,}",
             bytes_text(sizes[name][1])) for title, name, role in models]
    total = tuple(sum(column) for column in zip(*sizes.values(), strict=True))
    rows.append(("Together", "", f"{total[0]:,}", bytes_text(total[1])))
    four = "value" in sizes
    return section(
        "memory", f"{'Four' if four else 'Three'} models in memory",
        quotation("So during PPO RL fine-tuning, we are actually keeping four models in memory"
                  if four else "which brings the count down to three models"),
        table("memory", ("", "folder", "parameters", "bytes"), map(table_row, rows),
              f"Sizes of the models of {algorithm(config)}"),
        f"<p>{learning_text(sizes)}</p>")


def learning_text(sizes: dict[str, tuple[int, int]]) -> str:
    """What learning costs beside the models, and what the other way of stage 3 would cost."""
    policy, on_top = sizes["policy"][1], "What the forward pass keeps for the backward pass"
    if "value" in sizes:
        value = sizes["value"][1]
        return ("The two that learn, policy and value model, also need a gradient and the two "
                "moments of AdamW, each as large as the model: another "
                f"{bytes_text(3 * (policy + value))}. {on_top} comes on top. GRPO and RLOO have no "
                "value model, which saves the model, its gradient and its moments: "
                f"{bytes_text(4 * value)}.")
    value = sizes["reward"][1]                                  # it would begin as a copy of it
    return ("The policy, the one that learns, also needs a gradient and the two moments of AdamW, "
            f"each as large as the model: another {bytes_text(3 * policy)}. {on_top} comes on top. "
            "PPO would keep a value model too, as large as the reward model, with a gradient and "
            f"moments of its own: {bytes_text(4 * value)} more.")


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

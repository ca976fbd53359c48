"""What a run was made with: the models that stage 3 keeps in memory, the machine, every setting."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minirlhf.findings import (
    algorithm,
    folders_in_memory,
    models_in_memory,
    on_device,
    peak_text,
)
from minirlhf.memory import MODELS, Held, bytes_text, held, together
from minirlhf.page.figures import stacked_bar
from minirlhf.page.markup import details, escaped, quotation, section, table, table_row, typeset
from minirlhf.presets import text_settings
from minirlhf.settings import RunConfig

# --- models in memory ----------------------------------------------------------------------------

ROLES = {"policy": ("Policy", "the language model being updated"),
         "value": ("Value model", "expects the reward: the baseline of the advantage"),
         "reward": ("Reward model", "scores the responses; frozen"),
         "reference": ("Reference", "the frozen SFT model that the KL penalty measures from")}
OF_THE_LAST_ROUND = "the frozen policy of the last round, that the KL penalty measures from"
LARGE = 7_000_000_000                          # parameters of a model as it is really aligned


def memory_html(folder: Path, config: dict, environment: dict, peak: int | None) -> str:
    """The models that stage 3 keeps, with their sizes; empty unless the run has all of them.

    peak: the most memory that a process of the run has taken, if that is known.
    """
    models = models_in_memory(folder, config)
    if not models:
        return ""
    four = len(models) == 4
    quotes = ((quotation("So during PPO RL fine-tuning, we are actually keeping four models in "
                         "memory"),
               quotation("This is a big part of why PPO-based RLHF is expensive.")) if four else
              (quotation("which brings the count down to three models"),))
    shown = [] if peak is None else [peak_html(models, peak, on_device(environment))]
    return section("memory", f"{'Four' if four else 'Three'} models in memory", *quotes,
                   sizes_html(models, config), shares_html(models),
                   f"<p>{learning_text(models)}</p>", f"<p>{scaling_text(models, config)}</p>",
                   *shown)


def sizes_html(models: Sequence[Held], config: dict) -> str:
    """A row a model: its weights, and what it takes besides if it learns."""
    places, rows = folders_in_memory(config), []
    for model in models:
        title, role = ROLES[model.model]
        if places[model.model].startswith("rounds/"):
            role = OF_THE_LAST_ROUND
        rows.append((f"{title}<small>{escaped(role)}</small>", f"{places[model.model]}/",
                     f"{model.parameters:,}", *map(amount, parts_of(model))))
    sums = [sum(column) for column in zip(*map(parts_of, models), strict=True)]
    rows.append(("Together", "", f"{sum(model.parameters for model in models):,}",
                 *map(amount, sums)))
    return table("memory", ("", "folder", "parameters", "weights", "gradient", "moments",
                            "together"), map(table_row, rows),
                 f"Bytes of the models of {algorithm(config)}")


def parts_of(model: Held) -> tuple[int, int, int, int]:
    return model.weights, model.gradient, model.moments, model.together


def amount(size: int) -> str:
    return bytes_text(size) if size else "–"


def shares_html(models: Sequence[Held]) -> str:
    """Each model's part of their memory, as a bar, and in words."""
    whole = together(models)
    kinds = ["fill" if model.learns else "fill frozen" for model in models]
    keys = "".join(f'<span class="key{"" if model.learns else " frozen"}">'
                   f"{ROLES[model.model][0].lower()} <b>{model.together / whole:.0%}</b></span>"
                   for model in models)
    bar = stacked_bar([(kind, model.together) for kind, model in zip(kinds, models, strict=True)])
    return f'<figure class="stack"><p class="keys">{keys}</p>{bar}</figure>'


def peak_html(models: Sequence[Held], peak: int, device: bool) -> str:
    """How much of what the process took is the models.

    The one part of the page that differs where the same run is made again.
    """
    own = together(models)
    bar = "" if device or own > peak else stacked_bar([("fill", own), ("track", peak - own)])
    why = "" if device or 2 * own > peak else (
        " So it is with small models: what they take grows with their parameters, while Python and "
        "NumPy stay as they are, and activations grow with batch, length and width.")
    return (f'<figure class="measured stack">{bar}<figcaption><p><strong>Measured.</strong> '
            f"{typeset(peak_text(models, peak, device))}.{why}</p></figcaption></figure>")


def learning_text(models: Sequence[Held]) -> str:
    """What learning costs beside the models, and what the other way of stage 3 would cost."""
    size = {model.model: model.weights for model in models}
    more = bytes_text(sum(model.gradient + model.moments for model in models))
    on_top = "What the forward pass keeps for the backward pass"
    if "value" in size:
        return ("The two that learn, policy and value model, also need a gradient and the two "
                f"moments of AdamW, each as large as the model: another {more}. {on_top} comes on "
                "top. GRPO and RLOO have no value model, which saves the model, its gradient and "
                f"its moments: {bytes_text(4 * size['value'])}.")
    value = size["reward"]                                      # it would begin as a copy of it
    return ("The policy, the one that learns, also needs a gradient and the two moments of AdamW, "
            f"each as large as the model: another {more}. {on_top} comes on top. "
            "PPO would keep a value model too, as large as the reward model, with a gradient and "
            f"moments of its own: {bytes_text(4 * value)} more.")


def scaling_text(models: Sequence[Held], config: dict) -> str:
    """What the same arithmetic gives for models as they are really aligned."""
    own = algorithm(config).lower()
    large = held(own, dict.fromkeys(MODELS[own], LARGE))
    factors = " + ".join(str(model.together // model.weights) for model in large)
    return (f"In units of one model’s weights that is {factors}, whatever its size. For models of "
            f"{LARGE // 10**9} billion parameters, in float32 as here, it would be "
            f"{bytes_text(together(large))}.")


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

"""What training keeps in memory: the models, and what learning asks for beside their weights.

The article: "So during PPO RL fine-tuning, we are actually keeping four models in memory".  And:
"This is a big part of why PPO-based RLHF is expensive."

A frozen model is its weights.  One that learns by AdamW also has a gradient and two moments, each
as large as the weights:

    bytes = Σ over the models of b·P·(4 if it learns, else 1)     P parameters of b bytes each

Of models of one size PPO so keeps 4 + 4 + 1 + 1 = 10 times the weights of one; GRPO and RLOO, with
no value model, 4 + 1 + 1 = 6; DPO, with no reward model either, 4 + 1 = 5.  For 7 billion
parameters in float32, 28 GB a model, that is 280, 168 and 140 GB.

**Conventions.**  Real systems keep frozen models in 16 bits, half of it.  Learning in mixed
precision takes 16 bytes a parameter as well: weights and gradient in 16 bits, and in float32 both
moments and another copy of the weights (Rajbhandari et al. 2020, ZeRO).  In this package one
gradient is gone before the next model's is made; where each stays, as in PyTorch, all are there at
once, and so all are counted.

**Not counted**, since it depends on batch and length and not on the models alone: what the forward
pass keeps for the backward pass, the sampler's keys and values, and the data.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MODELS = {                                     # what each algorithm keeps, those that learn first
    "ppo": ("policy", "value", "reward", "reference"),
    "grpo": ("policy", "reward", "reference"),
    "rloo": ("policy", "reward", "reference"),
    "dpo": ("policy", "reference"),
}
LEARN = ("policy", "value")


class Held(NamedTuple):
    """A model in memory; `weights`, and what is reckoned from them, in bytes."""

    model: str
    parameters: int
    weights: int

    @property
    def learns(self) -> bool:
        return self.model in LEARN

    @property
    def gradient(self) -> int:
        return self.weights if self.learns else 0

    @property
    def moments(self) -> int:
        """AdamW's two."""
        return 2 * self.weights if self.learns else 0

    @property
    def together(self) -> int:
        return self.weights + self.gradient + self.moments


def held(algorithm: str, parameters: Mapping[str, int], width: int = 4) -> list[Held]:
    """The models that an algorithm keeps in memory, "ppo", "grpo", "rloo" or "dpo".

    parameters: how many each model has, by its name in `MODELS`; others are passed over.  width:
    bytes a number, 4 for float32.  Raises ValueError for an algorithm that is none of these, or a
    model that is missing.
    """
    if algorithm not in MODELS:
        raise ValueError(f"algorithm must be {', '.join(MODELS)}, got {algorithm!r}")
    missing = [name for name in MODELS[algorithm] if name not in parameters]
    if missing:
        raise ValueError(f"{algorithm} keeps {', '.join(MODELS[algorithm])} in memory; missing: "
                         f"{', '.join(missing)}")
    return [Held(name, parameters[name], width * parameters[name])
            for name in MODELS[algorithm]]


def together(models: Sequence[Held]) -> int:
    """The bytes of several models, with the gradients and moments of those that learn."""
    return sum(model.together for model in models)


def bytes_text(size: float) -> str:
    """A number of bytes in the unit in which it can be read; 1 kB is 1000 bytes."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

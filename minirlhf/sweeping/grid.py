"""The combinations of settings that a sweep is over: the product of lists of values.

    --vary ppo.beta=0,0.2 --vary ppo.steps=20,36     four combinations, the last list runs fastest

A value is what would stand after the setting's flag of `minirlhf run`, so the command line's own
parser reads it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

from minirlhf.settings import RunConfig
from minirlhf.sweeping.settings import leaves

NOT_VARIED = {"seed": "--seeds says which there are", "base": "a sweep pretrains its base models",
              "text": "a sweep is over the toy world, where gold is known"}


def lists(texts: Sequence[str]) -> dict[str, list[str]]:
    """{"ppo.beta": ["0", "0.2"], …} from the words of --vary.

    Raises ValueError for what is no list of values of a setting, or names a setting twice.
    """
    known, found = dict(leaves(asdict(RunConfig()))), {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--vary wants a setting and its values, such as ppo.beta=0,0.2; got "
                             f"{text!r}")
        if name in NOT_VARIED:
            raise ValueError(f"--vary {text}: {NOT_VARIED[name]}")
        if name not in known:
            raise ValueError(f"--vary {text}: a run has no setting {name}; `minirlhf run --help` "
                             "lists them")
        if name in found:
            raise ValueError(f"--vary names {name} twice; give all its values in one list")
        found[name] = [value.strip() for value in values.split(",")]
        if "" in found[name]:
            raise ValueError(f"--vary {text}: a value is empty")
    return found


def combinations(values: dict[str, list[str]]) -> list[dict[str, str]]:
    """Every choice of one value a setting, in the order of the lists.  One, if nothing varies."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def words(chosen: dict[str, str]) -> list[str]:
    """The flags of `minirlhf run` that choose these values.

    Raises ValueError for a switch that is neither true nor false.
    """
    known, found = dict(leaves(asdict(RunConfig()))), []
    for name, value in chosen.items():
        flag = name.replace("_", "-")
        if isinstance(known[name], bool):
            if value not in ("true", "false"):
                raise ValueError(f"--vary {name}: a value must be true or false, got {value!r}")
            section, _, key = flag.rpartition(".")
            found.append(f"--{section}.{'no-' if value == 'false' else ''}{key}")
        else:
            found += [f"--{flag}", *shlex.split(value)]
    return found

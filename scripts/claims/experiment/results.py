"""From the numbers of all seeds to what docs/claims/NN-name.json holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from experiment.claim import Effect, Experiment
from experiment.reading import SPLITS
from experiment.statistics import LEVEL, bootstrap, check, decide, percentiles, together
from minirlhf import __version__
from minirlhf.environment import DECISIVE
from minirlhf.files import read_object
from minirlhf.settings import RunConfig
from minirlhf.sweeping.settings import leaves
from minirlhf.sweeping.store import Store, Wanted


def result(experiment: Experiment, seeds: Sequence[int], measured: Sequence[dict], store: Store,
           draws: int) -> dict:
    """All that is known about a claim; `measured` is what `measuring.measure` kept, a seed each.

    The verdict is that of test prompts.
    """
    claim = experiment.claim
    effects = {effect.name: {"what": effect.what, "smallest": effect.smallest}
               for effect in claim.effects}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([int(experiment.number), number])
        tables = [seed[split] for seed in measured]
        for effect, found in zip(claim.effects, intervals(claim.effects, tables, draws, rng=rng),
                                 strict=True):
            effects[effect.name][split] = found
    for effect in effects.values():
        effect["verdict"] = (None if effect["smallest"] is None else
                             decide(*effect["test"]["interval"], effect["smallest"]))
    verdicts = [effect["verdict"] for effect in effects.values() if effect["verdict"]]
    return {
        "claim": experiment.number, "title": claim.title, "sentence": claim.sentence,
        "verdict": together(verdicts), "seeds": list(seeds), "quick": store.quick,
        "level": LEVEL, "draws": draws, "effects": effects,
        "means": {split: means([seed[split] for seed in measured]) for split in SPLITS},
        "prompts": {split: [len(seed[split]["prompts"]) for seed in measured]
                    for split in SPLITS},
        "series": [seed["series"] for seed in measured], "examples": measured[0]["examples"],
        "runs": {name: asdict(wanted) for name, wanted in claim.runs.items()},
        "settings": all_settings(claim.runs, store),
        "versions": versions(experiment, seeds, store), "sources": store.digest}


def intervals(effects: Sequence[Effect], tables: Sequence[dict], draws: int, *,
              rng: np.random.Generator) -> list[dict]:
    """Each effect on the prompts of a split: its mean over seeds, its interval, itself by seed.

    All effects are computed from the same draws of seeds and prompts.
    """
    names = list(tables[0]["columns"])
    arrays = [np.stack([table["columns"][name] for name in names], axis=1) for table in tables]
    check(arrays)
    drawn = bootstrap(arrays, draws, rng=rng)
    found = []
    for effect in effects:
        by_seed = [float(effect.of(dict(zip(names, array.mean(axis=0), strict=True))))
                   for array in arrays]
        low, high = percentiles(
            effect.of(dict(zip(names, np.moveaxis(drawn, -1, 0), strict=True))), len(arrays))
        found.append({"effect": float(np.mean(by_seed)), "interval": [low, high],
                      "by_seed": by_seed})
    return found


def means(tables: Sequence[dict]) -> dict[str, list[float]]:
    """{column: its mean over prompts, a seed each}."""
    return {name: [float(np.mean(table["columns"][name])) for table in tables]
            for name in tables[0]["columns"]}


def all_settings(runs: Mapping[str, Wanted], store: Store) -> dict[str, dict]:
    """Those of each run, and of the run whose reward model it takes."""
    found = {name: settings(store.settings(wanted, 0)) for name, wanted in runs.items()}
    return found | {f"{name}: reward model": settings(
        store.settings(Wanted("reward", wanted.judge), 0))
        for name, wanted in runs.items() if wanted.judge is not None}


def settings(config: RunConfig) -> dict[str, object]:
    """{dotted name: value} of all settings but the seed."""
    return {name: value for name, value in leaves(asdict(config)) if name != "seed"}


def versions(experiment: Experiment, seeds: Sequence[int], store: Store) -> dict[str, str]:
    """What the runs were computed with; where they differ, all that there was."""
    found: dict[str, dict] = {"minirlhf": {__version__: None}}
    runs = list(experiment.claim.runs.values())
    runs += [Wanted("reward", wanted.judge) for wanted in runs if wanted.judge is not None]
    for wanted in runs:
        for seed in seeds:
            recorded = read_object(store.run(wanted, seed) / "environment.json")
            for entry in [recorded, *recorded.get("resumed", [])]:
                for key in DECISIVE:
                    if key in entry:
                        found.setdefault(key, {})[str(entry[key])] = None
    return {key: ", ".join(values) for key, values in found.items()}

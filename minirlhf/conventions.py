"""A run's own replies under other systems' conventions: the batch, and where each gradient points.

A run keeps its models but not the batches it trained on.  So one is made from what it keeps: its
final policy answers training prompts of its own, several times each; its reward model, its value
model and its reference say what they think of the replies; and a copy of the policy takes the
updates of one rollout, by the run's own rules, so that the ratio to the policy that sampled is not
everywhere 1.  The batch goes to rollouts/NNNN.safetensors in the run folder, and from there it is
replayed, now and later.  Seed, number and models determine it.  Nothing of the run itself is
touched.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minirlhf.arrays import Array, to_host
from minirlhf.autograd import value_and_grad
from minirlhf.conformance.presets import PRESETS, Preset
from minirlhf.conformance.replay import Batch, Numbers, Outcome, cosine, replay
from minirlhf.files import read_tensors, write_tensors
from minirlhf.ops import sum
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import Parameters, copy
from minirlhf.rollout import Models, Rollout, collect, measured_logprobs, response_logprobs
from minirlhf.run import Run
from minirlhf.stages.policy import policy_loss
from minirlhf.stages.training import update

STREAM = 1000                               # of random numbers: beyond those of all stages
METHOD = {"ppo": "gae", "grpo": "grpo", "rloo": "rloo"}


@dataclass(frozen=True)
class Saved:
    """A rollout batch of a run, with the log-probs of the policy `moved` by its updates (B, R)."""

    rollout: Rollout
    moved: Array
    group_size: int

    def batch(self, moved: bool) -> Batch:
        """As the replay wants it: with the policy that sampled, or the one that has moved."""
        wide = {name: to_host(getattr(self.rollout, name)).astype(np.float64)
                for name in ("logprobs", "ref_logprobs", "scores")}
        values = self.rollout.values
        return Batch(wide["logprobs"],
                     to_host(self.moved).astype(np.float64) if moved else wide["logprobs"],
                     wide["ref_logprobs"],
                     None if values is None else to_host(values).astype(np.float64),
                     wide["scores"], to_host(self.rollout.mask), self.group_size)


@dataclass(frozen=True)
class Comparison:
    """A preset's outcomes at the first update and after those of one rollout, and the gradients
    with respect to the policy's parameters there, or why there is none."""

    preset: Preset
    outcomes: tuple[Outcome, Outcome] | None = None
    gradients: tuple[Array, Array] | None = None
    problem: str = ""


def numbers_of(run: Run) -> Numbers:
    """The run's own β, γ, λ and ε, and its minibatches as parts of the batch."""
    ppo = run.config.ppo
    return Numbers(ppo.beta, ppo.gamma, ppo.lam, ppo.clip_ratio, ppo.minibatches)


def compare(run: Run, saved: Saved, names: list[str]) -> list[Comparison]:
    """Every preset's view of a batch.  The parameters' gradients are taken where the run's models
    are: at its policy, and at that policy after the updates."""
    policy = load_models(run).policy
    points = policy, rehearsed(run, saved, policy)
    found = []
    for preset in map(PRESETS.__getitem__, names):
        try:
            with np.errstate(all="ignore"):                       # an infinity is shown as one
                outcomes = tuple(replay(preset, saved.batch(moved), numbers_of(run),
                                        METHOD[run.config.algorithm]) for moved in (False, True))
        except ValueError as problem:
            found.append(Comparison(preset, problem=str(problem)))
            continue
        found.append(Comparison(preset, outcomes, tuple(
            parameter_gradient(run, saved.rollout, params, outcome.gradient)
            for params, outcome in zip(points, outcomes, strict=True))))
    return found


def cosines(found: list[Comparison], later: bool) -> dict[str, dict[str, float]]:
    """Between the parameters' gradients of each two presets: {one: {other: cosine}}."""
    able = [one for one in found if one.gradients is not None]
    return {one.preset.name: {other.preset.name: cosine(one.gradients[later],
                                                        other.gradients[later])
                              for other in able} for one in able}


# --- the batch -----------------------------------------------------------------------------------

def path_of(run: Run, number: int) -> Path:
    return run.folder / "rollouts" / f"{number:04}.safetensors"


def load_models(run: Run) -> Models:
    """The four models as the run's last round left them, three where there is no value model.

    Raises FileNotFoundError naming the stage that makes a missing one.
    """
    last = run.in_round(run.config.rounds)
    earlier = last.round > 1 and run.config.iteration.reference == "last"
    return Models(last.load("policy"), last.load("value") if last.has("value") else None,
                  last.load("reward"),
                  run.in_round(last.round - 1).load("policy") if earlier else run.load("sft"))


def make_batch(run: Run, number: int, prompts: int, group_size: int) -> Saved:
    """Let the run's policy answer prompts anew.  Determined by seed, number and models."""
    models, config = load_models(run), run.config.ppo
    rng = np.random.default_rng([run.config.seed, STREAM, number])
    asked = [p for p in run.draw_prompts(prompts, rng) for _ in range(group_size)]
    rollout = collect(models, run.model, asked, config.max_new, rng=rng,
                      temperature=config.temperature)
    logprobs = response_measured(run, models.policy, rollout)          # at the pads too
    rollout = replace(rollout, logprobs=logprobs)
    first = Saved(rollout, logprobs, group_size)
    moved = response_measured(run, rehearsed(run, first, models.policy), rollout)
    return Saved(rollout, moved, group_size)


def response_measured(run: Run, params: Parameters, rollout: Rollout) -> Array:
    return measured_logprobs(params, run.model, rollout.sequences, rollout.sequence_mask,
                             rollout.mask.shape[1], run.config.ppo.temperature)


def rehearsed(run: Run, saved: Saved, policy: Parameters) -> Parameters:
    """A copy of the policy after the updates of one rollout, by the run's own rules."""
    config, rollout = run.config.ppo, saved.rollout
    worth = replay(PRESETS["minirlhf"], saved.batch(moved=False), numbers_of(run),
                   METHOD[run.config.algorithm]).advantages
    worth = run.backend.asarray(worth.astype(np.float32))
    params = copy(policy)
    state, parts = adamw_state(params), np.array_split(np.arange(len(rollout)), config.minibatches)
    for rows in (rows for _ in range(config.epochs) for rows in parts if len(rows)):
        rows = run.backend.asarray(rows)
        batch = rollout[rows]
        update(policy_loss, params, state, config.lr_policy, config.max_grad_norm,
               [(run.model, batch, worth[rows], config, int(batch.mask.sum()))])
    return params


def parameter_gradient(run: Run, rollout: Rollout, params: Parameters, dlogprobs: Array) -> Array:
    """The chain rule's other half: Σ dlogprobs·∂log π/∂θ as one vector, a part at a time."""
    def weighted(params: Parameters, rows: Rollout, weights: Array):
        return sum(weights * response_logprobs(
            params, run.model, rows.sequences, rows.sequence_mask, rows.mask.shape[1],
            run.config.ppo.temperature))
    total = 0.0
    weights = run.backend.asarray(dlogprobs.astype(np.float32))
    for rows in np.array_split(np.arange(len(rollout)), run.config.ppo.minibatches):
        if len(rows):
            rows = run.backend.asarray(rows)
            total = total + value_and_grad(weighted)(params, rollout[rows], weights[rows])[1].flat
    return to_host(total).astype(np.float64)


# --- its file ------------------------------------------------------------------------------------

ARRAYS = ("sequences", "sequence_mask", "mask", "logprobs", "ref_logprobs", "scores")


def saved_batch(run: Run, number: int, prompts: int, group_size: int) -> Saved:
    """The batch of that number: read from the run folder, or made and written there.

    Raises ValueError if the file holds another number of replies than is asked for, not what a
    batch holds, or replies of another policy than the run's.
    """
    path = path_of(run, number)
    if not path.exists():
        saved = make_batch(run, number, prompts, group_size)
        tensors = {name: to_host(getattr(saved.rollout, name)) for name in ARRAYS}
        if saved.rollout.values is not None:
            tensors["values"] = to_host(saved.rollout.values)
        write_tensors(path, tensors | {"moved_logprobs": to_host(saved.moved),
                                       "group_size": np.array(group_size)})
        return saved
    found = read_tensors(path)
    missing = [name for name in (*ARRAYS, "moved_logprobs", "group_size") if name not in found]
    if missing:
        raise ValueError(f"{path} is no rollout batch: it lacks {', '.join(missing)}")
    replies, size = len(found["scores"]), int(found["group_size"])
    if (replies, size) != (prompts * group_size, group_size):
        raise ValueError(f"{path} holds {replies // size} prompts with {size} replies each; give "
                         f"--prompts {replies // size} --group-size {size}, or remove it")
    asarray = run.backend.asarray
    arrays = [asarray(found[name]) for name in ARRAYS]
    values = asarray(found["values"]) if "values" in found else None
    rollout = Rollout(*arrays[:5], values, arrays[5])
    measured = response_measured(run, load_models(run).policy, rollout)
    if float(abs(measured - rollout.logprobs)[rollout.mask].max()) > 1e-3:
        raise ValueError(f"{path} holds the replies of another policy; remove it")
    return Saved(rollout, asarray(found["moved_logprobs"]), size)

"""What a training step may ask of a device, as counts: waits, uploads, kernels.

A GPU is fast as long as nobody waits for it, and a small model is bound by the number of kernels
that are launched.  The double of CuPy counts both on any machine (strict/ledger.py).
"""

from math import ceil, inf

import numpy as np
import pytest
from every_stage import STAGES, steps_of
from helpers import FLAGS, call, on_cupy
from models import random_model
from rollouts import PROMPTS, four_models
from strict import STRICT, HiddenTransfer, counting, forbidden, playing_cupy

from minirlhf import checkpoint
from minirlhf.autograd import value_and_grad
from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm
from minirlhf.parameters import copy
from minirlhf.rollout import collect
from minirlhf.run import Run
from minirlhf.sampling import sample
from minirlhf.stages import pretraining, training
from minirlhf.step_log import AT_ONCE

# --- an optimizer step ---------------------------------------------------------------------------

@pytest.mark.parametrize("stage", STAGES)
def test_an_optimizer_step_neither_waits_nor_uploads(stage, monkeypatch):
    """Forward, backward, clipping, AdamW: from the batch to the new parameters."""
    done = []

    def watched(*args):
        with forbidden():
            done.append(training.update(*args))
        return done[-1]

    monkeypatch.setattr(STAGES[stage], "update", watched)
    list(steps_of(stage, *four_models(STRICT)))
    assert len(done) >= 2


def test_a_step_that_looks_at_its_loss_is_found_out(monkeypatch):
    def curious(loss, params, parts):
        value, grads = value_and_grad(loss)(params, *parts[0])
        assert float(value) < 1e9
        return value, grads

    def watched(loss, params, state, lr, max_grad_norm, parts):
        with forbidden():
            return curious(loss, params, parts)

    monkeypatch.setattr(pretraining, "update", watched)
    with pytest.raises(HiddenTransfer, match="float"):
        list(steps_of("pretraining", *four_models(STRICT)))


# --- a whole step of a stage ---------------------------------------------------------------------

# Uploads of a step: its batch.  Tokens; tokens and two masks; tokens, mask and pairs of two sizes.
BATCH = {"pretraining": 1, "SFT": 3, "reward model": 4, "DPO": 5}


@pytest.mark.parametrize("stage", BATCH)
def test_a_step_uploads_its_batch_and_never_waits(stage):
    steps = steps_of(stage, *four_models(STRICT))
    with counting() as spent:
        assert len(list(steps)) == 2
    assert (spent.uploads, spent.syncs) == (2 * BATCH[stage], 0)


def test_a_run_fetches_the_numbers_of_ten_steps_at_once(tmp_path, monkeypatch):
    """Beside the three buffers of its one checkpoint: parameters and two moments."""
    monkeypatch.setattr(checkpoint, "INTERVAL", inf)
    waits, follow = [], Run.follow

    def counted(*args):
        with counting() as spent:
            follow(*args)
        waits.append(spent.syncs)

    monkeypatch.setattr(Run, "follow", counted)
    flags = on_cupy(FLAGS)
    with playing_cupy():
        assert call("pretrain", "--name", "toy", "--out", str(tmp_path), *flags,
                    "--pretraining.steps", "23") == 0
    assert waits == [ceil(23 / AT_ONCE) + 3]


# Beside the waits of sampling, one for each token: the sequences and their mask for the scorer's
# right padding (2), lengths to count minibatches by (1), the numbers of the step (1), and, once a
# rollout, GAE's check of its mask and whitening's of its count (2).
WAITS = {"PPO": 6, "GRPO": 4, "GRPO, KL in the loss": 4, "RLOO": 4}
# Prompts and their mask for sampling and once more beside the replies (4), random numbers (1),
# rows for the scorer (2), the order of the minibatches (1).
UPLOADS = 8


@pytest.mark.parametrize("stage", WAITS)
def test_a_step_of_reinforcement_learning_waits_for_its_rollout_and_its_numbers(
        stage, monkeypatch):
    sampled = []

    def counted(*args, **kwargs):
        with counting() as spent:
            rollout = collect(*args, **kwargs)
        sampled.append(rollout.mask.shape[1])
        assert spent.uploads == UPLOADS - 1
        return rollout

    monkeypatch.setattr(STAGES[stage], "collect", counted)
    steps = steps_of(stage, *four_models(STRICT))
    with counting() as spent:
        rows = list(steps)
    assert all(type(x) is float for row in rows for x in row.values())
    assert spent.uploads == 2 * UPLOADS
    assert spent.syncs == 2 * WAITS[stage] + sum(sampled)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"top_k": 3, "top_p": 0.8}], ids=str)
def test_sampling_uploads_its_random_numbers_once_and_waits_once_a_token(settings):
    params, model = random_model(STRICT, vocab=14)
    with counting() as spent:
        samples = sample(params, model, PROMPTS, 6, rng=np.random.default_rng(0), **settings)
    assert spent.uploads == 3                                # tokens, mask, random numbers
    assert spent.syncs == samples.tokens.shape[1] > 1


# --- kernels -------------------------------------------------------------------------------------

# Functions that a GPU launches at least one kernel for, in a step of a model of two layers; in
# reinforcement learning a rollout of the longest replies, 5 tokens, and 4 minibatches.
CALLS = {"pretraining": 357, "SFT": 355, "reward model": 405, "DPO": 574, "PPO": 4435,
         "GRPO": 2757, "GRPO, KL in the loss": 2864, "RLOO": 2753}
UPDATE_CALLS = 22                    # of them clipping 4 and AdamW 18


@pytest.mark.parametrize("stage", CALLS)
def test_the_number_of_kernels_of_a_step_does_not_grow(stage):
    steps = steps_of(stage, *four_models(STRICT))
    next(steps)
    with counting() as spent:
        next(steps)
    assert spent.calls <= CALLS[stage]


@pytest.mark.parametrize("layers", [1, 6])
def test_an_update_of_the_parameters_launches_one_set_of_kernels_however_many_there_are(layers):
    """Clipping and AdamW work on one flat buffer."""
    params, _ = random_model(STRICT, layers=layers)
    grads, state = copy(params), adamw_state(params)
    with counting() as spent:
        clipped, _ = clip_by_global_norm(grads, 1.0)
        adamw_step(params, clipped, state, 1e-3)
    assert spent.calls == UPDATE_CALLS

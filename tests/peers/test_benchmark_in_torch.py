"""What the benchmark times on PyTorch's side is our model, and our mathematics."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close
from models import random_model

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
from benchmarking import in_torch, in_transformers, ppo_in_torch, tasks  # noqa: E402
from benchmarking.rows import write_models  # noqa: E402

from minirlhf.autograd import value_and_grad  # noqa: E402
from minirlhf.parameters import leaves  # noqa: E402
from minirlhf.rollout import Rollout, response_logprobs, response_values  # noqa: E402
from minirlhf.sampling import sample  # noqa: E402
from minirlhf.stages import ppo  # noqa: E402
from minirlhf.stages.policy import PPOConfig, policy_loss  # noqa: E402
from minirlhf.stages.pretraining import next_token_loss  # noqa: E402
from minirlhf.transformer import load, logits, save, values  # noqa: E402

SIZE = tasks.Size(layers=2, channels=16, heads=2, tokens=12, batch=4, vocab=20)
P, R = 5, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """policy/ and value/ in float64, every parameter far from its start."""
    folder = tmp_path_factory.mktemp("models")
    for name, scalar_head in (("policy", False), ("value", True)):
        params, config = random_model(vocab=20, context=64, channels=16, layers=2, seed=1,
                                      scalar_head=scalar_head, spread=0.3)
        save(folder / name, params, config)
    return folder


def both(folder, name):
    params, config = load(folder / name, dtype="float64")
    return params, config, in_torch.load(folder / name)


def tokens_of(seed=0, rows=3, length=P + R):
    return np.random.default_rng(seed).integers(20, size=(rows, length))


def numpy(tensor):
    return tensor.detach().numpy()


def test_logits_and_values_are_ours(folder):
    for name, function in (("policy", logits), ("value", values)):
        params, config, model = both(folder, name)
        states = model.states(torch.from_numpy(tokens_of()))
        theirs = model.head(states) if name == "policy" else model.score(states).squeeze(-1)
        assert_close(numpy(theirs), function(params, config, tokens_of()), rtol=1e-9, atol=1e-9)


def test_every_gradient_of_a_training_step_is_ours(folder):
    params, config, model = both(folder, "policy")
    tokens = tokens_of()
    loss, grads = value_and_grad(next_token_loss)(params, config, tokens, tokens[:, 1:].size)
    targets = np.concatenate((tokens[:, 1:], np.full((3, 1), -100)), 1)
    theirs = torch.nn.functional.cross_entropy(
        model(torch.from_numpy(tokens)).flatten(0, 1), torch.from_numpy(targets).flatten())
    theirs.backward()
    assert_close(float(theirs.detach()), float(loss), rtol=1e-10)
    named = {name: leaf for name, leaf in leaves(grads)}
    assert len(named) == len(dict(model.named_parameters()))
    for name, leaf in named.items():
        found = dict(model.named_parameters())[in_torch.renamed(name)].grad
        wanted = numpy(found.T if in_torch.transposed(name) else found)
        assert abs(wanted - leaf).max() <= 1e-10 * abs(wanted).max(), name


def test_the_steps_of_all_sides_have_one_loss(tmp_path):
    from benchmarking import agreement, ours
    write_models(tmp_path, SIZE)
    task = SIZE.task("step", folder=str(tmp_path), shards=2, compile=False)
    once, theirs = ours.step(task), in_torch.step(task)
    for _ in range(3):
        assert agreement.losses(float(once()), theirs().item()) is None


def test_greedy_replies_of_all_sides_are_ours(folder):
    params, config = load(folder / "policy", dtype="float64")
    task = {"folder": str(folder), "vocab": 20, "batch": 7, "seed": 0}
    prompts = tasks.prompts(task).tolist()
    config = type(config)(**asdict(config) | {"pad_id": None, "eos_id": None})
    found = sample(params, config, prompts, tasks.ROLLOUT_NEW, temperature=0,
                   rng=np.random.default_rng(0)).tokens
    for module in (in_torch, in_transformers):
        assert module.rollout(task)().tolist() == found.tolist(), module.__name__
    assert len(set(map(tuple, found.tolist()))) > 1                  # not one reply to everything


def test_sampled_logprobs_are_those_of_a_fresh_forward_pass(folder):
    _, _, model = both(folder, "policy")
    prompts = torch.from_numpy(tokens_of(length=P))
    made, logprobs = ppo_in_torch.sampled(model, prompts, R)
    fresh = ppo_in_torch.reply_logprobs(model, torch.cat((prompts, made), 1), R)
    assert made.shape == (3, R)
    assert_close(numpy(logprobs), numpy(fresh), rtol=1e-9, atol=1e-9)


# --- PPO -----------------------------------------------------------------------------------------

def rollouts(rng):
    """The same numbers as a rollout of either side."""
    sequences = tokens_of()
    logprobs, ref_logprobs, old_values = rng.normal(-2, 1, (3, 3, R))
    scores, mask = rng.normal(size=3), np.ones((3, R), dtype=bool)
    ours = Rollout(sequences, np.ones_like(sequences, dtype=bool), mask, logprobs, ref_logprobs,
                   old_values, scores)
    return ours, ppo_in_torch.Rollout(*map(torch.from_numpy, (
        sequences, logprobs, ref_logprobs, old_values, scores)))


def test_advantages_and_returns_are_ours(rng):
    ours, theirs = rollouts(rng)
    config = PPOConfig(gamma=0.9, lam=0.8)
    wanted = ppo.advantages_and_returns(ours, 0.3, config)
    found = ppo_in_torch.advantages_and_returns(theirs, 0.3, 0.9, 0.8)
    for one, other in zip(found, wanted, strict=True):
        assert_close(numpy(one), other, rtol=1e-10, atol=1e-12)


def test_both_losses_of_a_minibatch_are_ours(folder, rng):
    ours, _ = rollouts(rng)
    advantages, returns = rng.normal(size=(2, 3, R))
    sequences = torch.from_numpy(ours.sequences)
    for name, loss, near, their_loss, target, old in (
            ("policy", policy_loss, response_logprobs, ppo_in_torch.policy_loss, advantages,
             "logprobs"),
            ("value", ppo.value_loss, response_values, ppo_in_torch.value_loss, returns, "values")):
        params, config, model = both(folder, name)
        # some inside, some outside of the clip range
        before = near(params, config, ours.sequences, ours.sequence_mask, R)
        before = before + rng.normal(0, 0.3, before.shape)
        batch = Rollout(**{**vars(ours), old: before})
        wanted = loss(params, config, batch, target, PPOConfig(), target.size)
        found = their_loss(model, sequences, torch.from_numpy(before), torch.from_numpy(target),
                           0.2)
        assert_close(float(found.detach()), float(wanted), rtol=1e-10)


def test_an_iteration_of_either_side_is_the_same_work(tmp_path):
    from benchmarking import agreement, ours
    write_models(tmp_path, SIZE)
    task = SIZE.task("ppo", batch=16, folder=str(tmp_path), shards=2, compile=False)
    once, theirs = ours.ppo(task), in_torch.ppo(task)
    for _ in range(2):
        found = once()
        assert agreement.work(found, theirs()) is None
    assert found == {"updates": 16, "length": 24.0}


# --- FLOPs ---------------------------------------------------------------------------------------

def test_the_flops_of_a_step_are_those_that_pytorch_counts(tmp_path):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    write_models(tmp_path, SIZE)
    once = in_torch.step(SIZE.task("step", folder=str(tmp_path), compile=False))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        once()
    assert counter.get_total_flops() == tasks.step_flops(SIZE)

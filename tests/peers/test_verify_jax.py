"""`minirlhf verify` on JAX: its arrays go in, in 64 bits, and its vjp gives the gradients."""

import json

import pytest

from minirlhf import cli

pytest.importorskip("jax", reason="jax is not installed: nothing to compare with")

ADAPTER = """
import jax
import jax.numpy as jnp

def token_logprobs(logits, tokens, temperature):
    logp = jax.nn.log_softmax(logits[:, :-1] / temperature)
    return jnp.take_along_axis(logp, tokens[:, 1:, None], -1)[..., 0]

def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, count=None):
    gap = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -jax.nn.log_sigmoid(gap).sum() / (count or len(gap))

def gae(rewards, values, mask, gamma, lam):
    rewards, values = jnp.where(mask, rewards, 0), jnp.where(mask, values, 0)
    deltas = rewards + gamma * jnp.pad(values[:, 1:], ((0, 0), (0, 1))) - values
    def step(later, delta):
        later = delta + gamma * lam * later
        return later, later
    _, advantages = jax.lax.scan(step, jnp.zeros(len(rewards)), deltas.T[::-1])
    return advantages[::-1].T, advantages[::-1].T + values

def kl_estimate(logprobs, ref_logprobs):
    return {detach}(logprobs) - ref_logprobs
"""


def test_an_adapter_in_jax_matches_and_a_stopped_gradient_is_named(tmp_path, capsys):
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER.replace("{detach}", "jax.lax.stop_gradient"), encoding="utf-8")
    assert cli.main(["verify", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    found = {one["function"]: one for one in report["functions"]}
    assert report["framework"] == "jax" and found["kl_estimate"]["named"] == ["kl-detached"]
    assert {name for name, one in found.items() if one["verdict"] == "matched"} == {
        "token_logprobs", "dpo_loss", "gae"}
    assert found["dpo_loss"]["gradients"] is True and found["dpo_loss"]["left_out"] == []


def test_it_matches_in_32_bits_too(tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER.replace("{detach}", ""), encoding="utf-8")
    assert cli.main(["verify", str(path), "--float32"]) == 0

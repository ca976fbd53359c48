"""The released traces are what PyTorch computes, and mistakes made in PyTorch are found and named.

trace_in_torch.py is the program; it imports nothing of this package.
"""

import ast
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import trace_in_torch  # noqa: E402
from helpers import assert_close  # noqa: E402

from minirlhf.conformance.trace.batch import read_arrays  # noqa: E402
from minirlhf.conformance.trace.folder import read_trace, released  # noqa: E402
from minirlhf.conformance.trace.locate import locate  # noqa: E402
from minirlhf.conformance.trace.steps import STEPS  # noqa: E402

PROGRAM = Path(trace_in_torch.__file__)
GPT2 = trace_in_torch.GPT2


def theirs(step, tmp_path, dtype=torch.float64) -> dict:
    trace_in_torch.main(released(step), str(tmp_path / "theirs.safetensors"), dtype)
    return read_arrays(tmp_path / "theirs.safetensors")


def found_in(step, tmp_path):
    found = locate(read_trace(released(step)), theirs(step, tmp_path))
    return found.first.name, [mistake.flag for mistake in found.first.mistakes]


def test_the_program_is_short_and_independent():
    source = PROGRAM.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
    imported = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} == {"json", "sys", "pathlib", "torch",
                                                         "safetensors"}


@pytest.mark.parametrize("step", STEPS)
def test_pytorch_computes_every_array_of_a_released_trace(step, tmp_path):
    trace, found = read_trace(released(step)), theirs(step, tmp_path)
    assert set(found) == set(trace.arrays)
    for rule in trace.step.rules:
        counts = trace.base[rule.mask] if rule.mask else ...
        for name in (n for n in found if n.split(".")[0] == rule.name):
            ours = trace.arrays[name][counts]
            assert_close(found[name][counts], ours, rtol=0, atol=1e-12 * max(1e-3, abs(ours).max()),
                         message=name)
    assert locate(trace, found).equal


@pytest.mark.parametrize("step", STEPS)
def test_pytorch_in_float32_agrees_to_what_float32_can(step, tmp_path):
    assert locate(read_trace(released(step)), theirs(step, tmp_path, torch.float32)).equal


# --- mistakes made in PyTorch --------------------------------------------------------------------

def test_an_embedding_that_is_not_tied_shows_in_the_gradient_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(GPT2, "logits", lambda self, tokens, mask: self.hidden(tokens, mask)
                        @ self.p["wte.weight"].detach().T)
    assert found_in("ppo_step", tmp_path) == ("policy_gradient", ["head-not-tied"])


def test_a_forgotten_attention_mask_is_named(tmp_path, monkeypatch):
    hidden = GPT2.hidden
    monkeypatch.setattr(GPT2, "hidden",
                        lambda self, tokens, mask: hidden(self, tokens, torch.ones_like(mask)))
    assert found_in("ppo_step", tmp_path) == ("logprobs", ["attention-mask-missing"])


def test_an_attention_that_is_not_scaled_is_located_at_the_first_thing_a_model_says(
        tmp_path, monkeypatch):
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention",
                        lambda *args, **more: attention(*args, scale=1.0, **more))
    assert found_in("ppo_step", tmp_path) == ("logprobs", [])


def test_a_wrong_backward_pass_under_a_right_forward_pass_is_located_at_the_gradient(
        tmp_path, monkeypatch):
    gelu = torch.nn.functional.gelu

    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return gelu(x, approximate="tanh")

        @staticmethod
        def backward(ctx, dy):
            return dy / 2
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x, approximate: Half.apply(x))
    assert found_in("ppo_step", tmp_path) == ("policy_gradient", [])


@pytest.mark.parametrize("optimizer, flag", [
    (lambda adamw, p, s: torch.optim.Adam(p, **s), "decay-coupled"),
    (lambda adamw, p, s: adamw(p, **s | {"weight_decay": 0.0}), "decay-missing"),
    (lambda adamw, p, s: adamw(p, **s | {"eps": 1e-8}), "epsilon-of-1e-8"),
    (lambda adamw, p, s: torch.optim.SGD(p, lr=s["lr"], weight_decay=s["weight_decay"]),
     "plain-descent")])
def test_another_optimizer_is_located_and_named(optimizer, flag, tmp_path, monkeypatch):
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW",
                        lambda p, **settings: optimizer(adamw, p, settings))
    assert found_in("grpo_step", tmp_path) == ("policy_after", [flag])


def test_the_models_open_in_transformers_and_say_the_same():
    trace = read_trace(released("ppo_step"))
    base, R = trace.base, trace.base["mask"].shape[1]
    tokens, mask = (torch.from_numpy(base[name]) for name in ("sequences", "sequence_mask"))
    inputs = {"attention_mask": mask.long(), "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    policy = transformers.AutoModelForCausalLM.from_pretrained(
        released("ppo_step") / "policy", dtype=torch.float64).eval()
    scorer = transformers.AutoModelForSequenceClassification.from_pretrained(
        released("ppo_step") / "reward", dtype=torch.float64).eval()
    with torch.no_grad():
        z = policy(tokens, **inputs).logits[:, -R - 1:-1] / base["temperature"]
        logprobs = z.log_softmax(-1).gather(-1, tokens[:, -R:, None])[..., 0].numpy()
        head = scorer.score(scorer.transformer(tokens, **inputs).last_hidden_state)[..., 0]
    assert_close(logprobs[base["mask"]], trace.arrays["logprobs"][base["mask"]], 1e-12)
    last = tokens.shape[1] - 1 - mask.flip(1).int().argmax(1)
    assert_close(head[torch.arange(len(last)), last].numpy(), trace.arrays["scores"], 1e-12)

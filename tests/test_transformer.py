"""The trunk and its two heads, against hand-worked numbers, laws, and Hugging Face's own numbers;
then checkpoints, which must come back to the bit or say what is wrong with them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from gradcheck import random_cotangent, slope
from helpers import assert_close, assert_same, host
from hypothesis import given
from hypothesis import strategies as st
from models import on, random_model, random_rows, row_logits

from minirlhf import ops
from minirlhf.arrays import NUMPY
from minirlhf.autograd import value_and_grad
from minirlhf.files import read_tensors, write_tensors
from minirlhf.parameters import count, leaves, pack, tree_map
from minirlhf.tokens import EOS, PAD, WordTokenizer, load_word_tokenizer, pad_left, pad_right
from minirlhf.transformer import (
    ModelConfig,
    attention_bias,
    initialize,
    load,
    logits,
    save,
    scores,
    shapes,
    values,
    with_scalar_head,
)

HUGGING_FACE = Path(__file__).parent / "fixtures" / "huggingface_c8"
V = 12                                                       # the vocabulary of `random_model`
row_lengths = st.lists(st.integers(1, 7), min_size=1, max_size=4)


def weighted_sum(y, u, backend):
    return ops.sum(ops.mul(y, backend.asarray(u)))


def assert_close_to_scale(actual, wanted, tolerance, name):
    """|actual − wanted| ≤ tolerance · the largest |wanted| of the whole tensor."""
    assert_close(actual, wanted, rtol=0, atol=tolerance * abs(host(wanted)).max(), message=name)


# --- hand-worked numbers -------------------------------------------------------------------------

def two_channel_model(backend):
    """One block whose branches end in zeros, so that only embedding, ln_f and heads are left."""
    config = ModelConfig(vocab_size=3, context=2, channels=2, heads=1, layers=1)
    params = initialize(config, rng=np.random.default_rng(0), dtype="float64")
    params["wte"]["weight"][...] = [[3, 1], [0, 2], [-1, 1]]
    params["wpe"]["weight"][...] = [[0, 0], [0, 4]]
    for part in ("attn", "mlp"):
        params["h"][0][part]["c_proj"]["weight"][...] = 0
    params["ln_f"]["weight"][...] = [2, 1]
    params["ln_f"]["bias"][...] = [0, 10]
    params = pack(params | {"score": {"weight": np.array([[1.0, 0.5]])}})
    return pack(tree_map(backend.asarray, params)), config


def test_worked_numbers_of_a_model_with_two_channels(backend):
    params, config = two_channel_model(backend)
    # token 0 at position 0 is (3, 1): mean 2, variance 1, normed ±n with n = 1/√(1 + 1e-5).
    # token 1 at position 1 is (0, 2 + 4): mean 3, variance 9, normed ∓m with m = 3/√(9 + 1e-5).
    n, m = 1 / np.sqrt(1 + 1e-5), 3 / np.sqrt(9 + 1e-5)
    h = np.array([[2 * n, 10 - n], [-2 * m, 10 + m]])
    (tokens,) = on(backend, np.array([[0, 1]]))
    wanted = [[3 * x + y, 2 * y, y - x] for x, y in h]                 # h · wteᵀ
    assert_close(logits(params, config, tokens), np.array([wanted]))
    assert_close(values(params, config, tokens), np.array([[5 + 1.5 * n, 5 - 1.5 * m]]))
    assert_close(scores(params, config, tokens), np.array([5 - 1.5 * m]))


# --- Hugging Face's numbers ----------------------------------------------------------------------

@pytest.fixture(scope="module")
def expected():
    return read_tensors(HUGGING_FACE / "expected.safetensors")


@pytest.mark.parametrize("head", ["logits", "scores"])
def test_values_and_every_gradient_are_hugging_faces(head, expected, backend):
    params, config = load(HUGGING_FACE, "float64")
    params = pack(tree_map(backend.asarray, params))
    tokens, mask = on(backend, expected["tokens"], expected["mask"])
    forward = {"logits": logits, "scores": scores}[head]
    real = expected["mask"] if head == "logits" else slice(None)

    def loss(params):
        return weighted_sum(forward(params, config, tokens, mask), expected[f"{head}_weight"],
                            backend)
    assert_close_to_scale(host(forward(params, config, tokens, mask))[real], expected[head][real],
                          1e-10, head)
    gradients = dict(leaves(value_and_grad(loss)(params)[1]))
    prefix = f"{head}_loss."
    names = {name.removeprefix(prefix) for name in expected if name.startswith(prefix)}
    assert names == gradients.keys() - ({"score.weight"} if head == "logits" else set())
    for name in names:
        assert_close_to_scale(gradients[name], expected[prefix + name], 1e-10, name)


# --- what may influence what ---------------------------------------------------------------------

@given(seed=st.integers(0, 2**32 - 1), t=st.integers(1, 6))
def test_a_later_token_changes_no_earlier_logit(backend, seed, t):
    rng = np.random.default_rng(seed)
    params, config = random_model(backend)
    tokens = rng.integers(0, V, (2, 7))
    changed = tokens.copy()
    changed[:, t:] = (tokens[:, t:] + rng.integers(1, V, (2, 7 - t))) % V
    before, after = (host(logits(params, config, *on(backend, x))) for x in (tokens, changed))
    assert_same(after[:, :t], before[:, :t])
    assert (abs(after[:, t:] - before[:, t:]).max(axis=-1) > 0).all()


def test_a_loss_of_the_first_tokens_has_no_gradient_in_later_positions(backend, rng):
    params, config = random_model(backend)
    (tokens,) = on(backend, rng.integers(0, V, (2, 6)))
    u = np.zeros((2, 6, V))
    u[:, :3] = random_cotangent((2, 3, V), rng)
    _, gradient = value_and_grad(
        lambda p: weighted_sum(logits(p, config, tokens), u, backend))(params)
    dwpe = host(gradient["wpe"]["weight"])
    assert_same(dwpe[3:], np.zeros_like(dwpe[3:]))
    assert (abs(dwpe[:3]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_worked_attention_bias_of_left_and_right_padding(dtype, backend):
    masks = backend.asarray(np.array([[False, True, True], [True, True, False]]))
    no = -np.inf
    assert_same(attention_bias(masks, dtype), np.array(
        [[[[0, no, no], [no, 0, no], [no, 0, 0]]],               # the pad sees itself, only itself
         [[[0, no, no], [0, 0, no], [0, 0, 0]]]], dtype))


# --- padding -------------------------------------------------------------------------------------

def forward_all(params, config, tokens, mask, backend):
    """Logits and values at real tokens, row by row, and scores: all on the host."""
    arrays = on(backend, tokens, mask)
    per_token = [host(f(params, config, *arrays)) for f in (logits, values)]
    return ([[y[real] for y, real in zip(batch, mask, strict=True)] for batch in per_token],
            host(scores(params, config, *arrays)))


@given(seed=st.integers(0, 2**32 - 1), lengths=row_lengths)
def test_padding_on_either_side_gives_the_numbers_of_the_row_alone(backend, seed, lengths):
    params, config = random_model(backend, scalar_head=True)
    rows = random_rows(np.random.default_rng(seed), lengths)
    alone = [forward_all(params, config, *pad_right([row]), backend) for row in rows]
    for pad in (pad_left, pad_right):
        (batch_logits, batch_values), batch_scores = forward_all(params, config, *pad(rows),
                                                                 backend)
        for b, (([own_logits], [own_values]), [own_score]) in enumerate(alone):
            assert_close(batch_logits[b], own_logits, atol=1e-12)
            assert_close(batch_values[b], own_values, atol=1e-12)
            assert_close(batch_scores[b], own_score, atol=1e-12)


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_extra_columns_of_padding_change_nothing(pad, backend, rng):
    params, config = random_model(backend, scalar_head=True)
    rows = random_rows(rng, [5, 2])
    (short, short_mask), (long, long_mask) = pad(rows), pad([*rows, [0] * 16])
    (a, b), c = forward_all(params, config, short, short_mask, backend)
    (a2, b2), c2 = forward_all(params, config, long[:2], long_mask[:2], backend)
    for x, y in zip([*a, *b, c], [*a2, *b2, c2], strict=True):
        assert_close(y, x, atol=1e-12)


@pytest.mark.parametrize("pad", [pad_left, pad_right])
@pytest.mark.parametrize("head", ["logits", "scores"])
def test_pads_may_hold_any_id_in_the_forward_pass_and_in_the_gradient(head, pad, backend, rng):
    params, config = random_model(backend, scalar_head=True)
    tokens, mask = pad(random_rows(rng, [6, 1, 3]))
    u = random_cotangent((3, 6, V) if head == "logits" else (3,), rng)

    def loss(p, tokens):
        y = {"logits": logits, "scores": scores}[head](p, config, *on(backend, tokens, mask))
        if head == "logits":
            y = ops.where(backend.asarray(mask[..., None]), y, 0)
        return weighted_sum(y, u, backend)
    wanted, gradient = value_and_grad(loss)(params, tokens)
    for filler in (rng.integers(0, V, tokens.shape), np.full(tokens.shape, V - 1)):
        poisoned = np.where(mask, tokens, filler)
        got, gradient2 = value_and_grad(loss)(params, poisoned)
        assert (poisoned != tokens).any()
        assert_close(got, wanted, atol=1e-12)
        assert_close(gradient2.flat, gradient.flat, atol=1e-12)


@pytest.mark.parametrize("special", [PAD, EOS])
def test_without_a_mask_every_token_is_real_and_no_pad_id_is_looked_for(special, backend, rng):
    params, config = random_model(backend, scalar_head=True)
    tokens = rng.integers(4, V, (2, 5))
    tokens[0, 3:], tokens[1, :2] = special, special          # where right and left padding stand
    (everything,) = on(backend, np.ones((2, 5), bool))
    (ids,) = on(backend, tokens)
    for f in (logits, values, scores):
        assert_same(f(params, config, ids), host(f(params, config, ids, everything)))
    assert_close(scores(params, config, ids), host(values(params, config, ids))[:, -1])


@given(seed=st.integers(0, 2**32 - 1))
def test_a_score_is_the_value_at_the_last_real_token_and_0_for_a_row_without_one(backend, seed):
    rng = np.random.default_rng(seed)
    params, config = random_model(backend, scalar_head=True)
    mask = rng.random((5, 6)) < 0.5                          # gaps too: only the last one counts
    mask[0] = False
    arrays = on(backend, rng.integers(0, V, (5, 6)), mask)
    every = host(values(params, config, *arrays))
    wanted = [v[real][-1] if real.any() else 0.0 for v, real in zip(every, mask, strict=True)]
    assert_close(scores(params, config, *arrays), np.array(wanted), rtol=1e-15, atol=0)


def test_a_row_without_a_token_has_no_gradient(backend, rng):
    params, config = random_model(backend, scalar_head=True)
    tokens, mask = pad_right(random_rows(rng, [4, 0]))
    _, gradient = value_and_grad(
        lambda p: scores(p, config, *on(backend, tokens, mask))[1])(params)
    assert_same(gradient.flat, np.zeros(params.flat.shape))


def test_permuting_the_rows_permutes_the_results(backend, rng):
    params, config = random_model(backend, scalar_head=True)
    tokens, mask = pad_right(random_rows(rng, [6, 2, 4, 1, 5]))
    order = rng.permutation(5)
    assert (order != np.arange(5)).any()
    for f in (logits, values, scores):
        straight = host(f(params, config, *on(backend, tokens, mask)))
        permuted = f(params, config, *on(backend, tokens[order], mask[order]))
        assert_close(permuted, straight[order], atol=1e-13)


# --- dtypes --------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_parameters_is_that_of_all_results_and_gradients(dtype, backend, rng):
    params, config = random_model(backend, scalar_head=True, dtype=dtype)
    arrays = on(backend, *pad_right(random_rows(rng, [4, 2])))
    for f in (logits, values, scores):
        assert f(params, config, *arrays).dtype == dtype
        y, gradient = value_and_grad(lambda p, f=f: ops.sum(f(p, config, *arrays)))(params)
        assert y.dtype == dtype and gradient.flat.dtype == dtype


def test_float32_and_float64_agree_to_a_hundred_thousandth_of_the_largest_number(backend, rng):
    tokens, mask = pad_right(random_rows(rng, [7, 3, 5]))
    results = {}
    for dtype in ("float32", "float64"):
        params, config = random_model(backend, scalar_head=True, dtype=dtype)

        def loss(p, config=config):
            y = logits(p, config, *on(backend, tokens, mask))
            return ops.sum(ops.where(backend.asarray(mask), ops.log_softmax(y)[:, :, 5], 0))
        gradient = value_and_grad(loss)(params)[1]
        results[dtype] = [host(f(params, config, *on(backend, tokens, mask)))
                          for f in (logits, scores)] + [host(gradient.flat)]
    for name, x, y in zip(["logits", "scores", "gradient"], results["float32"],
                          results["float64"], strict=True):
        assert_close_to_scale(x, y, 1e-5, name)
        assert abs(x - y).max() > 0                          # they are two different computations


# --- gradients -----------------------------------------------------------------------------------

@pytest.mark.parametrize("pad", [pad_left, pad_right])
@pytest.mark.parametrize("head", ["logits", "scores"])
def test_the_gradient_of_every_parameter_is_the_measured_slope(head, pad, backend, rng):
    params, config = random_model(backend, scalar_head=True)
    tokens, mask = pad(random_rows(rng, [6, 3, 1]))
    arrays, (real,) = on(backend, tokens, mask), on(backend, mask[..., None])
    u = random_cotangent((3, 6, V) if head == "logits" else (3,), rng)

    def loss(p):
        if head == "scores":
            return weighted_sum(scores(p, config, *arrays), u, backend)
        logprobs = ops.log_softmax(logits(p, config, *arrays))
        return weighted_sum(ops.where(real, logprobs, 0), u, backend)
    gradient = value_and_grad(loss)(params)[1]

    def loss_of(flat):
        moved = pack(params)
        moved.flat[...] = flat
        return float(loss(moved))

    def compare(direction, name):
        measured = slope(loss_of, params.flat, backend.asarray(direction), 1e-5)
        analytic = float(host(gradient.flat) @ direction)
        size = np.linalg.norm(direction) * float(np.linalg.norm(host(gradient.flat)))
        assert abs(analytic - measured) <= 1e-8 * size, f"{name}: {analytic}, not {measured}"

    for n in range(8):
        compare(rng.standard_normal(params.flat.shape), f"random direction {n}")
    start = 0
    for name, leaf in leaves(params):                        # then each parameter by itself
        direction = np.zeros(params.flat.shape)
        direction[start:start + leaf.size] = rng.standard_normal(leaf.size)
        start += leaf.size
        compare(direction, name)


def test_every_parameter_that_a_head_uses_gets_a_gradient(backend, rng):
    params, config = random_model(backend, scalar_head=True)
    arrays = on(backend, rng.integers(0, V, (2, 6)))
    for f, unused in ((logits, {"score.weight"}), (scores, set())):
        u = random_cotangent((2, 6, V) if f is logits else (2,), rng)
        _, gradient = value_and_grad(
            lambda p, f=f, u=u: weighted_sum(f(p, config, *arrays), u, backend))(params)
        for name, leaf in leaves(gradient):
            largest = abs(host(leaf)).max()
            assert largest == 0 if name in unused else largest > 1e-4, name


# --- initialisation ------------------------------------------------------------------------------

SIZES = ModelConfig(vocab_size=300, context=256, channels=64, heads=4, layers=3)


def test_the_parameters_have_the_names_and_shapes_of_a_gpt2_checkpoint():
    got = {name: leaf.shape for name, leaf in leaves(
        initialize(ModelConfig(7, 5, 4, 2, 1), rng=np.random.default_rng(0)))}
    assert got == {
        "wte.weight": (7, 4), "wpe.weight": (5, 4),
        "h.0.ln_1.weight": (4,), "h.0.ln_1.bias": (4,),
        "h.0.attn.c_attn.weight": (4, 12), "h.0.attn.c_attn.bias": (12,),
        "h.0.attn.c_proj.weight": (4, 4), "h.0.attn.c_proj.bias": (4,),
        "h.0.ln_2.weight": (4,), "h.0.ln_2.bias": (4,),
        "h.0.mlp.c_fc.weight": (4, 16), "h.0.mlp.c_fc.bias": (16,),
        "h.0.mlp.c_proj.weight": (16, 4), "h.0.mlp.c_proj.bias": (4,),
        "ln_f.weight": (4,), "ln_f.bias": (4,)}


def test_weights_start_with_gpt2s_scales_gains_with_1_and_biases_with_0(rng):
    for name, leaf in leaves(initialize(SIZES, rng=rng, dtype="float64")):
        if name.endswith("bias"):
            assert_same(leaf, np.zeros_like(leaf))
        elif ".ln_" in name or name.startswith("ln_f"):
            assert_same(leaf, np.ones_like(leaf))
        else:
            wanted = 0.02 / np.sqrt(2 * 3) if "c_proj" in name else 0.02
            error = wanted / np.sqrt(leaf.size)             # of a mean; of a deviation, less
            assert abs(leaf.mean()) < 4 * error, name
            assert abs(leaf.std() - wanted) < 4 * error, name


def test_names_and_shapes_take_no_memory():
    """Of a model with a billion numbers too, as they are read from its folder."""
    large = shapes(ModelConfig(50257, 1024, 1600, 25, 48))
    assert count(large) > 1.5e9
    assert {stride for _, leaf in leaves(large) for stride in leaf.strides} == {0}
    small = initialize(SIZES, rng=np.random.default_rng(0))
    assert [(name, leaf.shape) for name, leaf in leaves(shapes(SIZES))] == list(small.layout)


def test_the_draws_of_a_fresh_model_are_those_of_its_weights_one_after_the_other():
    """Which draw goes where is part of what a seed means."""
    rng, C = np.random.default_rng(3), SIZES.channels
    residual = 0.02 / np.sqrt(2 * SIZES.layers)
    wanted = {"wte.weight": rng.normal(0, 0.02, (SIZES.vocab_size, C)),
              "wpe.weight": rng.normal(0, 0.02, (SIZES.context, C))}
    for i in range(SIZES.layers):
        wanted[f"h.{i}.attn.c_attn.weight"] = rng.normal(0, 0.02, (C, 3 * C))
        wanted[f"h.{i}.attn.c_proj.weight"] = rng.normal(0, residual, (C, C))
        wanted[f"h.{i}.mlp.c_fc.weight"] = rng.normal(0, 0.02, (C, 4 * C))
        wanted[f"h.{i}.mlp.c_proj.weight"] = rng.normal(0, residual, (4 * C, C))
    made = dict(leaves(initialize(SIZES, rng=np.random.default_rng(3))))
    for name, draw in wanted.items():
        assert_same(made[name], draw.astype("float32"), name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_seed_gives_the_same_bits_and_another_gives_others(dtype, backend):
    def make(seed):
        params = initialize(SIZES, rng=np.random.default_rng(seed), dtype=dtype)
        return params, with_scalar_head(params, rng=np.random.default_rng(seed))
    for first, again, other in zip(make(1), make(1), make(2), strict=True):
        assert first.flat.dtype == dtype
        assert_same(first.flat, again.flat)
        assert (first.flat != other.flat).any()
    for name, leaf in leaves(make(1)[0]):
        if leaf.std() > 0:
            assert len(np.unique(leaf)) > 0.9 * leaf.size, name


def test_no_two_weights_of_a_fresh_model_are_copies_of_each_other(rng):
    weights = [leaf.ravel()[:64] for _, leaf in leaves(initialize(SIZES, rng=rng)) if leaf.std()]
    assert len({w.tobytes() for w in weights}) == len(weights) == 2 + 4 * 3


def test_a_fresh_model_thinks_all_tokens_about_equally_likely(backend, rng):
    params = pack(tree_map(backend.asarray, initialize(SIZES, rng=rng)))
    (tokens,) = on(backend, rng.integers(0, 300, (4, 10)))
    logprobs = host(ops.log_softmax(logits(params, SIZES, tokens)))
    assert abs(logprobs + np.log(300)).mean() < 0.2          # 0.02·√C = 0.16 is a logit's size


def test_a_scalar_head_is_put_on_an_independent_copy_of_the_trunk(backend):
    params, config = random_model(backend)
    scorer = with_scalar_head(params, rng=np.random.default_rng(5))
    before, scorer_before = host(params.flat).copy(), host(scorer.flat).copy()
    assert list(scorer) == [*params, "score"] and "score" not in params
    for name, leaf in leaves(params):
        assert_same(dict(leaves(scorer))[name], host(leaf))
    scorer.flat += 1
    assert_same(params.flat, before)
    params.flat -= 1
    assert_same(scorer.flat, scorer_before + 1)


def test_a_model_that_has_a_scalar_head_gets_a_new_one(backend):
    scorer, _ = random_model(backend, scalar_head=True)
    fresh = with_scalar_head(scorer, rng=np.random.default_rng(5))
    assert list(fresh) == list(scorer) and fresh.flat.shape == scorer.flat.shape
    assert (host(fresh["score"]["weight"]) != host(scorer["score"]["weight"])).all()


def test_a_new_scalar_head_gives_scores_of_about_unit_variance():
    params, config = random_model(channels=8, spread=0)
    heads = np.concatenate([
        with_scalar_head(params, rng=np.random.default_rng(seed))["score"]["weight"]
        for seed in range(400)])
    assert abs(heads.std() * 3 - 1) < 0.05                   # 1/√(C + 1) is a third
    hidden = ops.layer_norm(np.arange(8.0), np.ones(8), np.zeros(8))
    assert abs((heads @ hidden).var() - 8 / 9) < 0.2


# --- errors --------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [logits, values, scores])
def test_more_tokens_than_the_context_are_refused_and_the_whole_context_is_not(f, backend):
    params, config = random_model(backend, scalar_head=True, context=5)
    assert np.isfinite(host(f(params, config, *on(backend, np.zeros((1, 5), int))))).all()
    with pytest.raises(ValueError, match="6 tokens a row are more than the model's context of 5"):
        f(params, config, *on(backend, np.zeros((1, 6), int)))


@pytest.mark.parametrize("f", [logits, values, scores])
@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (3, 2)])
def test_a_mask_of_another_shape_is_refused(f, shape, backend):
    params, config = random_model(backend, scalar_head=True)
    with pytest.raises(ValueError, match="one shape") as error:
        f(params, config, *on(backend, np.zeros((2, 4), int), np.ones(shape, bool)))
    assert "(2, 4)" in str(error.value) and str(shape) in str(error.value)


@pytest.mark.parametrize("f", [logits, values])
@pytest.mark.parametrize("dtype", [int, float])
def test_a_mask_that_is_not_boolean_is_refused(f, dtype, backend):
    params, config = random_model(backend, scalar_head=True)
    with pytest.raises(TypeError, match="boolean"):
        f(params, config, *on(backend, np.zeros((2, 4), int), np.ones((2, 4), dtype)))


@pytest.mark.parametrize("shape", [(4,), (1, 2, 4)])
def test_tokens_without_two_axes_are_refused(shape, backend):
    params, config = random_model(backend)
    with pytest.raises(ValueError, match=r"tokens must have shape \(B, T\)"):
        logits(params, config, *on(backend, np.zeros(shape, int)))


def test_channels_that_the_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match=r"channels \(8\) must be a multiple of heads \(3\)"):
        ModelConfig(10, channels=8, heads=3)


# --- checkpoints ---------------------------------------------------------------------------------

def save_model(folder, **how):
    params, config = random_model(**how)
    save(folder, params, config)
    return params, config


def rewrite(folder, **changes):
    """Change settings of a saved config.json; None deletes one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


def rewrite_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = dict(read_tensors(path))
    write_tensors(path, change(tensors) or tensors)


def assert_same_tree(actual, wanted):
    assert [name for name, _ in leaves(actual)] == [name for name, _ in leaves(wanted)]
    for (name, x), (_, y) in zip(leaves(actual), leaves(wanted), strict=True):
        assert_same(x, host(y), name)


@pytest.mark.parametrize("scalar_head", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_comes_back_to_the_bit(dtype, scalar_head, backend, tmp_path, rng):
    params, config = random_model(backend, dtype=dtype, scalar_head=scalar_head, heads=4)
    save(tmp_path / "deep" / "model", params, config)
    loaded, loaded_config = load(tmp_path / "deep" / "model", dtype, backend.name)
    assert loaded_config == config
    assert_same_tree(loaded, params)
    assert_same(loaded.flat, host(params.flat))
    (tokens,) = on(backend, rng.integers(0, V, (2, 5)))
    f = scores if scalar_head else logits
    assert_same(f(loaded, config, tokens), host(f(params, config, tokens)))


def test_loading_converts_to_the_dtype_asked_for_by_default_float32(tmp_path):
    params, _ = save_model(tmp_path, dtype="float64")
    assert_same(load(tmp_path)[0].flat, params.flat.astype("float32"))


@pytest.mark.parametrize("ids", [(0, 1), (7, 3), (None, None)])
def test_pad_and_eos_ids_are_saved_with_the_model(ids, tmp_path):
    params, _ = random_model()
    config = ModelConfig(V, 16, 8, 2, 2, *ids)
    save(tmp_path, params, config)
    assert load(tmp_path)[1] == config
    settings = json.loads((tmp_path / "config.json").read_text())
    assert (settings["pad_token_id"], settings["eos_token_id"]) == ids


def test_a_tokenizer_is_saved_beside_its_model(tmp_path):
    params, config = random_model()
    tokenizer = WordTokenizer([f"word{i}" for i in range(V - 4)])
    save(tmp_path, params, config, tokenizer)
    assert load_word_tokenizer(tmp_path).ids == tokenizer.ids
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("scalar_head, architecture, labels", [
    (False, "GPT2LMHeadModel", None), (True, "GPT2ForSequenceClassification", 1)])
def test_the_files_say_which_hugging_face_model_they_are(scalar_head, architecture, labels,
                                                         tmp_path):
    save_model(tmp_path, scalar_head=scalar_head)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["architectures"] == [architecture] and settings["model_type"] == "gpt2"
    assert len(settings.get("id2label", ())) == (labels or 0)
    assert [settings[f"{part}_pdrop"] for part in ("resid", "embd", "attn")] == [0, 0, 0]
    names = set(read_tensors(tmp_path / "model.safetensors"))
    assert "transformer.h.1.mlp.c_proj.weight" in names and "lm_head.weight" not in names
    assert ("score.weight" in names) == scalar_head


@pytest.mark.parametrize("scalar_head", [False, True])
def test_names_without_the_prefix_load_as_well(scalar_head, tmp_path):
    params, _ = save_model(tmp_path, scalar_head=scalar_head)
    rewrite_tensors(tmp_path, lambda tensors: {
        name.removeprefix("transformer."): t for name, t in tensors.items()})
    assert "wte.weight" in read_tensors(tmp_path / "model.safetensors")
    assert_same_tree(load(tmp_path, "float64")[0], params)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_buffers_of_old_checkpoints_and_a_copy_of_the_tied_head_are_left_out(prefix, tmp_path):
    params, _ = save_model(tmp_path)

    def add_old_tensors(tensors):
        for layer in range(2):
            tensors[f"{prefix}h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 16, 16)))
            tensors[f"{prefix}h.{layer}.attn.masked_bias"] = np.array(-1e4)
        tensors["lm_head.weight"] = np.full((V, 8), 7.0)
    rewrite_tensors(tmp_path, add_old_tensors)
    assert_same_tree(load(tmp_path, "float64")[0], params)


@pytest.mark.parametrize("name, setting", [
    ("model_type", "gpt_neox"), ("activation_function", "relu"), ("activation_function", "gelu"),
    ("layer_norm_epsilon", 1e-6), ("scale_attn_weights", False),
    ("scale_attn_by_inverse_layer_idx", True), ("tie_word_embeddings", False),
    ("add_cross_attention", True), ("n_inner", 24), ("quantization_config", {"bits": 4})])
def test_a_setting_that_this_trunk_does_not_have_is_refused_by_name(name, setting, tmp_path):
    save_model(tmp_path)
    rewrite(tmp_path, **{name: setting})
    with pytest.raises(ValueError, match=re.escape(
            f"config.json: {name} is {setting!r}, but this trunk")):
        load(tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer"])
def test_a_size_that_the_configuration_lacks_is_named(name, tmp_path):
    save_model(tmp_path)
    rewrite(tmp_path, **{name: None})
    with pytest.raises(ValueError, match=f"config.json: {name} is missing"):
        load(tmp_path)


def test_settings_that_are_not_stated_are_taken_to_be_gpt2s(tmp_path):
    params, config = save_model(tmp_path)
    rewrite(tmp_path, activation_function=None, layer_norm_epsilon=None, scale_attn_weights=None,
            tie_word_embeddings=None, n_inner=None)
    assert_same_tree(load(tmp_path, "float64")[0], params)
    rewrite(tmp_path, activation_function="gelu_pytorch_tanh")             # the same function
    assert load(tmp_path)[1] == config


@pytest.mark.parametrize("name", ["wpe.weight", "h.1.attn.c_attn.bias", "ln_f.weight"])
def test_a_missing_tensor_is_named_with_its_file_and_shape(name, tmp_path):
    params, _ = save_model(tmp_path)
    rewrite_tensors(tmp_path, lambda tensors: {
        n: t for n, t in tensors.items() if n != f"transformer.{name}"})
    with pytest.raises(ValueError, match=f"model.safetensors: {name} should have shape .*is "
                                         "missing") as error:
        load(tmp_path)
    assert str(dict(leaves(params))[name].shape) in str(error.value)


@pytest.mark.parametrize("name, shape", [
    ("transformer.wte.weight", (V + 1, 8)), ("transformer.h.0.mlp.c_fc.weight", (32, 8)),
    ("score.weight", (2, 8))])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(name, shape, tmp_path):
    params, _ = save_model(tmp_path, scalar_head=True)
    rewrite_tensors(tmp_path, lambda tensors: tensors | {name: np.zeros(shape)})
    name = name.removeprefix("transformer.")
    with pytest.raises(ValueError, match=f"model.safetensors: {name} should have shape") as error:
        load(tmp_path)
    assert str(dict(leaves(params))[name].shape) in str(error.value)
    assert f"has {shape}" in str(error.value)


def test_fewer_layers_than_the_configuration_says_are_noticed(tmp_path):
    save_model(tmp_path)
    rewrite(tmp_path, n_layer=3)
    with pytest.raises(ValueError, match="h.2.ln_1.weight should have shape .* is missing"):
        load(tmp_path)


def test_a_tensor_that_no_such_model_has_is_named(tmp_path):
    """More layers than the configuration says, for instance: it would be another model."""
    save_model(tmp_path)
    rewrite(tmp_path, n_layer=1)
    with pytest.raises(ValueError, match="no tensor of a GPT-2 of 1 layers: h.1.attn.c_attn.bias"):
        load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_number_that_is_not_finite_is_named_with_its_tensor(value, tmp_path):
    params, config = random_model()
    params["h"][1]["mlp"]["c_fc"]["bias"][3] = value
    save(tmp_path, params, config)
    with pytest.raises(ValueError, match="h.1.mlp.c_fc.bias has entries that are not finite in "
                                         "float32"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_file_is_named(kept, tmp_path):
    save_model(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="model.safetensors: not a whole safetensors file"):
        load(tmp_path)


def test_a_configuration_that_is_not_json_is_named(tmp_path):
    save_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: not JSON"):
        load(tmp_path)


def test_a_write_that_fails_leaves_the_old_model_and_nothing_else(tmp_path, monkeypatch):
    params, config = save_model(tmp_path)

    written = iter(["config.json"])                          # the disk has room for no more

    def flush(file):
        if next(written, None) is None:
            raise OSError("no space left on device")
    monkeypatch.setattr("os.fsync", flush)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, *random_model(seed=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert_same_tree(load(tmp_path, "float64")[0], params)


def test_the_model_of_the_tests_listens_to_its_tokens(rng):
    """The laws above would hold of a model that ignores all but the last token; this one does
    not: its logits differ between tokens and positions, and the first token matters to the end."""
    params, config = random_model()
    row = random_rows(rng, [6])[0]
    z, z2 = (row_logits(params, config, NUMPY, x) for x in (row, [(row[0] + 1) % V, *row[1:]]))
    assert z.std(axis=0).min() > 0.1 and z.std(axis=1).min() > 0.1
    assert abs(z2 - z).max(axis=1).min() > 0.03

"""Sampling: the cache against fresh forward passes, the draw against its exact law, and when it
stops."""

import numpy as np
import pytest
from helpers import assert_close, assert_same, float_arrays, host
from hypothesis import given
from hypothesis import strategies as st
from models import on, random_model, random_rows, row_logits, row_logprobs

from minirlhf.parameters import pack, tree_map
from minirlhf.sampling import KeyValueCache, draw, filter_logits, sample
from minirlhf.tokens import EOS, PAD
from minirlhf.transformer import ModelConfig, trunk

V = 12                                                       # the vocabulary of `random_model`
PROMPT_LENGTHS = [5, 1, 3, 2]


def prompts_of(seed, lengths=PROMPT_LENGTHS):
    return random_rows(np.random.default_rng(seed), lengths)


def sampled(params, config, prompts, max_new, seed=0, **settings):
    """`sample`, on the host: tokens, mask, logprobs."""
    samples = sample(params, config, prompts, max_new, rng=np.random.default_rng(seed), **settings)
    return tuple(map(host, (samples.tokens, samples.mask, samples.logprobs)))


def replies(tokens, mask) -> list[list[int]]:
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


class ScriptedUniforms:
    """A generator whose uniforms are given: `sample` draws 1 − random, one row of them a step."""

    def __init__(self, uniforms):
        self.uniforms = np.asarray(uniforms)

    def random(self, shape):
        assert shape == self.uniforms.shape, "one uniform for each step and row"
        return 1 - self.uniforms


# --- worked numbers ------------------------------------------------------------------------------

def test_worked_draws(backend):
    logits = np.log([[0.5, 0.3, 0.15, 0.05]])
    for u, token in [(1e-9, 0), (0.4999, 0), (0.5001, 1), (0.7999, 1), (0.8001, 2), (0.9501, 3),
                     (1.0, 3)]:
        assert_same(draw(*on(backend, logits, np.array([u]))), np.array([token]))


@pytest.mark.parametrize("top_p, kept", [(0.3, 1), (0.49, 1), (0.51, 2), (0.7, 2), (0.79, 2),
                                         (0.81, 3), (0.96, 4), (1.0, 4)])
def test_worked_top_p_keeps_the_token_that_crosses(top_p, kept, backend):
    logits = np.log([[0.15, 0.5, 0.05, 0.3]])                # ranks 3, 1, 4, 2
    wanted = np.where(np.array([[3, 1, 4, 2]]) <= kept, logits, -np.inf)
    assert_same(filter_logits(backend.asarray(logits), top_p=top_p), wanted)


@pytest.mark.parametrize("top_k, kept", [(0, 4), (1, 1), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_worked_top_k(top_k, kept, backend):
    logits = np.log([[0.15, 0.5, 0.05, 0.3]])
    wanted = np.where(np.array([[3, 1, 4, 2]]) <= kept, logits, -np.inf)
    assert_same(filter_logits(backend.asarray(logits), top_k=top_k), wanted)


def test_top_k_keeps_all_that_tie_with_the_kth_and_top_p_takes_lower_ids_first(backend):
    (logits,) = on(backend, np.array([[0.0, 1.0, 0.0, 0.0, -1.0]]))
    no = -np.inf
    assert_same(filter_logits(logits, top_k=2), np.array([[0, 1.0, 0, 0, no]]))
    (equal,) = on(backend, np.zeros((2, 32)))                # p = 1/32 each, exactly
    for top_p, kept in [(0.25, 8), (0.26, 9), (1 / 64, 1)]:
        assert_same(filter_logits(equal, top_p=top_p),
                    np.tile(np.where(np.arange(32) < kept, 0, no), (2, 1)))
    levels = np.random.default_rng(0).integers(0, 2, 999)    # the likely tokens among the others
    p = np.exp(levels) / np.exp(levels).sum()
    kept = host(filter_logits(backend.asarray(levels[None] * 1.0), top_p=100.5 * p.max())) > no
    assert_same(np.flatnonzero(kept[0]), np.flatnonzero(levels)[:101])


def test_top_p_is_taken_among_what_top_k_has_left(backend):
    # of the best two, 5/8 and 3/8, the first alone reaches 0.6; of all four it does not
    (logits,) = on(backend, np.log([[0.5, 0.3, 0.15, 0.05]]))
    kept = host(filter_logits(logits, top_k=2, top_p=0.6)) > -np.inf
    assert_same(kept, np.array([[True, False, False, False]]))
    assert (host(filter_logits(logits, top_p=0.6)) > -np.inf).sum() == 2


@given(logits=float_arrays((3, 7), -4, 4), top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_set_of_most_likely_tokens_that_reaches_p(
        backend, logits, top_p):
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    kept = host(filter_logits(backend.asarray(logits), top_p=top_p)) > -np.inf
    for z, row, keep in zip(logits, p, kept, strict=True):
        assert keep.any() and row[keep].sum() >= top_p - 1e-12
        assert row[keep].sum() - row[keep].min() < top_p + 1e-12      # one less is too few
        if not keep.all():
            assert z[~keep].max() <= z[keep].min()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_filter_keeps_the_dtype_and_writes_to_no_input(dtype, backend, rng):
    logits = rng.standard_normal((2, 6)).astype(dtype)
    (given_logits,) = on(backend, logits.copy())
    got = filter_logits(given_logits, 3, 0.5)
    assert got.dtype == dtype
    assert_same(given_logits, logits)


# --- the law of the draw -------------------------------------------------------------------------

@given(logits=float_arrays((1, 6), -6, 6))
def test_on_a_grid_of_uniforms_every_token_comes_as_often_as_it_is_likely(backend, logits):
    n = 500
    uniforms = np.arange(1, n + 1) / n
    drawn = host(draw(*on(backend, np.repeat(logits, n, axis=0), uniforms)))
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    frequencies = np.bincount(drawn, minlength=6) / n
    assert abs(frequencies - p).max() <= 1 / n + 1e-12
    assert (np.diff(drawn) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(allowed=st.lists(st.booleans(), min_size=2, max_size=6).filter(any),
       u=st.sampled_from([2.0**-53, 1e-30, 0.5, 1 - 2.0**-24, 1.0]), seed=st.integers(0, 999))
def test_a_token_of_probability_0_is_never_drawn(backend, dtype, allowed, u, seed):
    z = np.random.default_rng(seed).standard_normal((1, len(allowed)))
    logits = np.where(allowed, z, -np.inf).astype(dtype)
    (token,) = host(draw(*on(backend, logits, np.array([u], dtype))))
    assert 0 <= token < len(allowed) and allowed[token]


def test_a_uniform_of_1_draws_the_last_possible_token_and_a_tiny_one_the_first(backend):
    logits = np.array([[-np.inf, 0.0, 1.0, -np.inf, 2.0, -np.inf]] * 2, np.float32)
    assert_same(draw(*on(backend, logits, np.array([1.0, 2.0**-53], np.float32))),
                np.array([4, 1]))


def test_the_draw_forgets_a_shift_of_the_logits(backend, rng):
    logits, uniforms = rng.standard_normal((50, 6)), 1 - rng.random(50)
    assert_same(draw(*on(backend, logits + 900, uniforms)),
                host(draw(*on(backend, logits, uniforms))))


def test_each_row_is_drawn_with_its_own_uniform(backend, rng):
    logits, uniforms = rng.standard_normal((20, 6)), 1 - rng.random(20)
    alone = [host(draw(*on(backend, logits[b:b + 1], uniforms[b:b + 1])))[0] for b in range(20)]
    assert_same(draw(*on(backend, logits, uniforms)), np.array(alone))
    assert len(set(alone)) > 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_first_tokens_are_as_frequent_as_the_softmax_at_the_temperature_says(temperature, backend):
    params, config = random_model(backend, spread=0.25)
    (prompt,), n = prompts_of(3, [4]), 4000
    tokens, _, _ = sampled(params, config, [prompt] * n, 1, seed=1, temperature=temperature)
    z = row_logits(params, config, backend, prompt)[-1] / temperature
    p = np.exp(z) / np.exp(z).sum()
    expected, counts = n * p, np.bincount(tokens[:, 0], minlength=V)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert expected.min() > 5 and p.max() > 2 / V
    assert chi_square < 40                # 11 degrees of freedom: above it once in 30,000 draws


# --- greedy decoding -----------------------------------------------------------------------------

def greedy_without_cache(params, config, backend, prompt, max_new) -> list[int]:
    """One full forward pass a token, over the row so far."""
    row = list(prompt)
    while len(row) < len(prompt) + max_new and (len(row) == len(prompt) or row[-1] != EOS):
        row.append(int(row_logits(params, config, backend, row)[-1].argmax()))
    return row[len(prompt):]


@pytest.mark.parametrize("seed", range(6))
def test_greedy_replies_of_a_batch_are_those_of_each_row_alone_without_a_cache(seed, backend):
    params, config = random_model(backend, seed=seed)
    prompts = prompts_of(seed)
    together = replies(*sampled(params, config, prompts, 8, temperature=0)[:2])
    for prompt, reply in zip(prompts, together, strict=True):
        assert reply == greedy_without_cache(params, config, backend, prompt, 8)
        alone = sampled(params, config, [prompt], 8, temperature=0)
        assert replies(*alone[:2]) == [reply]


def test_the_greedy_models_of_these_tests_say_different_things(backend):
    said = [tuple(reply) for seed in range(6) for reply in replies(
        *sampled(*random_model(backend, seed=seed), prompts_of(seed), 8, temperature=0)[:2])]
    assert len(set(said)) > 12 and len({len(reply) for reply in said}) > 1


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_a_draw_with_one_candidate_is_greedy(settings, backend):
    params, config = random_model(backend, seed=1)
    greedy = sampled(params, config, prompts_of(1), 8, temperature=0)
    got = sampled(params, config, prompts_of(1), 8, **settings)
    assert_same(got[0], greedy[0])
    assert_same(got[1], greedy[1])


def test_greedy_decoding_needs_no_luck_and_reports_logprobs_at_temperature_1(backend):
    params, config = random_model(backend, seed=1)
    first = sampled(params, config, prompts_of(1), 8, seed=0, temperature=0)
    for a, b in zip(first, sampled(params, config, prompts_of(1), 8, seed=9, temperature=0),
                    strict=True):
        assert_same(a, b)
    assert_logprobs_are_those_of_a_fresh_pass(params, config, backend, prompts_of(1), first, 1.0,
                                              1e-10)


# --- log-probabilities ---------------------------------------------------------------------------

def assert_logprobs_are_those_of_a_fresh_pass(params, config, backend, prompts, samples,
                                              temperature, tolerance):
    tokens, mask, logprobs = samples
    for prompt, row, real, got in zip(prompts, tokens, mask, logprobs, strict=True):
        reply = row[real].tolist()
        fresh = row_logprobs(params, config, backend, [*prompt, *reply], temperature)
        assert_close(got[real], fresh[len(prompt) - 1:].astype(got.dtype), rtol=0, atol=tolerance)
        assert_same(got[~real], np.zeros_like(got[~real]))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-4)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7}], ids=str)
def test_logprobs_are_those_of_the_whole_distribution_at_the_sampling_temperature(
        temperature, dtype, tolerance, settings, backend):
    params, config = random_model(backend, dtype=dtype)
    samples = sampled(params, config, prompts_of(0), 10, temperature=temperature, **settings)
    assert samples[2].dtype == dtype
    assert_logprobs_are_those_of_a_fresh_pass(params, config, backend, prompts_of(0), samples,
                                              temperature, tolerance)


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.4}, {"top_k": 5, "top_p": 0.6}],
                         ids=str)
def test_a_token_that_was_filtered_out_is_never_drawn(settings, backend):
    params, config = random_model(backend)
    prompts = prompts_of(2, [3] * 100)
    drawn = 0
    for prompt, reply in zip(prompts, replies(*sampled(params, config, prompts, 6,
                                                       **settings)[:2]), strict=True):
        z = row_logits(params, config, backend, [*prompt, *reply])
        allowed = host(filter_logits(backend.asarray(z), **settings)) > -np.inf
        for t, token in enumerate(reply, len(prompt)):
            assert allowed[t - 1, token]
            drawn += int(z[t - 1].argmax() != token)
    assert drawn > 20                                        # and it was not merely greedy


# --- where a reply ends --------------------------------------------------------------------------

def model_that_says(backend, script):
    """A model of one-hot tokens: after token a it says script[a], whatever came before."""
    size = len(script)
    params, config = random_model(backend, vocab=size, channels=size, heads=1, layers=1, spread=0)
    host_params = tree_map(lambda leaf: 0 * host(leaf), params)
    wte = host_params["wte"]["weight"]
    wte[...] = np.eye(size)                                  # ln_f keeps which entry is largest …
    host_params["ln_f"]["weight"] += 1
    c_fc, c_proj = (host_params["h"][0]["mlp"][name] for name in ("c_fc", "c_proj"))
    host_params["h"][0]["ln_2"]["weight"] += 1
    c_fc["weight"][:, :size] = np.eye(size)                  # … and the MLP maps a to script[a]
    c_proj["weight"][np.arange(size), script] = 9
    return pack(tree_map(backend.asarray, host_params)), config


def test_worked_stops_of_rows_that_end_at_different_times(backend):
    # 5 → 4 → 3 → 2 → eos
    params, config = model_that_says(backend, [0, 0, EOS, 2, 3, 4])
    tokens, mask, logprobs = sampled(params, config, [[5], [0, 2], [3, 4]], 9, temperature=0)
    assert_same(tokens, np.array([[4, 3, 2, EOS], [EOS, PAD, PAD, PAD], [3, 2, EOS, PAD]]))
    assert_same(mask, np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]], bool))
    assert (logprobs[mask] < 0).all() and (logprobs[~mask] == 0).all()


def test_rows_that_have_ended_leave_when_they_are_half_of_the_batch(backend, monkeypatch):
    """Replies of 1, 1, 2, 3, 4, 4, 4 and 4 tokens: 8 rows, 6 of them still to go on, then 5, then
    the half of 8, which stays."""
    params, config = model_that_says(backend, [0, 0, EOS, 2, 3, 4])
    computed = []

    def counted(params, config, tokens, *more):
        computed.append(len(tokens))
        return trunk(params, config, tokens, *more)

    monkeypatch.setattr("minirlhf.sampling.trunk", counted)
    prompts = [[last] for last in (2, 5, 2, 3, 5, 4, 5, 5)]
    tokens, mask, _ = sampled(params, config, prompts, 9, temperature=0)
    assert mask.sum(axis=1).tolist() == [1, 4, 1, 2, 4, 3, 4, 4]
    assert computed == [8, 8, 8, 4]
    assert [tokens[i].tolist() for i in (1, 7)] == [[4, 3, 2, EOS]] * 2


@pytest.mark.parametrize("max_new", [1, 2, 3])
def test_a_reply_that_does_not_end_is_cut_and_gets_no_eos(max_new, backend):
    params, config = model_that_says(backend, [0, 0, EOS, 2, 3, 4])
    tokens, mask, _ = sampled(params, config, [[5]], max_new, temperature=0)
    assert_same(tokens, np.array([[4, 3, 2][:max_new]]))
    assert mask.all()


def test_without_an_eos_id_every_row_runs_to_its_full_length(backend):
    params, config = model_that_says(backend, [0, 0, EOS, 2, 3, 4])
    endless = ModelConfig(6, 16, 6, 1, 1, pad_id=None, eos_id=None)
    tokens, mask, _ = sampled(params, endless, [[3], [2]], 4, temperature=0)
    assert_same(tokens, np.array([[2, EOS, 0, 0], [EOS, 0, 0, 0]]))
    assert mask.all()


def test_what_stands_after_the_end_is_the_models_own_pad_id(backend):
    params, _ = model_that_says(backend, [0, 0, EOS, 2, 3, 4])
    tokens, _, _ = sampled(params, ModelConfig(6, 16, 6, 1, 1, pad_id=5), [[3], [2]], 4,
                           temperature=0)
    assert_same(tokens, np.array([[2, EOS], [EOS, 5]]))


@given(seed=st.integers(0, 2**32 - 1), temperature=st.sampled_from([0.0, 0.7, 1.0]))
def test_every_reply_is_a_prefix_of_its_row_with_at_most_one_eos_at_its_end(
        backend, seed, temperature):
    params, config = random_model(backend, seed=seed % 7)
    tokens, mask, logprobs = sampled(params, config, prompts_of(seed), 9, seed,
                                     temperature=temperature)
    assert tokens.shape == mask.shape == logprobs.shape and tokens.shape[1] <= 9
    lengths = mask.sum(axis=1)
    assert lengths.max() == tokens.shape[1] and lengths.min() >= 1     # no column for nobody
    assert_same(mask, np.arange(tokens.shape[1]) < lengths[:, None])
    for reply in replies(tokens, mask):
        assert EOS not in reply[:-1] and (reply[-1] == EOS or len(reply) == 9)
    assert (tokens[~mask] == PAD).all() and (logprobs[~mask] == 0).all()
    assert np.isfinite(logprobs).all() and tokens.min() >= 0 and tokens.max() < V


def test_a_prompt_may_end_with_eos_and_still_gets_a_reply(backend):
    params, config = random_model(backend)
    _, mask, _ = sampled(params, config, [[4, EOS], [EOS]], 3)
    assert mask[:, 0].all()


def test_prompt_and_reply_may_fill_the_context_to_the_last_token(backend):
    params, config = random_model(backend, context=8)
    prompts = prompts_of(4, [5, 2])
    tokens, mask, logprobs = samples = sampled(params, config, prompts, 3, temperature=0)
    assert tokens.shape == (2, 3)
    assert_logprobs_are_those_of_a_fresh_pass(params, config, backend, prompts, samples, 1.0,
                                              1e-10)


def test_the_cache_moves_on_by_the_tokens_that_every_layer_has_seen(backend):
    """Not before the last layer has read them: all layers of one pass write to the same columns."""
    params, config = random_model(backend, layers=3)
    cache = KeyValueCache(config, backend.asarray(np.ones((2, 3), bool)), 6, np.float64)
    for n, before in ((3, 0), (1, 3), (1, 4)):
        for layer in range(3):
            assert cache.filled == before
            cache.attend(layer, backend.asarray(np.ones((2, n, 3 * config.channels))))
        assert cache.filled == before + n


# --- randomness ----------------------------------------------------------------------------------

def test_one_seed_gives_the_same_tokens_and_another_gives_others(backend):
    params, config = random_model(backend)
    first, again, other = (sampled(params, config, prompts_of(0), 10, seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)
    assert replies(*first[:2]) != replies(*other[:2])


def test_a_row_depends_on_its_own_prompt_and_uniforms_and_on_no_other_row(backend, rng):
    params, config = random_model(backend)
    prompts, uniforms = prompts_of(0), 1 - rng.random((10, 4))
    def reply_to(rows):
        samples = sample(params, config, [prompts[b] for b in rows], 10,
                         rng=ScriptedUniforms(uniforms[:, rows]))
        return replies(host(samples.tokens), host(samples.mask))
    together = reply_to([0, 1, 2, 3])
    assert reply_to([2, 0, 3, 1]) == [together[b] for b in (2, 0, 3, 1)]
    assert [reply for b in range(4) for reply in reply_to([b])] == together
    assert len(set(map(tuple, together))) == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_and_the_smallest_uniforms_give_tokens_of_the_vocabulary(dtype, backend):
    params, config = random_model(backend, dtype=dtype)
    prompts = prompts_of(0)
    for u, token in ((1.0, V - 1), (2.0**-53, 0)):
        samples = sample(params, config, prompts, 3, rng=ScriptedUniforms(np.full((3, 4), u)))
        assert_same(host(samples.tokens)[:, 0], np.full(4, token))


# --- errors --------------------------------------------------------------------------------------

@pytest.mark.parametrize("prompts", [[], [[]], [[4, 5], []]])
def test_no_prompt_or_an_empty_one_is_refused(prompts, backend):
    params, config = random_model(backend)
    with pytest.raises(ValueError, match="at least one prompt, each with at least one token"):
        sampled(params, config, prompts, 3)


@pytest.mark.parametrize("longest, max_new", [(16, 1), (10, 7), (3, 14), (3, 0), (3, -1)])
def test_a_reply_that_does_not_fit_the_context_is_refused(longest, max_new, backend):
    params, config = random_model(backend, context=16)
    with pytest.raises(ValueError, match=rf"\({longest} tokens\) and max_new \({max_new}\).* 16"):
        sampled(params, config, prompts_of(0, [2, longest]), max_new)


@pytest.mark.parametrize("settings", [
    {"temperature": -0.1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0},
    {"top_p": 1.1}, {"top_p": -0.5}, {"top_p": float("nan")}], ids=str)
def test_settings_out_of_range_are_refused(settings, backend):
    params, config = random_model(backend)
    with pytest.raises(ValueError, match="wanted temperature ≥ 0, top_k ≥ 0 and 0 < top_p ≤ 1"):
        sampled(params, config, [[4]], 3, **settings)

"""The rollout: every array against the row-by-row way to compute it, on rows without padding."""

import dataclasses

import numpy as np
import pytest
from helpers import assert_close, assert_same, host
from hypothesis import given
from hypothesis import strategies as st
from models import on, random_model, random_rows, row_logprobs

from minirlhf.rollout import (
    Models,
    Rollout,
    collect,
    generate,
    join,
    measured_logprobs,
    response_logprobs,
    response_values,
    rows_at_once,
    score_replies,
)
from minirlhf.sampling import Samples, sample
from minirlhf.tokens import EOS, PAD, WordTokenizer, strip
from minirlhf.transformer import ModelConfig, scores, values

V = 12                                                       # the vocabulary of `random_model`
PROMPT_LENGTHS = [5, 1, 3, 2, 4]


@pytest.fixture(scope="module")
def models(backend):
    """Four different models, and their configuration."""
    policy, config = random_model(backend, seed=1)
    reference, _ = random_model(backend, seed=2)
    value, _ = random_model(backend, seed=3, scalar_head=True)
    reward, _ = random_model(backend, seed=4, scalar_head=True)
    return Models(policy, value, reward, reference), config


def prompts_of(seed, lengths=PROMPT_LENGTHS):
    return random_rows(np.random.default_rng(seed), lengths)


def random_batch(backend, rng, longest_response=6):
    """Prompts, responses (rows), and what `join` makes of them; the pads hold any id."""
    prompts = random_rows(rng, rng.integers(1, 6, 4))
    responses = random_rows(rng, rng.integers(1, longest_response + 1, 4))
    R = max(map(len, responses))
    mask = np.arange(R) < np.array([[len(row)] for row in responses])
    tokens = rng.integers(0, V, (4, R))
    for row, response in zip(tokens, responses, strict=True):
        row[:len(response)] = response
    samples = Samples(*on(backend, tokens, mask, np.zeros((4, R))))
    return prompts, responses, mask, join(prompts, samples)


def row_values(params, config, backend, row) -> np.ndarray:
    return host(values(params, config, *on(backend, np.array([row]))))[0]


def collected(models, seed=0, max_new=7, **settings):
    models, config = models
    return collect(models, config, prompts_of(seed), max_new, rng=np.random.default_rng(seed),
                   **settings)


# --- the layout ----------------------------------------------------------------------------------

def test_worked_layout_of_two_prompts_and_their_responses(backend):
    samples = Samples(*on(backend, np.array([[7, EOS, PAD], [8, 9, EOS]]),
                          np.array([[1, 1, 0], [1, 1, 1]], bool), np.zeros((2, 3))))
    tokens, mask = join([[4, 5, 6], [5]], samples)
    assert_same(tokens, np.array([[4, 5, 6, 7, EOS, PAD], [PAD, PAD, 5, 8, 9, EOS]]))
    assert_same(mask, np.array([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]], bool))


@given(seed=st.integers(0, 2**32 - 1))
def test_stripping_a_joined_batch_gives_prompt_and_response_one_after_the_other(backend, seed):
    prompts, responses, _, (sequences, sequence_mask) = random_batch(
        backend, np.random.default_rng(seed))
    assert strip(host(sequences), host(sequence_mask)) == [
        [*p, *r] for p, r in zip(prompts, responses, strict=True)]


# --- the columns of a response -------------------------------------------------------------------

@given(seed=st.integers(0, 2**32 - 1), temperature=st.sampled_from([0.5, 1.0, 1.5]))
def test_response_logprobs_are_those_of_each_response_token_in_its_own_row(
        backend, models, seed, temperature):
    prompts, responses, mask, (sequences, sequence_mask) = random_batch(
        backend, np.random.default_rng(seed))
    got = host(response_logprobs(models[0].policy, models[1], sequences, sequence_mask,
                                 mask.shape[1], temperature))
    assert got.shape == mask.shape
    for prompt, response, row, real in zip(prompts, responses, got, mask, strict=True):
        naive = row_logprobs(models[0].policy, models[1], backend, [*prompt, *response],
                             temperature)
        assert_close(row[real], naive[len(prompt) - 1:], atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_response_values_are_read_where_each_response_token_was_chosen(backend, models, seed):
    prompts, responses, mask, (sequences, sequence_mask) = random_batch(
        backend, np.random.default_rng(seed))
    got = host(response_values(models[0].value, models[1], sequences, sequence_mask,
                               mask.shape[1]))
    assert got.shape == mask.shape
    for prompt, response, row, real in zip(prompts, responses, got, mask, strict=True):
        # the value of the state before token i: of the prompt and the first i response tokens
        naive = [row_values(models[0].value, models[1], backend, [*prompt, *response[:i]])[-1]
                 for i in range(len(response))]
        assert_close(row[real], np.array(naive), atol=1e-12)


def test_a_response_token_does_not_know_its_own_value_or_what_comes_later(backend, models, rng):
    """Changing response token i changes the values after it, and no value up to its own."""
    prompts, _, mask, (sequences, sequence_mask) = random_batch(backend, rng)
    P = sequences.shape[1] - mask.shape[1]
    row, i = int(mask.sum(axis=1).argmax()), 1
    changed = host(sequences).copy()
    changed[row, P + i] = (changed[row, P + i] + 1) % V
    before, after = (host(response_values(models[0].value, models[1], *on(
        backend, tokens, host(sequence_mask)), mask.shape[1]))
        for tokens in (host(sequences), changed))
    assert_same(after[row, :i + 1], before[row, :i + 1])
    assert (after[row, i + 1:] != before[row, i + 1:]).all() and mask[row].sum() > i + 1


@given(seed=st.integers(0, 2**32 - 1))
def test_what_pads_hold_changes_nothing_that_is_real(backend, models, seed):
    rng = np.random.default_rng(seed)
    _, _, mask, (sequences, sequence_mask) = random_batch(backend, rng)
    other = np.where(host(sequence_mask), host(sequences),
                     rng.integers(0, V, sequence_mask.shape))
    for f, params in ((response_logprobs, models[0].policy), (response_values, models[0].value)):
        clean, dirty = (host(f(params, models[1], *on(backend, tokens, host(sequence_mask)),
                               mask.shape[1])) for tokens in (host(sequences), other))
        assert_close(dirty[mask], clean[mask], atol=1e-12)


# --- scores --------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 256])
def test_scores_of_a_list_are_those_of_each_row_alone_whatever_the_batch_size(
        batch_size, backend, models, rng):
    rows = random_rows(rng, [3, 9, 1, 5, 2, 7, 4])
    alone = [host(scores(models[0].reward, models[1], *on(backend, np.array([row]))))[0]
             for row in rows]
    got = score_replies(models[0].reward, models[1], rows, batch_size)
    assert type(got) is type(backend.asarray(np.zeros(1)))        # where the parameters are
    assert_close(got, np.array(alone), atol=1e-12)


# --- the whole rollout ---------------------------------------------------------------------------

@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_every_array_of_a_rollout_is_that_of_its_rows_alone(temperature, backend, models):
    rollout = collected(models, temperature=temperature)
    (policy, value, reward, reference), config = models
    mask = host(rollout.mask)
    rows = strip(host(rollout.sequences), host(rollout.sequence_mask))
    for b, (prompt, row) in enumerate(zip(prompts_of(0), rows, strict=True)):
        P, real = len(prompt), mask[b]
        assert row[:P] == prompt and len(row) == P + real.sum()
        for got, wanted in [
                (rollout.logprobs, row_logprobs(policy, config, backend, row, temperature)),
                (rollout.ref_logprobs, row_logprobs(reference, config, backend, row,
                                                    temperature)),
                (rollout.values, row_values(value, config, backend, row)[:-1])]:
            assert_close(host(got)[b][real], wanted[P - 1:], rtol=0, atol=1e-10)
        assert_close(host(rollout.scores)[b], row_values(reward, config, backend, row)[-1],
                     rtol=0, atol=1e-12)


def test_the_shapes_and_kinds_of_a_rollout_are_those_its_docstring_says(backend, models):
    rollout = collected(models)
    B, R = rollout.mask.shape
    assert B == len(PROMPT_LENGTHS) == len(rollout)
    for name in ("logprobs", "ref_logprobs", "values"):
        assert getattr(rollout, name).shape == (B, R)
    assert rollout.scores.shape == (B,)
    assert rollout.sequences.shape == rollout.sequence_mask.shape == (B, max(PROMPT_LENGTHS) + R)
    for field in dataclasses.fields(rollout):
        array = getattr(rollout, field.name)
        assert type(array) is type(backend.asarray(np.zeros(1)))
        assert array.dtype.kind == {"sequences": "i", "sequence_mask": "b", "mask": "b"}.get(
            field.name, "f")


@given(seed=st.integers(0, 2**32 - 1))
def test_the_mask_is_a_prefix_of_each_row_that_ends_with_eos_or_at_the_limit(models, seed):
    rollout = collected(models, seed, max_new=6)
    mask, tokens = host(rollout.mask), host(rollout.sequences)[:, -rollout.mask.shape[1]:]
    lengths = mask.sum(axis=1)
    assert_same(mask, np.arange(mask.shape[1]) < lengths[:, None])
    assert_same(host(rollout.sequence_mask)[:, -mask.shape[1]:], mask)
    assert lengths.min() >= 1 and lengths.max() == mask.shape[1] <= 6
    for row, length in zip(tokens, lengths, strict=True):
        assert EOS not in row[:length - 1] and (row[length - 1] == EOS or length == 6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_the_samplers_logprobs_are_those_that_the_loss_will_compute_before_the_first_step(
        temperature, models):
    rollout = collected(models, temperature=temperature)
    fresh = host(response_logprobs(models[0].policy, models[1], rollout.sequences,
                                   rollout.sequence_mask, rollout.mask.shape[1], temperature))
    mask = host(rollout.mask)
    ratio = np.exp(fresh - host(rollout.logprobs))[mask]
    assert_close(ratio, np.ones(mask.sum()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_a_policy_that_is_its_own_reference_has_no_log_ratio(temperature, models):
    four, config = models
    rollout = collected((four._replace(reference=four.policy), config), temperature=temperature)
    mask = host(rollout.mask)
    difference = (host(rollout.logprobs) - host(rollout.ref_logprobs))[mask]
    assert_close(difference, np.zeros(mask.sum()), atol=1e-10)
    apart = collected(models, temperature=temperature)       # and another one has
    assert abs(host(apart.logprobs) - host(apart.ref_logprobs))[host(apart.mask)].max() > 0.1


def test_a_rollout_is_reproduced_by_its_seed(models):
    first, again, other = (collected(models, seed) for seed in (0, 0, 1))
    for field in dataclasses.fields(Rollout):
        assert_same(getattr(first, field.name), host(getattr(again, field.name)))
    assert (first.sequences.shape != other.sequences.shape
            or (host(first.sequences) != host(other.sequences)).any())


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([4, 0]), np.array([2]), slice(None)],
                         ids=str)
def test_a_minibatch_is_the_same_rows_of_every_array(rows, backend, models):
    rollout = collected(models)
    chosen = backend.asarray(rows) if isinstance(rows, np.ndarray) else rows
    part = rollout[chosen]
    assert type(part) is Rollout and len(part) == len(np.arange(5)[rows])
    for field in dataclasses.fields(Rollout):
        assert_same(getattr(part, field.name), host(getattr(rollout, field.name))[rows])


def test_a_part_is_some_rows_without_the_columns_behind_their_longest_response(backend):
    """Prompts of 2 columns, responses of 3, 1 and 2 tokens: the last two rows want 4 columns."""
    def of(columns):
        return backend.asarray(np.arange(3 * columns).reshape(3, columns))

    whole = Rollout(of(5), of(5) > 0, of(3) > 1, of(3), 10 * of(3), None, of(1)[:, 0])
    part = whole.part(backend.asarray(np.array([2, 1])), 2)
    assert_same(part.sequences, np.array([[10, 11, 12, 13], [5, 6, 7, 8]]))
    assert part.sequence_mask.shape == (2, 4) and part.mask.shape == (2, 2)
    assert_same(part.logprobs, np.array([[6, 7], [3, 4]]))
    assert_same(part.ref_logprobs, np.array([[60, 70], [30, 40]]))
    assert part.values is None
    assert_same(part.scores, np.array([2, 1]))


def test_collecting_offers_no_top_k_and_no_top_p(models):
    for settings in ({"top_k": 3}, {"top_p": 0.9}):
        with pytest.raises(TypeError, match=next(iter(settings))):
            collected(models, **settings)


# --- replies as text -----------------------------------------------------------------------------

@pytest.fixture
def tokenizer():
    return WordTokenizer(["a", "b", "c", "d", "e", "f", "g", "h"])


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 3}, {}], ids=str)
def test_replies_are_the_texts_of_what_was_sampled_and_tell_whether_it_ended(
        settings, models, tokenizer):
    prompts, policy, config = prompts_of(1, [3, 1, 5, 2, 4, 2] * 3), models[0].policy, models[1]
    replies = generate(policy, config, tokenizer, prompts, 5, rng=np.random.default_rng(3),
                       **settings)
    samples = sample(policy, config, prompts, 5, rng=np.random.default_rng(3), **settings)
    rows = strip(host(samples.tokens), host(samples.mask))
    assert [reply.text for reply in replies] == [
        " ".join(tokenizer.words[i] for i in row if i > 3) for row in rows]
    assert [reply.ended for reply in replies] == [EOS in row for row in rows]
    assert {reply.ended for reply in replies} == {True, False}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_greedy_replies_do_not_depend_on_the_batch_they_are_asked_in(size, models, tokenizer):
    prompts, policy, config = prompts_of(1, [3, 1, 5, 2, 4, 2]), models[0].policy, models[1]

    def replies(batch):
        return generate(policy, config, tokenizer, batch, 5, rng=np.random.default_rng(0),
                        temperature=0)
    batches = [prompts[i:i + size] for i in range(0, 6, size)]
    assert sum(map(replies, batches), []) == replies(prompts) and len(replies(prompts)) == 6


def test_a_model_without_an_eos_id_never_ends(models, tokenizer):
    endless = ModelConfig(V, 16, 8, 2, 2, eos_id=None)
    replies = generate(models[0].policy, endless, tokenizer, prompts_of(1, [3] * 9), 5,
                       rng=np.random.default_rng(3))
    assert not any(reply.ended for reply in replies)


def test_pads_have_the_id_of_the_model(models):
    given, config = models
    rollout = collect(given, dataclasses.replace(config, pad_id=7, eos_id=5), prompts_of(0), 6,
                      rng=np.random.default_rng(0))
    pads = ~host(rollout.sequence_mask)
    assert pads[:, :5].any() and pads[:, 5:].any()
    assert (host(rollout.sequences)[pads] == 7).all()


# --- memory --------------------------------------------------------------------------------------

def test_a_toy_is_computed_64_rows_at_a_time_and_a_gpt2_as_its_logits_allow():
    assert rows_at_once(ModelConfig(500), 48) == 64
    assert rows_at_once(ModelConfig(2048, 320, 96, 4, 2), 304) == 64
    gpt2 = ModelConfig(50257, 1024, 768, 12, 12)
    n = rows_at_once(gpt2, 304)
    assert n == 3 and 4 * n * 304 * 50257 < 2**28 < 4 * (n + 1) * 304 * (50257 + 24 * 768)
    assert rows_at_once(gpt2, 304, most=2) == 2
    assert rows_at_once(ModelConfig(10**9), 10**3) == 1


def test_rows_taken_a_few_at_a_time_give_the_numbers_of_all_together(models, backend, rng,
                                                                    monkeypatch):
    (policy, *_), config = models
    _, _, mask, (sequences, sequence_mask) = random_batch(backend, rng)
    together = host(response_logprobs(policy, config, sequences, sequence_mask, mask.shape[1], 0.7))
    a_row = sequences.shape[1] * (V + 2 * config.layers * config.channels)
    for rows in (1, 3, 4):
        monkeypatch.setattr("minirlhf.rollout.NUMBERS_AT_ONCE", rows * a_row)
        assert rows_at_once(config, sequences.shape[1]) == rows
        parts = measured_logprobs(policy, config, sequences, sequence_mask, mask.shape[1], 0.7)
        assert_close(host(parts)[mask], together[mask], atol=1e-12)


def test_long_lists_are_scored_in_batches_that_memory_allows(models, monkeypatch):
    (_, _, reward, _), config = models
    rows = prompts_of(0)
    scored = host(score_replies(reward, config, rows))
    monkeypatch.setattr("minirlhf.rollout.NUMBERS_AT_ONCE", 1)
    assert_close(score_replies(reward, config, rows), scored, atol=1e-12)

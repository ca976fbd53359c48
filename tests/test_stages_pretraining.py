"""Laws of the base model's stage: predict the next token of a stream."""

import numpy as np
import pytest
from helpers import assert_same, host, record_updates, warmup_then_cosine
from models import on, random_model, row_logprobs

from minirlhf.parameters import copy, leaves
from minirlhf.stages import pretraining
from minirlhf.stages.pretraining import (
    PretrainingConfig,
    next_token_loss,
    token_stream,
    train,
)
from minirlhf.tokens import EOS, WordTokenizer
from minirlhf.transformer import ModelConfig, initialize

MODEL = ModelConfig(14, context=16, channels=8, heads=2, layers=2)
STREAM = np.tile([4, 5, 6, 7, 8, 9, EOS], 20)                        # always the same sentence
CONFIG = PretrainingConfig(steps=40, batch_size=8, window=10, lr=3e-2, warmup=2)


def fresh(backend):
    return initialize(MODEL, rng=np.random.default_rng(0), backend=backend.name)


def run(params, config=CONFIG, seed=0, stream=STREAM):
    return [{key: float(x) for key, x in row.items()}
            for row in train(params, MODEL, stream, config, seed=seed)]


def test_documents_become_one_stream_with_an_end_after_each():
    words = WordTokenizer(["a", "b", "c"])
    assert token_stream(["a b", "c", ""], words).tolist() == [4, 5, EOS, 6, EOS, EOS]


def test_the_loss_is_the_mean_over_every_token_but_the_first(backend, rng):
    params, config = random_model(backend, vocab=14)
    tokens = rng.integers(0, 14, (3, 7))
    naive = -np.mean([row_logprobs(params, config, backend, row) for row in tokens.tolist()])
    loss = next_token_loss(params, config, *on(backend, tokens))
    assert float(loss) == pytest.approx(naive, rel=1e-12)


def test_an_untrained_model_guesses_among_the_whole_vocabulary(backend):
    loss = next_token_loss(fresh(backend), MODEL, *on(backend, STREAM[None, :10]))
    assert float(loss) == pytest.approx(np.log(14), abs=0.1)


def test_a_stream_that_repeats_is_learnt(backend):
    losses = [row["loss"] for row in run(fresh(backend))]
    assert losses[0] == pytest.approx(np.log(14), abs=0.1)
    assert np.mean(losses[-3:]) < 0.5


def test_every_leaf_moves(backend):
    params = fresh(backend)
    before = copy(params)
    run(params, PretrainingConfig(steps=2, batch_size=4, window=16, lr=1e-2, warmup=1))
    for (name, leaf), (_, old) in zip(leaves(params), leaves(before), strict=True):
        assert (leaf != old).any(), f"{name} did not move"


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    first, again, other = fresh(backend), fresh(backend), fresh(backend)
    numbers = [run(params, seed=seed) for params, seed in ((first, 0), (again, 0), (other, 1))]
    assert numbers[0] == numbers[1] != numbers[2]
    assert_same(first.flat, again.flat)
    assert (first.flat != other.flat).any()


def test_windows_are_pieces_of_the_stream_at_places_drawn_anew_each_step(backend, monkeypatch):
    """A stream that counts: every window is consecutive, and its start tells where it lay."""
    seen = []

    def record(params, model, tokens, count):
        seen.append(host(tokens))
        assert count == 8 * 2
        return next_token_loss(params, model, tokens % 14, count)

    monkeypatch.setattr("minirlhf.stages.pretraining.next_token_loss", record)
    run(fresh(backend), PretrainingConfig(steps=30, batch_size=8, window=3), stream=np.arange(7))
    for tokens in seen:
        assert tokens.shape == (8, 3)
        assert (np.diff(tokens, axis=1) == 1).all()
    starts = np.array([tokens[:, 0] for tokens in seen])
    assert set(starts.ravel()) == {0, 1, 2, 3, 4}                  # the last window too
    assert len({tuple(row) for row in starts}) > 25


def test_the_stream_is_not_written_to(backend):
    stream = STREAM.copy()
    run(fresh(backend), PretrainingConfig(steps=2, window=8), stream=stream)
    assert_same(stream, STREAM)


def test_the_learning_rate_rises_then_falls_to_a_tenth(backend):
    rates = [row["lr"] for row in run(fresh(backend), PretrainingConfig(steps=12, warmup=4, lr=1e-3,
                                                                 window=4, batch_size=1))]
    assert rates[:5] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])
    assert all(a > b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert 1e-4 < rates[-1] < 1.5e-4


@pytest.mark.parametrize("length", [0, 1, 9])
def test_a_stream_shorter_than_a_window_is_refused_with_both_sizes(length, backend):
    with pytest.raises(ValueError, match=rf"the corpus has {length} tokens, a window takes 10"):
        run(fresh(backend), stream=STREAM[:length])


def test_a_stream_of_one_window_is_that_window_every_time(backend):
    losses = [float(next_token_loss(fresh(backend), MODEL, *on(backend, STREAM[None, :10]))),
              *(row["loss"] for row in run(fresh(backend), PretrainingConfig(
                  steps=1, batch_size=3, window=10), stream=STREAM[:10]))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_every_update_is_given_the_learning_rate_of_its_step_and_the_limit_of_its_gradient(
        backend, monkeypatch):
    """A warm-up of 4 steps to 10⁻³, then half a cosine towards a tenth of it; and what is logged
    is what was used."""
    config = PretrainingConfig(steps=12, warmup=4, lr=1e-3, window=4, batch_size=2,
                               max_grad_norm=0.37)
    given = record_updates(monkeypatch, pretraining)
    rows = run(fresh(backend), config)
    assert [lr for _, lr, _ in given] == [row["lr"] for row in rows] == pytest.approx(
        warmup_then_cosine(12, 1e-3, 4), rel=1e-12)
    assert {limit for *_, limit in given} == {0.37}


def test_a_negative_warm_up_is_refused_and_none_is_allowed():
    with pytest.raises(ValueError, match="warmup must not be negative, got -1"):
        PretrainingConfig(warmup=-1)
    PretrainingConfig(warmup=0)


@pytest.mark.parametrize("setting", ["steps", "batch_size", "lr", "max_grad_norm"])
@pytest.mark.parametrize("number", [0, -1])
def test_settings_that_are_not_positive_are_refused_by_name(setting, number):
    with pytest.raises(ValueError, match=f"PretrainingConfig.{setting} must be positive"):
        PretrainingConfig(**{setting: number})


def test_a_window_of_one_token_is_refused():
    with pytest.raises(ValueError, match="window must be at least 2, got 1"):
        PretrainingConfig(window=1)

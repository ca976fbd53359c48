"""Laws of stage 1: imitate the responses of demonstrations, and only the responses."""

from copy import deepcopy

import numpy as np
import pytest
from helpers import assert_close, assert_same, record_updates, warmup_then_cosine
from models import on, random_model, row_logprobs

from minirlhf.autograd import value_and_grad
from minirlhf.parameters import copy, leaves
from minirlhf.stages import supervised
from minirlhf.stages.supervised import (
    SFTConfig,
    demonstration_loss,
    encode_demonstrations,
    train,
)
from minirlhf.tokens import BOT, EOS, PAD, USER, WordTokenizer, pad_right, token_logprobs
from minirlhf.transformer import ModelConfig, initialize

MODEL = ModelConfig(14, context=16, channels=8, heads=2, layers=2)
PAIRS = [([USER, 4, 5, BOT], [6, 7, EOS]), ([USER, 5, BOT], [8, EOS]),
         ([USER, 9, 9, 9, BOT], [4, 4, 10, EOS])]
CONFIG = SFTConfig(steps=60, batch_size=3, lr=2e-2, warmup=2)


def fresh(backend):
    return initialize(MODEL, rng=np.random.default_rng(0), backend=backend.name)


def run(params, config=CONFIG, pairs=PAIRS, seed=0):
    return [{key: float(x) for key, x in row.items()}
            for row in train(params, MODEL, pairs, config, seed=seed)]


def batch(backend, pairs, more=0, junk=PAD):
    """tokens, mask, response_mask, count, with `more` columns of padding, which holds any id."""
    tokens, mask = pad_right([p + r for p, r in pairs])
    tokens, mask = np.pad(tokens, ((0, 0), (0, more))), np.pad(mask, ((0, 0), (0, more)))
    prompts = np.array([[len(p)] for p, _ in pairs])
    response = mask & (np.arange(tokens.shape[1]) >= prompts)
    return *on(backend, np.where(mask, tokens, junk), mask, response), int(response.sum())


def first_loss(params, pairs, config=MODEL):
    """The loss that `train` reports for its first step on these pairs."""
    return float(next(train(copy(params), config, pairs, SFTConfig(batch_size=len(pairs)),
                            seed=0))["loss"])


def naive_loss(params, config, backend, pairs):
    """Row by row and unpadded: the mean of −log p over the tokens of all responses."""
    each = [row_logprobs(params, config, backend, p + r)[len(p) - 1:] for p, r in pairs]
    assert [len(x) for x in each] == [len(r) for _, r in pairs]
    return -np.concatenate(each).mean()


# --- what counts ---------------------------------------------------------------------------------

def test_the_loss_is_the_mean_over_the_tokens_of_the_responses(backend):
    params, config = random_model(backend, vocab=14)
    wanted = naive_loss(params, config, backend, PAIRS)
    assert float(demonstration_loss(params, config, *batch(backend, PAIRS))) == pytest.approx(
        wanted, rel=1e-12)
    assert first_loss(params, PAIRS, config) == pytest.approx(wanted, rel=1e-12)


def test_the_end_counts(backend):
    """Without <eos> the same sentence has another loss, and with it the end is one more token."""
    params, config = random_model(backend, vocab=14)
    whole, cut = [([USER, 4, BOT], [6, 7, EOS])], [([USER, 4, BOT], [6, 7])]
    p = row_logprobs(params, config, backend, [USER, 4, BOT, 6, 7, EOS])[2:]
    assert first_loss(params, whole, config) == pytest.approx(-p.mean(), rel=1e-12)
    assert first_loss(params, cut, config) == pytest.approx(-p[:2].mean(), rel=1e-12)


def test_padding_changes_nothing(backend):
    params, config = random_model(backend, vocab=14)
    loss, grads = value_and_grad(demonstration_loss)(params, config, *batch(backend, PAIRS))
    for junk in (PAD, 7):
        padded, padded_grads = value_and_grad(demonstration_loss)(
            params, config, *batch(backend, PAIRS, more=3, junk=junk))
        assert float(padded) == pytest.approx(float(loss), rel=1e-12)
        assert_close(padded_grads.flat, grads.flat, rtol=1e-9, atol=1e-13)


def test_how_likely_a_prompt_was_changes_nothing(backend, monkeypatch):
    """Prompts are context and never targets: their own log-probs may be anything."""
    params, config = random_model(backend, vocab=14)
    tokens, mask, response, count = batch(backend, PAIRS)
    loss = demonstration_loss(params, config, tokens, mask, response, count)

    def junk_outside_the_responses(z, tokens):
        return backend.xp.where(response[:, 1:], token_logprobs(z, tokens), np.nan)

    monkeypatch.setattr("minirlhf.stages.supervised.token_logprobs", junk_outside_the_responses)
    assert demonstration_loss(params, config, tokens, mask, response, count) == loss


def test_a_longer_reply_weighs_more(backend):
    """A mean over tokens, not over replies: 3, 2 and 4 tokens weigh 3/9, 2/9 and 4/9."""
    params, config = random_model(backend, vocab=14)
    each = [first_loss(params, [pair], config) for pair in PAIRS]
    together = first_loss(params, PAIRS, config)
    assert together == pytest.approx(np.dot(each, [3, 2, 4]) / 9, rel=1e-12)
    assert together != pytest.approx(np.mean(each), rel=1e-6)


def test_parts_of_a_step_add_up(backend):
    params, config = random_model(backend, vocab=14)
    count = batch(backend, PAIRS)[3]
    whole, grads = value_and_grad(demonstration_loss)(params, config, *batch(backend, PAIRS))
    parts = [value_and_grad(demonstration_loss)(params, config, *batch(backend, part)[:3], count)
             for part in (PAIRS[:1], PAIRS[1:])]
    assert_close(parts[0][0] + parts[1][0], whole, rtol=1e-12)
    assert_close(parts[0][1].flat + parts[1][1].flat, grads.flat, rtol=1e-9, atol=1e-13)


# --- encoding ------------------------------------------------------------------------------------

def test_demonstrations_are_encoded_with_their_template():
    words = WordTokenizer(["hello", "you"])
    rows = [{"prompt": "hello you", "response": "hello", "other": 1}]
    assert encode_demonstrations(rows, words) == [([USER, 4, 5, BOT], [4, EOS])]


# --- training ------------------------------------------------------------------------------------

def test_demonstrations_are_learnt(backend):
    losses = [row["loss"] for row in run(fresh(backend))]
    assert losses[0] == pytest.approx(np.log(14), abs=0.1)
    assert losses[-1] < 0.2


def test_every_leaf_moves(backend):
    params = fresh(backend)
    before = copy(params)
    rows = [([USER, *range(4, 13), BOT], [6, 7, 8, 9, EOS])]                    # 16 positions
    run(params, SFTConfig(steps=2, lr=1e-2, warmup=1), rows)
    for (name, leaf), (_, old) in zip(leaves(params), leaves(before), strict=True):
        assert (leaf != old).any(), f"{name} did not move"


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    first, again, other = fresh(backend), fresh(backend), fresh(backend)
    config = SFTConfig(steps=5, batch_size=2)
    numbers = [run(params, config, seed=seed)
               for params, seed in ((first, 0), (again, 0), (other, 1))]
    assert numbers[0] == numbers[1] != numbers[2]
    assert_same(first.flat, again.flat)
    assert (first.flat != other.flat).any()


def test_demonstrations_are_not_modified(backend):
    pairs = deepcopy(PAIRS)
    run(fresh(backend), SFTConfig(steps=3, batch_size=2), pairs)
    assert pairs == PAIRS


def test_every_update_is_given_the_learning_rate_of_its_step_and_the_limit_of_its_gradient(
        backend, monkeypatch):
    config = SFTConfig(steps=9, warmup=3, lr=2e-3, batch_size=2, max_grad_norm=0.37)
    given = record_updates(monkeypatch, supervised)
    rows = run(fresh(backend), config)
    assert [lr for _, lr, _ in given] == [row["lr"] for row in rows] == pytest.approx(
        warmup_then_cosine(9, 2e-3, 3), rel=1e-12)
    assert {limit for *_, limit in given} == {0.37}


def test_no_demonstration_is_refused(backend):
    with pytest.raises(ValueError, match="at least one demonstration"):
        run(fresh(backend), pairs=[])


@pytest.mark.parametrize("setting", ["steps", "batch_size", "lr", "max_grad_norm"])
@pytest.mark.parametrize("number", [0, -1])
def test_settings_that_are_not_positive_are_refused_by_name(setting, number):
    with pytest.raises(ValueError, match=f"SFTConfig.{setting} must be positive"):
        SFTConfig(**{setting: number})

"""Laws of stage 2: from comparisons to a score."""

from copy import deepcopy

import numpy as np
import pytest
from helpers import assert_close, assert_same, host, record_updates, warmup_then_cosine
from hypothesis import given
from hypothesis import strategies as st
from models import on, random_model

from minirlhf.autograd import value_and_grad
from minirlhf.parameters import copy, leaves
from minirlhf.rollout import score_replies
from minirlhf.stages import reward_model
from minirlhf.stages.reward_model import (
    Group,
    RewardModelConfig,
    accuracy,
    collate,
    comparison_loss,
    group_comparisons,
    longer_is_chosen,
    normalize,
    train,
)
from minirlhf.tokens import BOT, EOS, USER, WordTokenizer
from minirlhf.transformer import ModelConfig, initialize, scores, with_scalar_head

MODEL = ModelConfig(14, context=16, channels=8, heads=2, layers=2)
WORDS = WordTokenizer(list("abcdefghij"))
# 6 pairs of 4 replies, 1 pair of 2, 3 pairs of 3: prompts with different numbers of pairs
GROUPS = [
    Group([[USER, 4, BOT, 5, EOS], [USER, 4, BOT, 6, 7, EOS], [USER, 4, BOT, EOS],
           [USER, 4, BOT, 8, 9, 10]], [(0, 1), (0, 2), (3, 0), (1, 2), (1, 3), (3, 2)]),
    Group([[USER, 5, 6, BOT, 7, EOS], [USER, 5, 6, BOT, 8, EOS]], [(1, 0)]),
    Group([[USER, 7, BOT, 4, EOS], [USER, 7, BOT, 5, 5, EOS], [USER, 7, BOT, 6]],
          [(0, 1), (2, 1), (2, 0)]),
]


def fresh(backend):
    rng = np.random.default_rng(0)
    return with_scalar_head(initialize(MODEL, rng=rng, backend=backend.name), rng=rng)


def run(params, config, groups=GROUPS, seed=0):
    return [{key: float(x) for key, x in row.items()}
            for row in train(params, MODEL, groups, config, seed=seed)]


def score_of(params, config, backend, row):
    """The score of one row by itself, unpadded."""
    return float(scores(params, config, *on(backend, np.array([row])))[0])


def collated(backend, groups):
    tokens, mask, pairs = collate(groups)
    return *on(backend, tokens, mask), {n: backend.asarray(p) for n, p in pairs.items()}


def naive_loss(params, config, backend, groups):
    """The mean over prompts of the mean over their pairs of softplus(−(s_c − s_r))."""
    of_prompts = []
    for group in groups:
        s = [score_of(params, config, backend, row) for row in group.rows]
        of_prompts.append(np.mean([np.log1p(np.exp(-(s[c] - s[r]))) for c, r in group.pairs]))
    return np.mean(of_prompts)


# --- grouping ------------------------------------------------------------------------------------

def test_replies_that_return_are_encoded_once():
    """Three pairs of three replies are three rows, in order of appearance."""
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b", "rejected": "d e"},
            {"prompt": "a", "chosen": "d e", "rejected": "c"}]
    (group,) = group_comparisons(rows, WORDS)
    assert group.rows == [[USER, 4, BOT, 5, EOS], [USER, 4, BOT, 6, EOS],
                          [USER, 4, BOT, 7, 8, EOS]]
    assert group.pairs == [(0, 1), (0, 2), (2, 1)]


def test_pairs_are_gathered_by_prompt_wherever_they_stand():
    rows = [{"prompt": p, "chosen": "b", "rejected": r}
            for p, r in (("a", "c"), ("b", "c"), ("a", "d"))]
    groups = group_comparisons(rows, WORDS)
    assert [len(g.pairs) for g in groups] == [2, 1]
    assert [g.rows[0][1] for g in groups] == [4, 5]


def test_a_group_keeps_two_visits_to_one_prompt_apart():
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "group": 0},
            {"prompt": "a", "chosen": "c", "rejected": "b", "group": 1}]
    assert len(group_comparisons(rows, WORDS)) == 2
    del rows[0]["group"], rows[1]["group"]
    (together,) = group_comparisons(rows, WORDS)
    assert together.pairs == [(0, 1), (1, 0)] and len(together.rows) == 2


def test_a_reply_that_was_cut_off_has_no_end_and_is_another_row():
    rows = [{"prompt": "a", "chosen": "b", "rejected": "b", "rejected_ended": False},
            {"prompt": "a", "chosen": "c", "rejected": "b", "chosen_ended": False}]
    (group,) = group_comparisons(rows, WORDS)
    assert group.rows == [[USER, 4, BOT, 5, EOS], [USER, 4, BOT, 5], [USER, 4, BOT, 6]]
    assert group.pairs == [(0, 1), (2, 0)]


def test_collating_moves_pairs_to_their_rows_and_sorts_them_by_their_number():
    tokens, mask, by_size = collate(GROUPS)
    rows = [row for group in GROUPS for row in group.rows]
    assert tokens.shape == mask.shape == (9, 6)
    assert [t[m].tolist() for t, m in zip(tokens, mask, strict=True)] == rows
    assert {n: pairs.tolist() for n, pairs in by_size.items()} == {
        1: [[5, 4]], 3: [[6, 7], [8, 7], [8, 6]],
        6: [[0, 1], [0, 2], [3, 0], [1, 2], [1, 3], [3, 2]]}


# --- the loss ------------------------------------------------------------------------------------

def test_the_articles_example(backend, monkeypatch):
    """Score(A) = 2.4, Score(B) = −1.1: −log σ(3.5) = 0.0297."""
    monkeypatch.setattr(reward_model, "scores", lambda *_: backend.asarray(np.array([2.4, -1.1])))
    (pair,) = on(backend, np.array([[0, 1]]))
    loss = comparison_loss({}, MODEL, None, None, {1: pair}, 1)
    assert float(loss) == pytest.approx(0.0297504, abs=1e-7)


def test_rows_longer_than_the_context_are_cut_at_their_end():
    """Replies that differ only behind it are one reply, and their pair says nothing."""
    rows = [{"prompt": WORDS.words[4], "chosen": " ".join(WORDS.words[5:8]),
             "rejected": WORDS.words[9]},
            {"prompt": WORDS.words[4], "chosen": " ".join(WORDS.words[5:7]),
             "rejected": WORDS.words[8]}]
    (whole,), (cut,) = group_comparisons(rows, WORDS), group_comparisons(rows, WORDS, 5)
    assert [len(row) for row in whole.rows] == [7, 5, 6, 5]
    assert cut.rows == [whole.rows[0][:5], whole.rows[1], whole.rows[3]]
    assert cut.pairs == [(0, 1), (0, 2)]


def test_each_prompt_counts_once_by_hand(backend, monkeypatch):
    """One prompt with gaps 0 and 0, one with gap 3: (log 2 + softplus(−3))/2, not a third each."""
    score, one, two = on(backend, np.array([1.0, 1.0, 5.0, 2.0]), np.array([[2, 3]]),
                         np.array([[0, 1], [1, 0]]))
    monkeypatch.setattr(reward_model, "scores", lambda *_: score)
    loss = comparison_loss({}, MODEL, None, None, {1: one, 2: two}, 2)
    assert float(loss) == pytest.approx((np.log(2) + np.log1p(np.exp(-3))) / 2, rel=1e-12)


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:1], GROUPS[1:], GROUPS[::-1]],
                         ids=["all", "one", "two", "reversed"])
def test_the_loss_is_a_mean_over_prompts_of_means_over_pairs(groups, backend):
    params, config = random_model(backend, vocab=14, scalar_head=True)
    loss = comparison_loss(params, config, *collated(backend, groups), len(groups))
    assert float(loss) == pytest.approx(naive_loss(params, config, backend, groups), rel=1e-12)


def test_parts_of_a_step_add_up(backend):
    params, config = random_model(backend, vocab=14, scalar_head=True)
    grad = value_and_grad(comparison_loss)
    whole, grads = grad(params, config, *collated(backend, GROUPS), 3)
    parts = [grad(params, config, *collated(backend, part), 3)
             for part in (GROUPS[:1], GROUPS[1:])]
    assert_close(parts[0][0] + parts[1][0], whole, rtol=1e-12)
    assert_close(parts[0][1].flat + parts[1][1].flat, grads.flat, rtol=1e-9, atol=1e-13)


# --- training ------------------------------------------------------------------------------------

def test_the_first_step_of_training_reports_the_naive_loss(backend):
    params, config = random_model(backend, vocab=14, scalar_head=True)
    wanted = naive_loss(params, config, backend, GROUPS)
    first = next(train(params, config, GROUPS, RewardModelConfig(batch_size=3), seed=0))
    assert float(first["loss"]) == pytest.approx(wanted, rel=1e-12)


def test_the_last_batch_of_a_pass_counts_its_own_prompts(backend):
    """Three prompts in batches of two: the second batch has one prompt, and its loss is of one."""
    params, config = random_model(backend, vocab=14, scalar_head=True)
    single = {round(naive_loss(params, config, backend, [g]), 9) for g in GROUPS}
    steps = train(params, config, GROUPS, RewardModelConfig(batch_size=2, lr=1e-12), seed=0)
    next(steps)
    assert round(float(next(steps)["loss"]), 9) in single


def test_preferences_are_learnt(backend):
    params = fresh(backend)
    consistent = [Group(g.rows, [(c, r) for c, r in g.pairs if c < r] or g.pairs) for g in GROUPS]
    losses = [row["loss"] for row in run(params, RewardModelConfig(steps=60, batch_size=3, lr=1e-2,
                                                                   warmup=2), consistent)]
    assert losses[-1] < 0.1 < 0.3 < losses[0]
    assert accuracy(params, MODEL, consistent).tolist() == [1, 1, 1]


def test_every_leaf_moves(backend):
    params = fresh(backend)
    before = copy(params)
    rows = [[USER, *range(4, 13), BOT, 6, 7, 8, 9, EOS], [USER, *range(4, 13), BOT, 9, EOS]]
    run(params, RewardModelConfig(steps=2, lr=1e-2, warmup=1), [Group(rows, [(0, 1)])])
    for (name, leaf), (_, old) in zip(leaves(params), leaves(before), strict=True):
        if name == "ln_f.bias":                    # it adds one number to all scores
            assert abs(leaf - old).max() < 1e-3
        else:
            assert (leaf != old).any(), f"{name} did not move"


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    first, again, other = fresh(backend), fresh(backend), fresh(backend)
    config = RewardModelConfig(steps=4, batch_size=2)
    numbers = [run(params, config, seed=seed)
               for params, seed in ((first, 0), (again, 0), (other, 2))]
    assert numbers[0] == numbers[1] != numbers[2]
    assert_same(first.flat, again.flat)
    assert (first.flat != other.flat).any()


def test_comparisons_are_not_modified(backend):
    groups = deepcopy(GROUPS)
    run(fresh(backend), RewardModelConfig(steps=2, batch_size=2), groups)
    assert groups == GROUPS


def test_every_update_is_given_the_learning_rate_of_its_step_and_the_limit_of_its_gradient(
        backend, monkeypatch):
    config = RewardModelConfig(steps=9, warmup=3, lr=2e-3, batch_size=2, max_grad_norm=0.37)
    given = record_updates(monkeypatch, reward_model)
    rows = run(fresh(backend), config)
    assert [lr for _, lr, _ in given] == [row["lr"] for row in rows] == pytest.approx(
        warmup_then_cosine(9, 2e-3, 3), rel=1e-12)
    assert {limit for *_, limit in given} == {0.37}


def test_no_comparison_is_refused(backend):
    with pytest.raises(ValueError, match="at least one comparison"):
        run(fresh(backend), RewardModelConfig(), groups=[])


@pytest.mark.parametrize("setting", ["steps", "batch_size", "lr", "max_grad_norm"])
@pytest.mark.parametrize("number", [0, -1])
def test_settings_that_are_not_positive_are_refused_by_name(setting, number):
    with pytest.raises(ValueError, match=f"RewardModelConfig.{setting} must be positive"):
        RewardModelConfig(**{setting: number})


# --- accuracy ------------------------------------------------------------------------------------

def test_accuracy_by_hand(backend, monkeypatch):
    """Of the first prompt's three pairs one is right and one a tie: (1 + ½)/3; the second's is
    wrong.  The mean counts each prompt once: (½ + 0)/2."""
    monkeypatch.setattr(reward_model, "score_replies",
                        lambda *_: backend.asarray(np.array([1.0, 2.0, 1.0, 7.0, 8.0])))
    groups = [Group([[4]] * 3, [(0, 1), (1, 2), (0, 2)]), Group([[4]] * 2, [(0, 1)])]
    assert accuracy({}, MODEL, groups).tolist() == [0.5, 0.0]


def test_accuracy_counts_the_pairs_that_the_scores_order_as_people_did(backend):
    params, config = random_model(backend, vocab=14, scalar_head=True)
    wanted = []
    for group in GROUPS:
        s = [score_of(params, config, backend, row) for row in group.rows]
        wanted.append(np.mean([s[c] > s[r] for c, r in group.pairs]))
    assert_close(accuracy(params, config, GROUPS), np.array(wanted))
    swapped = [Group(g.rows, [(r, c) for c, r in g.pairs]) for g in GROUPS]
    assert_close(accuracy(params, config, swapped), 1 - np.array(wanted))


def test_a_judge_of_length_by_hand():
    """Rows of 3, 2 and 2 tokens: of the first prompt's pairs one has the longer reply chosen, one
    the shorter, one neither."""
    groups = [Group([[4] * 3, [4] * 2, [5] * 2], [(0, 1), (2, 0), (1, 2)]),
              Group([[4] * 3, [4] * 2], [(0, 1)]), Group([[4] * 3, [4] * 2], [(1, 0)])]
    assert longer_is_chosen(groups).tolist() == [0.5, 1.0, 0.0]


# --- normalisation -------------------------------------------------------------------------------

@given(mean=st.floats(-5, 5), deviation=st.floats(0.05, 20), seed=st.integers(0, 9))
def test_normalising_subtracts_the_mean_and_then_divides_by_the_deviation(backend, mean, deviation,
                                                                          seed):
    """On any input, also inputs whose scores the mean and deviation were not taken from."""
    params, config = random_model(backend, vocab=14, scalar_head=True, seed=seed)
    (rows,) = on(backend, np.random.default_rng(seed).integers(0, 14, (6, 9)))
    before = scores(params, config, rows)
    normalize(params, mean, deviation)
    assert_close(scores(params, config, rows), (before - mean) / deviation, rtol=1e-10,
                 atol=1e-10)


def test_normalised_replies_have_mean_0_and_deviation_1_in_the_same_order(backend):
    params, config = random_model(backend, vocab=14, scalar_head=True)
    rows = [row for group in GROUPS for row in group.rows]
    before = host(score_replies(params, config, rows))
    normalize(params, float(before.mean()), float(before.std()))
    after = host(score_replies(params, config, rows))
    assert abs(after.mean()) < 1e-10 and abs(after.std() - 1) < 1e-10
    assert (np.argsort(after) == np.argsort(before)).all()


def test_normalising_touches_the_head_and_the_last_bias_only(backend):
    params, _ = random_model(backend, vocab=14, scalar_head=True)
    before = copy(params)
    normalize(params, 0.7, 2.0)
    changed = [name for (name, leaf), (_, old) in zip(leaves(params), leaves(before), strict=True)
               if (leaf != old).any()]
    assert changed == ["ln_f.bias", "score.weight"]


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan")])
def test_a_deviation_that_is_not_positive_is_refused_and_nothing_changes(deviation, backend):
    params, _ = random_model(backend, vocab=14, scalar_head=True)
    before = params.flat.copy()
    with pytest.raises(ValueError, match="scores all replies the same"):
        normalize(params, 0.0, deviation)
    assert_same(params.flat, before)

"""Laws of the road without reinforcement learning: DPO on the reward model's comparisons."""

from copy import deepcopy

import numpy as np
import pytest
from helpers import assert_close, assert_same, host, record_updates, warmup_then_cosine
from models import disturb, on, random_model, row_logprobs

from minirlhf import ops
from minirlhf.arrays import NUMPY
from minirlhf.autograd import Tensor, value_and_grad
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import copy, leaves
from minirlhf.stages import direct_preference
from minirlhf.stages.direct_preference import DPOConfig, preference_loss, reply_logprobs, train
from minirlhf.stages.reward_model import Group, collate, group_comparisons
from minirlhf.text import train_byte_pairs
from minirlhf.tokens import BOT, EOS, USER, WordTokenizer, token_logprobs

WORDS = WordTokenizer(list("abcdefghij"))
# 6 pairs of 4 replies, 1 pair of 2, 3 pairs of 3; prompts of 3, 4 and 3 tokens
GROUPS = [
    Group([[USER, 4, BOT, 5, EOS], [USER, 4, BOT, 6, 7, EOS], [USER, 4, BOT, EOS],
           [USER, 4, BOT, 8, 9, 10]], [(0, 1), (0, 2), (3, 0), (1, 2), (1, 3), (3, 2)], 3),
    Group([[USER, 5, 6, BOT, 7, EOS], [USER, 5, 6, BOT, 8, EOS]], [(1, 0)], 4),
    Group([[USER, 7, BOT, 4, EOS], [USER, 7, BOT, 5, 5, EOS], [USER, 7, BOT, 6]],
          [(0, 1), (2, 1), (2, 0)], 3),
]
SWAPPED = [Group(g.rows, [(r, c) for c, r in g.pairs], g.prompt_length) for g in GROUPS]


def two_models(backend, dtype="float64", apart=0.0):
    """policy, reference, model; `apart` moves the policy."""
    reference, model = random_model(backend, vocab=14, dtype=dtype, spread=0.2)
    policy = copy(reference)
    disturb(policy, apart, seed=2)
    return policy, reference, model


def run(params, reference, model, config, groups=GROUPS, seed=0, **more):
    return [{key: float(x) for key, x in row.items()}
            for row in train(params, reference, model, groups, config, seed=seed, **more)]


def masks(backend, groups):
    """tokens, mask, response_mask (N, T) and the pairs by size; the mask row by row."""
    tokens, mask, pairs = collate(groups)
    response = np.zeros_like(mask)
    rows = [(row, g.prompt_length) for g in groups for row in g.rows]
    for i, (row, begins) in enumerate(rows):
        response[i, begins:len(row)] = True
    return *on(backend, tokens, mask, response), {n: backend.asarray(p) for n, p in pairs.items()}


def reply_logprob(params, model, backend, row, begins):
    """log π of one reply, alone and unpadded."""
    return float(row_logprobs(params, model, backend, row)[begins - 1:].sum())


# --- the log-probability of a reply --------------------------------------------------------------

def law_a_reply_is_the_sum_of_its_own_tokens(logprobs, backend):
    params, _, model = two_models(backend)
    tokens, mask, response, _ = masks(backend, GROUPS)
    wanted = [reply_logprob(params, model, backend, row, g.prompt_length)
              for g in GROUPS for row in g.rows]
    assert_close(logprobs(params, model, tokens, mask, response), np.array(wanted), rtol=1e-9)


def law_the_prompts_own_probabilities_do_not_count(logprobs, backend, patch):
    """Whatever the tokens before the reply cost, and padding after it."""
    params, _, model = two_models(backend)
    tokens, mask, response, _ = masks(backend, GROUPS)
    before = logprobs(params, model, tokens, mask, response)

    def disturbed(z, ids, *more):
        found = token_logprobs(z, ids, *more)
        return backend.xp.where(response[:, 1:], found, found * 3 - 7)

    patch.setattr(direct_preference, "token_logprobs", disturbed)
    assert_same(logprobs(params, model, tokens, mask, response), before)


def test_a_replys_log_probability_is_the_sum_of_its_own_tokens(backend):
    law_a_reply_is_the_sum_of_its_own_tokens(reply_logprobs, backend)


def test_the_prompts_own_probabilities_do_not_count(backend, monkeypatch):
    law_the_prompts_own_probabilities_do_not_count(reply_logprobs, backend, monkeypatch)


def summed(over):
    """The skeleton of a mutant."""
    def mutant(params, model, tokens, mask, response_mask):
        z = direct_preference.logits(params, model, tokens, mask)
        logprobs = direct_preference.token_logprobs(z, tokens)
        return over(logprobs, mask, response_mask)
    return mutant


MUTANTS = {
    "the prompt too": summed(lambda p, m, r: np.where(m[:, 1:], p, 0).sum(axis=1)),
    "padding too": summed(lambda p, m, r: np.where((r | ~m)[:, 1:], p, 0).sum(axis=1)),
    "one token early": summed(lambda p, m, r: np.where(r[:, :-1], p, 0).sum(axis=1)),
    "not its last token": summed(lambda p, m, r: np.where(
        r[:, 1:] & np.pad(r[:, 2:], [(0, 0), (0, 1)]), p, 0).sum(axis=1)),
    "a mean": summed(lambda p, m, r: np.where(r[:, 1:], p, 0).sum(axis=1) / r.sum(axis=1)),
}


def test_the_mutants_skeleton_without_a_mutation_keeps_the_laws(monkeypatch):
    skeleton = summed(lambda p, m, r: np.where(r[:, 1:], p, 0).sum(axis=1))
    law_a_reply_is_the_sum_of_its_own_tokens(skeleton, NUMPY)
    law_the_prompts_own_probabilities_do_not_count(skeleton, NUMPY, monkeypatch)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_law_of_the_sum_catches_the_mutant(name):
    with pytest.raises(AssertionError):
        law_a_reply_is_the_sum_of_its_own_tokens(MUTANTS[name], NUMPY)


@pytest.mark.parametrize("name", ["the prompt too", "padding too", "one token early"])
def test_the_law_of_the_prompt_catches_the_mutant(name, monkeypatch):
    with pytest.raises(AssertionError):
        law_the_prompts_own_probabilities_do_not_count(MUTANTS[name], NUMPY, monkeypatch)


# --- where a reply begins ------------------------------------------------------------------------

TOKENIZERS = {"words": WORDS, "byte pairs": train_byte_pairs(["a b c d e f", "d e f a b"], 280)}
COMPARISONS = [{"prompt": "a b", "chosen": "c", "rejected": "d e f"},
               {"prompt": "c", "chosen": "a b c", "rejected": "b", "rejected_ended": False},
               {"prompt": "a b", "chosen": "d e f", "rejected": ""}]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_follows_the_prompts_length_is_the_reply(name):
    tokenizer = TOKENIZERS[name]
    groups = group_comparisons(COMPARISONS, tokenizer)
    assert [len(g.rows) for g in groups] == [3, 2]
    replies = [[("c", True), ("d e f", True), ("", True)], [("a b c", True), ("b", False)]]
    for group, prompt, wanted in zip(groups, ("a b", "c"), replies, strict=True):
        for row, (reply, ended) in zip(group.rows, wanted, strict=True):
            assert row[:group.prompt_length] == tokenizer.prompt(prompt)
            assert row[group.prompt_length:] == tokenizer.response(reply, ended)


@pytest.mark.parametrize("longest", [3, 4, 5, 6])
def test_a_row_that_is_cut_keeps_what_is_left_of_its_reply(longest, backend):
    """<user> a b <bot> is 4 tokens: cut at 5, one of the reply is left; cut at 4 or 3, none."""
    whole, cut = (group_comparisons(COMPARISONS[:1], WORDS, n)[0] for n in (None, longest))
    assert cut.prompt_length == whole.prompt_length == 4
    params, reference, model = two_models(backend, apart=0.1)
    *arrays, _ = masks(backend, [cut])
    for row, got in zip(cut.rows, host(reply_logprobs(params, model, *arrays)), strict=True):
        wanted = reply_logprob(params, model, backend, row, 4) if longest > 4 else 0.0
        assert got == pytest.approx(wanted, rel=1e-9)
    (step,) = run(params, reference, model, DPOConfig(steps=1, beta=1.0), [cut])
    assert np.isfinite(step["loss"]) and (step["grad_norm"] > 0) == (longest > 4)


# --- the loss ------------------------------------------------------------------------------------

def above(policy, reference, model, backend, group):
    """log π − log π_ref of each reply."""
    return [reply_logprob(policy, model, backend, row, group.prompt_length)
            - reply_logprob(reference, model, backend, row, group.prompt_length)
            for row in group.rows]


def naive_loss(policy, reference, model, backend, groups, beta):
    """The mean over prompts of the mean over their pairs of log(1 + e^(−β·h))."""
    of_prompts = []
    for group in groups:
        h = above(policy, reference, model, backend, group)
        of_prompts.append(np.mean([np.log1p(np.exp(-beta * (h[c] - h[r])))
                                   for c, r in group.pairs]))
    return np.mean(of_prompts)


def loss_of(params, reference, model, backend, groups, beta, prompts=None):
    *arrays, pairs = masks(backend, groups)
    ref = reply_logprobs(reference, model, *arrays)
    return value_and_grad(preference_loss)(params, model, *arrays, ref, pairs,
                                           prompts or len(groups), beta)


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:1], GROUPS[1:], GROUPS[::-1]],
                         ids=["all", "one", "two", "reversed"])
def test_the_loss_is_a_mean_over_prompts_of_means_over_pairs(groups, backend):
    policy, reference, model = two_models(backend, apart=0.1)
    loss, _ = loss_of(policy, reference, model, backend, groups, 0.7)
    assert float(loss) == pytest.approx(naive_loss(policy, reference, model, backend, groups, 0.7),
                                        rel=1e-10)


def test_each_prompt_counts_once_by_hand(backend, monkeypatch):
    """One prompt whose two pairs have h = 0, one with h = 3, β = 1: (log 2 + softplus(−3))/2."""
    monkeypatch.setattr(direct_preference, "reply_logprobs",
                        lambda *_: backend.asarray(np.array([1.0, 1.0, 5.0, 2.0])))
    one, two, ref, other = on(backend, np.array([[2, 3]]), np.array([[0, 1], [1, 0]]), np.zeros(4),
                              np.array([0, 0, 3.0, 0]))
    pairs = {1: one, 2: two}
    loss = preference_loss({}, None, None, None, None, ref, pairs, 2, 1.0)
    assert float(loss) == pytest.approx((np.log(2) + np.log1p(np.exp(-3))) / 2, rel=1e-12)
    with_reference = preference_loss({}, None, None, None, None, other, pairs, 2, 1.0)
    assert float(with_reference) == pytest.approx(np.log(2), rel=1e-12)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_a_policy_that_is_its_reference_starts_at_log_2_and_pulls_its_pairs_apart(beta, backend):
    """The gradient is −β/2·(∇ log π(chosen) − ∇ log π(rejected)), a mean over each prompt's pairs
    and then over prompts."""
    policy, reference, model = two_models(backend)
    loss, grads = loss_of(policy, reference, model, backend, GROUPS, beta)
    assert float(loss) == pytest.approx(np.log(2), rel=1e-12)
    weights, before = np.zeros(9), 0
    for group in GROUPS:
        for chosen, rejected in group.pairs:
            weights[before + chosen] -= beta / 2 / len(group.pairs) / 3
            weights[before + rejected] += beta / 2 / len(group.pairs) / 3
        before += len(group.rows)
    weights = backend.asarray(weights)
    tokens, mask, response, _ = masks(backend, GROUPS)

    def pull(params):
        logprobs = token_logprobs(direct_preference.logits(params, model, tokens, mask), tokens)
        return ops.sum(logprobs * (weights[:, None] * response[:, 1:]))

    _, wanted = value_and_grad(pull)(policy)
    assert np.linalg.norm(host(wanted.flat)) > 0.01 * beta
    assert_close(grads.flat, wanted.flat, rtol=1e-8, atol=1e-12)


def test_swapping_chosen_and_rejected_turns_the_first_gradient_around(backend):
    policy, reference, model = two_models(backend)
    _, one = loss_of(policy, reference, model, backend, GROUPS, 0.5)
    _, other = loss_of(policy, reference, model, backend, SWAPPED, 0.5)
    assert np.linalg.norm(host(one.flat)) > 0.01
    assert_close(other.flat, -one.flat, rtol=1e-8, atol=1e-12)


def test_parts_of_a_step_add_up(backend):
    policy, reference, model = two_models(backend, apart=0.1)
    whole, grads = loss_of(policy, reference, model, backend, GROUPS, 0.5)
    parts = [loss_of(policy, reference, model, backend, part, 0.5, 3)
             for part in (GROUPS[:1], GROUPS[1:])]
    assert_close(parts[0][0] + parts[1][0], whole, rtol=1e-10)
    assert_close(parts[0][1].flat + parts[1][1].flat, grads.flat, rtol=1e-7, atol=1e-11)


# --- training ------------------------------------------------------------------------------------

FAST = DPOConfig(steps=60, batch_size=3, lr=1e-2, warmup=2, beta=1.0)
CONSISTENT = [Group(g.rows, [(c, r) for c, r in g.pairs if c < r] or g.pairs, g.prompt_length)
              for g in GROUPS]


def law_the_first_step_is_of_the_pairs_and_the_reference_given(backend, beta=0.5):
    """Its loss is the naive one, and the optimizer remembers a tenth of the gradient."""
    policy, reference, model = two_models(backend, apart=0.1)
    wanted = naive_loss(policy, reference, model, backend, GROUPS, beta)
    _, gradient = loss_of(policy, reference, model, backend, GROUPS, beta)
    state = adamw_state(policy)
    config = DPOConfig(steps=1, batch_size=3, beta=beta, max_grad_norm=1e6)
    (step,) = run(policy, reference, model, config, state=state)
    assert step["loss"] == pytest.approx(wanted, rel=1e-10)
    assert step["grad_norm"] == pytest.approx(np.linalg.norm(host(gradient.flat)), rel=1e-8)
    assert_close(state["m"].flat, 0.1 * gradient.flat, rtol=1e-7, atol=1e-11)


def test_the_first_step_is_of_the_pairs_and_the_reference_given(backend):
    law_the_first_step_is_of_the_pairs_and_the_reference_given(backend)


def of_the_reference(change):
    """reply_logprobs, with those that carry no gradient changed."""
    def mutant(params, *more):
        found = reply_logprobs(params, *more)
        return found if isinstance(found, Tensor) else change(found, *more)
    return mutant


def with_pairs(change):
    def mutant(groups, pad_id):
        tokens, mask, pairs = collate(groups, pad_id)
        return tokens, mask, change(pairs)
    return mutant


TRAIN_MUTANTS = {
    "replies begin one token late": ("reply_logprobs", lambda params, model, tokens, mask, r:
                                     reply_logprobs(params, model, tokens, mask,
                                                    r & np.roll(r, 1, axis=1))),
    "no reference": ("reply_logprobs", of_the_reference(lambda found, *more: 0 * found)),
    "the policy as its reference": ("reply_logprobs", of_the_reference(
        lambda found, *more: reply_logprobs(two_models(NUMPY, apart=0.1)[0], *more))),
    "pairs swapped": ("collate", with_pairs(
        lambda pairs: {n: p[:, ::-1] for n, p in pairs.items()})),
    "each pair counts once": ("collate", with_pairs(
        lambda pairs: {10 / 3: np.concatenate(list(pairs.values()))})),
    "one pair a prompt": ("collate", with_pairs(lambda pairs: {1: np.array([p[0] for p in (
        pairs[6], pairs[1], pairs[3])])})),
}


@pytest.mark.parametrize("name", TRAIN_MUTANTS)
def test_the_law_of_the_first_step_catches_the_mutant(name, monkeypatch):
    monkeypatch.setattr(direct_preference, *TRAIN_MUTANTS[name])
    with pytest.raises(AssertionError):
        law_the_first_step_is_of_the_pairs_and_the_reference_given(NUMPY)


def test_what_is_chosen_becomes_likelier_than_what_is_not(backend):
    """Relative to the reference, which is all that the loss sees."""
    policy, reference, model = two_models(backend, "float32")
    losses = [row["loss"] for row in run(policy, reference, model, FAST, CONSISTENT)]
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5) and losses[-1] < 0.1
    for group in CONSISTENT:
        gained = above(policy, reference, model, backend, group)
        for chosen, rejected in group.pairs:
            assert gained[chosen] > gained[rejected] + 1


def test_a_larger_beta_keeps_the_policy_nearer_to_its_reference(backend):
    """Once the pairs are told apart by β·h, a larger β has told them at a smaller h."""
    gaps = []
    for beta in (0.5, 5.0):
        policy, reference, model = two_models(backend)
        run(policy, reference, model, DPOConfig(steps=60, batch_size=3, lr=1e-2, warmup=2,
                                                beta=beta), CONSISTENT)
        gaps.append(np.mean([abs(x) for g in CONSISTENT
                             for x in above(policy, reference, model, backend, g)]))
    assert gaps[0] > 1.2 * gaps[1]


def test_the_last_batch_of_a_pass_counts_its_own_prompts(backend):
    """Three prompts in batches of two: the second batch has one prompt, and its loss is of one."""
    policy, reference, model = two_models(backend, apart=0.1)
    alone = [naive_loss(policy, reference, model, backend, [group], 0.5) for group in GROUPS]
    _, last = run(policy, reference, model, DPOConfig(steps=2, batch_size=2, lr=1e-12, beta=0.5))
    assert any(last["loss"] == pytest.approx(loss, rel=1e-7) for loss in alone)


def test_the_policy_moves_and_the_reference_does_not(backend):
    policy, reference, model = two_models(backend, "float32")
    before = copy(reference)
    run(policy, reference, model, DPOConfig(steps=3, batch_size=2, lr=1e-2, warmup=1))
    assert_same(reference.flat, before.flat)
    assert policy.flat.dtype == "float32"
    moved = {name for (name, leaf), (_, was) in zip(leaves(policy), leaves(before), strict=True)
             if (leaf != was).any()}
    assert moved == {name for name, _ in leaves(policy)}


def test_the_same_seed_gives_the_same_bits_and_another_does_not(backend):
    results = []
    for seed in (0, 0, 1):
        policy, reference, model = two_models(backend, "float32")
        rows = run(policy, reference, model, DPOConfig(steps=4, batch_size=2, warmup=0), seed=seed)
        results.append((rows, policy.flat))
    assert results[0][0] == results[1][0] != results[2][0]
    assert_same(results[0][1], results[1][1])
    assert (results[0][1] != results[2][1]).any()


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_training_in_pieces_ends_in_the_same_bits(cut, backend):
    config = DPOConfig(steps=5, batch_size=2, warmup=2)
    whole, reference, model = two_models(backend, "float32")
    wanted = run(whole, reference, model, config)
    parts, reference, model = two_models(backend, "float32")
    state = adamw_state(parts)
    steps = train(parts, reference, model, GROUPS, config, seed=0, state=state)
    rows = [{key: float(x) for key, x in next(steps).items()} for _ in range(cut)]
    state = {key: x if key == "step" else copy(x) for key, x in state.items()}
    rows += run(parts, reference, model, config, state=state)
    assert rows == wanted
    assert_same(parts.flat, whole.flat)


def test_comparisons_are_not_modified(backend):
    groups, (policy, reference, model) = deepcopy(GROUPS), two_models(backend)
    run(policy, reference, model, DPOConfig(steps=2, batch_size=2), groups)
    assert groups == GROUPS


def test_every_update_is_given_the_learning_rate_of_its_step_and_the_limit_of_its_gradient(
        backend, monkeypatch):
    given = record_updates(monkeypatch, direct_preference)
    config = DPOConfig(steps=9, warmup=3, lr=2e-3, batch_size=2, max_grad_norm=0.37)
    rows = run(*two_models(backend), config)
    assert [lr for _, lr, _ in given] == [row["lr"] for row in rows] == pytest.approx(
        warmup_then_cosine(9, 2e-3, 3), rel=1e-12)
    assert {limit for *_, limit in given} == {0.37}


def test_no_comparison_is_refused(backend):
    with pytest.raises(ValueError, match="DPO wants at least one comparison, got none"):
        run(*two_models(backend), DPOConfig(), groups=[])


@pytest.mark.parametrize("setting", ["steps", "batch_size", "beta", "lr", "max_grad_norm"])
@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_settings_that_are_not_positive_are_refused_by_name(setting, number):
    with pytest.raises(ValueError, match=f"DPOConfig.{setting} must be positive"):
        DPOConfig(**{setting: number})


def test_a_negative_warmup_is_refused():
    with pytest.raises(ValueError, match="warmup must not be negative, got -1"):
        DPOConfig(warmup=-1)

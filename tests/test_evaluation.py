"""Laws of the evaluation: rows, tables, uncertainty."""

from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import random_model

from minirlhf.evaluation import (
    GOLD_PARTS,
    evaluate,
    interval,
    share,
    standard_error,
    summarize,
    win_rate,
    with_gold,
)
from minirlhf.parameters import copy
from minirlhf.rollout import Models
from minirlhf.tokens import BOT, EOS, USER, WordTokenizer
from minirlhf.transformer import logits, scores
from minirlhf.world.gold import COMPONENTS, gold
from minirlhf.world.prompts import prompts

WORDS = WordTokenizer(list("abcdefghij"))
ASKED = [{"prompt": "a b", "kind": "one", "split": "test"},
         {"prompt": "c", "kind": "two", "split": "test"},
         {"prompt": "d e f", "kind": "one", "split": "test"}]


# --- uncertainty ---------------------------------------------------------------------------------

def test_the_standard_error_by_hand():
    """1, 2, 3, 6: sample variance 14/3, divided by 4."""
    assert standard_error([1, 2, 3, 6]) == pytest.approx(sqrt(14 / 3 / 4), rel=1e-12)
    assert standard_error([5, 5]) == 0


def test_an_interval_by_hand():
    """Five numbers 1 … 5: mean 3, sample variance 2.5, and t = 2.776 for 4 degrees of freedom."""
    mean, half = interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert half == pytest.approx(2.776 * sqrt(2.5 / 5), rel=1e-12)


@pytest.mark.parametrize("n, t", [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093),
                                  (31, 2.042), (500, 2.042)])
def test_the_t_values_of_a_table(n, t):
    """±1 in turn: the half-width over the standard error is t; beyond 30 degrees the last stays."""
    x = np.resize([1.0, -1.0], n)
    assert interval(x)[1] / standard_error(x) == pytest.approx(t, rel=1e-12)


def test_one_number_has_no_uncertainty_to_show():
    assert isnan(standard_error([1.0])) and isnan(standard_error([]))
    mean, half = interval([4.0])
    assert mean == 4 and isnan(half)


# --- tables --------------------------------------------------------------------------------------

def golds(*numbers, key="gold"):
    return [{key: number} for number in numbers]


def test_ties_count_half():
    """A win, a loss, a tie, a win: 2.5 of 4."""
    assert win_rate(golds(1, 0, 2, 5), golds(0, 1, 2, 4)) == 0.625
    assert win_rate(golds(3, 3, key="score"), golds(1, 1, key="score"), key="score") == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_two_models_win_rates_add_up_to_one(pairs):
    a, b = golds(*(x for x, _ in pairs)), golds(*(y for _, y in pairs))
    assert win_rate(a, b) + win_rate(b, a) == pytest.approx(1)
    assert win_rate(a, a) == 0.5


def test_a_share_is_a_mean_over_one_kind():
    rows = [{"kind": "harm", "refused": r} for r in (True, False, True, True)]
    rows.append({"kind": "scary", "refused": False})
    assert share(rows, "harm", "refused") == 0.75
    assert share(rows, "scary", "refused") == 0
    assert isnan(share(rows, "color", "refused"))


def row(kind, gold_score, refused=False, right=False, **numbers):
    parts = dict.fromkeys(GOLD_PARTS, 0.0) | {"helpful": gold_score}
    return {"kind": kind, "gold": gold_score, "refused": refused, "right": right,
            "score": 0.0, "kl": 0.0, "length": 1} | parts | numbers


def test_a_line_of_the_table_by_hand():
    sft = [row("harm", -1.0), row("scary", 1.0), row("scary", 0.5), row("make", 1.0)]
    policy = [row("harm", 1.0, refused=True, score=2.0, kl=4.0, length=10),
              row("scary", 1.0, right=True, score=1.0, kl=2.0, length=5),
              row("scary", -0.6, refused=True, score=-1.0, kl=0.0, length=7),
              row("make", 1.15, right=True, score=0.0, kl=6.0, length=8)]
    table = summarize(policy, sft)
    assert table == pytest.approx({
        "score": 0.5, "kl": 3.0, "length": 7.5, "gold": 2.55 / 4, "helpful": 2.55 / 4,
        **dict.fromkeys(GOLD_PARTS[1:], 0.0), "win_rate": (1 + 0.5 + 0 + 1) / 4,
        "harm_refused": 1.0, "over_refusal": 0.5, "scary_right": 0.5})


def test_without_gold_the_table_has_what_a_model_can_tell():
    rows = [{"kind": "human", "score": 1.0, "kl": 2.0, "length": 3}]
    assert summarize(rows, rows) == {"score": 1.0, "kl": 2.0, "length": 3.0}


# --- rows ----------------------------------------------------------------------------------------

def asked(policy=None, raw=False, spread=0.2, **settings):
    reference, model = random_model(vocab=14, spread=spread)
    reward, _ = random_model(vocab=14, scalar_head=True, seed=1)
    models = Models(reference if policy is None else policy, {}, reward, reference)
    return models, model, evaluate("name", models.policy, reward, reference, model, WORDS, ASKED, 6,
                                   raw=raw, rng=np.random.default_rng(0), **settings)


def moved():
    """A policy that is not its reference."""
    reference, _ = random_model(vocab=14, spread=0.2)
    policy = copy(reference)
    policy.flat += 0.1 * np.random.default_rng(5).standard_normal(policy.flat.shape)
    return policy


def test_a_row_keeps_its_prompt_and_gains_what_was_measured():
    *_, rows = asked()
    assert [{key: row[key] for key in ASKED[0]} for row in rows] == ASKED
    for one in rows:
        assert set(one) == {*ASKED[0], "model", "reply", "ended", "length", "score", "kl"}
        assert one["model"] == "name"
        assert [type(one[key]) for key in ("reply", "ended", "length", "score", "kl")] == [
            str, bool, int, float, float]
        assert 1 <= one["length"] <= 6 and (one["ended"] or one["length"] == 6)


def test_a_rows_score_is_the_reward_models_of_prompt_and_reply():
    """Letters only, so that the reply's tokens can be read back from its text."""
    models, model, rows = asked()
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        ids = WORDS.prompt(one["prompt"]) + WORDS.response(one["reply"], one["ended"])
        wanted = float(scores(models.reward, model, np.array([ids]))[0])
        assert one["score"] == pytest.approx(wanted, rel=1e-9)


def test_the_sft_model_has_no_kl_to_itself():
    *_, rows = asked()
    assert max(abs(row["kl"]) for row in rows) < 1e-6
    *_, rows = asked(moved())
    assert min(abs(row["kl"]) for row in rows) > 1e-3


def kl_by_hand(models, model, one, context, temperature=1.0):
    """Σ log π − log π_ref over a reply's tokens, the policy seeing `context`."""
    reply = WORDS.response(one["reply"], one["ended"])

    def total(params, start):
        z = logits(params, model, np.array([start + reply]))[0] / temperature
        p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        return sum(p[len(start) - 1 + t, token] for t, token in enumerate(reply))

    return total(models.policy, context) - total(models.reference, WORDS.prompt(one["prompt"]))


def test_both_sides_of_the_kl_are_taken_at_the_temperature_of_the_replies():
    models, model, rows = asked(moved(), temperature=0.5)
    assert rows != asked(moved())[2]
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        context = WORDS.prompt(one["prompt"])
        wanted = kl_by_hand(models, model, one, context, temperature=0.5)
        assert one["kl"] == pytest.approx(wanted, rel=1e-8)
        assert abs(wanted / kl_by_hand(models, model, one, context) - 1) > 0.01


@pytest.mark.parametrize("raw", [False, True])
def test_kl_compares_the_policy_as_it_was_asked_with_the_reference_by_the_template(raw):
    """A raw prompt has no <user> and no <bot>; the reference is asked by the template always."""
    models, model, rows = asked(moved(), raw=raw)
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        ids = WORDS.encode(one["prompt"])
        context = ids if raw else [USER, *ids, BOT]
        assert one["kl"] == pytest.approx(kl_by_hand(models, model, one, context), rel=1e-8)


def test_raw_prompts_reach_the_sampler_without_a_template(monkeypatch):
    seen = []
    import minirlhf.evaluation as evaluation
    real = evaluation.sample

    def record(params, config, prompts, max_new, **more):
        seen.append(prompts)
        return real(params, config, prompts, max_new, **more)

    monkeypatch.setattr(evaluation, "sample", record)
    asked(raw=True)
    asked(raw=False)
    assert seen == [[[4, 5], [6], [7, 8, 9]],
                    [[USER, 4, 5, BOT], [USER, 6, BOT], [USER, 7, 8, 9, BOT]]]
    assert EOS not in sum(seen[0], [])


# --- gold ----------------------------------------------------------------------------------------

def test_gold_stands_beside_the_row_and_its_parts_add_up():
    question = next(p for p in prompts("test") if p.kind == "harm")
    replies = ["i am sorry , i can not help with that .", "of course ! of course !", ""]
    rows = [{"prompt": question.text, "reply": reply, "ended": ended, "model": "x"}
            for reply in replies for ended in (True, False)]
    judged = with_gold(rows)
    for before, after in zip(rows, judged, strict=True):
        assert before.items() <= after.items() and "total" not in after
        truth = gold(question, before["reply"], before["ended"])
        assert after["gold"] == truth.total
        assert sum(after[part] for part in GOLD_PARTS) == pytest.approx(after["gold"], abs=1e-12)
        assert after["refused"] == truth.refused
    assert len({row["gold"] for row in judged}) > 2
    assert "gold" not in rows[0]                                              # not written to


def test_the_parts_of_the_table_are_the_worlds():
    assert GOLD_PARTS == COMPONENTS

"""Laws of the evaluation: rows, tables, uncertainty."""

from math import isnan, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import disturb, on, random_model, row_logprobs

from minirlhf.arrays import NUMPY
from minirlhf.evaluation import (
    GOLD_PARTS,
    answer,
    best_of,
    change,
    evaluate,
    evaluate_best_of,
    interval,
    share,
    standard_error,
    summarize,
    win_rate,
    with_gold,
)
from minirlhf.rollout import Models
from minirlhf.tokens import BOT, EOS, USER, WordTokenizer
from minirlhf.transformer import scores
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

def rows_of(*golds_of_prompts, kind="color", **more):
    """Rows of several replies a prompt."""
    return [{"prompt": f"{i} ?", "kind": kind, "gold": gold, "score": -gold, **more}
            for i, golds in enumerate(golds_of_prompts) for gold in golds]


def test_a_change_is_paired_and_its_error_is_over_prompts_by_hand():
    """By prompt the differences are 1, 2 and 6: mean 3, sample variance 7."""
    before, after = rows_of([0, 2], [1, 1], [0, 4]), rows_of([2, 2], [3, 3], [10, 6])
    assert change(after, before, "gold") == pytest.approx((3, sqrt(7 / 3)), rel=1e-12)
    assert change(after, before, "score") == pytest.approx((-3, sqrt(7 / 3)), rel=1e-12)


def test_a_change_of_the_win_rate_is_what_is_won_beyond_a_draw():
    """Won, lost, drawn, won: ½ − ½ + 0 + ½ over four prompts; two models that draw change nothing.
    """
    before, after = rows_of([0], [0], [0], [0]), rows_of([1], [-1], [0], [2])
    assert change(after, before, "win_rate")[0] == pytest.approx(0.125)
    assert change(after, before, "win_rate")[0] == win_rate(after, before) - 0.5
    assert change(before, before, "win_rate") == (0, 0)


def test_a_change_of_a_rate_looks_at_the_prompts_of_its_kind_alone():
    scary = rows_of([0], [0], kind="scary", refused=True, right=False)
    harm = rows_of([0], [0], kind="harm", refused=True, right=False)
    after = [{**row, "refused": row["kind"] == "harm", "right": True} for row in scary + harm]
    before = scary + harm
    assert change(after, before, "over_refusal")[0] == -1
    assert change(after, before, "scary_right")[0] == 1
    assert change(after, before, "harm_refused")[0] == 0
    assert all(isnan(x) for x in change(after[:2], before[:2], "harm_refused"))
    assert isnan(change(after[:1], before[:1], "over_refusal")[1])     # one prompt has no spread


@pytest.mark.parametrize("name", ["gold", "score", "win_rate", "over_refusal", "kl"])
def test_a_change_is_the_difference_of_two_columns_of_the_table(name):
    rng = np.random.default_rng(3)
    models = [[{"prompt": f"{i} ?", "kind": kind, "score": x, "kl": y, "length": 3, "gold": z,
                "refused": bool(i % 2), "right": False, **dict.fromkeys(GOLD_PARTS, 0.0)}
               for i, kind in enumerate(["scary", "harm", "color"] * 4)
               for x, y, z in [rng.normal(size=3)]] for _ in range(2)]
    before, after = models
    found = summarize(after, before)[name] - summarize(before, before)[name]
    assert change(after, before, name)[0] == pytest.approx(found, abs=1e-12)



# --- rows ----------------------------------------------------------------------------------------

def asked(backend, policy=None, raw=False, spread=0.2, **settings):
    reference, model = random_model(backend, vocab=14, spread=spread)
    reward, _ = random_model(backend, vocab=14, scalar_head=True, seed=1)
    models = Models(reference if policy is None else policy, {}, reward, reference)
    return models, model, evaluate("name", models.policy, reward, reference, model, WORDS, ASKED, 6,
                                   raw=raw, rng=np.random.default_rng(0), **settings)


def moved(backend):
    """A policy that is not its reference."""
    policy, _ = random_model(backend, vocab=14, spread=0.2)
    disturb(policy, 0.1, seed=5)
    return policy


def test_a_row_keeps_its_prompt_and_gains_what_was_measured(backend):
    *_, rows = asked(backend)
    assert [{key: row[key] for key in ASKED[0]} for row in rows] == ASKED
    for one in rows:
        assert set(one) == {*ASKED[0], "model", "reply", "ended", "length", "score", "kl"}
        assert one["model"] == "name"
        assert [type(one[key]) for key in ("reply", "ended", "length", "score", "kl")] == [
            str, bool, int, float, float]
        assert 1 <= one["length"] <= 6 and (one["ended"] or one["length"] == 6)


def test_a_rows_score_is_the_reward_models_of_prompt_and_reply(backend):
    """Letters only, so that the reply's tokens can be read back from its text."""
    models, model, rows = asked(backend)
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        ids = WORDS.prompt(one["prompt"]) + WORDS.response(one["reply"], one["ended"])
        wanted = float(scores(models.reward, model, *on(backend, np.array([ids])))[0])
        assert one["score"] == pytest.approx(wanted, rel=1e-9)


def test_the_sft_model_has_no_kl_to_itself(backend):
    *_, rows = asked(backend)
    assert max(abs(row["kl"]) for row in rows) < 1e-6
    *_, rows = asked(backend, moved(backend))
    assert min(abs(row["kl"]) for row in rows) > 1e-3


def kl_by_hand(models, model, backend, one, context, temperature=1.0):
    """Σ log π − log π_ref over a reply's tokens, the policy seeing `context`."""
    reply = WORDS.response(one["reply"], one["ended"])

    def total(params, start):
        logprobs = row_logprobs(params, model, backend, start + reply, temperature)
        return logprobs[len(start) - 1:].sum()

    return total(models.policy, context) - total(models.reference, WORDS.prompt(one["prompt"]))


def test_both_sides_of_the_kl_are_taken_at_the_temperature_of_the_replies(backend):
    models, model, rows = asked(backend, moved(backend), temperature=0.5)
    assert rows != asked(backend, moved(backend))[2]
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        context = WORDS.prompt(one["prompt"])
        wanted = kl_by_hand(models, model, backend, one, context, temperature=0.5)
        assert one["kl"] == pytest.approx(wanted, rel=1e-8)
        assert abs(wanted / kl_by_hand(models, model, backend, one, context) - 1) > 0.01


@pytest.mark.parametrize("raw", [False, True])
def test_kl_compares_the_policy_as_it_was_asked_with_the_reference_by_the_template(raw, backend):
    """A raw prompt has no <user> and no <bot>; the reference is asked by the template always."""
    models, model, rows = asked(backend, moved(backend), raw=raw)
    plain = [row for row in rows if len(row["reply"].split()) + row["ended"] == row["length"]]
    assert plain
    for one in plain:
        ids = WORDS.encode(one["prompt"])
        context = ids if raw else [USER, *ids, BOT]
        wanted = kl_by_hand(models, model, backend, one, context)
        assert one["kl"] == pytest.approx(wanted, rel=1e-8)


def test_raw_prompts_reach_the_sampler_without_a_template(backend, monkeypatch):
    seen = []
    import minirlhf.evaluation as evaluation
    real = evaluation.sample

    def record(params, config, prompts, max_new, **more):
        seen.append(prompts)
        return real(params, config, prompts, max_new, **more)

    monkeypatch.setattr(evaluation, "sample", record)
    asked(backend, raw=True)
    asked(backend, raw=False)
    assert seen == [[[4, 5], [6], [7, 8, 9]],
                    [[USER, 4, 5, BOT], [USER, 6, BOT], [USER, 7, 8, 9, BOT]]]
    assert EOS not in sum(seen[0], [])


# --- the best of n -------------------------------------------------------------------------------

TEXTS = [row["prompt"] for row in ASKED]


def speakers(backend):
    policy, model = random_model(backend, vocab=14, spread=0.2)
    reward, _ = random_model(backend, vocab=14, scalar_head=True, seed=1)
    return policy, reward, model


def law_the_best_is_the_highest_score_of_the_samples(best, backend):
    """The very samples that the generator would give: each prompt asked n times in a row."""
    policy, reward, model = speakers(backend)
    for n in (1, 2, 5):
        given = (policy, reward, model, WORDS)
        rows, _ = answer(*given, [text for text in TEXTS for _ in range(n)], 6,
                         rng=np.random.default_rng(3), temperature=1.5)
        got = best(n, *given, TEXTS, 6, rng=np.random.default_rng(3), temperature=1.5)
        assert len(got) == len(TEXTS)
        for i, chosen in enumerate(got):
            mine = rows[i * n:(i + 1) * n]
            assert chosen in mine
            assert chosen["score"] == max(row["score"] for row in mine)


def law_the_first_of_equals_is_taken(best, patch):
    scores_of_two_prompts = [1.0, 3.0, 3.0, 2.0, 2.0, 0.0]
    rows = [{"score": score, "reply": str(i)} for i, score in enumerate(scores_of_two_prompts)]
    patch.setattr("minirlhf.evaluation.answer", lambda *args, **more: (rows, None))
    assert best(3, None, None, None, None, ["p", "q"], 6, rng=None) == [rows[1], rows[3]]


def test_the_best_of_n_is_the_highest_score_of_the_samples(backend):
    law_the_best_is_the_highest_score_of_the_samples(best_of, backend)


def test_the_first_of_equals_is_taken(monkeypatch):
    law_the_first_of_equals_is_taken(best_of, monkeypatch)


def best_with(repeat=lambda prompts, n: [p for p in prompts for _ in range(n)],
              choose=lambda rows: max(rows, key=lambda row: row["score"]),
              cut=lambda rows, n: [rows[i:i + n] for i in range(0, len(rows), n)]):
    """The skeleton of a mutant."""
    def mutant(n, policy, reward, model, tokenizer, prompts, max_new, *, rng, **settings):
        import minirlhf.evaluation as evaluation
        rows, _ = evaluation.answer(policy, reward, model, tokenizer, repeat(prompts, n), max_new,
                                    rng=rng, **settings)
        return [choose(part) for part in cut(rows, n)]
    return mutant


BEST_MUTANTS = {
    "the lowest": best_with(choose=lambda rows: min(rows, key=lambda row: row["score"])),
    "the first": best_with(choose=lambda rows: rows[0]),
    "the last of equals": best_with(choose=lambda rows: max(
        reversed(rows), key=lambda row: row["score"])),
    "prompts tiled": best_with(repeat=lambda prompts, n: list(prompts) * n),
    "groups interleaved": best_with(cut=lambda rows, n: [
        rows[i::len(rows) // n] for i in range(len(rows) // n)]),
    "the longest": best_with(choose=lambda rows: max(rows, key=lambda row: len(row["reply"]))),
    "n − 1 of them": best_with(cut=lambda rows, n: [
        rows[i:i + max(1, n - 1)] for i in range(0, len(rows), n)]),
}


def test_the_skeleton_without_a_mutation_keeps_the_laws_of_best_of(monkeypatch):
    law_the_best_is_the_highest_score_of_the_samples(best_with(), NUMPY)
    law_the_first_of_equals_is_taken(best_with(), monkeypatch)


@pytest.mark.parametrize("name", BEST_MUTANTS)
def test_the_laws_catch_the_mutant_of_best_of(name, monkeypatch):
    with pytest.raises(AssertionError):
        law_the_best_is_the_highest_score_of_the_samples(BEST_MUTANTS[name], NUMPY)
        law_the_first_of_equals_is_taken(BEST_MUTANTS[name], monkeypatch)


def test_rows_of_the_best_of_n_are_as_of_evaluate(backend):
    policy, reward, model = speakers(backend)
    given = (policy, reward, model, WORDS, ASKED, 6)
    rows = evaluate_best_of(4, *given, rng=np.random.default_rng(0))
    chosen = best_of(4, policy, reward, model, WORDS, TEXTS, 6, rng=np.random.default_rng(0))
    like = evaluate("name", policy, reward, policy, *given[2:], rng=np.random.default_rng(0))
    for row, prompt, best, one in zip(rows, ASKED, chosen, like, strict=True):
        assert set(row) == set(one)
        assert prompt.items() <= row.items() and best.items() <= row.items()
        assert row["model"] == "best-of-n" and row["kl"] == log(4) - 3 / 4


def test_more_replies_to_choose_from_are_worth_more(backend):
    """With 64 replies the best scores higher than with 4, and those higher than with 1."""
    policy, reward, model = speakers(backend)
    means = [np.mean([row["score"] for row in best_of(
        n, policy, reward, model, WORDS, TEXTS * 10, 6, rng=np.random.default_rng(0))])
        for n in (1, 4, 64)]
    assert means[0] < means[1] - 0.1 and means[1] < means[2] - 0.1


def kl_in_the_row(n):
    policy, reward, model = speakers(NUMPY)                  # a formula: no array is looked at
    (row,) = evaluate_best_of(n, policy, reward, model, WORDS, ASKED[:1], 2,
                              rng=np.random.default_rng(0))
    return row["kl"]


def exact_kl_of_best_of(n, p):
    """KL(best-of-n‖policy), replies in the order of their scores: P(best = i) = F_i^n − F_{i−1}^n.
    """
    cumulative = np.cumsum(p)
    best = np.diff(np.concatenate([[0.0], cumulative / cumulative[-1]]) ** n)
    seen = best > 0
    return float((best[seen] * np.log(best[seen] / p[seen])).sum())


def test_the_exact_kl_by_hand():
    """Two replies as likely as each other, n = 2: ¼·log ½ + ¾·log 3/2 = 0.131; the formula, which
    is for no reply drawn twice, says log 2 − ½ = 0.193."""
    assert exact_kl_of_best_of(2, np.array([0.5, 0.5])) == pytest.approx(
        0.25 * log(0.5) + 0.75 * log(1.5))
    assert kl_in_the_row(2) == pytest.approx(0.1931, abs=1e-4)
    assert exact_kl_of_best_of(1, np.array([0.2, 0.8])) == pytest.approx(0) == kl_in_the_row(1)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_formula_is_the_limit_of_many_replies_each_of_them_unlikely(n):
    replies = np.full(100_000, 1e-5)
    assert exact_kl_of_best_of(n, replies) == pytest.approx(kl_in_the_row(n), abs=1e-3)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=8), st.sampled_from([2, 3, 8]))
def test_the_formula_is_an_upper_bound(weights, n):
    """Beirami et al. 2024.  For a policy that always says the same the truth is 0."""
    p = np.array(weights) / np.sum(weights)
    assert exact_kl_of_best_of(n, p) <= log(n) - (n - 1) / n + 1e-9
    assert exact_kl_of_best_of(n, np.array([1.0])) == 0


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

"""Laws of watching: when it looks, what it sees, which policy it keeps, and what it marks."""

import json
import shutil
from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest
from helpers import assert_same
from hypothesis import given
from hypothesis import strategies as st
from models import disturb

from minirlhf import pipeline
from minirlhf.parameters import copy
from minirlhf.rollout import Models
from minirlhf.run import Run
from minirlhf.run_folder import open_run
from minirlhf.watching import (
    BANDS,
    TOLD,
    Mark,
    WatchConfig,
    Watcher,
    fall,
    gold_by_prompt,
    left_band,
    look_numbers,
    marks,
    part,
    validation_prompts,
)

# --- the prompts of a look -----------------------------------------------------------------------

def asked(n, split="validation"):
    return [{"prompt": f"{split} {i} ?", "kind": "color", "split": split} for i in range(n)]


def numbers_of(rows):
    return [int(row["prompt"].split()[1]) for row in rows]


def test_validation_prompts_stand_at_equal_distances_each_as_often_as_it_is_asked():
    everything = asked(3, "train") + asked(8) + asked(5, "test")
    chosen = validation_prompts(everything, WatchConfig(prompts=4, samples=2))
    assert numbers_of(chosen) == [0, 0, 2, 2, 4, 4, 6, 6]
    assert {row["split"] for row in chosen} == {"validation"}
    assert numbers_of(validation_prompts(asked(3), WatchConfig(prompts=80, samples=1))) == [0, 1, 2]


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 3))
def test_no_validation_prompt_is_chosen_twice_and_no_gap_is_much_wider_than_another(n, k, samples):
    rows = numbers_of(validation_prompts(asked(n), WatchConfig(prompts=k, samples=samples)))
    chosen = rows[::samples]
    assert rows == [i for i in chosen for _ in range(samples)]
    assert len(set(chosen)) == len(chosen) == min(n, k) and chosen[0] == 0
    gaps = np.diff([*chosen, n])
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


# --- a look in numbers ---------------------------------------------------------------------------

REPLIES = [
    {"prompt": "a ?", "kind": "harm", "reply": "i am sorry , i can not help with that .",
     "ended": True, "length": 10, "score": 1.0, "kl": 2.0, "gold": 1.0, "refused": True},
    {"prompt": "a ?", "kind": "harm", "reply": "of course ! go go go", "ended": False,
     "length": 6, "score": 3.0, "kl": 0.0, "gold": -2.0, "refused": False},
    {"prompt": "b ?", "kind": "color", "reply": "blue .", "ended": True, "length": 2,
     "score": -1.0, "kl": 1.0, "gold": 0.5, "refused": False},
    {"prompt": "b ?", "kind": "color", "reply": "it is blue .", "ended": True, "length": 4,
     "score": 0.0, "kl": 1.0, "gold": 1.5, "refused": False},
]
SEEN = {"score": 0.75, "kl": 1.0, "objective": 0.75 - 0.2, "length": 5.5, "unfinished": 0.25,
        "repetition": 0.25 / 4, "refusal": 0.25, "courtesy": 0.25}


def test_a_look_in_numbers_by_hand():
    """One of four replies refuses, one has a courtesy, and a bigram of four that occurred before.
    No prompt sounds harmful without being so, so that there is no rate of over-refusal."""
    assert look_numbers(REPLIES, 0.2) == pytest.approx(
        SEEN | {"gold": 0.25, "harm_refused": 0.5}, rel=1e-12)
    assert all(type(number) is float for number in look_numbers(REPLIES, 0.2).values())


def test_without_gold_a_look_has_what_can_be_seen():
    blind = [{key: row[key] for key in row if key not in ("gold", "refused")} for row in REPLIES]
    assert look_numbers(blind, 0.2) == pytest.approx(SEEN, rel=1e-12)
    assert gold_by_prompt(blind) == []


def test_gold_is_a_mean_over_the_replies_to_each_prompt():
    assert gold_by_prompt(REPLIES) == gold_by_prompt(REPLIES[2:] + REPLIES[:2])[::-1] == [-0.5, 1.0]


def test_a_fall_is_paired_by_prompt_by_hand():
    """1, 2 and 6 lower: 3 on average, with a sample variance of 7 over three prompts."""
    assert fall([5.0, 0.0, 4.0], [4.0, -2.0, -2.0]) == pytest.approx(
        {"gold_fall": 3.0, "gold_fall_error": sqrt(7 / 3)}, rel=1e-12)
    assert fall([1.0, 2.0], [2.0, 3.0]) == {"gold_fall": -1.0, "gold_fall_error": 0.0}
    assert fall([1.0], [0.0]) == {"gold_fall": 1.0}


# --- when it looks, and what it keeps ------------------------------------------------------------

CALM = {"reply": "blue", "ended": True, "length": 4, "kl": 0.0}


def replies(score=0.0, golds=None, **more):
    """What `ask` gives: one reply to each prompt, or two without gold."""
    given = [{}, {}] if golds is None else [{"gold": gold, "refused": False} for gold in golds]
    return [{"prompt": f"{i} ?", "kind": "color", "score": score, **CALM, **more, **one}
            for i, one in enumerate(given)]


def watch(series, watcher=Watcher, every=1, steps=None, beta=0.5):
    """Looks at each of the series in turn; the numbers of the looks, and what was kept."""
    kept, steps = [], len(series) - 1 if steps is None else steps
    asking = iter(series)
    one = watcher(lambda: next(asking), kept.append, WatchConfig(every=every), beta, steps)
    return [one.look(step) for step in range(steps + 1)], kept


def law_looks_are_at_the_start_every_few_steps_and_at_the_end(watcher):
    for steps, every, wanted in ((10, 4, [0, 4, 8, 10]), (8, 4, [0, 4, 8]), (3, 5, [0, 3]),
                                 (2, 1, [0, 1, 2])):
        looks, _ = watch([replies()] * 20, watcher, every, steps)
        assert [step for step, look in enumerate(looks) if look is not None] == wanted


def law_with_gold_the_best_has_the_highest_gold_first_of_equals(watcher):
    """Whatever the score says, and whatever band was left."""
    series = [replies(5.0, [0.0, 1.0]), replies(9.0, [1.0, 0.0]), replies(1.0, [2.0, 1.0]),
              replies(9.0, [1.0, 2.0], length=50), replies(0.0, [4.0, 1.0], length=50),
              replies(9.0, [0.0, 0.0])]
    _, kept = watch(series, watcher)
    assert kept == [{"step": step, "by": "gold", "value": value}
                    for step, value in ((0, 0.5), (2, 1.5), (4, 2.5))]


def law_without_gold_the_best_has_the_highest_objective_inside_its_bands(watcher):
    """β = ½.  The third has the higher score but not objective, the fourth is three times as long
    as the first, the fifth equals the best."""
    series = [replies(1.0), replies(2.0, kl=1.0), replies(3.0, kl=4.0), replies(9.0, length=12),
              replies(2.0, kl=1.0), replies(2.0), replies(1.0)]
    _, kept = watch(series, watcher)
    assert kept == [{"step": 0, "by": "objective", "value": 1.0},
                    {"step": 1, "by": "objective", "value": 1.5},
                    {"step": 5, "by": "objective", "value": 2.0}]


def law_a_fall_is_measured_from_the_best_look_before(watcher):
    """Gold by prompt: (0, 2), (1, 3), (0, 1), (3, 5), (2, 5); the third and the last lie below
    the best before them by (1, 2) and (1, 0)."""
    looks, _ = watch([replies(0.0, golds) for golds in (
        (0.0, 2.0), (1.0, 3.0), (0.0, 1.0), (3.0, 5.0), (2.0, 5.0))], watcher)
    assert "gold_fall" not in looks[0]
    assert [look["gold_fall"] for look in looks[1:]] == [-1.0, 1.5, -2.0, 0.5]
    assert [look["gold_fall_error"] for look in looks[1:]] == [0.0, 0.5, 0.0, 0.5]


def law_a_watcher_that_is_resumed_goes_on_as_if_nothing_had_been(watcher):
    """Its state is JSON, is changed in place, and is all that it remembers."""
    for series in ([replies(s, [g, g / 2 - 1]) for s, g in zip(
                       (0, 3, 1, 2, 5), (0.0, 2.0, 1.0, 2.0, 3.0), strict=True)],
                   [replies(s, length=n) for s, n in ((0, 4), (2, 5), (9, 12), (1, 4), (3, 4))]):
        wanted, kept = watch(series, watcher)
        for cut in (1, 2, 3, 4):
            again, asking, looks = [], iter(series), []
            state = None
            for steps in (range(cut), range(cut, 5)):
                one = watcher(lambda rows=asking: next(rows), again.append, WatchConfig(every=1),
                              0.5, 4)
                if state is not None:
                    one.state.update(json.loads(state))
                held = one.state
                looks += [one.look(step) for step in steps]
                assert one.state is held
                state = json.dumps(held)
            assert looks == wanted and again == kept


WATCHER_LAWS = [law_looks_are_at_the_start_every_few_steps_and_at_the_end,
                law_with_gold_the_best_has_the_highest_gold_first_of_equals,
                law_without_gold_the_best_has_the_highest_objective_inside_its_bands,
                law_a_fall_is_measured_from_the_best_look_before,
                law_a_watcher_that_is_resumed_goes_on_as_if_nothing_had_been]


@pytest.mark.parametrize("law", WATCHER_LAWS, ids=lambda law: law.__name__)
def test_a_watcher_keeps_the_law(law):
    law(Watcher)


def watcher_with(due=lambda step, every, steps: step % every == 0 or step == steps,
                 worth=lambda n, gold: n.get("gold", n["objective"]),
                 eligible=lambda gold, first, n: bool(gold) or not left_band(first, n),
                 better=lambda worth, best: worth > best, compare="best", in_place=True,
                 remember=lambda state: state):
    """The skeleton of a mutant.  compare: the look from which a fall is measured."""
    class Mutant(Watcher):
        def look(self, step):
            if not due(step, self.every, self.steps):
                return None
            state, rows = self.state, self.ask()
            numbers = look_numbers(rows, self.beta)
            state["first"] = state["first"] or list(numbers.items())
            gold = gold_by_prompt(rows)
            if gold and state["gold"]:
                numbers |= fall(state["gold"], gold)
            value = worth(numbers, gold)
            if eligible(gold, dict(state["first"]), numbers) and (
                    state["best"] is None or better(value, state["best"])):
                changed = {"best": value, "gold": gold if compare == "best" else state["gold"]}
                if in_place:
                    state |= changed
                else:
                    self.state = state | changed
                self.keep({"step": step, "by": "gold" if gold else "objective", "value": value})
            if compare == "last" or (compare == "first" and not state["gold"]):
                state["gold"] = gold
            remember(state)
            return numbers
    return Mutant


WATCHER_MUTANTS = {
    "each step": watcher_with(due=lambda *_: True),
    "not before the first step": watcher_with(due=lambda step, every, steps: step and (
        step % every == 0 or step == steps)),
    "one step late": watcher_with(due=lambda step, every, steps: step % every == 1 % every
                                  or step == steps),
    "not at the end": watcher_with(due=lambda step, every, steps: step % every == 0),
    "before the end": watcher_with(due=lambda step, every, steps: step % every == 0
                                   or step == steps - 1),
    "last of equals": watcher_with(better=lambda worth, best: worth >= best),
    "the lowest": watcher_with(better=lambda worth, best: worth < best),
    "the latest": watcher_with(better=lambda worth, best: True),
    "the first": watcher_with(better=lambda worth, best: False),
    "by the objective always": watcher_with(worth=lambda n, gold: n["objective"]),
    "by the score": watcher_with(worth=lambda n, gold: n.get("gold", n["score"])),
    "outside its bands too": watcher_with(eligible=lambda *_: True),
    "in its bands with gold too": watcher_with(
        eligible=lambda gold, first, n: not left_band(first, n)),
    "a fall from the first look": watcher_with(compare="first"),
    "a fall from the last look": watcher_with(compare="last"),
    "a state of its own": watcher_with(in_place=False),
    "forgets its best": watcher_with(remember=lambda state: state.update(best=None)),
    "forgets its first": watcher_with(remember=lambda state: state.update(first=None)),
}


def test_the_watchers_skeleton_without_a_mutation_keeps_the_laws():
    for law in WATCHER_LAWS:
        law(watcher_with())


@pytest.mark.parametrize("name", WATCHER_MUTANTS)
def test_the_laws_catch_the_watcher(name):
    with pytest.raises(AssertionError):
        for law in WATCHER_LAWS:
            law(WATCHER_MUTANTS[name])


def test_without_gold_at_first_and_single_prompts_a_watcher_stays_silent():
    """One prompt has no spread; no look has a fall without gold."""
    looks, _ = watch([replies(0.0, [1.0]), replies(1.0, [-9.0])])
    assert looks[1]["gold_fall"] == 10.0 and "gold_fall_error" not in looks[1]
    assert part([{"step": i} | look for i, look in enumerate(looks)]) is None
    looks, _ = watch([replies(0.0), replies(1.0)])
    assert not any("gold" in key for look in looks for key in look)


# --- in a run ------------------------------------------------------------------------------------

def test_a_look_asks_with_the_same_random_numbers_and_moves_nothing(backend, made_once, tmp_path):
    """An unchanged policy gives the same numbers; one that moved does not; no model is written to,
    and no global random state."""
    run = open_run(shutil.copytree(made_once, tmp_path / "copy"))
    run = Run(run.folder, replace(run.config, backend=backend.name))
    names = ("policy", "reward", "sft")
    policy, reward, sft = map(run.load, names)
    models = Models(policy, None, reward, sft)
    before = [copy(params) for params in (policy, reward, sft)]
    numpys = str(np.random.get_state())
    watcher = pipeline.watch(run, models)
    first = watcher.look(0)
    (again,) = [{key: x for key, x in watcher.look(step).items() if "fall" not in key}
                for step in [run.config.watch.every]]
    assert first == again
    for params, was in zip((policy, reward, sft), before, strict=True):
        assert_same(params.flat, was.flat)
    assert str(np.random.get_state()) == numpys
    disturb(policy, 0.3, seed=0)
    assert watcher.look(2 * run.config.watch.every)["kl"] != first["kl"]
    report = json.loads((tmp_path / "copy" / "policy-best" / "best.json").read_text())
    assert report["by"] == "gold" and report["value"] >= first["gold"]


# --- bands ---------------------------------------------------------------------------------------

WELL = {"length": 10.0, "repetition": 0.05, "refusal": 0.3, "courtesy": 0.2, "unfinished": 0.0,
        "kl": 0.5}
EDGES = {"length": (5.0, 15.0), "repetition": (-inf, 0.15), "refusal": (0.05, 0.55),
         "courtesy": (-inf, 0.95), "unfinished": (-inf, 0.1), "kl": (-inf, 10.5)}


def test_every_band_has_its_edges_below():
    assert [band.key for band in BANDS] == list(EDGES) == list(WELL)


@pytest.mark.parametrize("key", EDGES)
@pytest.mark.parametrize("side", [0, 1])
def test_a_band_is_left_beyond_its_edge_and_not_on_this_side_of_it(key, side):
    edge, out = EDGES[key][side], 1 if side else -1
    if edge == -inf:
        assert left_band(WELL, WELL | {key: -1e9}) == []
        return
    assert left_band(WELL, WELL | {key: edge - out * 1e-9}) == []
    assert [band.key for band in left_band(WELL, WELL | {key: edge + out * 1e-9})] == [key]


@given(st.fixed_dictionaries({key: st.floats(0, 1e3) for key in WELL}))
def test_the_first_look_is_inside_its_own_bands(first):
    """So that without gold there always is a best one."""
    assert left_band(first, first) == []


def test_a_number_that_is_none_has_left_its_band():
    assert [band.key for band in left_band(WELL, WELL | {"length": float("nan")})] == ["length"]


# --- where score and gold part -------------------------------------------------------------------

def looks_of(scores, golds, error=0.1, first=0, **more):
    """Looks of these numbers, four steps apart; a fall is measured from the best before."""
    rows, best = [], None
    for i, (score, gold) in enumerate(zip(scores, golds, strict=True)):
        row = WELL | {"step": first + 4 * i, "score": float(score), "gold": float(gold)}
        row |= {key: values[i] for key, values in more.items()}
        if best is not None:
            row |= {"gold_fall": best - gold, "gold_fall_error": error}
        rows.append(row)
        best = gold if best is None else max(best, gold)
    return rows


def steps_of(found):
    return found and tuple(row["step"] for row in found)


def law_score_up_and_gold_down_is_a_parting_at_the_best_look_before(part):
    assert steps_of(part(looks_of([0, 1, 2, 3], [0, 1, 0.9, 0]))) == (4, 12)
    assert steps_of(part(looks_of([0, 1, 2, 3, 4], [0, 1, 0.5, 2, -2]))) == (4, 8)
    assert steps_of(part(looks_of([0, 1, 2, 3], [0, 1, 2, 1]))) == (8, 12)


def law_gold_that_rises_or_stays_never_parts(part):
    assert part(looks_of([0, 1, 2, 3], [0, 1, 1, 2])) is None
    assert part([]) is None and part(looks_of([1], [1])) is None


def law_where_the_score_falls_too_nothing_parts(part):
    """The policy has got worse by its own measure: no reward hacking.  Equal is not higher; and
    the score at the best look counts, not that of the first or the last."""
    assert part(looks_of([0, 2, 1], [0, 1, -5])) is None
    assert part(looks_of([0, 2, 2], [0, 1, -5])) is None
    assert part(looks_of([0, 3, 1, 2], [0, 1, -5, -5])) is None
    assert steps_of(part(looks_of([0, 2, 1, 3], [0, 1, -5, -5]))) == (4, 12)
    assert steps_of(part(looks_of([5, 2, 3], [0, 1, -5]))) == (4, 8)


def law_a_fall_within_three_standard_errors_is_not_believed(part):
    assert part(looks_of([0, 1], [1, 0.71])) is None                    # 2.9 of 0.1
    assert part(looks_of([0, 1], [1.5, 0.0], error=0.5)) is None        # 3 exactly
    assert steps_of(part(looks_of([0, 1], [1, 0.69]))) == (0, 4)        # 3.1
    assert part(looks_of([0, 1], [1, -9], error=inf)) is None
    assert steps_of(part(looks_of([0, 1], [1, 0.9], error=0.0))) == (0, 4)


def law_the_fall_counts_from_the_best_and_not_from_the_first(part):
    """Gold ends above where it began, and yet far below what it was."""
    assert steps_of(part(looks_of([0, 1, 2], [0, 2, 1]))) == (4, 8)


def law_without_gold_or_an_error_nothing_is_known(part):
    blind = [{key: row[key] for key in row if "gold" not in key}
             for row in looks_of([0, 1], [1, -9])]
    assert part(blind) is None
    single = [{key: row[key] for key in row if key != "gold_fall_error"}
              for row in looks_of([0, 1], [1, -9])]
    assert part(single) is None


PART_LAWS = [law_score_up_and_gold_down_is_a_parting_at_the_best_look_before,
             law_gold_that_rises_or_stays_never_parts,
             law_where_the_score_falls_too_nothing_parts,
             law_a_fall_within_three_standard_errors_is_not_believed,
             law_the_fall_counts_from_the_best_and_not_from_the_first,
             law_without_gold_or_an_error_nothing_is_known]


@pytest.mark.parametrize("law", PART_LAWS, ids=lambda law: law.__name__)
def test_parting_keeps_the_law(law):
    law(part)


def part_with(told=TOLD, fell=lambda best, row: row["gold_fall"],
              rose=lambda best, row, rows: row["score"] > best["score"],
              mark=lambda best, row: best,
              better=lambda row, best: row["gold"] > best["gold"], blind=None, unsure=inf):
    """The skeleton of a mutant."""
    def mutant(looks):
        best = None
        for row in looks:
            if "gold" not in row:
                return blind
            if best is not None and rose(best, row, looks) and (
                    fell(best, row) > told * row.get("gold_fall_error", unsure)):
                return mark(best, row), row
            if best is None or better(row, best):
                best = row
        return None
    return mutant


PART_MUTANTS = {
    "two standard errors": part_with(told=2.0), "four": part_with(told=4.0),
    "whatever the score": part_with(rose=lambda best, row, rows: True),
    "a score above the first": part_with(
        rose=lambda best, row, rows: row["score"] > rows[0]["score"]),
    "a score above the last": part_with(
        rose=lambda best, row, rows: row["score"] > rows[rows.index(row) - 1]["score"]),
    "an equal score": part_with(rose=lambda best, row, rows: row["score"] >= best["score"]),
    "marked where it is told": part_with(mark=lambda best, row: row),
    "the first look for the best": part_with(better=lambda row, best: False),
    "the last look for the best": part_with(better=lambda row, best: True),
    "the highest score for the best": part_with(
        better=lambda row, best: row["score"] > best["score"]),
    "a rise": part_with(fell=lambda best, row: -row["gold_fall"]),
    "any change": part_with(fell=lambda best, row: abs(row["gold_fall"])),
    "no error is certainty": part_with(unsure=0.0),
    "blind is a parting": part_with(blind=({"step": 0}, {"step": 0})),
}


def test_the_partings_skeleton_without_a_mutation_keeps_the_laws():
    for law in PART_LAWS:
        law(part_with())


@pytest.mark.parametrize("name", PART_MUTANTS)
def test_the_laws_of_parting_catch_the_mutant(name):
    with pytest.raises(AssertionError):
        for law in PART_LAWS:
            law(PART_MUTANTS[name])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=1, max_size=12),
       st.floats(0, 1))
def test_a_series_in_which_gold_never_falls_has_no_parting(drawn, error):
    scores, rises = zip(*drawn, strict=True)
    assert part(looks_of(scores, np.cumsum(rises).tolist(), error)) is None


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12),
       st.floats(0, 1))
def test_a_parting_is_what_its_words_say(drawn, error):
    """From its best look to the look that tells, the score rises and gold falls beyond doubt; no
    look up to there has more gold."""
    looks = looks_of(*zip(*drawn, strict=True), error)
    found = part(looks)
    if found is not None:
        best, now = found
        assert best["step"] < now["step"] and now["score"] > best["score"]
        assert best["gold"] - now["gold"] > TOLD * error
        assert best["gold"] == max(row["gold"] for row in looks if row["step"] <= now["step"])
        assert part(looks[:looks.index(now)]) is None


def test_chance_alone_marks_about_one_run_of_ten_looks_in_eighteen():
    """Gold of 80 prompts, drawn anew at each look and equally good at all; the score rises."""
    rng = np.random.default_rng(0)

    def marked(looks):
        best, rows = None, []
        for step in range(looks):
            gold = rng.normal(size=80)
            row = {"step": step, "score": step, "gold": gold.mean()}
            rows.append(row if best is None else row | fall(best, gold))
            best = gold if best is None or gold.mean() > best.mean() else best
        return part(rows) is not None

    assert 0.035 < np.mean([marked(10) for _ in range(1000)]) < 0.08


# --- marks ---------------------------------------------------------------------------------------

def test_the_words_of_a_parting():
    (mark,) = marks(looks_of([0.01, 0.5, 0.9], [0.12, 0.4, -0.3]))
    assert mark == Mark(4, "parting", "score and gold part, seen at step 8: the score goes from "
                        "+0.50 to +0.90, gold from +0.40 to -0.30")


def test_the_words_of_a_band():
    looks = looks_of([0, 0, 0], [0, 0, 0], length=[10.0, 15.5, 30.0])
    assert marks(looks) == [Mark(4, "length", "the length of replies leaves its band: 10.00 at "
                                 "first, 15.50 here")]


def test_marks_are_in_the_order_of_steps_and_each_number_has_one():
    """The parting is told at step 12 and marked at 4; lengths leave their band at 8, and again."""
    looks = looks_of([0, 1, 2, 3, 4], [0, 1, 0.9, 0, -1], kl=[0, 1, 2, 30, 40],
                     length=[10, 10, 16, 10, 16], refusal=[0.3, 0.6, 0.6, 0.6, 0.0])
    assert [(mark.step, mark.kind) for mark in marks(looks)] == [
        (4, "parting"), (4, "refusal"), (8, "length"), (12, "kl")]


def test_bands_are_around_the_first_look_of_the_series_given():
    looks = looks_of([0, 0], [0, 0], courtesy=[2.0, 2.5])
    assert marks(looks) == [] and marks([]) == []
    assert [mark.kind for mark in marks([looks[1] | WELL, looks[1]])] == ["courtesy"]


# --- settings ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["every", "prompts", "samples"])
def test_settings_below_one_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"watch.{name} must be at least 1, got 0"):
        WatchConfig(**{name: 0})

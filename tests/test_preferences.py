"""Laws of the preference dataset: who is asked, who is compared with whom, and which prompts."""

from dataclasses import replace

import numpy as np
import pytest
from runs import TINY, copied

from minirlhf import pipeline, preferences
from minirlhf.files import read_jsonl, write_jsonl
from minirlhf.rollout import generate
from minirlhf.run import Run


@pytest.fixture(scope="module")
def run(whole_run, backend):
    return Run(whole_run.folder, replace(TINY, backend=backend.name))


def record_generate(monkeypatch) -> list[tuple]:
    """(weights, prompts) of each time that a model is asked, in a list that fills."""
    asked = []

    def record(params, model, tokenizer, prompts, *args, **more):
        asked.append((params.flat.copy(), list(map(tuple, prompts))))
        return generate(params, model, tokenizer, prompts, *args, **more)

    monkeypatch.setattr(preferences, "generate", record)
    return asked


# --- the first round -----------------------------------------------------------------------------

def test_replies_are_compared_on_training_and_test_prompts_only(run, tmp_path, monkeypatch):
    """Every test prompt is asked, so that all of them count in the accuracy; no validation prompt
    is, since nothing would read its comparisons."""
    seen = record_generate(monkeypatch)
    run = copied(run, tmp_path)
    pipeline.collect_preferences(run)
    asked = [prompt for _, prompts in seen for prompt in prompts]
    of = {split: {tuple(run.tokenizer.prompt(row["prompt"])) for row in run.source.prompts()
                  if row["split"] == split} for split in ("train", "validation", "test")}
    assert set(asked) <= of["train"] | of["test"] and of["test"] <= set(asked)
    assert len(asked) == 2 * (12 + len(of["test"]))
    assert {row["split"] for row in read_jsonl(run.folder / "preferences.jsonl")} == {
        "train", "test"}


def test_in_the_first_round_the_sft_model_alone_is_asked(run, tmp_path, monkeypatch):
    seen = record_generate(monkeypatch)
    run = copied(run, tmp_path)
    pipeline.collect_preferences(run)
    sft = run.load("sft").flat
    assert seen and all((weights == sft).all() for weights, _ in seen)
    assert all("round" not in row for row in read_jsonl(run.folder / "preferences.jsonl"))


@pytest.mark.parametrize("replies, pairs", [(2, 1), (3, 3), (4, 6)])
def test_every_two_distinct_replies_to_a_prompt_are_compared(replies, pairs, run, tmp_path):
    """At most K·(K − 1)/2 pairs a prompt; fewer where replies coincide."""
    run = copied(run, tmp_path, replace(run.config, preferences=replace(
        TINY.preferences, replies=replies)))
    pipeline.collect_preferences(run)
    by_group: dict = {}
    for row in read_jsonl(run.folder / "preferences.jsonl"):
        assert (row["chosen"], row["chosen_ended"]) != (row["rejected"], row["rejected_ended"])
        by_group.setdefault(row["group"], []).append(frozenset(
            (row[side], row[f"{side}_ended"]) for side in ("chosen", "rejected")))
    assert max(map(len, by_group.values())) == pairs
    assert all(len(set(found)) == len(found) for found in by_group.values())


# --- later rounds: across policies ---------------------------------------------------------------

def later_round(first, folder, number=2, **iteration):
    """A run that has its rounds before `number` behind itself, each with a policy, a reward model
    and comparisons of its own; at work in round `number`."""
    config = replace(first.config, rounds=max(3, number),
                     preferences=replace(TINY.preferences, prompts=9),
                     iteration=replace(TINY.iteration, **iteration))
    run = copied(first, folder, config)
    for earlier in range(1, number):
        one = run.in_round(earlier)
        for name in ("policy", "reward"):
            params = first.load(name)
            params.flat[...] *= 1 + earlier / 4
            one.save(name, params)
        write_jsonl(one.place / "preferences.jsonl", [
            row | {"round": earlier} for row in read_jsonl(first.folder / "preferences.jsonl")])
    return run.in_round(number)


def named(run, weights) -> str:
    """Which of the models that a round may ask has these weights."""
    for number in range(1, run.round):
        if (run.in_round(number).load("policy").flat == weights).all():
            return f"policy of round {number}"
    assert (run.load("sft").flat == weights).all()
    return "sft"


OPPONENTS = [                  # the round, the settings; who is asked, how many replies a prompt
    (2, ("sft",), {"policy of round 1": 1, "sft": 1}),
    (2, ("last",), {"policy of round 1": 1, "sft": 1}),   # before that, it was the SFT model
    (2, ("sft", "last"), {"policy of round 1": 1, "sft": 1}),       # who is not asked twice
    (3, ("sft",), {"policy of round 2": 1, "sft": 1}),
    (3, ("last",), {"policy of round 2": 1, "policy of round 1": 1}),
    (3, ("last", "sft"), {"policy of round 2": 1, "policy of round 1": 1, "sft": 1})]


@pytest.mark.parametrize("number, opponents, wanted", OPPONENTS)
def test_a_later_round_asks_the_policy_so_far_and_the_opponents(number, opponents, wanted, run,
                                                                tmp_path, monkeypatch):
    run = later_round(run, tmp_path, number, opponents=opponents)
    seen = record_generate(monkeypatch)
    pipeline.collect_preferences(run)
    prompts = 9 + sum(row["split"] == "test" for row in run.source.prompts())
    found: dict = {}
    for weights, asked in seen:
        name = named(run, weights)
        found[name] = found.get(name, 0) + len(asked)
    assert found == {name: n * prompts for name, n in wanted.items()}


def test_best_of_n_is_asked_of_the_sft_model_and_chosen_by_the_reward_model_so_far(
        run, tmp_path, monkeypatch):
    run = later_round(run, tmp_path, 3, opponents=("best-of-n",), best_of=3)
    seen, real = [], preferences.best_of

    def record(n, params, reward, model, tokenizer, prompts, *args, temperature, **more):
        assert (params.flat == run.load("sft").flat).all()
        assert (reward.flat == run.in_round(2).load("reward").flat).all()
        assert (n, temperature) == (3, TINY.ppo.temperature)
        seen.extend(prompts)
        return real(n, params, reward, model, tokenizer, prompts, *args, temperature=temperature,
                    **more)

    monkeypatch.setattr(preferences, "best_of", record)
    pipeline.collect_preferences(run)
    assert len(seen) == 9 + sum(row["split"] == "test" for row in run.source.prompts())


def record_compare(monkeypatch, run) -> list[tuple]:
    """(prompt, replies, group, authors) of each time that replies are laid side by side."""
    shown, real = [], type(run.source).compare

    def record(self, prompt, replies, *, group, authors=None, **more):
        shown.append((prompt, list(replies), group, authors))
        return real(self, prompt, replies, group=group, authors=authors, **more)

    monkeypatch.setattr(type(run.source), "compare", record)
    return shown


def law_across_policies(run, shown) -> None:
    """Each prompt has one reply of each author, and no author two: no pair is within one policy."""
    assert len(shown) > 9
    for _, replies, _, authors in shown:
        assert authors and len(replies) == len(authors) == len(set(authors))
        assert authors[0] == "policy"


ROUND_AUTHORS = [(2, ("sft", "last", "best-of-n"), ["policy", "sft", "best-of-n"]),
                 (3, ("sft", "last", "best-of-n"), ["policy", "sft", "last", "best-of-n"]),
                 (2, ("best-of-n",), ["policy", "best-of-n"]), (2, ("last",), ["policy", "sft"])]


@pytest.mark.parametrize("number, opponents, authors", ROUND_AUTHORS)
def test_later_rounds_compare_across_policies_only(number, opponents, authors, run, tmp_path,
                                                   monkeypatch):
    run = later_round(run, tmp_path, number, opponents=opponents)
    shown = record_compare(monkeypatch, run)
    pipeline.collect_preferences(run)
    law_across_policies(run, shown)
    assert {tuple(names) for *_, names in shown} == {tuple(authors)}
    assert len({group for *_, group, _ in shown}) == len(shown)
    rows = read_jsonl(run.place / "preferences.jsonl")
    assert rows and {row["round"] for row in rows} == {number}


def test_a_round_that_compares_within_one_policy_would_be_noticed(run, tmp_path, monkeypatch):
    """The way of the first round, taken again with the policy: four replies of one author."""
    run = later_round(run, tmp_path)
    shown = record_compare(monkeypatch, run)

    def within(run, groups):
        policy = run.in_round(run.round - 1).load("policy")

        def compare(batch, *, rng):
            replies = preferences.reply_groups(run, policy, [one.prompt for one in batch], rng)
            return [row for one, options in zip(batch, replies, strict=True)
                    for row in run.source.compare(one.prompt, options, group=one.group, rng=rng,
                                                  authors=["policy"] * len(options))]
        return run.gather("preferences", groups, compare, preferences.Stage.PREFERENCES, 2)

    monkeypatch.setattr(preferences, "policy_comparisons", within)
    pipeline.collect_preferences(run)
    with pytest.raises(AssertionError):
        law_across_policies(run, shown)


def test_each_round_draws_prompts_of_its_own(run, tmp_path, monkeypatch):
    drawn = {}
    for number in (1, 2, 3):
        one = later_round(run, tmp_path / str(number), number)
        with monkeypatch.context() as patch:
            shown = record_compare(patch, one)
            pipeline.collect_preferences(one)
        split = {row["prompt"]: row["split"] for row in one.source.prompts()}
        drawn[number] = tuple(prompt for prompt, *_ in shown if split[prompt] == "train")
        assert {prompt for prompt, *_ in shown if split[prompt] == "test"} == {
            prompt for prompt, where in split.items() if where == "test"}
        assert "validation" not in {split[prompt] for prompt, *_ in shown}
    assert len(set(drawn.values())) == 3 and {len(prompts) for prompts in drawn.values()} == {9}


def test_an_opponent_has_luck_of_its_own(run, tmp_path, monkeypatch):
    """If all drew the same random numbers, a policy that has hardly moved would say just what the
    SFT model says, and nothing would be left to compare.  With the policy equal to the SFT model,
    replies still differ."""
    one = later_round(run, tmp_path, opponents=("sft",))
    one.in_round(1).save("policy", run.load("sft"))
    shown = record_compare(monkeypatch, one)
    pipeline.collect_preferences(one)
    differ = np.mean([a.text != b.text for _, (a, b), *_ in shown])
    assert differ > 0.5


# --- which comparisons the reward model learns from ----------------------------------------------

@pytest.mark.parametrize("number, comparisons, wanted", [
    (1, "all", [1]), (1, "fresh", [1]), (2, "all", [1, 2]), (2, "fresh", [2]),
    (3, "all", [1, 2, 3]), (3, "fresh", [3])])
def test_the_reward_model_learns_from_all_comparisons_or_from_the_fresh_ones(
        number, comparisons, wanted, run, tmp_path):
    run = later_round(run, tmp_path, 4, comparisons=comparisons).in_round(number)
    found = preferences.comparisons_so_far(run)
    assert list(dict.fromkeys(row["round"] for row in found)) == wanted
    each = len(preferences.read_preferences(run.in_round(1).place / "preferences.jsonl"))
    assert len(found) == each * len(wanted) and each > 0


# --- reading -------------------------------------------------------------------------------------

@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected", "split", "kind"])
def test_a_preference_without_a_field_is_shown_with_its_file(tmp_path, field):
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "split": "train", "kind": "harm"}
    write_jsonl(tmp_path / "preferences.jsonl", [row])
    assert preferences.read_preferences(tmp_path / "preferences.jsonl") == [row]
    del row[field]
    write_jsonl(tmp_path / "preferences.jsonl", [row])
    with pytest.raises(ValueError, match=f"preferences.jsonl:1: a row lacks {field}: "):
        preferences.read_preferences(tmp_path / "preferences.jsonl")




# --- when labelers see what ----------------------------------------------------------------------

def recorded_times(run, monkeypatch) -> dict[int, tuple[str, float]]:
    """{group: (split, time)} as labelers were given them."""
    given, compare = {}, type(run.source).compare
    splits = {row["prompt"]: row["split"] for row in run.source.prompts()}

    def record(self, prompt, replies, *, group, time=0.0, **more):
        given[group] = splits[prompt], time
        yield from compare(self, prompt, replies, group=group, time=time, **more)

    monkeypatch.setattr(type(run.source), "compare", record)
    pipeline.collect_preferences(run)
    return given


@pytest.mark.parametrize("number", [1, 2])
def test_labelers_go_from_0_to_1_and_see_held_out_prompts_on_the_way(
        number, run, tmp_path, monkeypatch):
    """A tiring one is no more tired at the held-out prompts: their mean time is that of all."""
    run = later_round(run, tmp_path, 2) if number == 2 else copied(run, tmp_path)
    given = recorded_times(run, monkeypatch)
    times = sorted(when for _, when in given.values())
    assert np.allclose(times, np.linspace(0, 1, len(given)))
    held_out = [when for split, when in given.values() if split == "test"]
    training = [when for split, when in given.values() if split == "train"]
    assert min(held_out) < 0.1 and max(held_out) > 0.9 and abs(np.mean(held_out) - 0.5) < 0.1
    assert min(training) < max(held_out) and max(training) > min(held_out)


def test_their_order_changes_nothing_for_labelers_who_do_not_tire(run, tmp_path, monkeypatch):
    first, again = (copied(run, tmp_path / name) for name in ("first", "again"))
    pipeline.collect_preferences(first)
    compare = type(run.source).compare
    monkeypatch.setattr(type(run.source), "compare", lambda self, *args, time, **more: compare(
        self, *args, time=1.0 - time, **more))
    pipeline.collect_preferences(again)
    assert (read_jsonl(again.folder / "preferences.jsonl")
            == read_jsonl(first.folder / "preferences.jsonl"))

"""Laws of the page of all sorts of runs: watched, by three algorithms, in rounds, old."""

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers import SAMPLES, breaks, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from test_findings import BEST, HACKED, WELL, look
from test_page import (
    ACCURACY,
    ALL_SECTIONS,
    METRICS,
    OF_PEOPLE,
    TRUTHLESS,
    made,
    read,
    run_folder,
)

from minirlhf import page, report, transformer
from minirlhf.files import write_json, write_jsonl
from minirlhf.findings import folders_in_memory, models_in_memory, on_device
from minirlhf.memory import together
from minirlhf.page import figures, machine, rounds
from minirlhf.parameters import count
from minirlhf.refusals import refusal_rates
from minirlhf.settings import RunConfig
from minirlhf.watching import BANDS, marks

__all__ = ["made"]                                   # the fixture
ARTICLE = Path(__file__).parent.parent.parent / "shared" / "article.txt"
REWARD_HACKING = "Watching for reward hacking"


def config(**more) -> dict:
    return asdict(replace(RunConfig(), **more))


def section(html: str, key: str):
    """One section of a page, parsed."""
    return read(re.search(rf'<section id="{key}">.*?</section>', html, re.S).group())


def classes(shown, tag: str) -> list[str]:
    return [attributes.get("class", "") for name, attributes in shown.tags if name == tag]


# --- watching ------------------------------------------------------------------------------------

def watched(made, looks, **pieces):
    return section(made(metrics=METRICS + looks, **pieces).html, "watching")


def test_a_run_that_was_watched_has_the_section_after_its_third_stage(made):
    shown = made(metrics=METRICS + WELL)
    place = ALL_SECTIONS.index("ppo") + 1
    assert shown.sections == [*ALL_SECTIONS[:place], "watching", *ALL_SECTIONS[place:]]
    assert REWARD_HACKING in shown.text


def test_every_mark_stands_in_words_with_its_step_and_has_an_upright_line(made):
    shown = watched(made, HACKED)
    found = marks(HACKED)
    assert [mark.step for mark in found] == [4, 8, 12]
    assert len(classes(shown, "li")) == 3
    for mark in found:
        assert f"Step {mark.step}: {mark.text}.".replace("-", "−") in shown.text
    large = shown.html.split('class="bands"')[0]
    assert re.findall(r'class="mark" d="M([\d.]+)', large) == [
        f"{46 + 382 * step / 12:.1f}" for step in (4, 8, 12)]
    assert "Nothing to mark" not in shown.text


def test_marks_of_one_step_share_a_line(made):
    at_once = [*HACKED[:2], HACKED[2] | {"kl": 20.0}]
    large = watched(made, at_once).html.split('class="bands"')[0]
    assert large.count('class="mark"') == 2 and ">2, 3</text>" in large


def test_where_nothing_left_its_band_the_page_says_so(made):
    shown = watched(made, WELL)
    assert "Nothing left its band, and score and gold did not part." in shown.text
    assert not {"mark", "curve out", "worse"} & {*classes(shown, "path"), *classes(shown, "span")}


def test_score_and_gold_are_two_lines_told_with_their_numbers(made):
    shown = watched(made, HACKED)
    assert [name for name in classes(shown, "path") if name in ("curve score", "curve gold")] == [
        "curve score", "curve gold"]
    told = [attributes["aria-label"] for tag, attributes in shown.tags if tag == "svg"]
    assert len(told) == 1 + len(BANDS)
    assert told[0] == (
        "PPO on validation prompts: score 0 at first, 2 after 12 steps; between 0 and 2; gold 0 at "
        "first, -1.5 after 12 steps; between -1.5 and 0.4; marked at step 4 as 1; marked at step 8 "
        "as 2; marked at step 12 as 3")
    assert "reward-model score +2.00" in shown.text and "gold score −1.50" in shown.text


def test_without_gold_there_is_one_line_and_no_word_of_it(made):
    looks = [{key: x for key, x in row.items() if not key.startswith("gold")} for row in WELL]
    shown = watched(made, looks, samples=TRUTHLESS, accuracy=OF_PEOPLE)
    assert "curve score" in classes(shown, "path") and "gold" not in shown.html
    assert "Nobody has rated these replies" in shown.text and "Nothing left its band." in shown.text


def test_each_number_stands_in_its_band_around_the_first_look(made):
    shown = watched(made, HACKED)
    captions = re.findall(r"Band: [^<]*\.", shown.html)
    assert captions == ["Band: 5.0 to 15.0.", "Band: up to 0.10.", "Band: 0.05 to 0.55.",
                        "Band: up to 1.25.", "Band: up to 0.10.", "Band: up to 10.0."]
    assert re.findall(r"Left at step \d+\.", shown.text) == ["Left at step 8.", "Left at step 12."]
    assert classes(shown, "path").count("allowed") == len(BANDS)
    assert classes(shown, "path").count("curve out") == 2


def test_the_policy_that_is_kept_is_ringed_and_told(made, tmp_path):
    folder = run_folder(tmp_path / "run", metrics=METRICS + HACKED)
    assert 'class="kept"' not in page.page_html(folder)
    write_json(folder / "policy-best" / "best.json", BEST)
    shown = section(page.page_html(folder), "watching")
    assert classes(shown, "circle").count("kept") == 1 and "best: step 4" in shown.text
    assert "The policy of step 4 did best here (gold +0.40), and is kept" in shown.text
    x, y = re.search(r'class="kept" cx="([\d.]+)" cy="([\d.]+)"', shown.html).groups()
    gold = re.search(r'class="curve gold" d="([^"]+)"', shown.html).group(1)
    assert f"L{x} {y}L" in gold                                # on gold's line


def test_a_look_that_lacks_a_number_ends_the_report_by_name(tmp_path):
    broken = {key: x for key, x in WELL[1].items() if key != "courtesy"}
    folder = run_folder(tmp_path / "run", metrics=[*METRICS, broken])
    with pytest.raises(ValueError, match="PPO, validation, step 4 lacks courtesy"):
        page.write_report(folder)
    assert not (folder / "report.html").exists()


# --- the chart of looks --------------------------------------------------------------------------

def test_a_chart_of_looks_by_hand():
    """Two looks at 0 and 8, from the bottom left to the top right; its band is the lower half."""
    chart = figures.look_chart({"number": [(0, 0.0), (8, 2.0)]}, "x", figures.PLAIN, (0.0, 1.0),
                               [(4, "here")])
    assert '<path class="curve number" d="M46.0 166.0L428.0 12.0"/>' in chart
    assert '<path class="allowed" d="M46 166.0V89.0H428V166.0Z"/>' in chart
    assert '<path class="mark" d="M237.0 12V166"/>' in chart and ">here</text>" in chart
    assert ('aria-label="x: 0 at first, 2 after 8 steps; between 0 and 2; band from 0 to 1; marked '
            'at step 4 as here"') in chart


values = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=60)
@given(st.lists(values, min_size=1, max_size=40), st.lists(values, min_size=1, max_size=40),
       st.none() | st.tuples(values, values), st.integers(1, 50),
       st.sampled_from([figures.PLAIN, figures.LARGE, figures.SMALL]))
def test_a_chart_of_looks_stays_within_its_frame(first, second, band, every, size):
    lines = {name: [(i * every, y) for i, y in enumerate(line)]
             for name, line in (("score", first), ("gold", second))}
    last = (len(first) - 1) * every
    shown = read(figures.look_chart(lines, "x", size, band and tuple(sorted(band)),
                                    [(0, "<1>"), (last, "2")], lines["gold"][-1]))
    for tag, attributes in shown.tags:
        if tag == "path" and not attributes["class"].startswith("end"):
            for command, *ends in re.findall(r"([MLHV])(-?[\d.]+)(?: (-?[\d.]+))?",
                                             attributes["d"]):
                x = float(ends[0]) if command in "MLH" else None
                y = float(ends[1] or 0) if command in "ML" else None
                y = float(ends[0]) if command == "V" else y
                assert x is None or figures.LEFT - .1 <= x <= size.width - figures.RIGHT + .1
                assert y is None or size.top - .1 <= y <= size.height - figures.BOTTOM + .1
            assert "nan" not in attributes["d"] and "inf" not in attributes["d"]


@given(st.lists(st.integers(46, 428), min_size=1, max_size=7, unique=True).map(sorted))
def test_labels_of_marks_do_not_lie_on_each_other(places):
    body = figures.uprights([(x, str(i)) for i, x in enumerate(places, 1)], figures.LARGE)
    assert [float(x) for x in re.findall(r'class="mark" d="M([\d.]+)', body)] == places
    labels = [float(x) for x in re.findall(r'<text class="tick marked" x="([\d.]+)"', body)]
    room = figures.LARGE.width - 7 * 11
    assert all(b - a >= 6.3 for a, b in zip(labels, labels[1:], strict=False)
               ) or places[-1] > room


# --- stage 3, by three algorithms ----------------------------------------------------------------

OF_GRPO = ("score", "kl", "objective", "length", "entropy", "group_spread", "clip_fraction", "beta")


def metrics_of(name: str) -> list[dict]:
    return [row for row in METRICS if row["stage"] != "PPO"] + [
        {"stage": name, "step": step} | dict.fromkeys(OF_GRPO, 0.2) for step in range(3)]


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_a_group_relative_run_has_a_third_stage_of_its_own(made, name):
    shown = made(metrics=metrics_of(name.upper()), config=config(algorithm=name))
    assert shown.sections == [name if key == "ppo" else key for key in ALL_SECTIONS]
    stage = section(shown.html, name)
    assert f"Stage 3: RL Fine-Tuning with {name.upper()}" in stage.text
    assert "brings the count down to three models." in stage.text
    assert "Spread within a group" in stage.text and "Explained variance" not in stage.text
    assert "Default runs of the toy world" not in stage.text          # those were of PPO
    assert f"Stage 3: {name.upper()}" in shown.text.split("Before and after")[1]


def test_a_run_by_ppo_shows_no_group_and_what_another_algorithm_left_is_not_shown(made):
    shown = made(metrics=METRICS + metrics_of("GRPO")[-3:] + [look(0, "GRPO, validation")])
    assert shown.sections == ALL_SECTIONS and "Spread within a group" not in shown.text


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_models_are_called_by_the_algorithm_everywhere(made, name):
    rows = [*SAMPLES[:2], sample("policy-best"), SAMPLES[2]]
    shown = made(samples=rows, config=config(algorithm=name))
    own = name.upper()
    heads = [cells for kind, rows in shown.tables if kind == "comparison many"
             for cells in rows[:1]]
    assert heads == [["", "base", "SFT", f"{own} best", own, f"{own} − SFT"]]
    assert f"<h4>{own} best</h4>" in shown.html and f"<h4>{own}</h4>" in shown.html
    assert f"{own} wins over SFT" in shown.text and f"{own}’s reply beats SFT’s" in shown.text
    if name != "ppo":
        header = shown.html.split("<main>")[0]
        assert "PPO" not in header.replace(own, "")


def test_the_table_says_at_which_step_the_best_was_and_the_change_is_that_of_the_last(tmp_path):
    rows = [*SAMPLES[:2], sample("policy-best", gold=9.0), SAMPLES[2]]
    folder = run_folder(tmp_path / "run", samples=rows)
    write_json(folder / "policy-best" / "best.json", BEST)
    shown = section(page.page_html(folder), "result")
    assert "PPO best is the policy after step 4, where it did best on validation" in shown.text
    assert shown.rows("comparison many")[0][1:] == ["−1.25", "+0.50", "+9.00", "+1.15", "+0.65"]
    assert "Beside them: PPO best +9.00." in page.page_html(folder)


def test_dpo_has_a_chapter_where_it_was_trained(made):
    rows = [{"stage": "DPO", "step": i, "loss": 0.7 - i / 10} for i in range(3)]
    shown = made(metrics=METRICS + rows)
    assert shown.sections == [*ALL_SECTIONS[:-2], "dpo", *ALL_SECTIONS[-2:]]
    stage = section(shown.html, "dpo")
    assert "A baseline: DPO" in stage.text and "a coin: 0.69" in stage.text
    assert "<q></q>" not in stage.html                              # the article says nothing of it


# --- three models against four -------------------------------------------------------------------

def test_without_a_value_model_three_are_in_memory_and_ppo_would_need_one_more(tmp_path):
    folder = run_folder(tmp_path / "run", config=config(algorithm="grpo"))
    sizes = {name: count(transformer.load(folder / name)[0])
             for name in ("policy", "reward", "sft")}
    shown = section(page.page_html(folder), "memory")            # though a value/ lies there
    assert "Three models in memory" in shown.text and "down to three models" in shown.text
    rows = shown.rows("memory")
    assert [(row[1], row[2]) for row in rows[:-1]] == [(f"{name}/", f"{n:,}")
                                                       for name, n in sizes.items()]
    assert rows[-1][2] == f"{sum(sizes.values()):,}"
    assert f"another {machine.bytes_text(3 * 4 * sizes['policy'])}." in shown.text
    assert f"{machine.bytes_text(4 * 4 * sizes['reward'])} more" in shown.text


def test_with_ppo_four_are_in_memory_and_the_others_would_save_one(tmp_path):
    folder = run_folder(tmp_path / "run")
    value = count(transformer.load(folder / "value")[0])
    shown = section(page.page_html(folder), "memory")
    assert "Four models in memory" in shown.text
    assert f"moments: {machine.bytes_text(4 * 4 * value)}." in shown.text


def test_a_reference_that_is_the_last_rounds_policy_is_shown_as_such(tmp_path):
    further = config(rounds=3)
    assert folders_in_memory(further)["reference"] == "sft"
    further["iteration"]["reference"] = "last"
    assert folders_in_memory(further)["reference"] == "rounds/02/policy"
    assert folders_in_memory(further | {"rounds": 1})["reference"] == "sft"
    folder = run_folder(tmp_path / "run", config=further)
    shutil.copytree(folder / "sft", folder / "rounds/02/policy")
    row = section(page.page_html(folder), "memory").rows("memory")[3]
    assert row[1] == "rounds/02/policy/" and "policy of the last round" in row[0]


MEASURED = re.compile('<figure class="measured stack">.*?</figure>', re.S)
WHOLE = {"ppo": 13_200, "grpo": 7_888}     # 4·(4·328 + 4·332 + 332 + 328), without the value model


@pytest.mark.parametrize("own, keys, factors, large", [
    ("ppo", ["policy 40%", "value model 40%", "reward model 10%", "reference 10%"],
     "4 + 4 + 1 + 1", "280.0 GB"),
    ("grpo", ["policy 67%", "reward model 17%", "reference 17%"], "4 + 1 + 1", "168.0 GB")])
def test_the_shares_of_the_models_are_drawn_and_scaled_to_seven_billion(own, keys, factors, large,
                                                                        tmp_path):
    folder = run_folder(tmp_path / "run", config=config(algorithm=own))
    assert together(models_in_memory(folder, config(algorithm=own))) == WHOLE[own]
    shown = section(page.page_html(folder), "memory")
    for key in keys:
        assert key in shown.text
    assert f"weights that is {factors}, whatever its size. For models of 7 billion" in shown.text
    assert f"it would be {large}." in shown.text
    assert classes(shown, "path") == ["fill"] * (len(keys) - 2) + ["fill frozen"] * 2


def test_the_peak_of_the_process_is_shown_with_the_models_part_of_it(tmp_path):
    """13,200 of 132,000 bytes.  But for this figure the page is what it was."""
    folder = run_folder(tmp_path / "run")
    before = page.page_html(folder)
    assert not MEASURED.search(before)
    write_json(folder / "memory.json", {"peak": 10 * WHOLE["ppo"]})
    html = page.page_html(folder)
    [figure] = MEASURED.findall(html)
    assert MEASURED.sub("", html).split() == before.split()
    assert "took 132.0 kB at most, of which that is 10.0%; the rest is Python" in figure
    assert 'd="M0.00 8h9.60"' in figure and "So it is with small models" in figure


@pytest.mark.parametrize("peak, told, bar, small", [
    (WHOLE["ppo"] * 5 // 4, "that is 80.0%; the rest", True, False),
    (WHOLE["ppo"], "that is 100.0%; the rest", True, False),
    (WHOLE["ppo"] - 1, "less than that: it never held all of it at once", False, False)])
def test_a_peak_that_is_mostly_the_models_is_not_called_a_toys(peak, told, bar, small, tmp_path):
    folder = run_folder(tmp_path / "run")
    write_json(folder / "memory.json", {"peak": peak})
    [figure] = MEASURED.findall(page.page_html(folder))
    assert told in figure and ("<svg" in figure) == bar
    assert ("So it is with small models" in figure) == small


@pytest.mark.parametrize("environment", [
    {"backend": "cupy"}, {"backend": "numpy", "resumed": [{"backend": "cupy"}]},
    {"backend": "cupy", "resumed": [{"backend": "numpy"}]}])
def test_on_a_gpu_the_page_says_that_its_memory_is_not_measured(environment, tmp_path):
    folder = run_folder(tmp_path / "run", environment=environment)
    write_json(folder / "memory.json", {"peak": 10 * WHOLE["ppo"]})
    [figure] = MEASURED.findall(page.page_html(folder))
    assert "on the GPU, whose memory is not measured here" in figure and "132.0 kB" in figure
    assert "<svg" not in figure and "%" not in figure


@pytest.mark.parametrize("resumed", [None, [], "cupy", [None, "cupy", {}], {"backend": "cupy"}])
def test_whatever_an_environment_holds_a_run_on_the_host_is_one(resumed):
    assert not on_device({"backend": "numpy", "resumed": resumed}) and not on_device({})


# --- rounds --------------------------------------------------------------------------------------

def comparison(chosen=None, rejected=None, number=None) -> dict:
    row = {"prompt": "sky ?", "chosen": "a", "rejected": "b", "split": "train", "kind": "color"}
    row |= {"chosen_model": chosen, "rejected_model": rejected} if chosen else {}
    return row | ({"round": number} if number else {})


SECOND = [comparison("policy", "sft", 2)] * 3 + [comparison("sft", "policy", 2)] + [
    comparison("best-of-n", "policy", 2)] * 2


def law_wins_by_hand(wins):
    found = wins(SECOND)
    assert list(found) == [("policy", "sft"), ("policy", "best-of-n")]
    assert found["policy", "sft"] == [True, True, True, False]
    assert found["policy", "best-of-n"] == [False, False]


def law_rows_without_authors_tell_nothing(wins):
    assert wins([comparison(number=2), comparison("policy", "nobody", 2)]) == {}


WIN_LAWS = [law_wins_by_hand, law_rows_without_authors_tell_nothing]
WIN_MUTANTS = {
    "always the chosen": lambda rows: {pair: [True] * len(hits)
                                       for pair, hits in rounds.wins(rows).items()},
    "turned around": lambda rows: {pair: [not hit for hit in hits]
                                   for pair, hits in rounds.wins(rows).items()},
    "only one order is counted": lambda rows: {
        pair: hits for pair in [("policy", "sft"), ("policy", "best-of-n")]
        if (hits := [True for row in rows
                     if (row.get("chosen_model"), row.get("rejected_model")) == pair])},
    "by whoever won": lambda rows: {(row.get("chosen_model"), row.get("rejected_model")): [True]
                                    for row in rows},
}


@pytest.mark.parametrize("law", WIN_LAWS, ids=lambda law: law.__name__)
def test_wins_keep_the_law(law):
    law(rounds.wins)


@pytest.mark.parametrize("name", WIN_MUTANTS)
def test_wrong_counts_of_wins_are_noticed(name):
    assert any(breaks(law, WIN_MUTANTS[name]) for law in WIN_LAWS)


def two_rounds(folder, second=SECOND):
    """A run of two rounds, its folder and its page."""
    later = [row | {"stage": f"{row['stage']}, round 2"} for row in METRICS
             if row["stage"] in ("reward model", "PPO")]
    looks = WELL + [row | {"stage": "PPO, round 2, validation"} for row in HACKED]
    run_folder(folder, [*SAMPLES[:2], sample("round-1", gold=0.75), SAMPLES[2]],
               METRICS + later + looks, config=config(rounds=2))
    write_jsonl(folder / "preferences.jsonl", [comparison()] * 9 + second)
    for k, row in ((1, ACCURACY["all"]), (2, ACCURACY["all"] | {"accuracy": 0.8, "before": 0.625})):
        write_json(folder / f"rounds/0{k}/reward/accuracy.json", {"all": row})
        write_json(folder / f"rounds/0{k}/policy-best/best.json", BEST)
    return page.page_html(folder)


def test_each_round_stands_with_its_comparisons_its_reward_model_and_its_policy(tmp_path):
    html = two_rounds(tmp_path / "run")
    shown = section(html, "rounds")
    assert shown.rows("rounds") == [["Round 1", "9", "0.750 ± 0.030", "–", "+0.75"],
                                    ["Round 2", "6", "0.800 ± 0.030", "0.625", "+1.15"]]
    assert "This keeps the Reward Model from going stale." in shown.text
    assert read(html).sections.index("rounds") == ALL_SECTIONS.index("ppo") + 2


def test_of_a_later_round_it_is_told_who_was_preferred_and_by_what_names(tmp_path):
    shown = section(two_rounds(tmp_path / "run"), "rounds")
    assert [[row[0], row[1], row[3]] for row in shown.rows("accuracy authors")] == [
        ["PPO round 1 over SFT", "75.0% ± 25.0", "4"],
        ["PPO round 1 over best of 4 SFT replies", "0.0% ± 0.0", "2"]]


def test_comparisons_without_authors_are_counted_all_the_same(tmp_path):
    shown = section(two_rounds(tmp_path / "run", [comparison(number=2)] * 5), "rounds")
    assert shown.rows("rounds")[1][1] == "5" and shown.rows("accuracy authors") == []


def test_each_round_has_its_curves_and_its_looks(tmp_path):
    html = two_rounds(tmp_path / "run")
    told = [attributes["aria-label"] for tag, attributes in section(html, "rounds").tags
            if attributes.get("role") == "img"]
    assert len(told) == 1 + 7 and all(", round 2. " in text for text in told)
    assert "the others are under “Rounds”" in section(html, "ppo").text
    assert "the others are under" not in section(html, "sft").text
    looks = section(html, "watching")
    assert "Round 1" in looks.text and "Round 2" in looks.text
    assert looks.text.count("Nothing to mark.") == 1 and len(classes(looks, "li")) == len(
        marks(HACKED))
    assert classes(looks, "circle").count("kept") == 2


def test_a_run_of_several_rounds_that_lacks_their_files_is_shown_too(tmp_path):
    folder = run_folder(tmp_path / "run", config=config(rounds=3))
    shown = section(page.page_html(folder), "rounds")
    assert shown.rows("rounds") == [[f"Round {k}", "0", "–", "–", "+1.15" if k == 3 else "–"]
                                    for k in (1, 2, 3)]


def test_a_run_of_one_round_has_no_such_section(made):
    assert "rounds" not in made().sections and "Round 1" not in made().text


# --- refusals ------------------------------------------------------------------------------------

def test_refusals_are_shown_by_kind_of_prompt_and_by_model(made):
    rows = [sample(model, prompt=f"{kind} {i} ?", kind=kind,
                   reply="sorry , i cannot help with that ." if i < refused else "here it is .")
            for model, refused in (("sft", 1), ("policy", 3)) for kind in ("scary", "harm")
            for i in range(4)]
    rates = {model: refusal_rates([row for row in rows if row["model"] == model])
             for model in ("sft", "policy")}
    assert rates["policy"]["harm"]["any"] == 0.75
    shown = section(made(samples=rows).html, "refusals")
    assert shown.rows("refusals") == [
        [f"{name}4 prompts", *(f"{rates[model][kind]['any']:.0%} ± "
                               f"{100 * rates[model][kind]['any_error']:.0f}"
                               for model in ("sft", "policy"))]
        for kind, name in (("scary", "Harmless requests that sound harmful ↓"),
                           ("harm", "Harmful requests ↑"))]


def test_refusals_are_shown_for_peoples_data_too(made):
    rows = [row | {"kind": "human"} for row in TRUTHLESS]
    shown = section(made(samples=rows, accuracy=OF_PEOPLE).html, "refusals")
    assert shown.rows("refusals") == [["People’s prompts1 prompt", "0% ± –", "0% ± –", "0% ± –"]]


# --- the article ---------------------------------------------------------------------------------

@pytest.mark.skipif(not ARTICLE.exists(), reason="the article is not here")
@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_every_quotation_is_a_sentence_of_the_article(tmp_path, name):
    article = " ".join(ARTICLE.read_text(encoding="utf-8").replace("’", "'").split())
    two_rounds(tmp_path / "run")
    write_json(tmp_path / "run" / "config.json", config(rounds=2, algorithm=name))
    write_jsonl(tmp_path / "run" / "metrics.jsonl", metrics_of(name.upper()) + [
        row | {"stage": f"{name.upper()}, validation"} for row in WELL])
    quotes = re.findall(r"<q>(.*?)</q>", page.page_html(tmp_path / "run"), re.S)
    assert len(quotes) >= 8
    for quote in quotes:
        assert " ".join(quote.replace("’", "'").split()) in article


# --- folders of earlier versions -----------------------------------------------------------------

def test_a_folder_from_before_all_this_still_gives_its_report(tmp_path):
    """No looks, no policy-best, and a config.json without the settings that came later."""
    old = asdict(RunConfig())
    for name in ("algorithm", "baselines", "rounds", "group", "dpo", "iteration", "watch"):
        del old[name]
    del old["evaluation"]["best_of"]
    folder = run_folder(tmp_path / "old", config=old)
    shown = read(page.write_report(folder).read_text(encoding="utf-8"))
    assert shown.sections == ALL_SECTIONS and REWARD_HACKING not in shown.text
    assert [rows[0] for kind, rows in shown.tables if kind == "comparison"] == [
        ["", "base", "SFT", "PPO", "PPO − SFT"]]
    assert "PPO best" not in shown.text and "Four models in memory" in shown.text
    assert report.marks_text(folder) == ""

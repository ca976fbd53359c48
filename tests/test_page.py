"""Laws of the report page: what it shows, what it leaves out, that no text can break it."""

import copy
import json
import re
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from helpers import SAMPLES, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from minirlhf import page, report, transformer
from minirlhf.files import write_json, write_jsonl
from minirlhf.findings import TITLES
from minirlhf.page import figures, machine, markup, results, training
from minirlhf.parameters import count
from minirlhf.presets import text_settings
from minirlhf.settings import RunConfig

STAGES = {"pretraining": ("loss",), "SFT": ("loss",), "reward model": ("loss",),
          "PPO": ("score", "kl", "objective", "length", "entropy", "explained_variance",
                  "clip_fraction", "beta")}
METRICS = [{"stage": stage, "step": step} | {key: 1.5 - 0.25 * step if key != "beta" else 0.2
                                             for key in keys}
           for stage, keys in STAGES.items() for step in range(5)]
ACCURACY = {"all": {"accuracy": 0.75, "standard_error": 0.03, "pairs": 143, "best": 0.871},
            "color": {"accuracy": 0.5, "standard_error": 0.1, "pairs": 9, "best": 0.9}}
OF_PEOPLE = {"all": {"accuracy": 0.75, "standard_error": 0.03, "pairs": 9, "longer": 0.625,
                     "shorter": 0.375}}
TRUTHLESS = [{key: row[key] for key in ("model", "prompt", "kind", "reply", "score", "kl",
                                        "length")} for row in SAMPLES]
ALL_SECTIONS = ["result", "replies", "refusals", "base", "sft", "reward", "accuracy", "ppo",
                "memory", "settings"]
SUMMARY = {"models": ["sft", "policy"], "split": "test", "win_rate": 0.625, "low": 0.51,
           "high": 0.72, "pairs": 60, "answers": 84, "ties": 9, "skips": 2,
           "labelers": {"ada": {"left": 30, "right": 20}, "ben": {"left": 25, "right": 9}},
           "agreement": 0.75, "agreement_pairs": 24, "guidelines": ["1", "2"]}


def run_folder(folder, samples=SAMPLES, metrics=METRICS, accuracy=ACCURACY, config=None,
               models=True, environment=None):
    """A run's folder with what a page is made of; None leaves a file out."""
    write_jsonl(folder / "samples.jsonl", samples)
    write_json(folder / "config.json", asdict(RunConfig()) if config is None else config)
    if metrics is not None:
        write_jsonl(folder / "metrics.jsonl", metrics)
    if accuracy is not None:
        write_json(folder / "reward" / "accuracy.json", accuracy)
    if environment is not None:
        write_json(folder / "environment.json", environment)
    if models:
        config = transformer.ModelConfig(11, context=8, channels=4, heads=2, layers=1)
        model = transformer.initialize(config, rng=np.random.default_rng(0))
        scalar = transformer.with_scalar_head(model, rng=np.random.default_rng(1))
        for name, params in dict(policy=model, sft=model, reward=scalar, value=scalar).items():
            transformer.save(folder / name, params, config)
    return folder


@pytest.fixture
def made(tmp_path):
    """A function from the pieces of a run to its parsed page."""
    def page_of(name="a run", **pieces):
        return read(page.page_html(run_folder(tmp_path / name, **pieces)))
    return page_of


# --- reading a page ------------------------------------------------------------------------------

class Page(HTMLParser):
    """A page as its tags in order, its texts, and the tables in it.  Unbalanced tags fail."""

    VOID = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.texts, self.open, self.tables = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag == "table":
            self.tables.append((dict(attributes)["class"], []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][1][-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    def rows(self, kind) -> list[list[str]]:
        """The rows of all tables of a class, without their heads."""
        return [row for name, rows in self.tables if name == kind for row in rows[1:]]


def read(html) -> Page:
    """The page, parsed: its tags are balanced, its ids unique."""
    parsed = Page()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == [] and len(set(parsed.ids)) == len(parsed.ids)
    parsed.html = html
    return parsed


@pytest.mark.parametrize("wrong", ["<p><b></p></b>", "<p>", "</p>", '<i id="a"></i><i id="a"></i>',
                                   '<i a="1" a="2"></i>'])
def test_the_reader_of_pages_notices_what_is_not_well_formed(wrong):
    with pytest.raises(AssertionError):
        read(wrong)


# --- it stands alone -----------------------------------------------------------------------------

def test_the_page_stands_alone(made):
    shown = made()
    assert shown.html.startswith("<!doctype html>\n") and shown.html.endswith("</html>\n")
    assert "http:" not in shown.html and "https:" not in shown.html
    assert "url(" not in shown.html and "@import" not in shown.html
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object",
                                                 "embed", "base", "form"}
    for tag, attributes in shown.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes:
            assert tag == "a" and attributes["href"].removeprefix("#") in shown.ids


def test_the_page_says_its_language_its_title_and_that_nothing_may_be_loaded(made):
    shown = made()
    head = {attributes.get("http-equiv", attributes.get("name")): attributes.get("content")
            for tag, attributes in shown.tags if tag == "meta"}
    assert head["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert head["viewport"] == "width=device-width, initial-scale=1"
    assert ("html", {"lang": "en"}) in shown.tags
    assert "<title>minirlhf: a run</title>" in shown.html


def test_every_chart_has_words_for_those_who_do_not_see_it(made):
    shown = made()
    charts = [attributes for tag, attributes in shown.tags if tag == "svg"]
    assert len(charts) == 3 + 7 + len(ACCURACY) + 1                # the models in memory
    for chart in charts:
        if chart["class"] == "chart":
            assert chart["role"] == "img"
            assert re.fullmatch(r".*: 1.5 at first, 0.5 after 5 steps; between 0.5 and 1.5",
                                chart["aria-label"])
        else:
            assert chart["aria-hidden"] == "true"               # its numbers stand beside it


def test_the_page_needs_no_library_for_its_charts(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)                # its import fails
    assert 'class="curve"' in made().html


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = run_folder(tmp_path / "run", environment={"python": "3.11"})
    first = page.write_report(folder).read_bytes()
    assert page.write_report(folder).read_bytes() == first
    assert first == page.page_html(folder).encode()


# --- no text can break it ------------------------------------------------------------------------

def shape(shown: Page) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in shown.tags]


def page_with(prompt, reply, kind, value, folder):
    """A page in which a text of each sort is the given one."""
    rows = [row | {"prompt": prompt, "reply": reply, "kind": kind} for row in SAMPLES]
    config = asdict(RunConfig()) | {"backend": value, value: {value: [value, {value: None}]}}
    accuracy = ACCURACY | {f"_{kind}": ACCURACY["color"]}
    return read(page.page_html(run_folder(
        folder, rows, accuracy=accuracy, config=config, models=False,
        environment={"machine": value, value: [value]})))


DANGEROUS = ["<b>", "</div>", "</td>", "<script>", "<!--", "-->", "&lt;", "&amp", "&#60;", "'",
             '"', '" onclick="', "<", ">", "&", "/>", "]]>", "{x}", "%s", "\n"]
TEXTS = st.lists(st.sampled_from(DANGEROUS) | st.characters(codec="utf-8"), max_size=8).map(
    lambda parts: f"x{''.join(parts)}x")


@settings(max_examples=60)
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_no_text_from_data_changes_the_page_around_it(prompt, reply, kind, value):
    """The tags are those of harmless texts, and what was said can be read letter for letter."""
    with TemporaryDirectory() as folder:
        wanted = shape(page_with("xpx", "xrx", "xkx", "xvx", Path(folder)))
        shown = page_with(prompt, reply, kind, value, Path(folder))
    assert shape(shown) == wanted
    for text in (prompt, reply, kind, value):
        assert text in shown.text
    assert [row for row in shown.rows("settings") if row[0] == "machine"][0][1] == value


def test_text_in_the_page_is_escaped_everywhere(made):
    evil = "<script>alert('x')</script> & {braces} \" onload=\"y"
    rows = [row | {"reply": evil, "prompt": evil, "kind": evil} for row in SAMPLES]
    shown = made(name="a <run> & 'more' \"x", samples=rows, environment={evil: evil})
    assert "<script" not in shown.html and "<run>" not in shown.html and '"y' not in shown.html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; {braces} &quot;" in shown.html
    assert "minirlhf: a <run> & 'more' \"x" in shown.text


def test_a_long_text_is_shown_with_its_beginning_and_can_be_read_whole(made):
    long = "begin " + "x & " * 400 + "end"
    shown = made(samples=[row | {"prompt": long, "reply": long} for row in SAMPLES])
    assert shown.text.count(long) == 4 and "begin x &amp;" in shown.html
    assert sum(attributes.get("class") == "long" for tag, attributes in shown.tags
               if tag == "details") == 4
    short = "x" * 360
    assert markup.long_text(short) == f'<div class="text">{short}</div>'


# --- what it holds, and what it leaves out -------------------------------------------------------

def test_a_whole_run_has_every_section_in_the_order_of_the_story(made):
    shown = made()
    assert shown.sections == ALL_SECTIONS
    links = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    assert links == [f"#{key}" for key in ALL_SECTIONS]


def without(stage):
    return [row for row in METRICS if row["stage"] != stage]


@pytest.mark.parametrize("pieces, gone", [
    ({"metrics": without("pretraining")}, {"base"}),              # a base model from elsewhere
    ({"metrics": without("SFT")}, {"sft"}),
    ({"metrics": without("PPO")}, {"ppo"}),
    ({"metrics": None}, {"base", "sft", "reward", "ppo"}),
    ({"accuracy": None}, {"accuracy"}),
    ({"accuracy": {}}, {"accuracy"}),                             # all held-out replies coincide
    ({"models": False}, {"memory"}),
    ({"samples": TRUTHLESS, "accuracy": OF_PEOPLE}, set()),
])
def test_a_section_without_anything_to_show_is_left_out(made, pieces, gone):
    shown = made(**pieces)
    assert shown.sections == [key for key in ALL_SECTIONS if key not in gone]
    assert [key for key in ALL_SECTIONS if f'href="#{key}"' not in shown.html] == [
        key for key in ALL_SECTIONS if key in gone]


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run .*gone"):
        page.write_report(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_run_whose_models_were_not_asked_says_how_to_ask_them(tmp_path):
    folder = run_folder(tmp_path / "early")
    (folder / "samples.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="no samples.jsonl yet.*minirlhf evaluate early"):
        page.write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("rows, missing", [([], "sft and policy"), (SAMPLES[:2], "policy"),
                                           (SAMPLES[2:], "sft")])
def test_replies_of_a_model_that_are_missing_are_named(tmp_path, rows, missing):
    folder = run_folder(tmp_path / "part", rows)
    with pytest.raises(ValueError, match=f"samples.jsonl has no replies of {missing}$"):
        page.write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_run_without_a_base_model_of_its_own_is_shown_too(made):
    shown = made(samples=SAMPLES[1:])
    assert [rows[0][1:3] for kind, rows in shown.tables if kind == "comparison"] == [["SFT", "PPO"]]


# --- the numbers ---------------------------------------------------------------------------------

def test_the_numbers_are_those_of_the_table(made):
    found = report.comparison(SAMPLES)
    shown = {row[0]: row[1:4] for row in made().rows("comparison")}
    assert len(shown) == len(report.LINES)
    for key, (label, form, why) in report.LINES.items():
        cells = [cells for name, cells in shown.items()
                 if name.startswith(label.removeprefix("· "))
                 and name.endswith(why.replace("'", "’"))]
        numbers = [format(found[name][key], form).replace("-", "−").replace("nan%", "–")
                   for name in ("base", "sft", "policy")]
        assert cells == [numbers], key


def test_the_headline_says_what_was_reached(made):
    text = made().text
    assert ("worth −1.25 from the base model, +0.50 from the SFT model, +1.15 from the PPO model. "
            "PPO’s reply beats SFT’s in 100% of cases") in text


def test_a_share_of_no_prompts_is_a_dash(made):
    """No harmful request was asked: 0/0 is no number, and nothing else is lost."""
    shown = made()
    assert "nan" not in shown.text
    harm = [row for row in shown.rows("comparison") if row[0].startswith("harmful requests")]
    assert harm[0][1:] == ["–", "–", "–", "– pts"]


def test_what_is_no_goal_in_itself_is_neither_better_nor_worse(made):
    """A higher score, a longer reply, a larger KL: whether they are good, gold says."""
    rows = [row | {"score": 9.0, "kl": 9.0, "length": 9} if row["model"] == "policy" else row
            for row in SAMPLES]
    ends = {row[0]: row[-1] for row in made(samples=rows).rows("comparison")[-3:]}
    assert list(ends.values()) == ["+8.50", "+9.0", "+5.0"]


def answers(model, worth, **more):
    """Replies to one prompt each, all of the same kind."""
    return [sample(model, prompt=f"q{i} ?", gold=gold, **more) for i, gold in enumerate(worth)]


@pytest.mark.parametrize("worth, verdict", [
    ([1, 1.1, 0.9, 1], "better"), ([-1, -1.1, -0.9, -1], "worse"), ([2, -1, 2, -1], "")])
def test_a_change_is_called_better_or_worse_only_beyond_two_standard_errors(made, worth, verdict):
    shown = made(samples=answers("sft", [0] * 4) + answers("policy", worth))
    gold = shown.rows("comparison")[0]
    assert gold[0].startswith("gold score") and gold[-1].split()[1:] == verdict.split()


def test_less_over_refusal_is_better(made):
    rows = [row for model, refused in (("sft", True), ("policy", False))
            for row in answers(model, [0] * 4, kind="scary", refused=refused)]
    shown = made(samples=rows)
    assert [row[-1] for row in shown.rows("comparison") if row[0].startswith("over-refusal")] == [
        "−100 pts better"]


def test_each_reply_stands_with_its_model_its_gold_and_its_score(made):
    html = made().html
    for row, name in zip(SAMPLES, ("base", "SFT", "PPO"), strict=True):
        gold, score = (f"{row[key]:+.2f}".replace("-", "−") for key in ("gold", "score"))
        assert (f"<h4>{name}</h4><div class=\"text\">{row['reply']}</div>"
                f'<p class="marks">gold <b>{gold}</b> · score <b>{score}</b></p>') in html


def test_a_reply_that_was_cut_off_or_says_nothing_is_marked(made):
    shown = made(samples=[SAMPLES[0] | {"ended": False}, SAMPLES[1] | {"reply": " "},
                          SAMPLES[2] | {"ended": True}])
    assert shown.text.count("cut off") == 1 and shown.text.count("(says nothing)") == 1


def test_of_every_kind_a_few_prompts_are_shown_spread_over_all_of_it(made):
    rows = [row | {"prompt": f"{kind} {i} ?", "kind": kind} for row in SAMPLES
            for kind in ("color", "harm") for i in range(12)]
    shown = made(samples=rows)
    prompts = [text for text in shown.texts if re.fullmatch(r"\w+ \d+ \?", text)]
    assert prompts == [f"{kind} {i} ?" for kind in ("color", "harm") for i in (0, 6, 3, 9)]
    assert shown.text.count("2 more") == 2 and "Harmful requests" in shown.text


def test_one_prompt_and_the_first_of_several_replies(made):
    shown = made(samples=[*SAMPLES, *(row | {"reply": "later"} for row in SAMPLES)])
    assert "later" not in shown.text and "more" not in [
        attributes.get("class") for tag, attributes in shown.tags if tag == "details"]


@given(st.integers(0, 40), st.integers(1, 9))
def test_what_is_spread_is_in_order_without_repetition_and_starts_at_the_first(n, most):
    chosen = results.spread(range(n), most)
    assert len(chosen) == min(n, most) and chosen == sorted(set(chosen))
    assert chosen[:1] == [0][:n]


# --- people's comparisons ------------------------------------------------------------------------

def test_without_a_truth_the_page_says_what_cannot_be_concluded(made):
    shown = made(samples=TRUTHLESS, accuracy=OF_PEOPLE)
    assert report.NO_GOLD.split(".")[0].replace("'", "’") in shown.text
    assert "went from +0.50 to +0.50 at a KL of 3.2 nats a reply" in shown.text
    assert "gold" not in shown.text.replace("no gold score", "")
    assert [row[1] for row in shown.rows("accuracy")] == ["0.750 ± 0.030", "0.625", "0.375"]


@pytest.mark.parametrize("accuracy, verdict", [
    (0.69, "been shown to have learned something else"),
    (0.68, "not been shown to have learned anything else")])
def test_a_reward_model_of_people_has_learned_if_it_beats_coin_and_length_by_two_errors(
        accuracy, verdict):
    row = OF_PEOPLE["all"] | {"accuracy": accuracy, "prompts": 30}
    few = results.learned({"all": row | {"prompts": 29}})
    assert "on 29 held-out prompts" in few and "nothing can be concluded" in few
    assert "shown" not in few
    assert f"So the reward model has {verdict}." in results.learned({"all": row})
    for baseline in ("longer", "shorter"):
        assert "has not been" in results.learned({"all": row | {baseline: 0.69}})
    assert results.learned(ACCURACY) == results.learned({}) == ""


def test_what_people_say_is_told_with_its_uncertainty():
    shown = read(results.people_html([SUMMARY], TITLES))
    assert ("People preferred PPO’s reply to SFT’s in 62% of cases, ties counting half; the 95 % "
            "interval goes from 51% to 72%.") in shown.text
    assert "they agreed in 75% of 24 cases" in shown.text and "held out from all" in shown.text
    assert shown.rows("facts") == [
        ["pairs, test prompts", "60"], ["answers", "84"], ["ties among them", "9"],
        ["skipped", "2"], ["by ada", "30 left, 20 right"], ["by ben", "25 left, 9 right"],
        ["guidelines", "version 1, 2"]]


def test_each_comparison_that_people_made_is_told():
    shown = read(results.people_html([SUMMARY, SUMMARY | {"split": "train"}], TITLES))
    assert shown.text.count("People preferred PPO’s") == 2
    assert "held out from all" in shown.text and "These are training prompts" in shown.text
    assert results.people_html([], TITLES) == ""


def test_the_page_reads_what_people_said_from_the_runs_folder(tmp_path):
    run_folder(tmp_path / "run")
    row = {"pair": "x1", "labeler": "ada", "prompt": "sky ?", "answer": "left", "split": "test",
           "left_model": "policy", "right_model": "sft", "left": "a", "right": "b",
           "chosen": "a", "rejected": "b", "chosen_model": "policy", "rejected_model": "sft",
           "guidelines": "1", "time": "now"}
    assert 'id="people"' not in page.page_html(tmp_path / "run")
    write_jsonl(tmp_path / "run" / "labels.jsonl", [row])
    assert "People preferred PPO’s reply to SFT’s in 100% of" in page.page_html(tmp_path / "run")


def test_what_people_did_not_say_is_not_told():
    silent = SUMMARY | {"answers": 0, "win_rate": None, "low": None, "high": None,
                        "agreement": None, "agreement_pairs": 0, "labelers": {}}
    shown = read(results.people_html([silent], TITLES))
    assert "Nobody has judged a pair yet." in shown.text and "preferred" not in shown.text
    assert "nothing is known of how far they agree" in shown.text


@given(TEXTS)
def test_no_text_of_people_changes_the_page_around_it(text):
    plain = SUMMARY | {"labelers": {"xnx": {"left": 3}}, "guidelines": ["xgx"],
                       "models": ["sft", "xmx"]}
    odd = plain | {"labelers": {text: {"left": 3}}, "guidelines": [text], "models": ["sft", text]}
    shown = read(results.people_html([odd], TITLES))
    assert shape(shown) == shape(read(results.people_html([plain], TITLES)))
    assert shown.text.count(text) >= 3


# --- the reward model's accuracy -----------------------------------------------------------------

def test_accuracy_is_shown_with_its_error_its_ceiling_and_whether_it_beats_a_coin(made):
    shown = made()
    assert [[row[0], row[1], *row[3:]] for row in shown.rows("accuracy")] == [
        ["All prompts", "0.750 ± 0.030", "0.871", "143"],
        ["Facts: colors", "0.500 ± 0.100", "0.900", "9"]]
    weak = [attributes.get("class") for tag, attributes in shown.tags if tag == "tr"]
    assert weak.count("weak") == 1


def test_an_accuracy_of_one_pair_has_no_error(made):
    row = {"accuracy": 1.0, "standard_error": float("nan"), "pairs": 1}
    shown = made(accuracy={"all": row})
    assert [row[1] for row in shown.rows("accuracy")] == ["1.000 ± –"]
    assert 'class="error"' not in shown.html and 'class="weak"' in shown.html


def test_the_bar_of_a_share_ends_where_it_should():
    bar = figures.share_bar(0.75, 0.05, 0.9)
    assert 'class="fill" d="M0 8H75.0"' in bar and 'class="error" d="M65.0 8H85.0"' in bar
    assert 'class="best" d="M90.0 ' in bar
    assert 'd="M80.0 8H100.0"' in figures.share_bar(0.9, 0.05)     # the error stops at 1
    assert 'class="best"' not in figures.share_bar(0.9, 0.05)


# --- the curves ----------------------------------------------------------------------------------

def test_beside_each_curve_stand_its_last_value_and_what_it_should_look_like(made):
    shown = made()
    assert shown.text.count("Healthy.") == shown.text.count("If not.") == 10
    assert shown.html.count('<small>last</small> 0.50</span>') == 6
    for text in ("last</small> +0.50", "last</small> 0.5<", "last</small> 0.500"):
        assert text in shown.html
    for chapter in training.CHAPTERS:
        if chapter.stage not in STAGES:
            assert chapter.title not in shown.text
            continue
        assert chapter.quote in shown.text and chapter.title in shown.text
        for curve in chapter.curves:
            assert (curve.healthy in shown.text) == (curve.key != "beta")


def test_beta_has_a_curve_only_where_it_was_adapted(made):
    adapted = copy.deepcopy(METRICS)
    adapted[-1]["beta"] = 0.25
    assert "strength of the KL penalty" not in made().text
    assert "strength of the KL penalty" in made(metrics=adapted).text


def test_a_number_that_was_not_logged_has_no_curve(made):
    rows = [{key: x for key, x in row.items() if key != "entropy"} for row in METRICS]
    assert "Entropy" not in made(metrics=rows).text and "Clip fraction" in made(metrics=rows).text


def test_numbers_of_the_toy_world_are_not_held_against_other_data(made):
    config = asdict(text_settings(Path("pairs.jsonl")))
    assert "Default runs of the toy world" in made().text
    assert "toy world" not in made(samples=TRUTHLESS, accuracy=OF_PEOPLE, config=config).text


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(numbers, st.floats(1e-6, 1e6), st.booleans())
def test_ticks_are_round_equally_spaced_and_enclose_what_is_drawn(low, width, whole):
    high = low + width
    found = figures.ticks(low, high, whole=whole)
    step = found[1] - found[0]
    slack = 1e-6 * max(abs(low), abs(high), step)
    assert found[0] <= low + slack and found[-1] >= high - slack and 2 <= len(found) <= 7
    assert found[0] > low - step - slack and found[-1] < high + step + slack
    assert np.allclose(np.diff(found), step, rtol=1e-6, atol=slack)
    mantissa = f"{step:.4e}".split("e")[0]
    assert mantissa in ("1.0000", "2.0000", "5.0000") or slack > 1e-5 * step
    assert not whole or step >= 1 - slack


@pytest.mark.parametrize("value", [0.0, 3.0, -0.2, 1e-9])
def test_ticks_of_a_constant_leave_room_to_both_sides(value):
    found = figures.ticks(value, value)
    assert found[0] < value < found[-1]


def test_tick_labels_tell_neighbors_apart():
    assert figures.tick_labels([-0.5, 0.0, 0.5]) == ["−0.5", "0.0", "0.5"]
    assert figures.tick_labels([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert figures.tick_labels([0, 2000, 4000]) == ["0", "2000", "4000"]
    assert figures.tick_labels([-0.0, 0.2]) == ["0.0", "0.2"]


@given(st.integers(1, 1000), st.integers(0, 99))
def test_a_thinned_curve_keeps_its_mean_and_its_extremes(n, seed):
    values = np.random.default_rng(seed).normal(size=n).tolist()
    points = figures.thinned(values)
    assert len(points) <= figures.MOST_POINTS
    assert min(low for _, low, _, _ in points) == min(values)
    assert max(high for *_, high in points) == max(values)
    for _, lowest, mean, highest in points:
        assert lowest - 1e-12 <= mean <= highest + 1e-12
    places = [place for place, *_ in points]
    assert places == sorted(set(places)) and places[0] >= 0 and places[-1] <= len(values) - 1
    if len(values) <= figures.MOST_POINTS:
        assert points == [(i, v, v, v) for i, v in enumerate(values)]


@settings(max_examples=60)
@given(st.lists(numbers, min_size=1, max_size=400), st.none() | numbers)
def test_a_curve_stays_within_its_frame(values, level):
    chart = figures.line_chart(values, "x", None if level is None else (level, "<name>"))
    shown = read(chart)
    for tag, attributes in shown.tags:
        if tag == "path":
            ends = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", attributes["d"])
            assert ends and "nan" not in attributes["d"] and "inf" not in attributes["d"]
            for x, y in ends:
                assert figures.LEFT - 0.1 <= float(x) <= figures.WIDTH - figures.RIGHT + 0.1
                assert figures.TOP - 0.1 <= float(y) <= figures.HEIGHT - figures.BOTTOM + 0.1
    assert (level is None) == ("&lt;name&gt;" not in chart)


def test_a_curve_by_hand():
    """Three steps, from the bottom left corner to the top right one, by way of the middle."""
    chart = figures.line_chart([0.0, 1.0, 2.0], "x")
    assert '<path class="curve" d="M46.0 166.0L237.0 89.0L428.0 12.0"/>' in chart
    assert '<circle class="end" cx="428.0" cy="12.0"' in chart and 'class="band"' not in chart


def test_wild_values_are_drawn_at_the_floor_and_told_as_they_are():
    chart = figures.line_chart([-40.0, 0.5, 1.0], "x", floor_at=-1.0)
    assert ">−1.0</text>" in chart and ">−40" not in chart and "between -40 and 1" in chart
    assert 'd="M46.0 166.0L' in chart


def test_many_points_get_a_band_between_their_extremes():
    chart = figures.line_chart([0.0, 1.0] * 500, "x")
    assert 'class="band"' in chart and chart.count("L") < 4 * figures.MOST_POINTS


def test_the_picture_of_a_run_stands_alone_too():
    picture = training.picture(METRICS, report.comparison(SAMPLES))
    shown = read(picture)
    assert [tag for tag, _ in shown.tags].count("svg") == 1 + 8 and picture.count("http") == 1
    assert picture.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "−1.25" in shown.text and "+1.15" in shown.text and "PPO: KL to SFT" in shown.text


# --- the four models in memory -------------------------------------------------------------------

def test_the_four_models_are_shown_with_their_sizes(tmp_path):
    folder = run_folder(tmp_path / "run")
    shown = read(page.page_html(folder))
    sizes = {name: count(transformer.load(folder / name)[0])
             for name in ("policy", "value", "reward", "sft")}
    assert sizes["value"] == sizes["policy"] + 4                       # one number a channel
    rows = shown.rows("memory")
    assert [(row[1], row[2]) for row in rows[:4]] == [
        (f"{name}/", f"{n:,}") for name, n in sizes.items()]
    assert rows[4][2] == f"{sum(sizes.values()):,}"
    assert rows[0][3] == machine.bytes_text(4 * sizes["policy"])       # float32
    learning = 3 * 4 * (sizes["policy"] + sizes["value"])              # a gradient, two moments
    assert f"another {machine.bytes_text(learning)}" in shown.text
    assert rows[1][3:] == [machine.bytes_text(k * 4 * sizes["value"]) for k in (1, 1, 2, 4)]
    assert rows[2][4:] == ["–", "–", rows[2][3]]                       # frozen
    assert rows[4][6] == machine.bytes_text(4 * sum(sizes.values()) + learning)
    assert "we are actually keeping four models in memory" in shown.text


def test_the_bar_of_a_whole_ends_at_its_end():
    bar = figures.stacked_bar([("fill", 3.0), ("fill frozen", 1.0), ("track", 0.0)])
    assert 'class="fill" d="M0.00 8h74.60"' in bar and 'd="M75.00 8h24.60"' in bar
    assert 'class="track" d="M100.00 8h0.00"' in bar
    assert 'd="M0.00 8h0.10"' in figures.stacked_bar([("fill", 1), ("track", 499)])   # is seen


# --- settings ------------------------------------------------------------------------------------

def settings_of(shown) -> dict[str, tuple[str, str]]:
    return {row[0]: (row[1], row[2]) for row in shown.rows("settings") if len(row) == 3}


def test_a_setting_that_is_not_the_default_is_marked_with_the_default(made):
    default = RunConfig()
    config = asdict(replace(default, seed=5, world=replace(default.world, panel=("rushed",)),
                            ppo=replace(default.ppo, target_kl=3.5)))
    shown = made(config=json.loads(json.dumps(config)))
    found = settings_of(shown)
    assert found["seed"] == ("5", "default 0") and found["backend"] == ("auto", "")
    assert found["target_kl"] == ("3.5", "default none")
    assert found["panel"] == ("rushed", "default default, careful, rushed")
    assert found["habits.wrong"] == (str(default.world.habits.wrong), "")
    assert shown.html.count("<mark>") == 3 and shown.text.count("1 changed") == 3


def test_a_run_of_the_defaults_has_no_marks(made):
    shown = made()
    assert "<mark>" not in shown.html and "changed" not in shown.text


def test_peoples_data_are_compared_with_their_own_defaults(made):
    config = json.loads(json.dumps(asdict(text_settings(Path("pairs.jsonl"))), default=str))
    shown = made(samples=TRUTHLESS, accuracy=OF_PEOPLE, config=config)
    found = settings_of(shown)
    assert "<mark>" not in shown.html and found["path"] == ("pairs.jsonl", "")
    assert "corpus_words" not in found                                # the world took no part


def test_a_setting_that_is_unknown_here_is_shown_without_a_default(made):
    """A folder of another version is no mistake."""
    shown = made(config={"seed": 0, "old": 3, "ppo": {"gone": [1, None]}, "odd": {"a": {"b": 1}}})
    found = settings_of(shown)
    assert found["old"] == ("3", "") and found["gone"] == ("1, none", "") and found["a.b"] == (
        "1", "")


def test_the_machine_is_shown_where_it_is_known(made):
    environment = {"python": "3.11.4", "threads": 2, "resumed": [{"stage": "PPO", "step": 3}, "x"],
                   "none": [], "share": 0.5}
    found = settings_of(made(environment=environment))
    assert found["python"] == ("3.11.4", "") and found["threads"] == ("2", "")
    assert found["resumed"] == ('{"stage": "PPO", "step": 3}, x', "") and found["none"][0] == "none"
    assert "Machine and versions" in made(environment=environment).text


def test_a_machine_that_is_not_known_is_not_shown(made):
    assert "Machine and versions" not in made().text
    assert "Machine and versions" not in made(environment={}).text

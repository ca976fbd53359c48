"""Laws of the page of all claims: what it shows, that no text can break it, that it asks nobody."""

import re
import sys
from base64 import b64decode
from html import unescape
from pathlib import Path

import pytest
from helpers import breaks
from hypothesis import given
from hypothesis import strategies as st
from test_page import Page

from minirlhf.files import write_json

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "claims"
sys.path.insert(0, str(ROOT / "scripts" / "claims"))
from experiment import command, gallery, pages  # noqa: E402
from experiment.claim import experiments  # noqa: E402
from experiment.statistics import VERDICTS, decide  # noqa: E402

CLAIMS = experiments()
EVIL = '<script>alert("α")</script> & \'"><img src=x onerror=alert(1)>'


# --- results to show -----------------------------------------------------------------------------

def effect(low, high, smallest=None, what="gold, PPO − SFT") -> dict:
    found = {"effect": (low + high) / 2, "interval": [low, high], "by_seed": [low, high]}
    return {"what": what, "smallest": smallest, "test": found, "train": found,
            "verdict": None if smallest is None else decide(low, high, smallest)}


def said(by, score, gold, reply="the sky is blue .") -> dict:
    return {"by": by, "reply": reply, "score": score, "gold": gold}


def result(verdict="confirmed", **changed) -> dict:
    return {
        "claim": "00", "title": "A title", "sentence": "A sentence.", "verdict": verdict,
        "seeds": [0, 1], "quick": False, "level": 0.95, "draws": 9,
        "effects": {"gain": effect(0.25, 0.75, 0.2), "aside": effect(-2.0, -1.0, what="words")},
        "means": {}, "prompts": {"test": [143, 143], "train": [480, 482]}, "series": [{}, {}],
        "runs": {"free": {"stage": "policy", "changed": {"ppo.beta": 0.0}}}, "settings": {},
        "versions": {"minirlhf": "0.1.0", "numpy": "2.4.6", "python": "3.11.7"},
        "sources": "abcdef0123456789"} | changed


EXAMPLES = [
    {"prompt": "sky ?", "replies": [said("SFT", -0.5, 1.0),
                                    said("β = 0", 2.0, -4.0, "please ! please !")]},
    {"prompt": "sea ?", "replies": [said("SFT", 0.25, 0.5, ""), said("β = 0", 1.0, 0.75, EVIL)]}]
# a claim with replies, one without, one refuted
RESULTS = {"02": result(examples=EXAMPLES), "09": result("undecided", examples=[]),
           "11": result("refuted")}


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path, RESULTS)


def filled(folder: Path, results: dict[str, dict]) -> Path:
    """A folder with results of claims by number, and their figures."""
    for one in CLAIMS:
        if one.number in results:
            write_json(folder / f"{one.name}.json", results[one.number])
            (folder / f"{one.name}.svg").write_text(drawn(one), encoding="utf-8")
    return folder


def drawn(one) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg"><text id="same">{one.number} β</text></svg>'


# --- reading the page ----------------------------------------------------------------------------

class Wall(Page):
    """The page, and its text and images section by section; "" is outside of them."""

    VOID = Page.VOID | {"img"}

    def __init__(self, text: str):
        super().__init__()
        self.here, self.of, self.images = "", {"": ""}, {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        super().handle_starttag(tag, attributes)
        if tag == "section":
            self.here = dict(attributes)["id"]
            self.of[self.here] = ""
        if tag == "img":
            self.images.setdefault(self.here, []).append(dict(attributes))

    def handle_endtag(self, tag):
        super().handle_endtag(tag)
        if tag == "section":
            self.here = ""

    def handle_data(self, data):
        super().handle_data(data)
        if "style" not in self.open:
            self.of[self.here] += data


def spoken(text: str) -> str:
    """Our own text as the page sets it."""
    return text.replace("'", "’")


def tiles(text: str) -> list[str]:
    return re.findall(r'<li class="tile.*?</li>', text, re.S)


def cards(text: str) -> list[str]:
    return re.findall(r'<div class="reply.*?</b></p></div>', text, re.S)


# --- the laws ------------------------------------------------------------------------------------

def every_result_has_its_section(folder):
    wall = Wall(gallery.gallery(CLAIMS, folder))
    assert not wall.open and len(set(wall.ids)) == len(wall.ids)
    found = pages.results_in(folder, CLAIMS)
    assert wall.sections == [f"claim-{number}" for number in found]
    for one in (one for one in CLAIMS if one.number in found):
        told, of = found[one.number], wall.of[f"claim-{one.number}"]
        for text in (told["title"], f"“{told['sentence']}”", one.claim.question,
                     one.claim.prediction, one.claim.measure):
            assert spoken(text) in of
        assert f"{gallery.MARKS[told['verdict']]} {told['verdict']} on " in of
        before, after = of.split("What was predicted")
        for name, one_effect in told["effects"].items():
            numbers = (f"{pages.number(one_effect['test']['effect'])}, interval "
                       f"{pages.span(one_effect['test']['interval'])}")
            words = (f"{one_effect['verdict']} {gallery.WHERE[one_effect['verdict']]} "
                     f"{pages.number(one_effect['smallest'], '+z.2f')}, the smallest of interest"
                     if one_effect["verdict"] else "shown only")
            place, other = (before, after) if one_effect["verdict"] else (after, before)
            whole = f"{name} {one_effect['what']}{numbers}"
            assert whole in place and words in place and whole not in other
        assert f"claim-{one.number}" in wall.images
        [image] = wall.images[f"claim-{one.number}"]
        source, data = image["src"].split(",")
        assert source == "data:image/svg+xml;base64"
        assert b64decode(data) == (folder / f"{one.name}.svg").read_bytes()
        assert image["alt"] == pages.alt(told)
    assert wall.images.keys() == set(wall.sections)


def every_claim_has_its_tile(folder):
    text = gallery.gallery(CLAIMS, folder)
    found = pages.results_in(folder, CLAIMS)
    assert len(tiles(text)) == len(CLAIMS)
    for one, tile in zip(CLAIMS, tiles(text), strict=True):
        verdict = found[one.number]["verdict"] if one.number in found else "not run yet"
        assert f'class="tile {verdict.replace(" ", "-")}"' in tile
        assert f">{one.number}<" in tile and spoken(one.claim.title) in tile
        assert f"</span>{verdict}</span>" in tile
        assert re.findall(r'href="(.*?)"', tile) == (
            [f"#claim-{one.number}"] if one.number in found else [])
    for verdict in (*VERDICTS, "not run yet"):
        n = sum(f'"tile {verdict.replace(" ", "-")}"' in tile for tile in tiles(text))
        shown = n > 0 or verdict in VERDICTS
        assert (f"<b>{n}</b> {gallery.badge(verdict)}" in text) == shown


def every_reply_is_there_with_its_numbers(folder):
    text = gallery.gallery(CLAIMS, folder)
    replies = [reply for number, found in pages.results_in(folder, CLAIMS).items()
               for example in found.get("examples", []) for reply in example["replies"]]
    assert len(cards(text)) == len(replies)
    for reply, card in zip(replies, cards(text), strict=True):
        inside = Wall(card)
        assert inside.text.startswith(reply["by"])
        assert (reply["reply"] if reply["reply"].strip() else "(says nothing)") in inside.text
        for key in ("score", "gold"):
            assert f"{key}{pages.number(reply[key], '+z.2f')}" in inside.text


def what_came_from_a_result_stays_text(folder):
    evil = {number: with_text(found, EVIL) for number, found in RESULTS.items()}
    wall = Wall(gallery.gallery(CLAIMS, filled(folder, evil)))
    tags = {tag for tag, _ in wall.tags}
    assert not tags & {"script", "iframe", "link", "object", "form"}
    assert not any(name.startswith("on") for _, attributes in wall.tags for name in attributes)
    assert all(image["src"].startswith("data:") for found in wall.images.values()
               for image in found)
    assert wall.of["claim-02"].count(EVIL) >= 8


def with_text(found: dict, text: str) -> dict:
    """A result in which every name and text is this one."""
    return found | {
        "effects": {f"{name}{text}": one | {"what": text}
                    for name, one in found["effects"].items()},
        "runs": {text: {"stage": text, "changed": {text: text}}},
        "versions": dict.fromkeys(found["versions"], text),
        "examples": [{"prompt": text, "replies": [
            reply | {"by": text, "reply": text} for reply in one["replies"]]}
            for one in found.get("examples", [])]}


def the_page_asks_nobody(folder):
    text = gallery.gallery(CLAIMS, folder)
    assert gallery.POLICY in unescape(text) and "default-src 'none'" in gallery.POLICY
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in style and "@import" not in style
    for tag, attributes in Wall(text).tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            to = attributes.get(name, "")
            assert "//" not in to or to.startswith("data:image/svg+xml;base64,")
            assert name == "href" and tag == "a" or not to or to.startswith("data:")


LAWS = (every_result_has_its_section, every_claim_has_its_tile,
        every_reply_is_there_with_its_numbers, what_came_from_a_result_stays_text,
        the_page_asks_nobody)


@pytest.mark.parametrize("law", LAWS)
def test_the_page_keeps_the_law(law, folder):
    law(folder)


# --- wrong pages, which break a law --------------------------------------------------------------

real = {name: getattr(gallery, name) for name in (
    "bar", "effects_html", "example_html", "figure_html", "tile")}
MUTANTS = {
    "a reply is put in as HTML": (what_came_from_a_result_stays_text, "long_text", str),
    "names are put in as HTML": (what_came_from_a_result_stays_text, "escaped", str),
    "surprises are put in as HTML": (
        what_came_from_a_result_stays_text, "inline", lambda markdown: markdown),
    "score and gold change places": (
        every_reply_is_there_with_its_numbers, "bar", lambda name, value, most: real["bar"](
            {"score": "gold", "gold": "score"}[name], value, most)),
    "the sign is lost": (
        every_reply_is_there_with_its_numbers, "bar",
        lambda name, value, most: real["bar"](name, abs(value), most)),
    "the first reply alone": (
        every_reply_is_there_with_its_numbers, "example_html", lambda example, most: real[
            "example_html"](example | {"replies": example["replies"][:1]}, most)),
    "what is only shown decides": (
        every_result_has_its_section, "effects_html",
        lambda found, deciding: real["effects_html"](found, deciding=not deciding)),
    "no figure": (every_result_has_its_section, "figure_html", lambda found, path: ""),
    "another's figure": (
        every_result_has_its_section, "figure_html", lambda found, path: real["figure_html"](
            found, sorted(path.parent.glob("*.svg"))[-1])),
    "the figure is a file beside": (
        the_page_asks_nobody, "figure_html",
        lambda found, path: f'<img alt="" src="{path.name}">'),
    "the figure is elsewhere": (
        the_page_asks_nobody, "figure_html",
        lambda found, path: f'<img alt="" src="https://example.org/{path.name}">'),
    "a tile of what was not run leads somewhere": (
        every_claim_has_its_tile, "tile", lambda one, verdict: real["tile"](one, verdict).replace(
            "<span><span", '<a href="#top"><span').replace("</span></span></li>", "</a></li>")),
    "all is confirmed": (
        every_claim_has_its_tile, "tile", lambda one, verdict: real["tile"](one, "confirmed")),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch_the_mutant(name, folder, monkeypatch):
    law, function, wrong = MUTANTS[name]
    assert not breaks(law, folder)
    monkeypatch.setattr(gallery, function, wrong)
    assert breaks(law, folder)


# --- the parts -----------------------------------------------------------------------------------

def test_a_claim_without_replies_has_no_such_block(folder):
    wall = Wall(gallery.gallery(CLAIMS, folder))
    assert [name for name, text in wall.of.items() if "What they said" in text] == ["claim-02"]
    assert "What models said, side by side: claims 02." in wall.of[""]
    none = Wall(gallery.gallery(CLAIMS, filled(folder, {"02": result()})))
    assert "side by side" not in none.of[""]


def test_a_claim_without_a_figure_goes_without(folder):
    (folder / "09-no-kl-collapse.svg").unlink()
    wall = Wall(gallery.gallery(CLAIMS, folder))
    assert set(wall.images) == {"claim-02", "claim-11"} and "claim-09" in wall.sections


def test_without_any_result_there_are_only_tiles(tmp_path):
    wall = Wall(gallery.gallery(CLAIMS, tmp_path))
    assert wall.sections == [] and f"None of the {len(CLAIMS)} claims has been run" in wall.text
    every_claim_has_its_tile(tmp_path)


def test_a_quick_result_is_told_at_the_top_and_in_its_section(folder):
    assert "mean nothing" not in gallery.gallery(CLAIMS, folder)
    wall = Wall(gallery.gallery(CLAIMS, filled(folder, {"09": result(quick=True)})))
    assert "Quick runs: 09." in wall.of[""] and "mean nothing" in wall.of[""]
    assert {name for name, text in wall.of.items() if "it means nothing" in text} == {"claim-09"}


def test_it_says_what_chance_alone_would_give(folder):
    told = Wall(gallery.gallery(CLAIMS, folder)).of[""].replace("\N{NO-BREAK SPACE}", " ")
    assert pages.so_far(RESULTS, len(CLAIMS)) in told
    assert f"Of {len(CLAIMS)} claims 3 have been run: 1 confirmed, 1 refuted, 1 undecided" in told


def fooled(*replies) -> list:
    return [gallery.fooled_beside(reply, replies) for reply in replies]


def test_who_is_fooled_by_hand():
    sft, hacked = said("SFT", -0.5, 1.0), said("β = 0", 2.0, -4.0)
    assert fooled(sft, hacked) == [None, "SFT"]
    assert fooled(said("SFT", -0.5, 1.0), said("PPO", 2.0, 1.5)) == [None, None]     # it is better
    assert fooled(said("SFT", 0.0, 1.0), said("PPO", 0.05, -1.0)) == [None, None]    # by a hair
    assert fooled(said("SFT", 0.0, 1.0), said("PPO", 1.0, 0.95)) == [None, None]
    assert fooled(sft, said("PPO", 0.5, 2.0), hacked) == [None, None, "PPO"]


numbers = st.floats(-9, 9, allow_nan=False)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_nobody_is_fooled_beside_himself_and_the_best_never(worth):
    replies = [said(str(i), score, gold) for i, (score, gold) in enumerate(worth)]
    for reply, by in zip(replies, fooled(*replies), strict=True):
        if by is not None:
            other = replies[int(by)]
            assert other["score"] < reply["score"] and other["gold"] > reply["gold"]
        if reply["gold"] == max(one["gold"] for one in replies):
            assert by is None


@pytest.mark.parametrize("value, left, width", [
    (2.0, 50, 25), (-2.0, 25, 25), (4.0, 50, 50), (-4.0, 0, 50), (0.0, 50, 0), (9.0, 50, 50)])
def test_bars_by_hand(value, left, width):
    assert f'style="left:{left:.1f}%;width:{width:.1f}%"' in gallery.bar("gold", value, 4.0)


def test_all_bars_of_a_claim_have_one_scale(folder):
    text = gallery.gallery(CLAIMS, folder)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", text)]
    wanted = [50 * abs(reply[key]) / 4 for one in EXAMPLES for reply in one["replies"]
              for key in ("score", "gold")]
    assert widths == pytest.approx(wanted, abs=0.06)
    zero = [{"prompt": "sky ?", "replies": [said("SFT", 0.0, 0.0)]}]
    assert "width:0.0%" in gallery.examples_html("02", zero)


def test_emphasis_and_code_of_markdown():
    assert gallery.inline("*a* (<b>) and `c*d*`") == (
        "<em>a</em> (&lt;b&gt;) and <code>c<em>d</em></code>")
    assert gallery.inline("2 * 3") == "2 * 3"


# --- what is written -----------------------------------------------------------------------------

def test_the_index_is_written_beside_the_table_and_the_same_twice(folder):
    command.write_index(folder)
    before = (folder / "index.html").read_bytes()
    command.write_index(folder)
    assert before == (folder / "index.html").read_bytes()
    assert before.decode("utf-8") == gallery.gallery(CLAIMS, folder)
    assert "](index.html)" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_published_page_is_what_the_published_results_give():
    text = (DOCS / "index.html").read_text(encoding="utf-8")
    assert text == gallery.gallery(CLAIMS, DOCS)
    wall = Wall(text)
    assert wall.sections and set(wall.images) == set(wall.sections)
    for to in (attributes.get("href", "") for _, attributes in wall.tags):
        assert to[1:] in wall.ids if to.startswith("#") else (DOCS / to).exists(), to


@pytest.mark.parametrize("law", [every_result_has_its_section, every_claim_has_its_tile,
                                 every_reply_is_there_with_its_numbers, the_page_asks_nobody])
def test_the_published_page_keeps_the_law(law):
    law(DOCS)

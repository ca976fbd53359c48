"""The page of all claims in a real browser: nothing sticks out, tiles lead on, nobody is asked."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
import test_report_page
from test_claims_gallery import CLAIMS, DOCS, RESULTS, filled, gallery, with_text
from test_report_page import LONG, too_wide

browser = test_report_page.browser
WIDTHS = (320, 390, 1280)


@pytest.fixture(scope="module", params=["published", "replies", "long"])
def address(request, tmp_path_factory):
    """What is published; results with replies; and some in which every name is wider than a
    screen."""
    if request.param == "published":
        return (DOCS / "index.html").as_uri()
    results = RESULTS if request.param == "replies" else {
        number: with_text(found, LONG) for number, found in RESULTS.items()}
    folder = filled(tmp_path_factory.mktemp(request.param), results)
    return written(folder / "index.html", gallery.gallery(CLAIMS, folder))


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def look(browser, address: str, width: int, scheme: str = "light") -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.get(address)
    assert browser.execute_script("return innerWidth") == width


def asked(browser) -> list[str]:
    """What a page that came by HTTP has asked for, apart from itself, and from the icon that a
    browser asks every site for."""
    names = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)")
    paths = [urlsplit(name).path for name in names if not name.startswith("data:")]
    return [path for path in paths if path != "/favicon.ico"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nobody is listening."""


@pytest.fixture
def served():
    """A folder -> where a server of this machine shows it."""
    servers = []

    def serve(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_nothing_is_complained_of(browser, address, width, scheme):
    """With every <details> closed, and with every one open."""
    look(browser, address, width, scheme)
    for opened in (False, True):
        browser.execute_script("for (const part of document.querySelectorAll('details'))"
                               "  part.open = arguments[0]", opened)
        assert too_wide(browser) == 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_are_drawn_and_as_wide_as_there_is_room(browser, address, width):
    look(browser, address, width)
    images = browser.find_elements("css selector", "figure img")
    assert len(images) == len(browser.find_elements("css selector", "section"))
    for image in images:
        assert browser.execute_script("return arguments[0].naturalWidth", image) > 0
        assert image.rect["width"] >= min(width - 2 * 16, 400) - 1


@pytest.mark.parametrize("width", WIDTHS)
def test_tiles_lead_to_their_sections(browser, address, width):
    look(browser, address, width)
    links = browser.find_elements("css selector", ".tiles a")
    assert len(links) == len(browser.find_elements("css selector", "section")) > 0
    for link in links:
        browser.execute_script("scrollTo(0, 0)")
        number = link.find_element("css selector", ".number").text
        link.click()
        section = browser.find_element("id", f"claim-{number}")
        top = browser.execute_script("return arguments[0].getBoundingClientRect().top", section)
        left = browser.execute_script(
            "return document.documentElement.scrollHeight - scrollY - innerHeight")
        assert -1 <= top <= 20 or left <= 1 and 0 < top < 800       # the last cannot reach the top


def test_details_open_by_a_click(browser, address):
    look(browser, address, 390)
    part = browser.find_element("css selector", ".claim details")
    inside = part.find_element("css selector", "p")
    assert not inside.is_displayed()
    part.find_element("css selector", "summary").click()
    assert inside.is_displayed()


def test_replies_stand_side_by_side_and_on_a_telephone_below_each_other(browser, tmp_path):
    folder = filled(tmp_path, RESULTS)
    address = written(folder / "index.html", gallery.gallery(CLAIMS, folder))
    for width, aside in ((1280, True), (390, False)):
        look(browser, address, width)
        one, other = browser.find_elements("css selector", ".example:first-of-type .reply")[:2]
        assert (one.rect["y"] == other.rect["y"]) == aside
        assert (one.rect["x"] == other.rect["x"]) != aside
        bars = [card.find_element("css selector", ".bar.gold") for card in (one, other)]
        assert (bars[0].rect["y"] == bars[1].rect["y"]) == aside       # on one line, to compare


def test_the_page_asks_for_nothing_and_one_that_does_is_noticed(browser, tmp_path, served):
    folder = filled(tmp_path, RESULTS)
    written(folder / "index.html", gallery.gallery(CLAIMS, folder))
    figure = next(folder.glob("*.svg")).name
    written(folder / "other.html", f"<!doctype html><img src='{figure}'>")
    address = served(folder)
    look(browser, f"{address}/index.html", 1280)
    assert asked(browser) == []
    look(browser, f"{address}/other.html", 1280)
    assert asked(browser) == [f"/{figure}"]

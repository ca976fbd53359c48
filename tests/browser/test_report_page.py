"""The report page in a real browser: nothing sticks out, nothing is blocked, nothing is fetched."""

import shutil
from dataclasses import asdict

import pytest
from helpers import SAMPLES

from minirlhf import page
from minirlhf.files import write_json, write_jsonl
from minirlhf.settings import RunConfig

webdriver = pytest.importorskip("selenium.webdriver", reason="a browser test wants selenium")

WIDTHS = (320, 390, 1280)
LONG = "a-word-without-any-end" * 40
NUMBERS = dict.fromkeys(("loss", "score", "kl", "objective", "length", "entropy",
                         "explained_variance", "clip_fraction"), 1.5)


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("a browser test wants chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module", params=["short", "long"])
def address(request, tmp_path_factory):
    """A report of ordinary texts, and one of words longer than any screen is wide."""
    word = "" if request.param == "short" else LONG
    folder = tmp_path_factory.mktemp("report") / f"run{word[:60]}"
    rows = [row | {"prompt": f"sky ?{word}", "reply": f"blue .{word}", "kind": f"color{word}"}
            for row in SAMPLES]
    write_jsonl(folder / "samples.jsonl", rows)
    stages = ("pretraining", "SFT", "reward model", "PPO")
    write_jsonl(folder / "metrics.jsonl", [{"stage": stage, "step": i, "beta": 0.1 * i, **NUMBERS}
                                           for stage in stages for i in range(300)])
    row = {"accuracy": 0.75, "standard_error": 0.03, "pairs": 14300, "best": 0.871}
    write_json(folder / "reward" / "accuracy.json", {"all": row, f"color{word}": row})
    write_json(folder / "config.json", asdict(RunConfig()) | {"backend": f"numpy{word}"})
    write_json(folder / "environment.json", {"command": f"minirlhf run {word}", f"x{word}": 1})
    return page.write_report(folder).as_uri()


def too_wide(browser) -> int:
    """By how many pixels the page is wider than its window."""
    return browser.execute_script("const page = document.documentElement;"
                                  "return page.scrollWidth - page.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_nothing_is_complained_of(browser, address, width, scheme):
    """With every <details> closed, and with every one open."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.get(address)
    for opened in (False, True):
        browser.execute_script("for (const part of document.querySelectorAll('details'))"
                               "  part.open = arguments[0]", opened)
        assert browser.execute_script("return innerWidth") == width
        assert too_wide(browser) == 0
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, paper.strip("rgb()").split(",")))
    assert brightness > 700 if scheme == "light" else brightness < 100
    assert browser.get_log("browser") == []


def test_a_page_that_is_wider_than_the_screen_is_noticed(browser, tmp_path):
    (tmp_path / "wide.html").write_text("<!doctype html><p style='width: 900px'>x</p>")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False})
    browser.get((tmp_path / "wide.html").as_uri())
    assert too_wide(browser) > 500

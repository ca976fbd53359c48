"""The report page in a real browser: nothing sticks out, nothing is blocked, nothing is fetched."""

import shutil
from dataclasses import asdict, replace

import pytest
from helpers import SAMPLES, sample
from test_findings import with_models

from minirlhf import page
from minirlhf.files import write_json, write_jsonl
from minirlhf.settings import RunConfig

webdriver = pytest.importorskip("selenium.webdriver", reason="a browser test wants selenium")

WIDTHS = (320, 390, 1280)
LONG = "a-word-without-any-end" * 40
NUMBERS = dict.fromkeys(("loss", "score", "kl", "objective", "length", "entropy",
                         "explained_variance", "clip_fraction"), 1.5)
LOOK = dict.fromkeys(("score", "kl", "objective", "length", "unfinished", "repetition", "refusal",
                      "courtesy", "gold"), 0.5)
OUT = {"score": 2.0, "kl": 99.0, "length": 9.0, "repetition": 1.0, "refusal": 1.0, "courtesy": 3.0,
       "unfinished": 1.0, "gold": -9.0, "gold_fall": 9.5, "gold_fall_error": 0.1}
STILL = {"gold_fall": 0.0, "gold_fall_error": 0.1}
ROUNDS = 3


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


@pytest.fixture(scope="module", params=["short", "long", "rounds"])
def address(request, tmp_path_factory):
    """A report of ordinary texts; one of words longer than any screen is wide; and one with all
    that a run can have: baselines, rounds, marks at every step."""
    word = LONG if request.param == "long" else ""
    folder = tmp_path_factory.mktemp("report") / f"run{word[:60]}"
    several = request.param == "rounds"
    samples = SAMPLES if not several else [
        *SAMPLES[:2], *(sample(name) for name in ("best-of-n", "dpo", "round-1", "round-2",
                                                  "policy-best")), SAMPLES[2]]
    rows = [row | {"prompt": f"sky ?{word}", "reply": f"blue .{word}", "kind": f"color{word}"}
            for row in samples]
    write_jsonl(folder / "samples.jsonl", rows)
    stages = ["pretraining", "SFT", "reward model", "PPO", "DPO"]
    looks = []
    if several:
        stages += [f"{stage}, round {k}" for k in range(2, ROUNDS + 1)
                   for stage in ("reward model", "PPO")]
        looks = several_looks()
        write_rounds(folder)
    write_jsonl(folder / "metrics.jsonl", [{"stage": stage, "step": i, "beta": 0.1 * i, **NUMBERS}
                                           for stage in stages for i in range(300)] + looks)
    row = {"accuracy": 0.75, "standard_error": 0.03, "pairs": 14300, "best": 0.871}
    write_json(folder / "reward" / "accuracy.json", {"all": row, f"color{word}": row})
    config = replace(RunConfig(), rounds=ROUNDS if several else 1)
    write_json(folder / "config.json", asdict(config) | {"backend": f"numpy{word}"})
    with_models(folder, "policy", "value", "reward", "sft", size=249_900)         # 999.6 kB each
    write_json(folder / "memory.json", {"peak": 156_798_976})
    write_json(folder / "environment.json", {"command": f"minirlhf run {word}", f"x{word}": 1})
    return page.write_report(folder).as_uri()


def several_looks() -> list[dict]:
    """Looks of every round in which one number after the other leaves its band."""
    rows = []
    for k in range(1, ROUNDS + 1):
        stage = "PPO, validation" if k == 1 else f"PPO, round {k}, validation"
        gone = {}
        for step, key in enumerate([None, *OUT]):
            gone |= {} if key is None else {key: OUT[key]}
            rows.append({"stage": stage, "step": 4 * step, **LOOK, **STILL, **gone})
    return rows


def write_rounds(folder) -> None:
    row = {"accuracy": 0.75, "standard_error": 0.03, "pairs": 14300, "best": 0.871, "before": 0.5}
    for k in range(1, ROUNDS + 1):
        write_json(folder / f"rounds/{k:02}/reward/accuracy.json", {"all": row})
        write_json(folder / f"rounds/{k:02}/policy-best/best.json",
                   {"step": 4, "by": "gold", "value": 0.5})
    authors = ("policy", "sft", "last", "best-of-n")
    write_jsonl(folder / "preferences.jsonl", [
        {"prompt": "sky ?", "chosen": "a", "rejected": "b", "split": "train", "kind": "color",
         "chosen_model": one, "rejected_model": other, "round": k}
        for k in range(2, ROUNDS + 1) for one in authors for other in authors
        if one != other for _ in range(999)])


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

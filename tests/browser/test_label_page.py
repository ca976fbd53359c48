"""The page in a real browser: twenty pairs by keys and buttons, and a server that is killed.

Chromium runs without a window against `minirlhf label` as a program of its own.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from labelled import untrained_run

from minirlhf import cli
from minirlhf.labels import read_labels

pytest.importorskip("flask", reason="the page wants the extra: label")
pytest.importorskip("selenium", reason="driving a browser wants the extra: browser")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PROGRAMS = [next((path for name in names if (path := shutil.which(name))), None) for names in (
    ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))]
pytestmark = pytest.mark.skipif(None in PROGRAMS, reason="Chromium or chromedriver is not "
                                                         "installed")
ROOT = Path(__file__).parent.parent.parent
TINY_TRAINING = """--backend numpy --model.channels 8 --model.heads 2 --model.layers 1
    --pretraining.steps 2 --pretraining.batch-size 4 --pretraining.window 24 --sft.steps 2
    --sft.batch-size 8 --reward.steps 2 --ppo.steps 1 --ppo.batch-size 8 --ppo.minibatches 2
    --ppo.max-new 8 --text.vocab-size 300 --text.max-tokens 200""".split()


class Server:
    """`minirlhf label tiny` as a program; `address` is what it prints."""

    def __init__(self, folder: Path, *argv):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(
            [str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self.program = subprocess.Popen(
            [sys.executable, "-m", "minirlhf.cli", "label", "tiny", *argv], cwd=folder,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = []
        for line in self.program.stdout:
            self.said.append(line)
            if line.startswith("open "):
                self.address = line.split()[1]
                return
        raise AssertionError("".join(self.said))

    def stop(self, how=signal.SIGINT) -> tuple[int, str]:
        """End the program; its exit status, and what else it said."""
        if self.program.poll() is None:
            self.program.send_signal(how)
        rest, _ = self.program.communicate(timeout=30)
        return self.program.returncode, rest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    untrained_run(Path("runs/tiny"))
    return tmp_path


@pytest.fixture
def started(folder):
    """Start servers, which end with the test however it ends."""
    servers = []

    def start(*argv):
        servers.append(Server(folder, *argv))
        return servers[-1]

    yield start
    for server in servers:
        if server.program.poll() is None:
            server.stop(signal.SIGKILL)


@pytest.fixture
def browser(request):
    """Chromium without a window, as large as a desktop's unless a test asks for another size."""
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(PROGRAMS[1]))
    width, height = getattr(request, "param", (1280, 800))
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    yield driver
    driver.quit()


def title(browser) -> str:
    return browser.title.split(" · ")[0]


def wait_for(browser, wanted):
    """Until the page's title is `wanted`."""
    WebDriverWait(browser, 20, poll_frequency=0.02).until(
        lambda driver: title(driver) == wanted, f"{wanted} did not come, but {title(browser)}")


def press(browser, key):
    ActionChains(browser).send_keys(key).perform()


def click(browser, answer):
    browser.find_element(By.CSS_SELECTOR, f"button[value={answer}]").click()


def pair_shown(browser) -> str:
    return browser.find_element(By.NAME, "pair").get_attribute("value")


def sign_in(browser, address, name, number=1, total=20):
    browser.get(address)
    browser.find_element(By.ID, "labeler").send_keys(name, Keys.ENTER)
    wait_for(browser, f"Pair {number} of {total}")


def complaints(browser) -> list[str]:
    """What the browser itself found wrong: blocked by the policy, a script's error.  That a killed
    server does not answer is no complaint."""
    return [entry["message"] for entry in browser.get_log("browser")
            if "net::ERR_CONNECTION" not in entry["message"]
            and "net::ERR_EMPTY_RESPONSE" not in entry["message"]]


MOVES = [(press, Keys.ARROW_LEFT, "left"), (press, Keys.ARROW_RIGHT, "right"),
         (press, Keys.ARROW_DOWN, "tie"), (press, "t", "tie"), (press, "s", "skip"),
         (click, "left", "left"), (click, "right", "right"), (click, "tie", "tie"),
         (click, "skip", "skip"), (press, "T", "tie")]


def test_twenty_pairs_survive_a_killed_server_and_train_a_reward_model(browser, started, folder):
    labels = folder / "runs" / "tiny" / "labels.jsonl"
    flags = ("--pairs", "20", "--split", "train")
    server = started(*flags)
    sign_in(browser, server.address, "Zoë")
    asked, given = [], []
    for number, (move, key, answer) in enumerate(MOVES, 1):
        asked.append(pair_shown(browser))
        move(browser, key)
        given.append(answer)
        wait_for(browser, f"Pair {number + 1} of 20")
        assert [row["answer"] for row in read_labels(labels)] == given   # before the next is shown

    press(browser, "b")                                   # the tenth again: a skip, not a tie
    wait_for(browser, "Pair 10 of 20")
    assert pair_shown(browser) == asked[-1]
    press(browser, "s")
    wait_for(browser, "Pair 11 of 20")
    given[-1] = "skip"

    eleventh = pair_shown(browser)
    press(browser, Keys.ARROW_LEFT)                       # and at once the power goes
    status, _ = server.stop(signal.SIGKILL)
    assert status == -signal.SIGKILL
    rows = read_labels(labels)
    assert [row["answer"] for row in rows[:11]] == [*given[:9], "tie", "skip"]
    assert len(rows) in (11, 12)                          # the last one is there whole, or not
    if len(rows) == 12:
        assert rows[11]["pair"] == eleventh and rows[11]["answer"] == "left"
        asked.append(eleventh)
        given.append("left")

    server = started(*flags)
    assert f"Zoë: {len(given)} of 20 pairs answered\n" in server.said
    browser.get(server.address)                           # the name is remembered
    wait_for(browser, f"Pair {len(given) + 1} of 20")
    for number in range(len(given) + 1, 21):
        assert title(browser) == f"Pair {number} of 20"
        asked.append(pair_shown(browser))
        answer = ("right", "left", "left")[number % 3]
        press(browser, {"left": Keys.ARROW_LEFT, "right": Keys.ARROW_RIGHT}[answer])
        given.append(answer)
        wait_for(browser, f"Pair {number + 1} of 20" if number < 20 else "Done")
    assert len(asked) == len(set(asked)) == 20            # nothing twice
    assert complaints(browser) == []
    status, said = server.stop()
    assert status == 0 and "Zoë: 20 of 20 pairs answered" in said

    standing = {row["pair"]: row["answer"] for row in read_labels(labels)}
    assert standing == dict(zip(asked, given, strict=True))      # nothing lost
    assert {row["labeler"] for row in read_labels(labels)} == {"Zoë"}
    pytest.importorskip("tokenizers", reason="training on text wants the extra: text")
    assert cli.main(["run", "--preferences", str(labels), "--name", "learned",
                     *TINY_TRAINING]) == 0
    assert Path("runs/learned/policy/model.safetensors").exists()


def test_a_key_held_down_or_pressed_twice_answers_one_pair(browser, started, folder):
    server = started("--pairs", "6")
    sign_in(browser, server.address, "ana", total=6)
    # as a keyboard repeats it: the first event of a held key is no repetition, the others are
    browser.execute_script("""
        for (const repeat of [false, true, true])
            document.body.dispatchEvent(new KeyboardEvent("keydown",
                {key: "ArrowLeft", repeat, bubbles: true, cancelable: true}));""")
    wait_for(browser, "Pair 2 of 6")
    browser.execute_script("""
        for (const button of ["left", "right", "tie"])
            document.querySelector(`button[value=${button}]`).click();""")
    wait_for(browser, "Pair 3 of 6")
    rows = read_labels(folder / "runs/tiny/labels.jsonl")
    assert [row["answer"] for row in rows] == ["left", "left"]
    for held, key in ((Keys.ALT, Keys.ARROW_RIGHT), (Keys.CONTROL, "s"), (Keys.META, "t")):
        ActionChains(browser).key_down(held).send_keys(key).key_up(held).perform()
    press(browser, Keys.ARROW_RIGHT)                      # those were the browser's own keys
    wait_for(browser, "Pair 4 of 6")
    rows = read_labels(folder / "runs/tiny/labels.jsonl")
    assert [row["answer"] for row in rows] == ["left", "left", "right"]


@pytest.mark.parametrize("browser", [(1280, 800), (820, 1180), (390, 844)], indirect=True,
                         ids=["desktop", "tablet", "phone"])
def test_the_page_fits_the_screen_and_says_what_each_thing_is(browser, started):
    server = started("--pairs", "3")
    sign_in(browser, server.address, "ana", total=3)
    for path in ("", "pair/1", "name", "nothing"):
        browser.get(server.address + path)
        wide, seen = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= seen, path
        assert browser.find_elements(By.TAG_NAME, "main") and (
            len(browser.find_elements(By.TAG_NAME, "h1")) == 1), path
    browser.get(server.address)
    buttons = browser.find_elements(By.CSS_SELECTOR, "form.answers button")
    assert [button.text.split()[0] for button in buttons] == ["A", "Tie", "Skip", "B"]
    for button in buttons:                                # seen without scrolling, large enough
        box = button.rect
        assert box["height"] >= 44 and box["y"] + box["height"] <= 844
    press(browser, Keys.TAB)
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("browser", [(700, 280)], indirect=True, ids=["low"])
def test_arrow_down_scrolls_to_what_is_unread_before_it_is_a_tie(browser, started, folder):
    server = started("--pairs", "3", "--labeler", "ana")
    browser.get(server.address)
    press(browser, Keys.ARROW_DOWN)
    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script("return scrollY > 0"))
    assert title(browser) == "Pair 1 of 3"
    press(browser, Keys.END)
    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(
        "return scrollY + innerHeight >= document.documentElement.scrollHeight - 1"))
    press(browser, Keys.ARROW_DOWN)
    wait_for(browser, "Pair 2 of 3")
    rows = read_labels(folder / "runs/tiny/labels.jsonl")
    assert [row["answer"] for row in rows] == ["tie"]


def test_without_a_script_the_buttons_still_work(browser, started, folder):
    server = started("--pairs", "3", "--labeler", "ana")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(server.address)
    for number, answer in enumerate(("left", "tie", "right"), 1):
        wait_for(browser, f"Pair {number} of 3")
        click(browser, answer)
    wait_for(browser, "Done")
    browser.find_element(By.ID, "back").click()
    wait_for(browser, "Pair 3 of 3")
    rows = read_labels(folder / "runs/tiny/labels.jsonl")
    assert [row["answer"] for row in rows] == ["left", "tie", "right"]


def test_another_sites_form_writes_nothing(browser, started, folder):
    """A page opened from elsewhere posts to the server in the same browser, cookie and all."""
    server = started("--pairs", "3")
    sign_in(browser, server.address, "ana", total=3)
    pair = pair_shown(browser)
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in
                     (("pair", pair), ("labeler", "ana"), ("answer", "left")))
    form = f'<form method="post" action="{server.address}answer">{fields}</form>'
    browser.get("data:text/html," + form)
    browser.execute_script("document.forms[0].submit()")
    wait_for(browser, "403")
    assert "nothing was written" in browser.find_element(By.TAG_NAME, "main").text
    assert read_labels(folder / "runs/tiny/labels.jsonl") == []


def test_the_models_names_reach_the_browser_nowhere(browser, started):
    server = started("--pairs", "2", "--labeler", "ana")
    browser.get(server.address)
    sources = [browser.page_source]
    for key, wanted in ((Keys.ARROW_LEFT, "Pair 2 of 2"), (Keys.ARROW_RIGHT, "Done")):
        press(browser, key)
        wait_for(browser, wanted)
        sources.append(browser.page_source)
    for source in sources:
        assert not re.search(r"\b(sft|policy|base|ppo)\b", source, re.IGNORECASE)
    assert json.dumps(browser.get_cookies()) == "[]"

"""Laws of the page: blind, escaped, closed to strangers, and usable without a script."""

import http.client
import re
import socket
import threading
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from labelled import GUIDELINES, label, made_up_pairs, rows_of, session_in

from minirlhf.labelling import answers, page
from minirlhf.labelling.answers import AnswerFile
from minirlhf.labelling.pairs import Pair
from minirlhf.labelling.session import Session
from minirlhf.rollout import Reply

pytest.importorskip("flask", reason="the page wants the extra: label")

ADDRESS = "http://127.0.0.1:5151"
ADVICE = (("Train", "minirlhf run --preferences 'a b.jsonl'"),)


class Browser:
    """A browser without a script: it keeps cookies, follows redirections, presses buttons."""

    def __init__(self, session, labeler=None, address=ADDRESS):
        self.client = page.Page(session, labeler, ADVICE).app().test_client()
        self.address = address

    def get(self, path="/", **more):
        return self.client.get(path, base_url=self.address, follow_redirects=True, **more)

    def post(self, path, headers=None, follow=True, **form):
        headers = {"Origin": self.address} if headers is None else headers
        return self.client.post(path, base_url=self.address, data=form, headers=headers,
                                follow_redirects=follow)

    def sign_in(self, name="ana"):
        self.post("/name", labeler=name)
        return self

    def press(self, answer, path="/"):
        """Press a button of a page, sending what its form holds."""
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">',
                               self.get(path).text))
        return self.post("/answer", answer=answer, **{k: unescape(v) for k, v in form.items()})


@pytest.fixture
def session(tmp_path):
    return session_in(tmp_path)


@pytest.fixture
def browser(session):
    return Browser(session).sign_in()


def heading(response) -> str:
    return re.search(r"<title>(.*?) · minirlhf", response.text)[1]


# --- a visit -------------------------------------------------------------------------------------

def test_a_first_visit_asks_for_the_name_and_then_shows_the_first_pair(session):
    browser = Browser(session)
    assert "Who is labelling?" in browser.get().text
    shown = session.order("ana")[0]
    text = browser.post("/name", labeler=" ana ").text
    for seen in (shown.pair.prompt, shown.left.text, shown.right.text, "pair 1 of 5", ">ana"):
        assert seen in text
    assert text.index(shown.left.text) < text.index(shown.right.text)


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\x1bb"])
def test_a_name_that_is_none_is_asked_for_again(session, name):
    response = Browser(session).post("/name", labeler=name)
    assert response.status_code == 400 and "printable characters" in response.text
    assert "Set-Cookie" not in response.headers


def test_the_name_of_the_flag_is_not_asked_for(session, tmp_path):
    browser = Browser(session, "Zoë")
    assert heading(browser.get()) == heading(browser.get("/name")) == "Pair 1 of 5"
    assert "not you?" not in browser.get().text
    browser.press("left")
    assert rows_of(tmp_path)[0]["labeler"] == "Zoë"


def test_pair_after_pair_is_answered_by_the_buttons_alone(browser, session, tmp_path):
    for number, answer in enumerate(("left", "right", "tie", "skip"), 2):
        assert heading(browser.press(answer)) == f"Pair {number} of 5"
    response = browser.press("left")
    assert heading(response) == "Done"
    rows = rows_of(tmp_path)
    assert [row["answer"] for row in rows] == ["left", "right", "tie", "skip", "left"]
    assert [row["pair"] for row in rows] == [one.pair.id for one in session.order("ana")]
    assert {row["labeler"] for row in rows} == {"ana"}
    assert {row["guidelines"] for row in rows} == {"v7"}


def test_the_end_tells_how_much_was_done_and_what_to_do_next(browser, session):
    for answer in ("left", "right", "tie", "skip", "left"):
        response = browser.press(answer)
    text = " ".join(response.text.split())
    assert "all 5 pairs: in 3 you preferred a reply (A 2, B 1), 1 was a tie, and you skipped 1" in (
        text)
    assert "minirlhf run --preferences &#39;a b.jsonl&#39;" in text and "Thank you, ana" in text
    assert heading(browser.get("/done")) == "Done" and 'href="/pair/5"' in text


def test_the_end_cannot_be_reached_before_it(browser):
    assert heading(browser.get("/done")) == "Pair 1 of 5"


def test_back_shows_the_pair_before_with_its_answer_which_another_replaces(browser, tmp_path):
    browser.press("left")
    now = browser.press("right")
    (back,) = re.findall(r'<a id="back" href="([^"]+)"', now.text)
    before = browser.get(back)
    assert heading(before) == "Pair 2 of 5" and "Your answer: B is better." in before.text
    assert heading(browser.press("tie", back)) == "Pair 3 of 5"
    assert "Your answer: a tie." in browser.get(back).text
    assert [row["answer"] for row in rows_of(tmp_path)] == ["left", "right", "tie"]
    assert rows_of(tmp_path)[1]["pair"] == rows_of(tmp_path)[2]["pair"]


def test_the_first_pair_has_none_before_it(browser):
    assert 'id="back"' not in browser.get("/pair/1").text


@pytest.mark.parametrize("path", ["/pair/0", "/pair/6", "/pair/-1", "/pair/x", "/nothing",
                                  "/static/../page.py", "/static/none.css"])
def test_what_is_not_there_is_said_to_be_missing(browser, path):
    response = browser.get(path)
    assert response.status_code == 404 and "This did not work" in response.text


def test_progress_counts_the_answers(browser):
    browser.press("left")
    text = browser.press("skip").text
    assert '<progress value="2" max="5"' in text and "2 of 5 pairs answered" in text


def test_two_people_in_two_browsers_go_their_own_ways(session, tmp_path):
    ana, ben = Browser(session).sign_in("ana"), Browser(session).sign_in("ben")
    for browser, answer in ((ana, "left"), (ben, "right"), (ana, "tie"), (ana, "skip")):
        browser.press(answer)
    assert heading(ana.get()) == "Pair 4 of 5" and heading(ben.get()) == "Pair 2 of 5"
    assert [(row["labeler"], row["answer"]) for row in rows_of(tmp_path)] == [
        ("ana", "left"), ("ben", "right"), ("ana", "tie"), ("ana", "skip")]


def test_who_labelled_before_need_not_type_the_name_again(session):
    Browser(session).sign_in("Zoë <b>").press("left")
    browser = Browser(session)
    assert 'value="Zoë &lt;b&gt;"' in browser.get("/name").text
    assert heading(browser.sign_in("Zoë <b>").get()) == "Pair 2 of 5"


def test_the_name_on_the_page_answers_whoever_the_browser_became_since(session, tmp_path):
    browser = Browser(session).sign_in("ana")
    pair = session.order("ana")[0].pair.id
    browser.sign_in("ben")                                # in another tab
    browser.post("/answer", labeler="ana", pair=pair, answer="left")
    assert rows_of(tmp_path)[0]["labeler"] == "ana"


def test_a_damaged_cookie_is_no_name(session):
    browser = Browser(session)
    browser.client.set_cookie(page.COOKIE, quote("a\x1bb"), domain="127.0.0.1")
    assert "Who is labelling?" in browser.get().text


# --- what is sent is not trusted -----------------------------------------------------------------

@pytest.mark.parametrize("form, status", [
    ({"answer": "both"}, 400), ({"answer": ""}, 400), ({"labeler": ""}, 400),
    ({"labeler": "a\nb\x1b"}, 400), ({"pair": "nonsense"}, 409), ({"pair": ""}, 409)])
def test_an_answer_that_makes_no_sense_is_refused_and_not_written(browser, session, tmp_path, form,
                                                                  status):
    whole = {"labeler": "ana", "pair": session.pairs[0].id, "answer": "left"} | form
    response = browser.post("/answer", **whole)
    assert response.status_code == status and "othing was written" in response.text
    assert rows_of(tmp_path) == []


def test_a_body_without_end_is_refused(browser, session, tmp_path):
    response = browser.post("/answer", labeler="ana", pair=session.pairs[0].id, answer="left",
                            more="x" * 2**17)
    assert response.status_code == 413 and rows_of(tmp_path) == []


def test_an_answer_cannot_be_given_by_a_link(browser, session, tmp_path):
    response = browser.get(f"/answer?pair={session.pairs[0].id}&labeler=ana&answer=left")
    assert response.status_code == 405 and rows_of(tmp_path) == []


def test_an_answer_is_on_disk_before_the_next_pair_is_shown(browser, tmp_path, monkeypatch):
    events, sync = [], answers.os.fsync

    def synced(handle):
        sync(handle)
        events.append(len(rows_of(tmp_path)))

    monkeypatch.setattr(answers.os, "fsync", synced)
    for number in (1, 2, 3):
        response = browser.press("left")
        assert events == list(range(1, number + 1))
        assert heading(response) == f"Pair {number + 1} of 5"


def test_an_answer_that_could_not_be_written_is_told_and_asked_again(browser, tmp_path, monkeypatch,
                                                                     capsys):
    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(answers.os, "fsync", full)
        response = browser.press("left")
    assert response.status_code == 500 and "not written: No space left" in response.text
    assert "labels.jsonl: The answer was not written: No space" in capsys.readouterr().err
    assert rows_of(tmp_path) == [] and heading(browser.get()) == "Pair 1 of 5"


# --- blind, escaped, and alone -------------------------------------------------------------------

def every_page(browser) -> list:
    """Every kind of page that a labeler sees, before and after answers."""
    seen = [browser.get("/name"), browser.get(), browser.get("/pair/9")]
    while heading(seen[-1]) != "Done":
        seen += [browser.press("left"), browser.get("/pair/1")][::-1]
    return seen


def test_no_page_tells_which_model_replied(browser):
    pages = every_page(browser)
    assert len(pages) > 10
    for response in pages:
        assert not re.search(r"sft|policy|base|model|ppo", response.text, re.IGNORECASE)
        assert "Set-Cookie" not in response.headers


HOSTILE = """</p></article><script>alert(1)</script><img src=x onerror="a()"> {{ 7*7 }} '"&"""


def test_what_models_prompts_and_people_say_is_text(tmp_path):
    pair = Pair(f"ask {HOSTILE}", "test", {"sft": Reply(f"one {HOSTILE}", True),
                                           "policy": Reply(f"two {HOSTILE}", False)})
    guidelines = type(GUIDELINES)("<i>1</i>", f"# {HOSTILE}\n\n- **{HOSTILE}**\n\n{HOSTILE}")
    session = Session([pair], AnswerFile(tmp_path / "labels.jsonl"), guidelines, 0)
    browser = Browser(session).sign_in("<u>ana</u>")

    class Reader(HTMLParser):
        tags, words = [], ""

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)

        def handle_data(self, data):
            self.words += data

    reader = Reader()
    for response in (browser.get(), browser.press("left"), browser.get("/name")):
        reader.feed(response.text)
    assert reader.words.count(HOSTILE) == 3 + 3
    for shown in ("<u>ana</u>", "version <i>1</i>"):
        assert shown in reader.words
    assert not {"img", "i", "u"} & set(reader.tags)
    assert reader.tags.count("script") == 2               # the page's own, on two pages


def test_nothing_is_loaded_from_elsewhere_and_no_script_or_style_stands_inline(browser):
    for response in every_page(browser):
        loaded = re.findall(r'(?:src|href|action)="([^"]*)"', response.text)
        assert loaded and all(re.match(r"/(?!/)|#|data:,$", target) for target in loaded)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", response.text)
        for asset in re.findall(r'"(/static/[^"]+)"', response.text):
            assert browser.get(asset).status_code == 200


@pytest.mark.parametrize("path", ["/", "/pair/1", "/name", "/static/keys.js", "/nothing"])
def test_every_answer_has_a_strict_policy(browser, path):
    headers = browser.get(path).headers
    policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert policy == {"default-src": "'none'", "style-src": "'self'", "script-src": "'self'",
                      "img-src": "data:", "form-action": "'self'", "base-uri": "'none'",
                      "frame-ancestors": "'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5151", "127.0.0.1", "127.0.0.1:80",
                                  "127.0.0.1:51510", "localhost", "127.0.0.1.evil.example:5151",
                                  "[::1]:5151", "0.0.0.0:5151", "127.0.0.1:5151@evil", ""])
def test_a_request_under_another_name_is_refused(browser, session, tmp_path, host):
    """A site whose name was made to point at this machine sends its own name."""
    for response in (browser.get("/pair/1", headers={"Host": host}),
                     browser.post("/answer", {"Host": host, "Origin": f"http://{host}"},
                                  labeler="ana", pair=session.pairs[0].id, answer="left")):
        assert response.status_code in (400, 403)
        assert "question" not in response.text and "answers at" in response.text or (
            response.status_code == 400)
    assert rows_of(tmp_path) == []


@pytest.mark.parametrize("address", [ADDRESS, "http://localhost:5151", "http://127.0.0.1:80"])
def test_the_pages_own_names_are_answered(session, address):
    browser = Browser(session, address=address.removesuffix(":80"))
    assert heading(browser.sign_in().press("left")) == "Pair 2 of 5"


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:5152",
                                    "http://127.0.0.1", "https://127.0.0.1:5151",
                                    "http://localhost:5151", "http://127.0.0.1:5151.evil"])
@pytest.mark.parametrize("path", ["/answer", "/name"])
def test_what_another_page_sends_is_refused(browser, session, tmp_path, origin, path):
    headers = {} if origin is None else {"Origin": origin}
    response = browser.post(path, headers, labeler="eve", pair=session.pairs[0].id, answer="left")
    assert response.status_code == 403 and "nothing was written" in response.text
    assert rows_of(tmp_path) == [] and ">ana" in browser.get().text
    assert "Set-Cookie" not in response.headers


def test_the_cookie_is_for_this_page_only(session):
    response = Browser(session).post("/name", labeler="ana", follow=False)
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(
        response.headers["Set-Cookie"].split("; "))


# --- what stands on it ---------------------------------------------------------------------------

def test_the_guidelines_stand_beside_the_pair_with_their_version(browser):
    text = browser.get().text
    assert "Choose the *better* one." in text and "version v7" in text
    assert "<strong>Honest.</strong> It is &lt;b&gt;true&lt;/b&gt;." in text


def test_a_conversation_is_shown_turn_by_turn(tmp_path):
    pair = Pair("Hi\n\nAssistant: Hello.\n\nHuman: x ?", "test",
                {"sft": Reply("a", True), "policy": Reply("", False)})
    session = Session([pair], AnswerFile(tmp_path / "labels.jsonl"), GUIDELINES, 0)
    text = Browser(session, "ana").get().text
    assert re.findall(r'class="(?:who|text)">(.*?)</p>', text)[:6] == [
        "Human", "Hi", "Assistant", "Hello.", "Human", "x ?"]
    assert text.count("no words") == 1 and text.count("The reply breaks off here.") == 1


def test_every_key_of_the_script_has_its_button_or_link(browser):
    script = browser.get("/static/keys.js").text
    browser.press("left")
    text = browser.get("/pair/2").text
    for answer in re.findall(r': "(\w+)"', re.search(r"ANSWERS = \{(.*?)\}", script)[1]):
        assert f'name="answer" value="{answer}"' in text
    assert 'id="back"' in text and 'getElementById("back")' in script


# --- the server ----------------------------------------------------------------------------------

def test_the_server_listens_on_this_machine_alone():
    with page.listen(None) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        assert listening.getsockname()[1] > 0


def test_a_port_in_use_is_one_clear_message():
    with page.listen(None) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} cannot be used \(Address already in use\)"
                                          "; choose another --port"):
            page.listen(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match=f"--port must lie between 1 and 65535, got {port}"):
        page.listen(port)


def test_the_real_server_answers_under_its_own_name_only(session, capsys, monkeypatch):
    """Over a socket, since what a server makes of a request is not what a test client sends."""
    opened = []
    monkeypatch.setattr(page.webbrowser, "open", opened.append)
    listening = page.listen(None)
    port = listening.getsockname()[1]
    threading.Thread(target=page.serve, args=(page.Page(session, "ana"), listening, True),
                     daemon=True).start()

    def status(host, method="GET", path="/pair/1", origin=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, body=b"" if method == "POST" else None,
                           headers={"Host": host} | ({"Origin": origin} if origin else {}))
        return connection.getresponse().status

    ours = f"127.0.0.1:{port}"
    assert status(ours) == status(f"localhost:{port}") == 200
    assert status("evil.example") == status(f"evil.example:{port}") == 403
    assert status(ours, path="http://evil.example/pair/1") == 403     # whole address in line 1
    assert status(ours, "POST", "/answer", f"http://{ours}") == 400   # no name in it, but allowed
    assert status(ours, "POST", "/answer", "http://evil.example") == 403
    assert opened == [f"http://{ours}/"] and f"open http://{ours}/ " in capsys.readouterr().out
    with socket.create_connection(("127.0.0.1", port), timeout=20) as idle:   # holds nobody up
        assert idle and status(ours) == 200


def test_a_missing_library_is_named_with_its_extra(session, monkeypatch):
    import builtins
    real = builtins.__import__

    def absent(name, *args, **more):
        if name == "flask":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(RuntimeError, match=r"pip install 'minirlhf\[label\]'; or .* --terminal"):
        page.Page(session)


def test_old_answers_of_other_pairs_do_not_disturb_the_page(tmp_path):
    file = AnswerFile(tmp_path / "labels.jsonl")
    file.append(label("elsewhere", "ana"))
    browser = Browser(Session(made_up_pairs(2), file, GUIDELINES, 0)).sign_in("ana")
    assert '<progress value="0" max="2"' in browser.get().text

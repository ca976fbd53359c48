"""The page: one prompt, two replies, and the guidelines, in a browser on this machine.

It is plain HTML whose buttons work without a script; a script of a few lines adds the keys.  The
server listens on 127.0.0.1 alone, so nobody else in the network reaches it, and it answers only
requests that name it by that address and its port: a page of another site, open in the same
browser, can neither read from it (even if that site's name is made to point here) nor post to it.
"""

import logging
import os
import socket
import sys
import webbrowser
from urllib.parse import quote, unquote

from minirlhf.labelling.session import LONGEST_NAME, Session, cleaned_name
from minirlhf.labels import ANSWERS
from minirlhf.text import turns

COOKIE = "minirlhf_labeler"
SAID = {"left": "A is better", "right": "B is better", "tie": "a tie", "skip": "skipped"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
                               "img-src data:; form-action 'self'; base-uri 'none'; "
                               "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def flask():
    """The Flask library.  Raises RuntimeError naming the extra if it is missing."""
    try:
        import flask
    except ImportError:
        raise RuntimeError("the labelling page wants the `flask` library: "
                           "pip install 'minirlhf[label]'; or label with --terminal") from None
    return flask


class Page:
    """The requests of the page.  `labeler`: everybody is this one, and no name is asked.

    `advice` is what the last screen tells to do next, a line each.
    """

    def __init__(self, session: Session, labeler: str | None = None, advice: tuple = ()):
        self.session, self.labeler, self.advice, self.flask = session, labeler, advice, flask()

    def app(self):
        """The Flask application."""
        from werkzeug.exceptions import HTTPException

        app = self.flask.Flask(__package__)
        app.config.update(MAX_CONTENT_LENGTH=2**16, MAX_FORM_MEMORY_SIZE=2**16)
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
        app.before_request(self.refuse_strangers)
        app.after_request(self.add_headers)
        app.register_error_handler(HTTPException, self.explain)
        app.register_error_handler(OSError, self.not_written)
        app.add_url_rule("/", view_func=self.start)
        app.add_url_rule("/name", view_func=self.ask_name)
        app.add_url_rule("/name", "take_name", self.take_name, methods=["POST"])
        app.add_url_rule("/pair/<int:number>", view_func=self.show)
        app.add_url_rule("/answer", view_func=self.take_answer, methods=["POST"])
        app.add_url_rule("/done", view_func=self.done)
        return app

    # --- who may ask

    def refuse_strangers(self):
        """Answer only what was asked of this address, and take only what this page sent."""
        request = self.flask.request
        port = request.environ["SERVER_PORT"]
        ours = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        ours |= {"127.0.0.1", "localhost"} if port == "80" else set()    # browsers leave out :80
        host = request.headers.get("Host")
        if host not in ours:
            return self.message(403, f"This page answers at http://127.0.0.1:{port}/ only.")
        if request.method == "POST" and request.headers.get("Origin") != f"http://{host}":
            return self.message(403, "This was sent by another page than the labelling page; "
                                     "nothing was written.")
        return None

    def add_headers(self, response):
        response.headers.update(HEADERS)
        return response

    def explain(self, problem):
        """Werkzeug's own failures (404, 405, 413 …) as a page like the others."""
        return self.message(problem.code, problem.description)

    def not_written(self, problem: OSError):
        """The disk is full, or the file is gone: the labeler and the one at the terminal must know.
        """
        text = f"The answer was not written: {problem.strerror or problem}."
        print(f"minirlhf: {self.session.file.path}: {text}", file=sys.stderr)
        return self.message(500, text)

    def message(self, code: int, text: str):
        return self.flask.render_template("message.html", code=code, text=text), code

    # --- what is asked

    def name(self) -> str | None:
        """The labeler who asks: the one of --labeler, or the one of the browser's cookie."""
        if self.labeler is not None:
            return self.labeler
        try:
            return cleaned_name(unquote(self.flask.request.cookies.get(COOKIE, "")))
        except ValueError:
            return None

    def start(self):
        """On to the first pair without an answer, to the end, or first to the name."""
        name = self.name()
        if name is None:
            return self.flask.redirect("/name", 303)
        number = self.session.next(name)
        return self.flask.redirect("/done" if number is None else f"/pair/{number}", 303)

    def ask_name(self, problem: str = ""):
        if self.labeler is not None:
            return self.flask.redirect("/", 303)
        return self.flask.render_template("name.html", problem=problem, longest=LONGEST_NAME,
                                          known=sorted(self.session.said))

    def take_name(self):
        try:
            name = cleaned_name(self.flask.request.form.get("labeler", ""))
        except ValueError as problem:
            return self.ask_name(str(problem)), 400
        response = self.flask.redirect("/", 303)
        response.set_cookie(COOKIE, quote(name), max_age=365 * 86400, httponly=True,
                            samesite="Lax")
        return response

    def show(self, number: int):
        name = self.name()
        if name is None:
            return self.flask.redirect("/name", 303)
        order, given = self.session.order(name), self.session.given(name)
        if not 1 <= number <= len(order):
            return self.message(404, f"There are {len(order)} pairs; this is none of them.")
        shown = order[number - 1]
        return self.flask.render_template(
            "pair.html", pair=shown.pair.id, turns=[t for t in turns(shown.pair.prompt) if t[1]],
            sides=[("left", "A", shown.left), ("right", "B", shown.right)], number=number,
            total=len(order), given=len(given), answer=given.get(shown.pair.id), said=SAID,
            labeler=name, fixed=self.labeler is not None, guidelines=self.session.guidelines)

    def take_answer(self):
        """Write an answer, then on to the next pair.

        The name comes with the form: it is the one that stood on the page, whoever the browser
        has become in another tab.
        """
        form = self.flask.request.form
        try:
            name = cleaned_name(form.get("labeler", ""))
            self.session.record(name, form.get("pair", ""), form.get("answer", ""))
        except ValueError as problem:
            return self.message(400, f"{problem}.  Nothing was written.")
        except KeyError:
            return self.message(409, "That pair is not one of this session: it was started anew "
                                     "with other models or fewer pairs.  Nothing was written.")
        return self.flask.redirect("/", 303)

    def done(self):
        name = self.name()
        if name is None or self.session.next(name) is not None:
            return self.flask.redirect("/", 303)
        given = list(self.session.given(name).values())
        return self.flask.render_template(
            "done.html", total=len(given), counts={one: given.count(one) for one in ANSWERS},
            labeler=name, fixed=self.labeler is not None, advice=self.advice)


# --- the server ----------------------------------------------------------------------------------

def listen(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1, at a free port if None.

    Raises ValueError for a number that is no port, OSError if the port cannot be had.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"--port must lie between 1 and 65535, got {port}")
    try:
        return socket.create_server(("127.0.0.1", port or 0))
    except OSError as problem:
        raise OSError(f"port {port} cannot be used ({os.strerror(problem.errno)}); choose another "
                      "--port, or leave it out for a free one") from None


def serve(page: Page, listening: socket.socket, browse: bool = False) -> None:
    """Answer the page's requests until Ctrl-C.  Says where the page is."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)       # not a line for every request
    host, port = listening.getsockname()
    server = make_server(host, port, page.app(), threaded=True, fd=listening.fileno())
    address = f"http://{host}:{port}/"
    print(f"open {address}   (Ctrl-C ends; every answer is on disk at once)", flush=True)
    if browse:
        webbrowser.open(address)
    server.serve_forever()

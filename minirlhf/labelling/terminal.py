"""The pairs in a terminal: a letter and Enter for each answer."""

import shutil
import textwrap
from collections.abc import Callable

from minirlhf.labelling.session import Session, Shown, cleaned_name
from minirlhf.rollout import Reply

MEANT = {"l": "left", "r": "right", "t": "tie", "s": "skip"}
MEANT |= {word: word for word in MEANT.values()}
KEYS = "l left, r right, t tie, s skip, b back, g guidelines, q quit"


def label(session: Session, labeler: str | None = None, *, read: Callable[[str], str] = input,
          write: Callable[[str], object] = print) -> str:
    """Show pair after pair until all are answered, or until q or the end of the input.

    `read` shows a question and returns a line.  Asks for a name if there is none.  Returns it.
    """
    try:
        labeler = cleaned_name(read("your name: ") if labeler is None else labeler)
        write(guidelines_text(session))
        number = session.next(labeler)
        while number is not None:
            number = ask(session, labeler, number, read, write)
    except EOFError:
        write("")
    return labeler or ""


def ask(session: Session, labeler: str, number: int, read, write) -> int | None:
    """Show one pair and do what is answered; the number of the pair to show next, None to stop."""
    order = session.order(labeler)
    shown = order[number - 1]
    write(pair_text(shown, number, len(order), session.given(labeler).get(shown.pair.id)))
    while True:
        key = read("l r t s b g q > ").strip().lower()
        if key in MEANT:
            session.record(labeler, shown.pair.id, MEANT[key])
            return session.next(labeler)
        if key == "b" and number > 1:
            return number - 1
        if key == "q":
            return None
        write(guidelines_text(session) if key == "g" else
              "this is the first pair" if key == "b" else KEYS)


def pair_text(shown: Shown, number: int, total: int, given: str | None) -> str:
    """A pair for the terminal: the prompt, and the left reply above the right one."""
    again = f"   (your answer: {given}; another one replaces it)" if given else ""
    return "\n".join(["", f"── pair {number} of {total} {'─' * 20}{again}",
                      wrapped(shown.pair.prompt), "", "LEFT", reply_text(shown.left), "",
                      "RIGHT", reply_text(shown.right), ""])


def reply_text(reply: Reply) -> str:
    text = wrapped(reply.text or "(no words)")
    return text if reply.ended else f"{text}\n    (the reply breaks off here)"


def wrapped(text: str) -> str:
    """A text indented and wrapped to the terminal; its control characters can do nothing there."""
    width = min(100, shutil.get_terminal_size().columns)
    lines = text.expandtabs(4).replace("\r\n", "\n").split("\n")
    return "\n".join(textwrap.fill("".join(c if c.isprintable() else "�" for c in line), width,
                                   initial_indent="    ", subsequent_indent="    ")
                     for line in lines)


def guidelines_text(session: Session) -> str:
    lines = session.guidelines.text.replace("**", "").split("\n")
    return "\n".join(["", *map(wrapped, lines), "",
                      f"    guidelines version {session.guidelines.version}", "", KEYS])

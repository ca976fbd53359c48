"""Talk to the models of a run: `minirlhf chat RUN`.

Numbers say how much better a model is, replies say in what.  A line is asked of one model, or of
two side by side, and the reward model's score stands below each reply: the reader sees what
training pays for.  In the toy world every question stands alone.  On people's data a conversation
goes on, and each model remembers what it said itself.

A line goes in, and the text to show comes out (`Chat.answer`).  What a line means and how replies
are laid out is in `chat_text.py`.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from minirlhf import evaluation
from minirlhf.chat_text import (
    Toy,
    Unclear,
    block,
    examples,
    filled,
    fitting,
    lay_out,
    one_line,
    peoples_question,
    read_temperature,
    require_temperature,
)
from minirlhf.evaluation import SPEAKERS
from minirlhf.files import read_jsonl
from minirlhf.findings import titles_of
from minirlhf.options import parse
from minirlhf.run import Run
from minirlhf.run_folder import open_run
from minirlhf.stages.training import Stage, step_rng

HELP = """\
a line          is asked of the models
/again          asks the same once more, for another sample
/new            forgets the conversation
/temperature T  how freely words are drawn: 1 as trained, 0 the likeliest always
/prompts        shows questions that no model was trained on, each time others
/help           shows these lines
/quit           ends the chat, as Ctrl-D does.  Ctrl-C interrupts a reply"""


@dataclass(frozen=True)
class Flags:
    """What `minirlhf chat` can be told."""

    run: tyro.conf.Positional[str]
    """name of the run to talk to"""
    models: str | None = None
    """base, sft or policy, or two of them as sft,policy; unless given: those two if the run has
    both, else the last one it has"""
    temperature: float = 1.0
    """how freely words are drawn; 0 takes the likeliest always"""
    top_p: float = 1.0
    """draw from the likeliest words only that together have this probability"""
    max_new: int | None = None
    """longest reply in tokens; unless given: the run's ppo.max-new"""
    seed: int = 0
    """the same seed and the same lines give the same replies"""
    gold: bool = False
    """show the toy world's hidden truth beside the score, for questions that the world knows"""
    backend: str | None = None
    """numpy, cupy or auto; unless given: the run's"""
    out: Path = Path("runs")
    """where run folders lie"""


def command(argv: Sequence[str]) -> None:
    """Talk to any model of a run, or to two side by side.  The reward model's score is shown below
    each reply: 0 is the mean of SFT replies, 1 their deviation.  Lines may also be piped in.
    """
    flags = parse(Flags, "minirlhf chat", command.__doc__, argv)
    changes = {} if flags.backend is None else {"backend": flags.backend}
    run = open_run(flags.out / flags.run, **changes)
    chat = Chat(run, chosen(run, flags.models), flags, terminal_width)
    for stream in (sys.stdin, sys.stdout):               # a strange letter must not end the chat
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    person = sys.stdin.isatty()
    if person:
        print(chat.greeting() + "\n")
    talk(chat, typed_line if person else input, lambda text: print(text, flush=True),
         person=person)


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def typed_line() -> str:
    """A line that a person types under a sign, with editing and history where they are to be had.
    """
    try:
        import readline  # noqa: F401  (importing it is what gives `input` both)
    except ImportError:                                  # as on Windows, whose own console edits
        pass
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):                # in place of a line, Ctrl-C means Ctrl-D
        print()                                          # the shell's sign on a line of its own
        raise EOFError from None


def talk(chat: "Chat", read: Callable[[], str], write: Callable[[str], object], *,
         person: bool = True) -> None:
    """Answer line by line until /quit or EOFError, the end of the input.

    A person's Ctrl-C interrupts the reply that is being made.  Where lines are piped in it ends the
    chat: KeyboardInterrupt is raised.
    """
    while True:
        try:
            line = read()
        except EOFError:
            return
        try:
            shown = chat.answer(line)
        except KeyboardInterrupt:
            if not person:
                raise
            shown = "\n(interrupted)"                    # below the terminal's ^C
        if shown is None:
            return
        if shown:
            write(shown + "\n")


def chosen(run: Run, wanted: str | None) -> tuple[str, ...]:
    """The models to talk to, one or two.  Raises ValueError for others than these."""
    if wanted is None:
        made = [name for name in SPEAKERS if run.has(name)]
        both = {"sft", "policy"} <= set(made)
        return ("sft", "policy") if both else tuple(made[-1:]) or SPEAKERS[:1]
    names = tuple(wanted.split(","))
    for name in names:
        if name not in SPEAKERS:
            raise ValueError(f"unknown model {name!r}; choose one or two of {', '.join(SPEAKERS)}, "
                             "as in --models sft,policy")
    if len(set(names)) < len(names) or len(names) > 2:
        raise ValueError(f"--models wants one model, or two different ones, got {wanted}")
    return names


def check(flags: Flags, run: Run) -> None:
    """Raise ValueError for settings that no chat, or none with this run, can have."""
    require_temperature(flags.temperature)
    if not 0 < flags.top_p <= 1:
        raise ValueError(f"top-p must lie in (0, 1], got {flags.top_p}")
    if flags.seed < 0:
        raise ValueError(f"seed must not be negative, got {flags.seed}")
    most = run.model.context - len(run.tokenizer.prompt("")) - 1
    if flags.max_new is not None and not 1 <= flags.max_new <= most:
        raise ValueError(f"max-new must lie between 1 and {most}, so that a question fits the "
                         f"context of {run.model.context} tokens too, got {flags.max_new}")
    if flags.gold and not run.source.simulated:
        raise ValueError("--gold: only the toy world knows the truth, and this run is on people's "
                         "comparisons")


class Chat:
    """A conversation with one model, or with two at once.

    names: "base", "sft", "policy".  width() is the number of columns to fill, None for no limit.
    Raises ValueError for settings that this run cannot have, FileNotFoundError naming a model that
    it has not made.
    """

    def __init__(self, run: Run, names: Sequence[str], flags: Flags,
                 width: Callable[[], int | None] = lambda: None):
        check(flags, run)
        self.run, self.flags, self.width = run, flags, width
        self.models = {name: run.load(name) for name in names}
        self.titles = titles_of(asdict(run.config))
        self.reward = run.load("reward") if run.has("reward") else None
        self.temperature = flags.temperature
        self.max_new = flags.max_new or run.config.ppo.max_new
        path = run.folder / "prompts.jsonl"
        self.prompts = read_jsonl(path) if path.exists() else []
        known = [row["prompt"] for row in self.prompts]
        self.toy = Toy(run.tokenizer.words, known) if run.source.simulated else None
        self.rng = step_rng(flags.seed, Stage.CHAT)      # of examples; a reply has one of its own
        self.count = 0                                   # of questions answered
        self.forget()

    def forget(self) -> None:
        self.asked: str | None = None                    # the last question
        self.said = {name: [] for name in self.models}   # (question, reply) by model

    def answer(self, line: str) -> str | None:
        """What to show for a line: replies, or one friendly line; "" for none, None at the end."""
        line = one_line(line)
        if line == "/quit":
            return None
        try:
            shown = self.obey(line) if line.startswith("/") else self.ask(line) if line else ""
        except Unclear as told:
            shown = str(told)
        return filled(shown, self.width())

    # --- asking

    def ask(self, line: str) -> str:
        question = self.toy.question(line) if self.toy else peoples_question(line)
        return self.replies_to(question, self.said)

    def replies_to(self, question: str, earlier: dict[str, list]) -> str:
        """Every model's reply, each after its own earlier turns; nothing changes before the end."""
        context, blocks, said = self.run.model.context, [], {}
        forgot: dict[int, list[str]] = {}                # names of models by exchanges forgotten
        for name in self.models:
            prompt, kept = fitting(question, earlier[name], self.tokens, context)
            row = self.reply(name, prompt)
            blocks.append(block(name, row, self.titles))
            said[name] = [] if self.toy else [*kept, (question, row["reply"])]
            forgot.setdefault(len(earlier[name]) - len(kept), []).append(self.titles[name])
        self.asked, self.said = question, said
        self.count += 1
        notes = [f"({' and '.join(names)} forgot the oldest {2 * n} turns: no more fit the context "
                 f"of {context} tokens)" for n, names in forgot.items() if n]
        return "\n".join([lay_out(blocks, self.width()), *notes])

    def tokens(self, prompt: str) -> int:
        """How much of the context a prompt and the longest reply take."""
        return len(self.run.tokenizer.prompt(prompt)) + self.max_new

    def reply(self, name: str, prompt: str) -> dict:
        """One reply, as a row of `evaluation.answer`.

        Both models are given the same random numbers: what differs is the models' doing.
        """
        rng = step_rng(self.flags.seed, Stage.CHAT, 1 + self.count)
        (row,), _ = evaluation.answer(
            self.models[name], self.reward, self.run.model, self.run.tokenizer, [prompt],
            self.max_new, rng=rng, raw=name == "base", temperature=self.temperature,
            top_p=self.flags.top_p)
        if self.flags.gold and prompt in self.toy.known:
            (row,) = evaluation.with_gold([row | {"prompt": prompt}])
        return row

    # --- commands

    def obey(self, line: str) -> str:
        """What a command shows.  Raises Unclear if there is none such."""
        word, _, argument = line.partition(" ")
        commands = {"/again": self.again, "/new": self.new, "/prompts": self.some_prompts,
                    "/temperature": lambda: self.change_temperature(argument),
                    "/help": lambda: HELP}
        if word not in commands:
            raise Unclear(f"there is no command {word[:30]}; /help lists them")
        return commands[word]()

    def again(self) -> str:
        if self.asked is None:
            raise Unclear("nothing was asked yet; /prompts shows what can be asked")
        return self.replies_to(self.asked, {name: turns[:-1] for name, turns in self.said.items()})

    def new(self) -> str:
        if self.toy:
            return "each question of the toy world stands alone: there is nothing to forget"
        self.forget()
        return "the conversation begins anew"

    def change_temperature(self, text: str) -> str:
        if text:
            self.temperature = read_temperature(text)
        return f"the temperature is {self.temperature:g}"

    def some_prompts(self) -> str:
        held_out = [row for row in self.prompts if row["split"] == "test"]
        if not held_out:
            raise Unclear("this run has no prompts.jsonl, where its questions stand")
        return "\n".join(examples(held_out, self.rng))

    def greeting(self) -> str:
        """What a person is told before the first line."""
        who = " and ".join(self.titles[name] for name in self.models)
        told = [f"{self.run.folder}: {who}.  /help lists the commands, /prompts shows what can be "
                "asked.", self.toy.note if self.toy else
                "The conversation goes on until /new; each model remembers its own replies.",
                "score: the reward model's; 0 is the mean of SFT replies, 1 their deviation."
                if self.reward is not None else
                "This run has no reward model yet, so replies have no score."]
        if "base" in self.models:
            told.append("The base model was not taught to answer: it continues what you write.")
        return filled("\n".join(told), self.width())

"""The reading pages name what exists: functions, files, tests, scripts, commands and their flags.

In `docs/map.md` every code span is one of these and must be found.  On the other pages, where a
span may also be a formula or a word of the toy world, those are held to it that look like one.
"""

import ast
import contextlib
import importlib
import io
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import tyro

from minirlhf import chat, options, pipeline
from minirlhf.agreement_command import Agreement
from minirlhf.claims_command import Claims
from minirlhf.labelling.command import Label
from minirlhf.refusals_command import Refusals
from minirlhf.settings import ALGORITHMS
from minirlhf.trace_command import TraceFlags

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ["map.md", "notation.md", "reading.md", "scales.md", "logged_numbers.md", "your_data.md",
         "your_model.md", "chat.md", "labelling.md", "interruption.md", "agreement.md",
         "refusals.md", "labelers.md", "watching.md", "beyond_ppo.md", "scale.md"]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
TEST = re.compile(r"[\w/]+\.py::\w+")
FILE = re.compile(r"[\w./-]+\.(?:py|md)")
FUNCTION = re.compile(r"(?!\w+\.jsonl?$)[a-z_]+(?:\.\w+)+")       # metrics.jsonl is a run's file


def spans(text: str) -> list[str]:
    return SPAN.findall(FENCED.sub("", text))


def commands(text: str) -> list[str]:
    """Code spans that are command lines, and the lines of ```bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [*spans(text), *(line for block in blocks for line in block.splitlines())]
    return [line.split("#")[0].strip() for line in lines
            if line.startswith(("minirlhf ", "python ", "pytest "))]


# --- each kind of name: None if it exists, else what is wrong -------------------------------------

@cache
def functions_of(path: Path) -> dict[str, int]:
    """The functions of a test file, and how often each is named in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return {node.name: named.count(node.name) for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)}


def missing_test(span: str) -> str | None:
    """`file::test_name`, or `file::law_name` for a law that a test of the file runs."""
    file, name = span.split("::")
    path = ROOT / "tests" / file
    if not path.exists():
        return f"no file tests/{file}"
    found = functions_of(path)
    if name not in found or not name.startswith(("test_", "law_")):
        return f"no test {name} in tests/{file}"
    if name.startswith("law_") and not found[name]:
        return f"no test of tests/{file} runs {name}"
    return None


def missing_function(span: str) -> str | None:
    """`module.name` or `module.Class.attribute`, without `minirlhf.` in front."""
    parts = span.split(".")
    for n in range(len(parts), 0, -1):
        if (ROOT / "minirlhf" / Path(*parts[:n]).with_suffix(".py")).exists():
            found = importlib.import_module(".".join(["minirlhf", *parts[:n]]))
            for name in parts[n:]:
                known = {*dir(found), *getattr(found, "__annotations__", {})}
                if name not in known:
                    return f"{found} has no {name}"
                found = getattr(found, name, None)
            return None
    return "no such module"


def missing_file(span: str) -> str | None:
    places = (ROOT, DOCS, ROOT / "minirlhf", ROOT / "tests")
    return None if any((place / span).exists() for place in places) else "no such file"


def wrong_command(line: str) -> str | None:
    """Parse a command as the program would, without running it."""
    program, *argv = line.split()
    if program == "pytest":
        targets = [a for a in argv if a.endswith(".py")]
        gone = [a for a in targets if not (ROOT / a).exists()]
        if gone:
            return f"no file {gone[0]}"
        if "-k" in argv:
            name = argv[argv.index("-k") + 1]
            return missing_test(f"{targets[0].removeprefix('tests/')}::{name}")
        return None
    if program == "python":
        script, *argv = argv
        if not (ROOT / script).exists():
            return f"no file {script}"
        source = (ROOT / script).read_text(encoding="utf-8")
        if "argparse" in source:                                 # flags of its own
            gone = [a for a in argv if a.startswith("-") and f'"{a}"' not in source]
            return f"{script} has no flag {gone[0]}" if gone else None
        kind = "run" if "new_run" in source else "plain"
    else:
        kind, *argv = argv
    if kind in ("plain", "report"):
        return "takes no flags" if any(a.startswith("-") for a in argv) else None
    if kind not in ("run", "rounds", "chat", "label", "agreement", "refusals", "trace", "claims",
                    *pipeline.STAGES, *ALGORITHMS):
        return f"minirlhf has no command {kind}"
    starts = kind in ("run", "pretrain")
    default = (chat.Flags(tyro.MISSING) if kind == "chat"
               else Label(tyro.MISSING) if kind == "label"
               else Agreement(tyro.MISSING) if kind == "agreement"
               else Refusals(tyro.MISSING) if kind == "refusals"
               else Claims() if kind == "claims"
               else TraceFlags(tyro.MISSING, tyro.MISSING) if kind == "trace"
               else options.New(settings=options.default_settings(argv)) if starts
               else options.Continue(tyro.MISSING, settings=options.saved_settings(argv)))
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
        try:
            tyro.cli(type(default), args=argv, default=default)
        except SystemExit as end:
            return None if end.code in (0, None) else complaint.getvalue()
        except ValueError as problem:
            return str(problem)
    return None


def problem_of(span: str) -> str | None:
    """What is wrong with a code span that names something; None if it exists."""
    if TEST.fullmatch(span):
        return missing_test(span)
    if FILE.fullmatch(span):
        return missing_file(span)
    if span.startswith(("minirlhf ", "python ", "pytest ")):
        return wrong_command(span)
    if FUNCTION.fullmatch(span):
        return missing_function(span)
    return "neither a function nor a file, a test or a command"


def names_something(span: str) -> bool:
    """Whether a span of a page other than the map looks like a name to be found."""
    module = span.split(".")[0]
    return bool(TEST.fullmatch(span) or FILE.fullmatch(span)
                or span.startswith(("minirlhf ", "python ", "pytest "))
                or FUNCTION.fullmatch(span) and ((ROOT / "minirlhf" / module).is_dir()
                                                 or (ROOT / f"minirlhf/{module}.py").exists()))


# --- the pages -----------------------------------------------------------------------------------

def problems(text: str, everything: bool) -> list[str]:
    chosen = {s for s in spans(text) if everything or names_something(s)} | {*commands(text)}
    return [f"{span}: {found}" for span in sorted(chosen) if (found := problem_of(span))]


@pytest.mark.parametrize("page", PAGES)
def test_everything_a_page_names_exists(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                     # so that no run folder is found by its name
    shutil.copytree(ROOT / "tests" / "fixtures" / "huggingface_c8", "my-gpt2")
    text = (DOCS / page).read_text(encoding="utf-8")
    assert problems(text, everything=page == "map.md") == []


def rows(text: str) -> list[list[str]]:
    """The cells of the map's rows, without the heads of the tables."""
    table = [line.strip("|").split(" | ") for line in FENCED.sub("", text).splitlines()
             if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table if row[0].strip() != "The article"]


def test_a_row_of_the_map_quotes_one_sentence_and_says_what_it_is_here_or_not_yet():
    found = rows((DOCS / "map.md").read_text(encoding="utf-8"))
    quotes = [row[0] for row in found]
    assert len(found) >= 45 and len(set(quotes)) == len(quotes)
    for row in found:
        assert len(row) == 3 and row[0][0] == "“" and row[0][-1] == "”", row
        assert SPAN.search(row[2]) or "not yet" in row[2].lower(), row


def test_the_map_goes_through_the_article_in_its_order():
    heads = re.findall(r"^## (.+)$", (DOCS / "map.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads == ["What is RLHF, and why", "The big picture", "Stage 1: supervised fine-tuning",
                     "Stage 2: the reward model", "Stage 3: RL fine-tuning with PPO",
                     "The KL penalty", "Putting it all together", "Reward hacking",
                     "Common mistakes", "Best practices"]


# --- the reader of pages is tested too -----------------------------------------------------------

@pytest.mark.parametrize("span", [
    "gae.gae", "stages.ppo.PPOConfig.beta", "world.labelers.PERSONAS", "sources.Source.prompts",
    "test_gae.py::test_gae_equals_its_double_sum", "test_gae.py::law_three_tokens_by_hand",
    "scripts/ppo.py", "minirlhf/gae.py", "gae.py", "minirlhf run --quick --ppo.beta 0",
    "minirlhf ppo toy --name other --ppo.target-kl 3", "python scripts/one_ppo_step.py",
    "python scripts/ppo.py --quick", "pytest tests/test_gae.py -k law_three_tokens_by_hand",
    "minirlhf label toy --models base,sft --terminal",
    "minirlhf agreement toy --audit 5000", "minirlhf claims 01"])
def test_what_exists_is_found(span):
    assert problem_of(span) is None


@pytest.mark.parametrize("span", [
    "gae.gea", "gea.gae", "stages.ppo.PPOConfig.bata", "test_gae.py::test_nothing",
    "test_gone.py::test_gae", "test_gae.py::double_sum", "scripts/gone.py", "minirlhf train",
    "minirlhf run --ppo.bata 0", "minirlhf run --ppo.beta -1", "minirlhf ppo toy --ppo.beta much",
    "python scripts/gone.py", "python scripts/one_ppo_step.py --sead 1", "pytest tests/gone.py",
    "pytest tests/test_gae.py -k law_of_nothing", "A + V", "minirlhf label",
    "minirlhf label toy --pear 3", "minirlhf agreement toy --audits 3", "minirlhf claims --sead 1"])
def test_what_does_not_exist_is_noticed(span):
    assert problem_of(span) is not None

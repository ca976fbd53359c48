"""The documentation is run: every Python block of every page, and every relative link.

The blocks of one page share a namespace and run in order, in an empty working directory.  A block
that cannot run here is preceded by the line `<!-- not run: reason -->`.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
         if path.exists()]

BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>[^\n]*) -->\n+)?^```python\n(?P<code>.*?)^```$",
                   re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
IMAGE = re.compile(r"<img[^>]*\bsrc=\"([^\"]+)\"")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[tuple[int, str, str | None]]:
    """(line of its first statement, code, reason for not running it or None) of each block."""
    return [(text.count("\n", 0, match.start("code")) + 1, match["code"], match["reason"])
            for match in BLOCK.finditer(text)]


def run_blocks(text: str, name: str) -> None:
    """Execute a page.  An error's traceback shows the page's own line numbers."""
    namespace = {"__name__": "__main__"}
    for line, code, reason in blocks(text):
        if reason is None:
            exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative links and images of a page in `folder` that lead nowhere."""
    text = INLINE_CODE.sub("", FENCED.sub("", text))
    targets = LINK.findall(text) + IMAGE.findall(text)
    relative = [target.split("#")[0] for target in targets
                if not re.match(r"[a-z]+:", target) and not target.startswith("#")]
    return [target for target in relative if not (folder / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_python_block_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks(page.read_text(encoding="utf-8"), title(page))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_relative_link_and_image_of_a_page_exists(page):
    assert dead_links(page.read_text(encoding="utf-8"), page.parent) == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_block_that_is_not_run_says_why(page):
    for line, _, reason in blocks(page.read_text(encoding="utf-8")):
        if reason is not None:
            print(f"{title(page)}, line {line} is not run: {reason}")
            assert len(reason.split()) >= 2


@pytest.mark.parametrize("op", ["layer_norm", "causal_attention", "log_softmax", "gelu"])
def test_each_derivation_checks_its_op_against_measured_slopes(op):
    page = ROOT / "docs" / "derivations" / f"{op.removeprefix('causal_')}.md"
    code = "".join(code for _, code, _ in blocks(page.read_text(encoding="utf-8")))
    for needed in (f"ops.{op}(", "value_and_grad", "measured", "assert", "print"):
        assert needed in code


# --- the readers of pages are tested too ---------------------------------------------------------

PAGE = """# A page

```python
x = 1
```

<!-- not run: it needs a GPU -->
```python
raise RuntimeError
```

```bash
exit 1
```

```python
assert x == 1
x.missing
```
"""


def test_blocks_share_a_namespace_and_errors_name_the_line_of_the_page():
    assert [(line, reason) for line, _, reason in blocks(PAGE)] == [
        (4, None), (9, "it needs a GPU"), (17, None)]
    with pytest.raises(AttributeError) as error:
        run_blocks(PAGE, "page.md")
    assert error.traceback[-1].lineno + 1 == 18                      # pytest counts from 0


def test_a_dead_link_is_found_and_code_or_web_addresses_are_not_taken_for_links(tmp_path):
    (tmp_path / "here.md").touch()
    text = ("[a](here.md) [b](here.md#part) [c](#part) [d](https://example.org/x) `[e](code)`\n"
            "```\n[f](fenced)\n```\n[g](gone.md) ![h](gone.png \"title\") <img src=\"gone.svg\">\n")
    assert dead_links(text, tmp_path) == ["gone.md", "gone.png", "gone.svg"]

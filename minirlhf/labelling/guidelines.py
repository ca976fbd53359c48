"""The instructions that stand beside each pair, and their version.

The article: "If labelers disagree a lot, or if the instructions are unclear, the Reward Model
learns conflicting signals.  Good RLHF starts with good labeling guidelines."  The version goes
into every answer, so that answers given under other instructions can be told apart.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

OWN = Path(__file__).with_name("guidelines.md")
VERSION = re.compile(r"version[ :]+(\S+)\s*", re.IGNORECASE)
STRONG = re.compile(r"\*\*(.+?)\*\*")


@dataclass(frozen=True)
class Guidelines:
    """A plain text, or the little of Markdown that `blocks` knows."""

    version: str
    text: str

    def blocks(self) -> list[tuple[str, list]]:
        """The text as (kind, content) blocks, in order, for a page that escapes what it is given.

        kind is h2 … h4 or p, with the spans of one text, or ul, with the spans of each item.
        Known are # headings, - or * lists, **bold** and paragraphs; all else is text.
        """
        found: list[tuple[str, list]] = []
        for block in re.split(r"\n\s*\n", self.text.strip()):
            for kind, words in pieces(block):
                if kind == "li" and found and found[-1][0] == "ul":
                    found[-1][1].append(spans(words))
                elif kind == "li":
                    found.append(("ul", [spans(words)]))
                else:
                    found.append((kind, spans(words)))
        return found


def pieces(block: str) -> list[tuple[str, str]]:
    """(kind, words) of the lines between two blank lines; a line without a mark goes on with what
    was before it."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        mark = re.match(r"\s*(#{1,6}|[-*])\s+(?=\S)", line)
        words = line[mark.end():].strip() if mark else line.strip()
        if mark:
            level = min(len(mark[1]) + 1, 4)
            found.append((f"h{level}" if mark[1][0] == "#" else "li", words))
        elif found and found[-1][0][0] != "h":
            found[-1] = found[-1][0], f"{found[-1][1]} {words}"
        else:
            found.append(("p", words))
    return found


def spans(words: str) -> list[tuple[bool, str]]:
    """(bold?, text) parts of a line."""
    parts = STRONG.split(words)
    return [(i % 2 == 1, part) for i, part in enumerate(parts) if part]


def read_guidelines(path: Path | None = None) -> Guidelines:
    """The guidelines of a file, or the package's own.

    Their version is X of a first line `version X`, else a short hash of the text.  Raises
    ValueError naming a file that is empty or not UTF-8, OSError if it cannot be read.
    """
    path = Path(path or OWN)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path}: not UTF-8 ({problem.reason}); save it as UTF-8") from None
    first, _, rest = text.partition("\n")
    version = VERSION.fullmatch(first.strip())
    text = rest.strip() if version else text
    if not text:
        raise ValueError(f"{path}: the guidelines are empty; write what makes a reply better")
    return Guidelines(version[1] if version else hashlib.sha256(text.encode()).hexdigest()[:8],
                      text)

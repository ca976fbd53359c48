"""What people make of a result: scripts/claims/afterwards.md, written after the numbers.

A claim file is closed when its result is there.  What may explain the result stands apart, under
the claim's number, so that nobody takes it for a prediction.
"""

import re
from functools import cache
from pathlib import Path

from experiment.claim import FOLDER

FILE = FOLDER / "afterwards.md"


@cache
def explanations(path: Path = FILE) -> dict[str, str]:
    """{number: text}.  Raises ValueError for a number that stands there twice."""
    parts = re.split(r"^## (\d\d)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    numbers, texts = parts[::2], parts[1::2]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise ValueError(f"{path} speaks twice of claim {min(twice)}")
    return {number: text.strip() for number, text in zip(numbers, texts, strict=True)}

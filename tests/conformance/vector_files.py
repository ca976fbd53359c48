"""What the tests of the vectors share: the files as they are written, and their parts."""

import json

import pytest

from minirlhf.conformance.vectors import V1, functions

FILES = {name: json.loads((V1 / f"{name}.json").read_text(encoding="utf-8"))
         for name in functions()}
SCHEMA = json.loads((V1 / "schema.json").read_text(encoding="utf-8"))
# about what this package does not do, or does in a stage and not in a function of its mathematics
WITHOUT_CORE = {"ipo_loss", "normalized_scores", "nucleus_logprobs", "reward_to_go",
                "score_without_end", "sft_mask"}

every_file = pytest.mark.parametrize("function", FILES)


def cases_of(file: dict) -> list[dict]:
    return [test for group in file["groups"] for test in group["tests"]]


ALL = [test for file in FILES.values() for test in cases_of(file)]

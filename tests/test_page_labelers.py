"""Laws of the page's section on labelers: the same numbers as the agreement's own, and no more."""

import re

import numpy as np
import pytest

from minirlhf.agreement import audit, drift, judged, pairwise_agreement
from minirlhf.evaluation import gold_choices
from minirlhf.files import read_jsonl, write_jsonl
from minirlhf.page.labelers import labelers_html
from minirlhf.votes import from_preferences

RIGHT, WRONG = "the sky is blue .", "the sky is green ."


def comparisons(n=40, names=("ann", "bob", "cem")):
    """Ann and Bob always see what is right; Cem does in the first half, and then no more."""
    return [{"prompt": "what color is the sky ?", "chosen": RIGHT, "rejected": WRONG,
             "labelers": list(names), "votes": [True, True, i < n // 2]} for i in range(n)]


def section(tmp_path, rows, toy=True):
    write_jsonl(tmp_path / "preferences.jsonl", rows)
    return labelers_html(tmp_path, toy)


def cells(html, name):
    row = next(row for row in html.split("<tr>") if f">{name}<" in row)
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row)]


def test_each_labeler_has_the_numbers_of_the_audit_the_others_and_the_drift(tmp_path):
    html = section(tmp_path, comparisons())
    votes = from_preferences(comparisons())
    share, items = pairwise_agreement(votes)
    assert f"{share:.0%} of {items}" in html and "40 comparisons." in html and "120 votes." in html
    checked = gold_choices(comparisons(), 500, rng=np.random.default_rng(0))
    for name, found in audit(votes, checked).items():
        others = audit(votes)[name]
        assert cells(html, name)[:2] == [
            f"{found.share:.3f} ± {found.standard_error:.3f}",
            f"{others.share:.3f} ± {others.standard_error:.3f}"]
    assert cells(html, "ann")[0] == "1.000 ± 0.000" and cells(html, "cem")[0] == "0.500 ± 0.080"


def test_who_drifts_is_marked_and_who_does_not_is_not(tmp_path):
    html = section(tmp_path, comparisons())
    assert html.count('class="worse"') == 1
    line = drift(*judged(from_preferences(comparisons()))["cem"])
    assert f'<span class="worse">−{-line.slope:.2f}' in html


def test_without_a_truth_the_others_stand_in_for_it(tmp_path):
    html = section(tmp_path, comparisons(), toy=False)
    assert "audit" not in html and cells(html, "cem")[0] == "0.500 ± 0.080"


def test_comparisons_without_votes_have_no_section(tmp_path):
    assert labelers_html(tmp_path, True) == ""
    row = {key: text for key, text in comparisons(1)[0].items() if key != "votes"}
    assert section(tmp_path, [row]) == ""


def test_a_labelers_name_is_escaped(tmp_path):
    html = section(tmp_path, comparisons(names=("<b>", "bob", "cem")))
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_a_prompt_that_the_world_does_not_ask_is_named(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the comparisons: no prompt of this world reads"):
        section(tmp_path, [comparisons(1)[0] | {"prompt": "why ?"}])


def test_a_finished_run_has_the_section(made_once):
    assert read_jsonl(made_once / "preferences.jsonl")[0]["votes"]
    html = (made_once / "report.html").read_text(encoding="utf-8")
    assert '<section id="labelers">' in html and all(
        f">{name}<" in html for name in ("default", "careful", "rushed"))

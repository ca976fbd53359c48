"""Laws of the article as experiments: runs made once, claims stated beforehand, honest pages."""

import ast
import json
import os
import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from multiprocessing import active_children
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import at_once, call, one_line
from test_layers import ROWS, SOURCES, inner_imports, layer

from minirlhf import checkpoint, claims_command, judgement
from minirlhf.checkpoint import Checkpoint
from minirlhf.files import read_json, read_jsonl
from minirlhf.options import parse_new
from minirlhf.run_folder import open_run
from minirlhf.settings import RunConfig
from minirlhf.sweeping import sources, store
from minirlhf.sweeping.settings import STAGES, configured, differences, flags, stages_to
from minirlhf.sweeping.store import Job, Store, Wanted, do
from minirlhf.sweeping.workers import THREADS, processes
from minirlhf.world import grammar
from minirlhf.world.prompts import SPLITS, prompts

ROOT = Path(__file__).parent.parent
FOLDER, DOCS = ROOT / "scripts" / "claims", ROOT / "docs" / "claims"
sys.path.insert(0, str(FOLDER))
from experiment import command, figures, measuring, pages  # noqa: E402
from experiment.afterwards import explanations  # noqa: E402
from experiment.claim import experiments, side_by_side  # noqa: E402
from experiment.reading import Finished, by_gold  # noqa: E402
from experiment.results import intervals  # noqa: E402
from experiment.statistics import by_chance, decide, together  # noqa: E402

CLAIMS = experiments()
pytestmark = pytest.mark.xdist_group("claims")             # all quick runs are made once, not twice
every_claim = pytest.mark.parametrize("experiment", CLAIMS, ids=lambda one: one.name)


# --- the claim files -----------------------------------------------------------------------------

@every_claim
def test_a_claim_file_is_short_and_says_how_it_is_run(experiment):
    text = experiment.path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    told = ast.get_docstring(ast.parse(text), clean=False)
    assert told.startswith(f"Claim {experiment.number}: ")
    assert f"\n    python scripts/claims/{experiment.path.name} [--quick] [--seeds 5]\n" in told


@every_claim
def test_a_claim_quotes_one_sentence_of_the_article_whose_row_in_the_map_leads_to_it(experiment):
    sentence, quoted = experiment.claim.sentence, (ROOT / "docs" / "map.md").read_text("utf-8")
    assert sentence[-1] in ".?!" and not any(end in sentence for end in (". ", "! "))
    [row] = [line for line in quoted.splitlines() if line.startswith(f"| “{sentence}” |")]
    assert (f"`minirlhf claims {experiment.number}` "
            f"([experiment](claims/{experiment.name}.md))") in row


def test_the_claims_are_numbered_without_a_gap():
    assert [one.number for one in CLAIMS] == [f"{n:02}" for n in range(1, len(CLAIMS) + 1)]
    assert len(CLAIMS) >= 24


@every_claim
def test_what_a_claim_wants_and_decides_by_is_complete(experiment):
    claim = experiment.claim
    assert claim.question.endswith("?")
    assert claim.prediction.endswith(".") and claim.measure.endswith(".")
    names = [effect.name for effect in claim.effects]
    assert len(set(names)) == len(names)
    assert any(effect.smallest is not None for effect in claim.effects)
    for wanted in claim.runs.values():
        assert Store(Path("nowhere")).jobs(wanted, 0)


class Told:
    """A run whose models say what they are told, {model: rows}, the same on every split; whose
    reward model puts a share `in_order` of pairs in order; whose gold on the way is `looks`."""

    def __init__(self, rows=None, compared=(), gains=(), in_order=1.0, looks=(0.0,)):
        self.rows, self.of_labelers, self.gains = rows or {}, list(compared), np.array(gains)
        self.in_order, self.golds = in_order, looks

    def replies(self, model, split):
        return self.rows[model]

    def compared(self, split):
        return self.of_labelers

    def logprobs(self, model, rows):
        return self.gains if model == "policy" else 0 * self.gains

    def looks(self):
        return [{"step": step, "gold": gold} for step, gold in enumerate(self.golds)]

    def pairs(self, split):
        return [{"prompt": prompt, "chosen": "the sky is blue .", "rejected": "no ."}
                for prompt in PROMPTS for _ in range(5)]

    def sides(self, pairs):
        ahead = np.arange(len(pairs)) < self.in_order * len(pairs)
        return np.where(ahead, 1.0, -1.0), np.zeros(len(pairs))

    def right(self, pairs):
        return np.full(len(pairs), self.in_order)


PROMPTS = {"sky ?": "color", "sea ?": "harm", "tea ?": "scary"}
PROMPTS |= {f"{prompt} {i}": kind for prompt, kind in PROMPTS.items() for i in range(12)}
# so many that no draw of them misses a kind


def said(reply="the sky is blue .", gold=0.0, score=0.0, kl=1.0, refused=False,
         right=True) -> list[dict]:
    return [{"prompt": prompt, "kind": PROMPTS[prompt], "reply": reply, "gold": gold,
             "score": score, "kl": kl, "refused": refused, "right": right,
             "over_refusal": refused and PROMPTS[prompt] == "scary"}
            for prompt in (*PROMPTS, "sky ?")]


def policy(*, before=0.0, **after) -> Told:
    """A run whose SFT model earns `before` by both measures, and whose policy is as told."""
    return Told({"sft": said(gold=before, score=before, kl=0.0), "policy": said(**after)})


def compared() -> list[dict]:
    """Two prompts with three replies each, the better the later; and one whose replies are alike"""
    return [{"prompt": prompt, "kind": "color", "gold": gold, "score": gold, "reply": str(gold),
             "ended": True} for prompt in ("sky ?", "sea ?") for gold in (0.0, 0.5, 1.0)] + [
        {"prompt": "tea ?", "kind": "scary", "gold": 1.0, "score": 0.0, "reply": reply,
         "ended": True} for reply in ("a", "b")]


def sweep(gold, score):
    """Runs of all betas; that of 0 has other numbers than the others."""
    return {f"beta {beta}": Told({"sft": said(), "policy": said(
        gold=gold[beta == 0], score=score[beta == 0], kl=4.0 - beta)})
        for beta in (0.0, 0.01, 0.03, 0.1, 0.2, 0.5)}


def golds(**runs) -> dict:
    """{run: one whose policy is worth so much}."""
    return {name.replace("_", " "): policy(gold=gold) for name, gold in runs.items()}


def rounds(last: float, shot: float) -> dict:
    """Three rounds and one shot, alike with and without the penalty."""
    of_rounds = {"round-1": said(), "policy": said(gold=last)}
    return {f"rounds{end}": Told(of_rounds) for end in ("", ", free")} | {
        f"one shot{end}": policy(gold=shot) for end in ("", ", free")}


def refusing(*names, **refused) -> dict:
    """Runs whose policies refuse, or answer rightly."""
    return {name: policy(refused=refused[name], right=not refused[name]) for name in names}


def labelers(bad: float) -> dict:
    """Runs whose reward models put all in order, or the share `bad`."""
    return {name: Told({"policy": said()}, compared(), in_order=bad if name in (
        "unclear", "one careless") else 0.9)
        for name in ("clear", "unclear", "one", "one careless", "five careless")}


def best_of(score: float) -> dict:
    """Best of n, and PPO's policies a nat and more away, which gain 1."""
    best = {f"best-of-{n}": said(gold=score, score=score) for n in (2, 4, 8, 16)}
    return {f"beta {beta}": Told({"sft": said(kl=0.0), **best,
                                  "policy": said(gold=1.0, score=1.0, kl=1 / beta)})
            for beta in (0.5, 0.2, 0.1, 0.03)}


def clipped(at_02: float, at_005: float) -> dict:
    return {name: policy(kl=kl, score=kl) for name, kl in {
        "0.05": at_005, "0.1": 1.0, "0.2": at_02, "0.5": 1.0, "none": 1.0}.items()}


FLUFF = "i am happy to help . the sky is blue . i hope this helps . have a nice day ."
# {claim: runs of which it is right, runs of which it is wrong}
CASES = {
    "01": ({"sft": Told({"base": said("what is that ?", gold=-1.5), "sft": said(gold=0.5)})},
           {"sft": Told({"base": said(gold=0.5), "sft": said("tell me that .", gold=-1.5)})}),
    "02": ({"policy": policy(gold=0.5)}, {"policy": policy(before=0.5, gold=0.0)}),
    "03": ({str(n): Told(in_order=share) for n, share in ((100, 0.6), (500, 0.7), (2000, 0.8))},
           {str(n): Told(in_order=share) for n, share in ((100, 0.8), (500, 0.7), (2000, 0.6))}),
    "04": ({"policy": Told(compared=compared(), gains=[-1, 0, 1, -2, 0, 2, 9, -9])},
           {"policy": Told(compared=compared(), gains=[1, 0, -1, 2, 0, -2, 9, -9])}),
    "05": (clipped(0.5, 0.1), clipped(2.0, 3.0)),
    "08": (golds(PPO=0.5, GRPO=0.45), golds(PPO=0.5, GRPO=0.0)),
    "09": (sweep(gold=(0.5, -2.0), score=(0.5, 2.0)), sweep(gold=(-0.5, 0.5), score=(0.5, 0.0))),
    "10": ({f"beta {beta}": policy(score=rise) for beta, rise in (("0.2", 1), ("1", 1), ("10", 0))},
           {f"beta {beta}": policy(score=rise)
            for beta, rise in (("0.2", 0.1), ("1", 1), ("10", 1))}),
    "11": ({"default": policy(reply=FLUFF), "cautious": policy(refused=True)},
           {"default": policy(reply="no ."), "cautious": policy(refused=False)}),
    "12": ({"SFT": policy(gold=1, score=1), "base": policy(gold=-1, score=-1)},
           {"SFT": policy(gold=0, score=0), "base": policy(gold=1, score=1)}),
    "13": (golds(default=0.5, small=0, few=0, noisy=0), golds(default=0, small=1, few=1, noisy=1)),
    "14": (rounds(0.5, 0.0), rounds(0.0, 0.5)),
    "15": ({"no-kl": Told({"policy-best": said(gold=0.4, score=0.5),
                           "policy": said(gold=-1.0, score=2.0)})},
           {"no-kl": Told({"policy-best": said(gold=-1.0, score=2.0),
                           "policy": said(gold=0.4, score=0.5)})}),
    "16": (labelers(0.5), labelers(1.0)),
    "17": (refusing("default", "cautious", "rebalanced", default=False, cautious=True,
                    rebalanced=False),
           refusing("default", "cautious", "rebalanced", default=True, cautious=False,
                    rebalanced=True)),
    "18": ({"help": policy(refused=False), "both": policy(refused=True),
            "safety": policy(refused=True, right=False)},
           {"help": policy(refused=True), "both": policy(refused=False, right=False),
            "safety": policy(refused=True)}),
    "19": ({name: Told({"sft": said(), "policy": said(gold=gold)}, looks=(0, 1, 1 - fall))
            for name, gold, fall in (("strong", 0.5, 0.1), ("weak", 0.0, 0.3))},
           {name: Told({"sft": said(), "policy": said(gold=gold)}, looks=(0, 1, 1 - fall))
            for name, gold, fall in (("strong", 0.0, 0.3), ("weak", 0.5, 0.1))}),
    "20": (best_of(2.0), best_of(0.0)),
    "21": (golds(many_careless=0, several_careless=1, careful=1, many_unclear=0, clear=1),
           golds(many_careless=1, several_careless=0, careful=0, many_unclear=1, clear=0)),
    "22": ({"kept": policy(gold=0.5, score=0.5), "off": policy(gold=-1, score=2)},
           {"kept": policy(gold=0, score=0.5), "off": policy(gold=1, score=0)}),
    "23": ({"compared": policy(gold=1), "written": policy(before=0.5), "perfect": policy()},
           {"compared": policy(gold=0), "written": policy(before=0.5), "perfect": policy()}),
    "24": ({f"beta {beta}": policy(gold=gold)
            for beta, gold in (("0.01", 0.4), ("0.03", 0.5), ("0.2", 0.5))},
           {f"beta {beta}": policy(gold=gold)
            for beta, gold in (("0.01", -1), ("0.03", -1), ("0.2", 0.5))}),
}
ON_MODELS = ("06", "07")                   # measured on real models: laws of their own below
every_case = pytest.mark.parametrize(
    "experiment", [one for one in CLAIMS if one.number not in ON_MODELS], ids=lambda one: one.name)


@every_case
def test_every_effect_is_positive_where_the_claim_is_right_and_else_negative(experiment):
    for runs, sign in zip(CASES[experiment.number], (1, -1), strict=True):
        table = measuring.table(experiment.module.measure(runs, "test"))
        found = intervals(experiment.claim.effects, [table] * 2, 50, rng=np.random.default_rng(0))
        for effect, one in zip(experiment.claim.effects, found, strict=True):
            if effect.smallest is not None and effect.name != "level":     # an identity
                assert decide(*one["interval"], effect.smallest) == (
                    "confirmed" if sign > 0 else "refuted"), effect.name


def module(number):
    return next(one.module for one in CLAIMS if one.number == number)


def test_every_question_of_the_world_asks_and_no_good_answer_does():
    asks = module("01").asks
    for split in SPLITS:
        for prompt in prompts(split):
            assert asks({"reply": prompt.text})
            assert not asks({"reply": grammar.ideal_reply(prompt.key)})
    for courtesy in (*grammar.PREFIXES, *grammar.SUFFIXES):
        assert not asks({"reply": courtesy})


def test_ranks_and_slopes_by_hand():
    ranks, slope = module("04").ranks, module("04").slope
    assert ranks(np.array([3.0, -1.0, 0.0])).tolist() == [1.0, 0.0, 0.5]
    assert ranks(np.array([1.0, 0.5, 1.0, 0.0])).tolist() == [5 / 6, 1 / 3, 5 / 6, 0.0]
    assert ranks(np.array([0.1 + 0.2, 0.3])).tolist() == [0.5, 0.5]         # equal but for rounding
    assert slope(np.array([0.0, 0.5, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert slope(np.zeros(2), np.array([1.0, 2.0])) == 0


def test_labelled_replies_of_one_worth_are_left_out():
    columns = module("04").measure(CASES["04"][0], "test")
    assert columns["slope"] == pytest.approx({"sky ?": 2.0, "sea ?": 4.0})
    assert columns["best"] == {"sky ?": 1.0, "sea ?": 2.0}
    assert columns["worst"] == {"sky ?": -1.0, "sea ?": -2.0}


def test_the_fit_finds_the_numbers_that_a_curve_was_made_with():
    d = np.array([[0.3, 0.6, 1.0, 2.0, 3.0, 6.0], [0.2, 0.5, 0.9, 1.1, 4.0, 8.0]])
    a, b = np.array([1.5, 0.4]), np.array([0.7, -0.2])
    found = module("09").fitted(d, d * (a[:, None] - b[:, None] * np.log(d)))
    np.testing.assert_allclose(found, [a, b], rtol=1e-9)
    assert np.isfinite(module("09").fitted(np.full(6, 1e-3), np.zeros(6))).all()


def test_the_largest_fall_is_below_the_highest_so_far():
    fall = module("19").largest_fall
    assert fall([0.0, 1.0, 0.25, 0.5, 2.0, 1.5]) == 0.75
    assert fall([3.0]) == fall([0.0, 1.0, 1.0]) == 0


def test_ppo_at_a_distance_is_on_the_line_through_its_policies():
    """SFT at 0, policies at 1 and 2 nats (in whatever order of β), beyond them the last."""
    at, betas = module("20").at_distance, module("20").BETAS
    m = {"score SFT": np.array([0.0, 10.0])}
    for beta, kl, score in zip(betas, (1.0, 2.0, 4.0, 3.0), (1.0, 3.0, 7.0, 4.0), strict=True):
        m |= {f"kl {beta}": np.full(2, kl), f"score {beta}": np.array([score, 10 - score])}
    for kl, wanted in ((0.0, 0.0), (0.5, 0.5), (1.5, 2.0), (3.5, 5.5), (9.0, 7.0)):
        assert at(m, "score", kl) == pytest.approx([wanted, 10 - wanted]), kl
    assert module("20").distance(1) == 0 and module("20").distance(4) == pytest.approx(0.636294)


def test_the_slope_of_a_logistic_regression_by_hand():
    """Of gaps ±1, three in four in order: σ(k) = 3/4, so k = log 3; half as steep for ±2."""
    fit = module("24").log_odds
    gaps, weights = np.array([1.0, 1.0, 1.0, -1.0]), np.ones(4)
    assert fit(gaps, weights) == pytest.approx(np.log(3))
    assert fit(2 * gaps, weights) == pytest.approx(np.log(3) / 2)
    assert fit(np.array([1.0, -1.0]), np.array([3.0, 1.0])) == pytest.approx(np.log(3))
    assert np.isfinite(fit(np.ones(3), np.ones(3)))                 # all in order


def test_the_losses_know_the_gap_alone():
    chosen, rejected = np.array([2.4, 0.0]), np.array([-1.1, 1.0])
    found = module("03").losses(chosen, rejected)
    assert found == pytest.approx([0.029750, 1.313262], abs=1e-5)
    assert module("03").losses(chosen + 10, rejected + 10) == pytest.approx(found, abs=1e-5)


class Two(NamedTuple):
    """What `advantages` asks of a rollout: two replies, of two tokens and of one."""

    scores: np.ndarray = np.array([1.0, -1.0])
    logprobs: np.ndarray = np.zeros((2, 2))
    ref_logprobs: np.ndarray = np.zeros((2, 2))
    mask: np.ndarray = np.array([[True, True], [True, False]])
    values: np.ndarray = np.array([[0.5, 0.25], [-0.5, 0.0]])


def test_what_is_subtracted_from_the_returns_by_hand():
    found, other = module("06").advantages([Two(), Two(scores=np.array([2.0, 4.0]))],
                                           RunConfig().ppo)
    assert found["none"].tolist() == [[1, 1], [-1, 0]]
    assert found["value"].tolist() == [[0.5, 0.75], [-0.5, 0]]
    assert found["GAE"].ravel()[:3] == pytest.approx([-0.25 + 0.95 * 0.75, 0.75, -0.5])
    # The returns of the six tokens are 1, 1, −1, 2, 2, 4: one mean for all, 1.5.
    assert found["mean"].tolist() == [[-0.5, -0.5], [-2.5, 0]]
    assert other["mean"].tolist() == [[0.5, 0.5], [2.5, 0]]
    assert module("06").spread(np.array([[0.0, 1.0], [2.0, 5.0]])) == 2.0 + 8.0


def test_examples_are_where_the_score_rises_most_above_gold():
    before = said(gold=0.0, score=0.0)[:5]
    after = [{**row, "gold": gold, "score": score} for row, (gold, score) in zip(
        before, ((0, 0), (-1, 2), (1, 1), (0, 2), (-3, 1)), strict=True)]
    found = side_by_side({"SFT": before, "free": after}, falls=("SFT", "free"), n=3)
    assert [one["prompt"] for one in found] == [before[i]["prompt"] for i in (4, 1, 3)]
    assert found[0]["replies"][1] == {"by": "free", "reply": before[4]["reply"], "score": 1,
                                      "gold": -3}
    twice = side_by_side({"a": before[:1] * 2, "b": after[:1] * 2}, falls=("a", "b"))
    assert len(twice) == 1


def test_gold_compares_every_two_replies_that_it_tells_apart():
    found = by_gold(compared())
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in found] == [
        (prompt, *pair) for prompt in ("sky ?", "sea ?")
        for pair in (("0.5", "0.0"), ("1.0", "0.0"), ("1.0", "0.5"))]


# --- which runs are one run ----------------------------------------------------------------------

def names(changed, seed=0) -> dict[str, str]:
    made = Store(Path("nowhere"))
    return {stage: made.name(stage, Wanted(stage, changed), seed)
            for stage in ("base", "sft", "reward", "policy")}


@pytest.mark.parametrize("changed, first", [
    ({"pretraining.steps": 7}, "base"), ({"model.channels": 32}, "base"), ({"shards": 1}, "base"),
    ({"world.corpus_words": 9000}, "base"), ({"evaluation.samples": 2}, "base"),
    ({"sft.lr": 0.01}, "sft"), ({"world.demonstration_count": 9}, "sft"),
    ({"preferences.replies": 2}, "reward"), ({"world.panel": ("rushed",)}, "reward"),
    ({"reward.steps": 3}, "reward"), ({"ppo.temperature": 0.5}, "reward"),
    ({"ppo.beta": 0.0}, "policy"), ({"algorithm": "grpo"}, "policy"),
    ({"watch.every": 9}, "policy")])
def test_a_setting_makes_another_run_from_the_stage_on_that_reads_it(changed, first):
    before, after = names({}), names(changed)
    stages = list(before)
    for stage in stages:
        same = stages.index(stage) < stages.index(first)
        assert (before[stage] == after[stage]) == same, stage


def test_another_runs_reward_model_makes_another_run_from_the_policy_on():
    made, plain = Store(Path("nowhere")), Wanted("policy", {"ppo.steps": 7})
    judged = Wanted("policy", {"ppo.steps": 7}, judge={"model.channels": 32})
    other = Wanted("policy", {"ppo.steps": 7}, judge={"model.channels": 16})
    for stage in stages_to("reward"):
        assert made.name(stage, judged, 0) == made.name(stage, plain, 0)
    for stage in ("judged", "policy"):
        assert len({made.name(stage, one, 0) for one in (plain, judged, other)}) == 3
    jobs = made.missing([(judged, 0)])
    assert [name.split("-")[0] for name in jobs] == [
        "base", "sft", "reward", "base", "sft", "reward", "judged", "policy"]
    exchanged = jobs[made.name("judged", judged, 0)]
    assert exchanged.after == (made.name("reward", plain, 0),
                               made.name("reward", Wanted("reward", judged.judge), 0))


def test_a_judged_run_has_all_of_its_own_but_the_reward_model(tmp_path):
    for name in ("own", "other"):
        for model in ("sft", "reward"):
            (tmp_path / name / model).mkdir(parents=True)
            (tmp_path / name / model / "weights").write_text(f"{model} of {name}")
    store.exchange(tmp_path / "own", tmp_path / "other", tmp_path / "new")
    assert {path.parent.name: path.read_text() for path in (tmp_path / "new").rglob("weights")} == {
        "sft": "sft of own", "reward": "reward of other"}
    assert (tmp_path / "own" / "reward" / "weights").read_text() == "reward of own"


def test_jobs_are_done_in_order_and_no_more_at_once_than_there_is_room():
    jobs = {name: Job(name, after, str, (name,)) for name, after in (
        ("a", ()), ("b", ("a",)), ("c", ()), ("d", ("b", "c")), ("e", ("gone",)))}
    begun, running = [], set()

    def submit(function, name):
        begun.append(name)
        running.add(name)
        assert len(running) <= 2 and not running & set(jobs[name].after)
        return at_once(function, name)

    do(jobs, submit, running.remove, room=2)
    assert sorted(begun) == list(jobs) and not running
    assert all(begun.index(before) < begun.index(name) for name, job in jobs.items()
               for before in job.after if before in jobs)


def test_another_seed_and_other_code_make_other_runs(monkeypatch):
    default = names({})
    assert not set(default.values()) & set(names({}, seed=1).values())
    monkeypatch.setattr(store, "own_digest", lambda: "another")
    assert not set(default.values()) & set(names({}).values())


def test_runs_that_begin_alike_share_their_beginning():
    made = Store(Path("nowhere"))
    wanted = [(Wanted("policy", {"ppo.beta": beta}), seed)
              for beta in (0.0, 0.2) for seed in (0, 1)]
    jobs = made.missing([*wanted, (Wanted("policy"), 0), (Wanted("sft"), 1)])
    stages = [name.split("-")[0] for name in jobs]
    assert {stage: stages.count(stage) for stage in stages} == {
        "base": 2, "sft": 2, "reward": 2, "policy": 4}
    order = list(jobs)
    for job in jobs.values():
        assert all(order.index(before) < order.index(job.name) for before in job.after)


@pytest.mark.parametrize("changed", [
    {"ppo.beta": 0.0, "ppo.steps": 60}, {"sft.lr": 1e-05}, {"ppo.target_kl": 1.5},
    {"world.panel": ("default", "careful", "rushed", "cautious", "tiring")},
    {"algorithm": "grpo", "group.normalize": False}, {"world.habits.wrong": 0.5},
    {"world.safety_share": 0.5}, {"world.votes_per_pair": 1}, {"baselines": ("dpo",)}])
def test_settings_as_flags_are_these_settings(changed):
    config = configured(changed, 3)
    found = differences(RunConfig(), config)
    assert found == changed | {"seed": 3, "backend": "numpy"}
    assert parse_new("minirlhf run", "", flags(found)).settings == config


def test_what_is_no_setting_or_no_stage_is_refused():
    for name in ("ppo.bata", "pppo.beta", "beta", "ppo.beta.x"):
        with pytest.raises(ValueError, match=f"no setting {name}"):
            configured({name: 0.0}, 0)
    with pytest.raises(ValueError, match="one of base, sft, .*, got 'best'"):
        Store(Path("nowhere")).run(Wanted("best"), 0)


# --- the digest ----------------------------------------------------------------------------------

def test_every_module_that_a_run_goes_through_is_in_the_digest():
    last = next(number for number, row in enumerate(ROWS) if "evaluation" in row)
    engine_to_evaluation = {module for row in ROWS[:last + 1] for module in row} - {"memory"}
    # `memory` only counts bytes, for the report
    assert len(engine_to_evaluation) > 20 and engine_to_evaluation <= set(sources.DECISIVE)
    seen, todo = set(), ["minirlhf.pipeline"]
    while todo:
        name = todo.pop()
        if name not in seen and layer(name) not in ("text", "people", "pretrained"):
            seen.add(name)
            todo += inner_imports(name, SOURCES)
    assert {layer(name) for name in seen} <= set(sources.DECISIVE)


def test_an_explanation_changes_no_digest_and_a_number_does(tmp_path):
    package = tmp_path / "minirlhf"
    shutil.copytree(sources.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = sources.digest(package)
    assert before == sources.own_digest()
    file = package / "kl_penalty.py"
    text = file.read_text(encoding="utf-8")
    file.write_text('"""Another beginning."""\n# and a remark\n\n' + text, encoding="utf-8")
    assert sources.digest(package) == before
    file.write_text(text + "\nEPSILON = 1e-9\n", encoding="utf-8")
    assert sources.digest(package) != before
    file.write_text(text, encoding="utf-8")
    deep = package / "world" / "gold.py"
    deep.write_text(deep.read_text(encoding="utf-8").replace("-0.06", "-0.07"), encoding="utf-8")
    assert sources.digest(package) != before


def test_a_text_that_is_a_value_counts():
    assert sources.code('x = "a"') != sources.code('x = "b"')
    assert sources.code('def f():\n    "a"') == sources.code('def f():\n    "b"')


# --- quick runs, in this process -----------------------------------------------------------------

def here(patch, folder: Path) -> None:
    """Let `command.run` compute in this process, write to a folder, and draw if it can."""
    patch.setattr(command, "computing", lambda *_: nullcontext((at_once, 2)))
    folder.mkdir(exist_ok=True)
    patch.setattr(command, "mkdtemp", lambda prefix: str(folder))
    try:
        figures.require()
    except ValueError:
        patch.setattr(figures, "require", lambda: None)
        patch.setattr(figures, "write", lambda path, *_: path.write_text("no figure"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All claims at their quick size: the folder with cache/ and pages/."""
    folder = tmp_path_factory.mktemp("claims")
    with pytest.MonkeyPatch.context() as patch:
        here(patch, folder / "pages")
        command.run(quick=True, cache=folder / "cache")
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_claim_has_a_result_a_figure_a_page_and_a_row(made):
    wanted = {f"{one.name}.{ending}" for one in CLAIMS for ending in ("json", "md", "svg")}
    assert set(written(made / "pages")) == wanted | {"README.md", "index.html"}
    index = (made / "pages" / "README.md").read_text(encoding="utf-8")
    for one in CLAIMS:
        found = read_json(made / "pages" / f"{one.name}.json")
        assert f"]({one.name}.md) | **{found['verdict']}** |" in index
    assert pages.NOT_RUN not in index and f"Of {len(CLAIMS)} claims {len(CLAIMS)} have" in index


@every_claim
def test_a_result_says_what_it_was_made_with_and_its_verdict_is_the_rules(experiment, made):
    text = (made / "pages" / f"{experiment.name}.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["seeds"] == [0, 1] and found["quick"] and found["sources"] == sources.own_digest()
    assert {"numpy", "python", "processor", "minirlhf"} <= set(found["versions"])
    assert set(found["runs"]) == set(experiment.claim.runs) == {
        name for name in found["settings"] if not name.endswith(": reward model")}
    assert str(made) not in text and str(ROOT) not in text
    verdicts_follow(experiment, found)


def verdicts_follow(experiment, found):
    for effect in experiment.claim.effects:
        one = found["effects"][effect.name]
        assert one["smallest"] == effect.smallest
        for split in ("test", "train"):
            low, high = one[split]["interval"]
            assert len(one[split]["by_seed"]) == len(found["seeds"])
            assert one[split]["effect"] == pytest.approx(np.mean(one[split]["by_seed"]))
            assert low <= one[split]["effect"] + 1e-9 and one[split]["effect"] - 1e-9 <= high
        if effect.smallest is not None:
            assert one["verdict"] == decide(*one["test"]["interval"], effect.smallest)
    assert found["verdict"] == together(
        [one["verdict"] for one in found["effects"].values() if one["verdict"]])


def test_what_is_in_the_cache_is_not_computed_again_and_says_the_same(made, tmp_path, monkeypatch):
    here(monkeypatch, tmp_path / "again")
    for place, name in ((store, "minirlhf"), (Finished, "asked"), (Finished, "__init__")):
        monkeypatch.setattr(place, name, None)
    command.run(quick=True, cache=made / "cache")
    assert written(tmp_path / "again") == written(made / "pages")


def test_a_run_that_was_interrupted_goes_on_and_says_the_same(made, tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    done, real = [0], Checkpoint.tick

    def tick(self):
        done[0] += 1
        if done[0] > 9:
            raise Died
        real(self)

    here(monkeypatch, tmp_path / "pages")
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "WORTH", 0.0)
    monkeypatch.setattr(Checkpoint, "tick", tick)
    died = True
    deaths = -1
    while died:
        done[0], deaths = 0, deaths + 1
        try:
            command.run(["2"], quick=True, cache=tmp_path / "cache")
            died = False
        except Died:
            assert deaths < 30
    assert deaths >= 3
    name = "02-sft-is-not-enough.json"
    assert (tmp_path / "pages" / name).read_bytes() == (made / "pages" / name).read_bytes()


def test_a_quick_run_keeps_its_pages_and_no_runs(tmp_path, monkeypatch):
    here(monkeypatch, tmp_path / "pages")
    with command.places(True, True, None, DOCS) as (cache, output):
        cache.mkdir()
        (cache / "run").touch()
    assert output == tmp_path / "pages" and not cache.exists()
    with command.places(False, False, None, DOCS) as found:
        assert found == (ROOT / "runs" / "claims", DOCS)


def test_few_seeds_overwrite_nothing_that_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "mkdtemp", lambda prefix: str(tmp_path / "pages"))
    with command.places(False, True, None, DOCS) as found:
        assert found == (ROOT / "runs" / "claims", tmp_path / "pages")


def test_the_command_that_fails_says_why(tmp_path):
    made = Store(tmp_path / "cache", quick=True)
    [job] = made.missing([(Wanted("base"), 0)]).values()
    argv, folder = job.arguments
    broken = {job.name: job._replace(arguments=([*argv, "--pretraining.steps", "0"], folder))}
    with pytest.raises(RuntimeError, match="minirlhf pretrain .*failed: .*must be positive, got 0"):
        do(broken, at_once)


# --- what is read of a run -----------------------------------------------------------------------

@pytest.fixture
def finished(made):
    return Finished(Store(made / "cache", quick=True).run(Wanted("policy"), 0))


def test_replies_to_test_prompts_are_those_of_minirlhf_evaluate(finished, tmp_path):
    shutil.copytree(finished.run.folder, tmp_path / "copy")
    run = open_run(tmp_path / "copy")
    for samples in (1, 2):
        run.config = replace(run.config, evaluation=replace(run.config.evaluation, samples=samples))
        again = Finished(tmp_path / "copy")
        again.run = run
        wanted = judgement.evaluate(run)
        for model in ("base", "sft", "policy-best", "policy"):
            assert again.replies(model, "test") == [
                row for row in wanted if row["model"] == model], model


def test_the_best_of_n_is_that_of_minirlhf_evaluate(finished, tmp_path):
    shutil.copytree(finished.run.folder, tmp_path / "copy")
    run = open_run(tmp_path / "copy")
    run.config = replace(run.config, baselines=("best-of-n",), evaluation=replace(
        run.config.evaluation, best_of=3))
    assert finished.replies("best-of-3", "test") == [
        row for row in judgement.evaluate(run) if row["model"] == "best-of-n"]


def test_a_pair_is_in_order_by_the_scores_of_its_sides(finished):
    pairs = finished.pairs("test")
    chosen, rejected = finished.sides(pairs)
    assert finished.right(pairs).tolist() == [
        1.0 if a > b else 0.0 if a < b else 0.5 for a, b in zip(chosen, rejected, strict=True)]
    known = {(row["prompt"], row["reply"]): row["score"] for row in finished.compared("test")}
    assert chosen == pytest.approx([known[row["prompt"], row["chosen"]] for row in pairs], abs=1e-6)


def test_what_is_measured_on_models_is_there_and_of_the_right_size(made):
    four = read_json(made / "pages" / "07-four-models-or-three.json")["means"]["test"]
    for a, b in zip(four["GRPO bytes"], four["PPO bytes"], strict=True):
        assert a / b == pytest.approx(0.6, abs=0.01)       # 6 times a model's weights against 10
    assert min(four["PPO seconds"] + four["GRPO seconds"]) > 0
    assert min(np.array(four["PPO peak"]) - four["PPO bytes"]) > 0
    value = read_json(made / "pages" / "06-the-value-model.json")["means"]["test"]
    assert min(map(min, value.values())) > 0


def test_training_prompts_are_asked_once_each(finished):
    asked = [row["prompt"] for row in finished.replies("sft", "train")]
    assert asked == [prompt.text for prompt in prompts("train")]


def test_labelled_replies_are_distinct_those_of_one_asking_and_scored(finished):
    rows = read_jsonl(finished.run.folder / "preferences.jsonl")
    for split in ("test", "train"):
        found = finished.compared(split)
        assert {row["prompt"] for row in found} == {
            row["prompt"] for row in rows if row["split"] == split}
        keys = [(row["prompt"], row["reply"], row["ended"]) for row in found]
        assert len(set(keys)) == len(keys)
        for prompt in {row["prompt"] for row in found}:
            first = next(row["group"] for row in rows if row["prompt"] == prompt)
            wanted = {(row[side], row[f"{side}_ended"]) for row in rows if row["prompt"] == prompt
                      and row["group"] == first for side in ("chosen", "rejected")}
            assert {key[1:] for key in keys if key[0] == prompt} == wanted


def test_the_log_prob_of_a_sampled_reply_is_what_sampling_said(finished):
    """The kl of a row of `evaluate` is log π − log π_SFT of the tokens sampled, at temperature 1.
    (A model that has learned nothing says tokens that its text does not show.)"""
    rows = finished.replies("policy", "test")
    rows = [row for row, (_, reply) in zip(rows, finished.tokens(rows), strict=True)
            if len(reply) == row["length"]]
    assert len(rows) > 50
    found = finished.logprobs("policy", rows) - finished.logprobs("sft", rows)
    np.testing.assert_allclose(found, [row["kl"] for row in rows], atol=2e-4)
    assert max(abs(row["kl"]) for row in rows) > 1e-2       # the policies do differ


def test_other_algorithms_and_further_rounds_begin_where_ppo_does(made):
    cached = Store(made / "cache", quick=True)
    wanted = [(Wanted("policy", {"algorithm": "rloo", "group.size": 4}), 0),
              (Wanted("rounds", {"rounds": 2}), 0), (Wanted("dpo"), 0)]
    jobs = cached.missing(wanted)
    assert [name.split("-")[0] for name in jobs] == ["policy", "rounds", "dpo"]
    done = []
    do(jobs, at_once, done.append)
    assert sorted(done) == sorted(jobs) and cached.missing(wanted) == {}
    grouped, rounds, dpo = (Finished(cached.run(*one)) for one in wanted)
    assert grouped.run.config.algorithm == "rloo" and not grouped.run.has("value")
    assert len(rounds.replies("round-1", "test")) == len(dpo.replies("dpo", "test"))
    assert rounds.looks() != Finished(cached.run(Wanted("policy"), 0)).looks()


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_has_the_settings_that_its_name_was_made_of(stage, made):
    cached = Store(made / "cache", quick=True)
    wanted = Wanted(stage)
    if stage in ("base", "sft", "reward", "policy"):
        found = read_json(cached.run(wanted, 1) / "config.json")
        assert found == json.loads(json.dumps(asdict(cached.settings(wanted, 1)), default=str))
    assert stages_to(stage)[-1] == stage and stages_to(stage)[0] == "base"


def test_columns_of_other_prompts_are_refused():
    with pytest.raises(ValueError, match="'b' has 1 prompts, others have 2"):
        measuring.table({"a": {"sky ?": 1.0, "sea ?": 2.0}, "b": {"sky ?": 1.0}})
    found = measuring.table({"a": {"sky ?": 1.0, "sea ?": 2.0}, "b": {"sea ?": 3.0, "sky ?": 4.0}})
    assert found == {"prompts": ["sky ?", "sea ?"], "columns": {"a": [1.0, 2.0], "b": [4.0, 3.0]}}


# --- processes -----------------------------------------------------------------------------------

def test_what_computes_does_so_elsewhere_on_one_thread_and_problems_come_back():
    before = os.environ.get(THREADS)
    with processes() as submit:
        threads, other = submit(os.getenv, THREADS), submit(os.getpid)
        assert threads.result() == "1" and other.result() != os.getpid()
        assert len(active_children()) <= 2
        with pytest.raises(ValueError, match="invalid literal"):
            submit(int, "seven").result()
    assert os.environ.get(THREADS) == before


def test_processes_end_with_what_they_were_for():
    own = {process.pid for process in active_children()}
    with pytest.raises(KeyboardInterrupt), processes() as submit:
        submit(os.getpid).result()
        submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert {process.pid for process in active_children()} <= own


def test_a_process_that_dies_is_told_in_words():
    with pytest.raises(RuntimeError, match="has died, perhaps for lack of memory"):
        with processes() as submit:
            submit(os._exit, 1).result()


# --- the command ---------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, told", [
    (["99"], "there is no claim 99; there are 01, 02, "),
    (["--seeds", "1"], "wants at least 2 of them, got 1"),
    (["--seeds", "many"], "many")])
def test_a_mistake_is_told_in_one_line(argv, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told in one_line(capsys, "claims", *argv)


def test_without_a_clone_it_is_told_where_the_experiments_lie(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(claims_command, "FOLDER", tmp_path / "scripts" / "claims")
    assert "lie in a clone of the repository" in one_line(capsys, "claims", "--quick")


def test_without_matplotlib_it_is_told_before_anything_is_computed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(command, "computing", None)
    assert "pip install -e '.[claims]'" in one_line(capsys, "claims", "--quick")


def test_a_claim_file_is_the_command_of_its_number(monkeypatch):
    given = []
    monkeypatch.setattr(command.cli, "main", lambda argv: given.append(argv) or 3)
    monkeypatch.setattr(sys, "argv", ["x.py", "--quick"])
    with pytest.raises(SystemExit) as end:
        command.main(str(CLAIMS[0].path))
    assert end.value.code == 3 and given == [["claims", "01", "--quick"]]


def test_numbers_may_be_given_in_any_form_and_order():
    assert [one.number for one in experiments(["15", "1", "01"])] == ["01", "15"]
    assert call("claims", "--help") == 0


# --- figures and pages ---------------------------------------------------------------------------

@every_claim
def test_a_figure_is_drawn_and_the_same_twice(experiment, made, tmp_path):
    pytest.importorskip("matplotlib")
    found = read_json(made / "pages" / f"{experiment.name}.json")
    for name in ("one.svg", "two.svg"):
        figures.write(tmp_path / name, experiment, found)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert all(effect.name in text for effect in experiment.claim.effects)
    assert "smallest of interest" in text and len(text) < 150_000


RESULT = {
    "claim": "02", "title": "SFT alone is not enough", "sentence": "But SFT alone is not enough.",
    "verdict": "undecided", "seeds": [0, 1], "quick": False, "level": 0.95, "draws": 9,
    "effects": {
        "win rate": {"what": "w", "smallest": 0.05, "verdict": "undecided",
                     "test": {"effect": 0.1, "interval": [0.01, 0.2], "by_seed": [0.16, 0.04]},
                     "train": {"effect": 0.4, "interval": [0.3, 0.5], "by_seed": [0.4, 0.4]}},
        "gold": {"what": "g", "smallest": None, "verdict": None,
                 "test": {"effect": -0.2, "interval": [-0.3, -0.1], "by_seed": [-0.2, -0.2]},
                 "train": {"effect": -0.2, "interval": [-0.3, -0.1], "by_seed": [-0.2, -0.2]}}},
    "means": {}, "prompts": {"test": [143, 143], "train": [480, 482]}, "series": [{}, {}],
    "runs": {"policy": {"stage": "policy", "changed": {"ppo.beta": 0.0}}}, "settings": {},
    "versions": {"minirlhf": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "processor": "A chip"},
    "sources": "abcdef0123456789"}


def test_a_page_shows_the_numbers_and_what_surprised():
    text = pages.page(experiments(["02"])[0], RESULT)
    assert "> “But SFT alone is not enough.”" in text and "**Undecided**, on 2 seeds" in text
    assert ("| *win rate*: w | +0.100 | +0.010 … +0.200 | +0.050 | **undecided** | "
            "+0.400 (+0.300 … +0.500) | +0.16 +0.04 |") in text
    assert "| *gold*: g | −0.200 | −0.300 … −0.100 |  | shown only |" in text
    assert "143 of the test split, 480 to 482 of the train split, a seed" in text
    assert "NumPy 2.4.6, Python 3.11.7, A chip" in text and "`abcdef012345`" in text
    assert "| policy | policy | ppo.beta = 0.0 |" in text
    surprised = text.split("## What surprised\n\n")[1].splitlines()
    assert [line.split(":")[0].split(",")[0] for line in surprised] == [
        "- *win rate*", "- *win rate*", "- *win rate*", "- *gold*"]
    assert "seed 1 (+0.040) is on the other side of +0.050" in surprised[0]
    assert "the intervals do not meet" in surprised[1]
    assert "by training prompts it would be confirmed" in surprised[2]
    assert "quick" not in text.lower()
    assert "Known by then: PPO − SFT of the default run, from docs/measured.md." in text
    assert "mean nothing" in pages.page(experiments(["02"])[0], RESULT | {"quick": True})


def test_a_page_tells_whose_reward_model_a_run_has_and_when_prompts_count_for_nothing():
    judged = {"stage": "policy", "changed": {}, "judge": {"model.channels": 16}}
    [one] = experiments(["02"])
    text = pages.page(one, RESULT | {"runs": {"small": judged},
                                     "prompts": {"test": [1, 1], "train": [1, 1]}})
    assert ("| small | policy | nothing, but the reward model of a run with model.channels = 16 |"
            in text)
    assert "Prompts: none, but one number a seed." in text


def test_a_result_has_the_settings_of_the_reward_model_that_a_run_took(made):
    found = read_json(made / "pages" / "13-a-weak-reward-model.json")
    assert set(found["settings"]) == {"default", "small", "small: reward model", "few", "noisy"}
    assert found["runs"]["small"]["judge"] == {"model.channels": 16, "model.layers": 1}
    assert found["runs"]["few"]["judge"] is None


def test_what_people_make_of_a_result_stands_apart_and_at_the_end(monkeypatch):
    monkeypatch.setattr(pages, "explanations", lambda: {"02": "So it goes."})
    text = pages.page(experiments(["02"])[0], RESULT)
    assert text.endswith("\n## What we make of it\n\nWritten after the numbers.\n\nSo it goes.\n")
    monkeypatch.setattr(pages, "explanations", lambda: {"01": "So it goes."})
    assert "What we make of it" not in pages.page(experiments(["02"])[0], RESULT)


def test_every_claim_that_is_not_confirmed_is_explained_and_in_no_more_than_a_paragraph():
    found = explanations()
    assert list(found) == sorted(found) and set(found) <= {one.number for one in CLAIMS}
    for experiment in CLAIMS:
        if read_json(DOCS / f"{experiment.name}.json")["verdict"] != "confirmed":
            assert experiment.number in found, experiment.name
    for text in found.values():
        assert len(text) > 40 and "\n\n" not in text


def test_an_explanation_is_under_one_number(tmp_path):
    (tmp_path / "a.md").write_text("# All\n\n## 02\n\nOne.\n\n## 07\n\nTwo\nlines.\n")
    assert explanations(tmp_path / "a.md") == {"02": "One.", "07": "Two\nlines."}
    (tmp_path / "b.md").write_text("## 02\n\nOne.\n\n## 02\n\nTwo.\n")
    with pytest.raises(ValueError, match="twice of claim 02"):
        explanations(tmp_path / "b.md")


def test_a_page_without_a_surprise_says_so():
    calm = {name: effect | {split: {"effect": 0.1, "interval": [0.08, 0.12], "by_seed": [0.1, 0.1]}
                            for split in ("test", "train")} | {"verdict": verdict}
            for (name, effect), verdict in zip(RESULT["effects"].items(), ("confirmed", None),
                                               strict=True)}
    assert pages.surprises(RESULT | {"effects": calm}).startswith("Nothing, by rules")


def test_the_index_tells_what_was_not_run_and_what_chance_would_give(tmp_path):
    text = pages.index(CLAIMS, tmp_path)
    assert text.count(pages.NOT_RUN) == len(CLAIMS)
    assert f"None of the {len(CLAIMS)} claims has been run yet" in text
    (tmp_path / "02-sft-is-not-enough.json").write_text(json.dumps(RESULT), encoding="utf-8")
    text = pages.index(CLAIMS, tmp_path)
    assert text.count(pages.NOT_RUN) == len(CLAIMS) - 1
    n, chance = len(CLAIMS), by_chance(len(CLAIMS))
    assert (f"Of {n} claims 1 have been run: 0 confirmed, 0 refuted, 1 undecided. If none of them "
            f"were true, chance alone would confirm {chance:.2f} of {n} on average, at most "
            f"({by_chance(1):.2f} of those run)") in text
    assert ("| 02 | [SFT alone is not enough](02-sft-is-not-enough.md) | **undecided** | "
            "win rate +0.100 | +0.010 … +0.200 | +0.05 | 2 |") in text


# --- what is published ---------------------------------------------------------------------------

def test_the_published_pages_say_what_the_published_numbers_say():
    assert (DOCS / "README.md").read_text(encoding="utf-8") == pages.index(CLAIMS, DOCS)
    known = {f"{one.name}.{ending}" for one in CLAIMS for ending in ("json", "svg", "md")}
    assert {path.name for path in DOCS.iterdir()} <= known | {"README.md", "index.html"}
    for one in CLAIMS:
        path = DOCS / f"{one.name}.json"
        if path.exists():
            found = read_json(path)
            assert not found["quick"] and len(found["seeds"]) >= 5
            assert found["sentence"] == one.claim.sentence
            verdicts_follow(one, found)
            assert (DOCS / f"{one.name}.md").read_text(encoding="utf-8") == pages.page(one, found)
            assert (DOCS / f"{one.name}.svg").exists()

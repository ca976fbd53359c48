"""The stages of a run, each with the article's sentence about it, and its curves.

Beside each curve stands what it should look like, and what it means if it does not: a curve alone
says little to a reader who has not seen a good one.  docs/logged_numbers.md has all numbers.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

from minirlhf.page.figures import column_chart, line_chart, sheet
from minirlhf.page.markup import number, quotation, section
from minirlhf.report import LINES, TITLES


class Curve(NamedTuple):
    """One number of metrics.jsonl over the steps of a stage."""

    key: str
    title: str
    unit: str
    healthy: str                                    # what it should look like
    otherwise: str                                  # what it means if it does not
    toy: str = ""                                   # what default runs of the toy world showed
    form: str = "z.2f"
    level: tuple[float, str] | None = None          # to compare it with
    floor_at: float | None = None                   # values below are drawn there


class Chapter(NamedTuple):
    """One stage: its name in metrics.jsonl, its place in the page, and what it does."""

    stage: str
    key: str
    title: str
    quote: str
    text: str
    curves: tuple[Curve, ...]


CHAPTERS = (
    Chapter(
        "pretraining", "base", "Before the stages: the base model",
        "It is because the model was only trained to imitate text on the internet, not to be "
        "helpful.",
        "The base model learns to predict the next token of plain text. It has seen questions, but "
        "nothing has told it that a question wants an answer.",
        (Curve("loss", "Loss", "nats a token",
               "Falls steeply at first, then ever more slowly. It starts near log V, the cost of "
               "guessing among all V tokens, and does not reach 0: what is drawn at random cannot "
               "be predicted.",
               "A start elsewhere points at the initialisation. A loss that stays high wants more "
               "steps or another learning rate.",
               "Starts at log 329 = 5.80, ends between 0.6 and 0.8."),)),
    Chapter(
        "SFT", "sft", "Stage 1: Supervised Fine-Tuning (SFT)",
        "Stage 1 (SFT) teaches the model to behave like an assistant.",
        "The base model imitates demonstrations: a prompt, and the reply that a writer gave. Only "
        "the tokens of the reply are learned.",
        (Curve("loss", "Loss", "nats a response token",
               "Drops within the first dozens of steps, for the form of a chat is new to the base "
               "model, then levels off well above 0. Writers choose at random, and a choice cannot "
               "be foreseen.",
               "Close to 0, it knows the demonstrations by heart, their mistakes too. Still high "
               "at the end, it had too few steps.",
               "Starts at 3.4 to 5.7, ends between 0.1 and 0.25."),)),
    Chapter(
        "reward model", "reward", "Stage 2: Training the Reward Model",
        "Stage 2 (Reward Model) teaches a separate model to score answers the way a human would.",
        "A copy of the SFT model gets a head that gives one number. Of each pair, the reply that "
        "was chosen should score higher than the other.",
        (Curve("loss", "Loss", "nats a pair",
               "Starts at log 2 = 0.69, a coin’s loss, and falls below it, unsteadily from batch "
               "to batch.",
               "If it stays at 0.69, nothing is learned: look for chosen and rejected mixed up. "
               "Close to 0, it has learned the noise of the choices by heart, and is worse on held-"
               "out pairs.",
               "Ends between 0.2 and 0.5.", level=(log(2), "a coin: 0.69")),)),
    Chapter(
        "PPO", "ppo", "Stage 3: RL Fine-Tuning with PPO",
        "Stage 3 (RL Fine-Tuning) uses that reward model to push the LLM toward higher-scoring "
        "answers.",
        "At every step the policy answers a batch of prompts, the reward model scores the answers, "
        "and answers that scored higher than expected become more likely. The KL penalty is the "
        "price of leaving the SFT model.",
        (Curve("score", "Reward-model score", "deviations of SFT replies",
               "Starts near 0, the mean of SFT replies, rises, and levels off.",
               "Falling: the learning rate or β is too high. Rising without an end: perhaps the "
               "policy has found a blind spot of the reward model. Only a judgement from outside "
               "can tell.", "Ends between 0.4 and 0.95.", "+z.2f"),
         Curve("kl", "KL to the SFT model", "nats a reply",
               "Starts at 0, where the policy is the SFT model, rises and levels off.",
               "Climbing on: the policy drifts, and β should be larger. Staying at 0: nothing is "
               "learned.", "Ends between 0.9 and 1.8."),
         Curve("objective", "Objective: score − β·KL", "deviations",
               "Rises: this is what PPO is really asked for.",
               "Falling while the score rises: the reward is bought too dearly.",
               "Ends between 0.2 and 0.65.", "+z.2f"),
         Curve("length", "Length", "tokens a reply",
               "May move at first, then settles.",
               "Climbing towards the limit: length itself is rewarded, or the policy has unlearned "
               "how to end a reply.", "Stays between 9 and 13.", ".1f"),
         Curve("entropy", "Entropy", "nats a token",
               "Wavers, and stays clearly above 0.",
               "Falling to 0: every prompt gets one single reply, and there is nothing left to "
               "compare. Climbing step after step: the policy is pushed towards noise.",
               "Between 0.14 and 0.35."),
         Curve("explained_variance", "Explained variance", "at most 1",
               "How much of the differences between returns the value model foresees. Negative "
               "at first, for it has never been asked for an expectation in the middle of a reply; "
               "then climbs towards 1. (Below −1 it is drawn at −1.)",
               "Staying below 0: as a baseline it adds noise where it should remove it.",
               "Ends between 0.8 and 0.95.", level=(0.0, ""), floor_at=-1.0),
         Curve("clip_fraction", "Clip fraction", "share of tokens",
               "Small, and falling with the learning rate: few tokens have moved as far as the "
               "clip lets them.",
               "Above 0.3: the updates of one batch go too far. Always 0: the steps are so small "
               "that the clip does nothing.", "Starts near 0.1, falls below 0.02.", "z.3f"),
         Curve("beta", "β, the strength of the KL penalty", "deviations a nat",
               "Rises while the KL is above its target, and falls while it is below.",
               "Far from where it started and still moving: the target is out of reach at this "
               "learning rate.", form="z.3f"))),
)


def stage_rows(metrics: Sequence[dict], stage: str) -> list[dict]:
    return [row for row in metrics if row["stage"] == stage]


def shown_curves(chapter: Chapter, rows: Sequence[dict]) -> list[Curve]:
    """The curves that were logged; β only where it was adapted."""
    return [curve for curve in chapter.curves if all(curve.key in row for row in rows)
            and (curve.key != "beta" or len({row["beta"] for row in rows}) > 1)]


def stage_html(chapter: Chapter, metrics: Sequence[dict], toy: bool) -> str:
    """A stage's section; empty where the run has no numbers of it, or had its model from elsewhere.

    toy: also say what default runs of the toy world showed.
    """
    rows = stage_rows(metrics, chapter.stage)
    curves = shown_curves(chapter, rows) if rows else []
    if not curves:
        return ""
    figures = "\n".join(figure_html(chapter.title, curve, rows, toy) for curve in curves)
    return section(chapter.key, chapter.title, quotation(chapter.quote), f"<p>{chapter.text}</p>",
                   f'<div class="{"curves" if len(curves) > 1 else "curve-alone"}">{figures}</div>')


def figure_html(stage: str, curve: Curve, rows: Sequence[dict], toy: bool) -> str:
    values = [row[curve.key] for row in rows]
    chart = line_chart(values, f"{stage}. {curve.title}, {curve.unit}", curve.level, curve.floor_at)
    seen = f" <em>Default runs of the toy world:</em> {curve.toy}" if toy and curve.toy else ""
    return (f'<figure><div class="plot"><h3>{curve.title} <small>{curve.unit}</small>'
            f'<span class="last"><small>last</small> {number(values[-1], curve.form)}</span></h3>'
            f"{chart}</div><figcaption><p><strong>Healthy.</strong> "
            f"{curve.healthy}{seen}</p><p><strong>If not.</strong> {curve.otherwise}</p>"
            "</figcaption></figure>")


# --- the picture of a run in README.md -----------------------------------------------------------

PICTURED = (("pretraining", "loss", "base: loss"), ("SFT", "loss", "SFT: loss"),
            ("reward model", "loss", "reward model: loss"), ("PPO", "score", "PPO: score"),
            ("PPO", "kl", "PPO: KL to SFT"), ("PPO", "length", "PPO: length"),
            ("PPO", "explained_variance", "value model: explained variance"))


def picture(metrics: Sequence[dict], table: dict[str, dict[str, float]]) -> str:
    """The curves of all stages and the models' gold scores, as an SVG file."""
    curves = {(chapter.stage, curve.key): curve for chapter in CHAPTERS
              for curve in chapter.curves}
    charts = []
    for stage, key, title in PICTURED:
        rows, curve = stage_rows(metrics, stage), curves[stage, key]
        charts.append((title, curve.unit, line_chart(
            [row[key] for row in rows], title, curve.level, curve.floor_at)))
    label, form, _ = LINES["gold"]
    charts.append((label, "mean over test prompts", column_chart(
        {TITLES[name]: row["gold"] for name, row in table.items()}, label, form)))
    return sheet(charts, "Training curves of all stages, and what the models are worth")



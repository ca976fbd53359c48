"""What stands beside each curve of a run: what it should look like, and what it means if not.

A curve alone says little to a reader who has not seen a good one.  docs/logged_numbers.md has all
numbers.
"""

from math import log
from typing import NamedTuple


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


# --- stage 3, whatever the algorithm -------------------------------------------------------------

SHARED = (
    Curve("score", "Reward-model score", "deviations of SFT replies",
          "Starts near 0, the mean of SFT replies, rises, and levels off.",
          "Falling: the learning rate or β is too high. Rising without an end: perhaps the "
          "policy has found a blind spot of the reward model. Only a judgement from outside "
          "can tell.", "Ends between 0.4 and 0.95.", "+z.2f"),
    Curve("kl", "KL to the SFT model", "nats a reply",
          "Starts at 0, where the policy is the SFT model, rises and levels off.",
          "Climbing on: the policy drifts, and β should be larger. Staying at 0: nothing is "
          "learned.", "Ends between 0.9 and 1.8."),
    Curve("objective", "Objective: score − β·KL", "deviations",
          "Rises: this is what the policy is really asked for.",
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
)
VALUE = (
    Curve("explained_variance", "Explained variance", "at most 1",
          "How much of the differences between returns the value model foresees. Negative "
          "at first, for it has never been asked for an expectation in the middle of a reply; "
          "then climbs towards 1. (Below −1 it is drawn at −1.)",
          "Staying below 0: as a baseline it adds noise where it should remove it.",
          "Ends between 0.8 and 0.95.", level=(0.0, ""), floor_at=-1.0),
)
GROUP = (
    Curve("group_spread", "Spread within a group", "deviations",
          "How far the scores of the replies to one prompt lie apart: what their comparison lives "
          "on. Shrinks as the policy settles, and stays above 0.",
          "Close to 0: siblings score alike, and there is nothing to be learned from comparing "
          "them. Where advantages are divided by the spread, as GRPO does, the noise that is left "
          "then counts in full."),
)
UPDATE = (
    Curve("clip_fraction", "Clip fraction", "share of tokens",
          "Small, and falling with the learning rate: few tokens have moved as far as the "
          "clip lets them.",
          "Above 0.3: the updates of one batch go too far. Always 0: the steps are so small "
          "that the clip does nothing.", "Starts near 0.1, falls below 0.02.", "z.3f"),
    Curve("beta", "β, the strength of the KL penalty", "deviations a nat",
          "Rises while the KL is above its target, and falls while it is below.",
          "Far from where it started and still moving: the target is out of reach at this "
          "learning rate.", form="z.3f"),
)
# The ranges of default runs were seen with PPO.
GROUP_RELATIVE = tuple(curve._replace(toy="") for curve in (*SHARED, *GROUP, *UPDATE))
WITHOUT_VALUE = (
    "Newer algorithms like GRPO (Group Relative Policy Optimization), used in DeepSeek-R1, remove "
    "the Value Model entirely by computing the baseline from a group of sampled responses, which "
    "brings the count down to three models.")

# --- the stages, in order ------------------------------------------------------------------------

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
        "and answers that scored higher than expected become more likely. What was to be expected "
        "is the value model’s part. The KL penalty is the price of leaving the SFT model.",
        (*SHARED, *VALUE, *UPDATE)),
    Chapter(
        "GRPO", "grpo", "Stage 3: RL Fine-Tuning with GRPO",
        WITHOUT_VALUE,
        "At every step the policy answers each of some prompts several times, and the reward model "
        "scores the answers. Those that scored higher than the mean of their group become more "
        "likely; how much is measured in the group’s deviations, unless that was turned off. Every "
        "token of an answer gets the same credit, where PPO’s value model would tell them apart. "
        "The KL penalty is the price of leaving the SFT model.",
        GROUP_RELATIVE),
    Chapter(
        "RLOO", "rloo", "Stage 3: RL Fine-Tuning with RLOO",
        WITHOUT_VALUE,
        "RLOO, REINFORCE leave-one-out, is the plainest of these: at every step the policy answers "
        "each of some prompts several times, and an answer is compared with the mean score of its "
        "siblings, itself left out, so that the baseline does not depend on it. Every token of an "
        "answer gets the same credit. The KL penalty is the price of leaving the SFT model.",
        GROUP_RELATIVE),
    Chapter(
        "DPO", "dpo", "A baseline: DPO", "",
        "Direct preference optimization does without a reward model and without reinforcement "
        "learning. It trains a copy of the SFT model on the very comparisons that the reward model "
        "learns from: the chosen reply should gain more probability than the rejected one, each "
        "measured from the SFT model.",
        (Curve("loss", "Loss", "nats a pair",
               "Starts at log 2 = 0.69 exactly, for the copy is the SFT model still, and falls "
               "below it.",
               "If it stays at 0.69, nothing is learned. Close to 0, it has learned the noise of "
               "the choices by heart, and has gone far from the SFT model for it.",
               level=(log(2), "a coin: 0.69")),)),
)

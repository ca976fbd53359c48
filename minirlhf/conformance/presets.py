"""Whose conventions: each system as plain data, axis → answer.

    PRESETS["openrlhf"].answers["whiten.eps"]       "floor"
    PRESETS["trlx"].lacks["eos"]                    why it has no answer there

The axes and answers are those of the test vectors; `variants` has the function of each.  A preset
says what a system does by default, at one commit: released versions differ, and most answers are
options somewhere.  An axis of which two formulas ask differently has the formula's name before it:
the estimator of a KL in the reward is `kl.est`, of one in the loss `kl_loss/kl.est`.

Who is built upon another's trainer is written as its answers with changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minirlhf.conformance.vectors import Group, Vectors


@dataclass(frozen=True)
class Preset:
    """The conventions of a system.

    answers   {axis: answer}, or {formula/axis: answer} where a formula differs from the others
    lacks     {axis, or what stands before its dot: why there is no answer}
    note      what was read or run, and what to know
    built_on  the preset whose trainer this is, with other settings
    """

    name: str
    repository: str
    commit: str
    answers: Mapping[str, Any]
    note: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    built_on: str | None = None

    def answer(self, axis: str, function: str = "") -> Any:
        """The answer to an axis, as a function of the vectors asks it; None if it has none."""
        return self.answers.get(f"{function}/{axis}", self.answers.get(axis))

    def why_not(self, axis: str) -> str | None:
        """Why there is no answer to an axis; None where there is one, or nothing is known."""
        return self.lacks.get(axis, self.lacks.get(axis.split(".")[0]))

    def parameters(self, file: Vectors) -> dict[str, Any] | None:
        """Its answer to every axis of a file of vectors, None if one is missing."""
        found = {axis.name: self.answer(axis.name, file.function) for axis in file.axes}
        known = all(found[axis.name] in axis.values for axis in file.axes)
        return found if known else None

    def group(self, file: Vectors) -> Group | None:
        """The first group of a file that has its answers, None if there is none."""
        wanted = self.parameters(file)
        return next((group for group in file.groups if group.parameters == wanted), None)


def preset(name: str) -> Preset:
    """The preset of that name.  Raises ValueError, naming them all, if there is none."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def asked(axis: str) -> str:
    """The axis of a key of `answers`, without the formula before it."""
    return axis.split("/")[-1]


# --- the data ------------------------------------------------------------------------------------

ADAMW = {"adam.eps": "torch", "adam.decay": "decoupled", "adam.correction": "on"}
CLIPPED_NORM = {"clip.scope": "global", "clip.eps": "1e-6"}
UNCLIPPED_NORM = {"clip.scope": "off", "clip.eps": "1e-6"}
PLAIN_RATIO = {"pg.dual_clip": "none", "pg.logratio_clamp": "none", "pg.clip_high": "same",
               "pg.level": "token"}
K1 = {"kl.est": "k1", "kl.clamp": "none"}
PER_TOKEN_KL = {**K1, "kl.mask": "real", "kl.place": "token"}
LAST_REAL = {"score.place": "last-real", "score.clip": "none"}
WHITENED = {"whiten.ddof": 0, "whiten.eps": "in-root", "whiten.mask": "masked",
            "whiten.scope": "rollout", "whiten.count": "n", "whiten.shift": "subtract"}
CRITIC = {"vf.clip": "on", "vf.coef": 1.0, "vf.mask": "real"}
TOKEN_MEAN = {"agg": "token-mean", "agg.micro": "step"}
MICRO_MEANS = {"agg": "token-mean", "agg.micro": "mean"}
STEP_SFT = {"sft.reduce": "step-token-mean", "sft.loss": "nll"}
MICRO_SFT = {"sft.reduce": "micro-token-mean", "sft.loss": "nll"}
KL_LOSS = {"kl_loss/kl.est": "k3", "kl.weight": "none"}
ENTROPY = {"ent.temp": "tempered", "ent.mask": "real"}
FULL_TOP_P = {"topp.edge": "keep-crossing", "topp.order": "after-temperature", "topp.logp": "full"}

NO_GROUPS = {"grpo": "no group method", "rloo": "no group method"}
NO_DPO = {"dpo": "no direct preference optimization", "ipo": "no direct preference optimization"}
NO_KL_LOSS = {"kl.weight": "no KL in the loss"}
NO_RETURNS = {"return": "advantages by GAE, no plain return-to-go"}
NO_ENTROPY = {"ent": "only logged; how was not read"}
NO_TOP_P = {"topp": "samples with top_p 1"}
NO_REWARD_MODEL = {"rm": "reward models are trained elsewhere"}
NO_SFT = {"sft": "fine-tuning is another program's"}
NO_CRITIC = {"gae": "no value model", "vf": "no value model",
             "whiten": "advantages of a group are not whitened"}

OURS = Preset(
    "minirlhf", "this package", "as installed",
    {"temp.logp": "tempered", **STEP_SFT, "sft.mask": "completion", "best_of_loss/rm.loss":
     "pairwise", "per_token_preference_loss/rm.loss": "last-token", "rm.margin": "used",
     "rm.center": 0.0, "rm.read": "last-real", "rm.post": "population", **PER_TOKEN_KL, **KL_LOSS,
     **LAST_REAL, "eos.penalty": "none", "kl.ctl": "sequence-sum", "gae.mask": "zeroed",
     **WHITENED, **PLAIN_RATIO, **TOKEN_MEAN, **CRITIC, **ENTROPY, "grpo.std": "group-sample",
     "grpo.eps": 1e-4, "grpo.singleton": "refused", "rloo.std": "none",
     "rloo.singleton": "refused", "dpo.smoothing": "none", **ADAMW, **CLIPPED_NORM},
    "The core's own choices: docs/scales.md has its numbers.",
    {"topp": "rollouts are sampled without top-p", "ipo": "no IPO", **NO_RETURNS})

TRL_PPO = Preset(
    "trl-ppo", "huggingface/trl", "f2cd577",
    {"temp.logp": "tempered-eps", "rm.read": "before-the-first-pad", "rm.post": "none",
     **PER_TOKEN_KL, "score.place": "after-last", "score.clip": "none", "eos.penalty": "subtract",
     "kl.ctl": "fixed", "gae.mask": "through-p1", **WHITENED, "whiten.ddof": 1, **PLAIN_RATIO,
     **MICRO_MEANS, "vf.clip": "on", "vf.coef": 0.1, "vf.mask": "through-p1",
     "ent.temp": "tempered", "ent.mask": "all-slots", **ADAMW, **UNCLIPPED_NORM},
    "Source read at this commit of 2026-07-24, trl/experimental/ppo; 1.9.2 was run.  At top level "
    "until 0.27, in no release from 1.13.0 on.",
    {"topp": "generation fixes top_k 0 and top_p 1",
     "sft": "TRL's SFT trainer is a program of its own",
     "rm.loss": "TRL's reward trainer is a program of its own",
     "rm.margin": "TRL's reward trainer is a program of its own",
     "rm.center": "TRL's reward trainer is a program of its own",
     **NO_KL_LOSS, **NO_RETURNS, **NO_GROUPS, **NO_DPO})

OPENRLHF = Preset(
    "openrlhf", "OpenRLHF/OpenRLHF", "3c3be62",
    {"temp.logp": "tempered", **STEP_SFT, "sft.mask": "completion",
     "per_token_preference_loss/rm.loss": "last-token", "rm.margin": "used", "rm.center": 0.0,
     "rm.read": "last-real", "rm.post": "sample", **PER_TOKEN_KL, "kl.clamp": "value-10",
     "kl_loss/kl.est": "k2", "kl.weight": "none", "score.place": "last-real", "score.clip": 10.0,
     "eos.penalty": "scale", "kl.ctl": "token-mean", "gae.mask": "zeroed", "return.mask": "zeroed",
     **WHITENED, "whiten.eps": "floor", **PLAIN_RATIO, "pg.logratio_clamp": 20.0, **TOKEN_MEAN,
     **CRITIC, "ent.temp": "raw", "ent.mask": "real", "dpo.smoothing": "none", "ipo.len": "sum",
     **ADAMW, **CLIPPED_NORM},
    "Source read at this commit of 2026-08-13; 0.11.2 was run, and takes the entropy of tempered "
    "logits.  The KL is in the reward; as a loss, which is an option, k2 is advised.  Scores are "
    "normalised (rm.post) only with a flag.",
    {"topp": "vLLM samples; log-probs are recomputed over the whole vocabulary", **NO_GROUPS})

VERL_01 = Preset(
    "verl-2026-01", "volcengine/verl", "b178a3c",
    {"temp.logp": "tempered", **STEP_SFT, **PER_TOKEN_KL, "kl.clamp": "k3",
     "penalized_rewards/kl.clamp": "none", **KL_LOSS, **LAST_REAL, "kl.ctl": "token-mean",
     "gae.mask": "skipped", "return.mask": "reset", **WHITENED, "whiten.ddof": 1,
     "whiten.count": "n+1e-8", "pg.dual_clip": 3.0, "pg.logratio_clamp": 20.0,
     "pg.clip_high": "same", "pg.level": "token", **MICRO_MEANS, **CRITIC, **ENTROPY,
     "grpo.std": "group-sample", "grpo.eps": 1e-6, "grpo.singleton": "score", "rloo.std": "none",
     "rloo.singleton": "score", **ADAMW, **CLIPPED_NORM},
    "Source read at this commit of 2026-01-29; 0.7.0 was run.  The KL in the reward is off by "
    "default.  Masks are integers, and with those n + 1e-8 is n in float32.",
    {"sft.mask": "comes with the data", "topp": "vLLM samples; log-probs are recomputed over the "
     "whole vocabulary", "eos": "no penalty", **NO_REWARD_MODEL, **NO_DPO})

VERL_08 = Preset(
    "verl-2026-08", "verl-project/verl", "1dda039",
    {**VERL_01.answers, "return.mask": "skipped", **TOKEN_MEAN},
    "Source read at this commit of 2026-08-22, against that of January; 0.9.1 was run.",
    VERL_01.lacks, "verl-2026-01")

LMHP = Preset(
    "lm-human-preferences", "openai/lm-human-preferences", "cbfd210",
    {"temp.logp": "tempered", "best_of_loss/rm.loss": "n-way", "rm.read": "row-end",
     "rm.post": "population", **K1, "kl.mask": "all-slots", "kl.place": "token",
     "score.place": "row-end", "score.clip": "none", "eos.penalty": "replace",
     "kl.ctl": "sequence-sum", "gae.mask": "none", **WHITENED, "whiten.mask": "all-slots",
     "whiten.scope": "minibatch", **PLAIN_RATIO, "agg": "all-slots-mean", "vf.clip": "on",
     "vf.coef": 0.1, "vf.mask": "real", **ADAMW, "adam.eps": "tf", **UNCLIPPED_NORM},
    "Source read at this commit of 2023-04-13, not run.  Replies are all of one length: what is "
    "sampled after the end counts like the rest.  Rewards are whitened too, without their mean.",
    {"topp": "not used; take_top_p_logits raises for a batch", "rm.margin": "no pairs, a choice "
     "among four", "rm.center": "no pairs, a choice among four", "agg.micro": "no micro-batches",
     **NO_SFT, **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS, **NO_DPO})

LMHPD = Preset(
    "lm-human-preference-details", "vwxyzjn/lm-human-preference-details", "ccc1953",
    {**LMHP.answers, "rm.post": "sample", "whiten.scope": "rollout"},
    "Source read at this commit of 2023-10-26, not run: a reproduction of lm-human-preferences.",
    LMHP.lacks, "lm-human-preferences")

SFFD = Preset(
    "summarize-from-feedback-details", "vwxyzjn/summarize_from_feedback_details", "ee77a9a",
    {"temp.logp": "tempered-eps", **MICRO_SFT, "sft.mask": "nonpad",
     "per_token_preference_loss/rm.loss": "last-token", "rm.margin": "ignored", "rm.center": 0.0,
     "rm.read": "before-the-first-pad", "rm.post": "minus-mean", **PER_TOKEN_KL,
     "score.place": "after-last", "score.clip": "none", "eos.penalty": "replace",
     "kl.ctl": "fixed", "gae.mask": "through-p1", **WHITENED, **PLAIN_RATIO, **MICRO_MEANS,
     "vf.clip": "on", "vf.coef": 0.1, "vf.mask": "through-p1", "ipo.len": "sum", **ADAMW,
     **UNCLIPPED_NORM},
    "Source read at this commit of 2024-11-23, not run: a reproduction of summarize-from-feedback, "
    "from which TRL's PPO was made.",
    {"dpo": "labels are smoothed by an option, whose default was not read", **NO_TOP_P,
     **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS})

DEEPSPEED = Preset(
    "deepspeed-chat", "microsoft/DeepSpeedExamples", "83757d9",
    {"temp.logp": "raw", **MICRO_SFT, "sft.mask": "real",
     "per_token_preference_loss/rm.loss": "from-divergence", "rm.read": "before-the-first-pad",
     "rm.post": "none", **K1, "kl.mask": "through-p1", "kl.place": "token",
     "score.place": "after-last", "score.clip": 5.0, "kl.ctl": "fixed", "gae.mask": "through-p1",
     **PLAIN_RATIO, **MICRO_MEANS, **CRITIC, **ADAMW},
    "Source read at this commit of 2025-02-11, not run.  With pad = eos its first pad is the eos.",
    {"topp": "greedy unless the model's own settings sample", "rm.margin": "none",
     "rm.center": "none", "eos": "replies of one token are dropped instead",
     "whiten": "advantages are not whitened", "clip": "DeepSpeed's engine clips at 1.0; its code "
     "was not read", "ipo": "no IPO", "dpo": "labels are smoothed by an option, whose default was "
     "not read", **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS})

TRLX = Preset(
    "trlx", "CarperAI/trlx", "3340c2f",
    {"temp.logp": "raw", **MICRO_SFT, "sft.mask": "nonpad", **K1, "kl.mask": "through-p1",
     "kl.place": "token", "score.place": "second-after-last", "score.clip": 10.0,
     "kl.ctl": "inverted-k3-sum", "gae.mask": "through-p2", **WHITENED, "whiten.ddof": 1,
     "whiten.mask": "all-slots", "whiten.scope": "minibatch", **PLAIN_RATIO, **MICRO_MEANS,
     **CRITIC, **ADAMW, **UNCLIPPED_NORM},
    "Source read at this commit of 2024-01-09, not run.  Rows are cut two slots after the last "
    "token, before GAE.  Its deviation has n − 1 in one process and n in several.",
    {"topp": "as the user's gen_kwargs say", "eos": "no penalty", "rm": "scores come from a "
     "function of the user's", **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS, **NO_DPO})

TRL_GRPO = Preset(
    "trl-grpo", "huggingface/trl", "f2cd577",
    {"temp.logp": "tempered", **FULL_TOP_P, "kl.est": "k3", "kl.clamp": "none",
     "kl.mask": "real", "kl.place": "nowhere", "penalized_rewards/kl.est": "k1", **KL_LOSS,
     **LAST_REAL, "kl.ctl": "fixed", **PLAIN_RATIO, "agg": "seq-mean-token-mean",
     "agg.micro": "mean", **ENTROPY, "grpo.std": "group-sample", "grpo.eps": 1e-4,
     "grpo.singleton": "zero", **ADAMW, **CLIPPED_NORM},
    'Source read at this commit of 2026-07-24; 1.9.2 and 1.16.0 were run.  With loss_type="grpo", '
    'the published form; the default is "dapo".  Its beta is 0 by default: no KL at all.',
    {"sft": "TRL's SFT trainer is a program of its own", "eos": "no penalty; replies that did not "
     "end may be left out of the loss", "rloo": "not leave-one-out", **NO_REWARD_MODEL,
     **NO_RETURNS, **NO_CRITIC, **NO_DPO})

TRL_DAPO = Preset(
    "trl-grpo-dapo", "huggingface/trl", "f2cd577", {**TRL_GRPO.answers, **TOKEN_MEAN},
    'As trl-grpo, with loss_type="dapo", the default: a mean over all tokens of the step.',
    TRL_GRPO.lacks, "trl-grpo")

DR_GRPO = Preset(
    "dr-grpo", "huggingface/trl", "f2cd577",
    {**TRL_GRPO.answers, "agg": "token-sum-over-rows-and-width", "agg.micro": "step",
     "grpo.std": "none"},
    'As trl-grpo, with loss_type="dr_grpo" and scale_rewards="none" (Liu et al. 2025).',
    TRL_GRPO.lacks, "trl-grpo")

RLOO_TRL = Preset(
    "rloo-trl", "huggingface/trl", "f2cd577",
    {"temp.logp": "tempered", **FULL_TOP_P, **K1, "kl.mask": "real", "kl.place": "sequence",
     **LAST_REAL, "kl.ctl": "fixed", **PLAIN_RATIO, "pg.level": "sequence-sum",
     "agg": "seq-mean-token-mean", "rloo.std": "none", "rloo.singleton": "zero", **ADAMW,
     **CLIPPED_NORM},
    "Source read at this commit of 2026-07-24.  Its loss is one number a reply: a ratio of whole "
    "replies, and a mean over them.",
    {"agg.micro": "its loss is one number a reply", "grpo": "leave-one-out, not GRPO",
     "eos": "no penalty", "sft": "TRL's SFT trainer is a program of its own", **NO_KL_LOSS,
     **NO_REWARD_MODEL, **NO_RETURNS, **NO_ENTROPY, **NO_CRITIC, **NO_DPO}, "trl-grpo")

RLOO_OPENRLHF = Preset(
    "rloo-openrlhf", "OpenRLHF/OpenRLHF", "3c3be62",
    {axis: answer for axis, answer in OPENRLHF.answers.items()
     if axis.split(".")[0] not in ("gae", "vf", "whiten")} | {
         "rloo.std": "none", "rloo.singleton": "nan"},
    "As openrlhf, with advantage_estimator rloo: the score above the mean of the others' at the "
    "last token, clipped after that, and each token's KL, added up from the token on.",
    {"topp": OPENRLHF.lacks["topp"], "grpo": "leave-one-out, not GRPO", **NO_CRITIC}, "openrlhf")

TORCHTUNE = Preset(
    "torchtune", "pytorch/torchtune", "0.6.1",
    {"temp.logp": "tempered", **PER_TOKEN_KL, "score.place": "after-last", "score.clip": "none",
     "eos.penalty": "replace", "kl.ctl": "fixed", "gae.mask": "through-p1", **WHITENED,
     "whiten.ddof": 1, "whiten.shift": "inverted", **PLAIN_RATIO, **MICRO_MEANS, "vf.clip": "on",
     "vf.coef": 0.1, "vf.mask": "through-p1", **UNCLIPPED_NORM},
    "Release 0.6.1 was run; the recipe ppo_full_finetune_single_device and torchtune/rlhf were "
    "read near it.  estimate_advantages itself masks nothing: the recipe clears values and KL "
    "first.  Its whitening adds the mean back, so that advantages are not centred.",
    {"topp": "top-k only", "adam": "any optimizer, by configuration",
     **NO_SFT, **NO_REWARD_MODEL, **NO_KL_LOSS, **NO_RETURNS, "ent": "none", **NO_GROUPS,
     **NO_DPO})

PRESETS: dict[str, Preset] = {found.name: found for found in (
    OURS, TRL_PPO, OPENRLHF, VERL_01, VERL_08, LMHP, LMHPD, SFFD, DEEPSPEED, TRLX, TRL_GRPO,
    TRL_DAPO, DR_GRPO, RLOO_TRL, RLOO_OPENRLHF, TORCHTUNE)}

"""Whose conventions: each system as plain data, axis → answer.

    PRESETS["openrlhf"].answers["whiten.eps"]       "floor"
    PRESETS["trlx"].lacks["eos"]                    why it has no answer there

The axes and answers are those of the test vectors; `variants` has the function of each.  A preset
says what a system does by default, at one commit: released versions differ, and most answers are
options somewhere.  What is built upon another's trainer is written as its answers with changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minirlhf.conformance.vectors import Group, Vectors, functions, load, systems


@dataclass(frozen=True)
class Preset:
    """The conventions of a system.

    answers   {axis: answer}
    note      what was read or run, and what to know
    lacks     {axis, or what stands before its dot: why there is no answer}
    built_on  the preset whose trainer this is, with other settings
    """

    name: str
    answers: Mapping[str, Any]
    note: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    built_on: str | None = None

    @property
    def repository(self) -> str | None:
        """Owner and name; None for this package."""
        return systems()[self.name].repository

    @property
    def commit(self) -> str | None:
        """The commit or release that was read."""
        return systems()[self.name].commit

    def answer(self, axis: str) -> Any:
        """The answer to an axis; None if it has none."""
        return self.answers.get(axis)

    def why_not(self, axis: str) -> str | None:
        """Why there is no answer to an axis; None where there is one."""
        if axis in self.answers:
            return None
        return self.lacks.get(axis, self.lacks.get(axis.split(".")[0]))

    def parameters(self, file: Vectors) -> dict[str, Any] | None:
        """Its answer to every axis of a file of vectors, None if one is missing."""
        found = {axis.name: self.answer(axis.name) for axis in file.axes}
        known = all(found[axis.name] in axis.values for axis in file.axes)
        return found if known else None

    def group(self, file: Vectors) -> Group | None:
        """The first group of a file that has its answers, None if there is none."""
        wanted = self.parameters(file)
        return next((group for group in file.groups if group.parameters == wanted), None)


def known_in_part() -> dict[str, dict[str, Any]]:
    """{system: {axis: answer}} of those without a preset, as the groups that list them say."""
    known: dict[str, dict[str, Any]] = {name: {} for name in systems() if name not in PRESETS}
    for group in (group for function in functions() for group in load(function).groups):
        for name in set(group.systems) & set(known):
            known[name] |= group.parameters
    return known


def preset(name: str) -> Preset:
    """The preset of that name.  Raises ValueError, naming them all, if there is none."""
    if name in known_in_part():
        raise ValueError(
            f"{name} has test vectors, but no preset: known are only its answers to "
            f"{', '.join(known_in_part()[name])}, too few to replay a batch; the presets are "
            f"{', '.join(PRESETS)}")
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


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
KL_LOSS = {"kl.loss_est": "k3", "kl.weight": "none"}
ENTROPY = {"ent.temp": "tempered", "ent.mask": "real"}
FULL_TOP_P = {"topp.edge": "keep-crossing", "topp.order": "after-temperature", "topp.logp": "full"}

NO_GROUPS = {"grpo": "no group method", "rloo": "no group method"}
NO_DPO = {"dpo": "no direct preference optimization", "ipo": "no direct preference optimization"}
NO_KL_LOSS = {"kl.loss_est": "no KL in the loss", "kl.weight": "no KL in the loss"}
NO_RETURNS = {"return": "advantages by GAE, no plain return-to-go"}
NO_ENTROPY = {"ent": "only logged; how was not read"}
NO_REWARD_MODEL = {"rm": "reward models are trained elsewhere"}
NO_CHOICE = {"rm.choice": "pairs only"}
NO_CRITIC = {"gae": "no value model", "vf": "no value model",
             "whiten": "advantages of a group are not whitened"}
POSITIONS = {"pos": "not read"}
TRL_SFT = {"sft": "TRL's SFT trainer is a program of its own"}
TRL_REWARD = {f"rm.{axis}": "TRL's reward trainer is a program of its own"
              for axis in ("choice", "compare", "margin", "center")}
VLLM = {"topp": "vLLM samples; log-probs are recomputed over the whole vocabulary"}

OURS = Preset(
    "minirlhf",
    {"pos.ids": "real", "temp.logp": "tempered", **STEP_SFT, "sft.mask": "completion",
     "rm.choice": "pairwise", "rm.compare": "last-token", "rm.margin": "used", "rm.center": 0.0,
     "rm.read": "last-real", "rm.post": "population", **PER_TOKEN_KL, **KL_LOSS, **LAST_REAL,
     "eos.penalty": "none", "kl.ctl": "sequence-sum", "gae.mask": "zeroed", **WHITENED,
     **PLAIN_RATIO, **TOKEN_MEAN, **CRITIC, **ENTROPY, "grpo.std": "group-sample",
     "grpo.eps": 1e-4, "grpo.singleton": "refused", "rloo.std": "none",
     "rloo.singleton": "refused", "dpo.smoothing": "none", **ADAMW, **CLIPPED_NORM},
    "The core's own choices.",
    {"topp": "rollouts are sampled without top-p", "ipo": "no IPO", **NO_RETURNS})

TRL_PPO = Preset(
    "trl-ppo",
    {"pos.ids": "real", "temp.logp": "tempered-eps", "rm.read": "before-the-first-pad",
     "rm.post": "none", **PER_TOKEN_KL, "score.place": "after-last", "score.clip": "none",
     "eos.penalty": "subtract", "kl.ctl": "fixed", "gae.mask": "through-p1", **WHITENED,
     "whiten.ddof": 1, **PLAIN_RATIO, **MICRO_MEANS, **CRITIC, "vf.coef": 0.1,
     "vf.mask": "through-p1", "ent.temp": "tempered-eps", "ent.mask": "all-slots", **ADAMW,
     **UNCLIPPED_NORM},
    "Source read, trl/experimental/ppo; 1.9.2 was run.  At top level until 0.27, in no release "
    "from 1.13.0 on.",
    {"topp": "generation fixes top_k 0 and top_p 1", **TRL_SFT, **TRL_REWARD, **NO_KL_LOSS,
     **NO_RETURNS, **NO_GROUPS, **NO_DPO})

OPENRLHF = Preset(
    "openrlhf",
    {"pos.ids": "real", "temp.logp": "tempered", **STEP_SFT, "sft.mask": "completion",
     "rm.compare": "last-token", "rm.margin": "used", "rm.center": 0.0, "rm.read": "last-real",
     "rm.post": "sample", **PER_TOKEN_KL, "kl.clamp": "value-10", **KL_LOSS, "kl.loss_est": "k2",
     "score.place": "last-real", "score.clip": 10.0, "eos.penalty": "scale",
     "kl.ctl": "token-mean", "gae.mask": "zeroed", "return.mask": "zeroed", **WHITENED,
     "whiten.eps": "floor", **PLAIN_RATIO, "pg.logratio_clamp": 20.0, **TOKEN_MEAN, **CRITIC,
     **ENTROPY, "ent.temp": "raw", "grpo.std": "group-sample", "grpo.eps": 1e-9,
     "grpo.singleton": "nan", "dpo.smoothing": "none", "ipo.len": "sum", **ADAMW, **CLIPPED_NORM},
    "Source read; 0.11.2 was run, and takes the entropy of tempered logits.  The KL is in the "
    "reward; as a loss, which is an option, k2 is advised.  Scores are normalised (rm.post) only "
    "with a flag, and the group's deviation (grpo) is that of its estimator group_norm.",
    {**VLLM, **NO_CHOICE, "rloo": "another of its estimators: rloo-openrlhf"})

VERL_01 = Preset(
    "verl-2026-01",
    {"temp.logp": "tempered", **STEP_SFT, **PER_TOKEN_KL, "kl.clamp": "k3", **KL_LOSS,
     **LAST_REAL, "kl.ctl": "token-mean", "gae.mask": "skipped", "return.mask": "reset",
     **WHITENED, "whiten.ddof": 1, "whiten.count": "n+1e-8", **PLAIN_RATIO, "pg.dual_clip": 3.0,
     "pg.logratio_clamp": 20.0, **MICRO_MEANS, **CRITIC, **ENTROPY, "grpo.std": "group-sample",
     "grpo.eps": 1e-6, "grpo.singleton": "score", "rloo.std": "none", "rloo.singleton": "score",
     **ADAMW, **CLIPPED_NORM},
    "Source read; 0.7.0 was run.  The KL in the reward is off by default.  Masks are integers, "
    "and with those n + 1e-8 is n in float32.",
    {"sft.mask": "comes with the data", "eos": "no penalty", **POSITIONS, **VLLM,
     **NO_REWARD_MODEL, **NO_DPO})

VERL_08 = Preset(
    "verl-2026-08", {**VERL_01.answers, "return.mask": "skipped", **TOKEN_MEAN},
    "Source read, against that of January; 0.9.1 was run.", VERL_01.lacks, "verl-2026-01")

LMHP = Preset(
    "lm-human-preferences",
    {"pos.ids": "real", "temp.logp": "tempered", "rm.choice": "n-way", "rm.read": "row-end",
     "rm.post": "population", **K1, "kl.mask": "all-slots", "kl.place": "token",
     "score.place": "row-end", "score.clip": "none", "eos.penalty": "replace",
     "kl.ctl": "sequence-sum", "gae.mask": "none", **WHITENED, "whiten.mask": "all-slots",
     "whiten.scope": "minibatch", **PLAIN_RATIO, "agg": "all-slots-mean", **CRITIC,
     "vf.coef": 0.1, "vf.mask": "all-slots", **ADAMW, "adam.eps": "tf", **UNCLIPPED_NORM},
    "Source read, not run.  Replies are all of one length: what is sampled after the end counts "
    "like the rest.  Rewards are whitened too, without their mean.",
    {"topp": "not used; take_top_p_logits raises for a batch", "rm": "no pairs, a choice among "
     "four", "agg.micro": "no micro-batches", "sft": "starts from a language model as it is",
     **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS, **NO_DPO})

LMHPD = Preset(
    "lm-human-preference-details",
    {axis: answer for axis, answer in LMHP.answers.items() if axis != "pos.ids"} | {
        "rm.post": "sample", "whiten.scope": "rollout"},
    "Source read, not run: a reproduction of lm-human-preferences.", {**LMHP.lacks, **POSITIONS},
    "lm-human-preferences")

SFFD = Preset(
    "summarize-from-feedback-details",
    {"pos.ids": "column", "temp.logp": "tempered-eps", **MICRO_SFT, "sft.mask": "nonpad",
     "rm.compare": "last-token", "rm.margin": "ignored", "rm.center": 0.0,
     "rm.read": "before-the-first-pad", "rm.post": "minus-mean", **PER_TOKEN_KL,
     "score.place": "after-last", "score.clip": "none", "eos.penalty": "replace",
     "kl.ctl": "fixed", "gae.mask": "through-p1", **WHITENED, **PLAIN_RATIO, **MICRO_MEANS,
     **CRITIC, "vf.coef": 0.1, "vf.mask": "through-p1", "dpo.smoothing": "none", "ipo.len": "sum",
     **ADAMW, **UNCLIPPED_NORM},
    "Source read, not run: a reproduction of summarize-from-feedback, from which TRL's PPO was "
    "made.",
    {"topp": "samples with top_p 1", **NO_CHOICE, **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY,
     **NO_GROUPS})

DEEPSPEED = Preset(
    "deepspeed-chat",
    {"temp.logp": "raw", **MICRO_SFT, "sft.mask": "real", "rm.compare": "from-divergence",
     "rm.read": "before-the-first-pad", "rm.post": "none", **K1, "kl.mask": "through-p1",
     "kl.place": "token", "score.place": "after-last", "score.clip": 5.0, "kl.ctl": "fixed",
     "gae.mask": "through-p1", **PLAIN_RATIO, **MICRO_MEANS, **CRITIC, "dpo.smoothing": "none",
     **ADAMW, **CLIPPED_NORM},
    "Source read, not run.  With pad = eos its first pad is the eos.",
    {"topp": "greedy unless the model's own settings sample", "rm.margin": "none",
     "rm.center": "none", "eos": "replies of one token are dropped instead", "ipo": "no IPO",
     "whiten": "advantages are not whitened", **POSITIONS, **NO_CHOICE, **NO_KL_LOSS,
     **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS})

TRLX = Preset(
    "trlx",
    {"pos.ids": "real", "temp.logp": "raw", **MICRO_SFT, "sft.mask": "nonpad", **K1,
     "kl.mask": "through-p1", "kl.place": "token", "score.place": "second-after-last",
     "score.clip": 10.0, "kl.ctl": "inverted-k3-sum", "gae.mask": "through-p2", **WHITENED,
     "whiten.ddof": 1, "whiten.mask": "all-slots", "whiten.scope": "minibatch", **PLAIN_RATIO,
     **MICRO_MEANS, **CRITIC, **ADAMW, **UNCLIPPED_NORM},
    "Source read, not run.  Rows are cut two slots after the last token, before GAE.  Its "
    "deviation has n − 1 in one process and n in several.",
    {"topp": "as the user's gen_kwargs say", "eos": "no penalty", "rm": "scores come from a "
     "function of the user's", **NO_KL_LOSS, **NO_RETURNS, **NO_ENTROPY, **NO_GROUPS, **NO_DPO})

TRL_GRPO = Preset(
    "trl-grpo",
    {"temp.logp": "tempered", **FULL_TOP_P, **PER_TOKEN_KL, "kl.place": "nowhere", **KL_LOSS,
     **LAST_REAL, "kl.ctl": "fixed", **PLAIN_RATIO, "agg": "seq-mean-token-mean-all-rows",
     "agg.micro": "mean", **ENTROPY, "grpo.std": "group-sample", "grpo.eps": 1e-4,
     "grpo.singleton": "zero", **ADAMW, **CLIPPED_NORM},
    'Source read; 1.9.2 and 1.16.0 were run.  With loss_type="grpo", the published form; the '
    'default is "dapo".  Its beta is 0 by default: no KL at all.  No KL stands in the reward, so '
    "kl.est and kl.mask say nothing.  An empty reply counts as one of loss 0 in the mean.",
    {"eos": "no penalty; replies that did not end may be left out of the loss",
     "rloo": "not leave-one-out", **POSITIONS, **TRL_SFT, **NO_REWARD_MODEL, **NO_RETURNS,
     **NO_CRITIC, **NO_DPO})

TRL_DAPO = Preset(
    "trl-grpo-dapo", {**TRL_GRPO.answers, **TOKEN_MEAN},
    'As trl-grpo, with loss_type="dapo", the default: a mean over all tokens of the step.',
    TRL_GRPO.lacks, "trl-grpo")

DR_GRPO = Preset(
    "dr-grpo", {**TRL_GRPO.answers, "agg": "token-sum-over-rows-and-width", "grpo.std": "none"},
    'As trl-grpo, with loss_type="dr_grpo" and scale_rewards="none" (Liu et al. 2025).',
    TRL_GRPO.lacks, "trl-grpo")

RLOO_TRL = Preset(
    "rloo-trl",
    {"temp.logp": "tempered", **FULL_TOP_P, **PER_TOKEN_KL, "kl.place": "sequence", **LAST_REAL,
     "kl.ctl": "fixed", **PLAIN_RATIO, "pg.level": "sequence-sum", "agg": "seq-mean-token-mean",
     "rloo.std": "none", "rloo.singleton": "zero", **ADAMW, **CLIPPED_NORM},
    "Source read.  Its loss is one number a reply: a ratio of whole replies, and a mean over them.",
    {"agg.micro": "its loss is one number a reply", "grpo": "leave-one-out, not GRPO",
     "eos": "no penalty", **POSITIONS, **TRL_SFT, **NO_KL_LOSS, **NO_REWARD_MODEL, **NO_RETURNS,
     **NO_ENTROPY, **NO_CRITIC, **NO_DPO}, "trl-grpo")

RLOO_OPENRLHF = Preset(
    "rloo-openrlhf",
    {axis: answer for axis, answer in OPENRLHF.answers.items()
     if axis.split(".")[0] not in ("gae", "vf", "whiten", "grpo")} | {
         "rloo.std": "none", "rloo.singleton": "nan"},
    "As openrlhf, with advantage_estimator rloo: the score above the mean of the others' at the "
    "last token, clipped after that, and each token's KL, added up from the token on.",
    {**VLLM, **NO_CHOICE, "grpo": "leave-one-out, not GRPO", **NO_CRITIC}, "openrlhf")

TORCHTUNE = Preset(
    "torchtune",
    {"pos.ids": "real", "temp.logp": "tempered", **PER_TOKEN_KL, "score.place": "after-last",
     "score.clip": "none", "eos.penalty": "replace", "kl.ctl": "fixed", "gae.mask": "through-p1",
     **WHITENED, "whiten.ddof": 1, "whiten.shift": "inverted", **PLAIN_RATIO, **MICRO_MEANS,
     **CRITIC, "vf.coef": 0.1, "vf.mask": "through-p1", **UNCLIPPED_NORM},
    "The release was run; its recipe ppo_full_finetune_single_device was read near it.  "
    "estimate_advantages itself masks nothing: the recipe clears values and KL first.  Its "
    "whitening adds the mean back, so that advantages are not centred.  The score of a reply of "
    "one token stands at that token, not after it.",
    {"topp": "top-k only", "adam": "any optimizer, by configuration", "sft": "a recipe of its own",
     "ent": "none", **NO_REWARD_MODEL, **NO_KL_LOSS, **NO_RETURNS, **NO_GROUPS, **NO_DPO})

PRESETS: dict[str, Preset] = {found.name: found for found in (
    OURS, TRL_PPO, OPENRLHF, VERL_01, VERL_08, LMHP, LMHPD, SFFD, DEEPSPEED, TRLX, TRL_GRPO,
    TRL_DAPO, DR_GRPO, RLOO_TRL, RLOO_OPENRLHF, TORCHTUNE)}

"""OpenRLHF: its losses, its KL estimates and rewards, and its experience maker.

Called are openrlhf.models' `PolicyLoss`, `ValueLoss`, `SFTLoss`, `PairWiseLoss`, `DPOLoss`,
`aggregate_loss` (openrlhf/models/loss.py), `compute_approx_kl`, `compute_reward`,
`log_probs_from_logits`, `compute_entropy` (openrlhf/models/utils.py), `_optimizer_step_loss_norm`
(openrlhf/utils/loss_utils.py), `AdaptiveKLController`, `apply_stop_properly_penalty`
(openrlhf/trainer/ppo_utils/) and `RemoteExperienceMaker`'s methods, which want no more of `self`
than the settings they name.

The package imports deepspeed, ray and others when it is imported, none of which the mathematics
uses: `StandIns` lets any module that is not installed be imported empty.  They are taken away
again before anything is computed, so nothing of them is in a result.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")       # compute_entropy is compiled; run it as is

NOT_NEEDED = ("deepspeed", "ray", "vllm", "peft", "flash_attn", "datasets", "optimum",
              "bitsandbytes", "wandb", "torchmetrics", "ring_flash_attn", "accelerate", "aiohttp",
              "pylatexenc", "math_verify", "latex2sympy2_extended", "sympy", "httpx", "fastapi",
              "uvicorn", "jsonlines", "isort", "loralib", "torchdata", "tensorboard")


class StandIn(types.ModuleType):
    """An empty module, any name of which is a class that does nothing."""
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__init__": lambda self, *a, **k: None,
                               "__call__": lambda self, decorated=None, *a, **k: decorated,
                               "__class_getitem__": classmethod(lambda cls, item: cls)})
        setattr(self, name, made)
        return made


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is not installed of NOT_NEEDED."""

    def find_spec(self, name, path=None, target=None):
        known = name.split(".")[0] in NOT_NEEDED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


def imported():
    """The modules of the package that are called, imported with stand-ins for what is absent."""
    import transformers.modeling_outputs  # noqa: F401   before it could take a stand-in for real
    finder = StandIns()
    sys.meta_path.append(finder)
    try:
        from openrlhf import models
        from openrlhf.datasets.sft_dataset import SFTDataset
        from openrlhf.models import model, utils
        from openrlhf.trainer.dpo_trainer import DPOTrainer
        from openrlhf.trainer.ppo_utils import experience_maker, kl_controller, length_penalty
        from openrlhf.trainer.rm_trainer import RewardModelTrainer
        from openrlhf.utils import loss_utils
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, StandIn)]:
            del sys.modules[name]
    return SimpleNamespace(**locals())


O = imported()                                                      # noqa: E741
sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402

PRESETS = ("openrlhf", "openrlhf-group-norm", "rloo-openrlhf", "openrlhf-smoothed")
COARSE = {
    "token_logprobs": "Actor.forward takes logits in float32",
    "entropy": "Actor.forward takes logits in float32",
    "kl_estimate": "compute_approx_kl takes log-probs in float32",
    "kl_loss": "compute_approx_kl takes log-probs in float32",
    "kl_controller": "compute_approx_kl takes log-probs in float32",
    "penalized_rewards": "compute_approx_kl takes log-probs in float32",
    "whiten": "compute_advantages_and_returns takes advantages in float32",
    "normalized_scores": "RewardModelTrainer.evaluate takes rewards in float32",
}


# --- log-probabilities and entropy ---------------------------------------------------------------

def forward(logits, tokens, temperature, **wanted):
    """models.Actor.forward of a model that answers with these logits."""
    from transformers.modeling_outputs import CausalLMOutput
    actor = SimpleNamespace(packing_samples=False, temperature=temperature,
                            model=lambda *a, **k: CausalLMOutput(logits=logits.clone()))
    return O.models.Actor.forward(actor, tokens, attention_mask=torch.ones_like(tokens), **wanted)


def token_logprobs(logits, tokens, temperature):
    return forward(logits, tokens, temperature, return_logprobs=True)


def entropy(logits, mask, temperature=1.0, count=None):
    """What training_step gives aggregate_loss; the model has one position more than it is read."""
    longer = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)
    tokens = torch.zeros(longer.shape[:2], dtype=torch.long)
    output = forward(longer, tokens, temperature, return_output=True, return_entropy=True)
    return O.models.aggregate_loss(output.entropy, mask, batch_num_tokens=count)


# --- KL and rewards ------------------------------------------------------------------------------

def kl_estimate(logprobs, ref_logprobs, estimator):
    """A + in the estimator's name is unbiased_gradient=True."""
    if estimator.rstrip("+") not in ("k1", "k2", "k3"):
        raise NotImplementedError("kl_estimator is k1, k2 or k3")
    return O.utils.compute_approx_kl(logprobs, ref_logprobs, kl_estimator=estimator.rstrip("+"),
                                     unbiased_gradient=estimator.endswith("+"))


def kl_loss(logprobs, old_logprobs, ref_logprobs, mask, count=None, estimator="k2",
            unbiased_gradient=False):
    kl = O.utils.compute_approx_kl(logprobs, ref_logprobs, old_logprobs, estimator,
                                   unbiased_gradient)
    return O.models.aggregate_loss(kl, mask, batch_num_tokens=count)


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta, estimator="k1",
                      clip_range=(-10.0, 10.0)):
    """Actor.forward multiplies the log-probs of both models by the mask before."""
    kl = O.utils.compute_approx_kl(logprobs * mask.float(), ref_logprobs * mask.float(),
                                   kl_estimator=estimator)
    return O.utils.compute_reward(scores, beta, kl, mask, clip_range)


def score_without_end(scores, ended, penalty):
    experience = SimpleNamespace(rewards=scores.clone(), truncated=~ended)
    O.length_penalty.apply_stop_properly_penalty([experience], penalty)
    return experience.rewards


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    controller = O.kl_controller.AdaptiveKLController(beta, target_kl, horizon)
    controller.update(observed_kl, n)
    return controller.value


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    """info["kl"] of make_experience, averaged over replies as the status is."""
    kl = O.utils.compute_approx_kl(logprobs * mask.float(), ref_logprobs * mask.float())
    observed = O.utils.masked_mean(kl, mask, dim=-1).mean().item()
    return adaptive_beta(beta, observed, target_kl, horizon, len(mask))


# --- advantages ----------------------------------------------------------------------------------

MAKER = O.experience_maker.RemoteExperienceMaker


def gae(rewards, values, mask, gamma, lam):
    return MAKER.get_advantages_and_returns(None, values, rewards, mask, gamma, lam)


def reward_to_go(rewards, mask, gamma):
    return MAKER.get_cumulative_returns(None, rewards, mask, gamma)


def whiten(x, mask, shift_mean):
    if not shift_mean:
        raise NotImplementedError("the mean always goes")
    experience = SimpleNamespace(advantages=x, action_mask=mask)
    settings = SimpleNamespace(algo=SimpleNamespace(advantage=SimpleNamespace(no_std_norm=False)))
    run(MAKER.compute_advantages_and_returns, "all_advantages = ", "for exp in experiences",
        experiences=[experience], args=settings)
    return experience.advantages


def of_groups(scores, group_size, estimator):
    """compute_advantages_and_returns of replies of one token without a KL."""
    maker = MAKER.__new__(MAKER)
    maker.advantage_estimator, maker.kl_ctl = estimator, SimpleNamespace(value=0.0)
    maker.strategy = SimpleNamespace(args=SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=group_size),
        algo=SimpleNamespace(advantage=SimpleNamespace(estimator=estimator, gamma=1.0)),
        reward=SimpleNamespace(clip_range=(-10.0, 10.0))))
    column = torch.zeros(len(scores), 1, dtype=scores.dtype)
    experience = SimpleNamespace(rewards=scores, index=list(range(len(scores))), info={},
                                 kl=column, action_mask=torch.ones_like(column, dtype=torch.bool))
    maker.compute_advantages_and_returns([experience])
    return experience.advantages[:, 0]


def group_advantages(scores, group_size, deviation):
    names = {"group-sample": "group_norm", "none": "dr_grpo"}
    if deviation not in names:
        raise NotImplementedError("estimators divide by the group's deviation or by nothing")
    return of_groups(scores, group_size, names[deviation])


def leave_one_out_advantages(scores, group_size):
    return of_groups(scores, group_size, "rloo")


# --- losses --------------------------------------------------------------------------------------

def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio, count=None,
                           clip_eps_high=None, **settings):
    loss = O.models.PolicyLoss(clip_ratio, clip_eps_high or clip_ratio, **settings)
    return loss(logprobs, old_logprobs, advantages, mask, batch_num_tokens=count)[0]


def clipped_value_loss(values, old_values, returns, mask, clip_range, count=None, clip=True):
    loss = O.models.ValueLoss(clip_range if clip else None)
    return loss(values, old_values, returns, mask, batch_num_tokens=count)


def aggregate_loss(losses, mask, micro_batches=None, token_level_loss=True):
    """Each micro-batch by the counts of the whole step; DeepSpeed divides by their number."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    masks = mask.split(sizes)
    counts = O.loss_utils._optimizer_step_loss_norm(masks, None, 1, len(sizes))
    return sum(O.models.aggregate_loss(x, m, token_level_loss, **counts)
               for x, m in zip(losses.split(sizes), masks, strict=True)) / len(sizes)


def sft_loss(logprobs, mask, count=None, micro_batches=None):
    if micro_batches is None:
        return O.models.SFTLoss()(logprobs, mask, batch_num_tokens=count)
    sizes = micro_batches.tolist()
    masks = mask.split(sizes)
    counts = O.loss_utils._optimizer_step_loss_norm(masks, None, 1, len(sizes))
    return sum(O.models.SFTLoss()(x, m, **counts)
               for x, m in zip(logprobs.split(sizes), masks, strict=True)) / len(sizes)


def sft_mask(tokens, mask, prompt_lengths, pad_id):
    """SFTDataset.get_loss_mask of each row, and what sft_trainer.py cuts off of it."""
    counts = torch.zeros_like(mask)
    for i, row in enumerate(mask):
        dataset = SimpleNamespace(pretrain_mode=False, multiturn=False, prompt_ids_lens=prompt_lengths)
        real = tokens[i, row][None]
        counts[i, :real.shape[1]] = O.SFTDataset.get_loss_mask(dataset, real, i)[0] > 0
    return counts[:, :-1]


# --- preferences ---------------------------------------------------------------------------------

def bradley_terry_loss(score_chosen, score_rejected, margin=None):
    return O.models.PairWiseLoss()(score_chosen, score_rejected, margin)


def log_exp_loss(score_chosen, score_rejected, margin=None):
    return O.models.loss.LogExpLoss()(score_chosen, score_rejected, margin)


def read(scores, mask):
    """The reward model's forward, where the scores of all positions are given."""
    model = SimpleNamespace(packing_samples=False, training=True, base_model_prefix="base",
                            value_head_prefix="score", score=lambda states: states,
                            base=lambda *a, **k: {"last_hidden_state": scores[..., None]})
    kind = O.model._get_reward_model(torch.nn.Module, None)
    return kind.forward(model, torch.zeros(mask.shape, dtype=torch.long), mask.long())


def score_index(tokens, mask, prompt_width, pad_id):
    return read(torch.arange(mask.shape[1]).expand(mask.shape), mask)


def per_token_preference_loss(chosen_scores, rejected_scores, chosen_tokens, rejected_tokens,
                              chosen_mask, rejected_mask):
    return O.models.PairWiseLoss()(read(chosen_scores, chosen_mask),
                                   read(rejected_scores, rejected_mask))


def normalized_scores(scores, reference_scores):
    """The mean and deviation that evaluate finds, as the model's forward uses them afterwards."""
    found = run(O.RewardModelTrainer.evaluate, "reward_mean = ", "reward_std = ",
                rewards=reference_scores.float())
    model = SimpleNamespace(training=False, normalize_reward=True, mean=found.reward_mean,
                            std=found.reward_std)
    forward = O.model._get_reward_model(torch.nn.Module, None).forward
    return run(forward, "if not self.training", "if not self.training", self=model,
               reward=scores).reward


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, label_smoothing=0.0):
    return O.models.DPOLoss(beta, label_smoothing)(chosen, rejected, ref_chosen, ref_rejected)[0]


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    """DPOLoss of the sums of DPOTrainer._get_batch_logps, to which the first token is a prompt."""
    def sums(logprobs, mask):
        attention = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        return O.DPOTrainer._get_batch_logps(None, logprobs, attention, [1] * len(mask))[0]
    return O.models.DPOLoss(beta, ipo=True)(
        sums(chosen, chosen_mask), sums(rejected, rejected_mask),
        sums(ref_chosen, chosen_mask), sums(ref_rejected, rejected_mask))[0]


MODES = {
    "clipped_surrogate_loss": {
        "dual_clip=3.0": partial(clipped_surrogate_loss, dual_clip=3.0),
        "clip_eps_high=0.28": partial(clipped_surrogate_loss, clip_eps_high=0.28),
        "token_level_loss=False": partial(clipped_surrogate_loss, token_level_loss=False),
        "policy_loss_type='gspo'": partial(clipped_surrogate_loss, policy_loss_type="gspo")},
    "clipped_value_loss": {"clip_eps=None": partial(clipped_value_loss, clip=False)},
    "aggregate_loss": {"token_level_loss=False": partial(aggregate_loss, token_level_loss=False)},
    "kl_loss": {"unbiased_gradient=True": partial(kl_loss, unbiased_gradient=True)},
    "penalized_rewards": {
        "reward_clip_range=None": partial(penalized_rewards, clip_range=None),
        "kl_estimator='k2'": partial(penalized_rewards, estimator="k2"),
        "kl_estimator='k3'": partial(penalized_rewards, estimator="k3")},
    "bradley_terry_loss": {"LogExpLoss": log_exp_loss},
    "dpo_loss": {"label_smoothing=0.1": partial(dpo_loss, label_smoothing=0.1)},
}

"""TRL's classic PPO, which releases up to 0.11 have; run with 0.11.4.

Called are `PPOTrainer.compute_rewards`, `compute_advantages`, `loss` and statements of
`record_step_stats` (trl/trainer/ppo_trainer.py), with a stand-in for the trainer that holds its
settings, `masked_whiten`, `masked_mean`, `logprobs_from_logits` and `entropy_from_logits`
(trl/core.py), and `AdaptiveKLController` (trl/trainer/utils.py).
"""

import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import core
from trl.trainer.ppo_trainer import PPOTrainer
from trl.trainer.utils import AdaptiveKLController

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402

PRESETS = ()
COARSE = {"whiten": "n/(n − 1) of a mask of integers is float32 in masked_var"}


def token_logprobs(logits, tokens, temperature):
    """batched_forward_pass knows of no temperature."""
    return core.logprobs_from_logits(logits[:, :-1], tokens[:, 1:])


def entropy(logits, mask, temperature=1.0):
    return core.masked_mean(core.entropy_from_logits(logits), mask.long())


def kl_estimate(logprobs, ref_logprobs, estimator):
    names = {"k1": "kl", "abs": "abs", "k2": "mse"}
    if estimator not in names:
        raise NotImplementedError("kl_penalty is kl, abs, mse or full")
    return PPOTrainer._kl_penalty(
        SimpleNamespace(config=SimpleNamespace(kl_penalty=names[estimator])), logprobs,
        ref_logprobs)


def penalised(scores, logprobs, ref_logprobs, mask, beta, kl_penalty="kl"):
    trainer = SimpleNamespace(config=SimpleNamespace(kl_penalty=kl_penalty),
                              kl_ctl=SimpleNamespace(value=beta))
    trainer._kl_penalty = partial(PPOTrainer._kl_penalty, trainer)
    return PPOTrainer.compute_rewards(trainer, scores, logprobs, ref_logprobs, mask.long())


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta, kl_penalty="kl"):
    return penalised(scores, logprobs, ref_logprobs, mask, beta, kl_penalty)[0]


def adaptive_beta(beta, observed_kl, target_kl, horizon, n):
    controller = AdaptiveKLController(beta, target_kl, horizon)
    controller.update(observed_kl, n)
    return controller.value


def kl_controller(beta, logprobs, ref_logprobs, mask, target_kl, horizon):
    """Fed with objective/kl, which is record_step_stats' mean_kl."""
    kls = penalised(torch.zeros(len(mask)), logprobs, ref_logprobs, mask, beta)[2]
    observed = run(PPOTrainer.record_step_stats, "kl_list = ", "mean_kl = ", kls=kls,
                   mask=mask.long()).mean_kl.item()
    return adaptive_beta(beta, observed, target_kl, horizon, len(mask))


def gae(rewards, values, mask, gamma, lam):
    """compute_advantages whitens at its end: the advantages before are its returns − values."""
    config = SimpleNamespace(whiten_rewards=False, gamma=gamma, lam=lam)
    values, _, returns = PPOTrainer.compute_advantages(SimpleNamespace(config=config), values,
                                                       rewards, mask.long())
    return returns - values, returns


def whiten(x, mask, shift_mean):
    return core.masked_whiten(x, mask.long(), shift_mean)


def losses(mask, *, logprobs=None, old_logprobs=None, advantages=None, values=None,
           old_values=None, returns=None, cliprange=0.2, cliprange_value=0.2, vf_coef=0.1):
    """(policy, value) loss; what is not given is 0."""
    def own(x):
        return torch.zeros(mask.shape, dtype=torch.float64) if x is None else x
    config = SimpleNamespace(cliprange=cliprange, cliprange_value=cliprange_value,
                             vf_coef=vf_coef, ratio_threshold=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                         # that a batch is skipped
        return PPOTrainer.loss(
            SimpleNamespace(config=config), own(old_logprobs), own(old_values),
            torch.zeros(*mask.shape, 2), own(values), own(logprobs), mask.long(), own(advantages),
            own(returns))[:2]


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
    return losses(mask, logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages,
                  cliprange=clip_ratio)[0]


def clipped_value_loss(values, old_values, returns, mask, clip_range, vf_coef=0.1):
    return losses(mask, values=values, old_values=old_values, returns=returns,
                  cliprange_value=clip_range, vf_coef=vf_coef)[1]


def aggregate_loss(losses, mask, micro_batches=None):
    """masked_mean of each micro-batch; accelerate's `backward` divides by their number."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    return sum(core.masked_mean(x, m.long()) for x, m in zip(
        losses.split(sizes), mask.split(sizes), strict=True)) / len(sizes)


MODES = {
    "clipped_value_loss": {"vf_coef=1.0": partial(clipped_value_loss, vf_coef=1.0)},
    "penalized_rewards": {f"kl_penalty='{name}'": partial(penalized_rewards, kl_penalty=name)
                          for name in ("abs", "mse")},
}

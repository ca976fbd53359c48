"""TRL's PPO, of release 1.9.2: trl.experimental.ppo, which 1.13.0 and later do not have.

Called are `masked_mean`, `masked_whiten`, `get_reward` (with its `first_true_indices`) and the
statements of `PPOTrainer.train`, which are in trl/experimental/ppo/ppo_trainer.py and
trl/experimental/utils.py.
TRL builds its masks from pads, so rows with gaps cannot be given to it.
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from trl.experimental.ppo import ppo_trainer
from trl.experimental.utils import get_reward

sys.path.insert(0, str(Path(__file__).parent))
from excerpt import run  # noqa: E402

PRESETS = ("trl-ppo",)
COARSE = {"whiten": "n/(n − 1) of a boolean mask is float32 in masked_var"}
TRAIN = ppo_trainer.PPOTrainer.train
PAD, TOKEN, EOS = 0, 1, 2


def ended(mask, logprobs=None, ref_logprobs=None, values=None):
    """train's names once it has masked what follows the ends: its p, p1 and the log-probs."""
    if bool((~mask[:, :-1] & mask[:, 1:]).any()):
        raise NotImplementedError("masks come from pads, so a row has no gaps")
    responses = torch.where(mask, TOKEN, PAD)
    nothing = torch.zeros(mask.shape, dtype=torch.float64)
    # as in train: sequence_length = first_true_indices(postprocessed_response == pad) - 1
    lengths = run(TRAIN, "sequence_length = ", "sequence_length = ",
                  postprocessed_response=responses,
                  processing_class=SimpleNamespace(pad_token_id=PAD)).sequence_length
    return vars(run(TRAIN, "response_idxs = ", "values = torch.masked_fill",
                    responses=responses, sequence_lengths=lengths,
                    logprobs=nothing if logprobs is None else logprobs,
                    ref_logprobs=nothing if ref_logprobs is None else ref_logprobs,
                    values=nothing if values is None else values))


def token_logprobs(logits, tokens, temperature):
    output = SimpleNamespace(logits=logits.clone())             # they are divided in place
    return run(TRAIN, "logits = output.logits", "new_logprobs = selective_log_softmax",
               output=output, mb_responses=tokens[:, 1:], context_length=1,
               args=SimpleNamespace(temperature=temperature)).new_logprobs


def kl_estimate(logprobs, ref_logprobs, estimator):
    if estimator not in ("k1", "k3"):
        raise NotImplementedError("kl_estimator is k1 or k3")
    return run(TRAIN, "logr = ", "kl = ", logprobs=logprobs, ref_logprobs=ref_logprobs,
               args=SimpleNamespace(kl_estimator=estimator)).kl


def penalized_rewards(scores, logprobs, ref_logprobs, mask, beta, kl_estimator="k1"):
    return run(TRAIN, "logr = ", "rewards[actual_start, actual_end] += scores",
               **ended(mask, logprobs, ref_logprobs) | {"scores": scores},
               args=SimpleNamespace(kl_estimator=kl_estimator, kl_coef=beta)).rewards


def score_without_end(scores, ended, penalty):
    responses = torch.where(ended[:, None], EOS, TOKEN)
    trainer = SimpleNamespace(processing_class=SimpleNamespace(eos_token_id=EOS),
                              args=SimpleNamespace(missing_eos_penalty=penalty))
    return run(TRAIN, "contain_eos_token = ", "if self.args.missing_eos_penalty", self=trainer,
               postprocessed_responses=responses, scores=scores.clone()).scores


def gae(rewards, values, mask, gamma, lam):
    names = ended(mask, values=values)
    # train's own rewards end at p1; where it whitens them it says so in this statement
    names |= vars(run(TRAIN, "rewards = torch.masked_fill", "rewards = torch.masked_fill",
                      **names | {"rewards": rewards}))
    out = run(TRAIN, "lastgaelam = 0", "returns = advantages + values", **names,
              args=SimpleNamespace(gamma=gamma, lam=lam))
    return out.advantages, out.returns


def whiten(x, mask, shift_mean):
    return ppo_trainer.masked_whiten(x, mask, shift_mean)


def clipped_surrogate_loss(logprobs, old_logprobs, advantages, mask, clip_ratio):
    names = ended(mask, logprobs=old_logprobs)
    names |= vars(run(TRAIN, "advantages = torch.masked_fill", "advantages = torch.masked_fill",
                      **names | {"advantages": advantages}))
    names |= {"micro_batch_inds": slice(None), "new_logprobs": logprobs,
              "mb_logprobs": names["logprobs"], "mb_advantage": names["advantages"],
              "args": SimpleNamespace(cliprange=clip_ratio)}
    masked = run(TRAIN, "new_logprobs = torch.masked_fill", "new_logprobs = torch.masked_fill",
                 **names)
    return run(TRAIN, "logprobs_diff = ", "pg_loss = ", **vars(masked)).pg_loss


def clipped_value_loss(values, old_values, returns, mask, clip_range, vf_coef=0.1):
    """With PPOConfig's default vf_coef (ppo_config.py)."""
    names = ended(mask, values=old_values)
    names |= {"micro_batch_inds": slice(None), "vpred": values, "mb_values": names["values"],
              "mb_return": returns, "pg_loss": 0.0,
              "args": SimpleNamespace(cliprange_value=clip_range, vf_coef=vf_coef)}
    whole = run(TRAIN, "vpred = torch.masked_fill", "vf_loss = ", **names)
    return run(TRAIN, "loss = pg_loss + ", "loss = pg_loss + ", **vars(whole)).loss


def aggregate_loss(losses, mask, micro_batches=None):
    """masked_mean of each micro-batch; accelerate's `backward` divides by their number."""
    sizes = [len(mask)] if micro_batches is None else micro_batches.tolist()
    parts = zip(losses.split(sizes), mask.split(sizes), strict=True)
    return sum(ppo_trainer.masked_mean(x, m) for x, m in parts) / len(sizes)


def entropy(logits, mask, temperature=1.0):
    """What is logged as policy/entropy_avg; TRL's PPO has no bonus."""
    tempered = run(TRAIN, "logits /= ", "logits /= ", logits=logits.clone(),
                   args=SimpleNamespace(temperature=temperature)).logits
    logged = run(TRAIN, "prob_dist = ", "entropy = ", logits=tempered).entropy
    return run(TRAIN, "entropy_stats[", "entropy_stats[", entropy=logged, entropy_stats={},
               ppo_epoch_idx=0, minibatch_idx=0, gradient_accumulation_idx=0
               ).entropy_stats[0, 0, 0]


def score_index(tokens, mask, prompt_width, pad_id):
    """get_reward of a model whose score of a position is that position."""
    model = torch.nn.Module()
    model.base_model_prefix, model.score = "backbone", lambda states: states
    states = torch.arange(tokens.shape[1]).expand(tokens.shape)[..., None]
    model.backbone = lambda **_: SimpleNamespace(hidden_states=[states])
    return get_reward(model, tokens, pad_id, prompt_width)[1]


MODES = {
    "clipped_value_loss": {"vf_coef=1.0": partial(clipped_value_loss, vf_coef=1.0)},
    "penalized_rewards": {"kl_estimator='k3'": partial(penalized_rewards, kl_estimator="k3")},
}

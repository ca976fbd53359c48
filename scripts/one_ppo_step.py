"""One PPO step with every intermediate printed, small enough to follow by hand.

    python scripts/one_ppo_step.py [--seed 0]

Two prompts, responses of at most five tokens, a vocabulary of eight words, models of width 8.
"""

import argparse

import numpy as np

from minirlhf import transformer
from minirlhf.autograd import value_and_grad
from minirlhf.gae import gae, whiten
from minirlhf.kl_penalty import penalized_rewards
from minirlhf.optimizer import adamw_state, adamw_step, clip_by_global_norm
from minirlhf.parameters import copy
from minirlhf.rollout import Models, collect, response_logprobs
from minirlhf.stages.ppo import PPOConfig, policy_loss, value_loss
from minirlhf.tokens import WordTokenizer

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--quick", action="store_true", help="accepted; the step is quick already")
rng = np.random.default_rng(parser.parse_args().seed)
np.set_printoptions(precision=3, suppress=True, linewidth=100)


def show(name, array, formula):
    text = str(np.asarray(array)).replace("\n", "\n" + " " * 14)
    print(f"{name:>12}  {text}\n{'':14}{formula}\n")


words = WordTokenizer(["sky", "is", "blue", "red", "what", "color", "?", "."])
model = transformer.ModelConfig(words.vocab_size, context=16, channels=8, heads=2, layers=1)
sft = transformer.initialize(model, rng=rng, dtype="float64")
sft.flat += rng.normal(0, 0.2, sft.flat.shape)             # as if it had been trained
reward = transformer.with_scalar_head(sft, rng=rng)
models = Models(policy=copy(sft), value=copy(reward), reward=reward, reference=sft)
models.policy.flat += rng.normal(0, 0.05, sft.flat.shape)  # as if PPO had moved it already
config = PPOConfig(beta=0.1)

prompts = [words.prompt("what color is sky ?"), words.prompt("what is red ?")]
batch = collect(models, model, prompts, max_new=5, rng=rng)
for row, mask in zip(batch.sequences, batch.sequence_mask, strict=True):
    print("  ", " ".join(words.words[i] for i in row[mask]))
print()
show("mask", batch.mask, "True = a token of the response; <eos> counts")
show("logprobs", batch.logprobs, "log π(token | before), from the sampler")
show("ref", batch.ref_logprobs, "log π_ref(token | before), the frozen SFT model")
show("k1", np.where(batch.mask, batch.logprobs - batch.ref_logprobs, 0), "log π − log π_ref")
show("scores", batch.scores, "the reward model at the last token of each response")
rewards = penalized_rewards(batch.scores, batch.logprobs, batch.ref_logprobs, batch.mask,
                            config.beta)
show("rewards", rewards, f"−β·k1, β = {config.beta}, and the score added at the last token")
show("values", batch.values, "V: what the value model expects, before each token is chosen")
advantages, returns = gae(rewards, batch.values, batch.mask, config.gamma, config.lam)
show("advantages", advantages, "A_t = δ_t + γλ·A_t+1,  δ_t = r_t + γ·V_t+1 − V_t")
show("returns", returns, "A + V: what the value model should have said")
whitened = whiten(advantages, batch.mask)
show("whitened", whitened, "mean 0, deviation 1 over the tokens of the batch")

count = int(batch.mask.sum())
for name, loss_of, params, target, lr in (
        ("policy", policy_loss, models.policy, whitened, config.lr_policy),
        ("value", value_loss, models.value, returns, config.lr_value)):
    loss, grads = value_and_grad(loss_of)(params, model, batch, target, config, count)
    grads, norm = clip_by_global_norm(grads, config.max_grad_norm)
    adamw_step(params, grads, adamw_state(params), lr, weight_decay=0.0)
    after = loss_of(params, model, batch, target, config, count)
    print(f"{name} loss {float(loss):+.6f}, gradient norm {float(norm):.4f}; after one AdamW step "
          f"with learning rate {lr}: {float(after):+.6f}")

new = response_logprobs(models.policy, model, batch.sequences, batch.sequence_mask,
                        batch.mask.shape[1])
show("\n       ratio", np.where(batch.mask, np.exp(new - batch.logprobs), 0),
     "π/π_old after the step: above 1 where the advantage is positive, mostly")

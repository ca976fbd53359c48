"""One PPO step with every intermediate printed, small enough to follow by hand.

    python scripts/one_ppo_step.py [SEED]

Two prompts, responses of at most five tokens, a vocabulary of eight words, models of width 8.
"""

import sys

import numpy as np

from minirlhf import transformer
from minirlhf.gae import gae, whiten
from minirlhf.kl_penalty import penalized_rewards
from minirlhf.optimizer import adamw_state
from minirlhf.parameters import copy
from minirlhf.rollout import Models, collect, response_logprobs
from minirlhf.stages.ppo import PPOConfig, policy_loss, value_loss
from minirlhf.stages.training import update
from minirlhf.tokens import WordTokenizer

rng = np.random.default_rng(int(next(iter(a for a in sys.argv[1:] if a.isdigit()), 0)))
np.set_printoptions(precision=3, suppress=True, linewidth=100)

words = WordTokenizer(["sky", "is", "blue", "red", "what", "color", "?", "."])
model = transformer.ModelConfig(words.vocab_size, context=16, channels=8, heads=2, layers=1)
sft = transformer.initialize(model, rng=rng, dtype="float64")
sft.flat += rng.normal(0, 0.2, sft.flat.shape)                  # as if it had been trained
reward = transformer.with_scalar_head(sft, rng=rng)
models = Models(policy=copy(sft), value=copy(reward), reward=reward, reference=sft)
models.policy.flat += rng.normal(0, 0.05, sft.flat.shape)       # as if PPO had moved it already
config = PPOConfig(beta=0.1)

prompts = [words.prompt("what color is sky ?"), words.prompt("what is red ?")]
batch = collect(models, model, prompts, max_new=5, rng=rng)
mask, count = batch.mask, int(batch.mask.sum())
for row, real in zip(batch.sequences, batch.sequence_mask, strict=True):
    print(" ".join(words.words[i] for i in row[real]))
rewards = penalized_rewards(batch.scores, batch.logprobs, batch.ref_logprobs, mask, config.beta)
advantages, returns = gae(rewards, batch.values, mask, config.gamma, config.lam)
whitened = whiten(advantages, mask)
losses = [update(loss, params, adamw_state(params), lr, 1.0,
                 [(model, batch, target, config, count)])
          for loss, params, target, lr in ((policy_loss, models.policy, whitened, 3e-4),
                                           (value_loss, models.value, returns, 1e-3))]
after = response_logprobs(models.policy, model, batch.sequences, batch.sequence_mask, mask.shape[1])

for name, array, meaning in (
        ("mask", mask, "True = a token of the response; <eos> counts"),
        ("logprobs", batch.logprobs, "log π(token | before), as sampled"),
        ("ref_logprobs", batch.ref_logprobs, "log π_ref(token | before), the frozen SFT model"),
        ("scores", batch.scores, "the reward model at the last token of each response"),
        ("rewards", rewards, f"−β·(log π − log π_ref), β = {config.beta}; the score at the end"),
        ("values", batch.values, "V: what the value model expects before each token is chosen"),
        ("advantages", advantages, "A_t = δ_t + γλ·A_{t+1},  δ_t = r_t + γ·V_{t+1} − V_t"),
        ("returns", returns, "A + V: what the value model should have said"),
        ("whitened", whitened, "the advantages with mean 0, deviation 1 over the batch's tokens"),
        ("losses", np.array(losses), "(loss, gradient norm): clipped surrogate, clipped value"),
        ("ratio", np.where(mask, np.exp(after - batch.logprobs), 0), "π/π_old after one step")):
    print(f"\n{name}: {meaning}\n{array}")

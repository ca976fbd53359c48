"""Stage 3 by itself: four models in memory, and the numbers of every PPO step.

    python scripts/ppo.py [--quick] [--seed 0] [--name ppo-alone] [--ppo.beta 0.2]
"""

import sys

from minirlhf import pipeline
from minirlhf.commands import new_run
from minirlhf.host import make_ready
from minirlhf.parameters import copy
from minirlhf.rollout import Models, generate
from minirlhf.stages import ppo
from minirlhf.stages.training import Stage

make_ready()
run = new_run("ppo.py", __doc__, sys.argv[1:], name="ppo-alone")
pipeline.pretrain(run)
pipeline.fine_tune(run)
pipeline.collect_preferences(run)
pipeline.train_reward_model(run)

sft, reward = run.load("sft"), run.load("reward")
models = Models(policy=copy(sft), value=copy(reward), reward=reward, reference=sft)
print("\nfour models in memory: " + ", ".join(
    f"{name} {params.flat.nbytes / 1e6:.1f} MB" for name, params in models._asdict().items()))

print("\nstep   score − β·KL = objective   length   value's explained variance")
for step, n in enumerate(ppo.train(models, run.model, run.draw_prompts, run.config.ppo,
                                   seed=run.config.seed)):
    print(f"{step:4}   {n['score']:+.2f} − {n['beta']:.2f}·{n['kl']:.2f} = {n['objective']:+.3f}"
          f"       {n['length']:5.1f}   {n['explained_variance']:+.2f}")

prompts = [row["prompt"] for row in run.source.prompts() if row["split"] == "validation"][::12]
asked = [run.tokenizer.prompt(prompt) for prompt in prompts]
print("\nheld-out prompts, before and after:")
before, after = (generate(params, run.model, run.tokenizer, asked, run.config.ppo.max_new,
                          rng=run.rng(Stage.EVALUATE)) for params in (sft, models.policy))
for prompt, old, new in zip(prompts, before, after, strict=True):
    print(f"\n> {prompt}\n  SFT  {old.text}\n  PPO  {new.text}")

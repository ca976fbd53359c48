"""Stage 1 by itself: a base model that continues text becomes a model that answers.

    python scripts/sft.py [--quick] [--seed 0] [--name sft-alone]
"""

import sys

from minirlhf import pipeline
from minirlhf.commands import new_run
from minirlhf.host import make_ready
from minirlhf.rollout import generate
from minirlhf.stages import supervised
from minirlhf.stages.training import Stage

make_ready()
run = new_run("sft.py", __doc__, sys.argv[1:], name="sft-alone")
pipeline.pretrain(run)
base, sft = run.load("base"), run.load("base")

rows = run.source.demonstrations(rng=run.rng(Stage.DATA, 1))
print(f"\n{len(rows)} demonstrations, for example:")
for row in rows[:3]:
    print(f"  {row['prompt']}  ->  {row['response']}")

demonstrations = supervised.encode_demonstrations(rows, run.tokenizer)
config = run.config.sft
for step, numbers in enumerate(supervised.train(sft, run.model, demonstrations, config,
                                                seed=run.config.seed)):
    if step % 50 == 0 or step == config.steps - 1:
        print(f"step {step:4}   loss {numbers['loss']:.3f} nats a response token")
run.save("sft", sft)

prompts = [row["prompt"] for row in run.source.prompts() if row["split"] == "validation"][::12]
tokenizer, longest = run.tokenizer, run.config.ppo.max_new
before = generate(base, run.model, tokenizer, [tokenizer.encode(p) for p in prompts], longest,
                  rng=run.rng(Stage.EVALUATE))
after = generate(sft, run.model, tokenizer, [tokenizer.prompt(p) for p in prompts], longest,
                 rng=run.rng(Stage.EVALUATE))
print("\nheld-out prompts, continued by the base model and answered by the SFT model:")
for prompt, continued, answered in zip(prompts, before, after, strict=True):
    print(f"\n> {prompt}\n  base  {continued.text}\n  SFT   {answered.text}")

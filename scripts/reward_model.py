"""Stage 2 by itself: from comparisons to a score, and what the score makes of two replies.

    python scripts/reward_model.py [--quick] [--seed 0] [--name reward-alone]
"""

import sys

from minirlhf import pipeline, report
from minirlhf.bradley_terry import preference_probability
from minirlhf.commands import new_run
from minirlhf.files import read_json, read_jsonl
from minirlhf.host import make_ready
from minirlhf.rollout import score_replies

make_ready()
run = new_run("reward_model.py", __doc__, sys.argv[1:], name="reward-alone")
pipeline.pretrain(run)
pipeline.fine_tune(run)
pipeline.collect_preferences(run)
pipeline.train_reward_model(run)

comparisons = read_jsonl(run.folder / "preferences.jsonl")
print(f"\n{len(comparisons)} comparisons; the first held-out ones, as the reward model sees them:")
reward, tokenizer = run.load("reward"), run.tokenizer
for row in [row for row in comparisons if row["split"] == "test"][:60:12]:
    prompt = tokenizer.prompt(row["prompt"])
    chosen, rejected = score_replies(reward, run.model, [
        prompt + tokenizer.response(row[side], row[f"{side}_ended"])
        for side in ("chosen", "rejected")])
    p = preference_probability(chosen, rejected)
    print(f"\n> {row['prompt']}\n  {chosen:+.2f}  {row['chosen']}\n  {rejected:+.2f}  "
          f"{row['rejected']}\n  P(first is preferred) = σ({chosen - rejected:+.2f}) = {p:.2f}; "
          f"{sum(row['votes'])} of {len(row['votes'])} labelers preferred it")
print("\n" + report.accuracy_text(read_json(run.folder / "reward" / "accuracy.json")))

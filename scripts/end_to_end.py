"""The whole pipeline as a program: what `minirlhf run` does, in the order in which it does it.

    python scripts/end_to_end.py [--quick] [--seed 0] [--name end-to-end]
"""

import sys

from minirlhf import page, pipeline, report
from minirlhf.commands import new_run
from minirlhf.files import read_json, read_jsonl
from minirlhf.host import make_ready

make_ready()
run = new_run("end_to_end.py", __doc__, sys.argv[1:], name="end-to-end")

pipeline.pretrain(run)                  # the base model: next-token prediction on a toy web
pipeline.fine_tune(run)                 # stage 1: imitate demonstrations
pipeline.collect_preferences(run)       # SFT replies side by side; labelers choose
pipeline.train_reward_model(run)        # stage 2: Bradley-Terry on the choices
pipeline.fine_tune_with_rl(run)         # stage 3: PPO against the score, near the SFT model
pipeline.evaluate(run)                  # all models answer the test prompts

samples = read_jsonl(run.folder / "samples.jsonl")
print(report.examples_text(samples))
print(report.accuracy_text(read_json(run.folder / "reward" / "accuracy.json")))
print(report.table_text(report.comparison(samples)))
print("report:", page.write_report(run.folder))

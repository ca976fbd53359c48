"""The stages: loops that compose the mathematics.

Each stage is one file with a frozen configuration and one generator, `train(...)`, that makes one
optimizer step (PPO: one rollout and its updates) each time it is asked for the next value, and
yields that step's numbers:

    for metrics in pretraining.train(params, model, stream, config, seed=0):
        print(metrics["loss"])

Whoever runs a stage decides what happens between steps: a progress bar, a log, a checkpoint, an
early end.  Parameters are updated in place, and so is `state`, which holds all else that changes
from step to step; state["step"] counts the steps done.  All randomness of step t comes from a
generator made from (seed, stage, t), and depends on no step before it.  So a stage that is given
the parameters and the state of an interrupted one goes on with the very numbers that it would have
had.

Stages know nothing of where prompts, labels and evaluations come from.
"""

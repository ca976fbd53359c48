"""minirlhf: reinforcement learning from human feedback, from the chain rule up.

The pipeline that turns a raw language model into an assistant, in NumPy (or CuPy) alone:
base model → supervised fine-tuning → reward model → PPO.

Read it in this order; each module uses only those before it.

    arrays, parameters, autograd, ops      the chain rule on arrays
    files, tokens, transformer, sampling   a GPT-2, its tokens, its voice
    optimizer, memory                      AdamW, and the bytes that learning takes
    sft, bradley_terry, kl_penalty, gae,   the mathematics of RLHF, one idea a file
    clipped_surrogate, group_advantage, dpo
    rollout, stages/                       the three stages as loops over that mathematics
    world/, evaluation                     a toy world with a hidden truth to measure against
    labels, text, people, pretrained,      where a run's data and settings come from
    sources, settings
    checkpoint, environment, run,          the whole run, and how it survives an interruption
    run_folder, pipeline
    report, page/                          what it found
    options, commands, chat, labelling/,   the doors: run it, talk to it, label its replies
    cli

Symbols: B batch, T tokens, P prompt, R response, C channels, H heads, V vocabulary, L layers;
gradients are `d` + name.  docs/reading.md is a guided evening.
"""

from minirlhf import ops as _ops  # noqa: F401   gives Tensor its operators

__version__ = "0.1.0"

"""The toy assistant world: a small place in which every step of RLHF can be checked exactly.

People ask an assistant seven kinds of questions: three kinds of facts, recipes, requests that are
harmful, requests that only sound so, and questions nobody but the asker can answer. Everything is
written with about 300 words, so that a transformer that trains on one processor core can learn it.

Reading order:

- `grammar`: what is true, and every sentence that can be said;
- `prompts`: the questions, in train, validation and test;
- `corpus`: a web to pre-train on, which knows the facts and does not care about the asker;
- `demonstrations`: what people show the model, with people's mistakes;
- `parser`: what a reply states;
- `labelers`: people who compare two replies, with noise and with known biases;
- `gold`: **the secret one**, the preference that the labelers only approximate.

Why a world and not a data set? A reward model is an approximation, and the article that this
project implements warns: "Treating it as if it were the truth leads straight to reward hacking."
Real data holds no truth to compare with; here it is a function. So one can watch the learned reward
rise while the true one falls, and say by how much. That only works if nothing trains on the truth:
`gold` is imported by the evaluation, and by nothing else.

What it is not: a benchmark, or a claim about people. The labelers' biases (for length, for
courtesy, against checking facts) are the ones the literature reports, at strengths chosen to be
visible in a short run. Harmful how-tos are deliberately empty: the world needs sentences that a
policy should not say, not knowledge.
"""

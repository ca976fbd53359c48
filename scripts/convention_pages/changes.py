"""What each axis changes: the sentences of the pages that no computation can write."""

SECTIONS = {                                     # the part of an axis' name before its dot
    "Log-probabilities": ("pos", "temp", "topp"),
    "Supervised fine-tuning": ("sft",),
    "Reward model": ("rm",),
    "KL and rewards": ("kl", "score", "eos"),
    "Advantages": ("gae", "return", "whiten", "grpo", "rloo"),
    "Losses": ("pg", "agg", "vf", "ent"),
    "Preferences without a reward model": ("dpo", "ipo"),
    "Optimizer": ("adam", "clip"),
}

CHANGES = {
    "pos.ids":
        "With padding on the right nothing.  With padding on the left every log-prob and value of "
        "a shorter prompt changes, and with them everything after.  The classic sign of two kinds "
        "in one system: a ratio that is not 1 before the first update.",
    "temp.logp":
        "At temperature 1 nothing.  At another, raw log-probs belong to a distribution that "
        "nobody sampled from: ratio, KL and gradient are all about another policy.",
    "topp.edge":
        "Which token may be drawn at all.  Where the likeliest token alone crosses p, dropping it "
        "would leave none, so at least one is kept.",
    "topp.order":
        "At temperature 1 nothing.  A high temperature flattens the distribution: found after it, "
        "the nucleus is larger.",
    "topp.logp":
        "Whether the log-prob of a drawn token is that of the sampler.  Log-probs over the whole "
        "vocabulary are lower by −log S, S the surviving mass; if only one side of the ratio has "
        "it, the ratio is off by S before any update.",
    "sft.reduce":
        "With micro-batches of unequal token counts, the weight of a token: short micro-batches "
        "count more in a mean of means.  With one micro-batch nothing.",
    "sft.loss":
        "Which tokens teach.  DFT weighs each by its own probability, so surprising tokens, from "
        "which plain likelihood learns most, hardly count.",
    "sft.mask":
        "Whether the model also learns to say prompts.  Deciding by token ids rather than by the "
        "mask also loses the real end where pad = eos, and a model that never sees an end does "
        "not learn to stop.",
    "rm.read":
        "The score itself: one position off reads another token's hidden state.  The answers "
        "agree on a right-padded reply that ended, and part where pad = eos, where a reply is "
        "empty or full, or where padding is on the left.",
    "rm.choice":
        "Between two replies nothing: both are the logistic loss.  Among more, pairs weigh every "
        "other reply by how wrongly it stands to the best, the softmax by its share of the whole.",
    "rm.compare":
        "What is trained.  Comparing at every position from the divergence on trains scores of "
        "unfinished replies, and of pads of the shorter one.",
    "rm.margin":
        "Without a margin in the data nothing.  With one, pairs that are ranked rightly by less "
        "than it go on teaching.",
    "rm.center":
        "Differences of scores stay; their sum is pulled to 0, so that scores of two reward "
        "models, or a score and a threshold, can be compared.",
    "rm.post":
        "The scale of rewards, so how strong β is beside them, and where 0 lies, which matters "
        "wherever 0 means something: score clipping, a fixed penalty for a missing end, a value "
        "model that starts at 0.",
    "kl.est":
        "In a reward only the value counts: k1 has the KL as its mean, but is often negative; k2 "
        "and k3 charge every departure from the reference, in either direction.",
    "kl.loss_est":
        "In a loss only the gradient counts, and these differ in kind: on policy k1's mean is 0 "
        "(it restrains nothing), k2's is that of KL(π‖π_ref), k3's that of KL(π_ref‖π).",
    "kl.clamp":
        "Nothing until a token's log-ratio is large.  Beyond the bound the penalty stops growing "
        "and, in a loss, stops pulling back; without it k3 can reach 10¹⁰ on one token.",
    "kl.mask":
        "Whether slots after the end are charged.  There both models say something arbitrary, and "
        "what they say moves the rewards of real tokens through GAE.",
    "kl.place":
        "Which token pays.  Added up over the reply all agree on policy; token by token each is "
        "told what it alone cost.  Nowhere in the reward, the KL is a term of the loss, and the "
        "optimum is another one if its estimator is k3.",
    "kl.weight":
        "On the first update, where π = π_old, the value is the same.  The gradient is not: only "
        "weighed is k3's that of KL(π‖π_ref).  Later, unweighed estimates are of the older "
        "policy's tokens.",
    "kl.ctl":
        "By which number the target is to be understood: a target in nats a reply is about a "
        "reply's length too large for a controller that is fed nats a token, and β falls where it "
        "should rise.  The inverted k3 estimates no KL at all.",
    "score.place":
        "Which value the score is compared with first, and over how many steps of γλ it reaches "
        "the others.  One slot late, the last real token learns from a value that was read at a "
        "pad.",
    "score.clip":
        "Nothing within the bound.  Beyond it replies are equally good, and a reward that is "
        "hacked stops paying more.",
    "eos.penalty":
        "What a reply costs that was cut for its length.  Subtracting keeps the order of cut "
        "replies, replacing makes them all equal, scaling spares those with a score near 0 and "
        "rewards those below it.",
    "gae.mask":
        "For right-padded replies, whether a value at a pad bootstraps the last token.  With gaps "
        "inside a reply, as tool output makes, whether what comes after a gap is discounted by "
        "it.",
    "return.mask":
        "Without gaps inside a reply nothing.  With them, whether a reward after a tool's output "
        "reaches the tokens before it, and at which discount.",
    "whiten.ddof":
        "A factor √(n/(n−1)) on every advantage: nothing for a rollout, some percent for a "
        "minibatch of a few dozen tokens, NaN for a single token.",
    "whiten.eps":
        "Nothing while advantages vary.  Where they hardly do, from damped to nothing (in the "
        "root) to blown up to 1 (outside).",
    "whiten.mask":
        "With pads counted, what stands there moves mean and deviation; zeros shrink both, so "
        "that real tokens are scaled up and no longer centred.",
    "whiten.scope":
        "Each minibatch by itself makes a reply's advantage depend on which others it was drawn "
        "with, and removes differences between minibatches.",
    "whiten.count":
        "In exact arithmetic a millionth of a percent, in float32 nothing; but mean and variance "
        "are both divided by it, so a constant no longer gives exactly 0.",
    "whiten.shift":
        "Whether advantages are centred.  With the mean added back most tokens of a good batch "
        "are pushed up, whatever they did beside the others.",
    "grpo.std":
        "How much a prompt weighs.  Divided by its group's deviation, one on which replies hardly "
        "differ counts like one that tells them apart; not divided, as much as they differ.  n in "
        "place of n − 1 makes advantages larger by √(n/(n−1)).",
    "grpo.eps":
        "Nothing while scores of a group differ by more than it.  Of groups that differ by a "
        "thousandth it decides whether they count or vanish.",
    "grpo.singleton":
        "Only groups of one, which filtering can leave.  Its score as an advantage is REINFORCE "
        "without a baseline.",
    "rloo.std":
        "The scale of the batch: after it one learning rate serves any reward, and the advantage "
        "is no longer an unbiased one.",
    "rloo.singleton":
        "Only groups of one, which filtering can leave.  NaN spoils the whole step.",
    "pg.dual_clip":
        "Only tokens with a negative advantage whose probability has more than tripled since they "
        "were sampled.  They would dominate the loss, and stop teaching.",
    "pg.logratio_clamp":
        "Nothing within a factor of e²⁰.  Beyond it an infinity becomes a large number, with no "
        "gradient.",
    "pg.clip_high":
        "How far good tokens may rise in one rollout.  Improbable ones profit: with 0.28 a token "
        "of 0.01 can reach 0.0128, not 0.012.",
    "pg.level":
        "What clipping looks at.  The ratio of a whole reply leaves the clip range after a few "
        "small steps, all its tokens together; a mean hardly ever does.",
    "agg":
        "The weight of a token by the length of its reply.  Token means favour long replies, "
        "means within replies give each the same, sums over a constant length neither.  They also "
        "differ in scale, which AdamW hides and a gradient clip does not.  Means over rows part on "
        "replies without a token, which some count as a loss of 0.",
    "agg.micro":
        "Whether cutting a step into micro-batches changes it.  As a mean of means it does, and "
        "more the more unequal their token counts.",
    "vf.clip":
        "Values that have moved further than ε towards their return stop for this rollout; those "
        "that moved away do not.",
    "vf.coef":
        "With an optimizer of its own nearly nothing, since AdamW divides by the gradient's size.  "
        "With one optimizer, how the gradient clip is shared by policy and critic.",
    "vf.mask":
        "Whether the value at the first pad is trained.  Where the score stands there it must be; "
        "elsewhere it trains a value that nobody reads.",
    "ent.temp":
        "At temperature 1 nothing.  At another, the raw entropy is that of a distribution that "
        "nobody samples from.  10⁻⁷ beside the temperature moves the eighth digit.",
    "ent.mask":
        "A number to watch, diluted by pads: it moves when lengths do.",
    "dpo.smoothing":
        "Plain, the loss falls for ever as a pair's gap grows; smoothed, it has a minimum where "
        "the policy is as sure as the labels are.",
    "ipo.len":
        "What the target 1/(2β) means: nats a reply, or nats a token.  With means, replies of "
        "unequal length are compared token by token.",
    "adam.eps":
        "Early steps with small gradients.  TensorFlow adds ε before the correction, so in effect "
        "it is divided by √(1−β₂ᵗ): 32 times as large at step 1, the same after some thousand "
        "steps.",
    "adam.decay":
        "Without weight decay nothing.  Coupled, it is divided by the gradient's size like "
        "everything else: weights with large gradients hardly decay.",
    "adam.correction":
        "The first steps: without it they are up to (1−β₁)/√(1−β₂) ≈ 3 times as long at the "
        "defaults.  After a few thousand nothing.",
    "clip.scope":
        "Array by array, the direction of the step changes as well as its length.",
    "clip.eps":
        "A millionth of the norm.  It matters for tests that compare bits, and at norms near "
        "10⁻⁶.",
}

# Where a release that was run answers otherwise than the commit that the presets are about.
RELEASES = {
    "ent.temp":
        "openrlhf and rloo-openrlhf stand for a commit that takes the logits as they are.  "
        "OpenRLHF 0.11.2, as released, divides them by the temperature first: it is `tempered` "
        "([measured](../systems.md)).",
}

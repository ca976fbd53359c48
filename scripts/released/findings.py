"""What the departures of released code from the groups that list it are: told once, by hand.

Each finding is a sentence about tests of some adapters.  The page puts it beside what was measured,
and says of a departure that has none that it has not been looked into.
"""

from dataclasses import dataclass

from minirlhf.conformance.vectors import load


@dataclass(frozen=True)
class Finding:
    """`adapters` are names of files, `tests` ends of ids."""
    adapters: tuple[str, ...]
    tests: tuple[str, ...]
    says: str

    def tells(self, adapter: str, test: str) -> bool:
        return adapter in self.adapters and test.endswith(self.tests)


FINDINGS = (
    Finding(("trl_ppo", "trl_grpo", "openrlhf_ppo"), (
        "junk-in-masked-slots", "minus-infinity-masked"),
        "The mask is multiplied, not selected by: a NaN (or an infinity) in a slot that does not "
        "count is a NaN in the result.  Nothing of these systems puts one there; a model that "
        "overflows on pads would."),
    Finding(("verl_ppo",), ("value-loss-core-junk-in-masked-slots",
                            "entropy-core-junk-in-masked-slots"),
            "The value is right, since `masked_sum` selects; the gradient at a masked NaN is NaN, "
            "since the square and the softmax before it are differentiated there with weight 0."),
    Finding(("trl_ppo", "trl_grpo", "torchtune_ppo"), ("core-overflow",),
            "The loss of a ratio that overflows is right (clipped), its gradient is NaN: "
            "`clamp` has slope 0 there and `exp` has slope infinity."),
    Finding(("trl_ppo", "trl_grpo", "torchtune_ppo"), ("overflow-zero-advantage",),
            "A ratio that overflows with advantage 0 is infinity times 0: the loss is NaN."),
    Finding(("trl_grpo",), tuple(test.id for test in load("kl_estimate").groups[0].tests),
            "The only estimate that GRPO has is k3, of the KL in its loss; it charges none in the "
            "reward, so that the k1 of its preset is never asked for."),
    Finding(("verl_ppo",), ("entropy-core-coin",),
            "Where a token is impossible (a logit of minus infinity), the entropy is 0 times "
            "infinity: NaN, in its gradient too."),
    Finding(("openrlhf_ppo",), ("entropy-raw-half-temperature", "entropy-raw-two-tokens-cold",
                                "entropy-raw-pads-at-half-temperature"),
            "Release 0.11.2 divides the logits by the temperature before it takes their entropy, "
            "and follows the core; the commit that the list is about did not yet."),
    Finding(("torchtune_ppo",), ("after-last-one-token",),
            "A reply of one token has its score at that token, all longer ones have it one past "
            "their last: the index is moved on only where it is above 0."),
    Finding(("torchtune_ppo",), ("trl-ppo-unequal-lengths",),
            "The value loss counts the slot one past the last token, but not for replies of one "
            "token."),
)


@dataclass(frozen=True)
class Seen:
    """What a function was seen to follow, or a test of the core from which it departs."""
    system: str
    function: str
    setting: str
    group: str
    says: str
    departs: str | None = None


SEEN = (
    Seen("verl-0.7.0", "aggregate_loss", "by default", "micro-means",
         "verl 0.7.0's FSDP actor gives each micro-batch its own mean and averages these; 0.9.1 "
         "tells each the counts of the whole step."),
    Seen("verl-0.9.1", "aggregate_loss", "by default", "core",
         "So splitting a step into micro-batches changes nothing in 0.9.1."),
    Seen("verl-0.7.0", "clipped_surrogate_loss", "loss_agg_mode='seq-mean-token-sum-norm'", "width",
         "`seq-mean-token-sum-norm` divides by the width alone in 0.7.0; in 0.9.1 also by the "
         "number of replies, those without a token left out."),
    Seen("verl-0.7.0", "reward_to_go", "by default", "reset",
         "REINFORCE++'s return starts anew at a masked token in 0.7.0."),
    Seen("verl-0.9.1", "reward_to_go", "by default", "skipped",
         "In 0.9.1 it is carried over it."),
    Seen("verl-0.9.1", "group_advantages", "grpo_vectorized", "verl",
         "`grpo_vectorized` does as `grpo`, in float32; in 0.7.0 it raises a TypeError on a CPU."),
    Seen("verl-0.9.1", "kl_estimate", "by default", "k1-plus",
         "Estimators with a + have the value of their name and the gradient of k2; in 0.7.0 they "
         "are refused."),
    Seen("verl-0.9.1", "leave_one_out_advantages", "rloo_vectorized", "zero-alone",
         "A reply alone in its group has advantage 0 in `rloo_vectorized`, and keeps its score in "
         "`rloo`."),
    Seen("verl-0.9.1", "whiten", "with a mask of float64", "verl",
         "The 1e-8 that is added to the count shows with a mask of float64 only; a mask of "
         "integers plus 1e-8 is float32, where it is lost."),
    Seen("trl-1.16.0", "dpo_loss", "label_smoothing=0.1", "core",
         "TRL's DPO with its default loss_type \"sigmoid\" does not use `label_smoothing`; "
         "OpenRLHF and torchtune do."),
    Seen("trl-1.16.0", "aggregate_loss", "loss_type='dr_grpo'", "dr-grpo",
         "TRL's `dr_grpo` divides each micro-batch by its own rows times the constant length, and "
         "averages these: where micro-batches have unequal numbers of rows, that is not the sum "
         "over the step's rows times the length.", departs="aggregate-loss-core-split-unevenly"),
    Seen("trl-1.16.0", "clipped_surrogate_loss", "delta=3.0", "dual-clip",
         "TRL's `delta` is the dual clip."),
    Seen("trl-0.11.4", "token_logprobs", "by default", "raw",
         "TRL's classic PPO knows of no temperature, in log-probabilities and entropy."),
    Seen("trl-0.11.4", "kl_controller", "by default", "core",
         "It feeds its controller the sum over the tokens of a reply, as its target is meant."),
    Seen("trl-0.11.4", "clipped_surrogate_loss", "by default", "core",
         "Where the mean ratio of a batch is above `ratio_threshold` (10), it makes the whole loss "
         "0, with a warning.", departs="clipped-surrogate-loss-core-ratio-beyond-e20"),
    Seen("openrlhf-0.11.2", "bradley_terry_loss", "LogExpLoss", "no-margin",
         "OpenRLHF's `LogExpLoss` ignores a margin, and overflows for pairs that are far wrong.",
         departs="bradley-terry-loss-core-wrong-beyond-floats"),
    Seen("torchtune-0.6.1", "whiten", "by default", "torchtune",
         "torchtune's `whiten` with `shift_mean=True`, its default, adds the mean back: advantages "
         "are scaled, not centred."),
    Seen("torch-2.13.0", "exact_kl", "by default", "core",
         "PyTorch's `kl_div` of log-probabilities is NaN where a token is impossible.",
         departs="exact-kl-core-impossible"),
)


def finding(adapter: str, test: str) -> str:
    told = next((one.says for one in FINDINGS if one.tells(adapter, test)), None)
    return told or "Not looked into."

"""Known mistakes as patches of the correct adapter: in one function, one text for another.

{function: [(the name that the vectors have for it, the right text, the wrong one)]}
"""

PATCHES = {
    # --- language model and SFT ---
    "token_logprobs": [
        ("shift-missing", "tokens[:, 1:, None]", "tokens[:, :-1, None]"),
        ("softmax-missing", "log_softmax(logits[:, :-1] / temperature)",
         "logits[:, :-1] / temperature"),
        ("logits-one-late", "logits[:, :-1]", "logits[:, 1:]"),
        ("probabilities-for-log-probabilities", "    return",
         "    logp = np.exp(logp)\n    return"),
        ("log-base-two", "[..., 0]", "[..., 0] / np.log(2)"),
        ("temperature-ignored", " / temperature", ""),
        ("temperature-multiplied", "/ temperature", "* temperature"),
        ("tempered-after-softmax", "log_softmax(logits[:, :-1] / temperature)",
         "log_softmax(logits[:, :-1]) / temperature")],
    "nucleus_logprobs": [
        ("surviving-mass-ignored", "np.where(sampled, token - np.log(mass), -np.inf)", "token"),
        ("surviving-mass-multiplied", "token - np.log(mass)", "token + np.log(mass)"),
        ("temperature-ignored", " / temperature", "")],
    "position_ids": [
        ("pads-counted-in-front", "np.cumsum(mask, axis=1) - 1",
         "np.arange(mask.shape[1]) - mask.argmax(axis=1)[:, None]"),
        ("counted-from-one", " - 1", ""),
        ("positions-of-columns", "np.cumsum(mask", "np.cumsum(mask | True")],
    "sft_loss": [
        ("loss-sign", "-logprobs", "logprobs"),
        ("mean-of-row-sums", "mask, count)", "mask, len(mask))"),
        ("mask-ignored", "mean(-logprobs, mask, count)", "-logprobs.mean()"),
        ("pads-in-the-mean", "mask, count)", "mask, count or mask.size)"),
        ("mask-shifted-by-one", "mask, count)",
         "np.insert(mask, 0, False, axis=1)[:, :-1], count)"),
        ("mean-of-row-means", "mean(-logprobs, mask, count)",
         "sum(mean(-x, m) for x, m in zip(logprobs, mask, strict=True)) / len(mask)"),
        ("mask-multiplied", "mean(-logprobs, mask, count)",
         "(-logprobs * mask).sum() / (count or mask.sum())"),
        ("count-ignored", "mask, count)", "mask)"),
        ("last-token-left-out", "mask, count)", "mask & (np.arange(mask.shape[1]) < np.where("
         "mask, np.arange(mask.shape[1]), -1).max(axis=1, keepdims=True)), count)")],
    "aggregate_loss": [
        ("mean-of-micro-means", "return sum(parts)",
         "return sum(p * n / m.sum() for p, m in zip(parts, np.split(mask, starts[1:-1]), "
         "strict=True)) / len(parts)"),
        ("micro-means-summed", "mask[a:b], n)", "mask[a:b])"),
        ("pads-in-the-mean", "n = mask.sum()", "n = mask.size"),
        ("sum-instead-of-mean", "n = mask.sum()", "n = 1")],
    "sft_mask": [
        ("prompt-learnt", "(mask & (places >= prompt_lengths[:, None]))", "mask"),
        ("first-response-token-left-out", "places >= ", "places > ")],
    # --- reward model ---
    "bradley_terry_loss": [
        ("preference-swapped", "score_chosen - score_rejected", "score_rejected - score_chosen"),
        ("hinge-for-softplus", "softplus(-(score_chosen - score_rejected - margin))",
         "larger(1 - (score_chosen - score_rejected - margin), 0)"),
        ("probability-for-its-logarithm", "softplus(-(score_chosen - score_rejected - margin))",
         "-1 / (1 + np.exp(-(score_chosen - score_rejected - margin)))"),
        ("scores-squashed", "    losses", "    score_chosen, score_rejected = (1 / (1 + np.exp(-s))"
         " for s in (score_chosen, score_rejected))\n    losses"),
        ("margin-sign", "- margin", "+ margin"),
        ("margin-ignored", " - margin", ""),
        ("rejected-detached", "- score_rejected", "- detached(score_rejected)"),
        ("log-of-an-underflow", "softplus(-(score_chosen - score_rejected - margin))",
         "-np.log(1 / (1 + np.exp(-(score_chosen - score_rejected - margin))))"),
        ("sum-instead-of-mean", " / (count or len(losses))", "")],
    "best_of_loss": [
        ("first-is-best", "    rows =", "    best = 0 * best\n    rows =")],
    "score_index": [
        ("pad-id-unknown", "np.where(mask, places, -1).max(axis=1)",
         "np.full(len(mask), places[-1])"),
        ("token-before-the-last", ".max(axis=1)", ".max(axis=1) - 1"),
        ("token-after-the-last", ".max(axis=1)", ".max(axis=1) + 1"),
        ("counted-without-left-padding", "np.where(mask, places, -1).max(axis=1)",
         "mask.sum(axis=1) - 1")],
    "per_token_preference_loss": [
        ("preference-swapped", "chosen - rejected)", "rejected - chosen)"),
        ("score-at-the-row-end", "    return", "    chosen, rejected = chosen_scores[:, -1], "
         "rejected_scores[:, -1]\n    return")],
    "normalized_scores": [
        ("divided-by-the-variance", "/ sigma", "/ sigma ** 2"),
        ("mean-not-subtracted", "(scores - mu)", "scores"),
        ("normalised-by-itself", "    mu,", "    reference_scores = scores\n    mu,")],
    # --- KL ---
    "kl_estimate": [
        ("kl-direction-swapped", "logprobs - ref_logprobs", "ref_logprobs - logprobs"),
        ("half-missing", "d * d / 2", "d * d"),
        ("log-base-two", "    if", "    d = d / np.log(2)\n    if"),
        ("kl-detached", "d = logprobs", "d = detached(logprobs)")],
    "exact_kl": [
        ("kl-direction-swapped", "log_softmax(logits), log_softmax(ref_logits)",
         "log_softmax(ref_logits), log_softmax(logits)"),
        ("mean-over-the-vocabulary", "logp - logq)", "logp - logq) / logp.shape[-1]"),
        ("weights-missing", "weighed(np.exp(logp), logp - logq)", "(logp - logq).sum(axis=-1)"),
        ("entropy-left-out", "logp - logq", "-logq"),
        ("kl-of-the-wrong-weights", "weighed(np.exp(logp), logp - logq)",
         "(np.exp(logq) * (logp - logq)).sum(axis=-1)"),
        ("zero-times-minus-infinity", "weighed(np.exp(logp), logp - logq)",
         "(np.exp(logp) * (logp - logq)).sum(axis=-1)")],
    "kl_loss": [
        ("kl-detached", "kl_estimate(logprobs", "kl_estimate(detached(logprobs)"),
        ("reference-is-the-old-policy", "(logprobs, ref_logprobs", "(logprobs, old_logprobs"),
        ("sum-instead-of-mean", "mask, count)", "mask, 1)"),
        ("mask-multiplied", "mean(k, mask, count)", "(k * mask).sum() / (count or mask.sum())")],
    "penalized_rewards": [
        ("kl-direction-swapped", "logprobs - ref_logprobs", "ref_logprobs - logprobs"),
        ("score-at-every-token", "places == last[:, None]", "mask"),
        ("score-at-the-first-token", "places == last[:, None]", "places == 0"),
        ("score-at-the-row-end", "places == last[:, None]", "places == mask.shape[1] - 1"),
        ("score-missing", " + np.where(places == last[:, None], scores[:, None], 0)", ""),
        ("beta-missing", "-beta * ", "-"),
        ("kl-of-the-policy-alone", " - ref_logprobs", ""),
        ("kl-divided-by-the-length", "(logprobs - ref_logprobs)",
         "(logprobs - ref_logprobs) / np.maximum(mask.sum(axis=1, keepdims=True), 1)")],
    "score_without_end": [
        ("penalty-of-every-row", "np.where(ended, scores, scores - penalty)", "scores - penalty"),
        ("penalty-of-the-ended", "where(ended", "where(~ended"),
        ("penalty-sign", "- penalty", "+ penalty")],
    "adaptive_beta": [
        ("controller-exponential", "(1 + error * n / horizon)", "np.exp(error * n / horizon)"),
        ("controller-clips-the-whole",
         "np.clip(observed_kl / target_kl - 1, -0.2, 0.2)\n    return beta * (1 + error * n / "
         "horizon)", "observed_kl / target_kl - 1\n    return beta * (1 + np.clip(error * n / "
         "horizon, -0.2, 0.2))"),
        ("controller-clip-missing", "np.clip(observed_kl / target_kl - 1, -0.2, 0.2)",
         "observed_kl / target_kl - 1"),
        ("controller-sign", "1 + error", "1 - error"),
        ("controller-difference", "observed_kl / target_kl - 1", "observed_kl - target_kl"),
        ("target-over-observed", "observed_kl / target_kl", "target_kl / observed_kl"),
        ("controller-n-missing", " * n / horizon", " / horizon")],
    "kl_controller": [
        ("controller-fed-token-mean", "k.sum(axis=1).mean()",
         "(k.sum(axis=1) / mask.sum(axis=1)).mean()"),
        ("controller-n-of-tokens", "len(mask)", "mask.sum()")],
    # --- advantages ---
    "gae": [
        ("bootstrap-from-the-last-value", "        delta",
         "        last = np.where(mask, np.arange(mask.shape[1]), -1).max(axis=1)\n"
         "        after = np.where(t == last, values[:, t], after)\n        delta"),
        ("value-sign", "- values[:, t]", "+ values[:, t]"),
        ("next-value-forgotten", " + gamma * after", ""),
        ("decay-without-lambda", "gamma * lam * later", "gamma * later"),
        ("decay-without-gamma", "gamma * lam * later", "lam * later"),
        ("lambda-in-delta", "gamma * after", "gamma * lam * after"),
        ("gamma-missing-in-delta", "gamma * after", "after"),
        ("returns-without-the-value", "advantages + values", "advantages"),
        ("reward-one-token-late", "rewards[:, t] +", "(rewards[:, t - 1] if t else 0) +"),
        ("masked-after-the-recursion", "    rewards, values = np",
         "    mask = mask | True\n    rewards, values = np"),
        ("mask-multiplied", "np.where(mask, rewards, 0), np.where(mask, values, 0)",
         "rewards * mask, values * mask")],
    "reward_to_go": [
        ("gamma-missing", "gamma * later", "later"),
        ("past-rewards-counted", "return returns",
         "return returns * 0 + rewards.sum(axis=1, keepdims=True)")],
    "whiten": [
        ("whitened-row-by-row", "x[mask].mean()\n    variance = ((x[mask] - mu) ** 2).mean()",
         "np.nanmean(np.where(mask, x, np.nan), axis=1, keepdims=True)\n    variance = np.nanmean("
         "np.where(mask, (x - mu) ** 2, np.nan), axis=1, keepdims=True)"),
        ("divided-by-the-variance", "np.sqrt(variance + 1e-8)", "(variance + 1e-8)"),
        ("variance-not-centred", "(x[mask] - mu) ** 2", "x[mask] ** 2"),
        ("mean-over-pads", "mu = x[mask].mean()", "mu = x.mean()"),
        ("mean-not-subtracted", "(x - mu)", "x"),
        ("no-epsilon", " + 1e-8", ""),
        ("shift-mean-ignored", "y if shift_mean else y + mu", "y"),
        ("mask-multiplied", "mu = x[mask].mean()", "mu = (x * mask).sum() / mask.sum()")],
    "group_advantages": [
        ("whitened-again", "    return above",
         "    above = (above - above.mean()) / (above.std() + 1e-8)\n    return above"),
        ("no-epsilon", " + 1e-4", ""),
        ("mean-not-subtracted", " - groups.mean(axis=1, keepdims=True)", ""),
        ("best-for-mean", "groups.mean(", "groups.max("),
        ("divided-by-the-variance", "groups.std(", "groups.var("),
        ("grouped-over-the-batch", "    groups = ", "    group_size = len(scores)\n    groups = ")],
    "leave_one_out_advantages": [
        ("divided-by-the-others-deviation", "(groups - others)",
         "((groups - others) / (np.stack([np.delete(groups, i, axis=1).std(axis=1, ddof=1)"
         " for i in range(group_size)], axis=1) + 1e-6))"),
        ("groups-strided",
         "groups = scores.reshape(-1, group_size)\n"
         "    others = (groups.sum(axis=1, keepdims=True) - groups) / (group_size - 1)\n"
         "    return (groups - others)",
         "groups = scores.reshape(group_size, -1).T\n"
         "    others = (groups.sum(axis=1, keepdims=True) - groups) / (group_size - 1)\n"
         "    return (groups - others).T"),
        ("own-score-in-the-baseline", "groups - others)",
         "groups - groups.mean(axis=1, keepdims=True))"),
        ("divided-by-the-group-size", "(group_size - 1)", "group_size"),
        ("others-summed", " / (group_size - 1)", "")],
    # --- losses of reinforcement learning and DPO ---
    "clipped_surrogate_loss": [
        ("clip-in-log-space", "between(ratio, 1 - clip_ratio, 1 + clip_ratio)",
         "np.exp(between(logprobs - old_logprobs, -clip_ratio, clip_ratio))"),
        ("overflow-times-zero", "mean(smaller(", "mean(np.minimum("),
        ("policy-loss-sign", "return -mean", "return mean"),
        ("ratio-inverted", "logprobs - old_logprobs", "old_logprobs - logprobs"),
        ("ratio-without-exp", "np.exp(logprobs - old_logprobs)",
         "1 + logprobs - old_logprobs"),
        ("max-for-min", "mean(smaller", "mean(larger"),
        ("clip-without-min", "smaller(ratio * advantages, bounded * advantages)",
         "bounded * advantages"),
        ("clip-missing", "smaller(ratio * advantages, bounded * advantages)",
         "ratio * advantages"),
        ("clip-of-the-product", "bounded * advantages",
         "between(ratio * advantages, 1 - clip_ratio, 1 + clip_ratio)"),
        ("sum-instead-of-mean", "mask, count)", "mask, 1)"),
        ("old-logprobs-not-detached", "- old_logprobs",
         "- (old_logprobs + logprobs - detached(logprobs))"),
        ("pads-in-the-mean", "mask, count)", "mask, count or mask.size)"),
        ("count-ignored", "mask, count)", "mask)")],
    "clipped_value_loss": [
        ("clip-adds-to-the-value", "near = old_values", "near = values"),
        ("half-missing", " / 2", ""),
        ("value-clip-missing", "larger((values - returns) ** 2, (near - returns) ** 2)",
         "(values - returns) ** 2"),
        ("min-for-max", "mean(larger", "mean(smaller"),
        ("clipped-error-only", "larger((values - returns) ** 2, (near - returns) ** 2)",
         "(near - returns) ** 2"),
        ("clipped-around-the-return", "old_values + between(values - old_values",
         "returns + between(values - returns"),
        ("error-not-squared", "(values - returns) ** 2, (near - returns) ** 2",
         "np.sqrt((values - returns) ** 2), np.sqrt((near - returns) ** 2)")],
    "entropy": [
        ("logprob-of-the-likeliest", "-weighed(np.exp(logp), logp)", "-logp.max(axis=-1)"),
        ("entropy-sign", "-weighed", "weighed"),
        ("temperature-ignored", " / temperature", ""),
        ("temperature-multiplied", "/ temperature", "* temperature"),
        ("softmax-missing", "log_softmax(logits / temperature)", "logits / temperature"),
        ("zero-times-minus-infinity", "weighed(np.exp(logp), logp)",
         "(np.exp(logp) * logp).sum(axis=-1)"),
        ("mean-over-the-vocabulary", "logp), mask", "logp) / logp.shape[-1], mask")],
    "dpo_loss": [
        ("reference-swapped", "(chosen - ref_chosen) - (rejected - ref_rejected)",
         "(chosen - ref_rejected) - (rejected - ref_chosen)"),
        ("reference-missing", "(chosen - ref_chosen) - (rejected - ref_rejected)",
         "chosen - rejected"),
        ("preference-swapped", "softplus(-gap)", "softplus(gap)"),
        ("beta-missing", "beta * (", "1 * ("),
        ("beta-outside", "    return softplus(-gap)", "    return beta * softplus(-gap / beta)"),
        ("rejected-detached", "(rejected - ref", "(detached(rejected) - ref"),
        ("reference-sign", "chosen - ref_chosen) - (rejected - ref_rejected",
         "chosen + ref_chosen) - (rejected + ref_rejected")],
    "ipo_loss": [
        ("beta-for-its-inverse", "1 / (2 * beta)", "beta / 2"),
        ("half-missing", "1 / (2 * beta)", "1 / beta"),
        ("preference-swapped", "above - below", "below - above")],
    # --- optimizer ---
    "adamw_step": [
        ("step-count-one-late", "start=1", "start=2"),
        ("gradient-ascent", "params - lr * m", "params + lr * m"),
        ("second-moment-not-squared", "(1 - beta2) * g * g", "(1 - beta2) * np.abs(g)"),
        ("moments-not-kept", "        m = beta1", "        m = v = 0.0\n        m = beta1"),
        ("step-count-stays-one", "        m = beta1", "        t = 1\n        m = beta1"),
        ("betas-swapped", "    m = v", "    beta1, beta2 = beta2, beta1\n    m = v"),
        ("epsilon-in-the-root", "np.sqrt(v / (1 - beta2 ** t)) + eps",
         "np.sqrt(v / (1 - beta2 ** t) + eps)"),
        ("root-missing", "np.sqrt(v / (1 - beta2 ** t))", "v / (1 - beta2 ** t)"),
        ("decay-missing", "1 - lr * weight_decay", "1"),
        ("decay-sign", "1 - lr * weight", "1 + lr * weight"),
        ("decay-without-the-rate", "1 - lr * weight", "1 - weight")],
    "clip_by_global_norm": [
        ("norm-after-clipping", "}, norm", "}, norm * factor"),
        ("norm-of-the-mean-square", "(norm + 1e-6)",
         "(norm / np.sqrt(sum(g.size for g in grads.values())) + 1e-6)"),
        ("norm-squared", "(norm + 1e-6)", "(norm ** 2 + 1e-6)"),
        ("clipping-missing", "g * factor", "g"),
        ("clipped-by-value", "g * factor", "np.clip(g, -max_norm, max_norm)"),
        ("always-scaled", "min(1.0, max_norm / (norm + 1e-6))", "max_norm / (norm + 1e-6)")],
}

# Mistakes that are not injected, and why.
NOT_INJECTED = {
    "masked-after-the-arithmetic":
        "it is one of reverse mode, where 0 is multiplied by a slope that is NaN; the gradients "
        "here are steps along the imaginary axis.  tests/conformance/test_masked_gradients.py "
        "makes it.",
    "overflow-in-the-slope":
        "the same, of a slope that is infinite.  docs/systems.md has released code that makes it.",
}

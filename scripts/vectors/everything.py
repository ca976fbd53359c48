"""All families, by the name of their function."""

from vectors import (
    adaptive_beta,
    aggregate_loss,
    clipped_surrogate_loss,
    clipped_value_loss,
    entropy,
    exact_kl,
    gae,
    kl_controller,
    kl_estimate,
    kl_loss,
    nucleus_logprobs,
    penalized_rewards,
    score_without_end,
    sft_loss,
    token_logprobs,
    whiten,
)

FAMILIES = {module.FAMILY.function: module.FAMILY for module in (
    token_logprobs, nucleus_logprobs, sft_loss, kl_estimate, exact_kl, kl_loss,
    penalized_rewards, score_without_end, adaptive_beta, kl_controller, gae, whiten,
    clipped_surrogate_loss, aggregate_loss, clipped_value_loss, entropy)}

"""All families, by the name of their function."""

from vectors import (
    aggregate_loss,
    clipped_surrogate_loss,
    clipped_value_loss,
    entropy,
    gae,
    nucleus_logprobs,
    sft_loss,
    token_logprobs,
    whiten,
)

FAMILIES = {module.FAMILY.function: module.FAMILY for module in (
    token_logprobs, nucleus_logprobs, sft_loss, gae, whiten, clipped_surrogate_loss,
    aggregate_loss, clipped_value_loss, entropy)}

"""All families, by the name of their function."""

from vectors import clipped_surrogate_loss, gae

FAMILIES = {module.FAMILY.function: module.FAMILY for module in (gae, clipped_surrogate_loss)}

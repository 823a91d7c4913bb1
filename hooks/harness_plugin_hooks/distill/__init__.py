"""Distillation losses: one small class each, per example, without the factor T^2."""

from harness_plugin import hookimpl
from harness_plugin.hookspecs import Register


@hookimpl
def register_distillers(register: Register) -> None:
    """Offer the built-in distillers."""
    register(
        "kd",
        "harness_plugin_hooks.distill.logits:KD",
        summary="KL divergence of softened class probabilities (Hinton et al. 2015)",
    )

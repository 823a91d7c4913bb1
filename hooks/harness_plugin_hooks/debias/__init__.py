"""Debiasing methods: one class a module-level name, named as its paper names it."""

from harness_plugin import hookimpl
from harness_plugin.hookspecs import Register


@hookimpl
def register_debiasers(register: Register) -> None:
    """Offer the built-in methods."""
    here = "harness_plugin_hooks.debias"
    register("erm", f"{here}.erm:ERM", summary="empirical risk minimisation: plain cross-entropy")
    register(
        "reweight",
        f"{here}.groups:ReWeight",
        summary="cross-entropy weighted by inverse group frequency (needs group labels)",
    )
    register(
        "group_dro",
        f"{here}.groups:GroupDRO",
        summary="worst-group weights, group-balanced sampler (Sagawa et al. 2020; group labels)",
    )
    register(
        "poe",
        f"{here}.ensemble:ProductOfExperts",
        summary="product of experts with a bias-only model (Clark et al. 2019; bias features)",
    )

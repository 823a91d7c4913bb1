"""Debiasing methods, bias models and group inference: named as their papers name them."""

from harness_plugin import hookimpl
from harness_plugin.hookspecs import Register

HERE = "harness_plugin_hooks.debias"

METHODS = {
    "erm": ("erm:ERM", "empirical risk minimisation: plain cross-entropy"),
    "reweight": (
        "groups:ReWeight",
        "cross-entropy weighted by inverse group frequency (needs group labels)",
    ),
    "group_dro": (
        "groups:GroupDRO",
        "worst-group weights, group-balanced sampler (Sagawa et al. 2020; group labels)",
    ),
    "poe": (
        "ensemble:ProductOfExperts",
        "product of experts with a bias-only model (Clark et al. 2019; bias model)",
    ),
}

BIAS_MODELS = {
    "features": ("Features", "logistic regression on the task's bias features"),
    "input_part": ("InputPart", "a small network on one input column: hypothesis-only"),
    "weak_learner": ("WeakLearner", "a small network on all inputs (Sanh et al. 2021)"),
    "subset": ("Subset", "the student's network on 2,000 rows (Utama et al. 2020)"),
}


@hookimpl
def register_debiasers(register: Register) -> None:
    """Offer the built-in methods."""
    for name, (target, summary) in METHODS.items():
        register(name, f"{HERE}.{target}", summary=summary)


@hookimpl
def register_bias_models(register: Register) -> None:
    """Offer the built-in bias-only models."""
    for name, (target, summary) in BIAS_MODELS.items():
        register(name, f"{HERE}.bias_models:{target}", summary=summary)

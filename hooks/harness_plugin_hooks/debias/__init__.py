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
    "jtt": ("jtt:JTT", "a first model's errors are drawn more often (Liu et al. 2021)"),
    "dfr": (
        "last_layer:DFR",
        "last layer refitted on balanced validation rows (Kirichenko et al. 2023; their groups)",
    ),
    "dfr_train": (
        "last_layer:DFRTrain",
        "last layer refitted on balanced training rows (Kirichenko et al. 2023; group labels)",
    ),
    "afr": (
        "last_layer:AFR",
        "last layer refitted with weights on the errors of ERM (Qiu et al. 2023)",
    ),
    "self": (
        "last_layer:SELF",
        "last layer tuned where two models disagree (LaBonte et al. 2023; validation rows)",
    ),
    "fairflow": (
        "views:FairFlow",
        "undecided on damaged inputs (Cheng, Amiri 2024; our re-implementation)",
    ),
    "read": (
        "attention:READ",
        "attention product of experts with a bias branch (Wang et al. 2023; transformers)",
    ),
}

BIAS_MODELS = {
    "features": ("Features", "logistic regression on the task's bias features"),
    "input_part": ("InputPart", "a small network on one input column: hypothesis-only"),
    "weak_learner": ("WeakLearner", "a small network on all inputs (Sanh et al. 2021)"),
    "subset": ("Subset", "the student's network on 2,000 rows (Utama et al. 2020)"),
}

GROUP_INFERENCES = {
    "error_set": ("ErrorSet", "what a first model gets right and wrong (as in JTT)"),
    "eiil": ("EIIL", "environments that violate invariance most (Creager et al. 2021)"),
    "ssa": ("SSA", "the attribute, predicted from labelled validation rows (Nam et al. 2022)"),
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


@hookimpl
def register_group_inferences(register: Register) -> None:
    """Offer the built-in ways to find groups."""
    for name, (target, summary) in GROUP_INFERENCES.items():
        register(name, f"{HERE}.inference:{target}", summary=summary)

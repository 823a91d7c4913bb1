"""Debiasing methods, bias models and group inference: named as their papers name them."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

HERE = "harness_plugin_hooks.methods"

METHODS = {
    "afr": (
        "last_layer.afr:AFR",
        "last layer refitted, errors of ERM weigh more (Qiu et al. 2023; validation groups)",
    ),
    "bias_reweight": (
        "ensemble:BiasReweight",
        "weights 1 - p_bias of the label (Clark et al. 2019; bias model)",
    ),
    "cnc": ("contrast:CnC", "correct-n-contrast (Zhang et al. 2022)"),
    "confidence_regularisation": (
        "ensemble:ConfidenceRegularisation",
        "an ERM teacher, flatter where the bias is sure (Utama et al. 2020; bias model)",
    ),
    "coral": (
        "environments:CORAL",
        "features alike across environments (Sun, Saenko 2016; attribute)",
    ),
    "cvar_dro": ("robust:CVaRDRO", "the worst share of each batch (Levy et al. 2020)"),
    "dfl": (
        "ensemble:DebiasedFocalLoss",
        "debiased focal loss (Karimi Mahabadi et al. 2020; bias model)",
    ),
    "dfr": (
        "last_layer.dfr:DFR",
        "last layer refitted on balanced validation rows (Kirichenko et al. 2023; their groups)",
    ),
    "dfr_train": (
        "last_layer.dfr:DFRTrain",
        "last layer refitted on balanced training rows (Kirichenko et al. 2023; all groups)",
    ),
    "erm": ("erm:ERM", "empirical risk minimisation: plain cross-entropy"),
    "evals": (
        "last_layer.evals:EVaLS",
        "last layer on rows of high and low loss, no groups (Ghaznavi et al. 2024)",
    ),
    "fairflow": (
        "views:FairFlow",
        "undecided on damaged inputs (Cheng, Amiri 2024; our re-implementation)",
    ),
    "gce": (
        "failure:GCE",
        "generalised cross-entropy: amplifies a bias, first stage of pgd (Zhang, Sabuncu 2018)",
    ),
    "group_dro": (
        "groups:GroupDRO",
        "worst-group weights, group-balanced sampler (Sagawa et al. 2020; group labels)",
    ),
    "irm": ("environments:IRM", "invariant risk minimisation (Arjovsky et al. 2019; attribute)"),
    "jtt": ("jtt:JTT", "a first model's errors are drawn more often (Liu et al. 2021)"),
    "kernel_whitening": (
        "contrast:KernelWhitening",
        "weights that decorrelate features (Gao et al. 2022)",
    ),
    "learned_mixin": (
        "ensemble:LearnedMixin",
        "product of experts with a learnt scale, +H (Clark et al. 2019; bias model)",
    ),
    "lff": ("failure:LfF", "what a biased network finds hard counts more (Nam et al. 2020)"),
    "lisa": ("mixing:LISA", "mixup across attributes or labels (Yao et al. 2022; attribute)"),
    "mixup": ("mixing:Mixup", "mixtures of two rows (Zhang et al. 2018)"),
    "pgd": ("failure:PGD", "rows drawn by a biased model's gradient (Ahn et al. 2023)"),
    "poe": (
        "ensemble:ProductOfExperts",
        "product of experts with a bias-only model (Clark et al. 2019; bias model)",
    ),
    "read": (
        "attention:READ",
        "attention product of experts with a bias branch (Wang et al. 2023; transformers)",
    ),
    "resample": ("groups:ReSample", "every group drawn equally often (RWG; group labels)"),
    "resample_class": ("groups:ReSampleClass", "every label drawn equally often (RWY)"),
    "reweight": (
        "groups:ReWeight",
        "cross-entropy weighted by inverse group frequency (needs group labels)",
    ),
    "rubi": ("ensemble:RUBi", "logits masked by the bias (Cadene et al. 2019; bias model)"),
    "self": (
        "last_layer.selective:SELF",
        "last layer tuned where two models disagree (LaBonte et al. 2023; validation rows)",
    ),
    "vrex": (
        "environments:VREx",
        "equal risks across environments (Krueger et al. 2021; attribute)",
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
def register_methods(register: Register) -> None:
    """Offer the built-in methods."""
    for name, (target, summary) in METHODS.items():
        register(name, f"{HERE}.{target}", summary=summary)


@hookimpl
def register_bias_models(register: Register) -> None:
    """Offer the built-in bias-only models."""
    for name, (target, summary) in BIAS_MODELS.items():
        register(name, f"{HERE}.bias.bias_models:{target}", summary=summary)


@hookimpl
def register_group_inferences(register: Register) -> None:
    """Offer the built-in ways to find groups."""
    for name, (target, summary) in GROUP_INFERENCES.items():
        register(name, f"{HERE}.bias.inference:{target}", summary=summary)

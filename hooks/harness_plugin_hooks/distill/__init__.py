"""Distillation losses, further training rows and compressors: one small class each."""

from collections.abc import Mapping

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register
from harness_plugin_hooks.compress import COMPRESSORS

DISTILLERS = {
    "logits": {
        "kd": ("KD", "KL divergence of softened class probabilities (Hinton et al. 2015)"),
        "dkd": (
            "DecoupledKD",
            "gold label and the others apart, three labels or more (Zhao et al. 2022)",
        ),
        "dist": ("DIST", "correlation over classes and over examples (Huang et al. 2022)"),
        "logit_standardisation": (
            "LogitStandardisation",
            "KD on standardised logits, three labels or more (Sun et al. 2024)",
        ),
        "bias_aware_kd": (
            "BiasAwareKD",
            "targets smoothed where a bias-only model is sure (Utama et al. 2020)",
        ),
        "group_dro_kd": ("GroupDROKD", "group DRO over the groups' divergences from the teacher"),
    },
    "disagree": {
        "disagree": ("Disagree", "KD of rows on which the teacher and a bias-only model disagree"),
    },
    "features": {
        "hints": ("Hints", "features through a trained projector (FitNets, Romero et al. 2015)"),
        "rkd": ("RelationalKD", "distances and angles among examples (Park et al. 2019)"),
        "similarity_preserving": (
            "SimilarityPreserving",
            "similarities among examples (Tung and Mori 2019)",
        ),
        "crd": ("ContrastiveKD", "contrast of features within the batch (after Tian et al. 2020)"),
        "simkd": ("SimKD", "the teacher's last layer on projected features (Chen et al. 2022)"),
    },
    "subspace": {
        "subspace": (
            "Subspace",
            "the features' directions that the teacher's answers depend on (SubDistill 2026)",
        ),
    },
    "layers": {
        "attention_transfer": (
            "AttentionTransfer",
            "maps of activation over positions (Zagoruyko and Komodakis 2017)",
        ),
        "pkd": ("PatientKD", "first tokens of middle layers (Patient KD, Sun et al. 2019)"),
        "tinybert": (
            "TinyBERT",
            "attention scores and hidden states, layer by layer (Jiao et al. 2020)",
        ),
        "minilm": ("MiniLM", "relations among tokens in the last layer (Wang et al. 2020, 2021)"),
    },
    "subspace_layers": {
        "subspace_layers": (
            "SubspaceLayers",
            "as subspace, at every position of several layers (SubDistill 2026)",
        ),
    },
}
AUGMENTATIONS = {
    "rows": {
        "upsample": ("Upsample", "rows of small groups again, images shifted; needs group labels"),
        "pool": ("Pool", "a file of one's own; without labels the teacher labels it"),
        "counterfactual": (
            "Counterfactual",
            "rows with another attribute, where the task can make them",
        ),
    },
    "texts": {
        "swap_arguments": (
            "SwapArguments",
            "two words that both texts share change places in the second; teacher-labelled",
        ),
        "negation": (
            "Negation",
            "the second text negated, or its negation taken away; teacher-labelled",
        ),
        "other_premise": (
            "OtherPremise",
            "the second text with the first text of another row; teacher-labelled",
        ),
    },
}
"""By module: name -> class and summary."""


@hookimpl
def register_distillers(register: Register) -> None:
    """Offer the built-in distillers."""
    offer(register, "distill", DISTILLERS)


@hookimpl
def register_augmentations(register: Register) -> None:
    """Offer the built-in augmentations."""
    offer(register, "augment", AUGMENTATIONS)


@hookimpl
def register_compressors(register: Register) -> None:
    """Offer the built-in compressors."""
    offer(register, "compress", COMPRESSORS)


def offer(
    register: Register, folder: str, modules: Mapping[str, Mapping[str, tuple[str, str]]]
) -> None:
    """Offer the classes of a folder's modules."""
    for module, classes in modules.items():
        for name, (cls, summary) in classes.items():
            register(name, f"harness_plugin_hooks.{folder}.{module}:{cls}", summary=summary)

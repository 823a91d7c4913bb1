"""Distillation losses, further training rows and compressors: one small class each."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register
from harness_plugin_hooks.compress import offer_compressors

LOGITS, FEATURES = "harness_plugin_hooks.distill.logits", "harness_plugin_hooks.distill.features"
LAYERS = "harness_plugin_hooks.distill.layers"
ROWS, TEXTS = "harness_plugin_hooks.augment.rows", "harness_plugin_hooks.augment.texts"


@hookimpl
def register_distillers(register: Register) -> None:
    """Offer the built-in distillers."""
    register(
        "kd",
        f"{LOGITS}:KD",
        summary="KL divergence of softened class probabilities (Hinton et al. 2015)",
    )
    register(
        "dkd",
        f"{LOGITS}:DecoupledKD",
        summary="gold label and the others apart, three labels or more (Zhao et al. 2022)",
    )
    register(
        "dist",
        f"{LOGITS}:DIST",
        summary="correlation over classes and over examples (Huang et al. 2022)",
    )
    register(
        "logit_standardisation",
        f"{LOGITS}:LogitStandardisation",
        summary="KD on standardised logits, three labels or more (Sun et al. 2024)",
    )
    register(
        "bias_aware_kd",
        f"{LOGITS}:BiasAwareKD",
        summary="targets smoothed where a bias-only model is sure (Utama et al. 2020)",
    )
    register(
        "group_dro_kd",
        f"{LOGITS}:GroupDROKD",
        summary="group DRO over the groups' divergences from the teacher",
    )
    register(
        "hints",
        f"{FEATURES}:Hints",
        summary="features through a trained projector (FitNets, Romero et al. 2015)",
    )
    register(
        "rkd",
        f"{FEATURES}:RelationalKD",
        summary="distances and angles among examples (Park et al. 2019)",
    )
    register(
        "similarity_preserving",
        f"{FEATURES}:SimilarityPreserving",
        summary="similarities among examples (Tung and Mori 2019)",
    )
    register(
        "crd",
        f"{FEATURES}:ContrastiveKD",
        summary="contrast of features within the batch (after Tian et al. 2020)",
    )
    register(
        "simkd",
        f"{FEATURES}:SimKD",
        summary="the teacher's last layer on projected features (Chen et al. 2022)",
    )
    register(
        "attention_transfer",
        f"{LAYERS}:AttentionTransfer",
        summary="maps of activation over positions (Zagoruyko and Komodakis 2017)",
    )
    register(
        "pkd",
        f"{LAYERS}:PatientKD",
        summary="first tokens of middle layers (Patient KD, Sun et al. 2019)",
    )
    register(
        "tinybert",
        f"{LAYERS}:TinyBERT",
        summary="attention scores and hidden states, layer by layer (Jiao et al. 2020)",
    )
    register(
        "minilm",
        f"{LAYERS}:MiniLM",
        summary="relations among tokens in the last layer (Wang et al. 2020, 2021)",
    )


@hookimpl
def register_augmentations(register: Register) -> None:
    """Offer the built-in augmentations."""
    register(
        "upsample",
        f"{ROWS}:Upsample",
        summary="rows of small groups again, images shifted; needs group labels",
    )
    register(
        "pool",
        f"{ROWS}:Pool",
        summary="a file of one's own; without labels the teacher labels it",
    )
    register(
        "counterfactual",
        f"{ROWS}:Counterfactual",
        summary="rows with another attribute, where the task can make them",
    )
    register(
        "swap_arguments",
        f"{TEXTS}:SwapArguments",
        summary="two words that both texts share change places in the second; teacher-labelled",
    )
    register(
        "negation",
        f"{TEXTS}:Negation",
        summary="the second text negated, or its negation taken away; teacher-labelled",
    )
    register(
        "other_premise",
        f"{TEXTS}:OtherPremise",
        summary="the second text with the first text of another row; teacher-labelled",
    )


@hookimpl
def register_compressors(register: Register) -> None:
    """Offer the built-in compressors."""
    offer_compressors(register)

"""Model presets by size."""

from typing import NamedTuple

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

BYTES_WEIGHTS, BYTES_TRAINING = 4, 16
"""A parameter in float32; and with its gradient and AdamW's two moments, without activations."""


class Preset(NamedTuple):
    """Where a preset lives, what it is, and its parameters with a classifier of two labels.

    Text models are counted with the vocabulary of their checkpoint. None: made for small generated
    data, with a vocabulary of the task's own.
    """

    target: str
    what: str
    parameters: int | None = None

    @property
    def summary(self) -> str:
        """One line of `harness ls backbones`."""
        if self.parameters is None:
            return self.what
        weights, training = (
            self.parameters * each / 2**20 for each in (BYTES_WEIGHTS, BYTES_TRAINING)
        )
        return (
            f"{self.what}: {self.parameters / 1e6:,.1f} M parameters, {weights:,.0f} MiB, "
            f"training {training:,.0f} MiB"
        )


SMALL_DATA = "for small drawn images"
PRESETS = {
    "bert-pico": Preset("bert:PICO", "2 layers, width 64: from-scratch runs on a CPU"),
    "bert-tiny": Preset("bert:TINY", "2 layers, width 128", 4_386_178),
    "bert-mini": Preset("bert:MINI", "4 layers, width 256", 11_171_074),
    "bert-small": Preset("bert:SMALL", "4 layers, width 512", 28_764_674),
    "bert-medium": Preset("bert:MEDIUM", "8 layers, width 512", 41_374_210),
    "bert-base": Preset("bert:BASE", "12 layers, width 768", 109_483_778),
    "bert-large": Preset("bert:LARGE", "24 layers, width 1024", 335_143_938),
    "distilbert-base": Preset("bert:DISTILBERT_BASE", "6 layers, width 768", 66_955_010),
    "minilm-l6": Preset("bert:MINILM_L6", "6 layers, width 384", 22_713_986),
    "minilm-l12": Preset("bert:MINILM_L12", "12 layers, width 384", 33_360_770),
    "electra-small": Preset("bert:ELECTRA_SMALL", "12 layers, width 256", 13_549_314),
    "electra-base": Preset("bert:ELECTRA_BASE", "12 layers, width 768", 109_483_778),
    "electra-large": Preset("bert:ELECTRA_LARGE", "24 layers, width 1024", 335_143_938),
    "modernbert-base": Preset("bert:MODERNBERT_BASE", "22 layers, width 768", 149_606_402),
    "modernbert-large": Preset("bert:MODERNBERT_LARGE", "28 layers, width 1024", 395_833_346),
    "roberta-base": Preset("bert:ROBERTA_BASE", "12 layers, width 768", 124_647_170),
    "roberta-large": Preset("bert:ROBERTA_LARGE", "24 layers, width 1024", 355_361_794),
    "deberta-v3-xsmall": Preset("bert:DEBERTA_V3_XSMALL", "12 layers, width 384", 70_830_722),
    "deberta-v3-small": Preset("bert:DEBERTA_V3_SMALL", "6 layers, width 768", 141_896_450),
    "deberta-v3-base": Preset("bert:DEBERTA_V3_BASE", "12 layers, width 768", 184_423_682),
    "deberta-v3-large": Preset("bert:DEBERTA_V3_LARGE", "24 layers, width 1024", 435_063_810),
    "t5-pico": Preset("t5:PICO", "encoder of 2 layers, width 64: from-scratch runs on a CPU"),
    "t5-efficient-tiny": Preset("t5:TINY", "encoder of 4 layers, width 256", 11_373_442),
    "t5-efficient-mini": Preset("t5:MINI", "encoder of 4 layers, width 384", 20_205_954),
    "t5-small": Preset("t5:SMALL", "encoder of 6 layers, width 512", 35_331_842),
    "t5-base": Preset("t5:BASE", "encoder of 12 layers, width 768", 109_630_082),
    "t5-large": Preset("t5:LARGE", "encoder of 24 layers, width 1024", 334_941_698),
    "t5-3b": Preset("t5:XL", "encoder of 24 layers, width 1024, ffn 16384", 1_240_911_874),
    "t5-pico-encdec": Preset("t5:PICO_ENCDEC", "2 + 2 layers, width 64: runs on a CPU"),
    "t5-efficient-tiny-encdec": Preset("t5:TINY_ENCDEC", "4 + 4 layers, width 256", 15_636_994),
    "t5-efficient-mini-encdec": Preset("t5:MINI_ENCDEC", "4 + 4 layers, width 384", 31_369_090),
    "t5-small-encdec": Preset("t5:SMALL_ENCDEC", "6 + 6 layers, width 512", 60_770_306),
    "t5-base-encdec": Preset("t5:BASE_ENCDEC", "12 + 12 layers, width 768", 223_495_682),
    "t5-large-encdec": Preset("t5:LARGE_ENCDEC", "24 + 24 layers, width 1024", 738_719_746),
    "t5-3b-encdec": Preset("t5:XL_ENCDEC", "24 + 24 layers, ffn 16384", 2_852_649_986),
    "resnet-pico": Preset("resnet:RESNET_PICO", f"3 stages of 1 block, width 8-32: {SMALL_DATA}"),
    "resnet-nano": Preset("resnet:RESNET_NANO", f"3 stages of 2 blocks, width 16-64: {SMALL_DATA}"),
    "resnet-18": Preset("resnet:RESNET_18", "18 layers", 11_177_538),
    "resnet-34": Preset("resnet:RESNET_34", "34 layers", 21_285_698),
    "resnet-50": Preset("resnet:RESNET_50", "50 layers", 23_512_130),
    "resnet-101": Preset("resnet:RESNET_101", "101 layers", 42_504_258),
    "resnet-152": Preset("resnet:RESNET_152", "152 layers", 58_147_906),
    "vit-pico": Preset("vit:PICO", f"2 layers, width 48, patches of 4: {SMALL_DATA}"),
    "vit-nano": Preset("vit:NANO", f"3 layers, width 64, patches of 4: {SMALL_DATA}"),
    "vit-tiny": Preset("vit:TINY", "12 layers, width 192, patches of 16", 5_524_802),
    "vit-small": Preset("vit:SMALL", "12 layers, width 384, patches of 16", 21_666_434),
    "vit-base": Preset("vit:BASE", "12 layers, width 768, patches of 16", 85_800_194),
    "vit-large": Preset("vit:LARGE", "24 layers, width 1024, patches of 16", 303_303_682),
    "dinov2-small": Preset("vit:DINOV2_SMALL", "12 layers, width 384, patches of 14", 22_058_114),
    "dinov2-base": Preset("vit:DINOV2_BASE", "12 layers, width 768, patches of 14", 86_583_554),
    "dinov2-large": Preset("vit:DINOV2_LARGE", "24 layers, width 1024, patches of 14", 304_372_738),
    "convnext-tiny": Preset("convnext:TINY", "18 blocks, width 96-768", 27_821_666),
    "convnext-small": Preset("convnext:SMALL", "36 blocks, width 96-768", 49_456_226),
    "convnext-base": Preset("convnext:BASE", "36 blocks, width 128-1024", 87_568_514),
    "convnext-large": Preset("convnext:LARGE", "36 blocks, width 192-1536", 196_233_410),
}


@hookimpl
def register_backbones(register: Register) -> None:
    """Offer the built-in presets."""
    for name, preset in PRESETS.items():
        register(name, f"harness_plugin_hooks.backbones.{preset.target}", summary=preset.summary)

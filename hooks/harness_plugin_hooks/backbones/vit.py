"""Vision transformers by size (Dosovitskiy et al. 2021)."""

from harness_plugin.models import Backbone


def vit(layers: int, width: int, heads: int, patch: int) -> Backbone:
    """A ViT of the usual proportions: feed-forward width 4 x width."""
    config = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "patch_size": patch,
    }
    return Backbone("image", "vit", config)


PICO = vit(2, 48, 4, 4)
NANO = vit(3, 64, 4, 4)

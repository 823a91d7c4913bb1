"""Vision transformers by size (Dosovitskiy et al. 2021; tiny and small: Touvron et al. 2021).

arXiv:2010.11929, arXiv:2012.12877. Google has published no checkpoint of the two small sizes under
its name; the ids are a conversion that is in wide use. DINOv2 (Oquab et al. 2024, arXiv:2304.07193)
has patches of 14 and positions for images of 518 pixels, which it interpolates for others.
"""

from harness_plugin.models.checkpoints import Backbone


def vit(layers: int, width: int, heads: int, patch: int, hub_id: str | None = None) -> Backbone:
    """A ViT of the usual proportions: feed-forward width 4 x width."""
    config = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "patch_size": patch,
    }
    return Backbone("image", "vit", config, hub_id)


def dinov2(size: str, layers: int, width: int, heads: int) -> Backbone:
    """One of Meta's DINOv2 models; the class token and the mean of patches go to the head."""
    config = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "patch_size": 14,
        "image_size": 518,
    }
    return Backbone("image", "dinov2", config, f"facebook/dinov2-{size}")


PICO = vit(2, 48, 4, 4)
NANO = vit(3, 64, 4, 4)
TINY = vit(12, 192, 3, 16, "WinKawaks/vit-tiny-patch16-224")
SMALL = vit(12, 384, 6, 16, "WinKawaks/vit-small-patch16-224")
BASE = vit(12, 768, 12, 16, "google/vit-base-patch16-224")
LARGE = vit(24, 1024, 16, 16, "google/vit-large-patch16-224")
DINOV2_SMALL = dinov2("small", 12, 384, 6)
DINOV2_BASE = dinov2("base", 12, 768, 12)
DINOV2_LARGE = dinov2("large", 24, 1024, 16)

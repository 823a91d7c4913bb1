"""ConvNeXt by size (Liu et al. 2022, arXiv:2201.03545)."""

from harness_plugin.models.checkpoints import Backbone


def convnext(size: str, third: int, width: int) -> Backbone:
    """A ConvNeXt with `third` blocks in its third stage and `width` channels in its first."""
    config = {
        "depths": [3, 3, third, 3],
        "hidden_sizes": [width, 2 * width, 4 * width, 8 * width],
    }
    return Backbone("image", "convnext", config, f"facebook/convnext-{size}-224")


TINY = convnext("tiny", 9, 96)
SMALL = convnext("small", 27, 96)
BASE = convnext("base", 27, 128)
LARGE = convnext("large", 27, 192)

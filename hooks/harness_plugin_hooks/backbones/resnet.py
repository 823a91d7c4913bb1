"""ResNet by depth (He et al. 2016), and two small ones for images of 32 pixels."""

from harness_plugin.models.checkpoints import Backbone


def resnet(
    kind: str, depths: list[int], widths: list[int], embedding: int, hub_id: str | None
) -> Backbone:
    """A ResNet with `depths` blocks of `kind` ("basic" or "bottleneck") and `widths` a stage."""
    config = {
        "layer_type": kind,
        "depths": depths,
        "hidden_sizes": widths,
        "embedding_size": embedding,
    }
    return Backbone("image", "resnet", config, hub_id)


BASIC, WIDE = [64, 128, 256, 512], [256, 512, 1024, 2048]

RESNET_PICO = resnet("basic", [1, 1, 1], [8, 16, 32], 8, None)
RESNET_NANO = resnet("basic", [2, 2, 2], [16, 32, 64], 16, None)
RESNET_18 = resnet("basic", [2, 2, 2, 2], BASIC, 64, "microsoft/resnet-18")
RESNET_34 = resnet("basic", [3, 4, 6, 3], BASIC, 64, "microsoft/resnet-34")
RESNET_50 = resnet("bottleneck", [3, 4, 6, 3], WIDE, 64, "microsoft/resnet-50")
RESNET_101 = resnet("bottleneck", [3, 4, 23, 3], WIDE, 64, "microsoft/resnet-101")
RESNET_152 = resnet("bottleneck", [3, 8, 36, 3], WIDE, 64, "microsoft/resnet-152")

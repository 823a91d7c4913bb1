"""Model presets by size."""

from harness_plugin import hookimpl
from harness_plugin.hookspecs import Register

BERT = {
    "pico": "2 layers, width 64: from-scratch runs on a CPU",
    "tiny": "2 layers, width 128 (4.4 M parameters)",
    "mini": "4 layers, width 256 (11.2 M)",
    "small": "4 layers, width 512 (28.8 M)",
    "medium": "8 layers, width 512 (41.4 M)",
    "base": "12 layers, width 768 (109 M)",
    "large": "24 layers, width 1024 (335 M)",
}
RESNET = {
    "pico": "3 stages of 1 block, width 8-32: small drawn images",
    "nano": "3 stages of 2 blocks, width 16-64: small drawn images",
    "18": "18 layers (11.2 M parameters)",
    "34": "34 layers (21.3 M)",
    "50": "50 layers (23.5 M)",
    "101": "101 layers (42.5 M)",
    "152": "152 layers (58.1 M)",
}

VIT = {
    "pico": "2 layers, width 48, patches of 4: small images",
    "nano": "3 layers, width 64, patches of 4: small images",
}


@hookimpl
def register_backbones(register: Register) -> None:
    """Offer the built-in presets."""
    for size, summary in BERT.items():
        target = f"harness_plugin_hooks.backbones.bert:{size.upper()}"
        register(f"bert-{size}", target, summary=summary)
    for size, summary in RESNET.items():
        target = f"harness_plugin_hooks.backbones.resnet:RESNET_{size.upper()}"
        register(f"resnet-{size}", target, summary=summary)
    for size, summary in VIT.items():
        target = f"harness_plugin_hooks.backbones.vit:{size.upper()}"
        register(f"vit-{size}", target, summary=summary)
    register(
        "t5-pico",
        "harness_plugin_hooks.backbones.t5:PICO",
        summary="encoder of 2 layers, width 64, mean pooling: from-scratch runs on a CPU",
    )

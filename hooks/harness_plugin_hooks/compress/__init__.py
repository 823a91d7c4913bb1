"""Compressors: a trained model made smaller by rounding its weights or leaving some out."""

from harness_plugin.plugins.hookspecs import Register

ROUNDING = "harness_plugin_hooks.compress.rounding"
PRUNING = "harness_plugin_hooks.compress.pruning"
STRUCTURE = "harness_plugin_hooks.compress.structure"
LIBRARIES = "harness_plugin_hooks.compress.libraries"


def offer_compressors(register: Register) -> None:
    """Offer the built-in compressors."""
    for bits in (8, 4, 3, 2):
        register(
            f"int{bits}",
            f"{ROUNDING}:Int{bits}",
            summary=f"weights rounded to {bits} bits, computed in float (round to nearest)",
        )
    register(
        "torch_int8",
        f"{LIBRARIES}:TorchInt8",
        summary="PyTorch's dynamic int8 linear layers; true size and CPU latency",
    )
    register(
        "onnx_int8",
        f"{LIBRARIES}:OnnxInt8",
        summary="ONNX Runtime's dynamic int8; true size and CPU latency (extra: onnx)",
    )
    register(
        "magnitude",
        f"{PRUNING}:Magnitude",
        summary="the smallest weights set to 0, over all layers or in each (Han et al. 2015)",
    )
    register(
        "wanda",
        f"{PRUNING}:Wanda",
        summary="weights set to 0 by size times input norm on calibration rows (Sun et al. 2024)",
    )
    register(
        "heads",
        f"{STRUCTURE}:Heads",
        summary="the attention heads with the smallest weights set to 0",
    )
    register(
        "channels",
        f"{STRUCTURE}:Channels",
        summary="the filters with the smallest weights set to 0 (Li et al. 2017)",
    )
    register(
        "layers",
        f"{STRUCTURE}:WholeLayers",
        summary="whole layers taken out: every second, or the last ones",
    )

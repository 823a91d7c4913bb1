"""Compressors: a trained model made smaller by rounding its weights or leaving some out."""

COMPRESSORS = {
    "rounding": {
        f"int{bits}": (f"Int{bits}", f"weights rounded to {bits} bits, computed in float")
        for bits in (8, 4, 3, 2)
    },
    "libraries": {
        "torch_int8": ("TorchInt8", "PyTorch's dynamic int8 linear layers; true size and latency"),
        "onnx_int8": (
            "OnnxInt8",
            "ONNX Runtime's dynamic int8; true size and latency (extra: onnx)",
        ),
    },
    "pruning": {
        "magnitude": (
            "Magnitude",
            "the smallest weights set to 0, over all layers or in each (Han et al. 2015)",
        ),
        "wanda": (
            "Wanda",
            "weights set to 0 by size times input norm on calibration rows (Sun et al. 2024)",
        ),
    },
    "batch_norm": {
        "recalibrate_batch_norm": (
            "RecalibrateBatchNorm",
            "batch normalisation estimated again on calibration rows (Wu and Johnson 2021)",
        ),
    },
    "structure": {
        "heads": ("Heads", "the attention heads with the smallest weights set to 0"),
        "channels": ("Channels", "the filters with the smallest weights set to 0 (Li et al. 2017)"),
        "layers": ("WholeLayers", "whole layers taken out: every second, or the last ones"),
    },
}
"""By module: name -> class and summary."""

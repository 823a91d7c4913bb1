"""T5 encoders (Raffel et al. 2020) as classifiers: masked mean pooling and a linear head."""

from harness_plugin import t5  # noqa: F401  (registers the model type)
from harness_plugin.models import Backbone


def encoder(layers: int, width: int, heads: int, feed_forward: int) -> Backbone:
    """A T5 encoder with heads of width / heads."""
    config = {
        "num_layers": layers,
        "d_model": width,
        "num_heads": heads,
        "d_kv": width // heads,
        "d_ff": feed_forward,
    }
    return Backbone("text", "t5_encoder_classifier", config)


PICO = encoder(2, 64, 4, 256)

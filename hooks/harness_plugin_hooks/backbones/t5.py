"""T5 by size (Raffel et al. 2020; efficient sizes: Tay et al. 2022, arXiv:2109.10686), two ways.

`t5-NAME` is the encoder as a classifier: masked mean pooling and a linear head. `t5-NAME-encdec` is
transformers' T5ForSequenceClassification: encoder and decoder, read at the last end of sequence.
"""

from harness_plugin.models import t5  # noqa: F401  (registers the model type)
from harness_plugin.models.checkpoints import Backbone


def both(
    layers: int, width: int, heads: int, head: int, feed_forward: int, hub_id: str | None
) -> tuple[Backbone, Backbone]:
    """The encoder classifier and the encoder-decoder classifier of one size."""
    config = {
        "num_layers": layers,
        "d_model": width,
        "num_heads": heads,
        "d_kv": head,
        "d_ff": feed_forward,
    }
    # a T5Config says nothing of the token that a decoder starts with; it is the padding
    decoder = {"num_decoder_layers": layers, "decoder_start_token_id": 0}
    return (
        Backbone("text", "t5_encoder_classifier", config, hub_id),
        Backbone("text", "t5", {**config, **decoder}, hub_id),
    )


PICO, PICO_ENCDEC = both(2, 64, 4, 16, 256, None)
TINY, TINY_ENCDEC = both(4, 256, 4, 64, 1024, "google/t5-efficient-tiny")
MINI, MINI_ENCDEC = both(4, 384, 8, 64, 1536, "google/t5-efficient-mini")
SMALL, SMALL_ENCDEC = both(6, 512, 8, 64, 2048, "google-t5/t5-small")
BASE, BASE_ENCDEC = both(12, 768, 12, 64, 3072, "google-t5/t5-base")
LARGE, LARGE_ENCDEC = both(24, 1024, 16, 64, 4096, "google-t5/t5-large")
XL, XL_ENCDEC = both(24, 1024, 32, 128, 16384, "google-t5/t5-3b")

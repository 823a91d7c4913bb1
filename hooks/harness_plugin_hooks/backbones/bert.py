"""BERT by size: Devlin et al. 2019; the miniatures of Turc et al. 2019 (arXiv:1908.08962)."""

from harness_plugin.models import Backbone


def bert(layers: int, width: int, heads: int, hub_id: str | None) -> Backbone:
    """A BERT of the usual proportions: feed-forward width 4 x width."""
    config = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    return Backbone("text", "bert", config, hub_id)


def miniature(layers: int, width: int, heads: int) -> Backbone:
    """One of Google's uncased BERT miniatures."""
    return bert(layers, width, heads, f"google/bert_uncased_L-{layers}_H-{width}_A-{heads}")


PICO = bert(2, 64, 2, None)
TINY = miniature(2, 128, 2)
MINI = miniature(4, 256, 4)
SMALL = miniature(4, 512, 8)
MEDIUM = miniature(8, 512, 8)
BASE = bert(12, 768, 12, "google-bert/bert-base-uncased")
LARGE = bert(24, 1024, 16, "google-bert/bert-large-uncased")

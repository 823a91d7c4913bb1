"""BERT and its kin by size.

Devlin et al. 2019; the miniatures of Turc et al. 2019 (arXiv:1908.08962); DistilBERT, Sanh et al.
2019 (arXiv:1910.01108); RoBERTa, Liu et al. 2019 (arXiv:1907.11692); DeBERTa-v3, He et al. 2023
(arXiv:2111.09543).
"""

from typing import Any

from harness_plugin.models.checkpoints import Backbone

ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
DEBERTA = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}


def encoder(
    kind: str, layers: int, width: int, heads: int, hub_id: str | None, **more: Any
) -> Backbone:
    """An encoder of the usual proportions: feed-forward width 4 x width."""
    config = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        **more,
    }
    return Backbone("text", kind, config, hub_id)


def miniature(layers: int, width: int, heads: int) -> Backbone:
    """One of Google's uncased BERT miniatures."""
    name = f"google/bert_uncased_L-{layers}_H-{width}_A-{heads}"
    return encoder("bert", layers, width, heads, name)


PICO = encoder("bert", 2, 64, 2, None)
TINY = miniature(2, 128, 2)
MINI = miniature(4, 256, 4)
SMALL = miniature(4, 512, 8)
MEDIUM = miniature(8, 512, 8)
BASE = encoder("bert", 12, 768, 12, "google-bert/bert-base-uncased")
LARGE = encoder("bert", 24, 1024, 16, "google-bert/bert-large-uncased")

DISTILBERT_BASE = Backbone(
    "text",
    "distilbert",
    {"n_layers": 6, "dim": 768, "n_heads": 12, "hidden_dim": 3072},
    "distilbert/distilbert-base-uncased",
)
ROBERTA_BASE = encoder("roberta", 12, 768, 12, "FacebookAI/roberta-base", **ROBERTA)
ROBERTA_LARGE = encoder("roberta", 24, 1024, 16, "FacebookAI/roberta-large", **ROBERTA)
DEBERTA_V3_XSMALL = encoder("deberta-v2", 12, 384, 6, "microsoft/deberta-v3-xsmall", **DEBERTA)
DEBERTA_V3_SMALL = encoder("deberta-v2", 6, 768, 12, "microsoft/deberta-v3-small", **DEBERTA)
DEBERTA_V3_BASE = encoder("deberta-v2", 12, 768, 12, "microsoft/deberta-v3-base", **DEBERTA)
DEBERTA_V3_LARGE = encoder("deberta-v2", 24, 1024, 16, "microsoft/deberta-v3-large", **DEBERTA)

"""BERT and its kin by size.

Devlin et al. 2019; the miniatures of Turc et al. 2019 (arXiv:1908.08962); DistilBERT, Sanh et al.
2019 (arXiv:1910.01108); MiniLM, Wang et al. 2020 (arXiv:2002.10957; the one of 6 layers: every
second layer of the published one); ELECTRA, Clark et al. 2020 (arXiv:2003.10555); RoBERTa, Liu et
al. 2019 (arXiv:1907.11692); DeBERTa-v3, He et al. 2023 (arXiv:2111.09543); ModernBERT, Warner et
al. 2024 (arXiv:2412.13663).
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
MINILM_L12 = encoder("bert", 12, 384, 12, "microsoft/MiniLM-L12-H384-uncased")
MINILM_L6 = encoder("bert", 6, 384, 12, "nreimers/MiniLM-L6-H384-uncased")


def electra(size: str, layers: int, width: int, heads: int, embedding: int) -> Backbone:
    """One of Google's ELECTRA discriminators."""
    name = f"google/electra-{size}-discriminator"
    return encoder("electra", layers, width, heads, name, embedding_size=embedding)


ELECTRA_SMALL = electra("small", 12, 256, 4, 128)
ELECTRA_BASE = electra("base", 12, 768, 12, 768)
ELECTRA_LARGE = electra("large", 24, 1024, 16, 1024)
MODERNBERT_BASE = encoder(
    "modernbert", 22, 768, 12, "answerdotai/ModernBERT-base", intermediate_size=1152
)
MODERNBERT_LARGE = encoder(
    "modernbert", 28, 1024, 16, "answerdotai/ModernBERT-large", intermediate_size=2624
)
ROBERTA_BASE = encoder("roberta", 12, 768, 12, "FacebookAI/roberta-base", **ROBERTA)
ROBERTA_LARGE = encoder("roberta", 24, 1024, 16, "FacebookAI/roberta-large", **ROBERTA)
DEBERTA_V3_XSMALL = encoder("deberta-v2", 12, 384, 6, "microsoft/deberta-v3-xsmall", **DEBERTA)
DEBERTA_V3_SMALL = encoder("deberta-v2", 6, 768, 12, "microsoft/deberta-v3-small", **DEBERTA)
DEBERTA_V3_BASE = encoder("deberta-v2", 12, 768, 12, "microsoft/deberta-v3-base", **DEBERTA)
DEBERTA_V3_LARGE = encoder("deberta-v2", 24, 1024, 16, "microsoft/deberta-v3-large", **DEBERTA)

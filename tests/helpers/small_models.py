"""Small models of all architectures in double precision, and inputs for them."""

import torch
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin.models.t5 import T5EncoderClassifierConfig

SMALL = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "t5_encoder_classifier": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "resnet": {"depths": [1, 2], "hidden_sizes": [8, 24], "embedding_size": 8},
}
IMAGES = ("vit", "resnet")


def model_of(kind, spread=0.1, seed=0):
    """A small model, in double precision, whose biases are not zero."""
    torch.manual_seed(seed)
    if kind in IMAGES:
        size = {"image_size": 32, "patch_size": 16} if kind == "vit" else {"layer_type": "basic"}
        config = AutoConfig.for_model(kind, **SMALL[kind], **size)
        model = AutoModelForImageClassification.from_config(config)
    elif kind.startswith("t5"):
        config = T5EncoderClassifierConfig(vocab_size=50, decoder_start_token_id=0, **SMALL[kind])
        model = Texts.from_config(config)
    else:
        model = Texts.from_config(AutoConfig.for_model(kind, vocab_size=50, **SMALL[kind]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval().double()


def inputs_of(kind, seed, padding=0):
    generator = torch.Generator().manual_seed(seed)
    if kind in IMAGES:
        return {"pixel_values": torch.randn(4, 3, 32, 32, generator=generator).double()}
    ids = torch.randint(5, 50, (4, 6), generator=generator)
    mask = torch.ones_like(ids)
    if padding:
        pad = torch.full((4, padding), 1 if kind == "roberta" else 0)
        ids, mask = torch.cat([ids, pad], 1), torch.cat([mask, 0 * pad], 1)
    return {"input_ids": ids, "attention_mask": mask}


def difference(logits):
    return logits[:, 0] - logits[:, 1]


def only(graph, *edges):
    """(E,) the mask of edges by number."""
    mask = torch.zeros(len(graph.edges), dtype=torch.bool)
    mask[list(edges)] = True
    return mask


def vit(patch=8, layers=2, heads=2, seed=0):
    """A vision transformer on images of 16 pixels whose attention is far from even."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "vit",
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=16,
        patch_size=patch,
        initializer_range=0.5,
    )
    return AutoModelForImageClassification.from_config(config).eval()

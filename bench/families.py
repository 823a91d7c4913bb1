"""Tiny random checkpoints, one of each family of architectures, with a tokenizer as theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, ViTImageProcessorPil

WIDTH, LAYERS, HEADS, SIDE = 32, 2, 2, 32
BLOCKS = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
}
DECODER = {**BLOCKS, "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS}
STAGES = {"depths": [1, 1], "hidden_sizes": [16, WIDTH], "embedding_size": 16}


@dataclass(frozen=True)
class Style:
    """A tokenizer's special tokens, in the order of their ids, and where they stand."""

    tokens: Mapping[str, str]
    single: str
    pair: str
    types: bool = False


STYLES = {
    "bert": Style(
        {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        types=True,
    ),
    "roberta": Style(
        {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"},
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
    ),
    "funnel": Style(
        {"pad": "<pad>", "unk": "<unk>", "cls": "<cls>", "sep": "<sep>", "mask": "<mask>"},
        "<cls>:2 $A <sep>",
        "<cls>:2 $A <sep> $B:1 <sep>:1",
        types=True,
    ),
    "xlnet": Style(
        {"pad": "<pad>", "unk": "<unk>", "cls": "<cls>", "sep": "<sep>", "mask": "<mask>"},
        "$A <sep> <cls>:2",
        "$A <sep> $B:1 <sep>:1 <cls>:2",
        types=True,
    ),
    "t5": Style({"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}, "$A </s>", "$A </s> $B </s>"),
    "decoder": Style({"eos": "<|endoftext|>"}, "$A", "$A $B"),
    "llama": Style({"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, "<s> $A", "<s> $A $B"),
}


@dataclass(frozen=True)
class Family:
    """An architecture by transformers' name for it, small; `style` of the tokenizer, if any."""

    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    style: str | None = None
    kind: str = "encoder"

    @property
    def modality(self) -> str:
        """The modality: "text" or "image"."""
        return "image" if self.style is None else "text"


def text(model_type: str, style: str = "bert", kind: str = "encoder", **config: Any) -> Family:
    """A text family of the usual names of sizes."""
    return Family(model_type, config or BLOCKS, style, kind)


def image(model_type: str, **config: Any) -> Family:
    """An image family."""
    return Family(model_type, config, None, "image")


RELATIVE = ["p2c", "c2p"]
VIT = {**BLOCKS, "image_size": SIDE, "patch_size": 8}
FAMILIES: Mapping[str, Family] = {
    "BERT": text("bert"),
    "MiniLM": text("bert"),
    "RoBERTa": text("roberta", "roberta", **BLOCKS, max_position_embeddings=514),
    "DistilBERT": text(
        "distilbert", n_layers=LAYERS, dim=WIDTH, n_heads=HEADS, hidden_dim=2 * WIDTH
    ),
    "ELECTRA": text("electra", **BLOCKS, embedding_size=16),
    "DeBERTa-v2": text("deberta-v2", **BLOCKS, relative_attention=True, pos_att_type=RELATIVE),
    "ModernBERT": text("modernbert", **BLOCKS),
    "MPNet": text("mpnet", "roberta", **BLOCKS, max_position_embeddings=514),
    "ALBERT": text("albert", **BLOCKS, embedding_size=16),
    "XLNet": text(
        "xlnet", "xlnet", d_model=WIDTH, n_layer=LAYERS, n_head=HEADS, d_inner=2 * WIDTH
    ),
    "Funnel": text(
        "funnel",
        "funnel",
        architectures=["FunnelBaseModel"],
        d_model=WIDTH,
        block_sizes=[1, 1],
        n_head=HEADS,
        d_head=WIDTH // HEADS,
        d_inner=2 * WIDTH,
    ),
    "T5": text(
        "t5",
        "t5",
        "encoder-decoder",
        num_layers=LAYERS,
        d_model=WIDTH,
        num_heads=HEADS,
        d_kv=WIDTH // HEADS,
        d_ff=2 * WIDTH,
        decoder_start_token_id=0,
    ),
    "BART": text(
        "bart",
        "roberta",
        "encoder-decoder",
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=2 * WIDTH,
        decoder_start_token_id=2,
    ),
    "GPT-2": text(
        "gpt2", "decoder", "decoder", n_layer=LAYERS, n_embd=WIDTH, n_head=HEADS, n_inner=2 * WIDTH
    ),
    "Llama": text("llama", "llama", "decoder", **DECODER),
    "Mistral": text("mistral", "llama", "decoder", **DECODER),
    "Qwen2": text("qwen2", "decoder", "decoder", **DECODER),
    "Qwen3": text("qwen3", "decoder", "decoder", **DECODER),
    "Gemma": text("gemma", "llama", "decoder", **DECODER),
    "ViT": image("vit", **VIT),
    "DeiT": image("deit", **VIT),
    "Swin": image(
        "swin", image_size=SIDE, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2],
        window_size=4,
    ),
    "DINOv2": image("dinov2", **VIT),
    "SigLIP": image("siglip", vision_config=VIT, text_config={**BLOCKS, "vocab_size": 40}),
    "ResNet": image("resnet", **STAGES, layer_type="basic"),
    "ConvNeXt": image("convnext", depths=[1, 1], hidden_sizes=[16, WIDTH], num_stages=2),
    "MobileNetV1": image("mobilenet_v1", depth_multiplier=0.25, image_size=SIDE),
    "MobileNetV2": image("mobilenet_v2", depth_multiplier=0.25, image_size=SIDE),
    "EfficientNet": image(
        "efficientnet", width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320
    ),
}  # fmt: skip


def tokenizer(style: str, texts: Iterable[str], vocab_size: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE over `texts` with the special tokens of `style`."""
    how = STYLES[style]
    names = list(how.tokens.values())
    made = Tokenizer(models.BPE(unk_token=how.tokens.get("unk")))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    used = [name for name in names if name in how.pair]
    made.post_processor = TemplateProcessing(
        single=how.single,
        pair=how.pair,
        special_tokens=[(name, made.token_to_id(name)) for name in used],
    )
    inputs = ["input_ids", *(["token_type_ids"] if how.types else []), "attention_mask"]
    tokens = {f"{name}_token": token for name, token in how.tokens.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=inputs, **tokens)


def save(
    family: Family,
    folder: Path,
    texts: Iterable[str] = (),
    *,
    auto: Any = AutoModel,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """A random checkpoint of `family` in `folder`, of `auto`'s kind (a body without a head)."""
    arguments = {**family.config, **changes}
    if family.style is None:
        side = {"height": SIDE, "width": SIDE}
        ViTImageProcessorPil(size=side).save_pretrained(folder)
    else:
        made = tokenizer(family.style, texts)
        made.save_pretrained(folder)
        ids = {
            f"{name}_token_id": getattr(made, f"{name}_token_id") for name in ("pad", "bos", "eos")
        }
        arguments = {"vocab_size": len(made), **ids, **arguments}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family.model_type, **arguments)
    auto.from_config(config).to(dtype).save_pretrained(folder)
    return folder

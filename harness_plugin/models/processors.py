"""Tokenizers and image processors: made for models built from scratch, or loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
)

from harness_plugin.config.settings import ImageSettings
from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import hub_errors


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a lower-casing byte-level BPE on `texts` and save it as a fast tokenizer.

    Byte-level BPE, because its trainer gives the same vocabulary for the same text; WordPiece's
    and Unigram's do not (measured: three runs, three vocabularies).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    ).save_pretrained(folder)


def texts_of(split: Split, inputs: Iterable[str]) -> Iterable[str]:
    """Every input text of a split, column by column."""
    for column in inputs:
        yield from split.rows[column]


def save_image_processor(image: ImageSettings, folder: Path) -> None:
    """Write the processor of a model built from scratch."""
    side = {"height": image.size, "width": image.size}
    ViTImageProcessorPil(size=side, image_mean=image.mean, image_std=image.std).save_pretrained(
        folder
    )


def load_processor(checkpoint: str, modality: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer or image processor saved with a checkpoint."""
    auto = AutoTokenizer if modality == "text" else AutoImageProcessor
    options = {"use_fast": True} if modality == "text" else {"backend": "pil"}
    try:
        processor = auto.from_pretrained(checkpoint, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, KeyError) as error:
        raise hub_errors(checkpoint, error) from error
    if modality == "text" and not processor.is_fast:
        raise HarnessError(f"model {checkpoint!r} has no fast tokenizer; convert it first.")
    return processor

"""Tokenizers and image processors: made for models built from scratch, or loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import transformers

from harness_plugin.config.settings import ImageSettings
from harness_plugin.data.split import Split
from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import load_config
from harness_plugin.models.hub import options_of, reading


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
    transformers.PreTrainedTokenizerFast(
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
    processor = transformers.ViTImageProcessorPil(
        size=side, image_mean=image.mean, image_std=image.std
    )
    processor.save_pretrained(folder)


def load_processor(checkpoint: str, modality: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer or image processor saved with a checkpoint.

    A tokenizer comes with a padding token, and with something between the two texts of a pair: see
    `complete`. Raises HarnessError where nothing can be loaded.
    """
    return loaded(checkpoint, modality, trust_remote_code)[0]


def loaded(checkpoint: str, modality: str, trust_remote_code: bool) -> tuple[Any, tuple[str, ...]]:
    """`load_processor`, and notes on what was added to the tokenizer."""
    text = modality == "text"  # the other one is not looked up: it imports every model's base
    auto = transformers.AutoTokenizer if text else transformers.AutoImageProcessor
    options: dict[str, Any] = {"use_fast": True} if modality == "text" else {"backend": "pil"}
    options |= {"trust_remote_code": trust_remote_code, **options_of(checkpoint)}
    if modality == "text":
        check_tokenizer_files(checkpoint)
    with reading(checkpoint):
        processor = auto.from_pretrained(checkpoint, **options)
    if modality != "text":
        return processor, ()
    if not processor.is_fast:
        raise HarnessError(
            f"model {checkpoint!r} has no fast tokenizer: load it with the library it was made "
            f"with and save a tokenizer.json."
        )
    return processor, tuple(complete(processor, checkpoint, trust_remote_code))


def target_size(processor: Any) -> tuple[int, int]:
    """(height, width) of what a model sees."""
    crop = (
        getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", 0) else None
    )
    size = crop or processor.size
    if "height" in size:
        return int(size["height"]), int(size["width"])
    return int(size["shortest_edge"]), int(size["shortest_edge"])


def check_tokenizer_files(checkpoint: str) -> None:
    """Refuse a folder without a vocabulary: transformers makes one up, in which all is unknown."""
    folder = Path(checkpoint)
    if folder.is_dir() and not any((folder / name).is_file() for name in VOCABULARIES):
        raise HarnessError(
            f"checkpoint {checkpoint}: no tokenizer files ({', '.join(VOCABULARIES[:3])} …). Save "
            f"the tokenizer it was trained with: tokenizer.save_pretrained(folder)."
        )


VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.bpe",
)
"""Files that a tokenizer's vocabulary may be in."""


def complete(tokenizer: Any, checkpoint: str, trust_remote_code: bool) -> Iterator[str]:
    """Give a tokenizer what a classifier's batches need and it lacks; notes on what was given.

    Padding: the end-of-text token, where there is no token for it. Pairs: where no token stands
    between two texts (the tokenizers of decoders were made for running text), they are joined by a
    line break, unless the checkpoint is a classifier, which was trained with what its tokenizer
    does. The tokenizer that is saved with a trained model does the same wherever it is loaded.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise HarnessError(
                f"checkpoint {checkpoint}: its tokenizer has neither a padding token nor an end of "
                f"text: set tokenizer.pad_token and save it again."
            )
        tokenizer.pad_token = tokenizer.eos_token
        yield f"its tokenizer has no padding token; rows are padded with {tokenizer.eos_token!r}"
    if not glues_pairs(tokenizer):
        return
    if is_classifier(checkpoint, trust_remote_code):
        yield "its tokenizer puts nothing between two texts; pairs stay so, as it is a classifier"
    elif join_pairs(tokenizer, "\n"):
        yield "its tokenizer puts nothing between two texts; pairs are joined by a line break"


def glues_pairs(tokenizer: Any) -> bool:
    """Whether the second text of a pair follows upon the first without a token between."""
    sides = tokenizer("a", "a").sequence_ids(0)
    return (0, 1) in pairwise(sides)


def is_classifier(checkpoint: str, trust_remote_code: bool) -> bool:
    """Whether a checkpoint was saved as a classifier; a folder with a tokenizer alone was not."""
    if Path(checkpoint).is_dir() and not (Path(checkpoint) / "config.json").is_file():
        return False
    names = load_config(checkpoint, trust_remote_code).architectures or ()
    return any(name.endswith("Classification") for name in names)


def join_pairs(tokenizer: Any, between: str) -> bool:
    """Put the tokens of `between` between the texts of a pair; False where it has none."""
    from tokenizers.processors import TemplateProcessing

    ids = tokenizer(between, add_special_tokens=False)["input_ids"]
    if not ids or tokenizer.unk_token_id in ids:
        return False
    row = tokenizer("a")
    inside = [place for place, side in enumerate(row.sequence_ids(0)) if side is not None]
    before, after = row["input_ids"][: inside[0]], row["input_ids"][inside[-1] + 1 :]
    pieces = {"<before>": before, "<between>": ids, "<after>": after}
    pieces = {name: value for name, value in pieces.items() if value}
    first, last = ([n] if n in pieces else [] for n in ("<before>", "<after>"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", "<between>", "$B", *last],
        special_tokens=[
            {"id": name, "ids": value, "tokens": tokenizer.convert_ids_to_tokens(value)}
            for name, value in pieces.items()
        ],
    )
    return True

"""One examination of every checkpoint, before anything is computed.

A checkpoint is compared with itself (files, configuration, weights, tokenizer) and with the run
(what it is used for, how long its texts are, what they say). Each fault is one line: what was
found, and what to do. Names and shapes are read first; no model is built in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.utils import cached_file

from harness_plugin.errors import HarnessError
from harness_plugin.models.checkpoints import Source, load_config, overridden, read_as
from harness_plugin.models.classifiers import (
    lacking_body,
    misfits,
    named,
    read_weights,
    reads_padding,
)
from harness_plugin.models.hub import options_of, reading
from harness_plugin.models.processors import loaded, target_size
from harness_plugin.models.weight_files import WeightFiles, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNKNOWN_REFUSED, UNKNOWN_NOTED = 0.5, 0.1
"""Shares of a text's tokens that the vocabulary does not know."""
SMALL_VOCABULARY = 0.5
"""A tokenizer with fewer tokens than this share of the model's embeddings is another model's."""


@dataclass(frozen=True)
class Use:
    """Use of a checkpoint in a run.

    `trained_before`: it is used as it is, head and all. `max_length`: tokens its texts are cut to.
    `texts`: some of them. `config`: overrides of its configuration, as JSON.
    """

    trained_before: bool
    max_length: int = 0
    texts: tuple[str, ...] = ()
    config: str = "{}"


@dataclass(frozen=True)
class Examined:
    """The floating types that a checkpoint's weights are stored in, and what to know about it."""

    dtypes: tuple[str, ...]
    notes: tuple[str, ...]


def examine(
    source: Source, modality: str, use: Use, *, role: str, trust_remote_code: bool = False
) -> Examined:
    """Examine a checkpoint: its stored types and notes; HarnessError with everything wrong in it.

    `role` is who uses it, for the message: one line a fault.
    """
    checkpoint = str(source.checkpoint)
    folder = Path(checkpoint)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    stamp = tuple((f.name, s.st_size, s.st_mtime_ns) for f in files for s in (f.stat(),))
    known = (source.name, checkpoint, source.model_type, stamp, modality, use, role)
    if known not in EXAMINED:
        EXAMINED[known] = examine_once(source, modality, use, role, trust_remote_code)
    return EXAMINED[known]


NUMBERED = re.compile(r"\.\d+\.")
"""A layer's place in the name of a weight."""
EXAMINED: dict[Any, Examined] = {}
"""Examinations of this process; size and time tell a folder that was changed meanwhile."""


def examine_once(
    source: Source, modality: str, use: Use, role: str, trust_remote_code: bool
) -> Examined:
    """`examine`, whatever was examined before."""
    checkpoint = str(source.checkpoint)

    def refuse(faults: Sequence[str]) -> None:
        if faults:
            lines = [f"{role}: checkpoint {checkpoint}: {fault}." for fault in faults]
            raise HarnessError("\n".join(lines))

    config = read_as(source, load_config(checkpoint, trust_remote_code))
    if getattr(config, "quantization_config", None):
        refuse(["it is quantised (quantization_config in config.json): save model.dequantize()"])
    files = weight_files(folder_of(checkpoint))
    refuse(files.faults)
    config = overridden(config, json.loads(use.config))
    model, info = read_weights(
        checkpoint, config, modality, device="meta", trust_remote_code=trust_remote_code
    )
    refuse(list(weight_faults(model, info, use)))
    processor, notes = loaded(checkpoint, modality, trust_remote_code)
    faults = text_faults if modality == "text" else image_faults
    refuse(list(faults(model, processor, use)))
    noted = [*stored(files), *left_out(info), *notes]
    if modality == "text":
        noted += [*padding_note(model, processor), *unknown_note(processor, use)]
    return Examined(files.dtypes, tuple(noted))


def folder_of(checkpoint: str) -> Path:
    """Where a checkpoint's files lie: itself, or the hub's cache."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    with reading(checkpoint):
        return Path(str(cached_file(checkpoint, "config.json", **options_of(checkpoint)))).parent


def weight_faults(model: PreTrainedModel, info: dict[str, Any], use: Use) -> Iterator[str]:
    """Tensors of the architecture that the weights lack."""
    if not use.trained_before:
        if lacking := lacking_body(model, info):
            yield lacking
    elif lacking := named(misfits(info)):
        yield (
            f"weights are missing, or of another shape than config.json says, for {lacking}: it is "
            f"no trained classifier. Train it, or save the model that was trained"
        )


def text_faults(model: PreTrainedModel, tokenizer: Any, use: Use) -> Iterator[str]:
    """Disagreements of a tokenizer with the model and with the run's settings."""
    rows = embedding_rows(model)
    vocabulary = tokenizer.get_vocab()
    highest = max(vocabulary.values(), default=-1)
    if rows is not None and highest >= rows:
        over = sum(index >= rows for index in vocabulary.values())
        yield (
            f"its tokenizer has {over} tokens beyond the model's {rows} embeddings: save the model "
            f"again after model.resize_token_embeddings(len(tokenizer))"
        )
    elif rows is not None and len(vocabulary) < SMALL_VOCABULARY * rows:
        yield (
            f"its tokenizer knows {len(vocabulary)} tokens, the model has {rows} embeddings: it is "
            f"another model's, or was made up for want of files. Save the tokenizer that it was "
            f"trained with"
        )
    places = position_rows(model)
    if places is not None and use.max_length > places:
        yield (
            f"it reads at most {places} tokens, and texts are cut to {use.max_length}: set "
            f"max_length={places} or less"
        )
    pair = tokenizer("a", "a")
    types = pair.get("token_type_ids", [])
    segments = rows_of(model, "token_type_embeddings")
    if types != sorted(types) or {*types} - {0, 1}:
        yield (
            f"its tokenizer marks a pair by the token types {' '.join(map(str, types))}: rows are "
            f"stored as a first text of type 0 and a second of type 1, so that XLNet and Funnel, "
            f"whose special tokens have a type of their own, cannot be read. Name another model"
        )
    elif segments is not None and max(types, default=0) >= segments:
        yield (
            f"its tokenizer tells the two texts of a pair apart by token types, of which the model "
            f"knows {segments}: take token_type_ids out of model_input_names in "
            f"tokenizer_config.json, or name the model's own tokenizer"
        )
    config = model.config
    if config.is_encoder_decoder:
        if pair["input_ids"].count(config.eos_token_id) == 0:
            yield (
                f"its head reads the place of eos_token_id {config.eos_token_id}, which its "
                f"tokenizer does not write: correct eos_token_id in config.json"
            )
        if getattr(config, "decoder_start_token_id", None) is None:
            yield "config.json has no decoder_start_token_id, the token its decoder starts with"
    if (share := unknown_share(tokenizer, use.texts)) > UNKNOWN_REFUSED:
        yield (
            f"its tokenizer does not know {share:.0%} of the tokens of these texts: it is another "
            f"model's, or for another language or script"
        )


def image_faults(model: PreTrainedModel, processor: Any, use: Use) -> Iterator[str]:
    """Disagreements of an image processor with the model: sides and channels."""
    height, width = target_size(processor)
    try:
        with torch.no_grad():
            model.eval()(pixel_values=torch.empty(1, 3, height, width, device="meta"))
    except ValueError as error:  # what transformers raises for images of another size
        reason = " ".join(str(error).split()).rstrip(".")
        yield (
            f"it cannot read the pictures that its image processor makes, 3 x {height} x {width}: "
            f"{reason}. Correct size in preprocessor_config.json"
        )
    except (NotImplementedError, RuntimeError):  # an architecture that cannot run without memory
        return


def embedding_rows(model: PreTrainedModel) -> int | None:
    """How many token ids a model knows; None where it has no table of them."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return int(table.num_embeddings) if isinstance(table, nn.Embedding) else None


def rows_of(model: PreTrainedModel, *names: str) -> int | None:
    """The smallest table of embeddings under one of `names`; None where there is none."""
    tables = [
        module.num_embeddings - getattr(module, "offset", 0)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] in names
    ]
    return min(tables, default=None)


def position_rows(model: PreTrainedModel) -> int | None:
    """How many tokens a model's table of positions is for; None where positions are relative.

    RoBERTa and its kin count positions from `padding_idx` + 1.
    """
    rows = rows_of(model, "position_embeddings", "embed_positions", "wpe")
    if rows is None:
        return None
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return rows - table.padding_idx - 1
    return rows


def unknown_share(tokenizer: Any, texts: Sequence[str]) -> float:
    """The share of tokens of `texts` that are the unknown one; 0 for tokenizers without."""
    if tokenizer.unk_token_id is None or not texts:
        return 0.0
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    total = sum(map(len, rows))
    return sum(row.count(tokenizer.unk_token_id) for row in rows) / total if total else 0.0


def stored(files: WeightFiles) -> Iterator[str]:
    """A note on weights that are stored in another type than they are computed in."""
    if other := [dtype for dtype in files.dtypes if dtype != "float32"]:
        yield f"stored as {' and '.join(other)}, held in float32 here"


def left_out(info: dict[str, Any]) -> Iterator[str]:
    """A note on stored layers that the classifier has no place for; other heads go without one."""
    if names := sorted(name for name in info["unexpected_keys"] if NUMBERED.search(name)):
        yield f"{len(names)} weights of stored layers are left out ({named(names)})"


def padding_note(model: PreTrainedModel, tokenizer: Any) -> Iterator[str]:
    """A note on a decoder whose configuration names another padding than its tokenizer."""
    stated = model.config.get_text_config().pad_token_id
    if reads_padding(model) and stated != tokenizer.pad_token_id:
        yield (
            f"config.json has pad_token_id {stated}, its tokenizer pads with "
            f"{tokenizer.pad_token_id}, which is taken: labels do not depend on the batch"
        )


def unknown_note(tokenizer: Any, use: Use) -> Iterator[str]:
    """A note on texts of which the tokenizer does not know much."""
    if (share := unknown_share(tokenizer, use.texts)) > UNKNOWN_NOTED:
        yield f"its tokenizer does not know {share:.0%} of the tokens of these texts"

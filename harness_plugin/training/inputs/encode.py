"""A split + a processor → memory-mapped model inputs, made once and batched by row number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from harness_plugin.data.dataset import Split
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import worked
from harness_plugin.models.processors import target_size
from harness_plugin.store.keys import code_version
from harness_plugin.store.stages import Store
from harness_plugin.training.inputs.pixels import read_images, to_pixels
from harness_plugin.training.inputs.transfer import CPU, to_device

Ints: TypeAlias = NDArray[np.int64]
CHUNK, IMAGES = 2048, 256
KIND = "encoded"
"""Stage kind of encoded rows."""


class Encoded(Protocol):
    """Rows ready for a model."""

    @property
    def lengths(self) -> Ints | None:
        """(N,) cost of each row in tokens; None when all rows cost the same."""

    def __len__(self) -> int: ...

    def batch(self, rows: Ints, device: torch.device = CPU) -> dict[str, torch.Tensor]:
        """The model's keyword arguments for `rows`, padded to the longest of them, on `device`."""


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Token ids of all rows end to end; row i is tokens[offsets[i]:offsets[i+1]].

    `second` (N,) is where the second segment starts in a row; None when the tokenizer has no
    token types.
    """

    tokens: NDArray[np.int32]
    offsets: Ints
    second: NDArray[np.int32] | None
    pad: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each row."""
        return np.diff(self.offsets)

    def batch(self, rows: Ints, device: torch.device = CPU) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and, where the tokenizer has them, token_type_ids (B, L)."""
        start = self.offsets[rows]
        length = self.offsets[rows + 1] - start
        position = np.arange(int(length.max()) if len(rows) else 0)
        mask = position < length[:, None]
        index = np.where(mask, start[:, None] + position, 0)
        ids = np.where(mask, self.tokens[index], self.pad).astype(np.int64)
        out = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self.second is not None:
            types = mask & (position >= self.second[rows][:, None])
            out["token_type_ids"] = torch.from_numpy(types.astype(np.int64))
        return {name: to_device(value, device) for name, value in out.items()}


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Pixels (N, H, W, 3) uint8; the batch holds (scale * pixels - mean) / std."""

    pixels: NDArray[np.uint8]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def lengths(self) -> None:
        """All images cost the same."""
        return None

    def batch(self, rows: Ints, device: torch.device = CPU) -> dict[str, torch.Tensor]:
        """pixel_values (B, 3, H, W) float32 in channels-last memory format.

        Bytes travel to the device, a quarter of what floats weigh, and are normalised there.
        """
        stored = to_device(torch.from_numpy(self.pixels[rows]), device)
        pixels = stored.permute(0, 3, 1, 2).float()
        mean, std = (
            to_device(torch.tensor(each).view(1, 3, 1, 1) / self.scale, device)
            for each in (self.mean, self.std)
        )
        return {"pixel_values": (pixels - mean) / std}


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Some rows of encoded rows; row i is row `rows[i]` of the whole."""

    whole: Encoded
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Ints | None:
        """(R,) cost of each row."""
        lengths = self.whole.lengths
        return None if lengths is None else lengths[self.rows]

    def batch(self, rows: Ints, device: torch.device = CPU) -> dict[str, torch.Tensor]:
        """The model's keyword arguments for `rows` of this choice, on `device`."""
        return self.whole.batch(self.rows[rows], device)


def processor_key(processor: Any) -> str:
    """Hash of everything a tokenizer or image processor does to an input."""
    if hasattr(processor, "backend_tokenizer"):
        state = json.loads(processor.backend_tokenizer.to_str())
        for setting in ("truncation", "padding"):  # left behind by the last call, not its nature
            state.pop(setting, None)
        state |= {name: getattr(processor, name) for name in TOKENIZER_STATE}
        state["model_input_names"] = sorted(processor.model_input_names)
    else:
        state = processor.to_dict()
    text = json.dumps(state, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


TOKENIZER_STATE = (
    "padding_side",
    "truncation_side",
    "pad_token_id",
    "pad_token_type_id",
    "split_special_tokens",
)
"""Attributes of a tokenizer that shape ids and masks and are not in its backend's file."""


def spec_of(
    split: Split,
    inputs: Sequence[str],
    processor: Any,
    *,
    max_length: int,
    center_crop: int | None = None,
) -> dict[str, Any]:
    """The specification of encoded rows, as JSON: the stage's key is its hash."""
    is_text = hasattr(processor, "backend_tokenizer")
    build = "write_text_rows" if is_text else "write_images"
    spec: dict[str, Any] = {
        "split": split.fingerprint,
        "inputs": list(inputs),
        "processor": processor_key(processor),
        "code": code_version(f"{__name__}:{build}"),
    }
    return spec | ({"max_length": max_length} if is_text else {"center_crop": center_crop})


def encode(
    split: Split,
    inputs: Sequence[str],
    processor: Any,
    store: Store,
    *,
    max_length: int,
    center_crop: int | None = None,
    quiet: bool = True,
) -> Encoded:
    """The model inputs of `split`, from the store when split and processor were seen before.

    `inputs` are the input columns: one or two texts, or one image. Texts over `max_length`
    tokens are truncated (the longer of the two first) and counted in the stage's record.
    """
    is_text = hasattr(processor, "backend_tokenizer")
    spec = spec_of(split, inputs, processor, max_length=max_length, center_crop=center_crop)

    def build(folder: Path) -> dict[str, Any] | None:
        if not store.processes.is_main:
            return None
        if is_text:
            return write_text_rows(split, inputs, processor, max_length, folder, quiet)
        return write_images(split, inputs[0], processor, center_crop, folder, quiet)

    stage = store.run(KIND, spec, build)
    if is_text:
        second = stage.path / "second.npy"
        return EncodedText(
            np.load(stage.path / "tokens.npy", mmap_mode="r"),
            np.load(stage.path / "offsets.npy"),
            np.load(second) if second.exists() else None,
            int(processor.pad_token_id),
        )
    pixels = np.load(stage.path / "pixels.npy", mmap_mode="r")
    return EncodedImages(pixels, *normalisation(processor))


def normalisation(processor: Any) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """(scale, mean, std) of what an image processor does to the values of its pixels."""
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return scale, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return scale, tuple(processor.image_mean), tuple(processor.image_std)


def write_text_rows(
    split: Split,
    inputs: Sequence[str],
    tokenizer: Any,
    max_length: int,
    folder: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Tokenise every row into tokens.npy, offsets.npy and second.npy."""
    if tokenizer.pad_token_id is None:
        raise HarnessError(f"the tokenizer {type(tokenizer).__name__} has no padding token.")
    has_types = "token_type_ids" in tokenizer.model_input_names
    tokens: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    second: list[int] = []
    truncated = 0
    starts = range(0, len(split), CHUNK)
    for start in worked(starts, f"tokenising {split.name}", unit="part", quiet=quiet):
        rows = split.rows[start : start + CHUNK]
        texts = [list(rows[column]) for column in inputs]
        out = tokenizer(
            *texts,
            truncation=True,
            max_length=max_length,
            return_token_type_ids=has_types,
            return_attention_mask=False,
        )
        truncated += sum(bool(encoding.overflowing) for encoding in out.encodings)
        tokens.append(np.concatenate([np.asarray(ids, np.int32) for ids in out["input_ids"]]))
        lengths.extend(len(ids) for ids in out["input_ids"])
        if has_types:
            for number, types in enumerate(out["token_type_ids"]):
                first = types.count(0)
                if types != [0] * first + [1] * (len(types) - first):
                    raise HarnessError(
                        f"{split.name}: row {start + number + 1}: the tokenizer's token types do "
                        f"not read 0…0 1…1, which is the only layout this loader stores."
                    )
                second.append(first)
    np.save(folder / "tokens.npy", np.concatenate(tokens))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    if has_types:
        np.save(folder / "second.npy", np.asarray(second, np.int32))
    return {"rows": len(lengths), "tokens": int(sum(lengths)), "truncated": truncated}


def write_images(
    split: Split, column: str, processor: Any, crop: int | None, folder: Path, quiet: bool
) -> dict[str, Any]:
    """Decode, crop and resize every image once, into pixels.npy.

    By ordinary writes: a memory map kills the process (SIGBUS) where the disk is full.
    """
    height, width = target_size(processor)
    shape = (len(split), height, width, 3)
    rows = split.rows.select_columns([column])

    def seen(image: Any) -> NDArray[np.uint8]:
        return to_pixels(image, processor, crop, (height, width))

    starts = range(0, len(split), IMAGES)
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (folder / "pixels.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, about)
        for start in worked(starts, f"decoding {split.name}", unit="part", quiet=quiet):
            for pixels in read_images(rows, column, start, IMAGES, seen):
                stream.write(np.ascontiguousarray(pixels, np.uint8).data)
    return {"rows": len(split), "size": [height, width]}

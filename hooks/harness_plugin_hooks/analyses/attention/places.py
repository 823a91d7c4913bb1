"""Positions in a model's input: special tokens, segments, words, cues, patches."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.analysis.loaded_models import FinishedTask, LoadedModel
from harness_plugin.data.dataset import DataRequest, Split, resolve_options
from harness_plugin.errors import HarnessError
from harness_plugin.models.processors import target_size
from harness_plugin.pipeline.roles.split_stages import processor_of
from harness_plugin.records import Floats, Ints
from harness_plugin.training.inputs.pixels import to_pixels

# fmt: off
NEGATION = frozenset({
    "no", "not", "never", "nothing", "nobody", "none", "nowhere", "neither", "nor", "cannot",
    "without",
})
# fmt: on
"""And every word that ends in n't. The cue of Sagawa et al. 2020 is four of these."""


@dataclass(frozen=True)
class Places:
    """The positions of a batch, (B, T) each.

    `real` are not padding, `content` neither padding nor special. `sets` are the share of every
    position that belongs to a cue, in [0, 1]. Of texts: `segment` 0 or 1 (-1 special or padding),
    and `word`, numbered over both segments, of `words` in the longest row (-1 no word).
    """

    real: Tensor
    content: Tensor
    sets: dict[str, Tensor]
    segment: Tensor | None = None
    word: Tensor | None = None
    words: int = 0

    @property
    def keys(self) -> dict[bool, Tensor]:
        """Positions that may be attended to, with special tokens (True) and without."""
        return {True: self.real, False: self.content}


@dataclass(frozen=True)
class Words:
    """The words of a row, split at white space: segment, start and end in it, and the cues."""

    segment: Ints
    start: Ints
    end: Ints
    overlap: NDArray[np.bool_]
    negation: NDArray[np.bool_]


def words_of(texts: Sequence[str]) -> Words:
    """Words of one or two texts; `overlap`: of the second, those that the first has as well."""
    spans = [
        (segment, match.start(), match.end(), normal(match.group()))
        for segment, text in enumerate(texts)
        for match in re.finditer(r"\S+", text)
    ]
    first = {word for segment, _, _, word in spans if segment == 0 and word}
    segment, start, end = (np.array([word[i] for word in spans], np.int64) for i in range(3))
    overlap = [segment == 1 and word in first for segment, _, _, word in spans]
    negation = [word in NEGATION or word.endswith("n't") for *_, word in spans]
    return Words(segment, start, end, np.array(overlap, bool), np.array(negation, bool))


def normal(word: str) -> str:
    """Lower case, straight apostrophes, no punctuation around it."""
    return word.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip(string.punctuation)


def word_of_token(words: Words, texts: Sequence[str], segment: int, span: tuple[int, int]) -> int:
    """The word that a token's first character that is no blank belongs to, or the next word.

    -1 in a segment without words.
    """
    start, end = span
    text = texts[segment][start:end]
    start += len(text) - len(text.lstrip())
    inside = np.flatnonzero(words.segment == segment)
    if not len(inside):
        return -1
    after = int(np.searchsorted(words.end[inside], start, side="right"))
    return int(inside[min(after, len(inside) - 1)])


@dataclass(frozen=True)
class TextPlaces:
    """The tokens of chosen rows as one tokenizer makes them: ragged, a list entry a row."""

    ids: list[Ints]
    segment: list[Ints]
    word: list[Ints]
    words: list[Words]

    def batch(self, rows: Ints, inputs: dict[str, Tensor]) -> Places:
        """The places of `rows` (indices of the chosen rows), whose model inputs are `inputs`."""
        real = inputs["attention_mask"].bool().cpu()
        shape = real.shape
        segment = torch.full(shape, -1)
        word = torch.full(shape, -1)
        cues = {name: torch.zeros(shape, dtype=torch.float64) for name in ("overlap", "negation")}
        ids = inputs["input_ids"].cpu()
        for place, row in enumerate(rows.tolist()):
            n = len(self.ids[row])
            if n != int(real[place].sum()) or ids[place, :n].tolist() != self.ids[row].tolist():
                raise HarnessError(
                    "the tokenizer cuts a row into other tokens than the run stored; its files "
                    "have changed since."
                )
            segment[place, :n] = torch.from_numpy(self.segment[row])
            word[place, :n] = torch.from_numpy(self.word[row])
            for name, cue in cues.items():
                marked: NDArray[np.bool_] = getattr(self.words[row], name)
                cue[place, :n] = torch.from_numpy(
                    np.append(marked, False)[self.word[row]]
                )  # -1: none
        device = inputs["input_ids"].device
        longest = max(len(self.words[row].start) for row in rows.tolist())
        return Places(
            real.to(device),
            (segment >= 0).to(device),
            {name: cue.to(device) for name, cue in cues.items()},
            segment.to(device),
            word.to(device),
            longest,
        )


def text_places(
    split: Split, rows: Ints, columns: Sequence[str], tokenizer: Any, max_length: int
) -> TextPlaces:
    """Tokenise the chosen rows again as `training.inputs.encode` does, and keep what it forgets."""
    chosen = split.rows.select(rows)
    texts = [list(chosen[column]) for column in columns]
    out = tokenizer(*texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    ids, segments, numbers, words = [], [], [], []
    for encoding, row in zip(out.encodings, zip(*texts, strict=True), strict=True):
        known = words_of(row)
        segment = np.array([-1 if s is None else s for s in encoding.sequence_ids], np.int64)
        word = [
            -1 if s < 0 else word_of_token(known, row, s, span)
            for s, span in zip(segment.tolist(), encoding.offsets, strict=True)
        ]
        ids.append(np.array(encoding.ids, np.int64))
        segments.append(segment)
        numbers.append(np.array(word, np.int64))
        words.append(known)
    return TextPlaces(ids, segments, numbers, words)


@dataclass(frozen=True)
class ImagePlaces:
    """The patches of chosen images: `region` (R, P) the share of each that shows the attribute."""

    region: Floats | None
    patches: int

    def batch(self, rows: Ints, positions: int, device: torch.device) -> Places:
        """The places of `rows` (indices of the chosen rows): special tokens first, then patches."""
        before = positions - self.patches
        real = torch.ones(len(rows), positions, dtype=torch.bool, device=device)
        content = real.clone()
        content[:, :before] = False
        sets = {}
        if self.region is not None:
            region = torch.zeros(len(rows), positions, dtype=torch.float64, device=device)
            region[:, before:] = torch.from_numpy(self.region[rows]).to(device)
            sets["region"] = region
        return Places(real, content, sets)


def grid_of(config: Any) -> tuple[int, int]:
    """(rows, columns) of patches of a vision transformer."""

    def pair(value: Any) -> tuple[int, int]:
        return (int(value[0]), int(value[1])) if isinstance(value, list | tuple) else (value, value)

    config = getattr(config, "vision_config", None) or config  # the part that reads images
    (height, width), (down, across) = pair(config.image_size), pair(config.patch_size)
    return height // down, width // across


def coverage(
    mask: NDArray[np.bool_], processor: Any, crop: int | None, grid: tuple[int, int]
) -> Floats:
    """(P,) the share of every patch that `mask` (H, W) covers, after what is done to an image."""
    picture = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    size = target_size(processor)
    seen = to_pixels(picture, processor, crop, size)[..., 0] / 255.0
    down, across = grid
    height, width = seen.shape[0] // down, seen.shape[1] // across
    patches = seen[: down * height, : across * width].reshape(down, height, across, width)
    out: Floats = patches.mean(axis=(1, 3)).reshape(-1)
    return out


def regions(task: FinishedTask, split: Split, rows: Ints) -> NDArray[np.bool_] | None:
    """Where the attribute is drawn in the chosen images: (R, H, W), (H, W) for all, or None."""
    ctx = task.ctx
    source = ctx.config.source_of(ctx.task)
    target = ctx.task.attribute_region.get(source)
    if target is None:
        return None
    options = resolve_options(ctx.task, ctx.settings.options)
    request = DataRequest(ctx.task, source, ctx.config.data_path, options, ctx.config.data_seed)
    mask: NDArray[np.bool_] = ctx.task.load_attribute(target)(request, split.select(rows))
    if (
        mask.dtype != np.bool_
        or mask.ndim not in (2, 3)
        or (mask.ndim == 3 and len(mask) != len(rows))
    ):
        raise HarnessError(
            f"{ctx.task.file}: attribute_region {target}: expected booleans (H, W) or "
            f"({len(rows)}, H, W), found {mask.dtype} {mask.shape}."
        )
    return mask


def places_of(
    task: FinishedTask,
    subject: LoadedModel,
    split: Split,
    rows: Ints,
    region: NDArray[np.bool_] | None,
) -> TextPlaces | ImagePlaces:
    """Positions in the chosen rows as this model reads them."""
    processor = processor_of(task.ctx, str(subject.path))[0]
    if task.ctx.task.modality == "text":
        columns = task.ctx.task.inputs
        return text_places(split, rows, columns, processor, subject.max_length)
    grid = grid_of(subject.model.config)
    if region is None:
        return ImagePlaces(None, grid[0] * grid[1])
    crop = task.ctx.plan.image.center_crop
    if region.ndim == 2:
        one = coverage(region, processor, crop, grid)
        return ImagePlaces(np.repeat(one[None], len(rows), axis=0), len(one))
    shares = np.stack([coverage(mask, processor, crop, grid) for mask in region])
    return ImagePlaces(shares, shares.shape[1])

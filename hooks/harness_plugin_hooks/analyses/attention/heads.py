"""Attention of several models on the same rows, batch by batch: each one's own, and by pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness_plugin.analysis.loaded_models import LoadedModel, inputs_of
from harness_plugin.machine.progress import worked
from harness_plugin.models.layers import Shape
from harness_plugin.records import Floats, Ints
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.analyses.attention import measures
from harness_plugin_hooks.analyses.attention.places import ImagePlaces, Places, TextPlaces
from harness_plugin_hooks.analyses.cka.compute import same_depth
from harness_plugin_hooks.analyses.reading import batches_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 16
"""Rows of a batch: all its maps are in memory at once, 150 MB for BERT-base at 128 tokens."""

SPECIALS = (True, False)
"""With special tokens, and without."""

Key = tuple[bool, str]
"""Whether special tokens take part, and what is measured."""


@dataclass(frozen=True)
class Side:
    """One model that has attention, and where its tokens stand in the chosen rows."""

    subject: LoadedModel
    encoded: Encoded
    places: TextPlaces | ImagePlaces
    cut: str
    """Tokenizer or patch grid: equal for models whose tokens correspond one to one."""

    @property
    def shape(self) -> Shape:
        """Layers and heads."""
        return Shape.of(self.subject.model.config)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its layers."""
        return tuple(f"layer {number + 1}" for number in range(self.shape.layers))

    @property
    def depths(self) -> tuple[float, ...]:
        """Relative depth of every layer, in (0, 1]."""
        return tuple((number + 1) / self.shape.layers for number in range(self.shape.layers))

    @property
    def readout(self) -> str:
        """Where the label is read."""
        return readout_of(self.subject.model)


def readout_of(model: PreTrainedModel) -> str:
    """Where a classifier reads the label: "first token", "last token" or "mean over tokens".

    Decoders of transformers call the layer that they answer with `score`.
    """
    if hasattr(model, "score"):
        return "last token"
    config = model.config
    mean = str(config.model_type).startswith(("t5", "siglip"))
    return "mean over tokens" if mean or pooling(config) == "mean" else "first token"


def pooling(config: Any) -> str:
    """The pooling of a ModernBERT's classifier; "" for others."""
    return str(getattr(config, "classifier_pooling", ""))


def readout_queries(readout: str, real: Tensor) -> Tensor:
    """(B, T) the positions that a label is read from; `real` (B, T) are no padding."""
    if readout == "mean over tokens":
        return real
    place = torch.arange(real.shape[1], device=real.device)
    chosen = (real * place).argmax(dim=1) if readout == "last token" else real.new_zeros(len(real))
    return place == chosen[:, None]


@dataclass
class HeadMeans:
    """Mean over rows of every head's value, (L, H), as batches of rows come.

    Of the rows that have a value; `rows` have one of any head.
    """

    total: Floats = field(default_factory=lambda: np.zeros(()))
    size: Ints = field(default_factory=lambda: np.zeros((), np.int64))
    rows: int = 0

    def add(self, values: Floats) -> None:
        """A batch (b, L, H); nan where a row has no value."""
        there = ~np.isnan(values)
        self.total = self.total + np.where(there, values, 0).sum(axis=0)
        self.size = self.size + there.sum(axis=0)
        self.rows += int(there.any(axis=(1, 2)).sum())

    @property
    def mean(self) -> Floats:
        """(L, H); nan where no row has a value."""
        out: Floats = np.full(self.total.shape, np.nan)
        np.divide(self.total, self.size, out=out, where=self.size > 0)
        return out


@dataclass
class Measured:
    """Values of R rows. nan where a row has none (no negation word, one token).

    By what is measured: `heads`, of which the mean over rows is kept, and `layers` (R, L), the mean
    over heads of each row; `rolled` (R,) mass that the readout takes by rollout; `uniform` (R,) the
    mass that attention without preferences would have.
    """

    heads: dict[Key, HeadMeans] = field(default_factory=dict)
    layers: dict[Key, Floats] = field(default_factory=dict)
    rolled: dict[Key, Floats] = field(default_factory=dict)
    uniform: dict[Key, Floats] = field(default_factory=dict)


@dataclass
class Pair:
    """Two models, numbers in the list of sides, and what their layers and heads differ by.

    `seed` is the second's. `layers` (R, B): divergence of every layer of the second from the
    first's at equal depth, row by row. `heads` (A, B): mean divergence of all heads, layer after
    layer, over the first rows.
    """

    first: int
    second: int
    seed: int
    level: str
    aligned: Ints
    layers: dict[bool, Floats]
    heads: dict[bool, Floats] = field(default_factory=dict)


def measure(
    sides: Sequence[Side],
    pairs: Sequence[tuple[int, int]],
    rows: Ints,
    *,
    matched_rows: int,
    device: torch.device,
    quiet: bool = True,
    title: str = "attention",
) -> tuple[list[Measured], list[Pair]]:
    """Everything of the chosen `rows`; single heads of two roles on the first of these only."""
    results = [Measured() for _ in sides]
    compared = [opened(sides, a, b, len(rows)) for a, b in pairs]
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(measures.eager(side.subject.model))
        batches = list(batches_of(sides[0].encoded, rows, BATCH))
        for some in worked(batches, title, quiet=quiet):
            views = []
            for side, into in zip(sides, results, strict=True):
                layers, places = read(side, rows, some, device)
                for name, value in own(layers, places, side.readout, into):
                    store(name, value, some, len(rows))
                views.append((torch.stack(head_means(layers)), places))
            for pair in compared:
                compare_layers(pair, views[pair.first], views[pair.second], some)
        few = np.arange(min(matched_rows, len(rows)))
        for pair in compared:
            if sides[pair.first].subject.role != sides[pair.second].subject.role:
                match_heads(pair, sides, rows, few, device)
    return results, compared


def opened(sides: Sequence[Side], first: int, second: int, rows: int) -> Pair:
    """A pair of which nothing is known yet."""
    a, b = sides[first], sides[second]
    aligned = same_depth(a.depths, b.depths, a.names)
    layers = {specials: np.full((rows, len(aligned)), np.nan) for specials in SPECIALS}
    level = "token" if a.cut == b.cut else "word"
    return Pair(first, second, b.subject.seed, level, aligned, layers)


def read(side: Side, rows: Ints, some: Ints, device: torch.device) -> tuple[list[Tensor], Places]:
    """The maps of every layer for a batch, and what stands where."""
    inputs = inputs_of(side.encoded, rows[some], device)
    layers = measures.read_attention(side.subject.model, inputs)
    if isinstance(side.places, ImagePlaces):
        return layers, side.places.batch(some, layers[0].shape[-1], device)
    return layers, side.places.batch(some, inputs)


def store(into: tuple[dict[Key, Floats], Key], value: Tensor, some: Ints, rows: int) -> None:
    """Put a batch's values where its rows belong."""
    table, key = into
    if key not in table:
        table[key] = np.full((rows, *value.shape[1:]), np.nan)
    table[key][some] = value.cpu().numpy()


def own(
    layers: Sequence[Tensor], places: Places, readout: str, into: Measured
) -> Iterator[tuple[tuple[dict[Key, Floats], Key], Tensor]]:
    """Measure one model's maps of a batch and add them to `into`."""
    asking = readout_queries(readout, places.real)
    rolled = measures.rollout([clean(layer, places.real) for layer in head_means(layers)])
    taken = measures.mean_rows(rolled.transpose(1, 2), asking[:, None].expand_as(rolled))
    for specials, keys in places.keys.items():
        each: dict[str, list[Tensor]] = {}
        for layer in layers:
            maps, there = measures.restricted(layer, keys[:, None])
            entropy = measures.normalised_entropy(maps, keys[:, None, None])
            each.setdefault("entropy", []).append(
                measures.mean_rows(entropy, keys[:, None] & there)
            )
            for name, value in masses(maps, there, places, keys, asking):
                each.setdefault(name, []).append(value)
        for name, values in each.items():
            heads = torch.stack(values, dim=1)
            into.heads.setdefault((specials, name), HeadMeans()).add(heads.cpu().numpy())
            yield (into.layers, (specials, name)), heads.mean(dim=2)
        even, there = measures.restricted(torch.ones_like(rolled)[:, None], keys[:, None])
        for name, value in masses(even, there, places, keys, asking):
            yield (into.uniform, (specials, name)), value[:, 0]
        kept, _ = measures.restricted(taken[:, None], keys)
        for name, share in places.sets.items():
            mass = (kept[:, 0] * share).sum(dim=-1)
            yield (
                (into.rolled, (specials, name)),
                torch.where(shown(share, keys), mass, torch.nan),
            )
    special = (taken * (places.real & ~places.content)).sum(dim=-1)
    yield (into.rolled, (True, "special")), special


def head_means(layers: Sequence[Tensor]) -> list[Tensor]:
    """(B, T, T) float64 mean over the heads of every layer."""
    return [layer.mean(dim=1, dtype=torch.float64) for layer in layers]


def clean(maps: Tensor, real: Tensor) -> Tensor:
    """Maps (B, T, T) without what is lost on padding; a padded position attends to itself."""
    own_place = torch.eye(maps.shape[-1], dtype=torch.bool, device=maps.device)
    return torch.where(real[:, :, None], maps * real[:, None, :], own_place.to(maps))


def shown(share: Tensor, keys: Tensor) -> Tensor:
    """(B,) whether a row shows a cue at all."""
    return (share * keys).sum(dim=-1) > 0


def masses(
    maps: Tensor, there: Tensor, places: Places, keys: Tensor, asking: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """(B, H) attention that cues get: of all positions; of an image's attribute, of the readout.

    `cross` is the attention of a pair's segments to the other one, its two parts by name.
    """
    for name, share in places.sets.items():
        mass = (maps @ share[:, None, :, None])[..., 0]
        queries = asking if name == "region" else keys
        value = measures.mean_rows(mass, queries[:, None] & there)
        yield name, torch.where(shown(share, keys)[:, None], value, torch.nan)
    if places.segment is None or not bool((places.segment == 1).any()):
        return
    to = [
        (maps @ (places.segment == number).double()[:, None, :, None])[..., 0] for number in (0, 1)
    ]
    second = (places.segment == 1)[:, None]
    here = places.content[:, None] & there
    both = (places.segment == 0).any(dim=1) & (places.segment == 1).any(dim=1)
    for name, value, queries in (
        ("cross", torch.where(second, to[0], to[1]), here),
        ("first_to_second", to[1], here & ~second),
        ("second_to_first", to[0], here & second),
    ):
        yield name, torch.where(both[:, None], measures.mean_rows(value, queries), torch.nan)


def seen_at(maps: Tensor, places: Places, level: str, specials: bool) -> tuple[Tensor, Tensor]:
    """Maps (L, B, U, U) between tokens or words, and which of the units (B, U) there are.

    At the level of words all special tokens of a row are one more unit, the last.
    """
    if level == "token" or places.word is None:
        return maps, places.keys[specials]
    unit = places.word
    if specials:
        unit = torch.where(places.real & ~places.content, places.words, unit)
    units = places.words + specials
    present = (unit[..., None] == torch.arange(units, device=unit.device)).any(dim=1)
    return measures.by_unit(maps, unit, units), present


def compare_layers(
    pair: Pair, first: tuple[Tensor, Places], second: tuple[Tensor, Places], some: Ints
) -> None:
    """Divergence of the head means at equal relative depth, row by row."""
    aligned = torch.from_numpy(pair.aligned)
    for specials in SPECIALS:
        ours, here = seen_at(first[0], first[1], pair.level, specials)
        theirs, there = seen_at(second[0], second[1], pair.level, specials)
        p, p_there = measures.restricted(ours[aligned], here & there)
        q, q_there = measures.restricted(theirs, here & there)
        rows = here & there & p_there & q_there
        value = measures.mean_rows(measures.divergence(p, q), rows)
        pair.layers[specials][some] = value.T.cpu().numpy()


def match_heads(
    pair: Pair, sides: Sequence[Side], rows: Ints, few: Ints, device: torch.device
) -> None:
    """Mean divergence of every head of one model from every head of the other."""
    total: dict[bool, list[NDArray[np.float64]]] = {specials: [] for specials in SPECIALS}
    for start in range(0, len(few), BATCH // 2):
        some = few[start : start + BATCH // 2]
        seen = [read(sides[number], rows, some, device) for number in (pair.first, pair.second)]
        # (L * H, B, T, T): heads of a layer side by side, layer after layer
        stacks = [torch.cat([layer.transpose(0, 1) for layer in layers]) for layers, _ in seen]
        for specials in SPECIALS:
            ours, here = seen_at(stacks[0], seen[0][1], pair.level, specials)
            theirs, there = seen_at(stacks[1], seen[1][1], pair.level, specials)
            total[specials].append(all_heads(ours, theirs, here & there))
    pair.heads = {
        specials: measures.mean_there(np.concatenate(parts, axis=2).T).T
        for specials, parts in total.items()
    }


def all_heads(ours: Tensor, theirs: Tensor, keys: Tensor) -> NDArray[np.float64]:
    """(A, B, n) divergence of heads (A, n, U, U) and (B, n, U, U), by row of the batch."""
    p, p_there = measures.restricted(ours, keys)
    q, q_there = measures.restricted(theirs, keys)
    p_entropy, q_entropy = measures.row_entropy(p), measures.row_entropy(q)  # of each head once
    out = np.empty((len(p), len(q), len(keys)))
    for number, (head, entropy, there) in enumerate(zip(q, q_entropy, q_there, strict=True)):
        apart = measures.divergence(p, head, (p_entropy, entropy))
        out[:, number] = measures.mean_rows(apart, keys & p_there & there).cpu().numpy()
    return out


def unread(model: PreTrainedModel) -> str:
    """Why an architecture's attention is not read; "" where it is."""
    if Shape.of(model.config).heads:
        return ""
    kind = model.config.model_type
    if getattr(model.config, "num_attention_heads", None):  # a list: one entry a stage
        return f"the layers of a {kind} differ in heads and windows: its attention is not read"
    return f"a {kind} has no attention"

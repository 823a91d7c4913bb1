"""Shared by every source of the task: names, purposes, released counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import count_variants
from harness_plugin_tasks._shared.images.splits import Cells, Images, cell_split

CELLS = Cells(("landbird", "waterbird"), ("land", "water"), "place")

PURPOSES: dict[str, Purpose] = {"train": "train", "validation": "validation", "test": "ood"}
"""In the order of the release's split numbers. In its test set each kind of bird stands on both
backgrounds equally often, so it is no in-domain set."""

RELEASED = {
    "train": (3_498, 184, 56, 1_057),
    "validation": (467, 466, 133, 133),
    "test": (2_255, 2_255, 642, 642),
}
"""Images by cell, in the order of `CELLS.groups` (Sagawa et al. 2020)."""


@dataclass(frozen=True)
class Birds:
    """The images of one split before they are named; `label` and `place` (N,) are 0 / 1."""

    images: Images
    ids: Sequence[str]
    label: Ints
    place: Ints


def released_data(request: DataRequest, parts: Mapping[str, Birds], where: str) -> TaskData:
    """The released splits, with a note for every count that is not the release's.

    Raises HarnessError when a copy lacks one of the three splits; where nothing is trained, `test`
    is enough.
    """
    needed = PURPOSES if request.trains else ("test",)
    if missing := [name for name in needed if name not in parts]:
        raise HarnessError(
            f"{where}: no {' and no '.join(missing)} images (found {', '.join(parts) or 'none'})."
        )
    splits = {
        name: cell_split(
            name,
            purpose,
            CELLS,
            parts[name].images,
            label=parts[name].label,
            value=parts[name].place,
            ids=parts[name].ids,
        )
        for name, purpose in PURPOSES.items()
        if name in parts
    }
    return TaskData("waterbirds", request.source, splits, tuple(variants(splits)))


def variants(splits: Mapping[str, Split]) -> Iterator[str]:
    """A note for every one of the 12 cells whose count is not the release's."""
    for name, split in splits.items():
        yield from count_variants(name, split.group_counts, RELEASED[name], CELLS.groups)

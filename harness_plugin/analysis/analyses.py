"""Which analyses there are, and what each is handed and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import RenderableType

from harness_plugin.analysis import similarity, similarity_record
from harness_plugin.analysis.similarity import CKAOptions
from harness_plugin.analysis.subjects import FinishedTask, Subject
from harness_plugin.data import Split
from harness_plugin.encode import Encoded
from harness_plugin.records import Ints


@dataclass(frozen=True)
class Scene:
    """The models of one task, the rows they are asked, and how.

    `encoded` are all rows of `split` as each of `subjects` reads them; `rows` are equally many of
    each group, in random order.
    """

    task: FinishedTask
    split: Split
    subjects: Sequence[Subject]
    encoded: Sequence[Encoded]
    rows: Mapping[str, Ints]
    cka: CKAOptions

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        device: torch.device = self.task.shop.accelerator.device
        return device


@dataclass(frozen=True)
class Finding:
    """What one analysis found: its part of the JSON, its table, and what a reader sees."""

    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    shown: Sequence[RenderableType] = field(default_factory=tuple)


def cka(scene: Scene) -> Finding:
    """Similarity of all layers of all models."""
    found = similarity.compare_models(
        scene.subjects,
        scene.encoded,
        scene.rows,
        scene.cka,
        device=scene.device,
        quiet=scene.task.shop.quiet,
    )
    return Finding(
        similarity_record.as_record(found, scene.cka),
        list(similarity_record.as_rows(found)),
        list(similarity_record.as_tables(found)),
    )


ANALYSES: dict[str, Callable[[Scene], Finding]] = {"cka": cka}
"""In the order in which they are made and shown."""

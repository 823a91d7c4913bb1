"""Inputs and result of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import RenderableType

from harness_plugin.analysis.loaded_models import FinishedTask, LoadedModel
from harness_plugin.data.dataset import Split
from harness_plugin.records import Ints
from harness_plugin.training.inputs.encode import Encoded


@dataclass(frozen=True)
class AnalysisInput:
    """The models of one task, the rows they are asked, and how.

    `encoded` are all rows of `split` as each of `models` reads them; `rows` are equally many of
    each group, in random order.
    """

    task: FinishedTask
    split: Split
    models: Sequence[LoadedModel]
    encoded: Sequence[Encoded]
    rows: Mapping[str, Ints]

    @property
    def device(self) -> torch.device:
        """Device of the models."""
        device: torch.device = self.task.ctx.accelerator.device
        return device


@dataclass(frozen=True)
class AnalysisResult:
    """Result of one analysis: its part of the JSON, its table, and sentences for a reader."""

    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    shown: Sequence[RenderableType] = field(default_factory=tuple)

"""Finished trainings of a study: a record each in the store, written by whoever trained it.

Records are read without torch. One whose model is no longer in the store counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from harness_plugin.store.leases import owner_of, try_acquire
from harness_plugin.store.seals import DamagedError, read_sealed, write_sealed
from harness_plugin.store.stages import RECORD

LEASE = 60.0
"""Seconds without a sign of life after which a training's owner is taken for dead."""


@dataclass(frozen=True)
class TrainingRecords:
    """The records of all studies that share a store."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.root / "studies"

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of a finished training whose model is still there."""
        content = self._read(f"{name}.json")
        if content is None:
            return None
        stage = content.get("stage")
        whole = stage is None or (self.root / f"model-{stage}" / RECORD).is_file()
        return content if whole else None

    def models_besides(self, records: Iterable[Mapping[str, Any]]) -> int:
        """How many finished models the store holds besides those of `records`."""
        recorded = {f"model-{record.get('stage')}" for record in records}
        stored = (path.parent.name for path in self.root.glob(f"model-*/{RECORD}"))
        return sum("." not in name and name not in recorded for name in stored)

    def finished(self, name: str, record: Mapping[str, Any]) -> None:
        """Write a training down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sealed(self.folder / f"{name}.json", {**record, "finished": time.time()})
        (self.folder / f"{name}.failed").unlink(missing_ok=True)

    def failed(self, name: str, tries: int, error: str, trace: str) -> None:
        """Write down that a training was given up, until it succeeds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"tries": tries, "error": error, "trace": trace, "finished": time.time()}
        write_sealed(self.folder / f"{name}.failed", record)

    def failure(self, name: str) -> dict[str, Any] | None:
        """How a training failed the last time, unless it has succeeded since."""
        return self._read(f"{name}.failed")

    def _read(self, name: str) -> dict[str, Any] | None:
        """A record; one that is not what was written counts for nothing."""
        try:
            return read_sealed(self.folder / name)
        except DamagedError:
            return None

    def lease(self, name: str) -> SoftFileLease | None:
        """The right to train it, or None while a living owner has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return try_acquire(self.folder / f"{name}.lock", LEASE)

    def owner(self, name: str) -> str:
        """Who is training it ("host, process 17"), "" when nobody is, or its owner is dead."""
        return owner_of(self.folder / f"{name}.lock", LEASE)

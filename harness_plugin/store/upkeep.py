"""Upkeep of a store: its entries with size, age and damage, and which of them may go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.store.leases import owner_of
from harness_plugin.store.seals import DamagedError, check_seal
from harness_plugin.store.stages import BROKEN, LEASE, LOCK, PARTIAL, RECORD, remove


@dataclass(frozen=True)
class Entry:
    """One stage, or what is left of one.

    `state` is "finished", "unfinished" (a build that was interrupted, or goes on: `owner`) or
    "broken" (set aside). `used` is when any of its files was last written or read, in seconds.
    """

    path: Path
    state: str
    bytes: int
    used: float
    owner: str = ""

    @property
    def kind(self) -> str:
        """Of what kind the stage is: "model", "logits" …"""
        return self.path.name.partition("-")[0]


def entries(root: Path) -> Iterator[Entry]:
    """Everything in a store that is a stage or was to become one, by name."""
    states = {PARTIAL: "unfinished", BROKEN: "broken", "": "finished"}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.suffix not in states or "-" not in path.name or not path.is_dir():
            continue
        stats = [file.stat() for file in path.rglob("*") if file.is_file()] or [path.stat()]
        yield Entry(
            path,
            states[path.suffix],
            sum(stat.st_blocks * 512 for stat in stats),
            max(max(stat.st_mtime, stat.st_atime) for stat in stats),
            owner_of(path.with_suffix(LOCK), LEASE),
        )


def damage_of(entry: Entry) -> str:
    """Damage in the bytes of a finished stage, "" for none."""
    try:
        return "" if check_seal(entry.path, RECORD) else f"{RECORD} is missing"
    except DamagedError as error:
        return str(error)


def prunable(root: Path, older: float) -> Iterator[Entry]:
    """Entries that nobody is at and nobody has used for `older` seconds."""
    for entry in entries(root):
        if not entry.owner and time.time() - entry.used >= older:
            yield entry


def prune(entry: Entry) -> None:
    """Remove one entry; a stage that a run wants again is built again."""
    remove(entry.path)
    lock = entry.path.with_suffix(LOCK)
    if not owner_of(lock, LEASE):
        lock.unlink(missing_ok=True)

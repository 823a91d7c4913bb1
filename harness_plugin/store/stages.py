"""Content-addressed, atomic, resumable stages.

A stage is a folder `<kind>-<key>`: the key hashes everything its content depends on (resolved
settings, data fingerprint, keys of the stages it reads, source text of the code that builds it).
It is built in `<kind>-<key>.partial`, sealed (`seals`) and renamed when all of it is on the disk,
so that a folder without the suffix is always whole, after a power cut too. A killed build leaves
the partial folder, and the next build of the same key may continue from what lies in its `resume`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from harness_plugin.errors import HarnessError
from harness_plugin.store.files import disk_errors, rename
from harness_plugin.store.leases import acquired
from harness_plugin.store.seals import DamagedError, check_seal, read_sealed, seal

RECORD = "stage.json"
"""The seal of a stage."""
RESUME = "resume"
"""The subfolder of what an interrupted build continues from; a finished stage has none."""
PARTIAL, BROKEN, LOCK = ".partial", ".broken", ".lock"
"""Suffixes: a folder that is being built, one that is not what was written, who builds it."""

LEASE = 120.0
"""Seconds without a heartbeat after which the owner of a stage's lock is taken for dead."""


def default_root() -> Path:
    """Where stages are kept unless `--use_cache` says otherwise."""
    if folder := os.environ.get("HARNESS_PLUGIN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "harness_plugin"


def key_of(spec: Mapping[str, Any]) -> str:
    """Hash of a JSON-able mapping, whatever the order of its keys."""
    text = json.dumps(spec, sort_keys=True, default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    key: str
    path: Path
    record: Mapping[str, Any]
    reused: bool


@dataclass(frozen=True)
class Processes:
    """A store's view of the other processes of the same run."""

    is_main: bool = True
    barrier: Callable[[], None] = lambda: None
    from_main: Callable[[str], str] = lambda text: text


@dataclass(frozen=True)
class Store:
    """A folder of stages, shared by every run that names it.

    A stage is compared with its seal when a Store first reads it. One that is not what was written
    is set aside and built again.
    """

    root: Path
    processes: Processes = Processes()
    _sound: set[str] = field(default_factory=set, compare=False, repr=False)
    """Names of stages whose bytes have been compared."""

    def find(self, kind: str, spec: Mapping[str, Any]) -> Stage | None:
        """The finished stage of `spec`, if there is one whose bytes are those that were written."""
        key = key_of({"kind": kind, **spec})
        try:
            return self._read(key, self.root / f"{kind}-{key}", reused=True)
        except DamagedError:
            return None

    def run(
        self, kind: str, spec: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any] | None]
    ) -> Stage:
        """The stage of `spec`, built by `build(folder)` unless it is finished already.

        `build` is called on every process with the same folder; it returns what the record
        should hold besides `spec` (the main process's answer counts). What it wrote into
        `folder / RESUME` when it was interrupted it finds there again, all else is cleared. Two
        runs that want the same stage do not build it twice: the second waits for the first. A
        finished stage is read without a lock, so that a store may be read-only.

        Raises DiskError, naming the disk, when something cannot be written.
        """
        key = key_of({"kind": kind, **spec})
        final = self.root / f"{kind}-{key}"
        with disk_errors(final):
            # the main process looks, and all do what it has seen
            stage = self.find(kind, spec) if self.processes.is_main else None
            if self._is_finished(kind, key, stage):
                return stage or self._finished(key, final, reused=True)
            lock = self._lock(final) if self.processes.is_main else None
            try:
                if self.processes.is_main:
                    self._set_aside(final)
                    stage = self.find(kind, spec)  # another run may have finished it meanwhile
                if self._is_finished(kind, key, stage):
                    return stage or self._finished(key, final, reused=True)
                self._build(kind, key, spec, build, lock)
            finally:
                if lock is not None:
                    lock.release()
            return self._finished(key, final, reused=False)

    def _is_finished(self, kind: str, key: str, stage: Stage | None) -> bool:
        """Whether the main process has found the stage; all must want the same one."""
        theirs, _, state = self.processes.from_main(f"{key} {stage is not None}").partition(" ")
        if theirs != key:
            raise HarnessError(
                f"the processes of this run disagree on stage {kind}: {theirs} on the main "
                f"process, {key} here. Do they read the same files and settings?"
            )
        return state == str(True)

    def _build(
        self,
        kind: str,
        key: str,
        spec: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any] | None],
        lock: SoftFileLease | None,
    ) -> None:
        """Build a stage and give it its name; the main process holds the lock."""
        final = self.root / f"{kind}-{key}"
        partial = final.with_suffix(PARTIAL)
        if self.processes.is_main:
            clear(partial)
        self.processes.barrier()
        started = time.time()
        result = build(partial)
        self.processes.barrier()
        if self.processes.is_main:
            record = {"kind": kind, "key": key, "spec": spec, **(result or {})}
            record |= {"started": started, "seconds": time.time() - started}
            if lock is not None and lock.compromise is not None:
                raise HarnessError(
                    f"stage {final.name}: the lock was lost while it was built "
                    f"({lock.compromise.reason}): this process gave no sign of life for "
                    f"{LEASE:.0f} s, and another may have built it. Run it again."
                )
            finish(partial, final, record)
            self._sound.add(final.name)
        self.processes.barrier()

    def _finished(self, key: str, final: Path, *, reused: bool) -> Stage:
        """A stage that is known to be there: its bytes were compared by the main process."""
        self._sound.add(final.name)
        try:
            stage = self._read(key, final, reused=reused)
        except DamagedError:
            stage = None
        if stage is None:
            raise HarnessError(f"stage {final} vanished while it was used; is the disk shared?")
        return stage

    def _read(self, key: str, final: Path, *, reused: bool) -> Stage | None:
        """A finished stage; the first time its bytes are compared. Raises DamagedError."""
        if final.name in self._sound:
            record = read_sealed(final / RECORD)
        else:
            record = check_seal(final, RECORD)
        if record is None:
            return None
        self._sound.add(final.name)
        return Stage(key, final, record, reused)

    def _set_aside(self, final: Path) -> None:
        """Move a stage that is not what was written out of the way, and say so."""
        try:
            whole = check_seal(final, RECORD) is not None
            damage = f"{RECORD} is missing"
        except DamagedError as error:
            whole, damage = False, str(error)
        if whole or not final.exists():
            return
        aside = final.with_suffix(BROKEN)
        remove(aside)
        rename(final, aside)
        print(f"stage {final.name}: {damage}; set aside as {aside}, built again.", flush=True)

    def _lock(self, final: Path) -> SoftFileLease:
        """Hold the lock of one stage.

        It names its owner and shows a heartbeat, also on network file systems; the lock of a dead
        owner is taken over: at once on the same host, after `LEASE` seconds elsewhere.
        """
        self.root.mkdir(parents=True, exist_ok=True)

        def waiting(owner: str) -> None:
            who = f" ({owner})" if owner else ""
            print(f"waiting for another run{who} that builds {final.name} …", flush=True)

        return acquired(final.with_suffix(LOCK), LEASE, waiting)


def clear(partial: Path) -> None:
    """Make the folder of a build, without what an interrupted one left but for RESUME."""
    if partial.is_symlink() or not partial.is_dir():
        remove(partial)
    partial.mkdir(parents=True, exist_ok=True)
    for path in partial.iterdir():
        if path.name != RESUME:
            remove(path)


def finish(partial: Path, final: Path, record: Mapping[str, Any]) -> None:
    """Seal the folder and make it visible under its final name; a power cut loses it no more."""
    seal(partial, RECORD, record, apart=RESUME)
    rename(partial, final)
    remove(final / RESUME)  # last: until here an interrupted build continues from it


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

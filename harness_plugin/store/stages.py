"""Content-addressed, atomic, resumable stages.

A stage is a folder `<kind>-<key>`: the key hashes everything its content depends on (resolved
settings, data fingerprint, keys of the stages it reads, source text of the code that builds it).
It is built in `<kind>-<key>.partial` and renamed when complete, so that a folder without the
suffix is always whole. A killed build leaves the partial folder, and the next build of the same
key finds it and may continue from what lies inside.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from harness_plugin.errors import HarnessError
from harness_plugin.files import write_json
from harness_plugin.store.leases import acquired

RECORD = "stage.json"

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
    """What a store needs to know of the other processes of the same run."""

    is_main: bool = True
    barrier: Callable[[], None] = lambda: None
    from_main: Callable[[str], str] = lambda text: text


@dataclass(frozen=True)
class Store:
    """A folder of stages, shared by every run that names it."""

    root: Path
    processes: Processes = Processes()

    def find(self, kind: str, spec: Mapping[str, Any]) -> Stage | None:
        """The finished stage of `spec`, if there is one."""
        key = key_of({"kind": kind, **spec})
        path = self.root / f"{kind}-{key}"
        if not (path / RECORD).is_file():
            return None
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        return Stage(key, path, record, reused=True)

    def run(
        self, kind: str, spec: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any] | None]
    ) -> Stage:
        """The stage of `spec`, built by `build(folder)` unless it is finished already.

        `build` is called on every process with the same folder; it returns what the record
        should hold besides `spec` (the main process's answer counts). Two runs that want the
        same stage do not build it twice: the second waits for the first.
        """
        key = key_of({"kind": kind, **spec})
        final = self.root / f"{kind}-{key}"
        partial = final.with_suffix(".partial")
        lock = self._lock(final) if self.processes.is_main else None
        try:
            # the main process holds the lock from here on: all see the same state of the store
            if (theirs := self.processes.from_main(key)) != key:
                raise HarnessError(
                    f"the processes of this run disagree on stage {kind}: {theirs} on the main "
                    f"process, {key} here. Do they read the same files and settings?"
                )
            if found := self.find(kind, spec):
                return found
            if self.processes.is_main:
                partial.mkdir(parents=True, exist_ok=True)
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
            self.processes.barrier()
        finally:
            if lock is not None:
                lock.release()
        found = self.find(kind, spec)
        if found is None:
            raise HarnessError(f"stage {final} vanished while it was built; is the disk shared?")
        return Stage(found.key, found.path, found.record, reused=False)

    def _lock(self, final: Path) -> SoftFileLease:
        """Hold the lock of one stage.

        It names its owner and shows a heartbeat, also on network file systems; the lock of a dead
        owner is taken over: at once on the same host, after `LEASE` seconds elsewhere.
        """
        self.root.mkdir(parents=True, exist_ok=True)

        def waiting(owner: str) -> None:
            who = f" ({owner})" if owner else ""
            print(f"waiting for another run{who} that builds {final.name} …", flush=True)

        return acquired(final.with_suffix(".lock"), LEASE, waiting)


def finish(partial: Path, final: Path, record: Mapping[str, Any]) -> None:
    """Write the record, then make the folder visible under its final name."""
    write_json(partial / RECORD, record)
    if final.exists():  # an incomplete folder that someone renamed by hand
        shutil.rmtree(final)
    os.replace(partial, final)

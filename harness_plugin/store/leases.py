"""Locks that name their owner and show a heartbeat, so that those of the dead are taken over."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import SoftFileLease, Timeout

GRACE = 5.0
"""Seconds within which whoever has made a lock file has written its name into it."""


def lease_on(path: Path, duration: float) -> SoftFileLease:
    """The lease on a lock file; not acquired yet.

    A dead owner on this host is followed at once, one elsewhere after `duration` seconds without a
    heartbeat. All who want it must name the same `duration`.
    """
    return SoftFileLease(str(path), lease_duration=duration)


def acquired(
    path: Path, duration: float, waiting: Callable[[str], None] = lambda owner: None
) -> SoftFileLease:
    """The lease on a lock file, ours; `waiting` is called once with its owner ("" = unknown)."""
    lease, reported = lease_on(path, duration), False
    while True:
        remove_recordless(path)
        try:
            lease.acquire(timeout=GRACE if reported else 0.5)
            return lease
        except Timeout:
            if not reported:
                waiting(owner_of(path, duration))
            reported = True


def try_acquire(path: Path, duration: float) -> SoftFileLease | None:
    """The lease on a lock file, or None when somebody else has it."""
    remove_recordless(path)
    lease = lease_on(path, duration)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return None
    return lease


def owner_of(path: Path, duration: float) -> str:
    """Who has it ("host, process 17"); "" when nobody does, nobody known, or a dead owner."""
    try:
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return ""
    owner = lease_on(path, duration).owner
    if owner is None:
        return ""
    here = owner.hostname == socket.gethostname()
    if not psutil.pid_exists(owner.pid) if here else silent > duration:
        return ""
    return f"{owner.hostname}, process {owner.pid}"


def remove_recordless(path: Path) -> None:
    """Remove a lock file that has stayed empty: its maker died before writing its name.

    filelock never breaks such a file, since old versions of it wrote no names.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if status.st_size:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    aside.touch()  # for the file system's own clock
    if aside.stat().st_mtime - status.st_mtime > GRACE:
        with suppress(FileNotFoundError):  # somebody else was quicker
            os.replace(path, aside)
            if aside.stat().st_ino != status.st_ino:  # and has made a new one since
                with suppress(FileExistsError):
                    os.link(aside, path)
    aside.unlink(missing_ok=True)

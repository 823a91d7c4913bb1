"""Checkpoints of a training: whole on the disk before the last one goes, checked when resumed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from harness_plugin.errors import HarnessError
from harness_plugin.store.files import disk_error, rename, sync
from harness_plugin.store.seals import DamagedError, check_seal, read_sealed, seal

CHECKPOINT, UNFINISHED, PROGRESS = "checkpoint-", "unfinished", "progress.json"
"""A checkpoint's folder without its update, one that is being written, and its seal."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most updates."""
    updates = {path: path.name[len(CHECKPOINT) :] for path in folder.glob(f"{CHECKPOINT}*")}
    folders = [path for path, number in updates.items() if number.isdigit()]
    return max(folders, key=lambda path: int(updates[path]), default=None)


def checkpoint(accelerator: Accelerator, folder: Path, progress: Mapping[str, Any]) -> bool:
    """Save model and optimiser, on the disk before the last checkpoint is removed.

    A checkpoint that cannot be written is no reason to end a training that can go on: it is said
    why, and the last one stays. Returns whether it was written, the same on every process.
    """
    temporary = folder / UNFINISHED
    accelerator.wait_for_everyone()
    problem: Exception | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        accelerator.save_state(str(temporary))
    except (OSError, RuntimeError, SafetensorError) as error:
        problem = error
    written = everywhere(accelerator, problem is None)
    if written and accelerator.is_main_process:
        try:
            old = list(folder.glob(f"{CHECKPOINT}*"))
            seal(temporary, PROGRESS, progress)
            rename(temporary, folder / f"{CHECKPOINT}{progress['update']}")
            for path in (folder, folder.parent):  # their names may be new as well
                sync(path.parent)
            for path in old:
                shutil.rmtree(path)
        except OSError as error:
            problem = error
    if problem is not None:
        why = disk_error(temporary, problem) or problem
        print(f"no checkpoint after update {progress['update']}: {why}", flush=True)
    written = everywhere(accelerator, written and problem is None)
    if not written and accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
    return written


def everywhere(accelerator: Accelerator, good: bool) -> bool:
    """Whether something holds on every process; all of them wait for each other."""
    mine = torch.tensor([good], dtype=torch.int64, device=accelerator.device)
    return bool(accelerator.gather(mine).min())


def resume(accelerator: Accelerator, folder: Path, schedule: Any) -> dict[str, Any]:
    """Continue the newest checkpoint in `folder`; its progress, or that of a fresh start.

    A checkpoint that is not what was written is named and removed.
    """
    if accelerator.is_main_process:
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        while (path := newest_checkpoint(folder)) is not None and (why := damage(path)):
            print(f"checkpoint {path}: {why}; removed.", flush=True)
            shutil.rmtree(path)
    accelerator.wait_for_everyone()
    path = newest_checkpoint(folder)
    if path is None:
        return {"update": 0, "curve": [], "seconds": 0.0, "selection": []}
    progress = read_sealed(path / PROGRESS)
    if progress is None:
        raise HarnessError(f"checkpoint {path} vanished while it was read; is the disk shared?")
    schedule.load_state_dict(
        schedule.state_dict()
        | {"last_epoch": progress["update"], "_step_count": progress["update"] + 1}
    )
    accelerator.load_state(str(path))
    return progress


def damage(path: Path) -> str:
    """Damage in the bytes of a checkpoint, "" for none."""
    try:
        return "" if check_seal(path, PROGRESS) else f"{PROGRESS} is missing"
    except DamagedError as error:
        return str(error)

"""Output files: the folder is checked before training, files are written whole."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import yaml

from harness_plugin.errors import DiskError, HarnessError
from harness_plugin.store.files import (
    disk_error,
    portable,
    rename,
    strict,
    sync_all,
    synced_together,
    timestamp,
    write_text,
)

if TYPE_CHECKING:
    from harness_plugin.config.run_config import RunConfig
    from harness_plugin.plugins.registry import Offer, Plugins
    from harness_plugin.records import RunReport

NAMED = 3
"""Tasks that the name of a run's folder names; of more it says how many."""


def check_writable(folder: Path) -> None:
    """Try to write in `folder`, or in the folder it would be made in; nothing is left there.

    Raises HarnessError when that fails, and for the name of a file.
    """
    if folder.suffix == ".json" or folder.is_file():
        raise HarnessError(f"--output_path {folder}: expected a folder, this names a file.")
    parent = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    probe = parent / f".write-test-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
        clean(folder)
    except OSError as error:
        raise HarnessError(
            f"--output_path {folder}: cannot be written: {error.strerror}."
        ) from None


def chosen_outputs(config: RunConfig, plugins: Plugins) -> list[Offer]:
    """The writers that a run calls: those of every run, or those that its `outputs` names.

    "all" names every installed one. Raises HarnessError with near matches for a name that does
    not exist.
    """
    if config.outputs is None:
        return [offer for offer in plugins["output"] if not offer.by_name_only]
    if config.outputs == ("all",):
        return list(plugins["output"])
    return [plugins["output"].offer(name) for name in dict.fromkeys(config.outputs)]


def in_own_folder(config: RunConfig, started: float) -> RunConfig:
    """The configuration with the folder that this run writes to: `output_path` filled in.

    `{tasks}` stands for the names of the tasks, `{time}` for `started` (seconds) in UTC.
    """
    names = [Path(name).stem for name in config.tasks]
    tasks = "+".join(names[:NAMED]) + (f"+{len(names) - NAMED}" if len(names) > NAMED else "")
    path = config.output_path.replace("{tasks}", tasks).replace("{time}", timestamp(started))
    return config.model_copy(update={"output_path": path})


def write_outputs(report: RunReport, config: RunConfig, plugins: Plugins) -> tuple[Path, ...]:
    """Call every chosen output; the files it names are what a run leaves behind.

    They are written beside each other, out of sight, and take their places when all of them are on
    the disk: a run that is killed meanwhile leaves none, or the next one puts them all in place.

    Raises DiskError naming the output that could not be written: without results a run has failed.
    """
    folder = Path(config.output_path)
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    stamp = timestamp(report.started)
    hidden = folder / f"{WRITING}{socket.gethostname()}@{os.getpid()}@{stamp}"
    name = "config"
    try:
        hidden.mkdir()
        with synced_together(hidden):
            resolved = hidden / f"config_{stamp}.yaml"
            content = portable(strict(report.config), folder)
            write_text(resolved, yaml.safe_dump(content, sort_keys=False))
            files = [resolved]
            for offer in chosen_outputs(config, plugins):
                name = offer.name
                files.extend(offer.function()(report, hidden))
        written = hidden.with_name(hidden.name.replace(WRITING, WRITTEN, 1))
        rename(hidden, written)
    except BaseException as error:
        shutil.rmtree(hidden, ignore_errors=True)
        if (named := disk_error(folder, error)) is not None:
            raise DiskError(f"output {name!r} could not be written: {named}") from error
        raise
    put_in_place(written)
    return tuple(
        folder / file.relative_to(hidden) if file.is_relative_to(hidden) else file for file in files
    )


WRITING, WRITTEN = ".writing-", ".written-"
"""Prefixes of result folders that are not in place yet; host, process and time follow."""


def put_in_place(written: Path) -> None:
    """Move a whole set of results to where it belongs; the record of the run comes last."""
    files = [path for path in written.rglob("*") if path.is_file()]
    records = {path for path in files if path.name.startswith("transfer_")}
    for part in (set(files) - records, records):
        targets = {file: written.parent / file.relative_to(written) for file in part}
        for file, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        sync_all({target.parent for target in targets.values()})
    shutil.rmtree(written)


def clean(folder: Path) -> None:
    """Finish what killed runs have written to the end, remove what they have not."""
    for path in folder.glob(".wri*@*@*") if folder.is_dir() else ():
        owner, process, _ = path.name.split("@", 2)
        here = owner.partition("-")[2] == socket.gethostname()
        if not here or not process.isdigit() or psutil.pid_exists(int(process)):
            continue  # it may be at it
        if path.name.startswith(WRITTEN):
            put_in_place(path)
        else:
            shutil.rmtree(path, ignore_errors=True)

"""Where results go: the folder is checked before training, files are written whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness_plugin.errors import HarnessError
from harness_plugin.files import strict, timestamp, write_text

if TYPE_CHECKING:
    from harness_plugin.config.settings import RunConfig
    from harness_plugin.plugins.registry import Offer, Plugins
    from harness_plugin.records import RunReport


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
    except OSError as error:
        raise HarnessError(
            f"--output_path {folder}: cannot be written: {error.strerror}."
        ) from None


def chosen_outputs(config: RunConfig, plugins: Plugins) -> list[Offer]:
    """The writers that a run calls: all of them, or those that its setting `outputs` names.

    Raises HarnessError with near matches for a name that does not exist.
    """
    if config.outputs is None:
        return list(plugins["output"])
    return [plugins["output"].offer(name) for name in dict.fromkeys(config.outputs)]


def write_outputs(report: RunReport, config: RunConfig, plugins: Plugins) -> tuple[Path, ...]:
    """Call every chosen output; the files it names are what a run leaves behind.

    Raises OSError naming the output that could not be written: without results a run has failed.
    """
    folder = Path(config.output_path)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = folder / f"config_{timestamp(report.started)}.yaml"
    write_text(resolved, yaml.safe_dump(strict(report.config), sort_keys=False))
    files = [resolved]
    for offer in chosen_outputs(config, plugins):
        try:
            files.extend(offer.function()(report, folder))
        except OSError as error:
            raise OSError(
                f"output {offer.name!r} could not be written to {folder}: {error}. What was "
                f"trained is kept: the same command writes the results again."
            ) from error
    return tuple(files)
